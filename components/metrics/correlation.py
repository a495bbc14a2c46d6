"""Information coefficients: how well scores order what happened next, a cross-section at a time."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from components.contracts import ContractError
from components.metrics.inference import t_value

FEWEST_SYMBOLS = 3


def information_coefficient(
    predictions: pl.DataFrame, labels: pl.DataFrame, *, rank: bool = False, by: Sequence[str] = ("timestamp",)
) -> pl.DataFrame:
    """Cross-sectional correlation of score and realised return, one row a group (a timestamp by default).

    Grinold and Kahn (2000), *Active Portfolio Management*, chapter 6. Rows whose score or label is null, NaN
    or infinite do not count.

    Parameters
    ----------
    predictions : columns `timestamp`, `symbol`, `score`
    labels : columns `timestamp`, `symbol`, `label` (log return over the horizon, not annualised)
    rank : Spearman instead of Pearson; ties share their mean rank
    by : columns of either frame that define the groups: `("timestamp", "sector")`, or `("symbol",)` for a
        correlation over time

    Returns
    -------
    Columns `*by`, `ic` (in [-1, 1], null where fewer than 3 rows have both or one side is constant),
    `n_symbols` (rows that have both).

    Raises
    ------
    ContractError
        If a (timestamp, symbol) pair occurs twice; the message names the first five.
    """
    by = list(by)
    pairs = _pairs(predictions, labels, by)
    if rank:
        pairs = pairs.with_columns(pl.col("score", "label").rank().over(by))
    varies = (pl.col("score").max() > pl.col("score").min()) & (pl.col("label").max() > pl.col("label").min())
    correlation = pl.when((pl.len() >= FEWEST_SYMBOLS) & varies).then(
        pl.corr("score", "label").fill_nan(None).clip(-1, 1)
    )
    return pairs.group_by(by).agg(correlation.alias("ic"), pl.len().alias("n_symbols")).sort(by)


def ic_summary(ic: pl.Series | np.ndarray, *, horizon: int) -> dict[str, float]:
    """Mean, spread and significance of a series of information coefficients.

    Parameters
    ----------
    ic : one value a bar, in order of time; nulls and NaN are left out
    horizon : bars that a label spans; labels of neighbouring bars overlap, which `t_value` allows for

    Returns
    -------
    `mean`, `std` (sample), `icir` = mean / std (a bar, not annualised), `t_hac` (`t_value`: NaN for
    fewer than `fewest_values` bars), `hit_share` (share above 0), `bars`. What can't be computed is NaN.
    """
    values = _finite(ic)
    std = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    mean = float(values.mean()) if len(values) else float("nan")
    return {
        "mean": mean,
        "std": std,
        "icir": mean / std if std > 0 else float("nan"),
        "t_hac": t_value(values, horizon=horizon),
        "hit_share": float((values > 0).mean()) if len(values) else float("nan"),
        "bars": len(values),
    }


def ic_decay(
    predictions: pl.DataFrame, labels: pl.DataFrame, lags: Sequence[int] = tuple(range(21))
) -> pl.DataFrame:
    """Mean information coefficient of a score that is used `lag` bars after it was made, for each lag.

    The score of bar t - lag meets the label of bar t; bars are those of both tables together. For `rank_ic`,
    ranks are taken once in each cross-section, before scores and labels meet.

    Returns
    -------
    Columns `lag`, `ic`, `rank_ic` (means over bars), `bars`; null where no bar has 3 symbols.
    """
    _refuse_repeats(predictions, "predictions")
    _refuse_repeats(labels, "labels")
    score, label = _clean(predictions, "score"), _clean(labels, "label")
    calendar = pl.concat([score["timestamp"], label["timestamp"]]).unique().sort()
    symbols = pl.concat([score["symbol"], label["symbol"]]).unique().sort()
    ranked = [
        frame.with_columns(pl.col(name).rank().over("timestamp"))
        for frame, name in ((score, "score"), (label, "label"))
    ]
    scores, labels_, score_ranks, label_ranks = (
        to_matrix(frame, name, calendar, symbols)
        for frame, name in ((score, "score"), (label, "label"), (ranked[0], "score"), (ranked[1], "label"))
    )
    rows = []
    for lag in lags:
        kept = max(len(calendar) - lag, 0)
        plain = row_correlations(scores[:kept], labels_[len(calendar) - kept :])
        by_rank = row_correlations(score_ranks[:kept], label_ranks[len(calendar) - kept :])
        count = int(np.isfinite(plain).sum())
        rows.append(
            (
                lag,
                float(np.nanmean(plain)) if count else None,
                float(np.nanmean(by_rank)) if count else None,
                count,
            )
        )
    return pl.DataFrame(
        rows,
        schema={"lag": pl.Int64, "ic": pl.Float64, "rank_ic": pl.Float64, "bars": pl.Int64},
        orient="row",
    )


def row_correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pearson correlation of each row of two (bars, symbols) arrays over the symbols that both have; NaN
    under 3 of them. Shape (bars,).
    """
    both = np.isfinite(left) & np.isfinite(right)
    count = both.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        a = np.where(both, left, 0.0)
        b = np.where(both, right, 0.0)
        a = np.where(both, a - (a.sum(axis=1) / count)[:, None], 0.0)
        b = np.where(both, b - (b.sum(axis=1) / count)[:, None], 0.0)
        correlation = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    flat = (_spread(left, both) <= 0) | (_spread(right, both) <= 0)
    return np.where((count >= FEWEST_SYMBOLS) & ~flat, np.clip(correlation, -1, 1), np.nan)


def to_matrix(frame: pl.DataFrame, column: str, calendar: pl.Series, symbols: pl.Series) -> np.ndarray:
    """One column as `to_matrices` makes it."""
    return to_matrices(frame, (column,), calendar, symbols)[0]


def to_matrices(
    frame: pl.DataFrame, columns: Sequence[str], calendar: pl.Series, symbols: pl.Series
) -> list[np.ndarray]:
    """Values of each column as an array of shape (len(calendar), len(symbols)), NaN where there is none.

    `calendar` and `symbols` are sorted; rows of other timestamps or symbols are left out.
    """
    shape = len(calendar), len(symbols)
    # Rows of a moment stand together as a rule: each moment is looked up once.
    runs = frame["timestamp"].rle().struct.unnest()
    bars = calendar.search_sorted(runs["value"]).to_numpy().astype(np.int64)
    there = runs["value"].is_in(calendar.implode()).to_numpy()
    bars = np.repeat(np.where(there, bars, -1), runs["len"].to_numpy())
    places = _symbol_places(frame["symbol"], runs["len"], symbols)
    inside = (bars >= 0) & (places >= 0)
    places = bars * shape[1] + places
    every = bool(inside.all())
    matrices = []
    for column in columns:
        values = frame[column].cast(pl.Float64).to_numpy()
        matrix = np.full(shape, np.nan)
        matrix.reshape(-1)[places if every else places[inside]] = values if every else values[inside]
        matrices.append(matrix)
    return matrices


def _symbol_places(names: pl.Series, lengths: pl.Series, symbols: pl.Series) -> np.ndarray:
    """Where each name stands among `symbols`, -1 where it does not; `lengths` are the rows of each moment."""
    each = lengths[0] if lengths.n_unique() == 1 else len(names)
    # Where all moments hold the same names in the same order, those of the first are looked up alone.
    if not names.slice(each).equals(names.slice(0, len(names) - each), null_equal=True):
        each = len(names)
    found = names.slice(0, each).cast(pl.Enum(symbols), strict=False).to_physical()
    return np.tile(found.cast(pl.Int64).fill_null(-1).to_numpy(), len(names) // max(each, 1))


def _pairs(predictions: pl.DataFrame, labels: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    _refuse_repeats(predictions, "predictions")
    _refuse_repeats(labels, "labels")
    key = ["timestamp", "symbol"]
    groups = [name for name in by if name not in key]
    absent = [name for name in groups if name not in predictions.columns and name not in labels.columns]
    if absent:
        raise ContractError(
            f"Column {absent[0]!r} is in neither predictions nor labels, so an information coefficient by"
            f" {by} can't be computed. Join it to one of them first."
        )
    left = _clean(predictions, "score").select(
        *key, "score", *(name for name in groups if name in predictions.columns)
    )
    right = _clean(labels, "label").select(
        *key, "label", *(name for name in groups if name not in predictions.columns)
    )
    return left.join(right, on=key, how="inner", maintain_order="left")


def _clean(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    return frame.filter(pl.col(column).is_finite().fill_null(False))


def _refuse_repeats(frame: pl.DataFrame, what: str) -> None:
    key = ["timestamp", "symbol"]
    if frame.select(pl.struct(key).n_unique()).item() == len(frame):
        return
    first = frame.filter(pl.struct(key).is_duplicated()).select(key).unique().sort(key).head(5).rows()
    raise ContractError(
        f"{what} hold a (timestamp, symbol) more than once, first {first}. Filter to one horizon and one"
        " expert before measuring."
    )


def _spread(values: np.ndarray, both: np.ndarray) -> np.ndarray:
    return np.where(both, values, -np.inf).max(axis=1, initial=-np.inf) - np.where(both, values, np.inf).min(
        axis=1, initial=np.inf
    )


def _finite(values: pl.Series | np.ndarray) -> np.ndarray:
    array = (
        values.cast(pl.Float64).to_numpy()
        if isinstance(values, pl.Series)
        else np.asarray(values, dtype=float)
    )
    return array[np.isfinite(array)]
