"""An expert whose score of a symbol depends on all others of its bar and on its sector's code: known by hand,
so that a subset scored as a market shows.
"""

from pathlib import Path
from typing import Self

import polars as pl

from components.contracts import SECTOR_COLUMN
from components.experts.protocol import Advance, Task
from components.scoring.form import Form, Unit, write_form
from components.settings import Section
from tests.scoring.made_graphs import OTHERS, window_graph

LOOKBACK, SCALE, SECTOR = 4, 0.01, 2e-7


class Settings(Section):
    """Nothing to set."""


class Expert:
    """score = SCALE * (own mean of the first input over the window, less half of the bar's mean of it, plus
    the sector's code times SECTOR).
    """

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
        raw = (
            pl.col("own")
            - OTHERS * pl.col("own").mean().over("timestamp")
            + SECTOR * pl.col(SECTOR_COLUMN).cast(pl.Float64).fill_null(0.0)
        )
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
        graph = window_graph(LOOKBACK, len(self.columns), market=True, context=1, sector=SECTOR)
        write_form(
            folder,
            Form(
                "market",
                tuple(self.columns),
                LOOKBACK,
                None,
                SCALE,
                0.0,
                Unit(0.02, 0.001),
                None,
                1.0,
                2.0,
                (SECTOR_COLUMN,),
            ),
            graph,
        )
