"""The config leaf of an expert: one YAML file for each expert, period and modality, and the module that it
names.
"""

import ast
import difflib
import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from components.experts.regime_models import RegimeModels
from components.processes.imports import users_module
from components.scoring.moments import TargetTransform
from components.settings import ConfigError, Section, advice_on, read_yaml, validate_settings
from components.timeline.periods import Period, TickPeriod

# Where the modules of Alphaloop's own experts lie.
FAMILIES = "components.experts.families"
# Keys of a leaf that experts.overrides may set, beside the settings of its expert.
SWITCHES = (
    "transform",
    "target",
    "horizon",
    "threads",
    "ensemble",
    "regimes",
    "also",
    "processes",
    "tracking",
)


class FurtherTask(Section):
    """A target and horizon that is learned and predicted beside the expert's own."""

    target: str = Field(description="label column")
    horizon: int = Field(ge=1, description="bars; one of labels.horizons")


class Leaf(Section):
    """What is trained: an expert for one period and modality, with its settings.

    `module` names the Python module of an expert that is not one of Alphaloop's own; it holds a `Settings`
    section and an `Expert` class as `components/experts/protocol.py` describes.
    """

    expert: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description=(
            "name of the expert; of its module in components/experts/families unless `module` is given"
        ),
    )
    period: Period | TickPeriod = Field(
        description="length of the bars that it learns from, or how far apart samples of order books are"
    )
    modality: Literal["base", "rich"] = Field(
        "base", description="which inputs it sees; rich adds slow columns of short coverage"
    )
    module: str | None = Field(
        None, description="dotted name of a module of your own, such as my_package.my_expert"
    )
    transform: TargetTransform = Field(
        "rank_gaussian",
        description=(
            "what is learned of the target in the cross-section of a bar; labels.transform, unless the leaf"
            " or an override says otherwise. scaled: the label over its spread, each symbol for itself, where"
            " a few symbols are no cross-section"
        ),
    )
    inputs: tuple[str, ...] = Field(
        (), description="columns that it sees, such as the one of a baseline; none: all of its modality"
    )
    target: str | None = Field(
        None, description="label column that it learns and predicts; none: labels.target"
    )
    horizon: int | None = Field(
        None, ge=1, description="bars of that label, one of labels.horizons; none: labels.primary_horizon"
    )
    threads: int = Field(
        2,
        ge=1,
        description="threads of one fit; another number may change the last digits of the predictions",
    )
    ensemble: int = Field(
        1,
        ge=1,
        le=5,
        description=(
            "members that differ by their seed; their scores are averaged and their spread widens the band"
        ),
    )
    regimes: RegimeModels | None = Field(
        None,
        description="a model of its own for each regime, blended with the one of all rows; none: one model",
    )
    also: tuple[FurtherTask, ...] = Field(
        (),
        description=(
            "further targets and horizons that it learns and predicts: a network by heads of one model where"
            " the target is a number, any other expert by a model each"
        ),
    )
    processes: int = Field(
        1,
        ge=1,
        description=(
            "processes that share each batch of a neural fit, one a GPU: of this machine, or on Ray's nodes"
            " where compute.engine is ray"
        ),
    )
    tracking: str = Field(
        "",
        description=(
            "MLflow tracking address for the steps of neural fits, such as http://mlflow:5000 or"
            " sqlite:///steps.db; empty: none"
        ),
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="settings of the expert, as its module declares them"
    )

    def named(self, name: str) -> "Leaf":
        """The same leaf under another name: files, predictions and weights carry it, and `module` says what
        is trained.
        """
        if name == self.expert:
            return self
        return self.model_copy(update={"expert": name, "module": self.module or f"{FAMILIES}.{self.expert}"})


def load_leaf(path: str | Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Leaf:
    """Read a leaf and put `overrides` over it, section by section.

    All settings come back filled in, so that the leaf alone says what is trained.

    Parameters
    ----------
    overrides : by the name that they have in `experts.overrides`, a later one over an earlier one; keys of
        the leaf (`SWITCHES`) and settings of its expert

    Raises
    ------
    ConfigError
        If the file is missing or broken, holds an unknown key or a wrong value, or names an unknown expert.
    """
    path = Path(path)
    if not path.exists():
        known = list_leaves(path.parents[2]) if len(path.parts) > 3 else []
        others = (
            f"Leaves there: {', '.join(known)}"
            if known
            else "Write it, or name another one in experts.leaves"
        )
        raise ConfigError(f"The expert leaf {path} does not exist. {others}.")
    values, lines = read_yaml(path)
    for name, given in (overrides or {}).items():
        values = merged(values, _as_leaf(given))
        lines.update(dict.fromkeys(_places(_as_leaf(given)), f"{path}, experts.overrides.{name}"))
    leaf = validate_settings(Leaf, values, source=str(path), lines=lines)
    module = expert_module(leaf, source=str(path))
    _refuse_unknown_keys(overrides or {}, module.Settings, f"{path}, experts.overrides")
    if leaf.processes > 1 and not _is_neural(module):
        raise ConfigError(
            f"{path}: processes={leaf.processes}, but {leaf.expert} is no neural expert, so its fits can't be"
            " shared among processes. Set processes to 1."
        )
    if urlsplit(leaf.tracking).password:
        raise ConfigError(
            f"{path}: the address in `tracking` holds a password, which would be kept with the run. Give"
            " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead."
        )
    below = {place[1:]: line for place, line in lines.items() if len(place) > 1 and place[0] == "settings"}
    settings = validate_settings(module.Settings, leaf.settings, source=str(path), lines=below)
    return leaf.model_copy(update={"settings": settings.model_dump(mode="json")})


def _as_leaf(given: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides in the form of a leaf: the switches on top, all else below `settings`."""
    switches = {key: value for key, value in given.items() if key in SWITCHES}
    settings = {key: value for key, value in given.items() if key not in SWITCHES}
    return {**switches, **({"settings": settings} if settings else {})}


def _refuse_unknown_keys(
    overrides: Mapping[str, Mapping[str, Any]], settings: type[Section], place: str
) -> None:
    """ConfigError where a key is neither a switch nor a setting of the expert, or both."""
    for name, given in overrides.items():
        for key in given:
            if key in SWITCHES and key in settings.model_fields:
                raise ConfigError(
                    f"{place}.{name}: {key!r} is a key of every leaf and of this expert's settings too. Call"
                    " the expert's setting otherwise, or set it in the leaf."
                )
            if key not in (*settings.model_fields, *SWITCHES):
                advice = advice_on(str(key), settings, SWITCHES)
                raise ConfigError(f"{place}.{name}: unknown key {key!r}. {advice}")


def is_neural(leaf: Leaf) -> bool:
    """Whether the leaf's expert is a network, which reads windows of bars."""
    return _is_neural(expert_module(leaf))


def _is_neural(module: ModuleType) -> bool:
    """By the expert's own word: the leaf of a tabular expert need not know the neural engine, whose code
    would count into the cache key of its training.
    """
    return getattr(module.Expert, "neural", False)


def merged(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with `overrides` over them; a section in both is merged, anything else replaced."""
    both = {
        name: merged(settings[name], value)
        for name, value in overrides.items()
        if isinstance(value, Mapping) and isinstance(settings.get(name), Mapping)
    }
    return {**settings, **overrides, **both}


def _places(overrides: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every key in nested overrides."""
    inner = [
        place
        for name, value in overrides.items()
        if isinstance(value, Mapping)
        for place in _places(value, (*above, name))
    ]
    return [*((*above, name) for name in overrides), *inner]


def list_leaves(folder: str | Path) -> list[str]:
    """Names `<expert>/<period>/<modality>` of the leaves below a folder, sorted."""
    folder = Path(folder)
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*/*.yaml"))


def known_experts() -> list[str]:
    """Names of the modules in `families` that define `Settings` and `Expert`, found by reading their source:
    no library is imported.
    """
    families = Path(__file__).parent / "families"
    return sorted(path.stem for path in families.glob("*.py") if {"Settings", "Expert"} <= _defined(path))


def expert_module(leaf: Leaf, *, source: str = "") -> ModuleType:
    """The module that a leaf names, with its `Settings` and `Expert`.

    Raises
    ------
    ConfigError
        If there is no such expert (the message lists those that there are), or its module can't be imported
        or lacks one of the two.
    """
    where = f"{source}: " if source else ""
    if leaf.module is None and leaf.expert not in known_experts():
        close = difflib.get_close_matches(leaf.expert, known_experts(), n=1)
        advice = f"Did you mean {close[0]!r}? " if close else ""
        raise ConfigError(
            f"{where}there is no expert {leaf.expert!r}. {advice}Known experts: {', '.join(known_experts())}."
            " For one of your own give `module: my_package.my_expert`."
        )
    name = leaf.module or f"{FAMILIES}.{leaf.expert}"
    try:
        module = users_module(name) if leaf.module else importlib.import_module(name)
    except Exception as error:
        raise ConfigError(
            f"{where}the module {name!r} of expert {leaf.expert!r} can't be imported ({type(error).__name__}:"
            f" {error}). Install its package, or mend `module`."
        ) from error
    for part in ("Settings", "Expert"):
        if not hasattr(module, part):
            raise ConfigError(
                f"{where}the module {name!r} of expert {leaf.expert!r} has no class {part!r}. See"
                " components/experts/protocol.py for what an expert is."
            )
    return module


@cache
def _defined(path: Path) -> frozenset[str]:
    """Names of the classes and variables at the top of a module, those that it takes over from others too."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    variables = {
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    taken = {
        name.asname or name.name for node in body if isinstance(node, ast.ImportFrom) for name in node.names
    }
    return frozenset(variables | taken | {node.name for node in body if isinstance(node, ast.ClassDef)})
