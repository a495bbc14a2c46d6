"""Checks a panel of prices as a run would, without writing anything; fetches the bars of a source beyond
files.
"""

from collections.abc import Sequence
from pathlib import Path

from components.contracts import AlphaloopError
from components.market.fetched import fetch
from components.market.load import load_panel
from components.validation.plan import shortfalls
from components.validation.terminal import terminal_table
from components.validation.validate import validate_panel
from pipelines.commands.options import DEMO
from pipelines.config import data_folder, load_config
from pipelines.demands import demands, origin


class DataRefused(AlphaloopError):
    """A run on this data would stop at the validation stage."""


def check_data(path: Path | None, config: Path, overrides: Sequence[str]) -> str:
    """What validation finds, as text for the terminal.

    Parameters
    ----------
    path : CSV or Parquet file, folder or glob in place of the config's market; where no config of its own is
        given with it, what a run would need besides is told only

    Raises
    ------
    DataRefused
        If a critical check fails, or the panel is not enough for the config; the message is the same text.
    """
    if path is not None:
        source = (
            "csv"
            if any(path.name.lower().endswith(end) for end in (".csv", ".csv.gz", ".txt"))
            else "parquet"
        )
        overrides = [f"market.source={source}", f"market.path={path.absolute()}", *overrides]
    loaded = load_config(config, overrides)
    market = load_panel(loaded.market, data_folder=data_folder(), seed=loaded.run.seed)
    found = validate_panel(market.panel, loaded.validation)
    text = "\n".join([f"panel: {origin(loaded)}", *market.notes, terminal_table(found.health)])
    if found.failures:
        raise DataRefused(f"{text}\n\nA run would stop here.")
    asked = demands(loaded)
    short = shortfalls(found.panel, asked)
    if short.reasons and path is not None and config == DEMO:
        return f"{text}\n\nWith the settings of {DEMO.name} a run would stop:\n{short.text(asked.origin)}"
    if short.reasons:
        raise DataRefused(f"{text}\n\n{short.text(asked.origin)}\nA run would stop here.")
    return "\n".join([text, *short.notes])


def fetch_data(config: Path, overrides: Sequence[str]) -> str:
    """Ask the config's source (Yahoo, an exchange, Wind) anew and keep its bars for the runs to come; what
    was fetched, as text.

    Raises
    ------
    MarketError
        If the source is none that is fetched, or gives no whole answer; what was kept before stays.
    """
    loaded = load_config(config, overrides)
    done = fetch(loaded.market, data_folder())
    return "\n".join([f"{done.rows:,} bars of {loaded.market.source} in {done.path}", *done.notes])
