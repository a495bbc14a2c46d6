"""How each factor alone orders what happens next: RankIC by window, by year and over lags."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import CatalogEntry
from components.metrics import ic_summary, row_correlations, to_matrix
from components.progress import track

LAGS = (0, 1, 2, 3, 5, 8, 12, 20)
DECAY_FACTORS = 6


@dataclass(frozen=True)
class FactorIc:
    """`table`: column, group, rank_ic, t, icir before the test window, and rank_ic_test.

    `by_year`: rows (column, year, rank_ic).
    `decay`: rows (column, lag, rank_ic), before the test window."""

    table: pl.DataFrame
    by_year: pl.DataFrame
    decay: pl.DataFrame


def factor_ic(
    factors: pl.DataFrame,
    labels: pl.DataFrame,
    catalog: list[CatalogEntry],
    *,
    target: str,
    horizon: int,
    first_test,
) -> FactorIc:
    """Cross-sectional rank correlation of each input column with the label of one horizon.

    Inputs that are the same for all symbols of a bar (calendar, market regime) order nothing and are left
    out.

    Parameters
    ----------
    factors, labels : FACTORS and LABELS frames
    first_test : timestamp where the test window begins; factors are ranked and drawn by what was seen before
        it
    """
    calendar, symbols = factors["timestamp"].unique().sort(), factors["symbol"].unique().sort()
    label = labels.filter(pl.col("horizon") == horizon).select(
        "timestamp", "symbol", pl.col(target).cast(pl.Float64).rank().over("timestamp").alias("rank")
    )
    ranks = to_matrix(label, "rank", calendar, symbols)
    rows, columns = (
        calendar.search_sorted(factors["timestamp"]).to_numpy(),
        symbols.search_sorted(factors["symbol"]).to_numpy(),
    )
    before = (calendar < first_test).to_numpy()
    years = calendar.dt.year().to_numpy()
    entries = [entry for entry in catalog if entry.role == "input"]
    table, by_year, series = [], [], {}
    for entry in track("report", entries, what="factor IC"):
        matrix = np.full(ranks.shape, np.nan)
        values = pl.col(entry.column).fill_nan(None)
        values = values if entry.normalisation == "rank" else values.rank().over("timestamp")
        matrix[rows, columns] = (
            factors.select(values.cast(pl.Float64).fill_null(np.nan)).to_series().to_numpy()
        )
        daily = row_correlations(matrix, ranks)
        known = ic_summary(daily[before], horizon=horizon)
        if not np.isfinite(known["mean"]):
            continue
        table.append(
            (entry.column, entry.group, known["mean"], known["t_hac"], known["icir"], _mean(daily[~before]))
        )
        by_year.extend((entry.column, int(year), _mean(daily[years == year])) for year in np.unique(years))
        series[entry.column] = (abs(known["mean"]), matrix)
        strongest = sorted(series, key=lambda name: -series[name][0])[:DECAY_FACTORS]
        series = {name: series[name] for name in strongest}
    decay = [
        (name, lag, _mean(row_correlations(matrix[: len(calendar) - lag], ranks[lag:])[before[lag:]]))
        for name, (_, matrix) in series.items()
        for lag in LAGS
    ]
    return FactorIc(
        pl.DataFrame(
            table,
            schema={
                "column": pl.String,
                "group": pl.String,
                "rank_ic": pl.Float64,
                "t": pl.Float64,
                "icir": pl.Float64,
                "rank_ic_test": pl.Float64,
            },
            orient="row",
        ).sort(pl.col("rank_ic").abs(), descending=True, nulls_last=True),
        pl.DataFrame(
            by_year, schema={"column": pl.String, "year": pl.Int32, "rank_ic": pl.Float64}, orient="row"
        ),
        pl.DataFrame(
            decay, schema={"column": pl.String, "lag": pl.Int32, "rank_ic": pl.Float64}, orient="row"
        ),
    )


def _mean(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None
