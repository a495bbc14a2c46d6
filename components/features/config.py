"""Settings of the features stage."""

from typing import Literal

from pydantic import Field, field_validator

from components.contracts import REGIME_COLUMN, VOLATILITY_COLUMN
from components.features.library import FACTORS, did_you_mean
from components.settings import Section


class Groups(Section):
    """Which factor groups are built. Regime and volatility keep their context columns even when switched off."""

    trend: bool = True
    mean_reversion: bool = True
    volatility: bool = True
    volume_liquidity: bool = True
    microstructure: bool = True
    style: bool = True
    calendar: bool = True
    regime: bool = True
    bars: bool = True


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
            if name in (REGIME_COLUMN, VOLATILITY_COLUMN):
                raise ValueError(f"{name!r} can't be left out, because bands and regime tables are built from it; take it off the list")
        return names


class Settings(Section):
    """Which factors are built and how the models' inputs are normalised."""

    normalisation: Literal["auto", "rank", "zscore", "minmax", "robust"] = Field(
        "auto", description="auto: what each factor declares (mostly the cross-sectional rank); else this one for all factors that differ between symbols"
    )
    window_bars: int = Field(48, ge=5, description="length of the trailing window of zscore, minmax and robust")
    groups: Groups = Groups()
    factors: Selection = Selection()
