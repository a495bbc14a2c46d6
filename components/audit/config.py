"""Settings of the leak audit: where and how closely it looks."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from components.settings import Section

Adjusted = Literal["auto", "yes", "no"]


def _said(value: Any) -> Any:
    """YAML reads yes and no as truth values."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


class Settings(Section):
    """Which cuts are made depends on these settings and the data alone, however fast the machine is."""

    replaced: ClassVar = {"budget_s": "audit.scan_cuts, a number of cuts"}

    cuts: int = Field(
        3,
        ge=1,
        description=(
            "seeded cuts spread over the panel, the last one near its end; as many as the panel has bars:"
            " every bar is a cut"
        ),
    )
    guided_cuts: int = Field(
        2,
        ge=0,
        description=(
            "further cuts at the bars where some factor resembles the next return most, to find leaks of a"
            " single date"
        ),
    )
    scan_cuts: int = Field(
        8,
        ge=0,
        description=(
            "further cuts: before large moves, on calm and wild days, by weekday and month, then evenly; they"
            " share windows where they lie close together"
        ),
    )
    staggered_builds: int = Field(
        1,
        ge=0,
        description=(
            "builds with another future for each symbol after a moment of its own; each looks at as many"
            " dates as there are symbols"
        ),
    )
    max_symbols: int = Field(
        40,
        ge=2,
        description=(
            "symbols in the window around a cut where the whole panel takes too long, spread over sectors,"
            " drawn anew for each cut"
        ),
    )
    lookback_bars: int | None = Field(
        None,
        ge=1,
        description=(
            "bars before a cut that are rebuilt; none: the longest warm-up of the catalog plus 64, all bars"
            " without a catalog"
        ),
    )
    future_bars: int = Field(64, ge=1, description="bars after a cut that are changed or cut off, in windows")
    whole_history: bool = Field(
        True,
        description=(
            "rebuild all symbols on the history up to the last cut and compare with the table that was handed"
            " over"
        ),
    )
    adjusted: Annotated[Adjusted, BeforeValidator(_said)] = Field(
        "auto",
        description=(
            "whether prices were adjusted backwards for splits or dividends. yes: a factor that moves with"
            " the level of prices is a leak; no: a remark; auto: yes where old closes left the grid of prices"
            " on which the newest lie, else a remark"
        ),
    )
    warm_up_starts: int = Field(
        2,
        ge=0,
        description=(
            "later starts of history from which the factors are rebuilt to measure their warm-up; 0: not"
            " measured"
        ),
    )
