"""How many of the bars between its first and its last a symbol has."""

import polars as pl


def symbol_coverage(bars: pl.DataFrame, moments: pl.Series) -> pl.DataFrame:
    """Columns `symbol, bars, expected_bars, coverage, first, last`, thinnest first.

    Parameters
    ----------
    bars : columns `symbol`, `timestamp`, each pair once
    moments : the bars that are expected, sorted, each once; they count between a symbol's own first and last
    """
    spans = bars.group_by("symbol").agg(
        pl.len().cast(pl.Int64).alias("bars"),
        pl.col("timestamp").min().alias("first"),
        pl.col("timestamp").max().alias("last"),
    )
    up_to_last = moments.search_sorted(spans["last"], side="right").cast(pl.Int64)
    before_first = moments.search_sorted(spans["first"], side="left").cast(pl.Int64)
    spans = spans.with_columns((up_to_last - before_first).alias("expected_bars"))
    spans = spans.with_columns((pl.col("bars") / pl.col("expected_bars")).alias("coverage"))
    return spans.select("symbol", "bars", "expected_bars", "coverage", "first", "last").sort(
        "coverage", "symbol"
    )
