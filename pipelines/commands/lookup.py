"""The newest feature values on the terminal: one row a factor, one column a symbol."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from rich.table import Table

from components.feature_store.config import Settings
from components.feature_store.lookup import newest_values


def lookup_table(symbols: Sequence[str], settings: Settings, folder: Path) -> Table:
    """Look the symbols up in the online store of `folder` and lay their values out; stale ones are marked."""
    symbols = list(dict.fromkeys(symbols))
    values = newest_values(symbols, settings, folder)
    newest = values.group_by("symbol").agg(
        pl.col("timestamp", "known_time", "age_hours").max(), pl.col("stale").any(), pl.col("behind").any()
    )
    about = {row["symbol"]: row for row in newest.to_dicts()}
    table = Table(title="Newest values (raw factors)", title_justify="left")
    table.add_column("group", style="dim")
    table.add_column("factor")
    for symbol in symbols:
        row = about[symbol]
        mark = "\n[yellow]stale[/]" if row["stale"] else "\n[yellow]behind others[/]" if row["behind"] else ""
        table.add_column(
            f"{symbol}\n[dim]bar {row['timestamp']:%Y-%m-%d %H:%M}\nknown {row['known_time']:%Y-%m-%d %H:%M}"
            f" UTC\n{row['age_hours']:.0f} h old[/]{mark}",
            justify="right",
        )
    wide = values.pivot(on="symbol", index=["group", "column"], values="value", maintain_order=True)
    for row in wide.to_dicts():
        table.add_row(
            row["group"],
            row["column"],
            *("–" if row[s] is None or row[s] != row[s] else f"{row[s]:.5g}" for s in symbols),
        )
    return table
