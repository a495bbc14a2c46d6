"""A study in Optuna's database: what is searched, opened or made, and refused where its values can't be
compared.
"""

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.experts.leaves import Leaf
from components.experts.studies.database import Database, SearchError, told
from components.experts.studies.judging import StudyInputs
from components.experts.studies.search_space import Space, value_of
from components.settings import config_hash


@dataclass(frozen=True)
class SearchPlan:
    """One search.

    `folder` holds the folds of tries at work; `storage` is a database URL, that of `setting`, empty for
    SQLite in `folder`. Any number of processes may have the same plan: together they make `trials` tries.
    """

    inputs: StudyInputs
    leaf: Leaf
    space: Space
    folder: Path
    trials: int
    workers: int = 1
    storage: str = ""
    setting: str = "--storage"
    study: str = ""
    timeout_s: float | None = None

    @property
    def name(self) -> str:
        return self.study or f"{self.leaf.expert}-{self.leaf.period}-{self.leaf.modality}"

    @property
    def database(self) -> Database:
        return database_of(self.storage, self.folder, self.setting)

    @property
    def stage(self) -> str:
        return f"tune {self.leaf.expert}"


def database_of(storage: str, folder: Path, setting: str) -> Database:
    """Where a search's study lies: at the URL `storage`, which `setting` names, or in a file of `folder`."""
    if storage:
        return Database(storage, setting)
    return Database(f"sqlite:///{(folder / 'study.db').absolute()}", "")


def require_usable(database: Database) -> None:
    """Open a database, and make its tables where there are none.

    Raises
    ------
    SearchError
        If it can't be used.
    """
    with quiet(), told(database):
        if not database.setting and database.file is not None:
            database.file.parent.mkdir(parents=True, exist_ok=True)
        database.open()


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


def open_study(plan: SearchPlan) -> Any:
    """The study, made where there is none; as SQLAlchemy's errors where its database can't be used."""
    import optuna

    plan.folder.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        storage=plan.database.open(),
        study_name=plan.name,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.NopPruner(),
    )


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
    """Mark a new study as the plan's, and enqueue the leaf's own settings, if nobody did.

    Raises
    ------
    SearchError
        If the study was made with other data, code or settings.
    """
    with plan.database.locked(plan.name):
        refuse_other(study, plan)
        if not study.get_trials(deepcopy=False):
            own = {name: value_of(plan.leaf.settings, name) for name in plan.space}
            study.enqueue_trial(own, user_attrs={"own": True, "work": "own"})
