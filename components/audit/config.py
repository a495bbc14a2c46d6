"""Settings of the leak audit: where and how closely it looks."""

from pydantic import Field

from components.settings import Section


class Settings(Section):
    """The defaults audit 130 factors on 500 symbols x 2,650 bars within a minute on two cores."""

    cuts: int = Field(3, ge=1, description="seeded cuts spread over the panel, the last one near its end; as many as the panel has bars: every bar is a cut")
    guided_cuts: int = Field(2, ge=0, description="further cuts at the bars where some factor resembles the next return most, to find leaks of a single date")
    max_symbols: int = Field(60, ge=2, description="symbols in the window around a cut, spread over sectors, drawn anew for each cut")
    lookback_bars: int | None = Field(
        None, ge=1, description="bars before a cut that are rebuilt; none: twice the longest warm-up of the catalog plus 64, all bars without a catalog"
    )
    future_bars: int = Field(128, ge=1, description="bars after a cut that are changed or cut off")
    whole_history: bool = Field(True, description="rebuild all symbols on the history up to the last cut and compare with the table that was handed over")
    truncation_tolerance: float = Field(
        1e-6,
        ge=0,
        lt=1e-3,
        description="differences below this share of the value, or of the column's median size, are rounding: sums over fewer rows may be taken in other chunks",
    )
    mutation_tolerance: float = Field(1e-9, ge=0, lt=1e-3, description="the same where later values were changed; exact for Float32, and rounding in the last bits of Float64")
    too_good_rank_correlation: float = Field(
        0.5, gt=0, le=1, description="mean rank correlation within bars between a factor and a label above which the factor must hold the future"
    )
    entry_lag_bars: int = Field(1, ge=1, description="bars between a signal and its entry; a label may reach this plus its horizon")
