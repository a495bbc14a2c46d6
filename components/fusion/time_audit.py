"""What the times and values of a slow table look like: lags, repeats, amendments, late rows, jumps of unit,
frozen values, gaps, tickers of two companies.
"""

from typing import Any

import numpy as np
import polars as pl

from components.fusion.feed import (
    COMPANY,
    CONTRADICTED,
    ENDS,
    EXAMPLES,
    KEY,
    KNOWN,
    REASONS,
    ROW,
    Feed,
    example_rows,
)
from components.fusion.read import SlowTable
from components.fusion.times import end_day

REPEATS = (
    "duplicates",
    "contradicted",
    "republications",
    "amendments",
    "older_observations",
    "no_values",
)
QUANTILES = {"least": 0.0, "p01": 0.01, "median": 0.5, "p99": 0.99, "most": 1.0}
# Factors between units that people mix up (thousands, millions), and how far, in powers of ten, a jump may
# miss them.
UNIT_POWERS = (3, 6, 9)
UNIT_SLACK = 0.35
FROZEN_OBSERVATIONS = 20
# A gap is longer than so many usual steps; where nothing falls on weekends, a long weekend is added.
GAP_STEPS = 1.5
WEEKEND_DAYS, FRIDAY = 3, 5
DAY, DAY_US = "_day", 86_400_000_000
# Pause in a symbol's observations from which on it may be another company; only reported.
RECYCLED_GAP_DAYS = 400.0


def audit_table(table: SlowTable, symbols: list[str]) -> dict[str, Any]:
    """The time audit of one slow table against the symbols of the panel, JSON-able.

    `rows_in_file`, `rows_after_where`, `refused` (reason, rows, examples), and the sums and worst cases over
    its feeds of `audit_feed`.
    """
    feeds = [audit_feed(feed) for feed in table.feeds]
    refused = [
        {
            "reason": reason,
            "says": REASONS[reason],
            "rows": rows,
            "examples": [row for feed in table.feeds for row in example_rows(feed, reason)][:EXAMPLES],
        }
        for reason, rows in table.refusals().items()
        if rows
    ]
    keys = pl.concat([feed.rows.select(KEY) for feed in table.feeds])[KEY].unique()
    by_symbol = table.settings.key == "symbol"
    known = set(keys.to_list())
    return {
        "rows_in_file": table.rows_in_file,
        "rows_after_where": len(table.raw),
        "refused": refused,
        "symbols": len(known) if by_symbol else None,
        "symbols_without_panel": len(known - set(symbols)) if by_symbol else 0,
        "panel_symbols_without_table": sorted(set(symbols) - known) if by_symbol else [],
        "companies_by_ticker": _companies(table, symbols),
        "feeds": feeds,
    }


def audit_feed(feed: Feed) -> dict[str, Any]:
    """Counts over the usable rows of one feed.

    `duplicates`: same symbol, observation, known time and values; `contradicted`: the same, but values
    differ; `republications`: the same values again, later; `amendments`: other values, later;
    `older_observations`: rows that became known after a later observation; `no_values`: rows without any
    value. Per column: `missing`, `out_of_range`, `conflicting` (values that rows of the same symbol,
    observation and known time contradict), `unit_jumps` (a jump of about a thousand or a million that
    reverts, in a symbol whose values have one sign; seen with hindsight, so only told), `frozen`
    (observations in runs of 20 or more equal values), `longest_run`. `lag_days`: known minus end of the
    observation.
    """
    rows = feed.rows.with_columns(end_day(pl.col(ENDS), feed.table.timezone).alias(DAY))
    compared = _compared(feed)
    contradicted = compared.filter("contradicted")[KEY].unique().sort().head(4 * EXAMPLES)
    amended = compared.filter("amendments").select(KEY, ENDS)
    return {
        "columns": feed.names,
        "rows": len(rows),
        "first": str(rows[DAY].min()),
        "last": str(rows[DAY].max()),
        "last_known": str(rows[KNOWN].max()),
        "lag_days": _lags(rows),
        **{name: int(compared[name].sum()) for name in REPEATS},
        "contradicted_symbols": contradicted.to_list(),
        "amended_observations": amended.n_unique() if len(amended) else 0,
        **_gaps(rows),
        "by_column": {name: _values(rows, name) | _counted(feed, name) for name in feed.names},
    }


def _lags(rows: pl.DataFrame) -> dict[str, float]:
    """Days from the end of an observation until it became known."""
    lag = ((rows[KNOWN] - rows[ENDS]).dt.total_microseconds() / DAY_US).to_numpy()
    if not len(lag):
        return {}
    return {name: round(float(np.quantile(lag, share)), 3) for name, share in QUANTILES.items()}


def _counted(feed: Feed, name: str) -> dict[str, int]:
    """What reading the file counted for a column."""
    return {"out_of_range": feed.out_of_range.get(name, 0), "conflicting": feed.conflicting[name]}


def _compared(feed: Feed) -> pl.DataFrame:
    """Each row against the rows of the same symbol, company and observation that became known before it."""
    names, group = feed.names, [KEY, COMPANY, ENDS]
    held = [pl.col(name).forward_fill().shift(1).over(group).alias(f"_held_{name}") for name in names]
    rows = feed.rows.sort(KEY, KNOWN, ROW).with_columns(
        *held,
        pl.col(KNOWN).shift(1).over(group).alias("_before"),
        pl.col(ENDS).cum_max().over(KEY).alias("_newest"),
    )
    again = pl.col("_before").is_not_null()
    same_time = pl.col("_before") == pl.col(KNOWN)
    differs = pl.any_horizontal(
        (pl.col(name).is_not_null() & pl.col(name).ne_missing(pl.col(f"_held_{name}"))) for name in names
    )
    return rows.select(
        KEY,
        ENDS,
        KNOWN,
        (again & same_time & ~pl.col(CONTRADICTED)).alias("duplicates"),
        (again & ~same_time & ~differs & ~pl.col(CONTRADICTED)).alias("republications"),
        (again & ~same_time & differs & ~pl.col(CONTRADICTED)).alias("amendments"),
        pl.col(CONTRADICTED).alias("contradicted"),
        (pl.col(ENDS) < pl.col("_newest")).alias("older_observations"),
        pl.all_horizontal(pl.col(name).is_null() for name in names).alias("no_values"),
    ).with_columns(pl.col("duplicates", "republications", "amendments").fill_null(False))


def _gaps(rows: pl.DataFrame) -> dict[str, Any]:
    """Pauses between a symbol's observations."""
    steps = (
        rows.select(KEY, ENDS, DAY)
        .unique()
        .sort(KEY, ENDS)
        .with_columns((pl.col(ENDS).diff().over(KEY).dt.total_microseconds() / DAY_US).alias("step"))
    )
    steps = steps.drop_nulls("step").with_columns(pl.col("step").median().over(KEY).alias("usual"))
    on_weekends = (rows[DAY].dt.weekday() > FRIDAY).any()
    wide = steps.filter(pl.col("step") > GAP_STEPS * pl.col("usual") + (0 if on_weekends else WEEKEND_DAYS))
    paused = steps.filter(pl.col("step") > RECYCLED_GAP_DAYS)
    longest = steps.sort("step", descending=True).head(1).to_dicts()
    return {
        "gaps": len(wide),
        "longest_gap_days": round(longest[0]["step"], 2) if longest else None,
        "longest_gap": f"{longest[0][KEY] or 'the series'} up to {longest[0][DAY]}" if longest else "",
        "symbols_with_long_pause": paused[KEY].n_unique(),
        "symbols_with_long_pause_examples": paused[KEY].unique().sort().head(EXAMPLES).to_list(),
    }


def _values(rows: pl.DataFrame, name: str) -> dict[str, Any]:
    """Jumps of unit and frozen stretches of one column, by first known value of each observation in order."""
    first = (
        rows.select(KEY, ENDS, DAY, pl.col(name).alias("value"))
        .drop_nulls()
        .unique([KEY, ENDS], keep="first", maintain_order=True)
        .sort(KEY, ENDS)
    )
    before, after = pl.col("value").shift(1).over(KEY), pl.col("value").shift(-1).over(KEY)
    jump, back = (pl.col("value") / before).abs().log10(), (after / before).abs().log10()
    one_sign = (pl.col("value") > 0).all().over(KEY) | (pl.col("value") < 0).all().over(KEY)
    of_unit = pl.any_horizontal((jump.abs() - power).abs() <= UNIT_SLACK for power in UNIT_POWERS)
    comes_back = back.abs() <= 2 * UNIT_SLACK
    marked = first.with_columns(
        before.alias("before"), after.alias("after"), (of_unit & comes_back & one_sign).alias("jump")
    )
    jumps = marked.filter("jump")
    run = pl.struct(KEY, "value").rle_id()
    runs = (
        first.with_columns(run.alias("run"))
        .group_by("run")
        .agg(
            pl.len().alias("length"),
            pl.col(KEY).first(),
            pl.col(DAY).min().alias("from"),
            pl.col("value").first(),
        )
    )
    frozen = runs.filter(pl.col("length") >= FROZEN_OBSERVATIONS)
    longest = runs.sort("length", "run", descending=[True, False]).head(1).to_dicts()
    return {
        "missing": rows[name].null_count(),
        "unit_jumps": len(jumps),
        "unit_jump_examples": [
            f"{row[KEY] or 'the series'} {row[ENDS]:%Y-%m-%d}: {row['before']:g}, {row['value']:g},"
            f" {row['after']:g}"
            for row in jumps.head(EXAMPLES).to_dicts()
        ],
        "frozen": int(frozen["length"].sum()),
        "frozen_symbols": frozen[KEY].n_unique(),
        "longest_run": longest[0]["length"] if longest else 0,
        "longest_run_at": (
            f"{longest[0][KEY] or 'the series'} from {longest[0]['from']}: {longest[0]['value']:g}"
            if longest
            else ""
        ),
    }


def _companies(table: SlowTable, symbols: list[str]) -> dict[str, Any]:
    """Tickers of the panel that more than one company used, as far as the files tell."""
    by_file = [
        feed.rows.filter(pl.col(COMPANY).is_not_null())
        .group_by(KEY)
        .agg(pl.col(COMPANY).n_unique().alias("companies"))
        .filter(pl.col("companies") > 1)
        for feed in table.feeds
    ]
    named = sorted({symbol for frame in by_file for symbol in frame[KEY]})
    several = (
        table.identity.group_by("symbol")
        .len()
        .filter(pl.col("len") > 1, pl.col("symbol").is_in(symbols))
        .sort("symbol")["symbol"]
        .to_list()
        if table.identity is not None
        else []
    )
    return {
        "by_company_column": named,
        "by_identity": several,
        "told_apart": bool(table.settings.company or table.settings.identity),
    }
