"""What the parts of an expert add (`alphaloop experts ablate`), and what a fitted one attends to (`alphaloop experts explain`)."""

import json
from pathlib import Path

from rich.table import Table

from components.contracts import AlphaloopError, atomic_write_text, read_json
from components.experts.ablation import Window, ablate, read_variants, table_rows
from components.experts.ablation_page import ablation_page
from components.experts.evidence_page import explain_page
from components.page import number
from pipelines.build import resolve_leaf
from pipelines.config import Config
from pipelines.single_expert import ABLATIONS, beside_leaves, expert_inputs, find_leaf

VARIANTS = "ablations.yaml"
EVIDENCE = "explain.json"


def run_ablation(name: str, config: Config, *, seeds: int, window: Window) -> tuple[Table, str]:
    """Train the variants of the expert `name`; returns a table to show and where JSON and page are.

    Raises
    ------
    AlphaloopError
        If the expert or its file of variants is not in order; before anything is computed.
    """
    leaf = resolve_leaf(find_leaf(name, config), config)
    variants = read_variants(beside_leaves(VARIANTS, leaf.expert, config), leaf)
    _, inputs, work = expert_inputs(name, config)
    folder = work / ABLATIONS / window
    result = ablate(inputs, variants, seeds=seeds, window=window, folder=folder)
    atomic_write_text(folder / "ablation.json", json.dumps(result, indent=1))
    atomic_write_text(folder / "ablation.html", ablation_page(result))
    header, rows = table_rows(result, number)
    table = Table(title=f"{result['leaf']} on {result['days']} {window} days, {seeds} seeds", title_justify="left")
    for place, title in enumerate(header):
        table.add_column(title, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        table.add_row(*row)
    return table, f"Page: {folder / 'ablation.html'}\nFigures: {folder / 'ablation.json'}"


def explain_newest(name: str, config: Config) -> Path:
    """Write the page of what the newest fit of the expert `name` attends to; returns its path.

    Raises
    ------
    AlphaloopError
        If there is no fit that left evidence.
    """
    leaf = find_leaf(name, config)
    work = Path(config.run.folder).absolute() / "experts" / leaf.split("/")[0]
    fits = sorted(work.glob(f"*/model/**/{EVIDENCE}"), key=lambda path: path.stat().st_mtime)
    if not fits:
        raise AlphaloopError(f"No fit below {work} left evidence of what it attends to; neural experts do. Train one: alphaloop experts train {name}.")
    fit = work / fits[-1].relative_to(work).parts[0]
    explain, manifest = read_json(fits[-1]), read_json(fit / "model" / "manifest.json") or {}
    if explain is None:
        raise AlphaloopError(f"{fits[-1]} can't be read. Train the expert again: alphaloop experts train {name}.")
    about = f"Fit {fit.name}, trained on {manifest.get('train_window', 'an unknown window')}."
    page = work / "explain.html"
    atomic_write_text(page, explain_page(explain, f"What {leaf} attends to", about))
    return page
