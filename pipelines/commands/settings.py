"""What can be set: every key of a config with its unit, default, meaning and the code in which it acts, read
from the models themselves; `docs/configuration.md` is this text.
"""

import importlib
import json
import re
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.table import Table

from components.contracts import AlphaloopError
from components.experts.leaves import Leaf, known_experts
from components.settings import sections_in
from pipelines.commands.printed import printer
from pipelines.config import Config

ROOT = Path(__file__).parents[2]
MOST_PLACES = 3
UNITS = {
    "bars": "bars",
    "days": "days",
    "hours": "hours",
    "minutes": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "bps": "basis points",
    "share": "share, 0 to 1",
    "ratio": "ratio",
    "sigma": "deviations",
    "rows": "rows",
    "bytes": "bytes",
    "mib": "MiB",
    "gib": "GiB",
    "windows": "windows",
    "epochs": "epochs",
    "steps": "steps",
}
LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
HEADER = ("key", "unit or values", "default", "what it does", "acts in")


@dataclass(frozen=True)
class Setting:
    """One key of a config; `places` are the files that read it, relative to the root of the project."""

    key: str
    unit: str
    default: str
    meaning: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """The settings of one section, in the order in which the model declares them."""

    name: str
    model: type[BaseModel]
    meaning: str
    settings: tuple[Setting, ...]


@cache
def setting_groups() -> tuple[Group, ...]:
    """Every section of a config, then the leaf of an expert, then each expert's own settings."""
    groups: list[Group] = []
    for name, field in Config.model_fields.items():
        for model in sections_in(field.annotation):
            groups += _groups(model, name)
    groups += _groups(Leaf, "leaf")
    for expert in known_experts():
        model = importlib.import_module(f"components.experts.families.{expert}").Settings
        groups += _groups(model, f"experts.overrides.{expert}")
    return tuple(groups)


def settings_table(section: str | None) -> Table:
    """The settings whose key begins with `section`, or the sections with their number of settings.

    Raises
    ------
    AlphaloopError
        If there is no such section or key.
    """
    groups = setting_groups()
    if section is None:
        table = Table(
            "section", "settings", "what it is", title=f"{_count(groups)} settings", title_justify="left"
        )
        for group in groups:
            table.add_row(group.name, str(len(group.settings)), group.meaning)
        return table
    found = [setting for group in groups for setting in group.settings if _within(setting.key, section)]
    if not found:
        names = ", ".join(dict.fromkeys(group.name.split(".")[0] for group in groups))
        raise AlphaloopError(f"There is no section or setting {section!r}. Sections: {names}.")
    table = Table(*HEADER, title=f"{len(found)} settings", title_justify="left", show_lines=True)
    for setting in found:
        table.add_row(*_cells(setting))
    return table


def show_settings(section: str | None) -> None:
    """Print `settings_table`, as wide as it needs to be where nobody watches."""
    printer().print(settings_table(section))


def configuration_page() -> str:
    """`docs/configuration.md`."""
    groups = setting_groups()
    lines = [
        "# Configuration",
        "",
        "Every key that a config may hold. Written by `alphaloop settings --markdown`; `make lint` compares.",
        "In a terminal: `alphaloop settings gates`, or one key: `alphaloop settings timeline.purge_bars`.",
        "Override any of them for one run with `--set section.key=value`."
        " The section `leaf` is the file of one expert,",
        "`<expert>/<period>/<modality>.yaml`; `experts.overrides.NAME` stands for the `settings` in it.",
        "",
        f"{_count(groups)} settings. A default of `–` means that the key must be given where its section is.",
    ]
    names: dict[type[BaseModel], list[str]] = {}
    for group in groups:
        names.setdefault(group.model, []).append(group.name)
    for group in groups:
        first, *others = names[group.model]
        if group.name != first:
            continue
        lines += ["", f"## {group.name}", "", group.meaning, ""]
        lines += [f"The same keys: {', '.join(others)}.", ""] if others else []
        lines += [_row(HEADER), _row(["---"] * len(HEADER))]
        lines += [_row([f"`{cells[0]}`", *cells[1:]]) for cells in map(_cells, group.settings)]
    return "\n".join(lines) + "\n"


def _count(groups: Sequence[Group]) -> int:
    return sum(len(group.settings) for group in groups)


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _cells(setting: Setting) -> tuple[str, ...]:
    return setting.key, setting.unit, setting.default, setting.meaning, ", ".join(setting.places)


def _row(cells: typing.Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _groups(model: Any, name: str) -> Iterator[Group]:
    """The group of a model, then those of the models inside it."""
    own, inner = [], []
    for key, field in model.model_fields.items():
        models = list(sections_in(field.annotation))
        if models:
            inner += [(part, f"{name}.{key}") for part in models]
        else:
            own.append(_setting(model, key, field, name))
    if own:
        yield Group(name, model, _sentence(model), tuple(own))
    for part, place in inner:
        yield from _groups(part, place)


def _setting(model: type[BaseModel], key: str, field: FieldInfo, section: str) -> Setting:
    return Setting(
        f"{section}.{key}",
        _unit(key, field),
        _default(field),
        field.description or "",
        _places(model, key, section),
    )


def _sentence(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "–"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, tuple):
        value = list(value)
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


def _unit(key: str, field: FieldInfo) -> str:
    """What a value means: its choices, its unit by the end of the name, and its limits."""
    choices = [str(choice) for choice in _choices(field.annotation)]
    if choices:
        return ", ".join(choices)
    if field.annotation is bool:
        return "true, false"
    limits = [
        f"{sign} {getattr(one, name):g}"
        for one in field.metadata
        for name, sign in LIMITS.items()
        if _limit(one, name)
    ]
    parts = [part for part in key.split("_") if part in UNITS]
    unit = UNITS[parts[0]] if parts else _kind(field.annotation)
    return " ".join([unit, *limits])


def _limit(constraint: Any, name: str) -> bool:
    return isinstance(getattr(constraint, name, None), int | float)


def _choices(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is Literal:
        yield from typing.get_args(annotation)
    elif typing.get_origin(annotation) in (typing.Union, UnionType):
        for part in typing.get_args(annotation):
            yield from _choices(part)


def _kind(annotation: Any) -> str:
    """The type in a reader's words."""
    names = {int: "number", float: "number", str: "text", AwareDatetime: "moment", NoneType: ""}
    origin = typing.get_origin(annotation)
    if annotation in names:
        return names[annotation]
    if origin in (typing.Union, UnionType):
        return " or ".join(filter(None, (_kind(part) for part in typing.get_args(annotation))))
    if origin in (list, tuple, dict):
        return {list: "list", tuple: "list", dict: "mapping"}[origin]
    return getattr(annotation, "__name__", str(annotation)).lower()


def _places(model: type[BaseModel], key: str, section: str) -> tuple[str, ...]:
    """Files that read the setting: where it is named with its section, or else wherever an attribute of so
    telling a name is read; the stage's folder where its name says too little.
    """
    stage = Path(*model.__module__.split(".")[:2])
    folders = (
        (stage,)
        if stage.parts[0] == "components"
        else (Path("components"), Path("pipelines"), Path("serving"))
    )
    sources = [
        (path, text)
        for folder in folders
        for path, text in _sources(folder)
        if f".{key}" in text and not path.endswith("config.py")
    ]
    holder = section.rsplit(".", 1)[-1]
    named = re.compile(rf"\b(?:{'' if len(folders) > 1 else 'settings|'}{re.escape(holder)})\.{key}\b")
    found = [path for path, text in sources if named.search(text)]
    if not found and "_" in key:
        found = [path for path, _ in sources]
    return tuple(found[:MOST_PLACES]) or (stage.as_posix(),)


@cache
def _sources(folder: Path) -> list[tuple[str, str]]:
    place = ROOT / folder
    paths = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return [
        (path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in paths
        if path.exists()
    ]
