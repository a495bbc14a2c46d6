"""Searches an expert's settings on a run's data:

`alphaloop experts tune`. The data comes from the run's cached stages, the tries run in plain processes.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.table import Table

from components.contracts import atomic_write_text
from components.experts.leaves import Leaf
from components.experts.studies.judging import measure_of
from components.experts.studies.search import StudyResult, search
from components.experts.studies.search_page import judged, search_page, verdict
from components.experts.studies.search_space import read_space
from components.experts.studies.study import SearchPlan, database_of, require_usable
from components.settings import ConfigError
from pipelines.commands.one_expert import SEARCH, expert_inputs
from pipelines.config import Config
from pipelines.leaves import beside_leaves, find_leaf, resolve_leaf, run_name

SPACE = "search.yaml"


@dataclass(frozen=True)
class Request:
    """How much is searched, and where it is kept; see `components.experts.studies.study.SearchPlan`."""

    trials: int = 30
    workers: int = 1
    storage: str = ""
    study: str = ""
    timeout_minutes: float | None = None


def tune(name: str, config: Config, request: Request) -> tuple[Table, str]:
    """Search the settings of the expert `name`; returns a table to show and where page and leaf are.

    Raises
    ------
    AlphaloopError
        If expert, search space or database are not in order; before anything is computed where that can be
        seen.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]*", request.study) or request.study in (".", ".."):
        raise ConfigError(
            f"--study {request.study!r} can't be the name of a file. Use letters, digits, dots, dashes and"
            " underscores."
        )
    leaf = resolve_leaf(find_leaf(name, config), config)
    space = read_space(beside_leaves(SPACE, leaf.expert, config), leaf)
    work = Path(config.run.folder).absolute() / "experts" / run_name(leaf, config)
    storage = request.storage or config.compute.search_storage
    setting = "--storage" if request.storage else "compute.search_storage"
    require_usable(database_of(storage, work / SEARCH, setting))
    leaf, inputs, work = expert_inputs(name, config)
    plan = SearchPlan(
        inputs=inputs,
        leaf=leaf,
        space=space,
        folder=work / SEARCH,
        trials=request.trials,
        workers=request.workers,
        storage=storage,
        setting=setting,
        study=request.study,
        timeout_s=None if request.timeout_minutes is None else 60 * request.timeout_minutes,
    )
    found = search(plan)
    return _table(found, plan), _publish(found, plan, config)


def leaf_text(leaf: Leaf, comment: str) -> str:
    """A leaf as a YAML file, all settings filled in."""
    values = {
        "expert": leaf.expert,
        "period": leaf.period,
        "modality": leaf.modality,
        **leaf.model_dump(mode="json", exclude_defaults=True),
        "settings": leaf.settings,
    }
    return f"# {comment}\n{yaml.safe_dump(values, sort_keys=False)}"


def _publish(found: StudyResult, plan: SearchPlan, config: Config) -> str:
    """Write page and best leaf, that of a study with a name of its own in a folder of its own; returns what
    to tell about them.
    """
    folder, leaf, measure = plan.folder, found.best_leaf, measure_of(plan.inputs.target)
    text = leaf_text(
        leaf,
        f"Best of {len(judged(found))} tries of study {found.name}: validation {measure}"
        f" {found.best.value:.4f}, the leaf's own {found.own.value:.4f}.",
    )
    home = folder / "studies" / plan.study if plan.study else folder
    leaves = home / "leaves"
    for path in (home / "best.yaml", leaves / leaf.expert / leaf.period / f"{leaf.modality}.yaml"):
        atomic_write_text(path, text)
    page = folder / f"{found.name}.html"
    atomic_write_text(page, search_page(found, plan))
    lines = [
        verdict(found),
        f"Page: {page}",
        f"Best leaf: {home / 'best.yaml'}. Use it: --set experts.folder={leaves}",
    ]
    for name in dict.fromkeys((leaf.expert, run_name(leaf, config))):
        if config.experts.overrides.get(name):
            lines.append(
                f"Your config's experts.overrides.{name} stands over any leaf: take it out to train with the"
                " best one."
            )
    return "\n".join(lines)


def _table(found: StudyResult, plan: SearchPlan) -> Table:
    """The best try beside the leaf's own."""
    table = Table(
        title=f"Study {found.name}: {len(judged(found))} tries on the validation window", title_justify="left"
    )
    for name, side in (("", "left"), ("leaf's own", "right"), ("best", "right")):
        table.add_column(name, justify=side)
    table.add_row(measure_of(plan.inputs.target), f"{found.own.value:.4f}", f"{found.best.value:.4f}")
    table.add_row("gain, standard error", "", f"{found.gain:+.4f} ± {_known(found.gain_error)}")
    table.add_row("gain by luck alone", "", _known(found.luck), end_section=True)
    for name in plan.space:
        table.add_row(name, *(_cell(one.values.get(name)) for one in (found.own, found.best)))
    return table


def _known(value: float | None) -> str:
    return "too few days" if value is None else f"{value:.4f}"


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
