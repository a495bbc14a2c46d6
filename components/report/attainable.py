"""How much of what a simulated market holds the stack finds."""

from pathlib import Path

import polars as pl

from components.contracts import ALL_PREDICTIONS, map_table, of_task
from components.contracts.documents.evaluation import Evaluation
from components.contracts.documents.summary import Attainable
from components.metrics import ic_summary, information_coefficient

KEY = ["timestamp", "symbol"]


def attainable_share(
    truth: pl.DataFrame, predictions: str | Path, labels: pl.DataFrame, evaluation: Evaluation
) -> Attainable | None:
    """IC of the simulator's own expectation on the test window, and the share of it that the stack recovers.

    None for real data, and for a horizon or target that the simulator's expectation is not of.

    Parameters
    ----------
    truth : columns `timestamp`, `symbol`, `expected_return_<horizon>`; empty for real data
    predictions : stamped ALL_PREDICTIONS file, read where it is needed
    labels : LABELS table
    """
    expected = f"expected_return_{evaluation.horizon}"
    of_this = expected in truth.columns and evaluation.target == "sector_neutral_return"
    if truth.is_empty() or not of_this:
        return None
    start = pl.lit(evaluation.windows.test.start).str.to_datetime(time_unit="us", time_zone="UTC")
    judged = of_task(map_table(predictions, ALL_PREDICTIONS), evaluation.target, evaluation.horizon)
    stack = judged.filter(pl.col("expert") == "stack")
    known = stack.filter(pl.col("timestamp") >= start).select(KEY)
    scored = truth.select(*KEY, pl.col(expected).alias("score")).join(known, on=KEY)
    label = labels.filter(pl.col("horizon") == evaluation.horizon).select(
        *KEY, pl.col(evaluation.target).cast(pl.Float64).alias("label")
    )
    daily = information_coefficient(scored, label)["ic"]
    attainable = ic_summary(daily, horizon=evaluation.horizon)["mean"]
    tested = evaluation.tested("stack")
    reached = tested and tested.ic.mean
    if not attainable or attainable != attainable or reached is None:
        return None
    return Attainable(attainable_ic=attainable, stack_ic=reached, recovered_share=reached / attainable)
