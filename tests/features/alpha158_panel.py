"""The made-up panel on which Qlib's own Alpha158 was recorded in `alpha158_qlib.json`, and the recorder.

`ALPHALOOP_QLIB_PYTHON=... python -m tests.features.alpha158_panel` records anew; the variable names a Python
that has Qlib.
"""

import json
import os
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import PANEL, atomic_write_text, check_table

SEED, SYMBOLS, BARS = 158, 12, 120
GOLDEN = Path(__file__).with_name("alpha158_qlib.json")
QLIB_SCRIPT = Path(__file__).parents[1] / "benchmarks" / "qlib_alpha158.py"
# (symbol, bar): whole windows; after missing bars; after a bar without volume; the flat bar itself.
RECORDED = ((1, 119), (3, 90), (5, 72), (6, 64), (8, 101))
MISSING = ((3, 20), (3, 77), (8, 98), (10, 55))
NO_VOLUME, FLAT = (5, 70), (6, 64)


def made_up_panel() -> pl.DataFrame:
    """12 symbols x 120 daily bars in cents, so that there are ties; some bars are missing, one has no volume,
    one is flat. Exact in Float32, as Qlib keeps them.
    """
    rng = np.random.default_rng(SEED)
    shape = (SYMBOLS, BARS)
    close = 20 * np.exp(np.cumsum(0.015 * rng.standard_normal(shape), axis=1))
    opened = close * np.exp(0.006 * rng.standard_normal(shape))
    high = np.maximum(opened, close) * np.exp(np.abs(0.005 * rng.standard_normal(shape)))
    low = np.minimum(opened, close) * np.exp(-np.abs(0.005 * rng.standard_normal(shape)))
    volume = 100 * np.round(np.exp(8 + 0.6 * rng.standard_normal(shape)))
    volume[NO_VOLUME] = 0.0
    for prices in (opened, high, low):
        prices[FLAT] = close[FLAT]
    prices = {"open": opened, "high": high, "low": low, "close": close, "vwap": (high + low + close) / 3}
    symbol, bar = np.indices(shape)
    frame = pl.DataFrame(
        {
            "event_time": (np.datetime64("2021-01-01", "us") + bar * np.timedelta64(1, "D")).reshape(-1),
            "symbol": [f"S{number:02d}" for number in symbol.reshape(-1)],
            "volume": volume.reshape(-1),
            **{
                name: np.round(values, 2).astype(np.float32).astype(np.float64).reshape(-1)
                for name, values in prices.items()
            },
        }
    )
    there = np.ones(shape, dtype=bool)
    there[tuple(np.transpose(MISSING))] = False
    closed = pl.col("event_time") + timedelta(days=1)
    frame = frame.filter(there.reshape(-1)).with_columns(pl.col("event_time").dt.replace_time_zone("UTC"))
    return check_table(
        frame.with_columns(
            timestamp=closed, known_time=closed, period=pl.lit("1d"), sector=pl.lit("made up")
        ).sort("timestamp", "symbol"),
        PANEL,
    )


def qlib_factors(panel: pl.DataFrame, python: str) -> tuple[pl.DataFrame, dict]:
    """Qlib's Alpha158 of a panel, with `symbol` and `day`, and the figures of its run; `python` is an
    interpreter that has Qlib.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "panel.parquet"
        panel.select("symbol", "event_time", "open", "high", "low", "close", "volume", "vwap").write_parquet(
            path
        )
        subprocess.run(
            [python, str(QLIB_SCRIPT), str(path), folder],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return pl.read_parquet(Path(folder) / "factors.parquet"), json.loads(
            (Path(folder) / "figures.json").read_text()
        )


def main() -> None:
    """Write GOLDEN."""
    factors, figures = qlib_factors(made_up_panel(), os.environ["ALPHALOOP_QLIB_PYTHON"])
    names = [name for name in factors.columns if name not in ("symbol", "day")]
    rows = []
    for symbol, bar in RECORDED:
        found = (
            factors.filter(
                (pl.col("symbol") == f"S{symbol:02d}") & (pl.col("day").dt.ordinal_day() == bar + 1)
            )
            .select(names)
            .row(0)
        )
        values = {
            name: None if value is None or value != value else float(f"{value:.7g}")
            for name, value in zip(names, found, strict=True)
        }
        rows.append({"symbol": f"S{symbol:02d}", "bar": bar, "values": values})
    atomic_write_text(
        GOLDEN,
        json.dumps({"qlib": figures["qlib"], "seed": SEED, "rows": rows}, separators=(",", ":")).replace(
            '{"symbol"', '\n{"symbol"'
        )
        + "\n",
    )


if __name__ == "__main__":
    main()
