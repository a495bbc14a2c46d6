"""The experts' predictions, split by expert and checked to be comparable."""

from pathlib import Path

import polars as pl

from components.contracts import (
    ALL_PREDICTIONS,
    CROSS_VALIDATED,
    ContractError,
    check_table,
    read_stamp,
    read_table,
)

MEASURED_COLUMNS = ("timestamp", "symbol", "period", "target", "score", "uncertainty", "p10", "p50", "p90")


def split_experts(
    predictions: pl.DataFrame, *, horizon: int, source: str = "the predictions"
) -> dict[str, pl.DataFrame]:
    """MEASURED_COLUMNS, and `usual_uncertainty` where it is there, of each expert, by name, from an
    ALL_PREDICTIONS table in which experts stand beneath each other.

    Raises
    ------
    ContractError
        If the table is not ALL_PREDICTIONS, the horizon does not occur, or experts learned different targets
        or periods.
    """
    chosen = (
        check_table(predictions, ALL_PREDICTIONS, source=source)
        .lazy()
        .filter(pl.col("horizon") == horizon)
        .select("expert", *MEASURED_COLUMNS, *(set(ALL_PREDICTIONS.optional) & set(predictions.columns)))
        .collect()
    )
    if chosen.is_empty():
        raise ContractError(
            f"{source}: no rows of horizon {horizon} (found {sorted(predictions['horizon'].unique())})."
            " Predict that horizon or change labels.primary_horizon."
        )
    for name in ("target", "period"):
        if chosen[name].n_unique() > 1:
            raise ContractError(
                f"{source}: several values of {name!r} ({', '.join(chosen[name].unique().sort())}). Experts"
                " that are compared must have the same; train them again."
            )
    return {
        name: part
        for (name,), part in sorted(
            chosen.partition_by("expert", as_dict=True, maintain_order=True, include_key=False).items()
        )
    }


def read_predictions(path: Path, labels: Path, *, horizon: int) -> dict[str, pl.DataFrame]:
    """`split_experts` of a stamped ALL_PREDICTIONS file that was made from the labels at `labels`.

    Raises
    ------
    ContractError
        If the file can't be read or was made from other labels, or see `split_experts`.
    """
    table = read_table(path, ALL_PREDICTIONS)
    _require_these_labels(path, labels)
    return split_experts(table, horizon=horizon, source=str(path))


def read_crossed(path: Path, labels: Path) -> pl.DataFrame:
    """The stamped CROSS_VALIDATED table of a file that was made from the labels at `labels`.

    Raises
    ------
    ContractError
        If the file can't be read or was made from other labels.
    """
    _require_these_labels(path, labels)
    return read_table(path, CROSS_VALIDATED)


def _require_these_labels(path: Path, labels: Path) -> None:
    made_from, given = read_stamp(path).inputs.get("labels", ""), read_stamp(labels).content_sha256
    if made_from != given:
        raise ContractError(
            f"{path} was made from labels {made_from[:12] or '(unknown)'}, but {labels} holds {given[:12]}."
            " Run the stages from the experts on again on one data set."
        )
