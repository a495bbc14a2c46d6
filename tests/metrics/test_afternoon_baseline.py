"""The baseline that stacks are compared with: its factors know only the past and no price level, its folds
are those of the run, and a comparison with itself shows no difference.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from components.timeline import Fold, Windows
from tests.benchmarks.bench_afternoon import check_folds, classic_factors, compare, judge

BARS, SYMBOLS = 330, 12
CALENDAR = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(BARS)]


@pytest.fixture(scope="module")
def panel():
    rng = np.random.default_rng(1)
    closes = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (BARS, SYMBOLS)), axis=0))
    volumes = rng.lognormal(10, 0.5, (BARS, SYMBOLS))
    return pl.DataFrame(
        {
            "timestamp": [moment for moment in CALENDAR for _ in range(SYMBOLS)],
            "symbol": [f"S{number:02d}" for number in range(SYMBOLS)] * BARS,
            "high": (closes * 1.01).ravel(),
            "close": closes.ravel(),
            "volume": volumes.ravel(),
        },
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    )


def test_eleven_factors_ranked_in_their_cross_section(panel):
    factors = classic_factors(panel)
    assert factors.width == 2 + 11
    last = factors.filter(pl.col("timestamp") == CALENDAR[-1])
    for name in factors.columns[2:]:
        assert sorted(last[name].to_list()) == pytest.approx(list((np.arange(SYMBOLS) + 0.5) / SYMBOLS))


def test_momentum_by_hand(panel):
    closes = panel["close"].to_numpy().reshape(BARS, SYMBOLS)
    factors = classic_factors(panel).filter(pl.col("timestamp") == CALENDAR[300])
    order = np.argsort(closes[300 - 21] / closes[300 - 252])
    assert np.argsort(factors["momentum_12_1"].to_numpy()).tolist() == order.tolist()
    beta = [
        np.cov(own[49:301], market[49:301])[0, 1]
        for market in [np.diff(np.log(closes), axis=0, prepend=np.nan).mean(axis=1)]
        for own in np.diff(np.log(closes), axis=0, prepend=np.nan).T
    ]
    assert np.argsort(factors["beta"].to_numpy()).tolist() == np.argsort(beta).tolist()


def test_no_factor_knows_a_price_level(panel):
    scaled = panel.with_columns(
        pl.when(pl.col("symbol") == "S03").then(pl.col(name) * times).otherwise(name).alias(name)
        for name, times in (("high", 8.0), ("close", 8.0), ("volume", 0.25))
    )
    assert_frame_equal(classic_factors(scaled), classic_factors(panel))
    with pytest.raises(AssertionError):
        assert_frame_equal(classic_factors(scaled, levels=True), classic_factors(panel, levels=True))


def test_no_factor_knows_the_future(panel):
    end = CALENDAR[290]
    cut = classic_factors(panel.filter(pl.col("timestamp") <= end))
    assert_frame_equal(classic_factors(panel).filter(pl.col("timestamp") <= end), cut)


def test_a_model_is_compared_on_the_rows_of_both(panel):
    rng = np.random.default_rng(2)
    keys = panel.select("timestamp", "symbol")
    labels = keys.with_columns(pl.Series("label", rng.normal(size=len(keys))))
    noise = keys.with_columns(pl.Series("score", rng.normal(size=len(keys))))
    knowing = labels.select("timestamp", "symbol", pl.col("label").alias("score")).with_columns(
        pl.lit("knowing").alias("expert")
    )
    same = noise.with_columns(pl.lit("same").alias("expert"))
    half = knowing.filter(pl.col("timestamp") < CALENDAR[165]).with_columns(pl.lit("half").alias("expert"))
    found = compare(pl.concat([knowing, same, half]), noise, labels, horizon=5).rows_by_key(
        "model", named=True
    )
    assert found["knowing"][0]["RankIC"] == pytest.approx(1)
    assert found["knowing"][0]["t of difference"] > 5
    assert found["same"][0]["difference"] == 0
    assert (found["half"][0]["bars"], found["half"][0]["rows"]) == (165, 165 * SYMBOLS)
    assert found["half"][0]["baseline"] != found["knowing"][0]["baseline"]


def test_folds_of_another_run_are_refused():
    predicted = pl.DataFrame({"timestamp": CALENDAR[100:120], "fold": ["fold_00"] * 20})
    calendar, none = pl.Series(CALENDAR), np.arange(0)
    check_folds(predicted, [Fold("fold_00", none, none, np.arange(100, 120))], calendar)
    with pytest.raises(SystemExit, match="fold_00 of the run predicts"):
        check_folds(predicted, [Fold("fold_00", none, none, np.arange(100, 125))], calendar)


def test_tradable_rows_have_tables_of_their_own(panel):
    rng = np.random.default_rng(3)
    keys = panel.select("timestamp", "symbol")
    labels = keys.with_columns(pl.Series("label", rng.normal(size=len(keys))))
    scores = [
        pl.Series(name, rng.normal(size=len(keys))) for name in ("score", "score_1", "score_2", "score_3")
    ]
    baseline = keys.with_columns(scores)
    illiquid = pl.col("symbol") < "S06"
    told = keys.with_columns(
        pl.when(illiquid)
        .then(labels["label"])
        .otherwise(pl.Series(rng.normal(size=len(keys))))
        .alias("score"),
        pl.lit("stack").alias("expert"),
    )
    windows = Windows(train=(0, 100), validation=(100, 200), test=(200, 330), backtest=(200, 330))
    scopes = {"all rows": keys, "tradable rows": keys.filter(~illiquid)}
    tables = judge(told, baseline, labels, scopes, windows, pl.Series(CALENDAR), 5)
    assert list(tables) == [
        f"{window}, {scope}" for window in ("test", "validation") for scope in ("all rows", "tradable rows")
    ]
    everywhere, inside = (
        tables[f"test, {scope}"].filter(pl.col("model") == "stack").row(0, named=True) for scope in scopes
    )
    assert (everywhere["bars"], everywhere["rows"], inside["rows"]) == (130, 130 * 12, 130 * 6)
    assert everywhere["RankIC"] > 0.3
    assert abs(inside["RankIC"]) < 0.1
