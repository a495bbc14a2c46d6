"""Pages: a template beside each stage's `page.py`, filled by Jinja2 with autoescape on; one base
(`page/page.html`), its blocks (`page/blocks.html`), one style, and plots that a script draws in light or
dark.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from components.contracts import atomic_write_text

__all__ = ["Picture", "figure", "number", "render", "write_page"]

COMPONENTS = Path(__file__).parent.parent


def render(template: str, **values: Any) -> str:
    """The page `template`, a path below `components/` such as `drift/page.html`, filled with `values`.

    Raises
    ------
    jinja2.UndefinedError
        If the template asks for a value that it was not given.
    """
    return _environment().get_template(template).render(**values)


def write_page(path: str | os.PathLike, template: str, **values: Any) -> Path:
    """Render `template` to `path`, atomically, and return the path."""
    atomic_write_text(path, render(template, **values))
    return Path(path)


def number(value: Any, digits: int = 2, *, percent: bool = False, missing: str = "–") -> str:
    """A number as people read it; `missing` for None and NaN."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return missing
    return f"{value:.{digits}%}" if percent else f"{value:,.{digits}f}"


@dataclass(frozen=True)
class Picture:
    """A card with one figure in Plotly's JSON: its heading, and what to know about it."""

    title: str
    figure: Mapping[str, Any]
    note: str = ""
    tall: bool = False
    wide: bool = False


def figure(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A figure for the block `plot`, in Plotly's JSON."""
    return {"data": list(data), "layout": dict(layout or {})}


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(COMPONENTS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": lambda value, digits=1: number(value, digits, percent=True),
        "plot_json": _plot_json,
    }
    environment.globals |= {"source": _source, "plotly": _plotly}
    return environment


def _source(name: str) -> Markup:
    """A style sheet or script below `components/`, put into the page as it is."""
    return Markup((COMPONENTS / name).read_text(encoding="utf-8"))


def _plotly() -> Markup:
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


def _plot_json(value: Mapping[str, Any]) -> Markup:
    # No "<" is left that the browser could read as the end of the script or as the start of a comment in it.
    return Markup(json.dumps(_plain(value), allow_nan=False).replace("<", "\\u003c"))


def _plain(value: Any) -> Any:
    """The same with None, which Plotly draws as a gap, for every number that JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
