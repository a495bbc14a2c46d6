"""Factor RankIC against planted strength, and that the test window never decides what is shown first."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from components.contracts import TIME, CatalogEntry
from components.report.factor_ic import factor_ic

BARS, SYMBOLS = 120, 25
DAYS = (
    pl.datetime_range(
        datetime(2023, 6, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC), "1d", time_unit="us", eager=True
    )
    .head(BARS)
    .cast(TIME)
)
FIRST_TEST = DAYS[80]


def entry(column, role="input"):
    return CatalogEntry(column, column, "trend", role, "none", 1, "", "")


@pytest.fixture(scope="module")
def market():
    rng = np.random.default_rng(5)
    signal = rng.normal(size=(BARS, SYMBOLS))
    label = np.vstack([np.zeros((1, SYMBOLS)), signal[:-1]]) * 0.5 + rng.normal(size=(BARS, SYMBOLS))
    early = np.where(np.arange(BARS)[:, None] < 80, label, rng.normal(size=label.shape))
    late = np.where(np.arange(BARS)[:, None] >= 80, label, rng.normal(size=label.shape))
    rows = pl.DataFrame({"timestamp": DAYS}).join(
        pl.DataFrame({"symbol": [f"S{i:02d}" for i in range(SYMBOLS)]}), how="cross"
    )
    columns = {
        "early": early,
        "late": late,
        "delayed": signal,
        "weekday": np.repeat(np.arange(BARS)[:, None] % 5, SYMBOLS, axis=1),
    }
    factors = rows.with_columns(
        known_time=pl.col("timestamp"),
        **{k: pl.Series(v.ravel(), dtype=pl.Float32) for k, v in columns.items()},
    )
    labels = rows.with_columns(horizon=pl.lit(5, pl.Int32), log_return=pl.Series(label.ravel()))
    return factor_ic(
        factors,
        labels,
        [entry(c) for c in columns] + [entry("raw", "raw")],
        target="log_return",
        horizon=5,
        first_test=FIRST_TEST,
    )


def test_factors_are_ordered_by_what_was_seen_before_the_test_window(market):
    assert market.table["column"][0] == "early"
    row = market.table.filter(pl.col("column") == "late").row(0, named=True)
    assert abs(row["rank_ic"]) < 0.1
    assert row["rank_ic_test"] == pytest.approx(1.0)


def test_inputs_that_order_nothing_are_left_out(market):
    assert "weekday" not in market.table["column"].to_list()
    assert "raw" not in market.table["column"].to_list()


def test_decay_finds_the_lag_at_which_a_factor_works_without_looking_at_the_test_window(market):
    decay = {(r["column"], r["lag"]): r["rank_ic"] for r in market.decay.to_dicts()}
    assert decay["early", 0] == pytest.approx(1.0)
    assert decay["delayed", 1] > 0.3
    assert abs(decay["delayed", 0]) < 0.12


def test_years_hold_their_own_bars(market):
    years = {(r["column"], r["year"]): r["rank_ic"] for r in market.by_year.to_dicts()}
    assert years["early", 2023] > years["late", 2023]
