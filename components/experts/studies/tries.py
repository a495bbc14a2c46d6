"""The tries of a search: settings are drawn, trained fold by fold, given up where they are clearly worse, and
told to the study; in this process or in several.
"""

import multiprocessing
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from components.contracts import AlphaloopError, ContractError
from components.experts.errors import ExpertError, Stopped
from components.experts.leaves import Leaf, expert_module
from components.experts.studies.judging import Tables, measure_of, read_tables
from components.experts.studies.search_space import distributions, with_values
from components.experts.studies.study import SearchError, SearchPlan, open_study, owner, quiet
from components.experts.training.train import train_expert
from components.metrics import t_value
from components.processes.endings import end_with_spawner
from components.progress import report, warn
from components.settings import ConfigError, validate_settings

# A try is given up where it lies behind the best one by so many standard errors of their daily difference.
PRUNE_AT_T = -1.5
RANDOM_TRIES = 8


@dataclass(frozen=True)
class Try:
    """One set of settings and what came of it.

    `state` is complete, pruned, failed, or stopped where it was killed; `daily` what each judged day is worth
    (`Tables.quality`).
    """

    number: int
    state: str
    values: dict[str, Any]
    value: float | None
    own: bool
    daily: np.ndarray = field(repr=False)
    seconds: float = 0.0
    reason: str = ""


def make_tries(study: Any, plan: SearchPlan, deadline: float | None, lock: Any) -> None:
    """Try after try until there are enough; `lock` is held while one is drawn."""
    from optuna.trial import TrialState

    tables = read_tables(plan.inputs)
    drawn_from = distributions(plan.space, expert_module(plan.leaf).Settings)
    while deadline is None or time.time() < deadline:
        with lock:
            live = [trial for trial in study.get_trials(deepcopy=False) if _counts(trial)]
            if len(live) >= plan.trials:
                return
            study.sampler = _sampler(plan.inputs.seed, len(live))
            trial = study.ask(fixed_distributions=drawn_from)
            trial.set_user_attr("owner", owner())
            trial.set_user_attr("beat", time.time())
        try:
            _make_try(study, trial, plan, tables)
        except BaseException:
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise


def _counts(trial: Any) -> bool:
    """Whether a trial is one of the tries: it ended, by failing too, or is at work.

    One that was killed is not.
    """
    return trial.state.name in ("COMPLETE", "PRUNED", "RUNNING") or (
        trial.state.name == "FAIL" and "reason" in trial.user_attrs
    )


def _sampler(seed: int, number: int) -> Any:
    from optuna.samplers import TPESampler

    return TPESampler(
        seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]),
        n_startup_trials=RANDOM_TRIES,
        multivariate=True,
    )


def _make_try(study: Any, trial: Any, plan: SearchPlan, tables: Tables) -> None:
    """Train one set of settings, fold by fold, and tell the study."""
    from optuna.trial import TrialState

    started = time.monotonic()
    own = bool(trial.user_attrs.get("own"))
    if "work" not in trial.user_attrs:
        trial.set_user_attr("work", f"try_{trial.number:04d}")
    work = plan.folder / "tries" / f"{plan.name}-{trial.user_attrs['work']}"
    best = _best_daily(study)
    days: list[np.ndarray] = []

    def after_fold(number: int, total: int, predictions: pl.DataFrame) -> None:
        days.append(tables.quality(predictions)["quality"].to_numpy())
        trial.set_user_attr("beat", time.time())
        so_far = np.concatenate(days)
        if len(so_far):
            trial.report(float(so_far.mean()), step=number)
        if number + 1 < total and not own and _hopeless(so_far, best, plan.inputs.horizon):
            raise Stopped

    try:
        leaf = leaf_with(plan.leaf, trial.params)
        leaf = leaf.model_copy(update={"threads": max(plan.leaf.threads // plan.workers, 1)})
        assignment = plan.inputs.assignment(leaf, plan.inputs.seed)
        train_expert(tables.given, assignment, work, until="validation", after_fold=after_fold)
        state = TrialState.COMPLETE
    except Stopped:
        state = TrialState.PRUNED
    except (ExpertError, ConfigError) as error:
        state = TrialState.FAIL
        trial.set_user_attr("reason", str(error))
    _record(study, trial, state, days, time.monotonic() - started)
    shutil.rmtree(work, ignore_errors=True)
    _say(study, trial.number, plan)


def _record(study: Any, trial: Any, state: Any, days: Sequence[np.ndarray], seconds: float) -> None:
    """Tell the study how a try ended, with what each judged day is worth."""
    complete = state.name == "COMPLETE"
    daily = np.concatenate(days) if days else np.empty(0)
    if complete and not len(daily):
        raise ContractError(
            "No day of the validation window has three symbols with a label, so nothing can be judged there."
            " Lengthen timeline.validation."
        )
    trial.set_user_attr("daily", [round(float(value), 8) for value in daily])
    trial.set_user_attr("seconds", round(seconds, 2))
    study.tell(trial, float(daily.mean()) if complete else None, state=state)


def _best_daily(study: Any) -> np.ndarray:
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    best = max(complete, key=lambda trial: trial.value, default=None)
    return np.array(best.user_attrs["daily"] if best else [])


def _hopeless(daily: np.ndarray, best: np.ndarray, horizon: int) -> bool:
    """Whether the days so far lie behind those of the best try, on the same days, by more than their
    difference varies.

    Optuna's MedianPruner would give up half of all tries whatever the noise of a fold; here a try must be
    clearly worse, day by day.
    """
    if len(best) < len(daily):
        return False
    # Too few days have no t value, and NaN is not below anything.
    return t_value(daily - best[: len(daily)], horizon=horizon) < PRUNE_AT_T


def leaf_with(leaf: Leaf, values: dict[str, Any]) -> Leaf:
    """The leaf with the values of a try; ConfigError where its expert refuses them together."""
    source = "these settings together"
    settings = validate_settings(
        expert_module(leaf).Settings, with_values(leaf.settings, values), source=source
    )
    return leaf.model_copy(update={"settings": settings.model_dump(mode="json")})


def _say(study: Any, number: int, plan: SearchPlan) -> None:
    trials = study.get_trials(deepcopy=False)
    one = read_try(trials[number])
    best = max((trial.value for trial in trials if trial.state.name == "COMPLETE"), default=float("nan"))
    count = sum(_counts(trial) and trial.state.name != "RUNNING" for trial in trials)
    if one.state == "failed":
        warn(plan.stage, f"try {one.number} failed: {one.reason}")
        return
    what = (
        "the leaf's own settings"
        if one.own
        else ", ".join(f"{name} {_short(value)}" for name, value in one.values.items())
    )
    measured = (
        f"{measure_of(plan.inputs.target)} {one.value:.4f}"
        if one.state == "complete"
        else f"given up at {one.value:.4f}"
    )
    report(plan.stage, f"{count} of {plan.trials}: {measured} (best {best:.4f}), {one.seconds:.0f} s: {what}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def read_try(trial: Any) -> Try:
    """A try as the study holds it."""
    attributes = trial.user_attrs
    state = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "at work"}.get(
        trial.state.name, "failed" if "reason" in attributes else "stopped"
    )
    value = trial.value if trial.state.name in ("COMPLETE", "PRUNED") else None
    return Try(
        number=trial.number,
        state=state,
        values=dict(trial.params),
        value=value,
        own=bool(attributes.get("own")),
        daily=np.array(attributes.get("daily", []), dtype=float),
        seconds=float(attributes.get("seconds", 0.0)),
        reason=attributes.get("reason", ""),
    )


def make_tries_in_processes(plan: SearchPlan, deadline: float | None) -> None:
    """Workers in processes of their own on the same database; they end when this one does."""
    context = multiprocessing.get_context("spawn")
    lock, failures = context.Lock(), context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(replace(plan), deadline, lock, failures))
        for _ in range(plan.workers)
    ]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
                worker.join()
    if not failures.empty():
        raise SearchError(failures.get())
    dead = [worker.exitcode for worker in workers if worker.exitcode]
    if dead:
        raise SearchError(
            f"{len(dead)} of {plan.workers} workers died (exit code {dead[0]}), for want of memory perhaps."
            " What is finished is kept; start again with fewer --workers."
        )


def _work(plan: SearchPlan, deadline: float | None, lock: Any, failures: Any) -> None:
    """One worker. What the user can mend is told to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_spawner()
    try:
        with quiet():
            make_tries(open_study(plan), plan, deadline, lock)
    except AlphaloopError as error:
        failures.put(str(error))
