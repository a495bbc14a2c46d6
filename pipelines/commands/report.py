"""The outcome of a run on the terminal: experts side by side, the gates' verdict, the registry, the report's
place.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from components.contracts import AlphaloopError, ContractError
from components.contracts.documents.summary import RunSummary
from components.contracts.documents.verdict import Gate
from components.lasting.folder import below, fetched
from components.report.belief import belief
from components.report.sections.gates import word as gate_word
from pipelines.commands.printed import printer

_COLOURS = {"pass": "green", "fail": "red", "not asked": "dim"}


def read_summary(folder: str) -> RunSummary:
    """`summary.json` of a finished run, of its folder or address; AlphaloopError where there is none."""
    with fetched(folder, ["summary.json"]) as kept:
        try:
            return RunSummary.read(kept / "summary.json")
        except ContractError as error:
            raise AlphaloopError(
                f"{kept / 'summary.json'} can't be read: no run has finished there. Start one with: alphaloop"
                f" run\n{error}"
            ) from error


def show_summary(summary: RunSummary, folder: str, console: Console | None = None) -> None:
    """Print the experts' table, the verdict and where things are."""
    console = console or printer()
    # A title of the table would be folded to its width.
    console.print(
        f"Test window {summary.test_window}, horizon {summary.horizon} bars, {summary.cost_bps:g} bps a side"
    )
    table = Table()
    table.add_column("model")
    for name in ("IC", "RankIC", "ICIR", "t", "Sharpe gross", "Sharpe net"):
        table.add_column(name, justify="right")
    for row in summary.models:
        numbers = (row.ic, row.rank_ic, row.icir, row.t, row.sharpe_gross, row.sharpe_net)
        digits = (4, 4, 2, 1, 2, 2)
        table.add_row(
            row.name,
            *("–" if x is None else f"{x:.{d}f}" for x, d in zip(numbers, digits, strict=True)),
            style="bold" if row.name == "stack" else "",
        )
    console.print(table)
    console.print(gates_table(summary.gates))
    registration = summary.registration
    word = "[green]approved[/]" if summary.approved else "[yellow]rejected[/]"
    version = (
        f", version {registration.version} {'/'.join(registration.aliases)}" if registration.version else ""
    )
    console.print(f"Model {word}{version}. {registration.trials} judged on this test window so far.")
    thought = belief(summary)
    if thought is not None:
        console.print(f"[bold]{thought.said}[/] {thought.why}")
    console.print(f"Report: {below(folder, 'report.html')}")


def gates_table(gates: Sequence[Gate]) -> Table:
    """Each gate with its number, its threshold and what it asks."""
    table = Table(title="Gates", title_justify="left")
    for name in ("gate", "value", "threshold", "", "reason"):
        table.add_column(name, justify="right" if name in ("value", "threshold") else "left")
    for gate in gates:
        word = gate_word(gate)
        mark = f"[{_COLOURS[word]}]{word}[/]"
        table.add_row(
            gate.name,
            _number(gate.value),
            f"{gate.comparison} {_number(gate.threshold)}",
            mark,
            gate.reason.split(":")[0] + (f"; needed: {gate.needed}" if gate.needed else ""),
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
