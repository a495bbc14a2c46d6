"""The label that is learned: one target over one horizon, out of a labels table."""

import polars as pl

from components.contracts.errors import ContractError
from components.contracts.schemas import LABELS

# Columns of a labels table that say nothing of which symbols earn more: no order of symbols by one of these
# pays, so that a score of it is measured as a forecast alone.
NO_ORDERING = ("realised_volatility", "cost", "barrier_end")
# Columns whose unit is none of money: how much to bet can't be told from them, only on which names.
NO_STAKE = ("return_quantile", *NO_ORDERING)


def target_labels(labels: pl.DataFrame, horizon: int, target: str) -> pl.DataFrame:
    """`timestamp, symbol, label, label_end` of the rows of `horizon`; `label` is the column `target` as
    Float64, null where it is not a number.

    Raises
    ------
    ContractError
        If the table has no such target or no rows of the horizon; the message lists those that there are.
    """
    targets = [name for name in labels.columns if name not in LABELS.key and not name.endswith("_end")]
    if target not in targets:
        raise ContractError(
            f"There is no target {target!r} in the labels. Set labels.target to one of {', '.join(targets)}."
        )
    wanted = labels.filter(pl.col("horizon") == horizon).select(
        "timestamp", "symbol", pl.col(target).cast(pl.Float64).fill_nan(None).alias("label"), "label_end"
    )
    if wanted.is_empty():
        found = ", ".join(map(str, sorted(labels["horizon"].unique())))
        raise ContractError(
            f"The labels hold no rows of horizon {horizon} (found: {found}). Add it to labels.horizons."
        )
    return wanted
