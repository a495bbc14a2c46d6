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
    zero_volume: Literal["quarantine_moving", "keep"] = Field(
        "quarantine_moving",
        description="what becomes of bars whose price moves without volume; keep: for sources without volume",
    )
    max_null_share: float = Field(
        0.5, ge=0, le=1, description="share of nulls in a factor or label column from which on it is reported"
    )
