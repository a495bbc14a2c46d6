"""The search space of an expert: a YAML file of settings and the values they may take, checked against the
expert's own `Settings`.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import Field, field_validator, model_validator

from components.experts.leaves import Leaf, expert_module, merged
from components.settings import ConfigError, Section, read_yaml, validate_settings

Number = Annotated[int | float, Field(union_mode="left_to_right")]


class Range(Section):
    """Numbers from low to high, both included."""

    low: Number
    high: Number
    log: bool = Field(False, description="drawn evenly in the logarithm")
    step: Number | None = Field(
        None, gt=0, description="distance of the values; none: 1 for whole numbers, any value for others"
    )

    @model_validator(mode="after")
    def _is_a_range(self):
        if self.low >= self.high:
            raise ValueError(
                f"low={self.low} is not below high={self.high}; give a range, or take the setting out of the"
                " file"
            )
        if self.log and (self.step or self.low <= 0):
            raise ValueError("log needs a low above 0 and goes with no step; take one of them out")
        if self.step:
            low, high, step = (Decimal(str(value)) for value in (self.low, self.high, self.step))
            if (high - low) % step:
                fits = low + max((high - low) // step, 1) * step
                raise ValueError(
                    f"steps of {step} from low={low} don't end at high={high}; set high to {fits}, or take"
                    " another step"
                )
        return self


class Choices(Section):
    """One of some values."""

    choices: tuple[bool | int | float | str | None, ...] = Field(min_length=2)

    @field_validator("choices", mode="before")
    @classmethod
    def _are_plain(cls, choices: Any) -> Any:
        for value in choices if isinstance(choices, list | tuple) else ():
            if not (
                value is None
                or isinstance(value, bool | int | str)
                or (isinstance(value, float) and math.isfinite(value))
            ):
                raise ValueError(
                    f"a choice must be one number, word, true, false or null, and {value!r} is none of them;"
                    " write each value on its own"
                )
        return choices


Space = dict[str, Range | Choices]


def read_space(path: str | Path, leaf: Leaf) -> Space:
    """Read and check `search.yaml`: setting (dotted inside sections) -> {low, high, log, step} or {choices}.

    Raises
    ------
    ConfigError
        If the file is missing or broken, names a setting that the expert does not have, gives a value that
        the expert refuses, or leaves out the value that the leaf itself has, from which the search starts.
    """
    if not Path(path).exists():
        raise ConfigError(
            f"There is no search space {path}. Write it: one line a setting, such as\n  learning_rate: {{low:"
            " 0.001, high: 0.1, log: true}"
        )
    values, lines = read_yaml(path)
    space, model = (
        {str(name): _parameter(str(name), value, str(path), lines) for name, value in values.items()},
        expert_module(leaf).Settings,
    )
    for name, parameter in space.items():
        _check(name, parameter, leaf, model, lines.get((name,), str(path)))
    return space


def with_values(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with the dotted `values` set in them."""
    for name, value in values.items():
        nested = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        settings = merged(settings, nested)
    return dict(settings)


def value_of(settings: Mapping[str, Any], name: str) -> Any:
    """The value of the dotted setting."""
    for part in name.split("."):
        settings = settings[part]
    return settings


def distributions(space: Space, model: type) -> dict[str, Any]:
    """The same for Optuna, by setting; `model` is the expert's `Settings`."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def one(name: str, parameter: Range | Choices) -> Any:
        if isinstance(parameter, Choices):
            return CategoricalDistribution(parameter.choices)
        if _kind(model, name, "") is int:
            return IntDistribution(
                int(parameter.low), int(parameter.high), log=parameter.log, step=int(parameter.step or 1)
            )
        return FloatDistribution(
            float(parameter.low), float(parameter.high), log=parameter.log, step=parameter.step
        )

    return {name: one(name, parameter) for name, parameter in space.items()}


def _parameter(name: str, value: Any, path: str, lines: Mapping[tuple, str]) -> Range | Choices:
    below = {place[1:]: line for place, line in lines.items() if place[0] == name and len(place) > 1}
    source = lines.get((name,), path)
    if not isinstance(value, dict):
        raise ConfigError(
            f"{source}: {name} is {value!r}, expected {{low: ..., high: ...}} or {{choices: [...]}}."
        )
    return validate_settings(
        Choices if "choices" in value else Range, value, source=f"{source} ({name})", lines=below
    )


def _check(name: str, parameter: Range | Choices, leaf: Leaf, model: type, place: str) -> None:
    kind = _kind(model, name, f"{place}: {leaf.expert}")
    tried = parameter.choices if isinstance(parameter, Choices) else (parameter.low, parameter.high)
    if isinstance(parameter, Range) and kind not in (int, float):
        raise ConfigError(
            f"{place}: {name} of {leaf.expert} is no number, so it can't have a range. Give {{choices:"
            " [...]}."
        )
    if (
        kind is int
        and isinstance(parameter, Range)
        and any(value != int(value) for value in (*tried, parameter.step or 1))
    ):
        raise ConfigError(
            f"{place}: {name} of {leaf.expert} is a whole number, but low, high or step is not. Give whole"
            " numbers."
        )
    for value in tried:
        # Rules between several settings (a width that heads divide) are judged with each try; here only what
        # the value alone breaks.
        _refuse_value(model, leaf, name, value, place)
    own = value_of(leaf.settings, name)
    distribution = distributions({name: parameter}, model)[name]
    contained = (
        own in parameter.choices
        if isinstance(parameter, Choices)
        else own is not None and distribution._contains(distribution.to_internal_repr(own))
    )
    if not contained:
        raise ConfigError(
            f"{place}: {name} may be {_said(parameter)}, but the leaf"
            f" {leaf.expert}/{leaf.period}/{leaf.modality} itself has {own!r}, and the search starts there."
            " Widen the range, or change the leaf."
        )


def _refuse_value(model: type, leaf: Leaf, name: str, value: Any, place: str) -> None:
    from pydantic import ValidationError

    try:
        model.model_validate(with_values(leaf.settings, {name: value}))
    except ValidationError as error:
        location = tuple(name.split("."))
        problems = [
            problem
            for problem in error.errors()
            if tuple(map(str, problem["loc"]))[: len(location)] == location
        ]
        if problems:
            raise ConfigError(
                f"{place}: {name}={value!r} is refused by {leaf.expert}: {problems[0]['msg']}. Keep to what"
                " it takes."
            ) from None


def _kind(model: Any, name: str, whose: str) -> type | None:
    """int, float, or None for anything else; ConfigError for a setting that there is not."""
    import difflib

    parts = name.split(".")
    for depth, part in enumerate(parts):
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            close = difflib.get_close_matches(part, fields, n=1)
            advice = (
                f"Did you mean {'.'.join([*parts[:depth], close[0]])!r}?"
                if close
                else f"There are: {', '.join(fields) or 'none below it'}."
            )
            raise ConfigError(f"{whose} has no setting {name!r}. {advice}")
        model = fields[part].annotation
    if getattr(model, "model_fields", None):
        raise ConfigError(
            f"{whose} has a section {name!r}, which is no setting. Name one inside it:"
            f" {', '.join(f'{name}.{inner}' for inner in model.model_fields)}."
        )
    plain = set(get_args(model)) - {type(None)} if get_origin(model) in (Union, UnionType) else {model}
    return next((kind for kind in (float, int) if kind in plain), None)


def _said(parameter: Range | Choices) -> str:
    if isinstance(parameter, Choices):
        return f"one of {', '.join(map(repr, parameter.choices))}"
    return f"{parameter.low} to {parameter.high}{f' in steps of {parameter.step}' if parameter.step else ''}"
