"""What the parts of an expert add (`alphaloop experts ablate`), and what a fitted one attends to (`alphaloop
experts explain`).
"""

import os
from pathlib import Path

import polars as pl
from rich.table import Table

from components.backtest.evaluate import possible_entry
from components.backtest.market_facts import MarketFacts
from components.backtest.one_model import TestWindow
from components.backtest.terms import Terms
from components.contracts import (
    LABELS,
    PANEL,
    TRAINING_SET,
    AlphaloopError,
    ContractError,
    atomic_write_text,
    read_table,
)
from components.contracts.documents.experts import EXPLAIN, Ablation
from components.experts.leaves import Leaf, expert_module
from components.experts.studies.ablation import DAILY, Window, ablate, read_variants, table_rows
from components.experts.studies.ablation_page import ablation_page
from components.experts.studies.evidence import read_evidence
from components.experts.studies.evidence_page import explain_page
from components.experts.studies.judging import StudyInputs
from components.market.universe import tradable_universe
from components.metrics import bars_per_year, market_sketch
from components.page import number
from components.registry.client import answered
from components.registry.gathered import keep_variants
from components.registry.scored import scored_together
from pipelines.commands.one_expert import ABLATIONS, expert_inputs
from pipelines.config import Config
from pipelines.leaves import beside_leaves, find_leaf, resolve_leaf, run_name

VARIANTS = "ablations.yaml"


def run_ablation(name: str, config: Config, *, seeds: int, window: Window) -> tuple[Table, str]:
    """Train the variants of the expert `name`; returns a table to show and where JSON and page are. What was
    scored on the test window counts as tried there when the next model is judged.

    Raises
    ------
    AlphaloopError
        If the expert or its file of variants is not in order; before anything is computed.
    """
    leaf = resolve_leaf(find_leaf(name, config), config)
    variants = read_variants(beside_leaves(VARIANTS, leaf.expert, config), leaf)
    _, inputs, work = expert_inputs(name, config)
    os.environ.update(config.compute.environment)
    folder = work / ABLATIONS / window
    judged = _test_window(inputs, config) if window == "test" else None
    traded = judged.net_returns if judged else None
    result = ablate(inputs, variants, seeds=seeds, window=window, folder=folder, traded=traded)
    result.write(folder / "ablation.json")
    atomic_write_text(folder / "ablation.html", ablation_page(result))
    if judged:
        _keep_trials(result, pl.read_parquet(folder / DAILY), judged, config)
    header, rows = table_rows(result, number)
    table = Table(title=f"{result.leaf} on {result.days} {window} days, {seeds} seeds", title_justify="left")
    for place, title in enumerate(header):
        table.add_column(title, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        table.add_row(*row)
    return table, f"Page: {folder / 'ablation.html'}\nFigures: {folder / 'ablation.json'}"


def _test_window(inputs: StudyInputs, config: Config) -> TestWindow:
    """The window as a run of this config trades it: its universe, sizes, costs and stops."""
    panel = read_table(inputs.panel, PANEL)
    market = MarketFacts.of(
        panel,
        tradable_universe(panel, config.market.universe),
        read_table(inputs.labels, LABELS),
        read_table(inputs.training_set, TRAINING_SET),
        inputs.timeline,
    )
    yearly = bars_per_year(config.market.period, market.calendar)
    return TestWindow(market, Terms(possible_entry(panel, config.backtest), inputs.horizon, yearly))


def _keep_trials(result: Ablation, daily: pl.DataFrame, judged: TestWindow, config: Config) -> None:
    parts = daily.partition_by("variant", as_dict=True, include_key=False, maintain_order=True)
    series = {f"{result.leaf}: {name}": part for (name,), part in parts.items()}
    market, span = judged.market, judged.market.span("test")
    scored = scored_together(
        series,
        dict.fromkeys(series, "variant"),
        period=config.market.period,
        test=(span.start, span.end),
        bars_per_year=judged.terms.bars_per_year,
        task=(result.target, result.horizon),
        market=market_sketch(market.inside(market.panel, "test")),
    )
    folder = Path(config.run.folder).absolute() / "registry"
    with answered():
        keep_variants(config.registry, config.run.name, folder, scored, f"ablation of {result.leaf}")


def explain_newest(name: str, config: Config) -> Path:
    """Write the page of what the newest fit of the expert `name` attends to, of a composition its first
    member; returns its path.

    Raises
    ------
    AlphaloopError
        If there is no fit that left evidence, or what it left is damaged.
    """
    leaf = resolve_leaf(find_leaf(name, config), config)
    work = Path(config.run.folder).absolute() / "experts" / run_name(leaf, config)
    again = f"alphaloop experts train {name}"
    left = sorted(work.glob(f"*/model/**/{EXPLAIN}"), key=lambda path: path.stat().st_mtime)
    if not left:
        raise AlphaloopError(_nothing_left(leaf, work, again))
    fit = work / left[-1].relative_to(work).parts[0]
    try:
        text = _page(fit, f"{leaf.expert}/{leaf.period}/{leaf.modality}")
    except ContractError as error:
        raise AlphaloopError(
            f"What the fit {fit} left of itself can't be read: {error} Train the expert again: {again}. An"
            f" expert of your own is drawn if its {EXPLAIN} has the keys that neural experts write."
        ) from None
    page = work / "explain.html"
    atomic_write_text(page, text)
    return page


def _page(fit: Path, name: str) -> str:
    """The page of one fit; ContractError where its files are damaged."""
    evidence, member = read_evidence(fit / "model"), ""
    if evidence.composition is not None:
        members = evidence.composition.members
        member = f" ({members[0]}, one of {len(members)} members)"
    return explain_page(
        evidence,
        f"What {name}{member} attends to",
        f"Fit {fit.name}, trained on {evidence.train_window}.",
    )


def _nothing_left(leaf: Leaf, work: Path, again: str) -> str:
    module = expert_module(leaf)
    if hasattr(module.Expert(module.Settings.model_validate(leaf.settings)), "explain"):
        return f"No fit below {work} left evidence of what it attends to. Train one: {again}."
    return (
        f"{leaf.expert} explains nothing of itself, trained or not, so there is nothing to draw. Ask for a"
        " neural expert, such as patchtst."
    )
