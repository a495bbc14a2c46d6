"""Seconds to join fundamentals, as known at each bar, to a panel of 1.3 million rows; in the same run pandas'
merge_asof and Polars' join_asof.

`python tests/benchmarks/bench_fusion.py` reads us_equity_daily and us_fundamentals_pit in the folder
ALPHALOOP_DATA, else makes tables of that size. Ours starts from the file's rows, refuses impossible ones,
keeps the newest period through amendments and re-publications column by column, counts ages and checks what
it joined; the two others get a frame from which impossible and older rows were taken beforehand, outside the
timing, and give whole rows.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import polars as pl

from components.fusion.config import TableSettings
from components.fusion.join import join_tables
from components.fusion.read import from_frame

COLUMNS = ("revenues", "net_income", "assets", "cur_assets", "cur_liab", "cash", "equity", "cash_flow_op")
TABLE = TableSettings(
    name="fundamentals",
    path="us_fundamentals_pit.parquet",
    observed="period_end",
    known="known_at",
    max_age_days=100_000,
    columns=[{"name": f"slow_{name}", "column": name} for name in COLUMNS],
)


def tables() -> tuple[pl.DataFrame, pl.DataFrame, str]:
    """Panel keys, fundamentals, and where they come from."""
    folder = Path(os.environ.get("ALPHALOOP_DATA", "data"))
    if (folder / "us_equity_daily.parquet").exists() and (folder / "us_fundamentals_pit.parquet").exists():
        panel = (
            pl.read_parquet(folder / "us_equity_daily.parquet", columns=["timestamp", "symbol"])
            .unique()
            .sort("timestamp", "symbol")
        )
        slow = pl.read_parquet(folder / "us_fundamentals_pit.parquet")
        source = "us_equity_daily and us_fundamentals_pit"
    else:
        rng = np.random.default_rng(1)
        days = pl.datetime_range(
            pl.datetime(2015, 1, 2),
            pl.datetime(2025, 7, 24),
            "1d",
            time_unit="us",
            time_zone="UTC",
            eager=True,
        ).alias("timestamp")
        days = days.filter(days.dt.weekday() <= 5).to_frame()
        symbols = pl.DataFrame({"symbol": [f"S{k:03d}" for k in range(480)]})
        panel = days.join(symbols, how="cross").sort("timestamp", "symbol")
        quarters = (
            pl.date_range(pl.date(2000, 3, 31), pl.date(2025, 6, 30), "3mo", eager=True)
            .alias("period_end")
            .to_frame()
        )
        slow = symbols.join(quarters, how="cross")
        lag = pl.Series(rng.integers(20, 90, len(slow)))
        slow = slow.with_columns(
            (pl.col("period_end").cast(pl.Datetime("us", "UTC")) + pl.duration(days=lag)).alias("known_at"),
            *(pl.Series(name, rng.normal(size=len(slow))) for name in COLUMNS),
        )
        source = "tables made for the purpose"
    closed = pl.col("timestamp").dt.offset_by("21h")
    return panel.with_columns(closed.alias("timestamp"), closed.alias("known_time")), slow, source


def newest_periods(slow: pl.DataFrame) -> pl.DataFrame:
    """What a user has to do by hand before a plain as-of join: impossible rows out, older periods out."""
    rows = (
        slow.filter(pl.col("known_at").dt.date() > pl.col("period_end"))
        .with_row_index("row")
        .sort("symbol", "known_at", "row")
    )
    rows = rows.filter(pl.col("period_end") == pl.col("period_end").cum_max().over("symbol"))
    return rows.select("symbol", "known_at", *COLUMNS).sort("known_at")


def timed(task, repeats: int) -> tuple[float, object]:
    """Least seconds, which other work on the machine disturbs least, and the last result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = task()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def main() -> None:
    """Print one line a way."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    panel, slow, source = tables()
    print(
        f"{len(panel):,} bars, {len(slow):,} slow rows, {len(COLUMNS)} columns, {source}; best of"
        f" {arguments.repeats}"
    )
    first, _ = timed(lambda: join_tables(panel, [from_frame(TABLE, slow)]), 1)
    ours, (fused, _) = timed(lambda: join_tables(panel, [from_frame(TABLE, slow)]), arguments.repeats)
    print(f"alphaloop fusion        {ours:6.2f} s ({first:.2f} s the first time in a process)")
    prepared = newest_periods(slow)
    left, right = panel.select("timestamp", "symbol", "known_time").to_pandas(), prepared.to_pandas()
    right["known_at"] = right["known_at"].astype(left["known_time"].dtype)
    pandas_s, merged = timed(
        lambda: pd.merge_asof(
            left.sort_values("known_time"), right, left_on="known_time", right_on="known_at", by="symbol"
        ),
        arguments.repeats,
    )
    print(f"pandas merge_asof       {pandas_s:6.2f} s, {pandas_s / ours:.1f} times ours")
    ordered, right_rows = panel.sort("known_time"), prepared.sort("known_at")
    polars_s, joined = timed(
        lambda: ordered.join_asof(
            right_rows, left_on="known_time", right_on="known_at", by="symbol", check_sortedness=False
        ),
        arguments.repeats,
    )
    print(f"Polars join_asof        {polars_s:6.2f} s, {polars_s / ours:.1f} times ours")
    by_pandas = (
        pl.from_pandas(merged[["timestamp", "symbol", *COLUMNS]])
        .with_columns(pl.col("timestamp").dt.cast_time_unit("us"))
        .sort("timestamp", "symbol")
    )
    by_polars = joined.select("timestamp", "symbol", *COLUMNS).sort("timestamp", "symbol")
    for name, other in (("pandas", by_pandas), ("Polars", by_polars)):
        same = [
            float((fused[f"slow_{column}"].eq_missing(other[column].fill_nan(None))).mean())
            for column in COLUMNS
        ]
        print(f"equal to ours, {name}: {min(same):.3%} of the rows of the column that differs most")


if __name__ == "__main__":
    main()
