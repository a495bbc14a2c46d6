"""The audit of anybody's own out-of-fold table looks at each task by itself."""

import polars as pl
import pytest

from components.stacking.own_table import audit_own_table
from tests.stacking.made_scores import made_market

TABLE = made_market("alike", 1, bars=80, symbols=6, fold_bars=40)


def of_two_tasks() -> pl.DataFrame:
    """A second task that `e0` alone answers."""
    scores = [name for name in TABLE.columns if name.startswith(("score_", "uncertainty_"))]
    others = [name for name in scores if not name.endswith("_e0")]
    second = TABLE.with_columns(target=pl.lit("sector_neutral_return")).drop(others)
    return pl.concat([TABLE, second], how="diagonal").sort("timestamp", "symbol", "horizon", "target")


def test_experts_that_have_no_part_in_a_task_are_no_fault_of_it():
    assert not audit_own_table(TABLE).faults
    both = audit_own_table(of_two_tasks())
    assert not both.faults
    assert both.rows == 2 * len(TABLE)
    assert len(both.experts) == 5


def test_a_fault_is_told_with_its_task():
    table = of_two_tasks()
    second = pl.col("target") == "sector_neutral_return"
    first_bar = pl.col("timestamp") == table["timestamp"].min()
    holed = table.with_columns(score_e0=pl.when(~(second & first_bar)).then("score_e0"))
    assert [fault.partition(":")[0] for fault in audit_own_table(holed).faults] == [
        "sector_neutral_return over 5 bars"
    ]
    repeated = pl.concat([table, table.filter(second).tail(1)])
    assert "repeat" in audit_own_table(repeated).faults[0]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (pl.concat_list("target"), "column target has type List(String), expected the names of labels"),
        (pl.col("horizon").alias("target"), "column target has type Int32"),
        (pl.when(pl.col("target") == "sector_neutral_return").then("target"), "target: 480 values are none"),
        (pl.lit(None, pl.Float64).alias("score_e1"), "score_e1 has no value in any task"),
    ],
)
def test_what_nobody_can_tell_the_task_of_is_a_fault(spoil, words):
    """And nothing is said of duplicates, which are of tasks that nobody can tell apart."""
    faults = audit_own_table(of_two_tasks().with_columns(spoil)).faults
    assert len(faults) == 1
    assert faults[0].startswith(words)
