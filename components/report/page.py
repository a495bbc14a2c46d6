"""The report of a finished run: data health, factors, experts side by side, calibration, money, where it
works, gates, lineage. Each section is a module and a template in `sections/`.
"""

from dataclasses import dataclass
from pathlib import Path

from components.page import number, write_page
from components.report.belief import Belief, belief, share
from components.report.result import EVIDENCE, RunResult
from components.report.sections.calibration import calibration_section
from components.report.sections.crossed import crossed_section
from components.report.sections.data import data_section
from components.report.sections.experts import experts_section
from components.report.sections.factors import factors_section
from components.report.sections.further import further_section
from components.report.sections.gates import gates_section
from components.report.sections.lineage import lineage_section
from components.report.sections.money import money_section
from components.report.sections.parts import parts_section
from components.report.sections.where import where_section

PAGES = {
    "audit.html": "leak audit",
    "fusion.html": "fusion of slow tables",
    "selection_tree_base.html": "selection for trees",
    "selection_tree_rich.html": "selection for trees, rich",
    "selection_linear_base.html": "selection for linear models",
    "selection_linear_rich.html": "selection for linear models, rich",
}


@dataclass(frozen=True)
class Head:
    """What stands above the sections: whether to believe it, tiles as (value, label), evidence as (place,
    name).
    """

    version: str
    belief: Belief | None
    tiles: list[tuple[str, str]]
    evidence: list[tuple[str, str]]


def write_run_page(path: Path, run: RunResult) -> Path:
    """Write the whole page to `path`."""
    return write_page(
        path,
        "report/page.html",
        summary=run.summary,
        head=_head(run),
        data=data_section(run),
        factors=factors_section(run.factor_ic),
        experts=experts_section(run),
        calibration=calibration_section(run.evaluation),
        money=money_section(run),
        further=further_section(run.evaluation),
        crossed=crossed_section(run.evaluation),
        where=where_section(run.evaluation, run.label_shift),
        parts=parts_section(run.evaluation),
        gates=gates_section(run.summary),
        lineage=lineage_section(run),
    )


def _head(run: RunResult) -> Head:
    own = [(f"{EVIDENCE}/{file}", name) for file, name in PAGES.items() if file in run.pages]
    return Head(
        run.summary.registration.place,
        belief(run.summary),
        _tiles(run),
        [("data_docs/index.html", "data checks"), *own],
    )


def _tiles(run: RunResult) -> list[tuple[str, str]]:
    summary = run.summary
    stack = next(row for row in summary.models if row.name == "stack")
    asked = [gate for gate in summary.gates if gate.asked]
    passed, unasked = sum(gate.passed for gate in asked), len(summary.gates) - len(asked)
    low, high = (number(limit, 1) for limit in stack.sharpe_net_interval)
    tiles = [
        (number(stack.ic, 4), "IC of the stack, test window"),
        (number(stack.rank_ic, 4), f"RankIC, t = {number(stack.t, 1)}"),
        (number(stack.sharpe_net), f"Sharpe net of {summary.cost_bps:g} bps a side [{low}, {high}]"),
        (number(stack.max_drawdown, 1, percent=True), "largest drawdown, net"),
        (f"{passed} / {len(asked)}", f"gates passed, {unasked} not asked" if unasked else "gates passed"),
    ]
    if summary.luck and summary.luck.chance is not None:
        tried = summary.luck.models + summary.luck.unseen
        tiles.insert(
            0, (share(summary.luck.chance), f"chance that luck alone looks as good, {tried:,} tries")
        )
    if summary.truth:
        found = number(summary.truth.recovered_share, 0, percent=True)
        tiles.append((found, f"of the attainable IC {number(summary.truth.attainable_ic, 3)} (planted)"))
    return tiles
