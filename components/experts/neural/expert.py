"""The expert around a network: from a frame to a fitted model with its head and bands, and back from disk.

Shapes: N rows, T tasks, B predicted rows.
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from components.contracts import REGIMES, VOLATILITY_COLUMN, ContractError, atomic_path, atomic_write_text
from components.contracts.documents.experts import EXPLAIN, Explanation, TaskRank, Weights
from components.experts.bands import P10_TO_P90, SMALLEST_VOLATILITY, fit_bands
from components.experts.errors import ExpertError
from components.experts.neural.config import Monitor, Neural
from components.experts.neural.family import Family
from components.experts.protocol import PREDICTION_COLUMNS, Advance, Task
from components.experts.rows import labelled, rank_correlation, target
from components.scoring.form import Form, Unit, write_form

WEIGHTS, EXPERT = "weights.safetensors", "expert.json"
# Shares of the progress that pretraining, the student and the bands take, where they are on.
PRETRAINING_SHARE, STUDENT_SHARE, BANDS_SHARE = 0.3, 0.2, 0.1
LEAST_WIDTH, MOST_WIDTH = 0.2, 5.0


class NeuralFamily:
    """What a module of a neural expert names `Expert`: called with settings it gives an expert, `load` gives
    one from disk.
    """

    def __init__(self, family: Family):
        self.family, self.whole_groups = family, family.whole_groups

    def __call__(self, settings: Neural) -> "NeuralExpert":
        return NeuralExpert(self.family, settings)

    def load(self, folder: Path) -> "NeuralExpert":
        """The expert as saved; ExpertError where a file is missing or not of this form."""
        return NeuralExpert.load_as(self.family, folder)


class NeuralExpert:
    """A network behind the experts' protocol.

    `lookback_bars` is the history that it needs before a predicted row.
    """

    def __init__(self, family: Family, settings: Neural):
        _let_idle_threads_sleep()
        self.family, self.settings = family, settings
        self.lookback_bars = settings.lookback_bars - 1
        self.task: Task | None = None
        self.scalers = self.codes = self.model = None
        self.trading_days = 7
        self.head = {"scale": 1.0, "bias": 0.0, "width": 1.0}
        self.evidence: Explanation | None = None

    def fit(
        self, frame: pl.DataFrame, task: Task, *, advance: Advance, warm_start: Self | None = None
    ) -> None:
        """Learn from the labelled `train` rows; the `early_stopping` rows choose the epoch and scale score
        and bands.

        Raises
        ------
        ExpertError
            If no train row or no early-stopping row has a label, there is no input at all, or the loss stops
            being a number.
        """
        from components.experts.neural import arrays, engine, panel
        from components.experts.neural.supervised import Supervised
        from components.experts.neural.targets import make_targets

        if not task.groups:
            raise ExpertError(
                f"{self.family.name} got no input column. Switch on at least one group in features.groups."
            )
        training, losses = self.settings.training, self.settings.losses
        labelled(frame.select("timestamp", "symbol", "part", "label"), "train")
        stopping = labelled(
            frame.select("timestamp", "symbol", "part", "label", VOLATILITY_COLUMN), "early_stopping"
        )
        self.task, self.scalers, self.codes = (
            task,
            arrays.fit_scalers(frame, task.groups),
            arrays.fit_codes(frame),
        )
        self.trading_days = _trading_days(frame)
        bars = arrays.arrange(frame, task.groups, self.scalers, self.codes)
        rows = self._whole(bars, bars.rows("train"), bars.rows("train", labelled=True))
        watched, judged = _whole_days(
            bars,
            bars.rows("early_stopping", labelled=True),
            stopping,
            training.max_monitor_windows,
            task.seed,
        )
        on = (
            bool(self.settings.pretraining.epochs),
            bool(self.settings.continual.student_bars),
            bool(training.band_epochs),
        )
        steps = _Progress(
            advance,
            *(
                share * wanted
                for share, wanted in zip((PRETRAINING_SHARE, STUDENT_SHARE, BANDS_SHARE), on, strict=True)
            ),
        )
        history = {}
        with engine.reproducible(task.seed, task.threads, training.deterministic) as device:
            self.model = self._build(self.layout).to(device)
            _take_weights(self.model, self.codes, warm_start)
            windows = panel.Panel(
                bars,
                lookback=self.settings.lookback_bars,
                device=device,
                whole_days=self.family.whole_days or training.batch == "days",
            )
            if self.settings.pretraining.epochs:
                history["pretraining"] = self._pretrain(windows, bars.rows("train"), steps.pretraining)
            targets = make_targets(
                bars,
                rows,
                losses,
                self.settings.regularisation,
                [task.horizon, *(horizon for _, horizon in task.also)],
            )
            monitor = self._monitor(windows, watched, judged)
            history["training"] = self._learn(
                windows,
                rows,
                Supervised(targets, losses, self.settings.regularisation, device),
                monitor,
                steps.training,
            )
            if self.settings.continual.student_bars:
                history["student"] = self._teach(windows, rows, targets, monitor, steps.student)
            self._scale_masks(windows, watched)
            if training.band_epochs:
                history["bands"] = self._train_bands(windows, rows, watched, targets, steps.bands)
            found, explained = (
                self._predicted(windows, watched),
                self._predicted(windows, watched, explain=True),
            )
        head = fit_bands(judged, found.score_NT[:, 0], horizon=task.horizon)
        self.head = {
            "scale": head.head_scale,
            "bias": head.head_bias,
            "width": self._band_width(bars, watched, found.quantiles_NT3[:, 0]),
        }
        rows_R, names = explained.regime_rows, [*REGIMES, "unknown"]
        self.evidence = Explanation(
            weights=self._weights(explained),
            rows={names[code]: int(rows_R[code]) for code in np.flatnonzero(rows_R)},
            tasks=self._further(bars, watched, found),
            parameters=sum(w.numel() for w in self.model.parameters()),
            **history,
        )
        advance(1.0, "fitted")

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """PREDICTION_COLUMNS for the `predict` rows in their order; score and quantiles in return units of
        the label.
        """
        from components.experts.neural import arrays, engine, panel

        if self.model is None:
            raise ExpertError(
                f"{self.family.name} was asked to predict before it was fitted. Call fit or load first."
            )
        bars = arrays.arrange(frame, self.task.groups, self.scalers, self.codes)
        rows = bars.rows("predict")
        with engine.reproducible(
            self.task.seed, self.task.threads, self.settings.training.deterministic
        ) as device:
            self.model.to(device)
            found = self._predicted(
                panel.Panel(
                    bars,
                    lookback=self.settings.lookback_bars,
                    device=device,
                    whole_days=self.family.whole_days,
                ),
                rows,
            )
        bands = self._bands(found.quantiles_NT3[:, 0], bars.volatility_N[rows] * math.sqrt(self.task.horizon))
        return (
            frame[bars.frame_row_N[rows]]
            .select(
                "timestamp",
                "symbol",
                pl.Series("score", self.head["scale"] * found.score_NT[:, 0] + self.head["bias"]),
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
        """Write weights.safetensors, expert.json (settings, task, scalers, codes, head) and explain.json."""
        from safetensors.torch import save_file

        folder = Path(folder)
        with atomic_path(folder / WEIGHTS) as path:
            save_file(
                {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()},
                path,
            )
        task = {
            name: getattr(self.task, name)
            for name in ("period", "horizon", "target", "seed", "threads", "also")
        }
        values = {
            "expert": self.family.name,
            "settings": self.settings.model_dump(mode="json"),
            "task": {**task, "groups": dict(self.task.groups)},
            "scalers": vars(self.scalers),
            "codes": vars(self.codes),
            "trading_days": self.trading_days,
            "head": self.head,
        }
        atomic_write_text(folder / EXPERT, json.dumps(values, indent=1))
        self.evidence.write(folder / EXPLAIN)

    @classmethod
    def load_as(cls, family: Family, folder: Path) -> Self:
        """The expert of a family as saved; ExpertError where a file is missing or not of this form."""
        _let_idle_threads_sleep()
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from components.experts.neural.arrays import Codes, Scalers

        folder = Path(folder)
        try:
            values = json.loads((folder / EXPERT).read_text(encoding="utf-8"))
            expert = cls(family, family.settings.model_validate(values["settings"]))
            expert.task = Task(
                **{
                    **values["task"],
                    "also": tuple((name, horizon) for name, horizon in values["task"]["also"]),
                }
            )
            expert.scalers, expert.codes = (
                kind(**_tuples(values[name])) for kind, name in ((Scalers, "scalers"), (Codes, "codes"))
            )
            expert.trading_days, expert.head = values["trading_days"], values["head"]
            expert.evidence = Explanation.read(folder / EXPLAIN)
            expert.model = expert._build(expert.layout).eval()
            expert.model.load_state_dict(load_file(folder / WEIGHTS))
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RuntimeError,
            SafetensorError,
            ContractError,
        ) as error:
            raise ExpertError(
                f"{folder} does not hold a saved {family.name} expert ({error}). Train it again."
            ) from error
        return expert

    def export(self, folder: Path) -> None:
        """Scalers and model as one graph over windows of raw inputs."""
        from components.experts.neural.export import CONTEXT, window_graph

        unit = Unit(
            self.scalers.volatility,
            SMALLEST_VOLATILITY * self.scalers.volatility,
            math.sqrt(self.task.horizon),
        )
        context = CONTEXT if self.codes.sectors or self.codes.industries else ()
        graph = window_graph(self.model, self.scalers, self.codes, self.settings.lookback_bars)
        kind = "market" if self.family.whole_days else "window"
        form = Form(
            kind,
            tuple(self.task.groups),
            self.settings.lookback_bars,
            None,
            self.head["scale"],
            self.head["bias"],
            unit,
            None,
            self.head["width"],
            P10_TO_P90,
            context=context,
        )
        write_form(folder, form, graph)

    def explain(self) -> Explanation:
        """Mean weights of what the network lets through, overall and by regime, rank correlations of further
        tasks, and the course of training.
        """
        return self.evidence

    @property
    def layout(self) -> Any:
        """What stands in the windows of this fit."""
        from components.experts.neural.batch import Layout

        return Layout(
            inputs=self.task.groups,
            means=self.scalers.mean,
            deviations=self.scalers.deviation,
            lookback=self.settings.lookback_bars,
            regimes=len(REGIMES),
            tasks=((self.task.target, self.task.horizon), *self.task.also),
            sectors=len(self.codes.sectors),
            industries=len(self.codes.industries),
            trading_days=self.trading_days,
            period=self.task.period,
        )

    def _build(self, layout: Any) -> Any:
        from components.experts.neural.heads import ForecastModel

        settings = self.settings
        masks, rate = settings.dropout_sampling.masks, settings.dropout_sampling.rate
        network = self.family.build(settings, layout)
        return ForecastModel(
            network,
            len(layout.tasks),
            direction=settings.losses.focal > 0,
            dropout=settings.regularisation.dropout,
            masks=masks,
            mask_rate=rate,
            band_inputs=len(layout.inputs) * bool(settings.training.band_epochs),
        )

    def _whole(self, bars: Any, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The rows to learn from: the labelled ones, or every row of their days where the network looks
        across symbols.
        """
        return (
            rows[np.isin(bars.day_N[rows], np.unique(bars.day_N[known]))] if self.family.whole_days else known
        )

    def _learn(
        self, windows: Any, rows: np.ndarray, objective: Any, monitor: Callable[[], float], advance: Advance
    ) -> list[dict[str, float]]:
        from components.experts.neural.engine import Job, Keep, Watch, train
        from components.experts.neural.track import Tracker

        task = self.task
        parameters = {
            "expert": self.family.name,
            "seed": task.seed,
            "target": task.target,
            "horizon": task.horizon,
        }
        with Tracker(task.tracking, task.name or self.family.name, parameters) as tracker:
            return train(
                Job(self.model, objective, windows, rows, task.seed, self._day_batches),
                self.settings.training,
                self.settings.optimiser,
                Watch(advance, monitor, tracker.log if task.tracking else None),
                Keep(task.checkpoints / "training" if task.checkpoints else None, task.key),
            )

    @property
    def _day_batches(self) -> bool:
        return self.family.whole_days or self.settings.training.batch == "days"

    def _predicted(self, windows: Any, rows: np.ndarray, *, explain: bool = False) -> Any:
        """Predictions of `rows`; a network across symbols is shown all symbols of their days that the frame
        holds.
        """
        from components.experts.neural.predict import Predicted, predict

        size = self.settings.training.predict_windows
        if not self.family.whole_days:
            return predict(self.model, windows, rows, size, explain=explain)
        bars = windows.bars
        numbers = np.flatnonzero(np.isin(bars.day_N, np.unique(bars.day_N[rows])))
        everyone = numbers[np.argsort(bars.frame_row_N[numbers])]
        found = predict(self.model, windows, everyone, size, whole_days=True, explain=explain)
        places = np.searchsorted(bars.frame_row_N[everyone], bars.frame_row_N[rows])
        return Predicted(
            found.score_NT[places],
            found.quantiles_NT3[places],
            found.direction_NC[places],
            found.evidence,
            found.regime_rows,
        )

    def _monitor(self, windows: Any, watched: np.ndarray, judged: pl.DataFrame) -> Callable[[], float]:
        """A function that gives the monitor, higher is better, over the watched early-stopping rows."""
        from components.experts.neural.targets import direction

        kind: Monitor = self.settings.training.monitor
        label = judged["label"].cast(pl.Float64).to_numpy()
        standardised = target(judged, "cross_sectional_zscore")

        def measure() -> float:
            found = self._predicted(windows, watched)
            if kind == "rank_correlation":
                return rank_correlation(judged["timestamp"], found.score_NT[:, 0], label)
            if kind == "rmse":
                return -float(np.sqrt(np.mean((found.score_NT[:, 0] - standardised) ** 2)))
            return average_precision(
                found.direction_NC, direction(windows.day_N[watched], label, self.settings.losses.flat_share)
            )

        return measure

    def _scale_masks(self, windows: Any, watched: np.ndarray) -> None:
        """Make the usual spread of the dropout masks' scores, over the early-stopping rows, the one that
        leaves the band as wide as it is.
        """
        import torch

        if not len(self.model.masks_ME):
            return
        self.model.eval()
        with torch.inference_mode():
            some = (
                self._whole(
                    windows.bars,
                    np.flatnonzero(np.isin(windows.day_N, np.unique(windows.day_N[watched]))),
                    watched,
                )
                if self.family.whole_days
                else watched
            )
            some = (
                some[: self.settings.training.predict_windows]
                if not self.family.whole_days
                else some[windows.day_N[some] == windows.day_N[some[0]]]
            )
            encoded = self.model.network(windows.batch(some))
            spread = self.model.sampled_scores(encoded.embedding_BTE).std(dim=0)[:, 0].median()
        self.model.usual_spread.fill_(max(float(spread), 1e-6))

    def _pretrain(self, windows: Any, rows: np.ndarray, advance: Advance) -> list[dict[str, float]]:
        from components.experts.neural.pretraining import pretrain

        s = self.settings
        return pretrain(
            self.model.network,
            windows,
            rows,
            s.pretraining,
            s.training,
            s.optimiser,
            self.task.seed,
            advance,
            self._day_batches,
        )

    def _teach(
        self, windows: Any, rows: np.ndarray, targets: Any, monitor: Callable[[], float], advance: Advance
    ) -> list[dict[str, float]]:
        from components.experts.neural.continual import teach_student

        return teach_student(
            self.model,
            windows,
            rows,
            targets,
            self.settings,
            seed=self.task.seed,
            advance=advance,
            whole_days=self._day_batches,
            monitor=monitor,
        )

    def _train_bands(
        self, windows: Any, rows: np.ndarray, watched: np.ndarray, targets: Any, advance: Advance
    ) -> list[dict[str, float]]:
        from components.experts.neural.bands import train_bands

        return train_bands(
            self.model,
            windows,
            rows,
            watched,
            targets,
            self.settings,
            self.task.horizon,
            seed=self.task.seed,
            advance=advance,
            whole_days=self.family.whole_days,
        )

    def _band_width(self, bars: Any, rows: np.ndarray, quantiles_B3: np.ndarray) -> float:
        """Factor on the distance of p10 and p90 from p50 that puts 80 % of the labels of `rows` inside."""
        unit = bars.volatility_N[rows] * math.sqrt(self.task.horizon)
        error = bars.label_N[rows] / unit - quantiles_B3[:, 1]
        half = np.where(
            error > 0, quantiles_B3[:, 2] - quantiles_B3[:, 1], quantiles_B3[:, 1] - quantiles_B3[:, 0]
        )
        return float(
            np.clip(np.quantile(np.abs(error) / np.maximum(half, 1e-6), 0.8), LEAST_WIDTH, MOST_WIDTH)
        )

    def _bands(self, quantiles_B3: np.ndarray, unit_B: np.ndarray) -> np.ndarray:
        """Quantiles [B, 3] in return units, in order also after rounding."""
        middle = quantiles_B3[:, 1:2]
        bands = (middle + self.head["width"] * (quantiles_B3 - middle)) * unit_B[:, None]
        return np.maximum.accumulate(bands, axis=1)

    def _weights(self, found: Any) -> dict[str, Weights]:
        """Mean of each evidence over the watched rows, overall and in each regime that occurs."""
        columns = self.family.evidence(self.settings, self.layout)
        names = [*REGIMES, "unknown"]
        rows_R = found.regime_rows
        means = {}
        for name, total_RK in found.evidence.items():
            by_regime = {
                names[code]: (total_RK[code] / rows_R[code]).tolist() for code in np.flatnonzero(rows_R)
            }
            mean = (total_RK.sum(axis=0) / max(rows_R.sum(), 1)).tolist()
            means[name] = Weights(columns=list(columns[name]), mean=mean, by_regime=by_regime)
        return means

    def _further(self, bars: Any, watched: np.ndarray, found: Any) -> list[TaskRank]:
        """Rank correlation of each task's score with its label over the watched early-stopping rows."""
        days = pl.Series(bars.day_N[watched])
        result = []
        for number, (name, horizon) in enumerate(self.layout.tasks):
            label = bars.labels_NT[watched, number]
            known = np.isfinite(label)
            value = (
                rank_correlation(days.filter(pl.Series(known)), found.score_NT[known, number], label[known])
                if known.any()
                else None
            )
            result.append(TaskRank(target=name, horizon=horizon, rank_correlation=value))
        return result


class _Progress:
    """Cuts the progress of a fit into that of its phases, each of which reports from 0 to 1."""

    def __init__(self, advance: Advance, pretraining: float, student: float, bands: float):
        self._advance, self._borders = advance, (0.0, pretraining, 1.0 - student - bands, 1.0 - bands, 1.0)

    def pretraining(self, share: float, text: str) -> None:
        self._report(0, share, f"pretraining, {text}")

    def training(self, share: float, text: str) -> None:
        self._report(1, share, text)

    def student(self, share: float, text: str) -> None:
        self._report(2, share, f"student, {text}")

    def bands(self, share: float, text: str) -> None:
        self._report(3, share, f"bands, {text}")

    def _report(self, phase: int, share: float, text: str) -> None:
        first, end = self._borders[phase : phase + 2]
        self._advance(first + (end - first) * share, text)


def average_precision(chances_NC: np.ndarray, class_N: np.ndarray) -> float:
    """Mean over the classes that occur of the average precision of telling one from the others; rows of class
    -1 do not count.
    """
    from sklearn.metrics import average_precision_score

    known = class_N >= 0
    found = [
        average_precision_score(class_N[known] == number, chances_NC[known, number])
        for number in np.unique(class_N[known])
    ]
    return float(np.mean(found))


def _let_idle_threads_sleep() -> None:
    """Before torch is first imported:

    OpenMP threads that spin while they wait make a fit several times slower when others need the cores.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _trading_days(frame: pl.DataFrame) -> int:
    """5 where no train bar lies on a weekend, else 7."""
    weekend = (
        frame.filter(pl.col("part") == "train").select((pl.col("timestamp").dt.weekday() > 5).any()).item()
    )
    return 7 if weekend else 5


def _whole_days(
    bars: Any, numbers: np.ndarray, rows: pl.DataFrame, most: int, seed: int
) -> tuple[np.ndarray, pl.DataFrame]:
    """Row numbers and rows of seeded whole timestamps, about `most` of them, in their order; all where they
    are no more than that.
    """
    if len(rows) <= most:
        return numbers, rows
    day = bars.day_N[numbers]
    days, count = np.unique(day, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(days))
    kept = days[order][: max(1, int(np.searchsorted(np.cumsum(count[order]), most, side="right")))]
    chosen = np.isin(day, kept)
    return numbers[chosen], rows.filter(pl.Series(chosen))


def _take_weights(model: Any, codes: Any, warm_start: NeuralExpert | None) -> None:
    """Copy weights of an earlier fit where names and shapes agree; those of sectors and industries only where
    the numbers mean the same ones.
    """
    if warm_start is None or warm_start.model is None:
        return
    own, same_codes = model.state_dict(), warm_start.codes == codes
    earlier = {
        name: weight
        for name, weight in warm_start.model.state_dict().items()
        if same_codes or not ("sector" in name or "industry" in name)
    }
    model.load_state_dict(
        {
            **own,
            **{
                name: weight
                for name, weight in earlier.items()
                if name in own and own[name].shape == weight.shape
            },
        }
    )


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
