"""Holds a table, or what the service answered, against what the champion learned from: `alphaloop drift`."""

import tempfile
from pathlib import Path
from typing import Any

from components.contracts import file_sha256
from components.contracts.documents.champion import ChampionRecord
from components.contracts.documents.drift import DriftReport
from components.drift.tables import DriftError, read_current
from components.lasting.folder import below, fetched
from pipelines.config import Config
from pipelines.lasting import lasting_here


def check_drift(
    config: Config, current: Path | None, *, reference: Path | None = None, output: Path = Path("drift")
) -> tuple[Any, bool]:
    """Measure drift and write drift.json, index.html and evidently.html into `output`.

    Parameters
    ----------
    current : Parquet or CSV with the model's columns, or a folder of Parquet files; None: the champion's
        answers on bars that it has not learned from
    reference : folder `reference` of a bundle; None: the champion's in the run's registry

    Returns
    -------
    Verdict and rules for the terminal (Rich), and whether there is drift.

    Raises
    ------
    DriftError
        If there is no champion or no answer of it, the champion keeps no reference, or the table does not fit
        it.
    """
    from components.drift.detect import detect
    from components.drift.report import write_reports

    rows = read_current(current) if current is not None else None
    with tempfile.TemporaryDirectory() as scratch:
        champion = None
        if reference is None or rows is None:
            champion = _champion(config, Path(scratch))
            if rows is None:
                rows = _served(config, champion)
            reference = reference or Path(scratch) / "reference"
        sha256 = file_sha256(current) if current is not None and current.is_file() else None
        source = current.name if current is not None else "answers of the service"
        result = detect(reference, rows, None, config.drift, source=source, sha256=sha256, champion=champion)
        write_reports(output, result, reference, rows, config.drift)
    return terminal_table(result, output), result.verdict == "drift"


def terminal_table(result: DriftReport, folder: Path) -> Any:
    """Verdict, rules and where the pages are, for Rich."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    word, colour = {
        "drift": ("drift", "red"),
        "no_drift": ("no drift", "green"),
        "not_enough_data": ("not enough data", "yellow"),
    }[result.verdict]
    lines: list[Any] = [
        f"[bold {colour}]{word}[/]: {result.current.rows:,} rows against"
        f" {result.reference.rows:,} that the model learned from"
    ]
    if result.rules:
        table = Table(box=None, pad_edge=False)
        for name in ("rule", "value", "threshold", "", "why"):
            table.add_column(
                name, justify="right" if name in ("value", "threshold") else "left", overflow="fold"
            )
        for rule in result.rules:
            shown = ["–" if number is None else f"{number:.3g}" for number in (rule.value, rule.threshold)]
            table.add_row(rule.rule, *shown, "[red]fired[/]" if rule.fired else "", escape(rule.reason))
        lines.append(table)
    else:
        lines.append(escape(result.reason))
    lines.append(f"Summary: {escape(str(folder / 'index.html'))}")
    return Group(*lines)


def _champion(config: Config, target: Path) -> ChampionRecord:
    """The champion, with the reference beside it in `target`."""
    from components.registry.champion import fetch_champion

    place = Path(config.run.folder).absolute() / "registry"
    champion = fetch_champion(config.registry, config.run.name, place, target)
    if champion is None:
        raise DriftError(
            f"There is no champion of {config.run.name!r} in {config.registry.tracking_uri or place}, so"
            " there is nothing to compare with. Run `alphaloop run`, or give --reference FOLDER."
        )
    if not (target / "reference").is_dir():
        raise DriftError(
            f"Champion {config.run.name} version {champion.version} keeps no drift reference: it was"
            " registered before references were kept. Run the training pipeline again, or give --reference"
            " FOLDER."
        )
    return champion


def _served(config: Config, champion: ChampionRecord) -> Any:
    """The champion's answers on bars after its training, newest first bar to last; refused where there are
    none.
    """
    from components.retraining.collect import answers_wanted, collect_served

    folder = below(lasting_here(config), "served")
    with fetched(folder, answers_wanted(champion)) as served:
        rows = collect_served(served, champion, window_bars=config.drift.window_bars)
    if rows.is_empty():
        raise DriftError(
            f"The service has not answered for any bar that champion {champion.version} has not learned"
            f" from ({folder}). Start it with `alphaloop serve`, or give a table with --current FILE."
        )
    return rows
