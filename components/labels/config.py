"""Settings of the labels: horizons, target and the price at which a signal is entered."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.settings import Section

Target = Literal["log_return", "direction", "sector_neutral_return"]


class Settings(Section):
    """Every horizon and every label column is built; `primary_horizon` and `target` say which of them experts learn first."""

    horizons: tuple[Annotated[int, Field(ge=1, le=2_000)], ...] = Field((1, 5, 10), min_length=1, description="label horizons in bars, counted from the entry")
    primary_horizon: int = Field(5, ge=1, description="the horizon in bars that backtest and gates judge; one of `horizons`")
    target: Target = Field("sector_neutral_return", description="the label column that experts learn")
    entry: Literal["next_open", "next_close"] = Field("next_open", description="price of the bar after the signal at which a position is entered, and left `horizon` bars later")
    direction_threshold_bps: float = Field(0.0, ge=0, description="moves of at most this many basis points (log return) have direction 0")

    @model_validator(mode="after")
    def _horizons_fit(self):
        if len(set(self.horizons)) != len(self.horizons):
            raise ValueError(f"horizons={list(self.horizons)} names one twice; name each once")
        if self.primary_horizon not in self.horizons:
            raise ValueError(f"primary_horizon={self.primary_horizon} is not one of horizons={list(self.horizons)}; add it there or choose one of them")
        return self
