"""Building blocks of a self-contained page: escaped text, tables, tiles and plots that a script draws in
light or dark.
"""

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def escape(value: Any) -> str:
    """Text that is safe inside HTML."""
    return html.escape(str(value))


def number(value: Any, digits: int = 2, *, percent: bool = False, missing: str = "–") -> str:
    """A number as people read it; `missing` for None and NaN."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return missing
    return f"{value:.{digits}%}" if percent else f"{value:,.{digits}f}"


def plot(
    title: str,
    data: Sequence[dict],
    layout: dict | None = None,
    *,
    note: str = "",
    tall: bool = False,
    wide: bool = False,
) -> str:
    """A card with one Plotly figure.

    `data` and `layout` are Plotly's JSON; colours of axes and text come from the page.
    """
    figure = json.dumps(_plain({"data": list(data), "layout": layout or {}}), allow_nan=False).replace(
        "</", "<\\/"
    )
    size = "plot tall" if tall else "plot"
    return (
        "<div"
        f' class="card{" wide" if wide else ""}"><h3>{escape(title)}</h3>{f"<p class=soft>{escape(note)}</p>" if note else ""}<div'
        f' class="{size}"></div><script type="application/json">{figure}</script></div>'
    )


def _plain(value: Any) -> Any:
    """The same with None, which Plotly draws as a gap, for every number that JSON does not know."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    chosen: Sequence[int] = (),
    text: Sequence[int] = (),
) -> str:
    """A table of ready HTML cells; rows in `chosen` stand out, columns in `text` are left-aligned."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=text' if k in text else ''}>{value}</{tag}>" for k, value in enumerate(values)
        )

    body = "".join(
        f"<tr{' class=chosen' if k in chosen else ''}>{cells('td', row)}</tr>" for k, row in enumerate(rows)
    )
    return (
        "<div"
        f' class="scroll"><table><tr>{cells("th", [escape(name) for name in header])}</tr>{body}</table></div>'
    )


def tile(value: str, label: str) -> str:
    """One large number with its name."""
    return f'<div class="card tile"><b>{value}</b><span>{escape(label)}</span></div>'


def card(content: str, *, title: str = "", wide: bool = True) -> str:
    """A frame around ready HTML."""
    return (
        "<div"
        f' class="card{" wide" if wide else ""}">{f"<h3>{escape(title)}</h3>" if title else ""}{content}</div>'
    )


def section(identifier: str, title: str, intro: str, *cards: str) -> str:
    """A headed part of the page; `intro` says in a sentence what to look for."""
    return (
        f'<h2 id="{identifier}">{escape(title)}</h2><p class="soft">{escape(intro)}</p><div'
        f' class="grid">{"".join(cards)}</div>'
    )


def page(
    title: str,
    head: str,
    sections: Sequence[tuple[str, str, str]],
    *,
    plots: bool = True,
    style: str = "",
    script: str = "",
) -> str:
    """The whole document.

    `sections` holds (identifier, name in the navigation, HTML); `style` and `script` are the page's own, put
    after the common ones.
    """
    links = "".join(f'<a href="#{identifier}">{escape(name)}</a>' for identifier, name, _ in sections)
    scripts = f"<script>{script}</script>" if script else ""
    if plots:
        from plotly.offline import get_plotlyjs

        scripts += f"<script>{get_plotlyjs()}</script><script>{(FOLDER / 'plots.js').read_text(encoding='utf-8')}</script>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport"'
        ' content="width=device-width, initial-scale=1"><link rel="icon"'
        f' href="data:,"><title>{escape(title)}</title>'
        f"<style>{(FOLDER / 'style.css').read_text(encoding='utf-8')}{style}</style></head><body><nav>{links}</nav><main>{head}{''.join(body for _, _, body in sections)}</main>{scripts}</body></html>"
    )
