"""The served model: the experts that a stack gives weight, their standing among the symbols of a bar, and the
stack's score with its band.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from components.contracts import REGIMES, SECTOR_COLUMN, verify_bundle
from components.scoring.cross_section import CrossSection, SectorMeans
from components.scoring.expert import ExpertAnswer, Ran, ServedExpert
from components.scoring.form import FURTHER, ScoringError, task_folder
from components.scoring.moments import moments_by_bar, moments_of_one_bar, peer_means
from components.scoring.parts import (
    CONTEXT,
    about,
    columns_of,
    context_of,
    form_folder,
    further_tasks,
    places_of,
    require_classes,
)
from components.scoring.stacker import Scores, Stacker, read_stacker, standardise

WARM_UP_ROWS = (1, 500)
# What the manifest of a bundle says its model is of, where it is not of bars.
TICKS = "ticks"


@dataclass(frozen=True)
class ExpertOutputs:
    """Score and uncertainty [E, B] of each served expert, Float64, in the target's unit, and its
    probabilities of the classes [E, B, 3], None where the target is a number.
    """

    names: tuple[str, ...]
    score: np.ndarray
    uncertainty: np.ndarray
    chances: np.ndarray | None = None


@dataclass(frozen=True)
class Model:
    """A bundle that can score. Safe to call from several threads at once.

    `columns` and `context` are the inputs in their order; `lookback_bars` is the length of the window that an
    expert needs, the newest bar included, 0 where none does. `places` says which inputs each expert takes,
    None for all of them. `whole_bars`: an expert looks across the symbols of a bar, so that rows have a score
    only together with all others of it.

    The model answers the task that its run was judged by; `further` are models of the other tasks, which take
    the same inputs, context and window.
    """

    manifest: dict[str, Any]
    sha256: str
    schema: str
    columns: tuple[str, ...]
    context: tuple[str, ...]
    period: str
    horizon: int
    target: str
    lookback_bars: int
    experts: tuple[ServedExpert, ...]
    places: tuple[np.ndarray | None, ...]
    stacker: Stacker
    further: tuple["Model", ...] = ()

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 2) -> Self:
        """Verify the bundle and load what serving needs; experts without weight are left on disk.

        Raises
        ------
        BundleError
            If a file is missing, surplus or changed.
        ScoringError
            If the bundle has no served form, one of another format, or parts that do not fit together.
        """
        folder = Path(folder)
        manifest = verify_bundle(folder)
        if manifest.get("lane") == TICKS:
            raise ScoringError(
                f"{folder} holds a model of order books, which is asked sample by sample: alphaloop ticks"
                " predict. Serve a model of bars."
            )
        task = tuple(about(manifest, folder, name) for name in ("target", "horizon"))
        own = cls._of_task(folder, manifest, folder / "stacker", task, threads)
        further = [
            cls._of_task(folder, manifest, folder / "stacker" / FURTHER / task_folder(*other), other, threads)
            for other in further_tasks(manifest, folder, task)
        ]
        return _alike(own, further) if further else own

    @classmethod
    def _of_task(
        cls, folder: Path, manifest: dict[str, Any], stack: Path, task: tuple[str, int], threads: int
    ) -> Self:
        """The model of one task, its stack in the folder `stack`."""
        columns, given = columns_of(folder)
        stacker = read_stacker(stack, threads=threads)
        for name in stacker.experts:
            if not any(file.startswith(f"experts/{name}/") for file in manifest["files"]):
                raise ScoringError(
                    f"{folder}: the stacker gives {name} weight, but the bundle holds no such expert. Train"
                    " the model again."
                )
        experts = tuple(
            ServedExpert(form_folder(folder / "experts" / name, task), threads=threads, name=name)
            for name in stacker.experts
        )
        require_classes(folder, experts, stacker)
        places = tuple(places_of(folder, expert, columns) for expert in experts)
        said = {name: about(manifest, folder, name) for name in ("sha256", "schema", "period")}
        lookback_bars = max(expert.form.lookback_bars for expert in experts)
        return cls(
            manifest=manifest,
            columns=columns,
            context=context_of(folder, given, experts, stacker, manifest),
            lookback_bars=lookback_bars,
            experts=experts,
            places=places,
            stacker=stacker,
            target=task[0],
            horizon=task[1],
            **said,
        )

    @property
    def whole_bars(self) -> bool:
        """Whether rows can be scored by whole bars only."""
        parts = [self, *self.further]
        return any(expert.whole_bars for part in parts for expert in part.experts)

    @property
    def head(self) -> tuple[float, float]:
        """Scale and bias that turn the combiner's output into a return."""
        return self.stacker.head.scale, self.stacker.head.bias

    def expert_outputs(
        self,
        inputs_BF: np.ndarray,
        context_BC: np.ndarray,
        window_BLF: np.ndarray | None = None,
        bar_B: np.ndarray | None = None,
        ran: Ran | None = None,
    ) -> ExpertOutputs:
        """Score and uncertainty of each served expert.

        Parameters
        ----------
        inputs_BF, context_BC : float32 in the order of `columns` and `context`; NaN or infinite = missing
        window_BLF : float32, `lookback_bars` bars of inputs, oldest first, the newest bar last; all NaN for
            bars before a symbol's first. Needed where `lookback_bars` is not 0, ignored else
        bar_B : number of each row's bar, None where all rows are of one. Where `whole_bars` is set they must
            be all the rows of their bars: a part of a bar gets another score than the whole
        ran : what graphs gave of these rows when a model of another task was asked, as of `ServedExpert`

        Raises
        ------
        ScoringError
            If a shape is not of this form.
        """
        inputs_BF, context_BC = self._checked(inputs_BF, context_BC, window_BLF)
        regime_BR, volatility_B = one_hot(context_BC[:, 0]), context_BC[:, 1].astype(np.float64)

        def ask(expert: ServedExpert, places: np.ndarray | None) -> ExpertAnswer:
            window = _chosen(window_BLF, places) if expert.form.lookback_bars else None
            context = (
                context_BC[:, [self.context.index(name) for name in expert.form.context]]
                if expert.form.context
                else None
            )
            return expert(_chosen(inputs_BF, places), window, regime_BR, volatility_B, context, bar_B, ran)

        found = [ask(expert, places) for expert, places in zip(self.experts, self.places, strict=True)]
        return ExpertOutputs(
            self.stacker.experts,
            np.stack([answer.score for answer in found]),
            np.stack([answer.uncertainty for answer in found]),
            np.stack([answer.chances for answer in found]) if self.stacker.head.pool else None,
        )

    def outputs_of_tasks(
        self,
        inputs_BF: np.ndarray,
        context_BC: np.ndarray,
        window_BLF: np.ndarray | None = None,
        bar_B: np.ndarray | None = None,
    ) -> tuple[ExpertOutputs, ...]:
        """`expert_outputs` of the own task and of each of `further`, each graph run once."""
        ran: Ran = {}
        return tuple(
            model.expert_outputs(inputs_BF, context_BC, window_BLF, bar_B, ran)
            for model in (self, *self.further)
        )

    def cross_section(self, outputs: ExpertOutputs, context_BC: np.ndarray) -> CrossSection:
        """Mean and spread over the rows, which must be one whole bar."""
        uncertainty = moments_of_one_bar(outputs.uncertainty)
        if not self.stacker.by_sector:
            return CrossSection(outputs.names, *moments_of_one_bar(outputs.score), *uncertainty)
        sector_B = self._sector(context_BC)
        sectors = SectorMeans.of(outputs.score, sector_B)
        score = moments_of_one_bar(outputs.score - sectors.at(sector_B))
        return CrossSection(outputs.names, *score, *uncertainty, sectors)

    def cross_section_by_bar(
        self, outputs: ExpertOutputs, context_NC: np.ndarray, bar_N: np.ndarray
    ) -> CrossSection:
        """Mean and spread over the rows of each row's own bar, [E, N]; `bar_N` numbers the bars from 0."""
        uncertainty = moments_by_bar(outputs.uncertainty, bar_N)
        if not self.stacker.by_sector:
            return CrossSection(outputs.names, *moments_by_bar(outputs.score, bar_N), *uncertainty)
        peers_EN = peer_means(outputs.score, bar_N, self._sector(context_NC))
        mean_EN, spread_EN = moments_by_bar(outputs.score - peers_EN, bar_N)
        return CrossSection(outputs.names, peers_EN + mean_EN, spread_EN, *uncertainty)

    def _sector(self, context_BC: np.ndarray) -> np.ndarray:
        """Codes of the rows' sectors [B], Float64, NaN where unknown."""
        return np.asarray(context_BC)[:, self.context.index(SECTOR_COLUMN)].astype(np.float64)

    def combine(self, outputs: ExpertOutputs, context_BC: np.ndarray, cross_section: CrossSection) -> Scores:
        """The stack's score and band of rows whose bar has this cross-section."""
        if cross_section.names != outputs.names:
            raise ScoringError(
                f"The cross-section is of the experts {cross_section.names}, the outputs of {outputs.names}."
                " Make it with the same model."
            )
        moments = (
            cross_section.score_mean,
            cross_section.score_spread,
            cross_section.uncertainty_mean,
            cross_section.uncertainty_spread,
        )
        score_mean, score_spread, uncertainty_mean, uncertainty_spread = (
            m[:, None] if m.ndim == 1 else m for m in moments
        )
        if cross_section.sectors is not None:
            score_mean = score_mean + cross_section.sectors.at(self._sector(context_BC))
        z_EB = standardise(outputs.score, score_mean, score_spread)
        u_EB = standardise(outputs.uncertainty, uncertainty_mean, uncertainty_spread)
        raw_B = self.stacker.raw(z_EB, u_EB, one_hot(np.asarray(context_BC)[:, 0]))
        return self.stacker.scores(raw_B, outputs.uncertainty, outputs.chances)

    def score_bar(self, inputs: np.ndarray, context: np.ndarray, window: np.ndarray | None = None) -> Scores:
        """Scores of rows that are the whole universe of one bar."""
        outputs = self.expert_outputs(inputs, context, window)
        return self.combine(outputs, context, self.cross_section(outputs, context))

    def warm_up(self) -> None:
        """Score made-up rows, one and many, known and missing, so that the first request is not the first
        run.

        Raises
        ------
        ScoringError
            If an answer is not finite: such a model must not be served.
        """
        for model in self.further:
            model.warm_up()
        random = np.random.default_rng(0)
        for rows in WARM_UP_ROWS:
            shape = (rows, max(self.lookback_bars, 1), len(self.columns))
            window = random.uniform(-1, 1, shape).astype(np.float32)
            window[random.random(shape) < 0.1] = np.nan
            window[-1] = np.nan if rows > 1 else window[-1]
            context = np.full((rows, len(self.context)), np.nan, dtype=np.float32)
            context[:, 0] = np.arange(rows) % (len(REGIMES) + 1)
            scores = self.score_bar(window[:, -1], context, window if self.lookback_bars else None)
            for name, values in scores.columns().items():
                if not np.isfinite(values).all():
                    raise ScoringError(
                        f"Bundle {self.sha256[:12]}: {name} of {int((~np.isfinite(values)).sum())} of {rows}"
                        " rows is not finite at warm-up. Train the model again."
                    )

    def _checked(
        self, inputs_BF: np.ndarray, context_BC: np.ndarray, window_BLF: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        inputs_BF, context_BC = (
            np.ascontiguousarray(inputs_BF, dtype=np.float32),
            np.asarray(context_BC, dtype=np.float32),
        )
        rows = len(inputs_BF)
        if inputs_BF.shape != (rows, len(self.columns)) or context_BC.shape != (rows, len(self.context)):
            raise ScoringError(
                f"Inputs of shape {inputs_BF.shape} and context of shape {context_BC.shape}; expected [B,"
                f" {len(self.columns)}] and [B, {len(self.context)}]."
            )
        if self.lookback_bars and (
            window_BLF is None
            or window_BLF.dtype != np.float32
            or window_BLF.shape != (rows, self.lookback_bars, len(self.columns))
        ):
            found = "none" if window_BLF is None else f"{window_BLF.dtype} {window_BLF.shape}"
            raise ScoringError(
                f"This model needs a float32 window of shape {(rows, self.lookback_bars, len(self.columns))};"
                f" found {found}."
            )
        return _without_infinities(inputs_BF), _without_infinities(context_BC)


def _alike(own: Model, further: Sequence[Model]) -> Model:
    """The model with those of further tasks, all with the context and the window that any of them takes."""
    models = (own, *further)
    taken = {name for model in models for name in model.context}
    context = tuple(name for name in CONTEXT if name in taken)
    lookback_bars = max(model.lookback_bars for model in models)
    own, *others = (replace(model, context=context, lookback_bars=lookback_bars) for model in models)
    return replace(own, further=tuple(others))


def one_hot(regime_B: np.ndarray) -> np.ndarray:
    """The regime's code as float32 [B, regimes], all zeros where it is unknown."""
    return (np.trunc(regime_B)[:, None] == np.arange(len(REGIMES))).astype(np.float32)


def _without_infinities(values: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(values), np.float32(np.nan), values) if np.isinf(values).any() else values


def _chosen(values: np.ndarray, places: np.ndarray | None) -> np.ndarray:
    return values if places is None else np.ascontiguousarray(values[..., places])
