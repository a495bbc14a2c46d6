"""Factors that rank the symbols of a bar as a label does: they hold the future, or are a copy of the
label.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from components.audit.columns import Table, in_blocks, names_of
from components.audit.result import Leak, merge_leaks
from components.timeline import bar_index

JOIN_BARS = 120
MIN_SYMBOLS = 5
MIN_EFFECTIVE_ROWS = 100
# Before the names of labels beside factors, which may have the same.
LABEL = "__label_"
# Mean rank correlation within bars between a factor and a label above which the factor must hold the
# future.
TOO_GOOD_RANK_CORRELATION = 0.5


def too_good(factors: Table, labels: Table, columns: list[str]) -> list[Leak]:
    """Factors that rank the symbols of a bar as a label does: mean rank correlation over up to 120 bars
    beyond the limit.

    Judged only where enough independent values stand behind the mean: 5 symbols a bar, and at least 100 of
    symbols times bars after allowing for overlapping labels.
    """
    known = labels.lazy().filter(pl.col("log_return").is_not_null())
    times = known.select(pl.col("timestamp").unique().sort()).collect().to_series()
    if times.is_empty() or not columns:
        return []
    positions = np.unique(np.linspace(0, len(times) - 1, min(JOIN_BARS, len(times))).astype(int))
    chosen = times.gather(positions)
    spacing = len(times) / len(chosen)
    at_chosen = pl.col("timestamp").is_in(chosen.implode())
    names = names_of(labels)
    targets = [name for name in ("log_return", "sector_neutral_return") if name in names]
    judged = labels.lazy().filter(at_chosen).select("timestamp", "symbol", "horizon", *targets).collect()
    parts = judged.rename({name: LABEL + name for name in targets}).partition_by(
        "horizon", maintain_order=True
    )
    found: dict[tuple[int, str], list[Leak]] = {}
    for block in in_blocks(columns):
        inputs = factors.lazy().filter(at_chosen).select("timestamp", "symbol", *block).collect()
        ranks = inputs.with_columns(pl.col(block).fill_nan(None).rank().over("timestamp"))
        for part in parts:
            horizon = part["horizon"][0]
            joined = ranks.join(
                part.drop("horizon"), on=["timestamp", "symbol"], how="inner", maintain_order="left"
            )
            for target in targets:
                label = joined.select(pl.col(LABEL + target).rank().over("timestamp")).to_series().to_numpy()
                name, independent = f"{target} over {horizon} bars", min(1.0, spacing / int(horizon))
                leaks = found.setdefault((horizon, target), [])
                leaks += _copies(joined, label, block, name, independent)
    return merge_leaks(leak for leaks in found.values() for leak in leaks)


def _copies(
    joined: pl.DataFrame,
    label: np.ndarray,
    columns: Sequence[str],
    name: str,
    independent: float,
) -> Iterator[Leak]:
    calendar, bars = bar_index(joined["timestamp"])
    for column in columns:
        found, members = _rank_correlation(joined[column].to_numpy(), label, bars, len(calendar))
        usable = np.isfinite(found) & (members >= MIN_SYMBOLS)
        if (members[usable] - 1).sum() * independent < MIN_EFFECTIVE_ROWS:
            continue
        mean = float(found[usable].mean())
        if abs(mean) > TOO_GOOD_RANK_CORRELATION:
            detail = (
                f"Its rank correlation with {name} is {mean:.2f}; more than"
                f" {TOO_GOOD_RANK_CORRELATION:g} is too good to be true"
            )
            yield Leak(
                "too_good",
                column,
                timestamp=calendar[int(np.flatnonzero(usable)[0])],
                rows=int(members[usable].sum()),
                absolute=abs(mean),
                detail=detail,
            )


def _rank_correlation(
    x: np.ndarray, y: np.ndarray, bars: np.ndarray, n_bars: int
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of ranks within each bar (NaN where one does not vary) and the number of
    symbols with both.
    """
    both = np.isfinite(x) & np.isfinite(y)
    x, y, bars = x[both], y[both], bars[both]
    members = np.bincount(bars, minlength=n_bars)
    with np.errstate(all="ignore"):
        x = x - (np.bincount(bars, x, n_bars) / members)[bars]
        y = y - (np.bincount(bars, y, n_bars) / members)[bars]
        spread = np.sqrt(np.bincount(bars, x * x, n_bars) * np.bincount(bars, y * y, n_bars))
        return np.where(spread > 0, np.bincount(bars, x * y, n_bars) / spread, np.nan), members
