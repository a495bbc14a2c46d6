"""Time: calendars of bars, and the splits that keep the future out of training.

Nothing else slices by date or index.
"""

from components.timeline.config import Settings, Span
from components.timeline.cross_validation import CrossValidation, cross_validated_splits, purged_kfold
from components.timeline.splits import (
    Fold,
    TimelineError,
    Windows,
    bar_index,
    consecutive,
    resolve_windows,
    walk_forward,
)

__all__ = [
    "CrossValidation",
    "Fold",
    "Settings",
    "Span",
    "TimelineError",
    "Windows",
    "bar_index",
    "consecutive",
    "cross_validated_splits",
    "purged_kfold",
    "resolve_windows",
    "walk_forward",
]
