"""Plants faults of the kinds that real data has into a clean panel, at rows that are written down."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from components.contracts import TIME

FAULTS_SCHEMA = {"symbol": pl.String(), "timestamp": TIME, "kind": pl.String()}
PRICES = ("open", "high", "low", "close")
GAP_BARS, STALE_BARS, DUPLICATE_ROWS = 6, 12, 3
SPLIT_RATIO, PRINT_RATIO, CURRENCY_RATIO = 4.0, 1.6, 17.3
UNFINISHED_VOLUME, UNFINISHED_RANGE = 0.1, 0.2


def plant_faults(
    panel: pl.DataFrame, kinds: Sequence[str], symbols_each: int, rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`panel` with faults, and the table of them: `symbol, timestamp, kind`.

    What is written down: of `duplicates` the repeated rows (the last of each symbol's three disagrees with
    its original), of `gaps` the missing bars, of `stale_prices` the bars that repeat the one before, of
    `unadjusted_split` and `currency_jump` the first bar on the new scale, of `bad_print` the bar, of
    `last_bar_not_final` the newest bar of every symbol. Each kind has symbols of its own as long as there are
    enough; faults lie in the middle of a symbol's bars.

    Parameters
    ----------
    panel : RAW_PANEL, sorted by (timestamp, symbol), one row a bar
    """
    values = {name: panel[name].to_numpy().copy() for name in (*PRICES, "volume")}
    rows_of = _rows_by_symbol(panel)
    usable = [rows for rows in rows_of if len(rows) >= 3 * STALE_BARS] or rows_of
    order = rng.permutation(len(usable))
    repeated, dropped, planted = [], [], []
    wanted = [kind for kind in kinds if kind != "last_bar_not_final"]
    for number, kind in enumerate(dict.fromkeys(wanted)):
        for turn in range(symbols_each):
            rows = usable[order[(number * symbols_each + turn) % len(usable)]]
            at = int(rng.integers(len(rows) // 3, max(len(rows) // 3 + 1, 2 * len(rows) // 3)))
            hit = _plant(kind, values, rows, at, rng)
            planted.append((kind, hit))
            dropped.extend(hit if kind == "gaps" else [])
            repeated.extend(hit if kind == "duplicates" else [])
    if "last_bar_not_final" in kinds:
        newest = np.flatnonzero((panel["timestamp"] == panel["timestamp"].max()).to_numpy())
        _unfinished(values, newest)
        planted.append(("last_bar_not_final", newest))
    faulty = panel.with_columns(pl.Series(name, column) for name, column in values.items())
    result = pl.concat([faulty, _copies(faulty, repeated)])
    kept = np.ones(len(result), dtype=bool)
    kept[np.array(dropped, dtype=int)] = False
    faults = pl.concat(
        [panel[hit].select("symbol", "timestamp", pl.lit(kind).alias("kind")) for kind, hit in planted]
    )
    return result.filter(pl.Series(kept)).sort("timestamp", "symbol", maintain_order=True), faults.sort(
        "kind", "symbol", "timestamp"
    )


def _rows_by_symbol(panel: pl.DataFrame) -> list[np.ndarray]:
    grouped = panel.with_row_index("row").group_by("symbol").agg(pl.col("row")).sort("symbol")
    return [rows.to_numpy().astype(int) for rows in grouped["row"]]


def _plant(
    kind: str, values: dict[str, np.ndarray], rows: np.ndarray, at: int, rng: np.random.Generator
) -> np.ndarray:
    """Change `values` in place and return the rows that the fault is written down for."""
    if kind == "duplicates":
        return np.sort(rng.choice(rows, size=min(DUPLICATE_ROWS, len(rows)), replace=False))
    if kind == "gaps":
        return rows[at : at + GAP_BARS]
    if kind == "stale_prices":
        hit = rows[at : at + STALE_BARS]
        for column in values.values():
            column[hit] = column[rows[at - 1]]
        return hit
    if kind == "bad_print":
        hit = rows[at]
        values["close"][hit] *= PRINT_RATIO
        values["high"][hit] = max(values["high"][hit], values["close"][hit])
        return rows[at : at + 1]
    ratio = 1 / SPLIT_RATIO if kind == "unadjusted_split" else CURRENCY_RATIO
    for name in PRICES:
        values[name][rows[at:]] *= ratio
    if kind == "unadjusted_split":
        values["volume"][rows[at:]] *= SPLIT_RATIO
    return rows[at : at + 1]


def _unfinished(values: dict[str, np.ndarray], rows: np.ndarray) -> None:
    """The bar as it was a short while after its open: a part of its volume and of its range."""
    for name in ("high", "low", "close"):
        values[name][rows] = (
            values["open"][rows] * (values[name][rows] / values["open"][rows]) ** UNFINISHED_RANGE
        )
    values["volume"][rows] = np.round(values["volume"][rows] * UNFINISHED_VOLUME)


def _copies(panel: pl.DataFrame, rows: list[int]) -> pl.DataFrame:
    """Copies of `rows`; each third one has another close."""
    copies = panel[rows]
    third = pl.int_range(pl.len()) % DUPLICATE_ROWS == DUPLICATE_ROWS - 1
    inside = (pl.col("low") + pl.col("high")) / 2
    return copies.with_columns(pl.when(third).then(inside).otherwise(pl.col("close")).alias("close"))
