"""An expert for tests of search and ablation: its score is `direction` times the first input, and noise by
its seed; of classes it says chances that rise with the score. It fails where its settings say so.
"""

import json
import os
import signal
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field

from components.contracts.classes import class_values
from components.settings import Section


class Inner(Section):
    """A section, so that a setting has a dotted name."""

    noise: float = Field(0.0, ge=0)
    kind: str = "a"


class Settings(Section):
    """What the score is made of."""

    direction: float = Field(1.0, ge=-1, le=1)
    width: int = Field(4, ge=1)
    fails: bool = False
    dies_with: str = Field("", description="a file that kills who finds it, once")
    inner: Inner = Inner()


class Expert:
    """Learns nothing."""

    def __init__(self, settings):
        self.settings, self.seed, self.target = settings, 0, ""

    def fit(self, frame, task, *, advance, warm_start=None):
        self.seed, self.target = task.seed, task.target
        if self.settings.dies_with and Path(self.settings.dies_with).exists():
            Path(self.settings.dies_with).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.settings.fails:
            raise RuntimeError("was told to fail")

    def predict(self, frame):
        rows = frame.filter(pl.col("part") == "predict")
        noise = np.random.default_rng([self.seed, len(rows)]).standard_normal(len(rows))
        score = self.settings.direction * rows["trend_a"].cast(
            pl.Float64
        ) + self.settings.inner.noise * pl.Series(noise)
        found = rows.select("timestamp", "symbol").with_columns(score.alias("score"))
        if class_values(self.target):
            rise = 1 / (1 + np.exp(-4 * score.to_numpy()))
            found = found.with_columns(p_down=1 - rise, p_none=pl.lit(0.0), p_up=rise)
        return found.with_columns(
            uncertainty=pl.lit(1.0),
            p10=pl.col("score") - 1,
            p50=pl.col("score"),
            p90=pl.col("score") + 1,
            head_scale=pl.lit(1.0),
            head_bias=pl.lit(0.0),
        )

    def save(self, folder: Path):
        (folder / "seed.json").write_text(json.dumps(self.seed))

    @classmethod
    def load(cls, folder):
        expert = cls(Settings())
        expert.seed = json.loads((folder / "seed.json").read_text())
        return expert
