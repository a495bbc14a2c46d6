"""The tries of a search: settings are drawn, trained fold by fold, given up where they are clearly worse, and
told to the study; in this process or in several.
"""

import multiprocessing
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from components.contracts import AlphaloopError, ContractError
from components.experts.errors import ExpertError, Stopped
from components.experts.leaves import Leaf, expert_module
from components.experts.studies.database import (
    LONGEST_PAUSE_S,
    SearchError,
    database_errors,
    patiently,
)
from components.experts.studies.judging import Tables, measure_of, read_tables
from components.experts.studies.makers import Watch, beating, failure, take_over, this_process
from components.experts.studies.search_space import distributions, with_values
from components.experts.studies.study import SearchPlan, open_study, quiet
from components.experts.training.train import train_expert
from components.metrics import t_value
from components.processes.endings import end_with_spawner
from components.progress import report, warn
from components.settings import ConfigError, validate_settings

# A try is given up where it lies behind the best one by so many standard errors of their daily difference.
PRUNE_AT_T = -1.5
RANDOM_TRIES = 8
# How soon it is looked again whether the tries of others have ended, at first.
SHORTEST_PAUSE_S = 0.2


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


@dataclass(frozen=True)
class Drawn:
    """A try that this process is to make: Optuna's own object for it, its settings, whether they are the
    leaf's own, and the name of its work folder.
    """

    trial: Any
    values: dict[str, Any]
    own: bool
    work: str


def make_tries(study: Any, plan: SearchPlan, deadline: float | None) -> None:
    """Try after try until there are enough and none is at work anywhere: one that another process makes may
    be the best, or be left to this one.
    """
    tables, watch = read_tables(plan.inputs), Watch()
    pause, awaited = SHORTEST_PAUSE_S, None
    while True:
        in_time = deadline is None or time.time() < deadline
        drawn, at_work = _step(plan, watch, lambda: _draw(study, plan, watch, more=in_time))  # noqa: B023
        if drawn is not None:
            _make_whole(study, drawn, plan, tables, watch)
            pause, awaited = SHORTEST_PAUSE_S, None
            continue
        if awaited is None and at_work:
            report(plan.stage, f"waits for tries of other processes: {len(at_work)} at work")
        # When time is over, others may go on for long: then those alone that were at work are waited for.
        awaited = at_work if in_time or awaited is None else awaited & at_work
        if not awaited:
            return
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE_S)


def _step(plan: SearchPlan, watch: Watch, step: Callable[[], Any]) -> Any:
    """What a step on the database returns, when its server answers."""
    first = True

    def again() -> Any:
        nonlocal first
        if not first:
            watch.forget()
        first = False
        return step()

    return patiently(plan.database, plan.stage, again)


def _draw(study: Any, plan: SearchPlan, watch: Watch, *, more: bool) -> tuple[Drawn | None, set[int]]:
    """A try to make, None where there are enough of them or no `more` shall begin; and the numbers of those
    that others are at.
    """
    database = plan.database
    with database.locked(plan.name) as require_held:
        take_over(study, watch)
        live = [trial for trial in study.get_trials(deepcopy=False) if _counts(trial)]
        if len(live) >= plan.trials or not more:
            return None, {trial.number for trial in live if trial.state.name == "RUNNING"}
        study.sampler = _sampler(plan.inputs.seed, len(live))
        trial = study.ask(fixed_distributions=distributions(plan.space, expert_module(plan.leaf).Settings))
        about = trial.user_attrs
        work = about.get("work") or f"try_{trial.number:04d}"
        trial.set_user_attr("work", work)
        drawn = Drawn(trial, trial.params, bool(about.get("own")), work)
        require_held()
        # Last: without it, the try is nobody's, and the next to draw takes it over.
        trial.set_user_attr("maker", this_process())
        return drawn, set()


def _make_whole(study: Any, drawn: Drawn, plan: SearchPlan, tables: Tables, watch: Watch) -> None:
    """Make a try; one that another process took over meanwhile is that one's."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    try:
        with beating(drawn.trial, watch):
            _make_try(study, drawn, plan, tables, watch)
    except UpdateFinishedTrialError:
        warn(
            plan.stage,
            f"try {drawn.trial.number} was taken for dead, and another process makes it; it is dropped here",
        )
    except BaseException:
        with suppress(*database_errors(), UpdateFinishedTrialError):
            drawn.trial.set_user_attr("interrupted", True)
            study.tell(drawn.trial, state=TrialState.FAIL, skip_if_finished=True)
        raise


def _counts(trial: Any) -> bool:
    """Whether a trial is one of the tries: it ended, by failing too, or is at work.

    One that was stopped is not.
    """
    return trial.state.name in ("COMPLETE", "PRUNED", "RUNNING") or bool(failure(trial))


def _sampler(seed: int, number: int) -> Any:
    from optuna.samplers import TPESampler

    return TPESampler(
        seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]),
        n_startup_trials=RANDOM_TRIES,
        multivariate=True,
    )


def _make_try(study: Any, drawn: Drawn, plan: SearchPlan, tables: Tables, watch: Watch) -> None:
    """Train one set of settings, fold by fold, and tell the study."""
    from optuna.trial import TrialState

    started = time.monotonic()
    work = plan.folder / "tries" / f"{plan.name}-{drawn.work}"
    best = _step(plan, watch, lambda: _best_daily(study))
    days: list[np.ndarray] = []

    def after_fold(number: int, total: int, predictions: pl.DataFrame) -> None:
        days.append(tables.quality(predictions)["quality"].to_numpy())
        so_far = np.concatenate(days)
        if len(so_far):
            _step(plan, watch, lambda: drawn.trial.report(float(so_far.mean()), step=number))
        if number + 1 < total and not drawn.own and _hopeless(so_far, best, plan.inputs.horizon):
            raise Stopped

    about: dict[str, Any] = {}
    try:
        leaf = leaf_with(plan.leaf, drawn.values)
        leaf = leaf.model_copy(update={"threads": max(plan.leaf.threads // plan.workers, 1)})
        assignment = plan.inputs.assignment(leaf, plan.inputs.seed)
        train_expert(tables.given, assignment, work, until="validation", after_fold=after_fold)
        state = TrialState.COMPLETE
    except Stopped:
        state = TrialState.PRUNED
    except (ExpertError, ConfigError) as error:
        state = TrialState.FAIL
        about["reason"] = str(error)
    about["seconds"] = round(time.monotonic() - started, 2)
    _step(plan, watch, lambda: _record(study, drawn.trial, state, days, about))
    shutil.rmtree(work, ignore_errors=True)
    _step(plan, watch, lambda: _say(study, drawn.trial.number, plan))


def _record(study: Any, trial: Any, state: Any, days: Sequence[np.ndarray], about: dict[str, Any]) -> None:
    """Tell the study how a try ended, with what each judged day is worth; UpdateFinishedTrialError where
    another process has ended it.
    """
    from optuna.exceptions import UpdateFinishedTrialError

    complete = state.name == "COMPLETE"
    daily = np.concatenate(days) if days else np.empty(0)
    if complete and not len(daily):
        raise ContractError(
            "No day of the validation window has three symbols with a label, so nothing can be judged there."
            " Lengthen timeline.validation."
        )
    about = {**about, "daily": [round(float(value), 8) for value in daily]}
    try:
        for name, value in about.items():
            trial.set_user_attr(name, value)
        value = float(daily.mean()) if complete else None
        ended = study.tell(trial, value, state=state, skip_if_finished=True).state
    except UpdateFinishedTrialError:
        # Told before, without an answer, because the server went away then.
        ended = study.get_trials(deepcopy=False)[trial.number].state
    if ended is not state:
        raise UpdateFinishedTrialError(f"Try {trial.number} was ended as {ended.name}.")


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
        trial.state.name, "failed" if failure(trial) else "stopped"
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
        reason=failure(trial),
    )


def make_tries_in_processes(plan: SearchPlan, deadline: float | None) -> None:
    """Workers in processes of their own on the same database; they end when this one does."""
    context = multiprocessing.get_context("spawn")
    failures = context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(replace(plan), deadline, failures)) for _ in range(plan.workers)
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
    what = f"{len(dead)} of {plan.workers} workers died (exit code {dead[0] if dead else 0})"
    if len(dead) == plan.workers:
        raise SearchError(
            f"{what}, for want of memory perhaps. What is finished is kept; start again with fewer --workers."
        )
    if dead:
        warn(plan.stage, f"{what}, for want of memory perhaps; the others made their tries.")


def _work(plan: SearchPlan, deadline: float | None, failures: Any) -> None:
    """One worker. What the user can mend is told to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Ended by its parent, a try is interrupted and not dead.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    end_with_spawner()
    try:
        with quiet():
            study = patiently(plan.database, plan.stage, lambda: open_study(plan))
            make_tries(study, plan, deadline)
    except AlphaloopError as error:
        failures.put(str(error))
