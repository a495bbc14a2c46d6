"""The label shift by regime: found where it was planted, not found among dependent labels that know of no
regime.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import REGIMES, ContractError
from components.metrics.regime_shift import EARLIER, OTHER_REGIMES, label_shift_by_regime

START = datetime(2015, 1, 1, tzinfo=UTC)
BARS, SYMBOLS, HORIZON = 600, 10, 5


def world(
    seed: int, *, spread: float = 1.0, lean: float = 0.0, late_spread: float = 1.0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Labels over 5 overlapping bars whose common part and size wander, and regimes that last 25 bars on
    average.

    In high volatility labels are `spread` times as wide and `lean` higher; in the second half they are
    `late_spread` times as wide in all regimes.
    """
    rng = np.random.default_rng(seed)
    state = np.zeros(BARS, dtype=int)
    size = np.zeros(BARS)
    for t in range(1, BARS):
        state[t] = state[t - 1] if rng.random() > 1 / 25 else rng.integers(4)
        size[t] = 0.97 * size[t - 1] + 0.08 * rng.normal()
    steps = rng.normal(size=(BARS + HORIZON, 1)) + rng.normal(size=(BARS + HORIZON, SYMBOLS))
    label = sum(steps[k : k + BARS] for k in range(HORIZON)) * np.exp(size)[:, None]
    wild = state == REGIMES.index("high_volatility")
    label[wild] = label[wild] * spread + lean
    label[BARS // 2 :] *= late_spread
    times = pl.Series([START + timedelta(days=t) for t in range(BARS)]).dt.cast_time_unit("us")
    bar, symbol = (grid.ravel() for grid in np.meshgrid(np.arange(BARS), np.arange(SYMBOLS), indexing="ij"))
    labels = pl.DataFrame(
        {
            "timestamp": times.gather(bar),
            "symbol": pl.Series(symbol).cast(pl.String),
            "horizon": pl.Series(np.full(len(bar), HORIZON, np.int32)),
            "log_return": label.ravel(),
        }
    )
    return labels, pl.DataFrame({"timestamp": times, "regime_state": state.astype(np.float32)})


def row(table: pl.DataFrame, regime: str, against: str = OTHER_REGIMES) -> dict:
    return table.filter((pl.col("regime") == regime) & (pl.col("against") == against)).row(0, named=True)


def test_numbers_of_a_small_table_by_hand():
    times = pl.Series([START + timedelta(days=t) for t in range(60)]).dt.cast_time_unit("us")
    labels = pl.DataFrame(
        {
            "timestamp": times,
            "symbol": "A",
            "horizon": pl.Series([1] * 60, dtype=pl.Int32),
            "trend": [0.0] * 30 + [1.0] * 30,
        }
    )
    regimes = pl.DataFrame({"timestamp": times, "regime_state": [0.0] * 30 + [2.0] * 30})
    found = row(label_shift_by_regime(labels, regimes, 1, "trend"), "bull")
    assert (
        found["rows"],
        found["bars"],
        found["mean"],
        found["deviation"],
        found["mean_against"],
        found["ks"],
    ) == (30, 30, 1.0, 0.0, 0.0, 1.0)
    # Of the 60 shifts only those by 0 and by half the circle part the values completely.
    assert found["p_value"] == pytest.approx(2 / 60)


def test_the_statistic_is_that_of_scipy():
    from scipy.stats import ks_2samp

    labels, regimes = world(1, spread=1.5)
    coarse = labels.with_columns((pl.col("log_return") / 0.4).round().alias("log_return"))
    joined = coarse.join(regimes, on="timestamp")
    for code, name in enumerate(REGIMES):
        inside = (joined["regime_state"] == code).to_numpy()
        values = joined["log_return"].to_numpy()
        assert row(label_shift_by_regime(coarse, regimes, HORIZON, "log_return"), name)[
            "ks"
        ] == pytest.approx(ks_2samp(values[inside], values[~inside]).statistic, abs=1e-12)


@pytest.mark.parametrize("planted", [{"spread": 3.0}, {"lean": 4.0}])
def test_a_planted_shift_is_found(planted):
    found = 0
    for seed in range(8):
        table = label_shift_by_regime(*world(seed, **planted), HORIZON, "log_return")
        found += row(table, "high_volatility")["adjusted_p_value"] < 0.05
    assert found >= 7


def test_dependent_labels_without_a_shift_raise_few_alarms():
    """A test that counts rows would call nearly all of these shifted."""
    from scipy.stats import ks_2samp

    alarms, naive, count = 0, 0, 0
    for seed in range(40):
        labels, regimes = world(seed)
        table = label_shift_by_regime(labels, regimes, HORIZON, "log_return")
        alarms += (table["p_value"] < 0.05).sum()
        count += len(table)
        if seed % 4:
            continue
        joined = labels.join(regimes, on="timestamp")
        inside = (joined["regime_state"] == 3).to_numpy()
        naive += (
            ks_2samp(joined["log_return"].to_numpy()[inside], joined["log_return"].to_numpy()[~inside]).pvalue
            < 0.05
        )
    assert count >= 150
    assert alarms / count < 0.09
    assert naive >= 8


def test_effective_rows_are_far_below_the_rows():
    found = row(label_shift_by_regime(*world(0), HORIZON, "log_return"), "neutral")
    assert 1 < found["effective_rows"] < found["rows"] / 5


def test_independent_labels_keep_nearly_all_their_rows():
    labels, regimes = world(0)
    independent = labels.with_columns(
        pl.Series("log_return", np.random.default_rng(0).normal(size=len(labels)))
    )
    found = row(label_shift_by_regime(independent, regimes, HORIZON, "log_return"), "neutral")
    both = 2 / (1 / found["rows"] + 1 / (len(labels) - found["rows"]))
    assert 0.6 < found["effective_rows"] / both < 1.7


def test_eras_are_compared_within_a_regime():
    border = START + timedelta(days=BARS // 2)
    shares = []
    for late_spread in (1.0, 4.0):
        tables = pl.concat(
            label_shift_by_regime(
                *world(seed, late_spread=late_spread), HORIZON, "log_return", era_start=border
            )
            for seed in range(8)
        )
        eras = tables.filter(pl.col("against") == EARLIER)
        assert len(eras) == 32
        shares.append((eras["p_value"] < 0.1).mean())
    assert shares[0] < 0.25
    assert shares[1] > 0.5
    assert tables["against"].unique().sort().to_list() == [EARLIER, OTHER_REGIMES]


def test_a_regime_of_a_few_bars_is_listed_without_a_judgement():
    labels, regimes = world(0)
    rare = regimes.with_columns(
        pl.when(pl.int_range(pl.len()) < 10).then(3.0).otherwise(1.0).alias("regime_state")
    )
    found = row(label_shift_by_regime(labels, rare, HORIZON, "log_return"), "high_volatility")
    assert (found["bars"], found["rows"], found["ks"], found["p_value"], found["adjusted_p_value"]) == (
        10,
        100,
        None,
        None,
        None,
    )


def test_bars_of_unknown_regime_and_rows_without_label_do_not_count():
    labels, regimes = world(0)
    unknown = regimes.with_columns(pl.when(pl.int_range(pl.len()) >= 200).then("regime_state"))
    whole = label_shift_by_regime(labels, unknown, HORIZON, "log_return")
    known = label_shift_by_regime(
        labels.filter(pl.col("timestamp") >= regimes["timestamp"][200]), regimes, HORIZON, "log_return"
    )
    assert whole.equals(known)
    with_nulls = pl.concat(
        [labels, labels.head(50).with_columns(pl.lit(None, pl.Float64).alias("log_return"))]
    )
    assert label_shift_by_regime(with_nulls, regimes, HORIZON, "log_return").equals(
        label_shift_by_regime(labels, regimes, HORIZON, "log_return")
    )


def test_what_is_not_there_is_refused():
    labels, regimes = world(0)
    with pytest.raises(ContractError, match="no column 'alpha'"):
        label_shift_by_regime(labels, regimes, HORIZON, "alpha")
    with pytest.raises(ContractError, match="no rows of horizon 7"):
        label_shift_by_regime(labels, regimes, 7, "log_return")
    torn = pl.concat([regimes, regimes.head(1).with_columns(pl.col("regime_state") + 1)])
    with pytest.raises(ContractError, match="a bar has one"):
        label_shift_by_regime(labels, torn, HORIZON, "log_return")
