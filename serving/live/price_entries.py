"""The price forms of an answer's forecasts, or why there are none."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from components.scoring import Scores
from components.scoring.prices import price_forms, why_unpriced

_TOO_WIDE = "the band reaches beyond the largest number; look at the volatility that the row was given"
_NO_CLOSE = "the close of the bar that the features belong to is not known here"


def price_entries(scores: Scores, closes: np.ndarray, target: str) -> list[dict[str, Any]]:
    """`serving.api.answer_types.Prices` of each row [B].

    Parameters
    ----------
    closes : of the rows' bars [B], NaN where unknown
    """
    why = why_unpriced(target)
    known = np.isfinite(closes)
    if why is not None:
        return [_entry(close, None, None, why) for close in np.where(known, closes, np.nan).tolist()]
    forms = price_forms(scores.columns(), closes)
    told = _finite(forms.antilog_return)
    priced = told & _finite(forms.future_price)
    return [
        _entry(close, one if is_told else None, other if is_priced else None, why)
        for close, one, other, is_told, is_priced, why in zip(
            closes.tolist(),
            _by_row(forms.antilog_return),
            _by_row(forms.future_price),
            told.tolist(),
            priced.tolist(),
            np.select([priced, ~told | known], [None, _TOO_WIDE], _NO_CLOSE).tolist(),
            strict=True,
        )
    ]


def _finite(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows of which all values are finite."""
    return np.logical_and.reduce([np.isfinite(values) for values in columns.values()])


def _by_row(columns: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
    values = [column.tolist() for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _entry(close: float, plain: Any, priced: Any, why: str | None) -> dict[str, Any]:
    return {"close": close, "antilog_return": plain, "future_price": priced, "missing": why}
