"""The naive baseline that every expert must beat: the median of the training labels, with a band that follows
volatility; of a target of classes their frequencies.
"""

import json
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from components.contracts import atomic_write_text, require_json
from components.contracts.classes import class_values
from components.experts.bands import Bands, fit_bands
from components.experts.classes import ClassHead, class_frequencies, class_numbers, read_head
from components.experts.protocol import Advance, Task
from components.experts.rows import labelled, sample_weights, weighted_median
from components.scoring.form import write_form
from components.settings import Section


class Settings(Section):
    """The median has nothing to set."""


class Expert:
    """Predicts one number for all symbols and bars, or one probability of each class (`logits`)."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.columns: list[str] = []
        self.median: float | None = None
        self.logits: tuple[float, ...] = ()
        self.bands: Bands | ClassHead | None = None

    def fit(
        self, frame: pl.DataFrame, task: Task, *, advance: Advance, warm_start: Self | None = None
    ) -> None:
        """Median of the train labels, and the band from the early-stopping rows; or the frequencies of the
        train rows' classes as they are. A warm start changes nothing.
        """
        self.columns, values = list(task.groups), class_values(task.target)
        train = labelled(frame, "train")
        if values:
            frequency_C = class_frequencies(class_numbers(train, values), len(values), sample_weights(train))
            self.logits, self.bands = tuple(np.log(frequency_C).tolist()), ClassHead(values, 1.0)
            advance(1.0, "class frequencies " + ", ".join(f"{share:.3f}" for share in frequency_C))
            return
        weight = sample_weights(train)
        label = train["label"].cast(pl.Float64).to_numpy()
        self.median = weighted_median(label, np.ones(len(label)) if weight is None else weight)
        stopping = labelled(frame, "early_stopping")
        self.bands = fit_bands(
            stopping, np.full(len(stopping), self.median), horizon=task.horizon, calibrate=False
        )
        advance(1.0, f"median {self.median:.5f}")

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The same score everywhere; the band is as wide as the row's volatility says."""
        rows = frame.filter(pl.col("part") == "predict")
        raw = np.tile(self.logits, (len(rows), 1)) if self.logits else np.full(len(rows), self.median)
        return self.bands.predictions(rows, raw)

    def save(self, folder: Path) -> None:
        """Write `median.json`."""
        atomic_write_text(
            folder / "median.json",
            json.dumps(
                {
                    "columns": self.columns,
                    "median": self.median,
                    "logits": self.logits,
                    "bands": self.bands.to_dict(),
                },
                indent=1,
            ),
        )

    def export(self, folder: Path) -> None:
        """A constant."""
        write_form(folder, self.bands.served(self.columns, self.logits or self.median))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `median.json`."""
        values = require_json(folder / "median.json")
        expert = cls(Settings())
        expert.columns, expert.median, expert.bands = (
            values.get("columns", []),
            values["median"],
            read_head(values["bands"]),
        )
        expert.logits = tuple(values.get("logits", ()))
        return expert
