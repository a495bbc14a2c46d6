"""Building blocks as text, for the pages that have no template yet."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def escape(value: Any) -> str:
    """Text that is safe inside HTML."""
    return html.escape(str(value))


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
    from components.page import _plot_json
    from components.page import figure as make

    figure = _plot_json(make(data, layout))
    size = "plot tall" if tall else "plot"
    return (
        "<div"
        f' class="card{" wide" if wide else ""}"><h3>{escape(title)}</h3>{f"<p class=soft>{escape(note)}</p>" if note else ""}<div'
        f' class="{size}"></div><script type="application/json">{figure}</script></div>'
    )


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
