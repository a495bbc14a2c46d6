"""Information coefficients: hand numbers, slow oracles, properties."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from components.contracts import TIME, ContractError
from components.metrics import (
    ic_decay,
    ic_summary,
    information_coefficient,
    row_correlations,
    to_matrices,
    to_matrix,
)

START = datetime(2024, 1, 2, 21, tzinfo=UTC)


def table(values: np.ndarray, name: str) -> pl.DataFrame:
    bars, symbols = values.shape
    days = pl.Series([START + timedelta(days=bar) for bar in range(bars)], dtype=TIME)
    return pl.DataFrame(
        {
            "timestamp": days.gather(np.repeat(np.arange(bars), symbols)),
            "symbol": [f"S{s:02d}" for s in range(symbols)] * bars,
            name: values.ravel(),
        }
    )


def test_hand_example():
    scores = table(np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, np.nan]]), "score")
    labels = table(np.array([[2.0, 1.0, 4.0, 30.0], [3.0, 2.0, 1.0, 5.0]]), "label")
    plain, ranked = (
        information_coefficient(scores, labels),
        information_coefficient(scores, labels, rank=True),
    )
    # Day 1 centred: scores -1.5 -.5 .5 1.5, labels -7.25 -8.25 -5.25 20.75: 43.5 / sqrt(5 * 578.75).
    assert plain["ic"].to_list() == pytest.approx([43.5 / np.sqrt(5 * 578.75), -1.0])
    # Ranks 1 2 3 4 against 2 1 3 4: 1 - 6 * 2 / (4 * 15).
    assert ranked["ic"].to_list() == pytest.approx([0.8, -1.0])
    assert plain["n_symbols"].to_list() == [4, 3]


def test_ties_share_their_mean_rank():
    scores, labels = (
        table(np.array([[1.0, 1.0, 2.0, 3.0]]), "score"),
        table(np.array([[1.0, 2.0, 3.0, 3.0]]), "label"),
    )
    expected = stats.spearmanr([1, 1, 2, 3], [1, 2, 3, 3]).statistic
    assert information_coefficient(scores, labels, rank=True)["ic"][0] == pytest.approx(expected)


@pytest.mark.parametrize(
    "row",
    [[1.0, 2.0, np.nan, np.nan], [5.0, 5.0, 5.0, 5.0], [0.1, 0.1, 0.1, np.nan], [np.inf, 1.0, 2.0, np.nan]],
)
def test_null_under_three_symbols_or_without_spread(row):
    labels = table(np.array([[1.0, 2.0, 3.0, 4.0]]), "label")
    assert information_coefficient(table(np.array([row]), "score"), labels)["ic"].to_list() == [None]


def test_repeated_key_is_refused_and_named():
    scores = table(np.ones((1, 3)), "score")
    with pytest.raises(ContractError, match=r"predictions hold a .timestamp, symbol. more than once.*S01"):
        information_coefficient(pl.concat([scores, scores[1:2]]), table(np.ones((1, 3)), "label"))


def test_unknown_group_is_refused():
    with pytest.raises(ContractError, match="'sector' is in neither"):
        information_coefficient(
            table(np.ones((1, 3)), "score"), table(np.ones((1, 3)), "label"), by=("timestamp", "sector")
        )


def test_groups_and_time_correlation_match_scipy():
    random = np.random.default_rng(1)
    scores, labels = random.normal(size=(12, 8)), random.normal(size=(12, 8))
    sector = pl.when(pl.col("symbol") < "S04").then(pl.lit("a")).otherwise(pl.lit("b")).alias("sector")
    by_sector = information_coefficient(
        table(scores, "score"),
        table(labels, "label").with_columns(sector),
        by=("timestamp", "sector"),
        rank=True,
    )
    assert by_sector["ic"].to_list() == pytest.approx(
        [
            stats.spearmanr(scores[t, part], labels[t, part]).statistic
            for t in range(12)
            for part in (slice(0, 4), slice(4, 8))
        ]
    )
    by_symbol = information_coefficient(table(scores, "score"), table(labels, "label"), by=("symbol",))
    assert by_symbol["ic"].to_list() == pytest.approx(
        [np.corrcoef(scores[:, s], labels[:, s])[0, 1] for s in range(8)]
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.floats(0.001, 1000), st.floats(-10, 10))
def test_properties(seed, rank, scale, shift):
    random = np.random.default_rng(seed)
    scores, labels = random.normal(size=(3, 6)), random.normal(size=(3, 6))
    scores[random.random((3, 6)) < 0.2] = np.nan
    ic = information_coefficient(table(scores, "score"), table(labels, "label"), rank=rank)["ic"]
    assert ic.drop_nulls().is_between(-1, 1).all()
    moved = information_coefficient(
        table(scores * scale + shift, "score"), table(labels, "label"), rank=rank
    )["ic"]
    flipped = information_coefficient(table(-scores, "score"), table(labels, "label"), rank=rank)["ic"]
    permuted = information_coefficient(
        table(scores, "score").sample(fraction=1, shuffle=True, seed=seed), table(labels, "label"), rank=rank
    )["ic"]
    for other, sign in ((moved, 1), (flipped, -1), (permuted, 1)):
        assert other.to_list() == [
            None if value is None else pytest.approx(sign * value, abs=1e-6) for value in ic.to_list()
        ]
    swapped = information_coefficient(table(labels, "score"), table(scores, "label"), rank=rank)["ic"]
    assert swapped.to_list() == [
        None if value is None else pytest.approx(value, abs=1e-9) for value in ic.to_list()
    ]


def test_decay_matches_a_loop():
    random = np.random.default_rng(3)
    scores, labels = random.normal(size=(15, 7)), random.normal(size=(15, 7))
    decay = ic_decay(table(scores, "score"), table(labels, "label"), [0, 1, 4, 14, 20])
    for row in decay.iter_rows(named=True):
        lag = row["lag"]
        plain = [np.corrcoef(scores[t - lag], labels[t])[0, 1] for t in range(lag, 15)]
        ranks = [stats.spearmanr(scores[t - lag], labels[t]).statistic for t in range(lag, 15)]
        assert row["bars"] == len(plain)
        assert row["ic"] == (pytest.approx(np.mean(plain)) if plain else None)
        assert row["rank_ic"] == (pytest.approx(np.mean(ranks)) if ranks else None)


def test_decay_at_lag_zero_is_the_mean_ic_when_a_value_is_missing():
    random = np.random.default_rng(4)
    scores, labels = random.normal(size=(6, 9)), random.normal(size=(6, 9))
    scores[2, 3] = np.nan
    frame = table(scores, "score"), table(labels, "label")
    assert ic_decay(*frame, [0])["ic"][0] == pytest.approx(information_coefficient(*frame)["ic"].mean())


def test_summary_by_hand():
    summary = ic_summary(pl.Series([0.1, None, -0.1, 0.3]), horizon=1)
    assert summary["mean"] == pytest.approx(0.1)
    assert summary["std"] == pytest.approx(0.2)
    assert summary["icir"] == pytest.approx(0.5)
    assert summary["hit_share"] == pytest.approx(2 / 3)
    assert summary["bars"] == 3


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.1]])
def test_summary_of_too_little_is_nan_not_a_number(values):
    summary = ic_summary(pl.Series(values, dtype=pl.Float64), horizon=5)
    assert np.isnan(summary["icir"])
    assert np.isnan(summary["t_hac"])


def test_matrix_leaves_out_what_is_not_asked_for():
    frame = table(np.arange(6.0).reshape(2, 3), "score")
    matrix = to_matrix(
        frame, "score", frame["timestamp"].unique().sort()[1:], pl.Series(["S00", "S02", "S09"])
    )
    np.testing.assert_array_equal(matrix, [[3.0, 5.0, np.nan]])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999))
def test_matrices_of_rows_in_any_order(seed):
    random = np.random.default_rng(seed)
    frame = table(random.normal(size=(9, 6)), "score").with_columns((pl.col("score") > 0).alias("mark"))
    # A seventh of the tables hold every name at every moment, some of these in another order at one.
    if seed % 7:
        frame = frame.sample(fraction=0.7, shuffle=bool(seed % 2), seed=seed)
    elif seed % 2:
        frame = pl.concat([frame[:12], frame[12:18].reverse(), frame[18:]])
    calendar, symbols = frame["timestamp"].unique().sort()[1:-1], frame["symbol"].unique().sort()[1:]
    expected = np.full((2, len(calendar), len(symbols)), np.nan)
    for row in frame.to_dicts():
        if row["timestamp"] in calendar and row["symbol"] in symbols:
            at = calendar.to_list().index(row["timestamp"]), symbols.to_list().index(row["symbol"])
            expected[(0, *at)], expected[(1, *at)] = row["score"], row["mark"]
    np.testing.assert_array_equal(to_matrices(frame, ("score", "mark"), calendar, symbols), expected)


@pytest.mark.parametrize("second", [["A", "B", None], ["B", "A", "C"], ["A", "B", "C"], ["A", "B", "Z"]])
def test_matrices_of_full_tables_put_each_value_where_its_name_is(second):
    frame = pl.DataFrame(
        {"timestamp": [1, 1, 1, 2, 2, 2], "symbol": ["A", "B", "C", *second], "x": np.arange(6.0)}
    )
    (found,) = to_matrices(frame, ["x"], pl.Series([1, 2]), pl.Series(["A", "B", "C"]))
    values = dict(zip(second, (3.0, 4.0, 5.0), strict=True))
    np.testing.assert_array_equal(found, [[0, 1, 2], [values.get(name, np.nan) for name in "ABC"]])


def test_rows_without_anything_are_nan():
    assert np.isnan(row_correlations(np.full((2, 4), np.nan), np.ones((2, 4)))).all()
