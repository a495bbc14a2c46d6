"""The config leaf of an expert: one YAML file for each expert, period and modality, and the module that it names."""

import ast
import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import Field

from components.settings import ConfigError, Section, read_yaml, validate_settings


class Leaf(Section):
    """What is trained: an expert for one period and modality, with its settings.

    `module` names the Python module of an expert that is not one of Alphaloop's own; it holds a `Settings` section and an `Expert` class
    as `components/experts/protocol.py` describes.
    """

    expert: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="name of the expert; of its module in components/experts unless `module` is given")
    period: Literal["1d", "4h", "1h"]
    modality: Literal["base", "rich"] = "base"
    module: str | None = Field(None, description="dotted name of a module of your own, such as my_package.my_expert")
    threads: int = Field(2, ge=1, description="threads of one fit; another number may change the last digits of the predictions")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the expert, as its module declares them")


def load_leaf(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Leaf:
    """Read a leaf and put `overrides` over its `settings`. All settings come back filled in, so that the leaf alone says what is trained.

    Raises
    ------
    ConfigError
        If the file is missing or broken, holds an unknown key or a wrong value, or names an unknown expert.
    """
    path = Path(path)
    if not path.exists():
        known = list_leaves(path.parents[2]) if len(path.parts) > 3 else []
        raise ConfigError(f"The expert leaf {path} does not exist. {'Leaves there: ' + ', '.join(known) if known else 'Write it, or name another one in experts.leaves'}.")
    values, lines = read_yaml(path)
    leaf = validate_settings(Leaf, values, source=str(path), lines=lines)
    module = expert_module(leaf, source=str(path))
    below = {place[1:]: line for place, line in lines.items() if len(place) > 1 and place[0] == "settings"}
    below.update({(name,): f"{path}, experts.overrides.{leaf.expert}" for name in overrides or {}})
    settings = validate_settings(module.Settings, {**leaf.settings, **(overrides or {})}, source=str(path), lines=below)
    return leaf.model_copy(update={"settings": settings.model_dump(mode="json")})


def list_leaves(folder: str | Path) -> list[str]:
    """Names `<expert>/<period>/<modality>` of the leaves below a folder, sorted."""
    folder = Path(folder)
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*/*.yaml"))


def known_experts() -> list[str]:
    """Names of the modules beside this one that define `Settings` and `Expert`, found by reading their source: no library is imported."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if {"Settings", "Expert"} <= _classes(path))


def expert_module(leaf: Leaf, *, source: str = "") -> ModuleType:
    """The module that a leaf names, with its `Settings` and `Expert`.

    Raises
    ------
    ConfigError
        If there is no such expert (the message lists those that there are), or its module can't be imported or lacks one of the two.
    """
    where = f"{source}: " if source else ""
    if leaf.module is None and leaf.expert not in known_experts():
        close = difflib.get_close_matches(leaf.expert, known_experts(), n=1)
        advice = f"Did you mean {close[0]!r}? " if close else ""
        raise ConfigError(
            f"{where}there is no expert {leaf.expert!r}. {advice}Known experts: {', '.join(known_experts())}. For one of your own give `module: my_package.my_expert`."
        )
    name = leaf.module or f"components.experts.{leaf.expert}"
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise ConfigError(
            f"{where}the module {name!r} of expert {leaf.expert!r} can't be imported ({type(error).__name__}: {error}). Install its package, or mend `module`."
        ) from error
    for part in ("Settings", "Expert"):
        if not hasattr(module, part):
            raise ConfigError(f"{where}the module {name!r} of expert {leaf.expert!r} has no class {part!r}. See components/experts/protocol.py for what an expert is.")
    return module


def _classes(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)}
