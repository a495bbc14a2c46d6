"""Settings of the features stage."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from components.contracts import PANEL
from components.features.formulas import FormulaError, parse_formula
from components.features.library import CONTEXT, FACTORS, MEASURES, did_you_mean
from components.features.regime_config import Regimes
from components.settings import Section
from components.timeline.periods import PERIODS, Period

COLUMN_NAME = r"^[A-Za-z][A-Za-z0-9_]*$"
# Columns of a panel or of the factors table that a formula can't compute with.
NO_NUMBERS = (
    "timestamp",
    "symbol",
    "period",
    "event_time",
    "known_time",
    "sector",
    "industry",
    "exchange_ts",
    "ingest_ts",
)


class Groups(Section):
    """Which factor groups are built.

    Regime and volatility keep their context columns even when switched off.
    """

    trend: bool = Field(True, description="momentum and moving averages")
    mean_reversion: bool = Field(True, description="reversal and distance from the usual")
    volatility: bool = Field(True, description="ranges and deviations of returns")
    volume_liquidity: bool = Field(True, description="volume, turnover and price impact")
    microstructure: bool = Field(True, description="spread and impact estimated from bars")
    style: bool = Field(True, description="size, beta and other style proxies")
    calendar: bool = Field(True, description="weekday, month and their ends")
    regime: bool = Field(True, description="market state and its inputs")
    bars: bool = Field(True, description="returns and shapes of single bars")
    channels: bool = Field(
        True, description="Donchian, Keltner, Aroon, CCI, Williams %R, ultimate oscillator, lines on time"
    )
    ichimoku: bool = Field(False, description="averages of the range, and the cloud as it stands at the bar")
    tails: bool = Field(
        True, description="expected shortfall, quantile spreads, Hill's index, jumps, downside beta"
    )
    events: bool = Field(
        True,
        description=(
            "flags: first and last sessions of week, month and quarter, bursts of volume and range, gaps"
        ),
    )
    pivots: bool = Field(
        False,
        description=(
            "distances to the classic, Fibonacci and Camarilla levels of the bar before; mostly copies of"
            " each other"
        ),
    )
    candles: bool = Field(False, description="shares of body and shadows, and 30 candle patterns of TA-Lib")
    volume_profile: bool = Field(
        False,
        description=(
            "point of control, value area and volume nodes of 60 bars; compiles for a few seconds at"
            " first use"
        ),
    )
    reference: bool = Field(
        True,
        description=(
            "beta to features.reference_symbol and what follows from it; not built where that is unset or not"
            " in the panel"
        ),
    )
    derivatives: bool = Field(
        True, description="funding and open interest; not built where the panel has no such columns"
    )
    delay: bool = Field(
        False,
        description=(
            "seconds from a bar's end until it was known; only says something where they differ between bars"
        ),
    )
    formulas: bool = Field(
        False,
        description=(
            "22 of Kakushadze's 101 formulas, prices and volumes ranked against their own mean of 20 bars;"
            " further five stand in the groups above"
        ),
    )
    alpha158: bool = Field(
        False,
        description=(
            "the 158 factors of Qlib's Alpha158: more than doubles the inputs and the time of training"
        ),
    )


class Selection(Section):
    """Single factors to leave out."""

    exclude: tuple[str, ...] = Field((), description="names of factors that are not built")

    @field_validator("exclude")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = {factor.name for factor in FACTORS}
        for name in names:
            if name not in known:
                raise ValueError(f"no factor is called {name!r}; {did_you_mean(name)}")
            if name in CONTEXT:
                raise ValueError(
                    f"{name!r} can't be left out, because experts, bands and regime tables are built from it;"
                    " take it off the list"
                )
        return names


class SlowColumn(Section):
    """One column of the fused slow tables that becomes a factor, with its latest known value at each bar."""

    name: str = Field(pattern=COLUMN_NAME, description="name of the fused column, and of the factor")
    group: str = Field("slow", description="group of the factor in the catalog")
    normalisation: Literal["none", "rank", "zscore", "minmax", "robust"] = Field(
        "rank",
        description=(
            "how the models' input is made; what the whole market shares has no rank, so give zscore there"
        ),
    )
    modality: Literal["base", "rich"] = Field(
        "rich", description="experts of modality base see inputs of base only"
    )
    source: str = Field("", description="where the values come from, for the catalog")


class DeclaredFormula(Section):
    """One factor given as a formula over columns of the factors table, the panel or the fused tables."""

    name: str = Field(pattern=COLUMN_NAME, description="name of the factor")
    formula: str = Field(
        description="as features/formulas.py reads it, such as sub(momentum_20_rank, reversal_5_rank)"
    )
    group: str = Field("mined", description="group of the factor in the catalog")
    normalisation: Literal["none", "rank", "zscore", "minmax", "robust"] = Field(
        "rank", description="how the models' input is made"
    )
    source: str = Field("", description="who found it and where, for the catalog")

    @field_validator("formula")
    @classmethod
    def _can_be_read(cls, text: str) -> str:
        try:
            read = parse_formula(text).columns
        except FormulaError as error:
            raise ValueError(str(error).removesuffix(".")) from None
        for name in read:
            if name in NO_NUMBERS:
                raise ValueError(
                    f"{name!r} holds no number that says anything about a symbol; name factors, or numbers of"
                    " the panel such as close"
                )
        return text


class Settings(Section):
    """Which factors are built and how the models' inputs are normalised."""

    normalisation: Literal["auto", "rank", "zscore", "minmax", "robust"] = Field(
        "auto",
        description=(
            "auto: what each factor declares (mostly the cross-sectional rank); else this one for all factors"
            " that differ between symbols"
        ),
    )
    window_bars: int = Field(
        48, ge=5, description="length of the trailing window of zscore, minmax and robust"
    )
    reference_symbol: str | None = Field(
        None,
        description=(
            "the symbol that group reference measures betas against, such as BTCUSDT; unset: that group is"
            " not built"
        ),
    )
    groups: Groups = Groups()
    factors: Selection = Selection()
    regimes: Regimes = Regimes()
    slow: tuple[SlowColumn, ...] = Field(
        (), description="fused columns that become factors; the pipeline fills this from the fusion section"
    )
    formulas: tuple[DeclaredFormula, ...] = Field(
        (), description="factors given as formulas, evaluated after all others"
    )
    coarser: tuple[Period, ...] = Field(
        (),
        description=(
            "periods longer than market.period, such as 1d with bars of 1h: the inputs of their bars become"
            " further columns, named after the period (momentum_20_rank_1d), as they were known at each bar;"
            " the pipeline adds those of experts.leaves"
        ),
    )

    @field_validator("coarser")
    @classmethod
    def _each_once(cls, periods: tuple[Period, ...]) -> tuple[Period, ...]:
        return tuple(name for name in reversed(PERIODS) if name in periods)

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        taken = {*(measure.name for measure in MEASURES), *PANEL.columns, *PANEL.optional, "is_reference"}
        taken |= {column for factor in FACTORS for column in _columns_of(factor.name)}
        taken |= {later for column in taken for later in _of_periods(column)}
        for declared in (*self.slow, *self.formulas):
            clash = [column for column in _columns_of(declared.name) if column in taken]
            if clash:
                raise ValueError(
                    f"the name {clash[0]!r} is taken by another factor, measure, input or panel column; give"
                    f" {type(declared).__name__} {declared.name!r} another name"
                )
            own = _columns_of(declared.name)
            taken.update(own, *map(_of_periods, own))
        return self

    @model_validator(mode="after")
    def _formulas_stand_alone(self) -> Self:
        made = {
            column: declared.name
            for declared in self.formulas
            for column in (declared.name, f"{declared.name}_{declared.normalisation}")
        }
        for declared in self.formulas:
            for name in parse_formula(declared.formula).columns:
                if name in made:
                    raise ValueError(
                        f"formula {declared.name!r} reads {name!r}, which is made by the formula"
                        f" {made[name]!r}; all formulas are made at once, so write that one out"
                    )
        return self


def _columns_of(name: str) -> list[str]:
    """The columns that a factor may become in the factors table."""
    return [name, *(f"{name}_{method}" for method in ("rank", "zscore", "minmax", "robust"))]


def _of_periods(column: str) -> list[str]:
    """What the column is called where it is made from bars of a coarser period."""
    return [f"{column}_{period}" for period in PERIODS]
