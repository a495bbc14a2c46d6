"""What the leak audit found and what it looked at."""

from typing import Literal

from pydantic import Field

from components.contracts.documents import Document, Part

__all__ = ["AuditedCut", "Checked", "FactorByDelay", "FoundLeak", "LeakAudit", "MeasuredWarmUp", "Unstable"]


class FoundLeak(Part):
    """One finding about one column; moments in ISO 8601. `size` is the largest change, None where values only
    came or went.
    """

    check: str
    factor: str
    timestamp: str | None
    symbol: str | int | None
    cut: str | None
    bars_before_cut: int | None
    bars_ahead: int | None
    rows: int
    absolute: float | None
    relative: float | None
    appeared_or_vanished: int
    detail: str
    size: float | None


class Unstable(Part):
    """A column that two builds of the same panel make differently."""

    factor: str
    check: str
    size: float | None
    rows: int


class MeasuredWarmUp(Part):
    """Bars until a factor is stable; None where it was not within the bars that were looked at."""

    factor: str
    bars: int | None
    looked_at_bars: int
    declared: int | None


class FactorByDelay(Part):
    """Rank IC of a factor with the next return, one a lag, what the first bar of delay costs, and how sure
    that is.
    """

    factor: str
    horizon: int
    lags: list[int]
    ic: list[float | None]
    loss: float
    t: float | None


class AuditedCut(Part):
    """A moment at which history was cut, and the rows that were compared there."""

    timestamp: str
    kind: str
    bars_after: int
    symbols: int
    rows: int


class Checked(Part):
    """What was looked at; what belongs to tables that were not audited is empty. `scan_cuts_left_out` counts
    cuts that were asked for and not made.
    """

    seed: int | None = None
    factors: int = 0
    factor_rows_compared: int = 0
    factor_values_compared: int = 0
    factors_without_values: list[str] = Field(default_factory=list)
    cuts: list[AuditedCut] = Field(default_factory=list)
    checks: dict[str, int] = Field(default_factory=dict)
    builds: int = 0
    scan_cuts_left_out: int = 0
    notes: list[str] = Field(default_factory=list)
    label_rows_compared: int = 0
    label_columns: int = 0
    horizons: list[int] = Field(default_factory=list)
    factor_rows: int = 0
    label_rows: int = 0
    panel_rows: int = 0


class LeakAudit(Document):
    """Leaks of factors and labels, with the evidence by factor; `passed` only where there are none."""

    format: Literal[1] = 1
    passed: bool
    leaks: list[FoundLeak]
    unstable: list[Unstable]
    warm_up: list[MeasuredWarmUp]
    placebo: list[FactorByDelay]
    checked: Checked
