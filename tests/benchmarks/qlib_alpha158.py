"""Qlib's own Alpha158 on a panel file, for `bench_alpha158.py`: runs in an interpreter that has Qlib and
imports nothing of this project.

`python qlib_alpha158.py PANEL OUT` reads symbol, event_time, open, high, low, close, volume and vwap from the
Parquet file PANEL, writes Qlib's factors to OUT/factors.parquet (symbol, day, one Float32 column a factor,
named as in Qlib) and OUT/figures.json (seconds of CPU and wall clock, rows, factors).
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

FIELDS = ("open", "high", "low", "close", "volume", "vwap")


def main(panel_path: str, out: str) -> None:
    """Write Qlib's data folder, run its handler on one process, and keep factors and figures."""
    panel = pd.read_parquet(panel_path)
    with tempfile.TemporaryDirectory() as folder:
        days = write_data(panel, Path(folder))
        import qlib
        from qlib.contrib.data.handler import Alpha158

        qlib.init(provider_uri=folder, region="us", kernels=1, expression_cache=None, dataset_cache=None)
        wall, cpu = time.perf_counter(), cpu_seconds()
        # Without processors: the factors and nothing else. Alpha158 adds one expression, its label.
        handler = Alpha158(
            instruments="all", start_time=days[0], end_time=days[-1], infer_processors=[], learn_processors=[]
        )
        factors = handler.fetch(col_set="feature")
        figures = {
            "cpu_s": cpu_seconds() - cpu,
            "wall_s": time.perf_counter() - wall,
            "rows": len(factors),
            "factors": factors.shape[1],
            "qlib": qlib.__version__,
        }
    factors = (
        factors.astype(np.float32).reset_index().rename(columns={"datetime": "day", "instrument": "symbol"})
    )
    Path(out).mkdir(parents=True, exist_ok=True)
    factors.to_parquet(Path(out) / "factors.parquet")
    (Path(out) / "figures.json").write_text(json.dumps(figures))


def cpu_seconds() -> float:
    """CPU time of this process and of those it has started and waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def write_data(panel: pd.DataFrame, folder: Path) -> pd.DatetimeIndex:
    """Calendar, instruments and one Float32 file a symbol and field, as Qlib's own dump writes them; days
    without a bar are NaN. Returns the days.
    """
    day = panel["event_time"].dt.tz_localize(None).dt.normalize()
    days = pd.DatetimeIndex(np.sort(day.unique()))
    place = np.searchsorted(days.to_numpy(), day.to_numpy())
    (folder / "calendars").mkdir()
    (folder / "calendars" / "day.txt").write_text("\n".join(days.strftime("%Y-%m-%d")))
    (folder / "instruments").mkdir()
    spans = []
    for symbol, rows in panel.groupby("symbol", sort=True).indices.items():
        first, last = place[rows].min(), place[rows].max()
        spans.append(f"{symbol}\t{days[first]:%Y-%m-%d}\t{days[last]:%Y-%m-%d}")
        home = folder / "features" / symbol.lower()
        home.mkdir(parents=True)
        for field in FIELDS:
            values = np.full(last - first + 2, np.nan, dtype="<f4")
            values[0] = first
            values[place[rows] - first + 1] = panel[field].to_numpy()[rows]
            values.tofile(home / f"{field}.day.bin")
    (folder / "instruments" / "all.txt").write_text("\n".join(spans))
    return days


if __name__ == "__main__":
    main(*sys.argv[1:])
