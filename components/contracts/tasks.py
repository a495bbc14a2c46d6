"""Which task a row of predictions belongs to: the label column that is predicted, over so many bars.

Tables that hold several tasks are cut to one here, so that no stage takes the rows of another for its own.
"""

import polars as pl

from components.contracts.errors import ContractError


def tasks_in(table: pl.DataFrame) -> list[tuple[str, int]]:
    """The (target, horizon) of a table's rows, sorted."""
    return sorted(table.select("target", "horizon").unique().rows())


def of_task(
    table: pl.DataFrame, target: str, horizon: int, *, source: str = "the predictions"
) -> pl.DataFrame:
    """The rows of one task, in their order.

    Raises
    ------
    ContractError
        If there are none; the message names the tasks that there are.
    """
    rows = table.filter((pl.col("target") == target) & (pl.col("horizon") == horizon))
    if rows.is_empty():
        found = ", ".join(f"{name} over {bars} bars" for name, bars in tasks_in(table)) or "none"
        raise ContractError(
            f"{source}: no rows predict {target} over {horizon} bars (found: {found}). Run the stages from"
            " the experts on again with these labels.target and labels.primary_horizon."
        )
    return rows
