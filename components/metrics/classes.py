"""What probabilities of classes are worth: whether they hold what they promise (calibration error, Brier's
score, reliability), and whether they tell the classes apart (average precision).
"""

import numpy as np
import polars as pl

# Equally filled bins of a calibration error. As many rows each, so that probabilities which all lie near the
# class's share are not judged by two bins (Nixon et al. 2019, *Measuring Calibration in Deep Learning*).
CALIBRATION_BINS = 10
# Fewer bins where they would hold fewer rows than this: the frequency of a thin bin is far from its
# probability by chance alone.
ROWS_A_BIN = 100


def average_precision(chance: np.ndarray, happened: np.ndarray) -> float:
    """Area under the precision-recall curve as the sum over thresholds of precision times the recall gained
    (Boyd, Eng and Page 2013); equal chances are one threshold. NaN where nothing happened.

    Parameters
    ----------
    chance : probabilities, or anything that orders rows, shape (rows,)
    happened : whether the class was the row's, shape (rows,)
    """
    happened = np.asarray(happened, dtype=bool)
    wanted = int(happened.sum())
    if not wanted:
        return float("nan")
    order = np.argsort(-np.asarray(chance, dtype=np.float64), kind="stable")
    sorted_chance, hits = np.asarray(chance)[order], np.cumsum(happened[order])
    last = np.append(np.flatnonzero(np.diff(sorted_chance)), len(order) - 1)
    precision = hits[last] / (last + 1)
    return float((precision * np.diff(hits[last], prepend=0)).sum() / wanted)


def class_reliability(pairs: pl.DataFrame, *, bins: int = CALIBRATION_BINS) -> pl.DataFrame:
    """Predicted against realised frequency, by equally filled bins of the probability.

    Parameters
    ----------
    pairs : columns `chance` (finite), `happened` (Boolean)

    Returns
    -------
    One row a bin, lowest first: `bin` (from 1), `predicted` (mean probability), `realised` (share that
    happened), `rows`; at most `bins`, and so few that each holds 100 rows. Equal probabilities share a bin,
    so bins may be missing.
    """
    return (
        pairs.select("chance", pl.col("happened").cast(pl.Float64), _bin((), bins))
        .group_by("bin")
        .agg(*_PREDICTED_AND_REALISED)
        .sort("bin")
    )


def class_figures(
    pairs: pl.DataFrame, *, by: tuple[str, ...] = (), bins: int = CALIBRATION_BINS
) -> pl.DataFrame:
    """Figures of one class, for all rows or for each group.

    Parameters
    ----------
    pairs : columns `chance` (finite), `happened` (Boolean), and those of `by`

    Returns
    -------
    One row a group, sorted: the columns of `by`, `rows`, `share` (that happened), `predicted` (mean
    probability), `average_precision` (null where nothing happened; a guess without skill has the share),
    `brier` (mean squared distance of probability and what happened, Brier 1950), `calibration_error` (mean
    over rows of |predicted - realised| of the row's bin, bins filled equally within the group, at most `bins`
    and so few that each holds 100 rows).
    """
    group = list(by) or [pl.lit(0).alias("_all")]
    rows = pairs.select(*by, "chance", pl.col("happened").cast(pl.Float64), _bin(by, bins))
    plain = rows.group_by(group, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("happened").mean().alias("share"),
        pl.col("chance").mean().alias("predicted"),
        (pl.col("chance") - pl.col("happened")).pow(2).mean().alias("brier"),
    )
    gaps = (
        rows.group_by([*group, "bin"])
        .agg(*_PREDICTED_AND_REALISED)
        .group_by(list(by) or ["_all"])
        .agg(((pl.col("predicted") - pl.col("realised")).abs() * pl.col("rows")).sum() / pl.col("rows").sum())
        .rename({"predicted": "calibration_error"})
    )
    keys = list(by) or ["_all"]
    found = plain.join(gaps, on=keys, how="left").join(_average_precisions(rows, by), on=keys, how="left")
    return found.sort(keys).select(
        *by, "rows", "share", "predicted", "average_precision", "brier", "calibration_error"
    )


_PREDICTED_AND_REALISED = (
    pl.col("chance").mean().alias("predicted"),
    pl.col("happened").mean().alias("realised"),
    pl.len().cast(pl.Int64).alias("rows"),
)


def _bin(by: tuple[str, ...], bins: int) -> pl.Expr:
    place, rows = pl.col("chance").rank(), pl.len()
    if by:
        place, rows = place.over(by), rows.over(by)
    bins = (rows // ROWS_A_BIN).cast(pl.Int64).clip(1, bins)
    return (((place - 0.5) / rows * bins).floor().cast(pl.Int64).clip(pl.lit(0), bins - 1) + 1).alias("bin")


def _average_precisions(rows: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    """`average_precision` of each group, from one sort of all rows."""
    keys = list(by) or ["_all"]
    group = list(by) or [pl.lit(0).alias("_all")]
    thresholds = (
        rows.group_by([*group, "chance"])
        .agg(pl.col("happened").sum(), pl.len().cast(pl.Float64).alias("rows"))
        .sort([*keys, "chance"], descending=[*(False for _ in keys), True])
    )
    reached = thresholds.with_columns(
        (pl.col("happened").cum_sum() / pl.col("rows").cum_sum()).over(keys).alias("precision")
    )
    gained = (pl.col("precision") * pl.col("happened")).sum() / pl.col("happened").sum()
    return reached.group_by(keys).agg(gained.fill_nan(None).alias("average_precision"))
