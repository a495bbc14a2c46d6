"""What a run on order books found, on the terminal: paper beside what could be had, and the verdict."""

from rich.console import Console
from rich.table import Table

from components.contracts.documents.champion import Registration
from components.contracts.documents.tick_replay import Profit, TickReplay
from components.contracts.documents.verdict import Verdict
from components.lasting.folder import below, fetched
from components.report.ticks import REGISTRATION, REPLAY, VERDICT
from pipelines.commands.printed import printer
from pipelines.commands.report import gates_table
from pipelines.config import Config
from pipelines.lasting import lasting_here
from pipelines.runners.local_run import run_locally


def run_ticks(config: Config, runner: str) -> bool:
    """Run the pipeline of ticks and show what it found; returns whether the gates approve of the model."""
    run_locally("ticks", config, runner=runner)
    return show_ticks(config)


def show_ticks(config: Config, console: Console | None = None) -> bool:
    """Print what the last run of a config found; returns whether its model was approved."""
    console, folder = console or printer(), lasting_here(config)
    with fetched(folder, [REPLAY, VERDICT, REGISTRATION]) as kept:
        found, verdict = TickReplay.read(kept / REPLAY), Verdict.read(kept / VERDICT)
        registration = Registration.read(kept / REGISTRATION)
    console.print(
        f"{found.target} over {found.horizon * config.tick_labels.sample_ms:,} ms,"
        f" {len(found.symbols)} symbols, {found.sessions} sessions, taker fee"
        f" {config.tick_replay.taker_fee_bps:g} bps a side"
    )
    console.print(_strategies(found, config))
    console.print(gates_table(verdict.gates))
    word = "[green]approved[/]" if verdict.approved else "[yellow]rejected[/]"
    console.print(
        f"Model {verdict.candidate} {word}: {registration.reason}. In the registry: {registration.place}."
    )
    console.print(f"Report: {below(folder, 'report.html')}")
    return verdict.approved


def _strategies(found: TickReplay, config: Config) -> Table:
    """The policies of each expert at the latency that is judged."""
    table = Table(title=f"Latency {config.tick_gates.latency}, quote currency", title_justify="left")
    for name in ("model", "policy", "paper", "net", "interval", "kept", "trades", "filled"):
        table.add_column(name, justify="left" if name in ("model", "policy") else "right")
    for one in found.strategies:
        if one.latency != config.tick_gates.latency or one.policy == "none":
            continue
        whole = one.whole
        table.add_row(
            one.expert,
            one.policy.replace("_", " "),
            _number(whole.paper.total),
            _number(whole.net.total),
            _interval(whole.net),
            "undefined" if whole.implementable.share is None else f"{whole.implementable.share:.0%}",
            f"{whole.trades:,}",
            "–" if whole.fill_ratio is None else f"{whole.fill_ratio:.0%}",
            style="bold" if one.expert == config.tick_gates.candidate else "",
        )
    return table


def _interval(profit: Profit) -> str:
    return f"[{_number(profit.interval[0])}, {_number(profit.interval[1])}]"


def _number(value: float | None) -> str:
    """To a whole unit from a hundred on, else to three digits, as on the page."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value or 0.0:.3g}"
