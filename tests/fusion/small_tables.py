"""Small panels and slow tables, and a join of them in a few plain loops that shares no code with
the library.
"""

from datetime import UTC, datetime, timedelta

import polars as pl

from components.contracts import TIME
from components.fusion.config import TableSettings

START = datetime(2024, 1, 1, tzinfo=UTC)
INSTANT = {
    "path": "slow.parquet",
    "observed": "observed",
    "known": "known",
    "frequency": "instant",
    "max_refused_share": 1.0,
}


def moment(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def small_panel(bars) -> pl.DataFrame:
    """Panel of (timestamp hour, symbol, known hour)."""
    frame = pl.DataFrame(
        {
            "timestamp": [moment(bar[0]) for bar in bars],
            "symbol": [bar[1] for bar in bars],
            "known_time": [moment(bar[2]) for bar in bars],
        },
        schema={"timestamp": TIME, "symbol": pl.String, "known_time": TIME},
    ).sort("timestamp", "symbol")
    price = pl.lit(1.0)
    return frame.select(
        "timestamp",
        "symbol",
        pl.lit("1h").alias("period"),
        pl.col("timestamp").alias("event_time"),
        "known_time",
        *(price.alias(name) for name in ("open", "high", "low", "close", "volume")),
        pl.lit(None, dtype=pl.String).alias("sector"),
    )


def small_slow(rows) -> pl.DataFrame:
    """Slow rows of (symbol, observed hour, known hour, value, company)."""
    rows = [(*row, None)[:5] for row in rows]
    return pl.DataFrame(
        {
            "symbol": [row[0] for row in rows],
            "observed": [None if row[1] is None else moment(row[1]) for row in rows],
            "known": [None if row[2] is None else moment(row[2]) for row in rows],
            "value": [row[3] for row in rows],
            "company": [row[4] for row in rows],
        },
        schema={
            "symbol": pl.String,
            "observed": TIME,
            "known": TIME,
            "value": pl.Float64,
            "company": pl.String,
        },
    )


def small_table(**changes) -> TableSettings:
    column = {"name": "x", "column": "value"} | changes.pop("column", {})
    return TableSettings.model_validate({"name": "slow", **INSTANT, "columns": [column], **changes})


def brute_force(
    bars: pl.DataFrame,
    slow: pl.DataFrame,
    *,
    transform: str = "level",
    observations: int = 1,
    max_age_days: float = 400.0,
    market: bool = False,
    companies: bool = False,
    contradicted: bool = False,
):
    """The value at each bar, by looking at every row of the slow table for every bar."""
    out = []
    for bar in bars.iter_rows(named=True):
        seen = []
        for position, row in enumerate(slow.iter_rows(named=True)):
            if not market and row["symbol"] != bar["symbol"]:
                continue
            if row["observed"] is None or row["known"] is None or row["known"] < row["observed"]:
                continue
            if row["known"] <= bar["known_time"]:
                seen.append((row["known"], position, row["observed"], row["value"], row["company"]))
        if contradicted:
            same = {
                one: [
                    other[3]
                    for other in seen
                    if other[3] is not None
                    and (other[0], other[2]) == (one[0], one[2])
                    and (not companies or other[4] == one[4])
                ]
                for one in seen
            }
            seen = [(*one[:3], None if len(set(same[one])) > 1 else one[3], one[4]) for one in seen]
        seen.sort(key=lambda one: one[:2])
        if companies:
            seen = _of_newest_company(seen)
        held = {}
        for _, _, observed, value, _ in seen:
            if value is not None:
                held[observed] = value
        times = sorted(held)
        value = None
        if times and (bar["known_time"] - times[-1]) <= timedelta(days=max_age_days):
            if transform == "level":
                value = held[times[-1]]
            elif len(times) > observations:
                newest, base = held[times[-1]], held[times[-1 - observations]]
                value = (
                    newest - base if transform == "change" else (newest - base) / abs(base) if base else None
                )
        out.append(value)
    return out


def _of_newest_company(seen):
    kept, met = [], []
    for one in seen:
        company = one[4]
        if company is not None and company not in met:
            met.append(company)
            kept = []
        if company is None or company == met[-1]:
            kept.append(one)
    return kept
