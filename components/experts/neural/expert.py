"""The expert around a network: from a frame to a fitted model with its head and bands, and back from disk.

Shapes: N rows, T tasks, B predicted rows.
"""

import json
import math
import os
from pathlib import Path
from typing import Any, Self

import polars as pl

from components.contracts import REGIMES, ContractError, atomic_path, atomic_write_text, require_json
from components.contracts.classes import class_places, class_values
from components.contracts.documents.experts import EXPLAIN, Explanation
from components.experts.bands import P10_TO_P90, SMALLEST_VOLATILITY
from components.experts.classes import ClassHead, read_head
from components.experts.errors import ExpertError
from components.experts.neural.arrays import Codes, PanelArrays, Scalers, arrange, fit_codes, fit_scalers
from components.experts.neural.config import Neural
from components.experts.neural.family import Family
from components.experts.neural.return_units import Head, fit_further_heads, fit_head, further_form
from components.experts.protocol import Advance, Task
from components.experts.rows import labelled
from components.scoring.form import FURTHER, Form, Unit, task_folder, write_form

WEIGHTS, EXPERT = "weights.safetensors", "expert.json"


class NeuralFamily:
    """What a module of a neural expert names `Expert`: called with settings it gives an expert, `load` gives
    one from disk.
    """

    neural = True
    """It takes several processes and further tasks, see leaves.py."""

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
        self.head: Head | ClassHead = Head()
        self.further: tuple[Head, ...] = ()
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
        from components.experts.neural import evidence
        from components.experts.neural.class_targets import fit_class_head, settings_of
        from components.experts.neural.fit import NetworkFit, days_together, fit_rows, take_weights
        from components.experts.neural.reproducible import reproducible

        if not task.groups:
            raise ExpertError(
                f"{self.family.name} got no input column. Switch on at least one group in features.groups."
            )
        labelled(frame.select("timestamp", "symbol", "part", "label"), "train")
        training = self.settings.training
        self.task, self.trading_days = task, _trading_days(frame)
        self.scalers, self.codes = fit_scalers(frame, task.groups), fit_codes(frame)
        bars = arrange(frame, task.groups, self.scalers, self.codes, task.period)
        rows = fit_rows(
            bars, frame, training.max_monitor_windows, task.seed, whole_days=self.family.whole_days
        )
        with reproducible(task.seed, task.threads, training.deterministic) as device:
            self.model = self._build(self.layout).to(device)
            if warm_start is not None and warm_start.model is not None:
                same_codes = warm_start.codes == self.codes
                take_weights(self.model, warm_start.model.state_dict(), same_codes=same_codes)
            panel = self._panel(bars, device, whole_days=days_together(self.family, self.settings))
            fit = NetworkFit(self.family, settings_of(self.settings, task), task, self.model, panel, rows)
            history = fit.run(advance)
            found, explained = fit.watched(), fit.watched(explain=True)
        self.head = (
            fit_class_head(rows.judged, found, task)
            if class_values(task.target)
            else fit_head(rows.judged, bars, rows.watched, found, task.horizon)
        )
        self.further = fit_further_heads(rows.judged, bars, rows.watched, found, task.also)
        columns = self.family.evidence(self.settings, self.layout)
        self.evidence = Explanation(
            weights=evidence.weights(explained, columns),
            rows=evidence.rows_by_regime(explained),
            tasks=evidence.task_ranks(self.layout.tasks, bars, rows.watched, found),
            parameters=sum(w.numel() for w in self.model.parameters()),
            **history,
        )
        advance(1.0, "fitted")

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """PREDICTION_COLUMNS for the `predict` rows in their order, of classes CLASS_COLUMNS too; score and
        quantiles in units of the label.
        """
        return self._predictions(frame, 1)[0]

    def predict_tasks(self, frame: pl.DataFrame) -> list[pl.DataFrame]:
        """As `predict`, a table a task, the own one first; further tasks are numbers."""
        return self._predictions(frame, 1 + len(self.further))

    def _predictions(self, frame: pl.DataFrame, tasks: int) -> list[pl.DataFrame]:
        """What the first `tasks` heads say of the `predict` rows, by one pass of the network."""
        from components.experts.neural.class_targets import class_logits
        from components.experts.neural.fit import predicted
        from components.experts.neural.reproducible import reproducible

        if self.model is None:
            raise ExpertError(
                f"{self.family.name} was asked to predict before it was fitted. Call fit or load first."
            )
        task = self.task
        bars = arrange(frame, task.groups, self.scalers, self.codes, task.period)
        rows = bars.rows("predict")
        with reproducible(task.seed, task.threads, self.settings.training.deterministic) as device:
            self.model.to(device)
            panel = self._panel(bars, device, whole_days=self.family.whole_days)
            found = predicted(self.family, self.settings, self.model, panel, rows)
        asked = frame[bars.frame_row_N[rows]]
        volatility_B = bars.volatility_N[rows]
        own = (
            self.head.predictions(asked, class_logits(found, len(self.head.values)))
            if isinstance(self.head, ClassHead)
            else self.head.predictions(asked, found, volatility_B * math.sqrt(task.horizon))
        )
        further = zip(self.further[: tasks - 1], task.also, strict=False)
        return [
            own,
            *(
                head.predictions(asked, found, volatility_B * math.sqrt(horizon), number)
                for number, (head, (_, horizon)) in enumerate(further, start=1)
            ),
        ]

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
            "head": self.head.to_dict() if isinstance(self.head, ClassHead) else vars(self.head),
            "further": [vars(head) for head in self.further],
        }
        atomic_write_text(folder / EXPERT, json.dumps(values, indent=1))
        self.evidence.write(folder / EXPLAIN)

    @classmethod
    def load_as(cls, family: Family, folder: Path) -> Self:
        """The expert of a family as saved; ExpertError where a file is missing or not of this form."""
        _let_idle_threads_sleep()
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            values = require_json(folder / EXPERT)
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
            expert.trading_days = values["trading_days"]
            classes = "temperature" in values["head"]
            expert.head = read_head(values["head"]) if classes else Head(**values["head"])
            # A file without it is of a model that nobody asked for its further heads.
            expert.further = tuple(Head(**head) for head in values.get("further", ()))
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
        """Scalers and model as one graph over windows of raw inputs, and sample by sample where it can."""
        from components.experts.neural.export import CONTEXT, window_graph
        from components.experts.neural.streaming import export_stream

        unit = Unit(
            self.scalers.volatility,
            SMALLEST_VOLATILITY * self.scalers.volatility,
            math.sqrt(self.task.horizon),
        )
        context = CONTEXT if self.codes.sectors or self.codes.industries else ()
        values = class_values(self.task.target)
        places = class_places(len(values)) if values else ()
        told = (self.model, self.scalers, self.codes, self.settings.lookback_bars, places, len(self.further))
        graph = window_graph(*told)
        export_stream(folder, *told)
        kind = "market" if self.family.whole_days else "window"
        form = Form(
            kind,
            tuple(self.task.groups),
            self.settings.lookback_bars,
            None,
            1.0 if values else self.head.scale,
            0.0 if values else self.head.bias,
            unit,
            None,
            1.0 if values else self.head.width,
            P10_TO_P90,
            context=context,
            classes=values,
            temperature=self.head.temperature if values else 1.0,
        )
        write_form(folder, form, graph)
        for number, head in enumerate(self.further, start=1):
            target, horizon = self.task.also[number - 1]
            below = Path(folder) / FURTHER / task_folder(target, horizon)
            below.mkdir(parents=True, exist_ok=True)
            write_form(below, further_form(form, head, horizon, number))

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
        from components.experts.networks.window_normalisation import NormalisedWindows
        from components.experts.neural.class_targets import settings_of
        from components.experts.neural.heads import ForecastModel

        settings = settings_of(self.settings, self.task)
        masks, rate = settings.dropout_sampling.masks, settings.dropout_sampling.rate
        network = self.family.build(settings, layout)
        if settings.window_normalisation != "none":
            network = NormalisedWindows(network, layout, settings.window_normalisation)
        return ForecastModel(
            network,
            len(layout.tasks),
            direction=settings.losses.focal > 0,
            dropout=settings.regularisation.dropout,
            masks=masks,
            mask_rate=rate,
            band_inputs=len(layout.inputs) * bool(settings.training.band_epochs),
        )

    def _panel(self, bars: PanelArrays, device: Any, *, whole_days: bool) -> Any:
        from components.experts.neural.panel import Panel

        return Panel(bars, lookback=self.settings.lookback_bars, device=device, whole_days=whole_days)


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


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
