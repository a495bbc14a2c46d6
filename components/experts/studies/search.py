"""Hyper-parameter search with Optuna on the purged validation window: resumable after a kill, in parallel,
blind to the test window.

A try is one set of settings, trained in the walk-forward folds that predict the validation window. Its value
is the mean daily RankIC of those out-of-fold predictions. The first try is the leaf as it stands, so that one
sees what the search gains over it.

The sampler is seeded anew for each try from the run's seed and the number of tries before it, so that a study
that was stopped goes on with the tries that an unbroken one would have made (with one worker; several see
each other's results in an order that nobody can repeat).
"""

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from components.contracts import AlphaloopError, ContractError
from components.experts.errors import ExpertError, Stopped
from components.experts.leaves import Leaf, expert_module
from components.experts.studies.judging import StudyInputs, Tables, daily_ic, read_tables, standard_error
from components.experts.studies.search_space import Space, distributions, value_of, with_values
from components.experts.training.train import train_expert
from components.progress import report, warn
from components.settings import ConfigError, config_hash, validate_settings

# A try is given up where it lies behind the best one by so many standard errors of their daily difference.
PRUNE_AT_T = -1.5
RANDOM_TRIES = 8
LOCK_WAIT_S = 120
# A try of another machine that finished no fold for so long counts as killed.
SILENT_HOURS = 6
EULER = 0.5772156649015329


class SearchError(AlphaloopError):
    """A search can't begin, go on or end with a result."""


@dataclass(frozen=True)
class SearchPlan:
    """One search.

    `folder` holds the database and the folds of tries at work; `storage` is a database URL, empty for SQLite
    in `folder`.
    """

    inputs: StudyInputs
    leaf: Leaf
    space: Space
    folder: Path
    trials: int
    workers: int = 1
    storage: str = ""
    study: str = ""
    timeout_s: float | None = None

    @property
    def name(self) -> str:
        return self.study or f"{self.leaf.expert}-{self.leaf.period}-{self.leaf.modality}"

    @property
    def stage(self) -> str:
        return f"tune {self.leaf.expert}"


@dataclass(frozen=True)
class Try:
    """One set of settings and what came of it.

    `state` is complete, pruned, failed, or stopped where it was killed; `daily` the RankIC of each judged
    day.
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
class StudyResult:
    """A study as it stands.

    `gain` is best less own on the same days, `gain_error` its standard error, `luck` the gain to expect from
    so many equal tries.
    """

    name: str
    storage: str
    tries: list[Try]
    best: Try
    own: Try
    best_leaf: Leaf
    gain: float
    gain_error: float
    luck: float
    importances: dict[str, float]


def search(plan: SearchPlan) -> StudyResult:
    """Make tries until the study holds `plan.trials` finished ones, or the time is over.

    Tries of an earlier call count; those that were killed are made again.

    Raises
    ------
    SearchError
        If the database can't be opened, the study belongs to other data, code or settings, or no try ended
        well.
    ContractError, ConfigError, TimelineError
        If tables, leaf and timeline do not fit together.
    """
    with _quiet():
        study = _open(plan)
        _refuse_other(study, _identity(plan))
        _begin(study, plan)
        deadline = None if plan.timeout_s is None else time.time() + plan.timeout_s
        if plan.workers == 1:
            _make_tries(study, plan, deadline, threading.Lock())
        else:
            _in_processes(plan, deadline)
        return _found(study, plan)


def _found(study: Any, plan: SearchPlan) -> StudyResult:
    tries = [_read(trial) for trial in study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]
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
    error = standard_error(difference, plan.inputs.horizon) if best.number != own.number else 0.0
    return StudyResult(
        name=plan.name,
        storage=shown_url(_url(plan.storage, plan.folder)),
        tries=tries,
        best=best,
        own=own,
        best_leaf=_leaf_with(plan.leaf, best.values),
        gain=float(difference.mean()),
        gain_error=error,
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


def shown_url(url: str) -> str:
    """A database URL without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise SearchError(
            "--storage is no database URL. Write one such as sqlite:///study.db or"
            " postgresql://user:password@host/database."
        ) from None


def _luck(complete: Sequence[Try], own: Try, horizon: int, tries: int) -> float:
    """Gain of the best over the leaf's own to expect if all tries were equally good: the expected largest of
    so many chance deviations.

    A daily difference holds the chance of both sides, so that of one try is its standard error by the root of
    2.
    """
    errors = [standard_error(one.daily - own.daily, horizon) for one in complete if one.number != own.number]
    usable = [error for error in errors if np.isfinite(error) and error > 0]
    return float(np.median(usable) / np.sqrt(2)) * expected_maximum(tries) if usable else 0.0


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


@contextmanager
def _quiet():
    """Optuna says in its log what the page and the terminal say."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _url(storage: str, folder: Path) -> str:
    return storage or f"sqlite:///{(folder / 'study.db').absolute()}"


def open_storage(storage: str, folder: Path) -> Any:
    """The database of studies:

    `storage` is its URL, empty for SQLite in `folder`. It is made where there is none.

    Raises
    ------
    SearchError
        If it can't be opened.
    """
    import optuna

    url = _url(storage, folder)
    arguments = (
        {"connect_args": {"timeout": LOCK_WAIT_S}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    )
    with _quiet(), _told(storage, url):
        if not storage:
            folder.mkdir(parents=True, exist_ok=True)
        return optuna.storages.RDBStorage(url, engine_kwargs=arguments)


def _open(plan: SearchPlan) -> Any:
    """The study, made where there is none."""
    import optuna

    storage = open_storage(plan.storage, plan.folder)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with _told(plan.storage, _url(plan.storage, plan.folder)):
        return optuna.create_study(
            storage=storage,
            study_name=plan.name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.NopPruner(),
        )


@contextmanager
def _told(storage: str, url: str):
    """What goes wrong with the database becomes a SearchError that says how to mend it."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    shown = shown_url(url)
    try:
        yield
    except (SQLAlchemyError, ImportError, RuntimeError, optuna.exceptions.StorageInternalError) as error:
        cause = (
            str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0].replace(url, shown)
        )
        if not storage:
            advice = (
                "Move that file away to begin anew, or keep this search elsewhere: --storage"
                " sqlite:///another.db."
            )
        elif url.startswith("sqlite"):
            advice = (
                "Move that file away, name another one in --storage, or leave --storage out for a file in the"
                " run's folder."
            )
        else:
            advice = "Install its driver, start it, or leave --storage out for a file in the run's folder."
        raise SearchError(f"The study's database {shown} can't be used: {cause}. {advice}") from None


def _identity(plan: SearchPlan) -> dict[str, str]:
    """All that values of one study must have in common."""
    inputs = plan.inputs
    task = f"{inputs.period} {inputs.horizon} {inputs.target}"
    space = repr(sorted(plan.space.items()))
    return {
        "data": inputs.data_key,
        "task": task,
        "timeline": config_hash(inputs.timeline),
        "leaf": config_hash(plan.leaf.model_copy(update={"tracking": ""})),
        "space": space,
        "seed": str(inputs.seed),
        "code": inputs.code,
    }


def _refuse_other(study: Any, identity: dict[str, str]) -> None:
    found = study.user_attrs.get("identity")
    if found is None:
        study.set_user_attr("identity", identity)
        return
    changed = [name for name in identity if found.get(name) != identity[name]]
    if changed:
        raise SearchError(
            f"Study {study.study_name} was made with other {', '.join(changed)}: its values can't be compared"
            f" with new ones. Give the new search a name of its own: --study {study.study_name}-2."
        )


def _begin(study: Any, plan: SearchPlan) -> None:
    """Enqueue the leaf's own settings, if nobody did, and again what was being tried when an earlier search
    was killed.
    """
    from optuna.trial import TrialState

    if not study.get_trials(deepcopy=False):
        own = {name: value_of(plan.leaf.settings, name) for name in plan.space}
        study.enqueue_trial(own, user_attrs={"own": True, "work": "own"})
    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.RUNNING and not _lives(
            trial.user_attrs.get("owner"), trial.user_attrs.get("beat", 0.0)
        ):
            study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("again_for") for trial in trials}
    for trial in trials:
        if trial.state is TrialState.FAIL and "reason" not in trial.user_attrs and trial.number not in again:
            kept = {name: value for name, value in trial.user_attrs.items() if name in ("own", "work")}
            study.enqueue_trial(trial.params, user_attrs={**kept, "again_for": trial.number})


def _owner() -> dict[str, Any]:
    import psutil

    return {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}


def _lives(owner: dict[str, Any] | None, beat: float) -> bool:
    """Whether the process that makes a try may still be at it.

    One on another machine can't be seen from here: it may for some hours after its last fold.
    """
    import psutil

    if owner is None:
        return False
    if owner["host"] != socket.gethostname():
        return time.time() - beat < SILENT_HOURS * 3600
    try:
        return owner["pid"] != os.getpid() and psutil.Process(owner["pid"]).create_time() == owner["began"]
    except psutil.NoSuchProcess:
        return False


def _make_tries(study: Any, plan: SearchPlan, deadline: float | None, lock: Any) -> None:
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
            trial.set_user_attr("owner", _owner())
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
        days.append(daily_ic(predictions, tables.wanted)["ic"].to_numpy())
        trial.set_user_attr("beat", time.time())
        so_far = np.concatenate(days)
        if len(so_far):
            trial.report(float(so_far.mean()), step=number)
        if number + 1 < total and not own and _hopeless(so_far, best, plan.inputs.horizon):
            raise Stopped

    try:
        leaf = _leaf_with(plan.leaf, trial.params)
        train_expert(
            **tables.arguments(),
            leaf=leaf.model_copy(update={"threads": max(plan.leaf.threads // plan.workers, 1)}),
            timeline=plan.inputs.timeline,
            period=plan.inputs.period,
            horizon=plan.inputs.horizon,
            target=plan.inputs.target,
            seed=plan.inputs.seed,
            work_folder=work,
            code=plan.inputs.code,
            data_key=plan.inputs.data_key,
            until="validation",
            after_fold=after_fold,
        )
        state = TrialState.COMPLETE
    except Stopped:
        state = TrialState.PRUNED
    except (ExpertError, ConfigError) as error:
        state = TrialState.FAIL
        trial.set_user_attr("reason", str(error))
    daily = np.concatenate(days) if days else np.empty(0)
    if state is TrialState.COMPLETE and not len(daily):
        raise ContractError(
            "No day of the validation window has three symbols with a label, so nothing can be judged there."
            " Lengthen timeline.validation."
        )
    trial.set_user_attr("daily", [round(float(value), 8) for value in daily])
    trial.set_user_attr("seconds", round(time.monotonic() - started, 2))
    value = float(daily.mean()) if state is TrialState.COMPLETE else None
    study.tell(trial, value, state=state)
    shutil.rmtree(work, ignore_errors=True)
    _say(study, trial.number, plan)


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
    if len(best) < len(daily) or len(daily) < 3:
        return False
    difference = daily - best[: len(daily)]
    error = standard_error(difference, horizon)
    return bool(difference.mean() < PRUNE_AT_T * error)


def _leaf_with(leaf: Leaf, values: dict[str, Any]) -> Leaf:
    source = "these settings together"
    settings = validate_settings(
        expert_module(leaf).Settings, with_values(leaf.settings, values), source=source
    )
    return leaf.model_copy(update={"settings": settings.model_dump(mode="json")})


def _say(study: Any, number: int, plan: SearchPlan) -> None:
    trials = study.get_trials(deepcopy=False)
    one = _read(trials[number])
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
    measured = f"RankIC {one.value:.4f}" if one.state == "complete" else f"given up at {one.value:.4f}"
    report(plan.stage, f"{count} of {plan.trials}: {measured} (best {best:.4f}), {one.seconds:.0f} s: {what}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _read(trial: Any) -> Try:
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


def _in_processes(plan: SearchPlan, deadline: float | None) -> None:
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
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with _quiet():
            _make_tries(_open(plan), plan, deadline, lock)
    except AlphaloopError as error:
        failures.put(str(error))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
