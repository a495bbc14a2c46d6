"""Labels that are classes: which targets are, what their classes are called, and the columns in which the
probabilities of predictions stand.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from components.contracts.errors import ContractError

# Falls, does not pay (or does not move), rises.
CLASS_NAMES = ("down", "none", "up")
CLASS_COLUMNS = ("p_down", "p_none", "p_up")
# The labels of each target of classes, in rising order. Two stand for down and up: such a target knows no
# `none`, so that its probability is 0.
CLASS_TARGETS: Mapping[str, tuple[int, ...]] = {
    "direction": (-1, 0, 1),
    "trend": (0, 1),
    "barrier": (-1, 0, 1),
    "trade_class": (-1, 0, 1),
}
# Probabilities of a row may miss 1 by this much, from rounding.
LARGEST_MISS = 1e-6


def class_values(target: str) -> tuple[int, ...]:
    """The labels that a target's rows may have, in rising order; empty for a target that is a number."""
    return CLASS_TARGETS.get(target, ())


def class_places(classes: int) -> tuple[int, ...]:
    """Where among CLASS_COLUMNS so many classes stand."""
    return (0, 2) if classes == 2 else (0, 1, 2)


def in_class_columns(chance_BC: np.ndarray) -> np.ndarray:
    """Probabilities of a target's own classes [B, C] as those of CLASS_COLUMNS [B, 3]."""
    if chance_BC.shape[1] == len(CLASS_COLUMNS):
        return chance_BC
    wide_BC = np.zeros((len(chance_BC), len(CLASS_COLUMNS)))
    wide_BC[:, list(class_places(chance_BC.shape[1]))] = chance_BC
    return wide_BC


def check_probabilities(frame: pl.DataFrame, *, source: str) -> None:
    """Refuse a table in which a row's probabilities are no distribution; a table without any, and a row in
    which all are null, is that of a number.

    Raises
    ------
    ContractError
        Naming the table, the first such row and what was found.
    """
    found = [name for name in CLASS_COLUMNS if name in frame.columns]
    if not found:
        return
    if len(found) < len(CLASS_COLUMNS):
        missing = next(name for name in CLASS_COLUMNS if name not in found)
        raise ContractError(
            f"{source}: probabilities stand in {', '.join(CLASS_COLUMNS)}, but the column {missing!r} is"
            " missing. Give all three, or none where a number is predicted."
        )
    columns = [pl.col(name) for name in CLASS_COLUMNS]
    none = pl.all_horizontal(column.is_null() for column in columns)
    each = pl.all_horizontal(column.is_between(0.0, 1.0).fill_null(False) for column in columns)
    whole = ((pl.sum_horizontal(columns) - 1.0).abs() <= LARGEST_MISS).fill_null(False)
    wrong = frame.with_columns(wrong=~(none | (each & whole))).filter("wrong")
    if len(wrong):
        named = (name for name in (*_KEY, *CLASS_COLUMNS) if name in wrong.columns)
        where = ", ".join(f"{name} {wrong[name][0]}" for name in named)
        raise ContractError(
            f"{source}: the probabilities of {len(wrong):,} of {len(frame):,} rows are not all within 0 and 1"
            f" with a sum of 1, first: {where}. Make them one distribution a row."
        )


_KEY = ("timestamp", "symbol")
