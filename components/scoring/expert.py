"""One served expert: score, uncertainty and, of classes, probabilities of rows, from its served form.

Shapes: B rows, F inputs, C context columns or classes, L bars of a window, R regimes, M members of a blend; 3
classes down, none, up.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.contracts import REGIMES
from components.contracts.classes import in_class_columns
from components.scoring.classes import class_answer, probabilities
from components.scoring.form import (
    FURTHER_OUTPUTS,
    GRAPH_FILE,
    MEMBERS,
    WINDOWED,
    Blend,
    ClassLinear,
    Form,
    Linear,
    ScoringError,
    read_form,
)
from components.scoring.graph import Graph

BLOCK_WINDOWS = 64
# What graphs, by the file, gave of the rows that are asked about.
Ran = dict[Path, dict[str, np.ndarray]]


@dataclass(frozen=True)
class ExpertAnswer:
    """Score and uncertainty [B], Float64, in the target's unit, and the probabilities of the classes [B, 3],
    None where the target is a number.
    """

    score: np.ndarray
    uncertainty: np.ndarray
    chances: np.ndarray | None = None


class ServedExpert:
    """The form of an expert, with its graph where it has one, or with its members."""

    def __init__(
        self, folder: Path, *, threads: int, workers: Executor | None = None, name: str | None = None
    ):
        self.name, self.form = name or folder.name, read_form(folder)
        self.graph, self.members = None, ()
        self.workers = workers or (
            ThreadPoolExecutor(threads, thread_name_prefix=f"score-{self.name}")
            if threads > 1 and self.form.lookback_bars
            else None
        )
        if isinstance(self.form, Blend):
            self.members = tuple(
                ServedExpert(folder / MEMBERS / name, threads=threads, workers=self.workers)
                for name in self.form.members
            )
            for member in self.members:
                _require_member(folder, self.form, member, self.members[0])
        elif self.form.raw is None:
            self.graph = _graph(folder, self.form, threads)
        self.classes = self.members[0].classes if self.members else self.form.classes
        self.whole_bars = self.form.kind == "market" or any(member.whole_bars for member in self.members)

    def __call__(
        self,
        inputs_BF: np.ndarray,
        window_BLF: np.ndarray | None,
        regime_BR: np.ndarray,
        volatility_B: np.ndarray,
        context_BC: np.ndarray | None = None,
        bar_B: np.ndarray | None = None,
        ran: Ran | None = None,
    ) -> ExpertAnswer:
        """What the expert says of rows.

        `window_BLF` ends with the newest bar and may be longer than needed; `context_BC` holds the form's
        context columns; `bar_B` numbers the bars of the rows, None where all are of one. Where `whole_bars`
        is set, the rows of a bar must be all that there are. A graph that is in `ran` is not run again; what
        is run stands there afterwards.
        """
        if len(inputs_BF) == 0:
            return ExpertAnswer(np.empty(0), np.empty(0), np.empty((0, 3)) if self.classes else None)
        if self.members:
            return self._blended(inputs_BF, window_BLF, regime_BR, volatility_B, context_BC, bar_B)
        raw_B, quantiles_B3 = self._raw(
            inputs_BF, window_BLF, regime_BR, context_BC, bar_B, {} if ran is None else ran
        )
        return self.answer(raw_B, quantiles_B3, volatility_B)

    def answer(
        self, raw_B: np.ndarray, quantiles_B3: np.ndarray | None, volatility_B: np.ndarray
    ) -> ExpertAnswer:
        """What the model's own output [B], of classes logits [B, C], says of rows; `quantiles_B3` are None
        where it gives none.
        """
        form = self.form
        if self.classes:
            chance_BC = probabilities(raw_B, form.temperature)
            found = class_answer(chance_BC, form.classes)
            return ExpertAnswer(found.score, found.uncertainty, in_class_columns(chance_BC))
        unit_B = (
            np.maximum(np.where(np.isfinite(volatility_B), volatility_B, form.unit.stand_in), form.unit.least)
            * form.unit.factor
        )
        score_B = form.head_scale * raw_B + form.head_bias
        if quantiles_B3 is None:
            return ExpertAnswer(score_B, form.band * unit_B / form.p10_to_p90)
        middle_B1 = quantiles_B3[:, 1:2]
        band_B3 = np.maximum.accumulate(
            (middle_B1 + form.band_width * (quantiles_B3 - middle_B1)) * unit_B[:, None], axis=1
        )
        return ExpertAnswer(score_B, (band_B3[:, 2] - band_B3[:, 0]) / form.p10_to_p90)

    def _raw(
        self,
        inputs_BF: np.ndarray,
        window_BLF: np.ndarray | None,
        regime_BR: np.ndarray,
        context_BC: np.ndarray | None,
        bar_B: np.ndarray | None,
        ran: Ran,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The model's own output [B], of classes logits [B, C], and the quantiles that it gives or None."""
        form = self.form
        if self.graph is None:
            if isinstance(form.raw, Linear | ClassLinear):
                return _linear(form.raw, inputs_BF), None
            return np.full((len(inputs_BF), *np.shape(form.raw)), form.raw), None
        if self.graph.path not in ran:
            ran[self.graph.path] = (
                self._run_windows(window_BLF[:, -form.lookback_bars :], regime_BR, context_BC, bar_B)
                if form.kind in WINDOWED
                else self.graph(inputs=inputs_BF)
            )
        found = ran[self.graph.path]
        if form.head:
            raw_BT, quantiles_BT3 = (found[name] for name in FURTHER_OUTPUTS)
            return raw_BT[:, form.head - 1], quantiles_BT3[:, form.head - 1]
        return found["raw"], found.get("quantiles")

    def _run_windows(
        self,
        window_BLF: np.ndarray,
        regime_BR: np.ndarray,
        context_BC: np.ndarray | None,
        bar_B: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """The graph over whole bars, or over blocks of windows whose intermediate arrays stay in a core's
        cache, one thread a part.
        """
        market = self.form.kind == "market"
        places = list(
            _bars(bar_B, len(window_BLF))
            if market
            else (slice(start, start + BLOCK_WINDOWS) for start in range(0, len(window_BLF), BLOCK_WINDOWS))
        )

        def run(place: slice | np.ndarray) -> dict[str, np.ndarray]:
            part_BLF = np.ascontiguousarray(window_BLF[place])
            context = {"context": np.ascontiguousarray(context_BC[place])} if self.form.context else {}
            return self.graph(window=part_BLF, begun=begun(part_BLF), regime=regime_BR[place], **context)

        parts = (
            list(self.workers.map(run, places))
            if self.workers and len(places) > 1
            else [run(place) for place in places]
        )
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if not market or len(places) == 1:
            return found
        order_B = np.argsort(np.concatenate(places), kind="stable")
        return {name: values[order_B] for name, values in found.items()}

    def _blended(
        self,
        inputs_BF: np.ndarray,
        window_BLF: np.ndarray | None,
        regime_BR: np.ndarray,
        volatility_B: np.ndarray,
        context_BC: np.ndarray | None,
        bar_B: np.ndarray | None,
    ) -> ExpertAnswer:
        """The members' scores by their weight in each row's regime.

        A member is asked only about rows that it has weight in, and about the rest of their bars where it
        must see them.
        """
        weight_BM = member_weights(self.form.weights_RM, regime_BR)
        score_BM, uncertainty_BM = np.zeros(weight_BM.shape), np.zeros(weight_BM.shape)
        chance_BM3 = np.zeros((*weight_BM.shape, 3)) if self.classes else None
        for number, member in enumerate(self.members):
            asked_B = weight_BM[:, number] > 0
            if member.whole_bars:
                asked_B = of_whole_bars(asked_B, bar_B)
            if not asked_B.any():
                continue
            places = [self.form.context.index(name) for name in member.form.context]
            given = [
                None if values is None else values[asked_B]
                for values in (window_BLF if member.form.lookback_bars else None, regime_BR, volatility_B)
            ]
            context = context_BC[asked_B][:, places] if places else None
            found = member(inputs_BF[asked_B], *given, context, None if bar_B is None else bar_B[asked_B])
            score_BM[asked_B, number], uncertainty_BM[asked_B, number] = found.score, found.uncertainty
            if chance_BM3 is not None:
                chance_BM3[asked_B, number] = found.chances
        return ExpertAnswer(
            *blend(weight_BM, score_BM, uncertainty_BM, spread=self.form.spread, width=self.form.width),
            None if chance_BM3 is None else blend_chances(weight_BM, chance_BM3),
        )


def member_weights(weights_RM: tuple[tuple[float, ...], ...], regime_BR: np.ndarray) -> np.ndarray:
    """Weight of each member in each row [B, M], by the row's regime; `regime_BR` is one-hot, all 0 where it
    is unknown.
    """
    unknown_B1 = 1.0 - regime_BR.sum(axis=1, keepdims=True)
    return np.concatenate([regime_BR, unknown_B1], axis=1) @ np.asarray(weights_RM)


def blend(
    weight_BM: np.ndarray,
    score_BM: np.ndarray,
    uncertainty_BM: np.ndarray,
    *,
    spread: float = 1.0,
    width: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Score and uncertainty [B]; with `spread` and `width` 1 mean and deviation of the members' mixture
    (Lakshminarayanan et al. 2017, section 2.4).

    `spread` says how much the members' disagreement counts beside their own variances, `width` scales the
    whole.
    """
    score_B = (weight_BM * score_BM).sum(axis=1)
    variance_BM = uncertainty_BM**2 + spread * (score_BM - score_B[:, None]) ** 2
    return score_B, width * np.sqrt((weight_BM * variance_BM).sum(axis=1))


def blend_chances(weight_BM: np.ndarray, chance_BM3: np.ndarray) -> np.ndarray:
    """Probabilities of the members' mixture, [B, 3]."""
    return (weight_BM[:, :, None] * chance_BM3).sum(axis=1)


def of_whole_bars(chosen_B: np.ndarray, bar_B: np.ndarray | None) -> np.ndarray:
    """True for all rows of each bar that has a chosen one."""
    if bar_B is None:
        return np.full(len(chosen_B), chosen_B.any())
    numbers_B = np.unique(bar_B, return_inverse=True)[1]
    return np.bincount(numbers_B, weights=chosen_B)[numbers_B] > 0


def begun(window_BLF: np.ndarray) -> np.ndarray:
    """1 from the first bar of a window on that has any known input, 0 before, float32 [B, L]: what lies
    before is not missing, it never was.
    """
    begun_BL = np.ones(window_BLF.shape[:2], dtype=np.float32)
    late_B = np.flatnonzero(~np.isfinite(window_BLF[:, 0]).any(axis=1))
    if len(late_B):
        begun_BL[late_B] = np.logical_or.accumulate(np.isfinite(window_BLF[late_B]).any(axis=2), axis=1)
    return begun_BL


def _graph(folder: Path, form: Form, threads: int) -> Graph:
    """The graph that the form in `folder` promises.

    Windows run one thread a part; a whole market is one part and takes them all.
    """
    width = len(form.columns)
    inputs = {"inputs": (width,)}
    if form.kind in WINDOWED:
        inputs = {
            "window": (form.lookback_bars, width),
            "begun": (form.lookback_bars,),
            "regime": (len(REGIMES),),
        }
        inputs |= {"context": (len(form.context),)} if form.context else {}
    own = ["raw", "quantiles"] if form.band is None and not form.classes else ["raw"]
    threads = 1 if form.kind == "window" else threads
    if form.head:
        path = folder.parent.parent / GRAPH_FILE
        return Graph(path, inputs, FURTHER_OUTPUTS, threads, others=("raw", "quantiles"))
    return Graph(folder / GRAPH_FILE, inputs, own, threads, others=FURTHER_OUTPUTS)


def _require_member(folder: Path, form: Blend, member: ServedExpert, first: ServedExpert) -> None:
    if member.members:
        raise ScoringError(f"{folder}: member {member.name} is a blend itself. Train the model again.")
    if member.classes != first.classes:
        raise ScoringError(
            f"{folder}: member {member.name} answers in the classes {list(member.classes)}, {first.name} in"
            f" {list(first.classes)}. Train the model again."
        )
    if (
        member.form.columns != form.columns
        or member.form.lookback_bars > form.lookback_bars
        or not set(member.form.context) <= set(form.context)
    ):
        raise ScoringError(
            f"{folder}: member {member.name} takes {len(member.form.columns)} inputs,"
            f" {member.form.lookback_bars} bars and the context {list(member.form.context)}, which are not"
            f" those of the blend ({len(form.columns)}, {form.lookback_bars}, {list(form.context)}). Train"
            " the model again."
        )


def _bars(bar_B: np.ndarray | None, rows: int) -> Iterator[np.ndarray]:
    """Row numbers of each bar, in their order."""
    if bar_B is None:
        yield np.arange(rows)
        return
    order_B = np.argsort(bar_B, kind="stable")
    yield from np.split(order_B, np.flatnonzero(np.diff(bar_B[order_B])) + 1)


def _linear(raw: Linear | ClassLinear, inputs_BF: np.ndarray) -> np.ndarray:
    known_BF = np.nan_to_num(np.clip(inputs_BF, -raw.largest_input, raw.largest_input), nan=0.0).astype(
        np.float64
    )
    if isinstance(raw, ClassLinear):
        return known_BF @ np.asarray(raw.coefficients).T + np.asarray(raw.intercepts)
    return known_BF @ np.asarray(raw.coefficients) + raw.intercept
