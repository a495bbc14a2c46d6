"""An expert that looks back over the windows of a symbol alone, known by hand and made in no time."""

from pathlib import Path
from typing import Self

import polars as pl

from components.experts.protocol import Advance, Task
from components.scoring.form import Form, Unit, write_form
from components.settings import Section
from tests.scoring.made_graphs import window_graph

LOOKBACK, SCALE = 16, 0.01


class Settings(Section):
    """Nothing to set."""


class Expert:
    """score = SCALE * mean of the first input over the window."""

    lookback_bars = LOOKBACK

    def __init__(self, settings: Settings):
        self.columns: list[str] = []

    def fit(
        self, frame: pl.DataFrame, task: Task, *, advance: Advance, warm_start: Self | None = None
    ) -> None:
        self.columns = list(task.groups)

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        known = pl.col(self.columns[0]).cast(pl.Float64).fill_nan(None).fill_null(0.0)
        own = (known.rolling_sum(LOOKBACK, min_samples=1).over("symbol") / LOOKBACK).alias("own")
        rows = frame.with_columns(own).filter(pl.col("part") == "predict")
        unit = pl.max_horizontal(
            pl.col("volatility_20").cast(pl.Float64).fill_nan(None).fill_null(0.02), 0.001
        )
        raw = pl.col("own")
        numbers = {
            "score": SCALE * raw,
            "uncertainty": unit,
            "p10": (raw - 1) * unit,
            "p50": raw * unit,
            "p90": (raw + 1) * unit,
        }
        return rows.select("timestamp", "symbol", **numbers, head_scale=pl.lit(SCALE), head_bias=pl.lit(0.0))

    def save(self, folder: Path) -> None:
        (folder / "columns.txt").write_text("\n".join(self.columns))

    @classmethod
    def load(cls, folder: Path) -> Self:
        expert = cls(Settings())
        expert.columns = (folder / "columns.txt").read_text().split()
        return expert

    def export(self, folder: Path) -> None:
        form = Form(
            "window",
            tuple(self.columns),
            LOOKBACK,
            None,
            SCALE,
            0.0,
            Unit(0.02, 0.001),
            None,
            1.0,
            2.0,
        )
        write_form(folder, form, window_graph(LOOKBACK, len(self.columns)))
