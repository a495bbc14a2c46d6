"""An expert of several tasks whose model has one head: a model for each further task, beside that of its own
task.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from components.contracts.classes import class_values
from components.experts.compose import compose, load_composed
from components.experts.leaves import Leaf
from components.experts.protocol import Advance, Task, within
from components.scoring.form import FORM_FILE, FURTHER, task_folder


def expert_of(module: ModuleType, settings: Any, leaf: Leaf, also: Sequence[tuple[str, int]]) -> Any:
    """The expert of a leaf, which answers its own task and those in `also`: by heads of one model where it
    has them and they are numbers, else by a model each. An expert as in protocol.py.
    """
    build = partial(compose, module, settings, leaf.ensemble, leaf.regimes)
    expert = build()
    classes = any(class_values(target) for target, _ in also)
    if not also or (hasattr(expert, "predict_tasks") and not classes):
        return expert
    return ModelEach(expert, build, learns_beside=getattr(module.Expert, "neural", False))


def load_warm(
    module: ModuleType, folder: Path, expert: Any, leaf: Leaf, also: Sequence[tuple[str, int]]
) -> Any:
    """What `expert`, which `expert_of` gave, goes on from: the model of the own task that lies in `folder`,
    and where it has a model for each task, those of the further ones that lie there too. Errors as of
    `load_composed`.
    """
    whole = leaf.ensemble > 1 or leaf.regimes is not None
    own = load_composed(module, folder, whole=whole)
    if not isinstance(expert, ModelEach):
        return own
    names = [task_folder(*task) for task in also]
    return Warm(
        own,
        {
            name: load_composed(module, place, whole=whole)
            for name in names
            if _is_model(place := Path(folder) / FURTHER / name)
        },
    )


def _is_model(folder: Path) -> bool:
    """Whether a model lies there; of a head of the own model it is the served form alone."""
    return folder.exists() and any(path.name != FORM_FILE for path in folder.iterdir())


@dataclass(frozen=True)
class Warm:
    """Fitted models to go on from: of the own task, and of further ones by name."""

    own: Any
    further: dict[str, Any]


@dataclass(frozen=True)
class _Part:
    """A model and what it learns; `name` is empty for that of the own task."""

    name: str
    expert: Any
    frame: pl.DataFrame
    task: Task
    advance: Advance


class ModelEach:
    """`own` answers its own task; `build` makes a model for each further one.

    `learns_beside`: the own model learns the further tasks too, whoever answers them.
    """

    def __init__(self, own: Any, build: Callable[[], Any], *, learns_beside: bool):
        self.own, self.build, self.learns_beside = own, build, learns_beside
        self.lookback_bars = int(getattr(own, "lookback_bars", 0))
        self.further: dict[str, Any] = {}
        # The trainer asks whether an expert has these.
        for name, method in (("export", self._export), ("learn_all", self._learn_all)):
            if hasattr(own, name):
                setattr(self, name, method)
        if hasattr(own, "explain"):
            self.explain = own.explain

    def fit(self, frame: pl.DataFrame, task: Task, *, advance: Advance, warm_start: Any = None) -> None:
        """Fit the model of each task on its labels, one after the other."""
        warm = warm_start if isinstance(warm_start, Warm) else Warm(warm_start, {})
        self.further = {task_folder(*one): self.build() for one in task.also}
        for part in self._parts(frame, task, advance):
            earlier = warm.further.get(part.name) if part.name else warm.own
            part.expert.fit(part.frame, part.task, advance=part.advance, warm_start=earlier)
        advance(1.0, f"{len(self.further) + 1} tasks")

    def _learn_all(self, frame: pl.DataFrame, task: Task, *, advance: Advance) -> None:
        for part in self._parts(frame, task, advance):
            part.expert.learn_all(part.frame, part.task, advance=part.advance)

    def _parts(self, frame: pl.DataFrame, task: Task, advance: Advance) -> Iterator[_Part]:
        """The models with what each learns, the own one first."""
        parts = len(task.also) + 1
        beside = self.learns_beside
        yield _Part(
            "",
            self.own,
            frame if beside else _labelled_by(frame, "label", task),
            replace(task, also=task.also if beside else ()),
            within(advance, "own task", 0, parts),
        )
        for number, (target, horizon) in enumerate(task.also):
            name = task_folder(target, horizon)
            own = replace(
                task,
                target=target,
                horizon=horizon,
                also=(),
                checkpoints=None if task.checkpoints is None else task.checkpoints / name,
                key=f"{task.key} {name}",
                name=f"{task.name} {name}".strip(),
            )
            labelled = _labelled_by(frame, f"also_{number}", task)
            progress = within(advance, name, number + 1, parts)
            yield _Part(name, self.further[name], labelled, own, progress)

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What the model of the own task says."""
        return self.own.predict(frame)

    def predict_tasks(self, frame: pl.DataFrame) -> list[pl.DataFrame]:
        """What the model of each task says, the own one first."""
        return [expert.predict(frame) for expert in (self.own, *self.further.values())]

    def save(self, folder: Path) -> None:
        """The own model into `folder`, the others below `further`."""
        self.own.save(folder)
        for name, expert in self.further.items():
            (folder / FURTHER / name).mkdir(parents=True)
            expert.save(folder / FURTHER / name)

    def _export(self, folder: Path) -> None:
        self.own.export(folder)
        for name, expert in self.further.items():
            expert.export(folder / FURTHER / name)


def _labelled_by(frame: pl.DataFrame, column: str, task: Task) -> pl.DataFrame:
    """The frame with the label of one task alone."""
    return frame.with_columns(pl.col(column).alias("label")).drop(
        [f"also_{number}" for number in range(len(task.also))]
    )
