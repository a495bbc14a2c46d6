"""Settings of the tick lane's events: where they come from, which are wanted, what counts as a fault, and how
the clock is kept.
"""

from typing import Literal

from pydantic import Field

from components.reading.config import SourcePath
from components.settings import Section
from components.ticks.sources.simulator_config import SimulatorSettings


class InstrumentSettings(Section):
    """What a tick and a lot of one symbol are."""

    tick_size: float | None = Field(
        None, gt=0, description="smallest step of the price, in the quote currency; none: found in the data"
    )
    lot_size: float | None = Field(
        None, gt=0, description="smallest step of the quantity; none: found in the data"
    )


class LobsterSettings(Section):
    """LOBSTER's messages and order books."""

    path: SourcePath = Field(
        "lobster_amzn_2012-06-21_l1.parquet",
        description=(
            "Parquet file of messages with the touch after each, or LOBSTER's own CSV file of messages, whose"
            " order book lies beside it, or its address in S3 (s3://bucket/key); relative paths lie in the"
            " folder that ALPHALOOP_DATA names"
        ),
    )
    timezone: str = Field(
        "America/New_York", description="zone whose midnight LOBSTER's own CSV files count their seconds from"
    )


class DepthMessagesSettings(Section):
    """Messages of an exchange's streams of depth, best bid and ask, and trades, as a collector wrote them."""

    events: SourcePath = Field(
        "lob_events.parquet",
        description="Parquet file with one row a message, or its address in S3 (s3://bucket/key); relative"
        " paths lie in the folder of ALPHALOOP_DATA",
    )
    levels: SourcePath = Field(
        "lob_levels.parquet",
        description="Parquet file with the price levels of depth messages and snapshots, or its address",
    )


class RecordedSettings(Section):
    """What `alphaloop ticks collect` recorded."""

    folder: str = Field(
        "recorded",
        min_length=1,
        description="folder of the recording; a relative one lies in that of ALPHALOOP_DATA",
    )


class Checks(Section):
    """What counts as a fault of events, and how much of it the run puts up with."""

    max_quarantine_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of a symbol-session's rows in quarantine above which the run stops",
    )
    max_crossed_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description=(
            "share of a symbol-session's book states with bid at or above ask beyond which the run stops, as"
            " a book has that was put together wrongly"
        ),
    )
    silence_ms: float = Field(
        5_000.0, gt=0, description="milliseconds without any event from which on a silence is told"
    )
    max_offset_ms: float = Field(
        10_000.0,
        gt=0,
        description="milliseconds by which the collector's clock may be off; beyond, the run stops",
    )
    max_drift_ms_a_minute: float = Field(
        5.0, gt=0, description="milliseconds a minute that the collector's clock may drift before it is told"
    )
    max_price_jump: float = Field(
        0.2,
        gt=0,
        description=(
            "a quote or trade that lies further than this share from the median of the 511 before it is one"
            " that can't be"
        ),
    )
    after_broken_chain: Literal["drop", "keep"] = Field(
        "drop",
        description=(
            "what becomes of depth updates after one was lost, until the next snapshot. drop: the book is"
            " emptied there; keep: they are applied, with levels that may be out of date"
        ),
    )


class Clock(Section):
    """How the collector's clock is followed: moving averages of windowed minima and of their drift."""

    window_ms: float = Field(
        20_000.0,
        ge=1,
        le=86_400_000,
        description="milliseconds over which the least way of a message is taken",
    )
    half_life_ms: float = Field(
        60_000.0, gt=0, description="half-life in milliseconds of the moving averages of offset and drift"
    )
    floor_ms: float = Field(
        0.0,
        ge=0,
        le=60_000,
        description=(
            "milliseconds that the fastest message is taken to need: one-way stamps can't tell an offset of"
            " the clock from the least delay. Added to every delay"
        ),
    )


class Settings(Section):
    """Events of order books, from a simulator or from recordings."""

    source: Literal["simulator", "depth_messages", "lobster", "recorded"] = Field(
        "simulator", description="where events come from"
    )
    symbols: tuple[str, ...] | None = Field(None, description="symbols that are read; none: all")
    sessions: tuple[str, ...] | None = Field(
        None, description="sessions (days, or recordings) that are read; none: all"
    )
    instruments: dict[str, InstrumentSettings] = Field(
        {}, description="tick and lot size by symbol, where they are not to be found in the data"
    )
    simulator: SimulatorSettings = SimulatorSettings()
    lobster: LobsterSettings = LobsterSettings()
    depth_messages: DepthMessagesSettings = DepthMessagesSettings()
    recorded: RecordedSettings = RecordedSettings()
    checks: Checks = Checks()
    clock: Clock = Clock()
