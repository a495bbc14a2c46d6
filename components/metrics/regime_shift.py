"""Whether labels are distributed otherwise in one market regime than in the others, or than in the same
regime before.
"""

from datetime import datetime

import numpy as np
import polars as pl

from components.contracts import REGIMES, ContractError
from components.metrics.shift import adjusted_p_values

BINS = 200
# Shifts in time that a difference is held against; more say little, since neighbouring ones are alike.
MAX_SHIFTS = 999
FEWEST_BARS = 20
# Mean of the Kolmogorov distribution: sqrt(n) times the statistic of samples of one distribution, n = n1 n2 /
# (n1 + n2).
KOLMOGOROV_MEAN = 0.8687311606361592
OTHER_REGIMES, EARLIER = "other_regimes", "earlier_era"
SCHEMA = {
    "regime": pl.String(),
    "against": pl.String(),
    "rows": pl.Int64(),
    "bars": pl.Int64(),
    "mean": pl.Float64(),
    "deviation": pl.Float64(),
    "mean_against": pl.Float64(),
    "deviation_against": pl.Float64(),
    "ks": pl.Float64(),
    "ks_by_chance": pl.Float64(),
    "effective_rows": pl.Float64(),
    "p_value": pl.Float64(),
    "adjusted_p_value": pl.Float64(),
}


def label_shift_by_regime(
    labels: pl.DataFrame,
    regimes: pl.DataFrame,
    horizon: int,
    target: str,
    *,
    era_start: datetime | None = None,
) -> pl.DataFrame:
    """Labels of each regime against those of the other regimes and, with `era_start`, against those of the
    same regime before it.

    Parameters
    ----------
    labels : columns `timestamp`, `symbol`, `horizon` and `target`; rows without a label do not count
    regimes : `timestamp` and `regime_state` (code into REGIMES, null where unknown), one row a timestamp or
        the same for all its symbols
    era_start : first timestamp of the later era

    Returns
    -------
    One row a regime and comparison (`other_regimes`, `earlier_era`), regimes in the order of REGIMES. `ks` is
    the Kolmogorov-Smirnov statistic on BINS quantile bins. Labels of one bar and of neighbouring bars depend
    on each other, so no p-value is taken from their number: `p_value` is the share of shifts in time under
    which the statistic is as large (the regimes, or the border of the eras, are moved along the bars in a
    circle, the labels stay). `ks_by_chance` is the mean of these, `effective_rows` the number of independent
    rows on each side that would give as much by chance (for targets with many values). `adjusted_p_value`
    allows for all rows of the table (Benjamini and Hochberg 1995). The measures are null where one side has
    fewer than 20 bars.

    Raises
    ------
    ContractError
        Where the labels have no such target or horizon, or a bar has two regimes.
    """
    bars = _bars(labels, regimes, horizon, target)
    values, place = bars["label"].to_numpy(), bars["bar"].to_numpy()
    by_bar = bars.unique("bar", keep="first", maintain_order=True).sort("bar")
    codes = by_bar["regime_state"].fill_nan(None).fill_null(-1).to_numpy().astype(int)
    later = None if era_start is None else (by_bar["timestamp"] >= era_start).to_numpy()
    found = []
    for code, name in enumerate(REGIMES):
        inside = codes == code
        if not inside.any():
            continue
        found.append(_compared(name, OTHER_REGIMES, values, place, inside, codes >= 0))
        if later is not None:
            found.append(_compared(name, EARLIER, values, place, later, inside))
    return _adjusted(found)


def _adjusted(found: list[tuple]) -> pl.DataFrame:
    """The comparisons as a table, with p-values that allow for all of its rows; unknown measures are null."""
    table = pl.DataFrame(
        found, schema={key: kind for key, kind in SCHEMA.items() if key != "adjusted_p_value"}, orient="row"
    )
    adjusted = adjusted_p_values(table["p_value"].fill_null(np.nan).to_numpy()) if len(table) else []
    return table.with_columns(pl.Series("adjusted_p_value", adjusted, dtype=pl.Float64)).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )


def _bars(labels: pl.DataFrame, regimes: pl.DataFrame, horizon: int, target: str) -> pl.DataFrame:
    """Known labels in order of time, with the number of their bar and its regime."""
    if target not in labels.columns:
        raise ContractError(
            f"The labels hold no column {target!r} (found: {', '.join(labels.columns)}). Name one of these."
        )
    rows = labels.filter(pl.col("horizon") == horizon)
    if rows.is_empty():
        raise ContractError(
            f"The labels hold no rows of horizon {horizon} (found:"
            f" {', '.join(map(str, sorted(labels['horizon'].unique())))}). Name one of these."
        )
    states = regimes.select("timestamp", pl.col("regime_state").cast(pl.Float64)).unique()
    twice = states.filter(pl.col("timestamp").is_duplicated())
    if len(twice):
        raise ContractError(
            f"{twice['timestamp'][0]} has the regimes"
            f" {twice.filter(pl.col('timestamp') == twice['timestamp'][0])['regime_state'].to_list()}; a bar"
            " has one."
        )
    known = rows.select("timestamp", pl.col(target).cast(pl.Float64).alias("label")).filter(
        pl.col("label").is_finite()
    )
    return (
        known.join(states, on="timestamp", how="left", maintain_order="left")
        .sort("timestamp", maintain_order=True)
        .with_columns(pl.col("timestamp").rle_id().alias("bar"))
    )


def _compared(
    name: str, against: str, values: np.ndarray, place: np.ndarray, inside: np.ndarray, counted: np.ndarray
) -> tuple:
    """One row of the table: the labels of bars `inside` against those of the other bars, among the bars that
    are `counted`.
    """
    one, other = values[(counted & inside)[place]], values[(counted & ~inside)[place]]
    sizes = (int((counted & inside).sum()), int((counted & ~inside).sum()))
    plain = (name, against, len(one), sizes[0], *_moments(one), *_moments(other))
    if min(sizes) < FEWEST_BARS:
        return (*plain, None, None, None, None)
    number = np.cumsum(counted) - 1
    kept = counted[place]
    ks, by_chance, p_value = _shifted_ks(values[kept], number[place[kept]], inside[counted])
    return (*plain, ks, by_chance, 2 * (KOLMOGOROV_MEAN / by_chance) ** 2, p_value)


def _shifted_ks(values: np.ndarray, place: np.ndarray, inside: np.ndarray) -> tuple[float, float, float]:
    """The KS statistic between bars inside and outside, its mean over circular shifts of `inside` (bars,),
    and the share of them as large.
    """
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    width = len(edges) + 1
    counts = (
        np.bincount(
            place * width + np.searchsorted(edges, values, side="left"), minlength=len(inside) * width
        )
        .reshape(-1, width)
        .astype(float)
    )
    shifts = np.unique(np.linspace(0, len(inside), min(MAX_SHIFTS, len(inside)), endpoint=False).astype(int))
    members = inside[(np.arange(len(inside)) - shifts[:, None]) % len(inside)].astype(float)
    inner = np.cumsum(members @ counts, axis=1)
    outer = np.cumsum(counts.sum(axis=0)) - inner
    statistics = np.abs(inner / inner[:, -1:] - outer / outer[:, -1:]).max(axis=1)
    return (
        float(statistics[0]),
        float(statistics[1:].mean()),
        float((statistics >= statistics[0] - 1e-12).mean()),
    )


def _moments(values: np.ndarray) -> tuple[float | None, float | None]:
    return (float(values.mean()), float(values.std(ddof=1))) if len(values) > 1 else (None, None)
