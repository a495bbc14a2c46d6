"""Settings of the leak audit: where and how closely it looks."""

from pydantic import Field

from components.settings import Section
from components.timeline.entry import ENTRY_LAG_BARS


class Settings(Section):
    """The defaults audit 200 factors on 500 symbols x 2,650 bars within a minute on two cores."""

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
    budget_s: float = Field(
        45,
        ge=0,
        description=(
            "seconds that the audit of the factors may take before it stops adding cuts; the cuts above are"
            " made whatever they take"
        ),
    )
    scan_cuts: int = Field(
        8,
        ge=0,
        description=(
            "cuts that are added at most within the budget: by weekday, month, large moves, calm and wild"
            " days, then evenly"
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
    warm_up_starts: int = Field(
        2,
        ge=0,
        description=(
            "later starts of history from which the factors are rebuilt to measure their warm-up; 0: not"
            " measured"
        ),
    )
    warm_up_tolerance: float = Field(
        1e-5,
        gt=0,
        lt=0.1,
        description=(
            "share of the value, or of the column's median size, within which a factor that starts later"
            " counts as stable"
        ),
    )
    truncation_tolerance: float = Field(
        1e-7,
        ge=0,
        lt=1e-3,
        description=(
            "differences below this share of the value, or of the column's median size, are rounding: sums"
            " over fewer rows may be taken in other chunks"
        ),
    )
    mutation_tolerance: float = Field(
        1e-10,
        ge=0,
        lt=1e-3,
        description=(
            "the same where later values were changed; exact for Float32, and rounding in the last bits of"
            " Float64"
        ),
    )
    too_good_rank_correlation: float = Field(
        0.5,
        gt=0,
        le=1,
        description=(
            "mean rank correlation within bars between a factor and a label above which the factor must hold"
            " the future"
        ),
    )
    placebo_lags: tuple[int, ...] = Field(
        (1, 2, 3, 5, 10, 20), description="bars by which factors are delayed in the timing placebo"
    )
    placebo_drop: float = Field(
        0.15,
        gt=0,
        le=1,
        description=(
            "loss of |rank IC| from no delay to a delay of one bar above which only the future explains it"
        ),
    )
    placebo_t: float = Field(8.0, gt=0, description="Newey-West t value that this loss must have besides")
    entry_lag_bars: int = Field(
        ENTRY_LAG_BARS,
        ge=1,
        description="bars between a signal and its entry; a label may reach this plus its horizon",
    )
