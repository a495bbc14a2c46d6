"""Settings of validation: the thresholds of every check, with their units."""

from typing import Literal

from pydantic import Field

from components.settings import Section


class Settings(Section):
    """What counts as a fault, and how much of it the pipeline puts up with."""

    strict: bool = Field(
        False,
        description="refuse a panel whose symbols do not all have every bar, instead of saying what fell out",
    )
    min_coverage: float = Field(
        0.7,
        ge=0,
        le=1,
        description=(
            "smallest share of its calendar that a symbol, and of the listed symbols that a date, must have"
        ),
    )
    max_quarantine_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description=(
            "share of rows in quarantine, or of values missing in a column, above which the run stops"
        ),
    )
    price_tolerance: float = Field(
        1e-6,
        ge=0,
        description=(
            "relative error allowed in low <= open, close <= high (prices stored in single precision)"
        ),
    )
    zero_volume: Literal["quarantine_moving", "keep"] = Field(
        "quarantine_moving",
        description="what becomes of bars whose price moves without volume; keep: for sources without volume",
    )
    stale_bars: int = Field(
        5, ge=2, description="identical bars in a row from which on a price counts as stale"
    )
    max_gap_bars: int = Field(
        20,
        ge=1,
        description=(
            "missing bars in a row after which a changed price level means another instrument under the same"
            " symbol"
        ),
    )
    ended_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description=(
            "share of the listed symbols that end on one date, five at least, from which on the source is"
            " taken to have ended there"
        ),
    )
    max_known_lag_days: int = Field(
        7, ge=1, description="days after its end from which on a bar counts as filled in afterwards"
    )
    usual_bars: int = Field(
        60,
        ge=5,
        description=(
            "bars over which the usual range and volume of a symbol are taken, always before the bar in"
            " question"
        ),
    )
    bad_print_sigma: float = Field(8.0, gt=0, description="size of a bad print in usual bar ranges")
    bad_print_move: float = Field(0.2, gt=0, description="smallest relative move of a bad print")
    wick_ratio: float = Field(
        3.0,
        gt=1,
        description=(
            "a high or low beyond this multiple of all other prices of its bar is a bad print at any volume"
        ),
    )
    revert_share: float = Field(
        0.3, gt=0, lt=1, description="share of a jump that may remain when it counts as reverted"
    )
    print_volume_ratio: float = Field(
        4.0,
        gt=0,
        description=(
            "volume in usual volumes above which a price far off is believed: news moves prices with much"
            " more"
        ),
    )
    quiet_volume_ratio: float = Field(
        2.0,
        gt=0,
        description=(
            "median volume in usual volumes, from a jump until it is confirmed, up to which trading counts as"
            " ordinary"
        ),
    )
    quiet_range_ratio: float = Field(2.0, gt=0, description="bar range in usual ranges, likewise")
    level_sigma: float = Field(
        5.0, gt=0, description="smallest overnight jump that counts as a change of level, in usual bar ranges"
    )
    split_tolerance: float = Field(
        0.03,
        ge=0,
        lt=0.2,
        description=(
            "relative distance from a simple ratio such as 2:1 that an unadjusted split may have, besides"
            " half a usual range"
        ),
    )
    currency_jump_ratio: float = Field(
        1.4,
        gt=1,
        description=(
            "smallest lasting change of level, up or down, that counts as a change of currency or unit"
        ),
    )
    confirm_bars: int = Field(3, ge=1, description="bars after which a change of level counts as lasting")
    last_bar_volume_ratio: float = Field(
        0.4,
        ge=0,
        lt=1,
        description=(
            "median volume of the newest cross-section, in usual volumes, below which it is not final"
        ),
    )
    last_bar_range_ratio: float = Field(
        0.7,
        ge=0,
        lt=1,
        description="median range of the newest cross-section, in usual ranges, below which it is not final",
    )
    last_bar_fault_share: float = Field(
        0.005,
        gt=0,
        le=1,
        description="share of inconsistent bars in the newest cross-section from which on it is not final",
    )
    max_null_share: float = Field(
        0.5, ge=0, le=1, description="share of nulls in a factor or label column from which on it is reported"
    )
    max_abs_log_return: float = Field(
        3.0, gt=0, description="largest believable log return over a label's horizon"
    )
