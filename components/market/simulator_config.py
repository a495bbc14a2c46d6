"""Settings of the simulated market: its size, its planted signals, its rarely traded symbols, its faults, and
a change for good.
"""

from datetime import date
from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.settings import Section

Fault = Literal[
    "duplicates",
    "gaps",
    "stale_prices",
    "unadjusted_split",
    "bad_print",
    "currency_jump",
    "last_bar_not_final",
]
PLANTABLE = ("reversal_5", "volume_surprise_20", "momentum_60_20", "trend_agreement")


def _plantable(planted: dict[str, float]) -> dict[str, float]:
    unknown = sorted(set(planted) - set(PLANTABLE))
    if unknown:
        raise ValueError(f"signal {unknown[0]!r} can't be planted; choose from {', '.join(PLANTABLE)}")
    if not any(planted.values()):
        raise ValueError("all weights are zero; for a market without alpha set market.planted_ic to 0")
    return planted


class ChangeSettings(Section):
    """A change of the simulated market for good, such as a model in use has to notice.

    The bars before it stay as they are without it.
    """

    bar: int = Field(ge=1, description="number of the first changed bar, counted from 0")
    volatility: float = Field(
        1.0,
        gt=0,
        le=20,
        description=(
            "factor on all volatilities; the planted moves grow alike, so that the attainable IC stays about"
            " the same"
        ),
    )
    planted: dict[str, float] | None = Field(
        None, description="signals that carry the alpha from then on; none: as before"
    )

    @field_validator("planted")
    @classmethod
    def _known_signals(cls, planted):
        return None if planted is None else _plantable(planted)


class RareSettings(Section):
    """Symbols that trade on few bars. Which, and on which bars, is drawn; the bars without a trade are listed
    with the planted faults as `no_trade`.
    """

    share: float = Field(0.0, ge=0, le=1, description="share of symbols that trade rarely")
    traded_share: float = Field(
        0.5, gt=0, le=1, description="share of its bars on which a rarely traded symbol trades"
    )
    untraded: Literal["zeros", "nulls", "missing"] = Field(
        "zeros",
        description=(
            "what the source gives for a bar without a trade: the last close with open, high, low and volume"
            " 0; no price and volume 0; or no row"
        ),
    )


class SimulatorSettings(Section):
    """The simulated market. See `components.market.simulator` for the model."""

    symbols: int = Field(60, ge=6, le=20_000, description="number of symbols")
    bars: int = Field(750, ge=30, le=2_000_000, description="bars of the whole market")
    sectors: int = Field(6, ge=1, description="sectors that the symbols are spread over")
    start: date = Field(date(2021, 1, 4), description="day of the first bar")
    planted: dict[str, float] = Field(
        {"reversal_5": 0.5, "volume_surprise_20": 0.3, "momentum_60_20": 0.2},
        description="signals that carry the alpha, with their weights",
    )
    delisted_share: float = Field(
        0.05, ge=0, le=0.5, description="share of symbols that stop in the second half"
    )
    late_share: float = Field(
        0.1, ge=0, le=0.5, description="share of symbols that are listed within the first third"
    )
    rare: RareSettings = RareSettings()
    faults: list[Fault] = Field([], description="kinds of fault to plant")
    fault_symbols: int = Field(
        2, ge=1, description="symbols that get each kind of fault (last_bar_not_final concerns all)"
    )
    change: ChangeSettings | None = Field(
        None,
        description=(
            "a lasting change of the market, for trying drift and retraining; none: it stays the same"
        ),
    )

    @field_validator("planted")
    @classmethod
    def _known_signals(cls, planted):
        return _plantable(planted)

    @model_validator(mode="after")
    def _sectors_have_members(self):
        if self.change and self.change.bar >= self.bars:
            raise ValueError(
                f"change.bar={self.change.bar} lies beyond the last of bars={self.bars}; choose an"
                " earlier one"
            )
        if self.symbols < 2 * self.sectors:
            raise ValueError(
                f"symbols={self.symbols} is too few for sectors={self.sectors}: a sector needs two members or"
                " more"
            )
        return self
