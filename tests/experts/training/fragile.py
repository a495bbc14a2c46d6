"""An expert for the trainer's tests: predicts the mean label, counts its fits, and fails where its settings
say so.
"""

import json
from pathlib import Path

import polars as pl

from components.settings import Section

FITS: list = []
FRAMES: list = []


class Settings(Section):
    """Which fit fails, counted from the first (0: none), and how."""

    lookback: int = 0
    harm: str = ""


# What is wrong with the probabilities of one row; None: a column is missing.
PROBABILITIES: dict = {
    "sound": {},
    "sum": {"p_up": 0.7},
    "not a number": {"p_up": float("nan")},
    "nothing": {"p_up": None},
    "negative": {"p_down": -0.2, "p_up": 1.2},
    "infinite": {"p_up": float("inf")},
    "a third class": {"p_down": 0.1, "p_none": 0.1},
    "two columns": None,
}
FAIL_AT: dict = {"fit": 0, "error": RuntimeError}


class Expert:
    """Score = mean train label + first input."""

    def __init__(self, settings):
        self.settings, self.lookback_bars, self.mean = settings, settings.lookback, 0.0

    def fit(self, frame, task, *, advance, warm_start=None):
        FITS.append(frame["timestamp"].max())
        FRAMES.append(frame)
        if len(FITS) == FAIL_AT["fit"]:
            raise FAIL_AT["error"]("out of luck")
        self.mean = frame.filter(pl.col("part") == "train")["label"].mean()
        advance(1.0, "done")

    def predict(self, frame):
        FRAMES.append(frame)
        rows = frame.filter(pl.col("part") == "predict")
        score = pl.col("trend_a").cast(pl.Float64) + self.mean
        found = rows.select("timestamp", "symbol", score.alias("score")).with_columns(
            uncertainty=pl.lit(1.0),
            p10=pl.col("score") - 1,
            p50=pl.col("score"),
            p90=pl.col("score") + 1,
            head_scale=pl.lit(1.0),
            head_bias=pl.lit(0.0),
        )
        if self.settings.harm in PROBABILITIES:
            harm = PROBABILITIES[self.settings.harm]
            if harm is None:
                return found.with_columns(p_down=pl.lit(0.5), p_up=pl.lit(0.5))
            third, sound = pl.int_range(pl.len()) == 2, {"p_down": 0.2, "p_none": 0.0, "p_up": 0.8}
            return found.with_columns(
                pl.when(third).then(pl.lit(harm.get(name, share))).otherwise(share).alias(name)
                for name, share in sound.items()
            )
        if self.settings.harm == "nan":
            return found.with_columns(score=pl.lit(float("nan")))
        return pl.concat([found, found.tail(1)]) if self.settings.harm == "duplicate" else found

    def save(self, folder: Path):
        (folder / "mean.json").write_text(json.dumps(self.mean))

    @classmethod
    def load(cls, folder):
        expert = cls(Settings())
        expert.mean = json.loads((folder / "mean.json").read_text())
        return expert
