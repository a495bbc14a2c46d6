"""How a number is held against a threshold, and what is said about it."""

import math
from typing import Any

import numpy as np

from components.contracts.documents.verdict import Comparator, Gate


def gate(
    name: str,
    value: Any,
    comparison: Comparator,
    threshold: float,
    what: str,
    *,
    lacking: str | None = None,
    needed: str = "",
) -> Gate:
    """A gate of level approval; a value that is missing or not finite never passes.

    `what` says what the number is, for the reason. `lacking` says why no number can be had here: then there
    is none, whatever `value` is. `needed` says what would have let it pass, where it does not.
    """
    number = None if lacking else finite(value)
    if number is None:
        return Gate(
            name=name,
            value=None,
            threshold=threshold,
            comparison=comparison,
            passed=False,
            reason=f"{lacking or 'could not be computed'}, so it does not pass: {what}",
        )
    passed = {">=": number >= threshold, ">": number > threshold, "<=": number <= threshold}[comparison]
    wanted = f"{'' if passed else 'but '}wanted {comparison} {threshold:g}"
    return Gate(
        name=name,
        value=number,
        threshold=threshold,
        comparison=comparison,
        passed=passed,
        reason=f"{what}: {number:.4g}, {wanted}",
        needed="" if passed else needed,
    )


def passed_unasked(name: str, comparison: Comparator, threshold: float, reason: str) -> Gate:
    """A gate that passes without a number, as there is nothing to ask of; `reason` says why."""
    return Gate(name=name, value=None, threshold=threshold, comparison=comparison, passed=True, reason=reason)


def too_few(bars: int, needed: int, setting: str) -> str | None:
    """In words that so few bars prove nothing; None where they are enough."""
    return f"only {bars} bars, {needed} needed ({setting})" if bars < needed else None


def finite(value: Any) -> float | None:
    """The value as a float; None for what is no finite number."""
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
