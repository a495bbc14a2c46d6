"""How much of the panel the slow columns cover, by column, year, symbol and date, how old the values are, and
what falls below the wanted coverage.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from components.fusion.config import Settings
from components.fusion.errors import FusionError
from components.fusion.feed import KEY
from components.fusion.join import Joined
from components.fusion.panel_keys import PanelKeys


def coverage_report(
    fused: pl.DataFrame, joined: Sequence[Joined], bars: PanelKeys, settings: Settings
) -> list[dict[str, Any]]:
    """One entry a slow column, JSON-able.

    `coverage` (share of panel rows with a value), `by_year`, `age_days` (median and longest at use, from the
    end of the observation), `first` and `last` bar with a value, `symbols_without` (no value at all),
    `symbols_below` and `dates_below` min_coverage, `other_company` (bars that another company's rows would
    reach under their ticker), `early_rows` and `early_symbols` (rows that became known before the first bar
    of their symbol).
    """
    names = [name for part in joined for name in part.feed.names]
    has = fused.select(
        pl.col("timestamp").dt.year().alias("year"), "timestamp", "symbol", pl.col(names).is_not_null()
    )
    shares = {
        key: has.group_by(key).agg(pl.col(names).mean()).sort(key) for key in ("year", "symbol", "timestamp")
    }
    return [
        _column(has, shares, part, name, bars, settings.min_coverage)
        for part in joined
        for name in part.feed.names
    ]


def _column(
    has: pl.DataFrame,
    shares: Mapping[str, pl.DataFrame],
    part: Joined,
    name: str,
    bars: PanelKeys,
    min_coverage: float,
) -> dict[str, Any]:
    age = part.age_days(name, bars)
    by_symbol, by_date = shares["symbol"], shares["timestamp"]
    low_dates = by_date.filter(pl.col(name) < min_coverage)
    with_value = by_date.filter(pl.col(name) > 0)["timestamp"]
    return {
        "table": part.feed.table.name,
        "column": name,
        "coverage": float(has[name].mean() or 0.0),
        "by_year": {str(year): share for year, share in shares["year"].select("year", name).iter_rows()},
        "age_days": {"median": float(np.median(age)), "most": float(age.max())} if len(age) else None,
        "first": str(with_value.min()) if len(with_value) else None,
        "last": str(with_value.max()) if len(with_value) else None,
        "symbols_without": by_symbol.filter(pl.col(name) == 0)["symbol"].to_list(),
        "symbols_below": by_symbol.filter(pl.col(name) < min_coverage)["symbol"].to_list(),
        "dates_below": len(low_dates),
        "dates": len(by_date),
        "dates_below_examples": [str(moment) for moment in low_dates["timestamp"].head(3)],
        "other_company": part.other_company,
        "early_rows": len(part.early),
        "early_symbols": part.early[KEY].unique().sort().to_list(),
    }


def require_coverage(entries: Sequence[dict[str, Any]], settings: Settings) -> list[str]:
    """Sentences about columns below min_coverage.

    Raises
    ------
    FusionError
        In strict mode, for the first column that lacks symbols or dates of the panel; the message names them.
    """
    low = [entry for entry in entries if entry["symbols_below"] or entry["dates_below"]]
    if settings.strict and low:
        entry = low[0]
        raise FusionError(
            f"fusion.strict: {entry['column']} of table {entry['table']} covers {entry['coverage']:.0%} of"
            f" the panel. {len(entry['symbols_below'])} symbols ({', '.join(entry['symbols_below'][:5])}) and"
            f" {entry['dates_below']:,} of {entry['dates']:,} dates (first"
            f" {', '.join(entry['dates_below_examples'])}) have less than {settings.min_coverage:.0%}."
            f" Shorten the panel, take the table out, or set fusion.strict to false; {len(low)} columns are"
            " concerned."
        )
    return [
        f"{entry['column']} ({entry['table']}) covers {entry['coverage']:.0%} of the panel's rows, from"
        f" {entry['first'] or 'nowhere'} to {entry['last'] or 'nowhere'}; {len(entry['symbols_without'])}"
        " symbols have no value at all."
        for entry in entries
        if entry["coverage"] < settings.min_coverage
    ]


def latest_margin_s(joined: Sequence[Joined], bars: PanelKeys) -> float | None:
    """Smallest distance in seconds between a bar's known_time and the known time of the newest row that it
    saw; never negative.
    """
    gaps = [
        int((bars.known_us[part.row >= 0] - part.known_us[part.row[part.row >= 0]]).min())
        for part in joined
        if (part.row >= 0).any()
    ]
    return min(gaps) / 1e6 if gaps else None
