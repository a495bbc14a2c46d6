"""The weights of new books, without what is told about their limits."""

from typing import Any

import numpy as np

from components.sizing import long_only_book, long_short_book


def long_short_weights(*given: Any, **named: Any) -> np.ndarray:
    """Those of `long_short_book`."""
    return long_short_book(*given, **named).weights


def long_only_weights(*given: Any, **named: Any) -> np.ndarray:
    """Those of `long_only_book`."""
    return long_only_book(*given, **named).weights
