"""Settings of the simulated order books: their size, their flow, the alpha planted in them, the collector's
clock, and faults by switch.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.settings import Section

# Nanoseconds since 1970 end in 2262.
FIRST_YEAR, LAST_YEAR = 1991, 2199
Fault = Literal["gaps", "crossed", "duplicates", "out_of_order", "numbering_reset", "halt"]
Regime = Literal["calm", "volatile", "trending"]


class AlphaSettings(Section):
    """What is planted, how strongly, and how well it can be seen."""

    planted: float = Field(
        0.4,
        ge=0,
        le=0.4,
        description=(
            "rank correlation that the best forecast of the mid reaches over one second in a calm market;"
            " 0: the null market, in which the mid is a martingale"
        ),
    )
    nonlinear_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description=(
            "share of the forecast's variance whose sign is that of a product: imbalance behind the touch"
            " times the aggressors' side. The rest shows in the imbalance at the touch"
        ),
    )
    linear_half_life_s: float = Field(
        1.5, gt=0, le=60, description="half-life in seconds of the part that shows at the touch"
    )
    nonlinear_half_life_s: float = Field(
        8.0, gt=0, le=60, description="half-life in seconds of each factor of the product"
    )
    trend: float = Field(
        0.1,
        ge=0,
        le=1,
        description=(
            "drift of a trending regime, as a share of the planted drift's standard deviation; nothing where"
            " nothing is planted"
        ),
    )
    noise: float = Field(
        0.3,
        ge=0,
        le=10,
        description="standard deviation of the noise in what shows the planted state, over that of the state",
    )


class CollectorSettings(Section):
    """The clock of who recorded the events, and the way that they took."""

    offset_ms: float = Field(
        -1_270.0, ge=-60_000, le=60_000, description="milliseconds that the clock is ahead at the start"
    )
    drift_ms_a_minute: float = Field(
        0.3, ge=-10, le=10, description="milliseconds a minute that the clock gains"
    )
    least_delay_ms: float = Field(1.0, ge=0, le=1_000, description="milliseconds of the fastest way")
    median_delay_ms: float = Field(
        2.5, ge=0, le=1_000, description="median of what a message takes beyond that, log-normal"
    )
    tail_share: float = Field(
        0.005, ge=0, le=0.2, description="share of events whose delay is drawn from a Pareto tail"
    )
    silences_an_hour: float = Field(
        6.0, ge=0, le=600, description="times an hour that nothing arrives for a while, and then all at once"
    )
    silence_s: float = Field(1.2, gt=0, le=60, description="mean length of such a silence in seconds")


class SimulatorSettings(Section):
    """Simulated order books. See `components.ticks.sources.simulator_flow` for the model."""

    symbols: int = Field(4, ge=1, le=100, description="number of symbols")
    sessions: int = Field(1, ge=1, le=366, description="sessions, one a day")
    session_minutes: float = Field(60.0, ge=0.5, le=1_440, description="minutes of a session")
    start: datetime = Field(
        datetime(2026, 1, 5, 14, tzinfo=UTC), description="start of the first session, UTC where no zone"
    )
    price_ticks: int = Field(
        20_000, ge=1_000, le=10**9, description="mid of the first symbol at the start, in ticks"
    )
    moves_per_s: float = Field(
        4.0, gt=0, le=100, description="moves of the mid a second, one tick each, in a calm market"
    )
    events_per_s: float = Field(
        24.0, gt=0, le=2_000, description="changes of the book a second in a calm market, moves among them"
    )
    clustering: float = Field(
        0.5,
        ge=0,
        le=0.9,
        description="events that one event brings about on the mean (branching ratio of a Hawkes process)",
    )
    regimes: tuple[Regime, ...] = Field(
        ("calm", "volatile", "trending"), min_length=1, description="states that the market goes through"
    )
    regime_minutes: float = Field(5.0, gt=0, le=1_440, description="mean length of a regime in minutes")
    alpha: AlphaSettings = AlphaSettings()
    collector: CollectorSettings = CollectorSettings()
    faults: tuple[Fault, ...] = Field((), description="kinds of fault to plant in each symbol's session")
    fault_count: int = Field(
        3, ge=1, le=50, description="times each kind is planted; a halt and a reset come once"
    )

    @field_validator("start")
    @classmethod
    def _in_utc(cls, start):
        if not FIRST_YEAR <= start.year < LAST_YEAR:
            raise ValueError(f"start={start:%Y-%m-%d}: choose a year from {FIRST_YEAR} to {LAST_YEAR - 1}")
        return start.astimezone(UTC) if start.tzinfo else start.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _can_be_done(self):
        if self.moves_per_s > 0.8 * self.events_per_s:
            raise ValueError(
                f"moves_per_s={self.moves_per_s:g} must be at most 0.8 of events_per_s={self.events_per_s:g}:"
                " the rest are orders that leave the mid where it is"
            )
        end = self.start + timedelta(minutes=self.session_minutes)
        if "numbering_reset" in self.faults and end.date() == self.start.date():
            raise ValueError(
                f"faults: numbering_reset needs a session over midnight, but {self.session_minutes:g} minutes"
                f" from {self.start:%H:%M} end at {end:%H:%M}; choose a later start"
            )
        return self
