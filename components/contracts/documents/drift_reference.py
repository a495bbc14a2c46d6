"""What drift is measured against, as it travels with a model: reference.json, beside sketches and sample."""

from typing import Literal

from pydantic import Field

from components.contracts.documents import Document, Part
from components.contracts.documents.drift import UsualFlagged
from components.contracts.documents.fields import Figure, Moment

__all__ = [
    "ColumnReference",
    "DriftReference",
    "InformationReference",
    "LabelReference",
    "RegimeReference",
    "UsualDispersion",
    "UsualSeparation",
    "WindowLabels",
    "WindowReference",
]


class WindowReference(Part):
    """What windows of one length show: the most that one of them differs from the rest of the reference."""

    windows: int
    ks: float
    psi: float
    missing: float
    tail: float
    tail_root: tuple[float, float]  # centre and spread of the square root of the tail's share
    fewest_cells: int
    effective_rows: float
    effective_rows_missing: float
    effective_rows_tail: float


class ColumnReference(Part):
    """One column of the reference; `by_window` by the window's length in bars."""

    group: str
    kind: Literal["input", "context", "score"]
    rows: int
    missing: int
    warm_up_bars: int = 0
    first_bar: int
    bars: int
    tail: float | None = None  # null, as `shared`, where no row holds a value
    shared: bool | None = None
    effective_rows: float
    effective_rows_missing: float
    by_window: dict[str, WindowReference]


class UsualDispersion(Part):
    """Spread of the scores within a bar: its mean, and the smallest and largest mean over windows."""

    mean: Figure
    low: Figure
    high: Figure


class WindowLabels(Part):
    """How far windows of one length lie from the rest, by what labels can do."""

    windows: int
    lean: Figure
    dispersion: Figure


class RegimeReference(Part):
    """The labels of one regime: shares of low, middle and high, and what windows show."""

    shares: tuple[float, ...]
    rows: int
    bars: int
    by_window: dict[str, WindowLabels]


class LabelReference(Part):
    """Terciles of the reference's labels, and how labels depend over time, by move and window length."""

    cuts: tuple[float, ...]
    effective_rows: dict[str, dict[str, float]]
    window_bars: int
    regimes: dict[str, RegimeReference]


class InformationReference(Part):
    """Daily RankIC of the out-of-sample scores."""

    rank_ic: tuple[float, ...]
    first: Moment
    last: Moment


class UsualSeparation(Part):
    """The columns that the classifier looks at, the first bar of its sample, and its AUC in windows."""

    columns: tuple[str, ...]
    first_bar: int
    usual: tuple[float, ...]


class DriftReference(Document):
    """All numbers of a reference: reference.json."""

    format: Literal[2] = 2
    rows: int
    bars: int
    symbols: int
    rows_per_bar: float
    first: Moment
    last: Moment
    train_window: str
    period: str
    horizon: int
    target: str
    psi_bins: int
    window_bars: int
    symbol_bars: dict[str, int] = Field(default_factory=dict)  # that each symbol had up to `last`
    columns: dict[str, ColumnReference]
    usual_flagged: UsualFlagged
    dispersion: UsualDispersion
    labels: LabelReference | None
    information: InformationReference | None
    adversarial: UsualSeparation
    stamp: dict[str, str]
