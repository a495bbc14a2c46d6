"""What an expression of the factor table reads, and how it is written for people."""

import re

import polars as pl

from components.features.kernels import BAR

# A window as Polars prints it: its inputs, its name and its settings.
CALL = re.compile(
    r"\.python_udf\((?:\[((?:(?!python_udf\().)*?)(?:(?:,"
    r' )?col\("_bar"\))?\])?\)\.alias\("(\w+)\(([^"]*)\)"\)'
)


def formula(expression: pl.Expr) -> str:
    """The expression as text, a window written as `x.mean(20)` or `x.covariance(y, 20)`."""
    text, before = str(expression), ""
    # From the inside out: a call is only found once the calls within it are written anew.
    while text != before:
        before, text = text, CALL.sub(_call, text)
    return text


def columns_read(expression: pl.Expr) -> tuple[str, ...]:
    """Names of the columns that an expression reads, without the windows' BAR."""
    return tuple(name for name in dict.fromkeys(expression.meta.root_names()) if name != BAR)


def _call(found: re.Match[str]) -> str:
    inputs, name, settings = found.groups()
    arguments = ", ".join(part for part in ((inputs or "").rstrip(", "), settings) if part)
    return f".{name}({arguments})"
