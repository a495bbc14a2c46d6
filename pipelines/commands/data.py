"""Checks a panel of prices as a run would, without writing anything; fetches the bars of a source beyond
files.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from components.contracts import AlphaloopError
from components.fusion.config import Settings as FusionSettings
from components.fusion.read import join_notes, read_slow_tables
from components.market.fetched import fetch
from components.market.load import Market, load_panel
from components.reading.object_store import is_address
from components.reading.table import is_csv
from components.validation.plan import shortfalls
from components.validation.terminal import terminal_table
from components.validation.validate import validate_panel
from pipelines.commands.options import DEMO
from pipelines.config import data_folder, load_config
from pipelines.demands import demands, origin


class DataRefused(AlphaloopError):
    """A run on this data would stop at the validation stage."""


def check_data(path: str | None, config: Path, overrides: Sequence[str]) -> str:
    """What validation finds, as text for the terminal.

    Parameters
    ----------
    path : CSV or Parquet file, folder or glob, here or in S3, in place of the config's market; where no
        config of its own is given with it, what a run would need besides is only told

    Raises
    ------
    DataRefused
        If a critical check fails, or the panel is not enough for any config of this kind; the message is the
        same text. Where only settings do not fit the panel, this is told.
    """
    if path is not None:
        source = "csv" if is_csv(Path(path)) else "parquet"
        place = path if is_address(path) else Path(path).absolute()
        overrides = [f"market.source={source}", f"market.path={place}", *overrides]
    loaded = load_config(config, overrides)
    market = load_panel(loaded.market, data_folder=data_folder(), seed=loaded.run.seed)
    found = validate_panel(market.panel, loaded.validation)
    joins = _check_slow_tables(loaded.fusion, market.panel)
    said = [f"panel: {origin(loaded)}", *market.notes, *joins, terminal_table(found.health)]
    said += _rows_in_files(market, found.quarantine)
    if market.found:
        said += ["", "Read by these settings, found in the files. To hold them, put into the config:"]
        said += [market.found]
    text = "\n".join(said)
    if found.failures:
        raise DataRefused(f"{text}\n\nA run would stop here.")
    asked = demands(loaded)
    short = shortfalls(found.panel, asked)
    if short.settings_alone or (short.reasons and path is not None and config == DEMO):
        return f"{text}\n\nWith the settings of {config.name} a run would stop:\n{short.text(asked.origin)}"
    if short.reasons:
        raise DataRefused(f"{text}\n\n{short.text(asked.origin)}\nA run would stop here.")
    return "\n".join([text, *short.notes])


def _check_slow_tables(settings: FusionSettings, panel: pl.DataFrame) -> list[str]:
    """Reads the slow tables as a run would; sentences on those that hold few of the panel's symbols."""
    tables = read_slow_tables(settings, data_folder())
    return join_notes(tables, panel["symbol"].drop_nulls().unique().to_list())


def _rows_in_files(market: Market, quarantine: pl.DataFrame) -> list[str]:
    """Where the first row of each reason for quarantine stands: its file and its row there."""
    if market.origins is None or quarantine.is_empty():
        return []
    firsts = quarantine.unique("reason", keep="first", maintain_order=True).select("row", "reason")
    placed = firsts.hstack(market.origins[firsts["row"]])
    return [
        f"first {row['reason']}: {market.files[row['source_file']]}, row {row['source_row']:,}"
        for row in placed.to_dicts()
    ]


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
