"""Group-wise PatchTST (E2): a patch transformer a factor group, a feature gate, a regime gate over groups, a CNN on raw bars.

Nie et al. 2023, "A Time Series is Worth 64 Words"; weights are shared among the channels of a group and nowhere else.
"""

import json
import math
import os
from pathlib import Path
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from components.contracts import REGIMES, VOLATILITY_COLUMN, atomic_path, atomic_write_text
from components.experts.bands import P10_TO_P90, SMALLEST_VOLATILITY, fit_bands
from components.experts.errors import ExpertError
from components.experts.patchtst_windows import Bars, Scalers, arrange, fit_scalers
from components.experts.protocol import PREDICTION_COLUMNS, Advance, Task
from components.experts.rows import labelled, rank_correlation, target
from components.scoring.form import Form, Unit, write_form
from components.settings import Section

RAW_GROUP = "bars"
REGIME_GROUP = "regime"
QUANTILE_CLIP = 6.0


class Settings(Section):
    """One leaf of the group-wise PatchTST. The defaults fit 1 M rows in less than a minute on two cores."""

    lookback_bars: int = Field(60, ge=4, description="Bars in a window, the predicted row's own included.")
    patch_bars: int = Field(12, ge=1, description="Bars in a patch.")
    stride_bars: int = Field(12, ge=1, description="Bars from one patch to the next.")
    channels: int = Field(2, ge=1, description="Channels that a group's gated inputs are mixed into.")
    width: int = Field(16, ge=2, description="Width of a patch in the encoder.")
    heads: int = Field(2, ge=1, description="Attention heads; divides width.")
    layers: int = Field(1, ge=1, description="Encoder layers.")
    feed_forward: int = Field(32, ge=2, description="Width of the encoder's feed-forward step.")
    embedding: int = Field(32, ge=2, description="Width of a group's embedding and of the raw branch's.")
    convolution: int = Field(16, ge=1, description="Width of the CNN over raw bars.")
    dropout: float = Field(0.1, ge=0, lt=1)
    loss: Literal["correlation", "huber"] = Field("correlation", description="Of the score: 1 - correlation with the day's standardised label, or Huber.")
    pinball_weight: float = Field(0.5, ge=0, description="Weight of the quantiles' pinball loss beside the score's.")
    batch: Literal["rows", "days"] = Field("rows", description="Batches of random rows, or of whole timestamps (correlation within them).")
    batch_windows: int = Field(512, ge=2)
    predict_windows: int = Field(1024, ge=1, description="Windows a prediction batch.")
    max_train_windows: int = Field(50_000, ge=1, description="Windows drawn an epoch, anew each time.")
    max_monitor_windows: int = Field(15_000, ge=1, description="Early-stopping rows that are looked at, in whole timestamps.")
    epochs: int = Field(4, ge=1)
    patience_epochs: int = Field(2, ge=0, description="Epochs without a better rank IC before training stops.")
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warm_up_share: float = Field(0.1, ge=0, le=1, description="Share of the steps in which the learning rate rises.")
    clip_norm: float = Field(1.0, gt=0)
    gate_l1: float = Field(1e-4, ge=0, description="Weight of the sum of |W| of the feature gate.")
    gate_cost: float = Field(2e-4, ge=0, description="Weight of the gates' mean openings, summed; closes gates of inputs that do not pay.")

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width={self.width} can't be split among heads={self.heads}; set width to a multiple of heads")
        if self.patch_bars > self.lookback_bars:
            raise ValueError(f"patch_bars={self.patch_bars} is longer than lookback_bars={self.lookback_bars}; set patch_bars to {self.lookback_bars} or less")
        return self


class Expert:
    """The group-wise PatchTST behind the experts' protocol. `lookback_bars` is the history that it needs before a predicted row."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.lookback_bars = settings.lookback_bars - 1
        self.task: Task | None = None
        self.scalers: Scalers | None = None
        self.network = None
        self.head = {"scale": 1.0, "bias": 0.0, "width": 1.0}
        self.evidence: dict = {}

    def fit(self, frame: pl.DataFrame, task: Task, *, advance: Advance, warm_start: Self | None = None) -> None:
        """Learn from the labelled `train` rows; the `early_stopping` rows choose the epoch and scale score and bands.

        Raises
        ------
        ExpertError
            If no train row or no early-stopping row has a label, or there is no input at all.
        """
        _let_idle_threads_sleep()
        from components.experts import patchtst_training as training
        from components.experts.patchtst_network import GroupwisePatchTST

        if not task.groups:
            raise ExpertError("patchtst got no input column. Switch on at least one group in features.groups.")
        known = frame.select("timestamp", "symbol", "part", "label", VOLATILITY_COLUMN)
        train_rows, stopping_rows = labelled(known, "train"), labelled(known, "early_stopping")
        self.task, self.scalers = task, fit_scalers(frame, task.groups)
        bars = arrange(frame, task.groups, self.scalers)
        rows, watched = bars.rows("train", labelled=True), bars.rows("early_stopping", labelled=True)
        watched, judged = _whole_days(bars.day_N[watched], watched, stopping_rows, self.settings.max_monitor_windows, task.seed)
        with training.reproducible(task.seed, task.threads) as device:
            network = GroupwisePatchTST(self._sizes())
            _take_weights(network, warm_start)
            self.network = network.to(device)
            panel = training.Panel(bars, self._columns(), self.settings.lookback_bars, device)
            targets = self._targets(bars, rows, target(train_rows, "cross_sectional_zscore"))
            history = training.train(self.network, panel, targets, rows, self._monitor(panel, watched, judged), self._recipe(), task.seed, advance)
            score, quantiles, weights = training.predict(self.network, panel, watched, self.settings.predict_windows)
            openings = training.gate_activation(self.network, panel, watched) if self.network.sizes.groups else np.zeros(0)
        head = fit_bands(judged, score, horizon=task.horizon)
        self.head = {"scale": head.head_scale, "bias": head.head_bias, "width": self._band_width(bars, watched, quantiles)}
        self.evidence = self._explain(openings, weights, bars.regime_N[watched], history)
        advance(1.0, "fitted")

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """PREDICTION_COLUMNS for the `predict` rows in their order; score and quantiles in return units of the label."""
        _let_idle_threads_sleep()
        from components.experts import patchtst_training as training

        if self.network is None:
            raise ExpertError("patchtst was asked to predict before it was fitted. Call fit or load first.")
        bars = arrange(frame, self.task.groups, self.scalers)
        rows = bars.rows("predict")
        with training.reproducible(self.task.seed, self.task.threads) as device:
            panel = training.Panel(bars, self._columns(), self.settings.lookback_bars, device)
            score, quantiles, _ = training.predict(self.network.to(device), panel, rows, self.settings.predict_windows)
        unit = bars.volatility_N[rows] * math.sqrt(self.task.horizon)
        bands = self._bands(quantiles, unit)
        return (
            frame[bars.frame_row_N[rows]]
            .select(
                "timestamp",
                "symbol",
                pl.Series("score", self.head["scale"] * score + self.head["bias"]),
                pl.Series("uncertainty", (bands[:, 2] - bands[:, 0]) / P10_TO_P90),
                pl.Series("p10", bands[:, 0]),
                pl.Series("p50", bands[:, 1]),
                pl.Series("p90", bands[:, 2]),
                pl.lit(self.head["scale"], pl.Float64).alias("head_scale"),
                pl.lit(self.head["bias"], pl.Float64).alias("head_bias"),
            )
            .select(PREDICTION_COLUMNS)
        )

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors`, `expert.json` (settings, task, scalers, head) and `explain.json`."""
        from safetensors.torch import save_file

        folder = Path(folder)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        with atomic_path(folder / "weights.safetensors") as path:
            save_file(weights, path)
        task = {**vars(self.task), "groups": dict(self.task.groups)}
        values = {"settings": self.settings.model_dump(mode="json"), "task": task, "scalers": vars(self.scalers), "head": self.head}
        atomic_write_text(folder / "expert.json", json.dumps(values, indent=1))
        atomic_write_text(folder / "explain.json", json.dumps(self.evidence, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The expert as saved; ExpertError where a file is missing or not of this form."""
        _let_idle_threads_sleep()
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from components.experts.patchtst_network import GroupwisePatchTST

        folder = Path(folder)
        try:
            values = json.loads((folder / "expert.json").read_text(encoding="utf-8"))
            expert = cls(Settings.model_validate(values["settings"]))
            expert.task = Task(**values["task"])
            expert.scalers = Scalers(**{name: tuple(value) if isinstance(value, list) else value for name, value in values["scalers"].items()})
            expert.head = values["head"]
            expert.evidence = json.loads((folder / "explain.json").read_text(encoding="utf-8"))
            expert.network = GroupwisePatchTST(expert._sizes()).eval()
            expert.network.load_state_dict(load_file(folder / "weights.safetensors"))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ExpertError(f"{folder} does not hold a saved patchtst expert ({error}). Train it again.") from error
        return expert

    def export(self, folder: Path) -> None:
        """Scalers and network as one graph over windows of raw inputs."""
        from components.experts.patchtst_export import window_graph

        unit = Unit(self.scalers.volatility, SMALLEST_VOLATILITY * self.scalers.volatility, math.sqrt(self.task.horizon))
        head = (self.head["scale"], self.head["bias"], unit, None, self.head["width"], P10_TO_P90)
        graph = window_graph(self.network, self.scalers, self._columns(), self.settings.lookback_bars)
        write_form(folder, Form("window", tuple(self.task.groups), self.settings.lookback_bars, None, *head), graph)

    def explain(self) -> dict:
        """Mean opening of each input's gate, mean weight of each group in each regime, and the course of training."""
        return self.evidence

    def _factor_groups(self) -> list[str]:
        return list(dict.fromkeys(group for group in self.task.groups.values() if group != RAW_GROUP))

    def _columns(self):
        from components.experts.patchtst_training import Columns

        numbered = list(enumerate(self.task.groups.values()))
        return Columns(
            factors=tuple(i for i, group in numbered if group != RAW_GROUP),
            raw=tuple(i for i, group in numbered if group == RAW_GROUP),
            regime=tuple(i for i, group in numbered if group == REGIME_GROUP),
        )

    def _sizes(self):
        from components.experts.patchtst_network import Sizes

        names, columns, s = self._factor_groups(), self._columns(), self.settings
        return Sizes(
            group_of_input=tuple(names.index(group) for group in self.task.groups.values() if group != RAW_GROUP),
            groups=len(names),
            raw_channels=len(columns.raw),
            regime_inputs=len(columns.regime) + len(REGIMES),
            lookback=s.lookback_bars,
            patch=s.patch_bars,
            stride=s.stride_bars,
            channels=s.channels,
            width=s.width,
            heads=s.heads,
            layers=s.layers,
            feed_forward=s.feed_forward,
            embedding=s.embedding,
            convolution=s.convolution,
            dropout=s.dropout,
        )

    def _recipe(self):
        from dataclasses import fields

        from components.experts.patchtst_training import Recipe

        return Recipe(**{field.name: getattr(self.settings, field.name) for field in fields(Recipe)})

    def _targets(self, bars: Bars, rows: np.ndarray, standardised: np.ndarray):
        from components.experts.patchtst_training import Targets

        score, quantile = (np.full(len(bars.label_N), np.nan) for _ in range(2))
        score[rows] = standardised
        unit = bars.volatility_N[rows] * math.sqrt(self.task.horizon)
        quantile[rows] = np.clip(bars.label_N[rows] / unit, -QUANTILE_CLIP, QUANTILE_CLIP)
        return Targets(score, quantile)

    def _monitor(self, panel, watched: np.ndarray, judged: pl.DataFrame):
        """A function that gives the mean rank IC over the watched early-stopping rows."""
        from components.experts import patchtst_training as training

        label = judged["label"].cast(pl.Float64).to_numpy()

        def rank_ic() -> float:
            score, _, _ = training.predict(self.network, panel, watched, self.settings.predict_windows)
            return rank_correlation(judged["timestamp"], score, label)

        return rank_ic

    def _band_width(self, bars: Bars, rows: np.ndarray, quantiles: np.ndarray) -> float:
        """Factor, in [0.2, 5], on the distance of p10 and p90 from p50 that puts 80 % of the labels of `rows` inside."""
        unit = bars.volatility_N[rows] * math.sqrt(self.task.horizon)
        error = bars.label_N[rows] / unit - quantiles[:, 1]
        half = np.where(error > 0, quantiles[:, 2] - quantiles[:, 1], quantiles[:, 1] - quantiles[:, 0])
        return float(np.clip(np.quantile(np.abs(error) / np.maximum(half, 1e-6), 0.8), 0.2, 5.0))

    def _bands(self, quantiles: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """Quantiles [B, 3] in return units, in order also after rounding."""
        middle = quantiles[:, 1:2]
        bands = (middle + self.head["width"] * (quantiles - middle)) * unit[:, None]
        return np.maximum.accumulate(bands, axis=1)

    def _explain(self, openings: np.ndarray, weights: np.ndarray, regime: np.ndarray, history: list[dict[str, float]]) -> dict:
        names = self._factor_groups()
        inputs = [(name, group) for name, group in self.task.groups.items() if group != RAW_GROUP]
        present = [(code, name) for code, name in [*enumerate(REGIMES), (-1, "unknown")] if (regime == code).any()]
        return {
            "feature_gate": [{"input": name, "group": group, "opening": float(value)} for (name, group), value in zip(inputs, openings, strict=True)],
            "regime_gate": {
                regime_name: {"rows": int((regime == code).sum()), **dict(zip(names, weights[regime == code].mean(axis=0).tolist(), strict=True))} for code, regime_name in present
            },
            "training": history,
        }


def _let_idle_threads_sleep() -> None:
    """Before torch is first imported: OpenMP threads that spin while they wait make a fit several times slower when others need the cores."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _whole_days(day: np.ndarray, numbers: np.ndarray, rows: pl.DataFrame, most: int, seed: int) -> tuple[np.ndarray, pl.DataFrame]:
    """Row numbers and rows of seeded whole timestamps, about `most` of them, in their order; all where they are no more than that."""
    if len(rows) <= most:
        return numbers, rows
    days, count = np.unique(day, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(days))
    kept = days[order][: max(1, int(np.searchsorted(np.cumsum(count[order]), most, side="right")))]
    chosen = np.isin(day, kept)
    return numbers[chosen], rows.filter(pl.Series(chosen))


def _take_weights(network, warm_start: "Expert | None") -> None:
    """Copy weights of an earlier fit where names and shapes agree."""
    if warm_start is None or warm_start.network is None:
        return
    own = network.state_dict()
    network.load_state_dict({**own, **{name: w for name, w in warm_start.network.state_dict().items() if name in own and own[name].shape == w.shape}})
