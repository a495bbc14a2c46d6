"""Settings of the labels of ticks: horizons, the size and the fees of an order, when it arrives, and how much
there must be to learn from.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.settings import Section

Target = Literal["log_return", "vwap_return", "sector_neutral_return", "direction", "trade_class"]


class Settings(Section):
    """Every horizon and every label column is built; `primary_horizon_ms` and `target` say which of them
    experts learn.
    """

    sample_ms: int = Field(
        50,
        ge=1,
        description="milliseconds between two samples; horizons are counted in them",
    )
    horizons_ms: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (250, 1_000, 5_000, 30_000),
        min_length=1,
        description="label horizons in milliseconds, counted from the arrival of the order",
    )
    primary_horizon_ms: int = Field(
        1_000, ge=1, description="the horizon that experts learn and gates judge; one of `horizons_ms`"
    )
    target: Target = Field("trade_class", description="the label column that experts learn")
    order_value: float = Field(
        10_000.0, gt=0, description="what one order is worth in quote currency, for walking the book"
    )
    fee_bps: float = Field(2.0, ge=0, description="fees of one side, basis points of the traded value")
    margin_bps: float = Field(
        0.0,
        ge=0,
        description="basis points that a round trip must earn after all costs to be worth a trade",
    )
    entry_latency_ms: float | None = Field(
        None,
        ge=0,
        description=(
            "milliseconds from a sample to the moment at which an order that it causes arrives; none: the"
            " quantile `entry_latency_quantile` of the symbol's measured delays"
        ),
    )
    entry_latency_quantile: float = Field(
        0.95, gt=0, le=1, description="the quantile of delays after which an order is taken to arrive"
    )
    fewest_moves: int = Field(
        30,
        ge=0,
        description=(
            "moves of the primary horizon that pay after all costs, not overlapping within a symbol's"
            " session, below which the run stops: there is nothing to learn from fewer"
        ),
    )

    @property
    def horizons(self) -> tuple[int, ...]:
        """The horizons in samples, in rising order."""
        return tuple(sorted(horizon // self.sample_ms for horizon in self.horizons_ms))

    @property
    def primary_horizon(self) -> int:
        """The horizon that is learned, in samples."""
        return self.primary_horizon_ms // self.sample_ms

    @model_validator(mode="after")
    def _horizons_fit(self):
        if len(set(self.horizons_ms)) != len(self.horizons_ms):
            raise ValueError(f"horizons_ms={list(self.horizons_ms)} names one twice; name each once")
        if self.primary_horizon_ms not in self.horizons_ms:
            raise ValueError(
                f"primary_horizon_ms={self.primary_horizon_ms} is not one of horizons_ms="
                f"{list(self.horizons_ms)}; add it there or choose one of them"
            )
        broken = [horizon for horizon in self.horizons_ms if horizon % self.sample_ms]
        if broken:
            raise ValueError(
                f"horizons_ms names {broken[0]}, which is no multiple of sample_ms={self.sample_ms}; horizons"
                " are counted in samples"
            )
        return self
