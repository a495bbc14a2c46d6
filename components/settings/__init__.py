"""Typed configuration: one pydantic model a section, read from YAML with errors that name file, line and key.

Each stage declares its own section in its `config.py`; `pipelines/config.py` puts them together.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from components.contracts.errors import AlphaloopError
from components.credentials import without_secrets


class ConfigError(AlphaloopError):
    """A setting is unknown, missing, of the wrong type or out of range."""


class Section(BaseModel):
    """Base of every settings section: unknown keys, numbers that are not finite and truth values for numbers
    are refused, values never change after they were read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    # What took the place of keys of before, by their name.
    replaced: ClassVar[Mapping[str, str]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        meant = list(_types_in(cls.model_fields[info.field_name].annotation))
        numbers = any(one in (int, float) for one in meant) and not any(one in (bool, Any) for one in meant)
        if numbers and _holds_truth(value):
            raise ValueError("a number is meant; YAML reads yes, no, on, off, true and false as truth values")
        return value


# Characters of a wrong value that a message shows, so that it stays on one screen.
LONGEST_FOUND = 200
SettingsT = TypeVar("SettingsT", bound=BaseModel)


def _types_in(annotation: Any) -> Iterator[Any]:
    """A field's type and all that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _types_in(part)


def _holds_truth(value: Any) -> bool:
    """Whether a value is a truth value, or a list or mapping with one in it."""
    if isinstance(value, list | tuple):
        return any(map(_holds_truth, value))
    if isinstance(value, dict):
        return any(map(_holds_truth, value.values()))
    return isinstance(value, bool)


def config_hash(section: BaseModel) -> str:
    """SHA-256 over a section's values, independent of key order and of how the YAML was written."""
    return values_hash(section.model_dump(mode="json"))


def values_hash(values: Mapping[str, Any]) -> str:
    """`config_hash` of the section that has these values in JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def load_settings(model: type[SettingsT], path: str | Path, overrides: Sequence[str] = ()) -> SettingsT:
    """Read `model` from a YAML file, then apply overrides of the form `section.key=value`.

    Raises
    ------
    ConfigError
        Broken YAML, an unknown key, a wrong type or a value out of range; the message names file, line, key
        and value.
    """
    values, lines = read_yaml(path)
    for override in overrides:
        _apply_override(values, lines, override)
    return validate_settings(model, values, source=str(path), lines=lines)


def validate_settings(
    model: type[SettingsT],
    values: Mapping[str, Any],
    *,
    source: str,
    lines: Mapping[tuple, str] | None = None,
) -> SettingsT:
    """Build `model` from `values`; a failure becomes one ConfigError that lists every problem
    with its place.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_describe(problem, model, source, lines or {}) for problem in error.errors()]
        raise ConfigError(without_secrets("\n".join(problems))) from None


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[tuple, str]]:
    """Values of a YAML file and, for each key path, the place `file, line N` where it stands."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}. Give the path of a config such as"
            " pipelines/configs/demo.yaml."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not a text file in UTF-8 (byte {error.start}). Give a YAML file."
        ) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        advice = (
            "Indent with spaces, YAML takes no tabs."
            if "'\\t'" in (error.problem or "")
            else "Check the indentation and the colons there."
        )
        raise ConfigError(f"{path}, line {line}: not valid YAML: {error.problem}. {advice}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{_place_of_bad_value(text, path)} is not valid YAML: {error}. Mend it, or start from"
            " pipelines/configs/demo.yaml."
        ) from error
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"a {type(values).__name__}"
        raise ConfigError(
            f"{path} holds {found}, expected sections such as `run:` and `market:`. See"
            " pipelines/configs/demo.yaml."
        )
    lines: dict[tuple, str] = {}
    _collect_lines(root, (), str(path), lines)
    return values, lines


def _collect_lines(node: yaml.Node, prefix: tuple, path: str, lines: dict[tuple, str]) -> None:
    """The place of every key below a node; ConfigError where a mapping holds one twice, of which YAML would
    keep the last without a word.
    """
    if isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _collect_lines(value, (*prefix, str(number)), path, lines)
    if isinstance(node, yaml.MappingNode):
        own: set[tuple] = set()
        for key, value in node.value:
            place = (*prefix, str(key.value))
            here = f"{path}, line {key.start_mark.line + 1}"
            if place in own:
                first = lines[place].rpartition(" ")[2]
                raise ConfigError(
                    f"{here}: {'.'.join(place)!r} is there already, in line {first}. Keep one of them."
                )
            own.add(place)
            lines[place] = here
            _collect_lines(value, place, path, lines)


def _place_of_bad_value(text: str, path: Path) -> str:
    """File and line of the first value that is written like a date or a number but is none, such as
    2024-13-01; the file alone where that is not what is wrong.
    """
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
                try:
                    yaml.safe_load(event.value)
                except yaml.YAMLError:
                    continue
                except ValueError:
                    return f"{path}, line {event.start_mark.line + 1}: {event.value!r}"
    except (yaml.YAMLError, ValueError, RecursionError):
        pass
    return str(path)


def _apply_override(values: dict[str, Any], lines: dict[tuple, str], override: str) -> None:
    dotted, separator, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(
            f"--set {override!r} is not of the form section.key=value, for example --set run.seed=7."
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: {text!r} is not a valid YAML value ({error}).") from error
    place = values
    for depth, key in enumerate(keys[:-1]):
        child = place.setdefault(key, {})
        if child is None:
            child = place[key] = {}
        if not isinstance(child, dict):
            raise ConfigError(
                f"--set {override!r}: {'.'.join(keys[: depth + 1])} is the value {child!r}, not a section."
            )
        place = child
    place[keys[-1]] = value
    # A whole section is too long to quote, and may hold what only a check of its keys finds to be a password.
    shown = f"{dotted}=…" if isinstance(value, dict | list) else override
    lines[tuple(keys)] = f"--set {shown}"


def _describe(
    problem: Mapping[str, Any], model: type[BaseModel], source: str, lines: Mapping[tuple, str]
) -> str:
    location = tuple(str(part) for part in problem["loc"])
    known = location
    while known and known not in lines:
        known = known[:-1]
    where = lines.get(known, source)
    name = ".".join(location) or "the config"
    if problem["type"] == "extra_forbidden":
        section = _section_at(model, location[:-1])
        return f"{where}: unknown key {name!r}. {advice_on(location[-1], section)}"
    if problem["type"] == "missing":
        return f"{where}: {name!r} is missing. Add it."
    if problem["type"] in ("model_type", "model_attributes_type"):
        found = "nothing" if problem["input"] is None else repr(problem["input"])
        advice = f"`key: value` lines, indented below `{location[-1]}:`" if location else "sections"
        return f"{where}: {name}: a section is meant, {advice} (found {_cut(found)})."
    if problem["type"] == "string_type" and (misread := _misread(problem["input"])):
        return f"{where}: {name}: {misread}"
    message = problem["msg"].removeprefix("Value error, ")
    found = (
        ""
        if problem["type"] == "value_error" and isinstance(problem["input"], dict)
        else f" (found {_cut(repr(problem['input']))})"
    )
    return f"{where}: {name}: {message}{found}."


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_FOUND else f"{text[:LONGEST_FOUND]}…"


def _misread(value: object) -> str:
    """What to do where YAML takes a text without quotes for something else; empty for what it does not."""
    if isinstance(value, bool):
        words, quoted = ("ON, YES or TRUE", '"ON"') if value else ("NO, OFF or FALSE", '"NO"')
        return (
            f"expected text, but YAML reads a word such as {words} without quotes as {str(value).lower()}."
            f" Put it in quotes, such as {quoted}."
        )
    if value is None:
        return 'expected text, but YAML reads null, ~ or nothing as no value. Write "null" in quotes.'
    if isinstance(value, int | float):
        return (
            f"expected text, but YAML reads digits without quotes as the number {value} (000001 as 1, 1.0e5"
            ' as 100000.0). Put it in quotes, such as "000001".'
        )
    if isinstance(value, date):
        return f"expected text, but YAML reads it without quotes as the date {value}. Put it in quotes."
    return ""


def advice_on(key: str, section: type[BaseModel] | None, more: Sequence[str] = ()) -> str:
    """What to write instead of a key that the section does not know; `more` are known beside its own."""
    if key in getattr(section, "replaced", {}):
        return f"It was replaced by {section.replaced[key]}."
    names = [*(section.model_fields if section else ()), *more]
    close = difflib.get_close_matches(key, names, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(names)}."


def _section_at(model: type[BaseModel], location: tuple[str, ...]) -> type[BaseModel] | None:
    """The section at `location`, through lists, mappings and what may be left out."""
    found: type[BaseModel] | None = model
    for part in location:
        if found is not None and part in found.model_fields:
            found = next(sections_in(found.model_fields[part].annotation), None)
    return found


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field's type holds: itself, or those in its list, mapping or union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)
