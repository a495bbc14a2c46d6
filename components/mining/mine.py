"""Residual mining from tables to formulas: draw the sample, search, judge."""

import hashlib
from dataclasses import dataclass

import numpy as np

from components.metrics import ic_summary
from components.mining.config import Settings
from components.mining.judge import Curves, Judged, judge_formulas
from components.mining.ranks import by_bar, unit_ranks
from components.mining.sample import Part, Sample, draw_sample
from components.mining.search import search_formulas
from components.mining.tables import RunTables
from components.timeline import Settings as TimelineSettings


@dataclass(frozen=True)
class Mined:
    """Result of `mine_formulas`.

    `evaluated` formulas were scored in the mining part, those of `judged` with `tried` in the hold-out.
    """

    sample: Sample
    judged: list[Judged]
    curves: dict[str, Curves]
    evaluated: int
    stack_ic: dict[str, dict[str, float]]  # by part: `ic_summary` of the stack alone

    @property
    def accepted(self) -> list[Judged]:
        return [one for one in self.judged if one.accepted]

    @property
    def tries(self) -> int:
        return sum(one.tried for one in self.judged)


def mine_formulas(
    tables: RunTables, settings: Settings, timeline: TimelineSettings, *, horizon: int, target: str, seed: int
) -> Mined:
    """Formulas over the inputs that predict what the experts leave unexplained, and a verdict on each.

    Nothing after the validation window is read, nor labels that reach into the test window. The same seed
    gives the same formulas.

    Parameters
    ----------
    tables : of one run; columns of role `input` are searched over
    target : column of the labels at `horizon` (bars) that the experts learned

    Raises
    ------
    MiningError
        If an expert or the target does not exist. A window that is too short is no error: `sample.note` says
        so.
    """
    sample = draw_sample(tables, settings, timeline, horizon=horizon, target=target)
    if sample.note:
        return Mined(sample, [], {}, 0, {})
    embargo_bars = timeline.embargo(int(tables.labels["horizon"].max()))
    found, evaluated = search_formulas(sample, settings, embargo_bars, seed)
    judged, curves = judge_formulas(found, sample, settings, horizon, seed)
    stack_ic = {
        name: ic_summary(_stack_ic(part), horizon=horizon)
        for name, part in (("mining", sample.mining), ("holdout", sample.holdout))
    }
    return Mined(sample, judged, curves, evaluated, stack_ic)


def factor_name(formula: str) -> str:
    """Name of the factor that a formula becomes: the same formula gets the same name."""
    return f"mined_{hashlib.sha256(formula.encode()).hexdigest()[:8]}"


def signed(one: Judged) -> str:
    """The formula that points up: high values go with high returns."""
    return one.formula if one.sign > 0 else f"neg({one.formula})"


def _stack_ic(part: Part) -> np.ndarray:
    return by_bar(unit_ranks(part.stack, part.starts) * part.label, part.starts)
