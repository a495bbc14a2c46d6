"""Probabilities in tables: what is no distribution is refused, what is one is not."""

import polars as pl
import pytest

from components.contracts import PREDICTIONS, ContractError, check_table
from components.contracts.classes import CLASS_TARGETS, check_probabilities, in_class_columns
from components.contracts.schemas import LABELS


def table(*rows: tuple[float | None, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(("p_down", "p_none", "p_up"), pl.Float64), orient="row")


def test_distributions_and_rows_of_a_number_pass():
    check_probabilities(table((0.2, 0.3, 0.5), (0.0, 0.0, 1.0), (None, None, None)), source="here")
    check_probabilities(table((1 / 3, 1 / 3, 1 - 2 / 3)), source="here")
    check_probabilities(pl.DataFrame({"score": [1.0]}), source="here")


@pytest.mark.parametrize(
    "row",
    [
        (0.2, 0.3, 0.4),
        (0.5, -0.1, 0.6),
        (0.5, None, 0.5),
        (float("nan"), 0.5, 0.5),
        (0.6, 0.6, -0.2),
        (0.5, 0.5, 1e-4),
    ],
)
def test_what_is_no_distribution_is_refused(row):
    with pytest.raises(ContractError, match=r"here: the probabilities of 1 of 2 rows .* sum of 1, first"):
        check_probabilities(table((0.2, 0.3, 0.5), row), source="here")


def test_a_column_that_is_missing_is_named():
    with pytest.raises(ContractError, match="'p_none' is missing"):
        check_probabilities(table((0.5, 0.0, 0.5)).drop("p_none"), source="here")


def test_a_table_of_predictions_is_refused_with_such_a_row():
    row = {name: pl.Series(name, [None], dtype=kind) for name, kind in PREDICTIONS.columns.items()}
    good = pl.DataFrame(row).with_columns(p_down=pl.lit(0.25), p_none=pl.lit(0.25), p_up=pl.lit(0.5))
    assert check_table(good, PREDICTIONS).height == 1
    with pytest.raises(ContractError, match="sum of 1"):
        check_table(good.with_columns(p_up=pl.lit(0.6)), PREDICTIONS)


def test_targets_of_classes_are_labels_of_whole_numbers():
    known = {**LABELS.columns, **LABELS.optional}
    assert all(known[target] == pl.Int8 for target in CLASS_TARGETS)
    whole = {name for name, kind in known.items() if kind == pl.Int8}
    assert whole == set(CLASS_TARGETS), "a label that is a class is learned as one"


def test_two_classes_stand_for_down_and_up():
    import numpy as np

    np.testing.assert_array_equal(in_class_columns(np.array([[0.25, 0.75]])), [[0.25, 0.0, 0.75]])
