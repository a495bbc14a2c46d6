"""What all figures of one evaluation are computed by."""

from dataclasses import dataclass

from components.backtest.config import Settings


@dataclass(frozen=True)
class Terms:
    """The settings, the horizon in bars, and how many bars a year has."""

    settings: Settings
    horizon: int
    bars_per_year: float
