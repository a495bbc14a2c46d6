"""Hyper-parameter search with Optuna on the purged validation window: resumable after a kill, in parallel,
blind to the test window.

A try is one set of settings, trained in the walk-forward folds that predict the validation window. Its value
is the mean RankIC by bar of those out-of-fold predictions, where the target is a class their Brier skill. The
first try is the leaf as it stands, so that one sees what the search gains over it.

The sampler is seeded anew for each try from the run's seed and the number of tries before it, so that a study
that was stopped goes on with the tries that an unbroken one would have made (with one process; several see
each other's results in an order that nobody can repeat).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from components.experts.leaves import Leaf
from components.experts.studies.database import SearchError, patiently, told
from components.experts.studies.study import SearchPlan, begin, open_study, quiet
from components.experts.studies.tries import (
    Try,
    leaf_with,
    make_tries,
    make_tries_in_processes,
    read_try,
)
from components.metrics import fewest_values, standard_error

EULER = 0.5772156649015329


@dataclass(frozen=True)
class StudyResult:
    """A study as it stands.

    `gain` is best less own on the same days, `gain_error` its standard error, `luck` the gain to expect from
    so many equal tries; both None where the days are too few to know.
    """

    name: str
    storage: str
    tries: list[Try]
    best: Try
    own: Try
    best_leaf: Leaf
    gain: float
    gain_error: float | None
    luck: float | None
    importances: dict[str, float]


def search(plan: SearchPlan) -> StudyResult:
    """Make tries until the study holds `plan.trials` finished ones, or the time is over.

    Tries of an earlier call count, and those of other processes that search the same study now, on any
    machine that reaches its database; those that were killed are made again. It returns when no try is at
    work any more, so that all who search at once find the same.

    Raises
    ------
    SearchError
        If the database can't be opened, the study belongs to other data, code or settings, or no try ended
        well.
    ContractError, ConfigError, TimelineError
        If tables, leaf and timeline do not fit together.
    """
    with quiet():
        with told(plan.database):
            study = patiently(plan.database, plan.stage, lambda: open_study(plan))
        patiently(plan.database, plan.stage, lambda: begin(study, plan))
        deadline = None if plan.timeout_s is None else time.time() + plan.timeout_s
        if plan.workers == 1:
            make_tries(study, plan, deadline)
        else:
            make_tries_in_processes(plan, deadline)
        return patiently(plan.database, plan.stage, lambda: _found(study, plan))


def _found(study: Any, plan: SearchPlan) -> StudyResult:
    tries = [read_try(trial) for trial in study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]
    complete = [one for one in tries if one.state == "complete"]
    if not complete:
        failed = next((one for one in tries if one.reason), None)
        why = (
            f"The first failed: {failed.reason}"
            if failed
            else "Give it more time, or start it again: it goes on where it was."
        )
        raise SearchError(f"No try of study {plan.name} has ended well yet ({len(tries)} begun). {why}")
    best = max(complete, key=lambda one: (one.value, -one.number))
    own = next((one for one in complete if one.own), None)
    if own is None:
        reason = next((one.reason for one in tries if one.own and one.reason), "it was stopped")
        raise SearchError(
            "The leaf's own settings were never tried to the end, so there is nothing to compare with:"
            f" {reason}"
        )
    difference = best.daily - own.daily
    error = standard_error(difference, horizon=plan.inputs.horizon) if best.number != own.number else 0.0
    return StudyResult(
        name=plan.name,
        storage=plan.database.shown,
        tries=tries,
        best=best,
        own=own,
        best_leaf=leaf_with(plan.leaf, best.values),
        gain=float(difference.mean()),
        gain_error=float(error) if np.isfinite(error) else None,
        luck=_luck(
            complete, own, plan.inputs.horizon, sum(one.state in ("complete", "pruned") for one in tries)
        ),
        importances=_importances(study, complete),
    )


def expected_maximum(tries: int) -> float:
    """Expected largest of so many independent standard normal draws (the approximation of Bailey and Lopez de
    Prado 2014, *The deflated Sharpe ratio*); 0 for one.
    """
    if tries < 2:
        return 0.0
    quantile = NormalDist().inv_cdf
    return (1 - EULER) * quantile(1 - 1 / tries) + EULER * quantile(1 - 1 / (tries * np.e))


def _luck(complete: Sequence[Try], own: Try, horizon: int, tries: int) -> float | None:
    """Gain of the best over the leaf's own to expect if all tries were equally good: the expected largest of
    so many chance deviations; None where the days are too few to know how large those are.

    A daily difference holds the chance of both sides, so that of one try is its standard error by the root of
    2.
    """
    others = [one.daily - own.daily for one in complete if one.number != own.number]
    errors = [standard_error(difference, horizon=horizon) for difference in others]
    usable = [error for error in errors if np.isfinite(error)]
    if usable:
        return float(np.median(usable) / np.sqrt(2)) * expected_maximum(tries)
    return None if others and len(own.daily) < fewest_values(horizon) else 0.0


def _importances(study: Any, complete: Sequence[Try]) -> dict[str, float]:
    """Shares of the variance of the value that each setting explains (fANOVA, Hutter et al. 2014); empty
    where there is too little to say.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    if len(complete) < 4 or np.ptp([one.value for one in complete]) == 0:
        return {}
    return {
        name: float(share)
        for name, share in get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)).items()
    }
