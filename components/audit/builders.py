"""Finds the function under audit by its dotted name, so that the audit imports no other stage."""

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import polars as pl
from pydantic import BaseModel, ValidationError

from components.audit.result import AuditError
from components.processes.imports import users_module

Builder = Callable[[pl.DataFrame], pl.DataFrame]
# The same table in blocks of bars, one after another.
Pieces = Callable[[pl.DataFrame], Iterator[pl.DataFrame]]


def load_builder(name: str, settings: str = "") -> Builder:
    """The function `package.module:function` as one of a panel alone.

    With `settings` (JSON) the function is called as `function(panel, parsed)`, where `parsed` is read by the
    class `Settings` of the module `config` beside the function's module (`package.config`). With an empty
    string it is called as `function(panel)`. It returns a table, or a tuple that begins with one.

    Raises
    ------
    AuditError
        If the name, the settings class or the settings do not exist or do not fit; when called, if the
        function fails or returns no table with `timestamp` and `symbol`.
    """
    module_name, separator, function_name = name.partition(":")
    if not separator or not module_name or not function_name:
        raise AuditError(
            f"builder={name!r} is not of the form package.module:function, for example"
            " components.labels.build:build_labels."
        )
    function = _attribute(module_name, function_name)
    arguments = (_parse(_beside(module_name, "config"), settings),) if settings else ()

    def build(panel: pl.DataFrame) -> pl.DataFrame:
        return checked_table(function(panel, *arguments), name)

    return build


def load_pieces(name: str, settings: str, rows: int) -> Pieces | None:
    """What makes the same table as the function `package.module:function` in pieces of about so many rows:
    `package.in_pieces:tables_in_pieces`, called as `tables_in_pieces(panel, parsed, rows)`; None where the
    package has no such module.

    Raises
    ------
    AuditError
        As `load_builder`.
    """
    module_name = name.partition(":")[0]
    beside = _beside(module_name, "in_pieces")
    if "." not in beside or find_spec(beside) is None:
        return None
    function = _attribute(beside, "tables_in_pieces")
    parsed = _parse(_beside(module_name, "config"), settings)
    return lambda panel: function(panel, parsed, rows)


def fresh_builder(name: str) -> Builder:
    """The same function from its module read anew, so that nothing is left of earlier calls: a scaler fitted
    once and kept would hide its leak.
    """
    module_name = name.partition(":")[0]
    kept = sys.modules.pop(module_name, None)
    try:
        return load_builder(name)
    finally:
        if kept is not None:
            sys.modules[module_name] = kept


def checked_table(table: object, name: str) -> pl.DataFrame:
    """`table`, or the first item of a tuple, sorted by time and symbol; AuditError where it is no table with
    both.
    """
    if isinstance(table, tuple) and table:
        table = table[0]
    if isinstance(table, pl.LazyFrame):
        table = table.collect()
    if not isinstance(table, pl.DataFrame) or not {"timestamp", "symbol"} <= set(table.columns):
        found = (
            f"columns {', '.join(table.columns)}"
            if isinstance(table, pl.DataFrame)
            else f"{type(table).__module__.partition('.')[0]} {type(table).__name__}".removeprefix(
                "builtins "
            )
        )
        raise AuditError(
            f"{name} returned {found}; the audit needs a Polars table with the columns timestamp, symbol and"
            " one for each factor."
        )
    return table


def _beside(module_name: str, other: str) -> str:
    """The module `other` of the same package."""
    return f"{module_name.rpartition('.')[0]}.{other}".lstrip(".")


def _attribute(module_name: str, attribute: str) -> Callable:
    try:
        found = getattr(users_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise AuditError(
            f"{module_name}:{attribute} can't be imported ({error}). Check the spelling and that the package"
            " is installed."
        ) from error
    except Exception as error:
        raise AuditError(
            f"{module_name} fails while it is imported: {type(error).__name__}: {str(error)[:300]}. Run"
            f" `python -c 'import {module_name}'` to see where."
        ) from error
    if not callable(found):
        raise AuditError(
            f"{module_name}:{attribute} is {type(found).__name__}, not a function. Name a function that takes"
            " a panel."
        )
    return found


def _parse(config_module: str, settings: str) -> BaseModel:
    model = _attribute(config_module, "Settings")
    try:
        return model.model_validate_json(settings)
    except ValidationError as error:
        raise AuditError(
            f"The builder's settings do not fit {config_module}.Settings: {error.errors()[0]['msg']}. Pass"
            " the section of the same stage."
        ) from error
