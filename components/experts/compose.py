"""Experts made of several: members of different seeds (deep ensembles, Lakshminarayanan et al. 2017), and a
model for each regime, softly blended with the one of all rows. Any expert can be a member.

Shapes: B rows, M members, R regimes.
"""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from components.contracts import ContractError
from components.contracts.classes import CLASS_COLUMNS, class_values
from components.contracts.documents.experts import COMPOSED, Composition, RegimeRows
from components.experts.blending import blended, blended_classes, calibrated
from components.experts.errors import ExpertError
from components.experts.protocol import Advance, Task, within
from components.experts.regime_models import (
    PlannedModel,
    RegimeModels,
    frame_of,
    plan,
    plan_weights,
    regime_of,
)
from components.progress import warn
from components.scoring.expert import member_weights, of_whole_bars
from components.scoring.form import MEMBERS, Blend, read_form, write_form
from components.scoring.model import one_hot

# With fewer labelled early-stopping rows the plain mixture stays.
FEWEST_TO_CALIBRATE = 200
# Seeds of an ensemble's members lie this far apart, so that those of neighbouring runs do not meet.
SEED_STEP = 1009


def compose(module: ModuleType, settings: Any, ensemble: int, regimes: RegimeModels | None) -> Any:
    """The expert of a module, or several of them as one:

    `ensemble` members of different seeds, and `regimes` models beside. An expert as in protocol.py.
    """
    return (
        module.Expert(settings)
        if ensemble == 1 and regimes is None
        else Composed(module, settings, ensemble, regimes)
    )


def load_composed(module: ModuleType, folder: Path, *, whole: bool = True) -> Any:
    """The expert that `save` wrote, composed or not; with `whole` False the first of a composition's models
    of all rows.

    Raises
    ------
    ExpertError
        If `composed.json` is broken.
    """
    folder = Path(folder)
    path = folder / COMPOSED
    if not path.exists():
        return module.Expert.load(folder)
    try:
        found = Composition.read(path)
        regimes = RegimeModels.model_validate(found.regimes) if found.regimes is not None else None
        settings = module.Settings.model_validate(found.settings)
    except (ContractError, ValueError) as error:
        raise ExpertError(
            f"{path} does not say what the expert is made of ({type(error).__name__}: {error}). Train it"
            " again."
        ) from error
    if not whole:
        return module.Expert.load(folder / MEMBERS / found.members[0])
    expert = Composed(module, settings, found.ensemble, regimes)
    expert.columns, expert.weights_RM, expert.about = found.columns, found.weights_RM, found.regime_rows
    expert.spread, expert.width, expert.classes = found.spread, found.width, found.classes
    expert.members = {name: module.Expert.load(folder / MEMBERS / name) for name in found.members}
    return expert


class Composed:
    """Several fitted experts of one module as one: their scores are averaged by weights that depend on the
    row's regime, and the band holds the spread between them.

    `weights_RM` has a row for each of `REGIMES` and a last one for an unknown regime; each sums to 1.
    """

    def __init__(self, module: ModuleType, settings: Any, ensemble: int, regimes: RegimeModels | None):
        self.module, self.settings, self.ensemble, self.regimes = module, settings, ensemble, regimes
        single = module.Expert(settings)
        self.lookback_bars = int(getattr(single, "lookback_bars", 0))
        self.columns: tuple[str, ...] = ()
        self.members: dict[str, Any] = {}
        self.planned: list[tuple[str, PlannedModel, int]] = []
        self.weights_RM: tuple[tuple[float, ...], ...] = ()
        self.spread, self.width = 1.0, 1.0
        self.classes: tuple[int, ...] = ()
        self.about: dict[str, RegimeRows] = {}
        # The trainer asks whether an expert has these.
        for name, own in (
            ("export", self._export),
            ("explain", self._explain),
            ("learn_all", self._learn_all),
        ):
            if hasattr(single, name):
                setattr(self, name, own)

    def fit(self, frame: pl.DataFrame, task: Task, *, advance: Advance, warm_start: Any = None) -> None:
        """Fit each member on its rows.

        A warm start of the same composition goes on member by member, a single expert with each of them.

        Raises
        ------
        ExpertError
            If no train row has a label.
        """
        parts, self.about = plan(frame, self.regimes)
        self.classes = class_values(task.target)
        self.planned = [
            (f"{part.name}_{number}", part, number) for part in parts for number in range(self.ensemble)
        ]
        self.columns, self.members = tuple(task.groups), {}
        for done, (name, part, number) in enumerate(self.planned):
            expert = self.module.Expert(self.settings)
            earlier = warm_start.members.get(name) if isinstance(warm_start, Composed) else warm_start
            expert.fit(
                frame_of(frame, part, self.regimes),
                _task_of(task, name, number),
                advance=within(advance, name, done, len(self.planned)),
                warm_start=earlier,
            )
            self.members[name] = expert
        self.weights_RM = plan_weights(parts, self.ensemble)
        self._calibrate(frame)
        advance(1.0, f"{len(self.members)} members")

    def _learn_all(self, frame: pl.DataFrame, task: Task, *, advance: Advance) -> None:
        """Each member from all its rows; who counts how much, and how wide the band is, stays."""
        for done, (name, part, number) in enumerate(self.planned):
            self.members[name].learn_all(
                frame_of(frame, part, self.regimes),
                _task_of(task, name, number),
                advance=within(advance, name, done, len(self.planned)),
            )

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The members' predictions, blended; p10 to p90 are around the blended median, as wide as the blended
        uncertainty says.
        """
        rows = frame.filter(pl.col("part") == "predict")
        weight_BM, found = self._asked(frame, rows)
        if self.classes:
            chance_BM3 = np.stack([found[name] for name in CLASS_COLUMNS], axis=2)
            return blended_classes(rows, weight_BM, chance_BM3, self.classes)
        return blended(rows, weight_BM, found, self.spread, self.width)

    def _asked(self, frame: pl.DataFrame, rows: pl.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Weights of the members in the `predict` rows, and what each member says there (0 where it has no
        weight), all [B, M].
        """
        bar_B = rows["timestamp"].rle_id().to_numpy()
        weight_BM = member_weights(self.weights_RM, one_hot(regime_of(rows)))
        names = ("score", "uncertainty", "p10", "p50", "p90", *(CLASS_COLUMNS if self.classes else ()))
        found = {name: np.zeros(weight_BM.shape) for name in names}
        for number, (name, expert) in enumerate(self.members.items()):
            # An expert across symbols must see all rows of a bar.
            asked_B = of_whole_bars(weight_BM[:, number] > 0, bar_B)
            if asked_B.any():
                table = expert.predict(_asking(frame, asked_B))
                _require_rows(table, int(asked_B.sum()), name)
                for column, values_BM in found.items():
                    values_BM[asked_B, number] = table[column].to_numpy()
        return weight_BM, found

    def _calibrate(self, frame: pl.DataFrame) -> None:
        """How much disagreement counts, by the likelihood of the early-stopping labels under Laplace's
        distribution, and the width that puts 80 % of them inside.
        """
        self.spread, self.width = 1.0, 1.0
        stopping = pl.col("part") == "early_stopping"
        rows = frame.filter(stopping)
        if rows.is_empty():
            return
        times = frame["timestamp"].unique().sort()
        first = times[max(int(times.search_sorted(rows["timestamp"].min())) - self.lookback_bars, 0)]
        part = pl.when(stopping).then(pl.lit("predict")).otherwise(pl.lit("history")).alias("part")
        asked = frame.filter(pl.col("timestamp") >= first).with_columns(
            part, pl.lit(None, dtype=pl.Float64).alias("label")
        )
        label_B = rows["label"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        weight_BM, found = self._asked(asked, rows)
        heard_B = weight_BM[:, 0] > 0
        if (
            self.ensemble > 1
            and heard_B.any()
            and np.array_equal(found["score"][heard_B, 0], found["score"][heard_B, 1])
        ):
            warn(
                "ensemble",
                f"The members of {self.module.__name__} give equal scores: the seed does not matter to it."
                " Set `ensemble: 1`, which gives the same in less time.",
            )
        known_B = np.isfinite(label_B)
        # Of classes the mixture's own deviation is the uncertainty.
        if known_B.sum() >= FEWEST_TO_CALIBRATE and not self.classes:
            error_B = np.abs(label_B - (weight_BM * found["p50"]).sum(axis=1))[known_B]
            self.spread, self.width = calibrated(
                error_B, weight_BM[known_B], found["score"][known_B], found["uncertainty"][known_B]
            )

    def save(self, folder: Path) -> None:
        """Write `composed.json` and each member below `members`."""
        for name, expert in self.members.items():
            (folder / MEMBERS / name).mkdir(parents=True)
            expert.save(folder / MEMBERS / name)
        Composition(
            settings=self.settings.model_dump(mode="json"),
            ensemble=self.ensemble,
            regimes=self.regimes.model_dump(mode="json") if self.regimes is not None else None,
            columns=self.columns,
            members=list(self.members),
            weights_RM=self.weights_RM,
            spread=self.spread,
            width=self.width,
            classes=self.classes,
            regime_rows=self.about,
        ).write(folder / COMPOSED)

    def _export(self, folder: Path) -> None:
        """The served form of each member, and the weights that blend them."""
        for name, expert in self.members.items():
            expert.export(folder / MEMBERS / name)
        forms = [read_form(folder / MEMBERS / name) for name in self.members]
        context = tuple(dict.fromkeys(name for form in forms for name in form.context))
        write_form(
            folder,
            Blend(
                self.columns,
                max(form.lookback_bars for form in forms),
                context,
                tuple(self.members),
                self.weights_RM,
                self.spread,
                self.width,
            ),
        )

    def _explain(self) -> dict[str, Any]:
        """Train rows and weights of the regimes, how much disagreement counts, and what each member says of
        itself.
        """
        return {
            "regimes": self.about,
            "spread": self.spread,
            "width": self.width,
            "members": {name: expert.explain() for name, expert in self.members.items()},
        }


def _task_of(task: Task, name: str, number: int) -> Task:
    checkpoints = None if task.checkpoints is None else task.checkpoints / name
    return replace(
        task,
        seed=task.seed + SEED_STEP * number,
        checkpoints=checkpoints,
        key=f"{task.key} {name}",
        name=f"{task.name} {name}".strip(),
    )


def _asking(frame: pl.DataFrame, asked_B: np.ndarray) -> pl.DataFrame:
    """The frame with those of its `predict` rows that are asked for; the others stay as history."""
    if asked_B.all():
        return frame
    part = frame["part"].to_numpy().astype(object)
    places = np.flatnonzero(part == "predict")
    part[places[~asked_B]] = "history"
    return frame.with_columns(pl.Series("part", part, dtype=pl.String))


def _require_rows(table: pl.DataFrame, rows: int, name: str) -> None:
    if len(table) != rows:
        raise ExpertError(f"member {name} predicted {len(table):,} of {rows:,} rows.")
