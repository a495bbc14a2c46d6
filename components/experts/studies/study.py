"""A study in Optuna's database: opened or made, refused where its values can't be compared, and gone on with
after a kill.
"""

import logging
import os
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.contracts import AlphaloopError
from components.experts.leaves import Leaf
from components.experts.studies.judging import StudyInputs
from components.experts.studies.search_space import Space, value_of
from components.settings import config_hash

LOCK_WAIT_S = 120
# A try of another machine that finished no fold for so long counts as killed.
SILENT_HOURS = 6


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


@contextmanager
def quiet():
    """Optuna says in its log what the page and the terminal say."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def database_url(storage: str, folder: Path) -> str:
    """The URL of a search\'s database."""
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

    url = database_url(storage, folder)
    arguments = (
        {"connect_args": {"timeout": LOCK_WAIT_S}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    )
    with quiet(), _told(storage, url):
        if not storage:
            folder.mkdir(parents=True, exist_ok=True)
        return optuna.storages.RDBStorage(url, engine_kwargs=arguments)


def open_study(plan: SearchPlan) -> Any:
    """The study, made where there is none."""
    import optuna

    storage = open_storage(plan.storage, plan.folder)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with _told(plan.storage, database_url(plan.storage, plan.folder)):
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


def refuse_other(study: Any, plan: SearchPlan) -> None:
    """Mark a new study as the plan's; SearchError where an old one was made with other data, code or
    settings.
    """
    identity = _identity(plan)
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


def begin(study: Any, plan: SearchPlan) -> None:
    """Enqueue the leaf's own settings, if nobody did, and again what was being tried when an earlier search
    was killed.
    """
    from optuna.trial import TrialState

    if not study.get_trials(deepcopy=False):
        own = {name: value_of(plan.leaf.settings, name) for name in plan.space}
        study.enqueue_trial(own, user_attrs={"own": True, "work": "own"})
    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.RUNNING and not lives(
            trial.user_attrs.get("owner"), trial.user_attrs.get("beat", 0.0)
        ):
            study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("again_for") for trial in trials}
    for trial in trials:
        if trial.state is TrialState.FAIL and "reason" not in trial.user_attrs and trial.number not in again:
            kept = {name: value for name, value in trial.user_attrs.items() if name in ("own", "work")}
            study.enqueue_trial(trial.params, user_attrs={**kept, "again_for": trial.number})


def owner() -> dict[str, Any]:
    """This process, so that another can tell whether it is still there."""
    import psutil

    return {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}


def lives(owner: dict[str, Any] | None, beat: float) -> bool:
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
