"""Small seeded panels and a library of clean factors for the audit's tests, as fixtures."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from components.contracts import PANEL, check_table

START = datetime(2020, 1, 1, 21, tzinfo=UTC)


def random_market(seed: int = 0, *, n_bars: int = 260, n_symbols: int = 24) -> pl.DataFrame:
    """A PANEL of random walks in four sectors, some sectors changing, one symbol listed late and one
    delisted.
    """
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(rng.normal(0, 0.02, (n_bars, n_symbols)).cumsum(axis=0))
    opens = close * np.exp(rng.normal(0, 0.005, close.shape))
    bar, symbol = (
        grid.ravel() for grid in np.meshgrid(np.arange(n_bars), np.arange(n_symbols), indexing="ij")
    )
    sector = (symbol + (bar > n_bars // 2) * (symbol % 5 == 0)) % 4
    at = pl.lit(START).dt.cast_time_unit("us") + pl.duration(days=pl.col("bar"))
    frame = pl.DataFrame(
        {
            "bar": bar,
            "number": symbol,
            "open": opens.ravel(),
            "high": np.maximum(opens, close).ravel() * (1 + rng.random(close.size) / 50),
            "low": np.minimum(opens, close).ravel() * (1 - rng.random(close.size) / 50),
            "close": close.ravel(),
            "volume": rng.lognormal(10, 1, close.size).round(),
        }
    ).with_columns(
        timestamp=at,
        event_time=at - pl.duration(hours=7),
        known_time=at,
        period=pl.lit("1d"),
        symbol=pl.format("S{}", pl.col("number").cast(pl.String).str.zfill(2)),
        sector=pl.format("sector {}", pl.Series(sector)),
    )
    listed_late = (pl.col("number") == 3) & (pl.col("bar") < 40)
    delisted = (pl.col("number") == 5) & (pl.col("bar") > n_bars * 3 // 4)
    return check_table(
        frame.filter(~listed_late & ~delisted).select(*PANEL.columns).sort("timestamp", "symbol"), PANEL
    )


def by_symbol(expression: pl.Expr) -> pl.Expr:
    return expression.over("symbol")


CLOSE, VOLUME = pl.col("close"), pl.col("volume")
RETURN = (CLOSE / CLOSE.shift(1)).log()

CLEAN = {
    "momentum_20": by_symbol(CLOSE / CLOSE.shift(20) - 1),
    "average_ratio": by_symbol(CLOSE / CLOSE.rolling_mean(10)),
    "volatility": by_symbol(RETURN.rolling_std(15)),
    "skewness": by_symbol(RETURN.rolling_skew(20)),
    "exponential": by_symbol(CLOSE.ewm_mean(span=12, adjust=False)),
    "drawdown": by_symbol(CLOSE / CLOSE.cum_max() - 1),
    "expanding_mean": by_symbol(CLOSE.cum_sum() / CLOSE.cum_count()),
    "range": (pl.col("high") - pl.col("low")) / CLOSE,
    "amihud": by_symbol((RETURN.abs() / (VOLUME * CLOSE)).rolling_mean(10)),
    "forward_fill": by_symbol(VOLUME.forward_fill()),
    "quantile": by_symbol(CLOSE.rolling_quantile(0.8, window_size=12)),
    "rank_today": (CLOSE / pl.col("open")).rank().over("timestamp"),
    "sector_relative": (
        (CLOSE / pl.col("open") - 1) - (CLOSE / pl.col("open") - 1).mean().over("timestamp", "sector")
    ),
    "cross_section_zscore": (VOLUME - VOLUME.mean().over("timestamp")) / VOLUME.std().over("timestamp"),
    "price_volume_correlation": by_symbol(pl.rolling_corr(CLOSE, VOLUME, window_size=15)),
    "weekday": pl.col("timestamp").dt.weekday().cast(pl.Float64),
    "bars_listed": by_symbol(pl.int_range(pl.len())).cast(pl.Float64),
}


def build_clean(panel: pl.DataFrame) -> pl.DataFrame:
    """Every factor of `CLEAN` as Float32, with the known_time of its bar."""
    return panel.select(
        "timestamp",
        "symbol",
        "known_time",
        *(expression.cast(pl.Float32).alias(name) for name, expression in CLEAN.items()),
    )


def build_with(expression: pl.Expr, name: str = "planted"):
    """A builder that gives one factor under test beside two clean ones."""

    def build(panel: pl.DataFrame) -> pl.DataFrame:
        clean = [
            CLEAN[clean_name].cast(pl.Float32).alias(clean_name)
            for clean_name in ("momentum_20", "rank_today")
        ]
        return panel.select(
            "timestamp", "symbol", "known_time", *clean, expression.cast(pl.Float32).alias(name)
        )

    return build


@pytest.fixture
def market():
    """Makes a random PANEL: `market(seed, n_bars=..., n_symbols=...)`."""
    return random_market


@pytest.fixture
def clean_factors():
    """A builder of factors that look back only."""
    return build_clean


@pytest.fixture
def with_factor():
    """Makes a builder of one factor under test beside two clean ones: `with_factor(expression, name)`."""
    return build_with
