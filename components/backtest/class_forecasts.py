"""What probabilities of classes are worth: by class, by symbol and by month."""

import numpy as np
import polars as pl

from components.contracts.classes import CLASS_COLUMNS, CLASS_NAMES, class_places, class_values
from components.contracts.documents.class_figures import ClassBin, ClassFigures, ClassGroup, ClassRow
from components.metrics import class_figures, class_reliability


def measure_classes(pairs: pl.DataFrame) -> ClassFigures | None:
    """Figures of the labelled rows; None where the target is a number, no row is labelled, or the model gave
    no probabilities.

    Parameters
    ----------
    pairs : columns `timestamp`, `symbol`, `target`, `label`, and CLASS_COLUMNS where there are any
    """
    values = class_values(pairs["target"][0]) if len(pairs) else ()
    if not values or not set(CLASS_COLUMNS) <= set(pairs.columns):
        return None
    known = pl.all_horizontal(pl.col("label", *CLASS_COLUMNS).is_finite().fill_null(False))
    rows = pairs.filter(known).with_columns(month=pl.col("timestamp").dt.strftime("%Y-%m"))
    if rows.is_empty():
        return None
    by_class = {
        CLASS_NAMES[place]: rows.select(
            "symbol",
            "month",
            chance=pl.col(CLASS_COLUMNS[place]),
            happened=pl.col("label") == value,
        )
        for place, value in zip(class_places(len(values)), values, strict=True)
    }
    classes = [_row(name, one) for name, one in by_class.items()]
    shares = np.array([row.share for row in classes])
    return ClassFigures(
        rows=len(rows),
        average_precision=_mean([row.average_precision for row in classes]),
        brier=float(np.sum([row.brier for row in classes])),
        brier_of_shares=float((shares * (1 - shares)).sum()),
        calibration_error=_mean([row.calibration_error for row in classes]),
        classes=classes,
        by_symbol=_groups(by_class, "symbol"),
        by_month=_groups(by_class, "month"),
    )


def _row(name: str, rows: pl.DataFrame) -> ClassRow:
    bins = [ClassBin(**one) for one in class_reliability(rows).to_dicts()]
    figures = class_figures(rows).drop("rows").row(0, named=True)
    return ClassRow(name=name, **figures, reliability=bins)


def _groups(by_class: dict[str, pl.DataFrame], group: str) -> list[ClassGroup]:
    """Means over the classes, but for Brier's score, which is their sum."""
    each = pl.concat([class_figures(rows, by=(group,)) for rows in by_class.values()])
    together = (
        each.group_by(group)
        .agg(
            pl.col("rows").first(),
            pl.col("average_precision", "calibration_error").mean(),
            pl.col("brier").sum(),
        )
        .sort(group)
    )
    return [ClassGroup(**row) for row in together.rename({group: "name"}).to_dicts()]


def _mean(figures: list[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return float(np.mean(known)) if known else None
