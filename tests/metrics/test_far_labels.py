"""Labels far beyond the usual: planted splits are found, honest crashes, fat tails and squeezes are not."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.metrics.far_labels import far_labels, far_sizes, in_usual_sizes

START = datetime(2022, 1, 3, tzinfo=UTC)


def market(seed: int, *, bars=500, symbols=40, freedom=5.0, volatility=0.02, turmoil=True) -> np.ndarray:
    """One-bar log returns (bars, symbols): fat tails, volatility that comes in waves, a common factor."""
    rng = np.random.default_rng(seed)
    waves = np.exp(0.5 * np.cumsum(rng.normal(0, 0.05, bars)))[:, None] if turmoil else 1.0
    own = volatility * np.exp(rng.normal(0, 0.4, symbols))
    noise = rng.standard_t(freedom, (bars, symbols)) / np.sqrt(freedom / (freedom - 2))
    return waves * (own * noise + 0.01 * rng.normal(size=(bars, 1)))


def labels(returns: np.ndarray, horizon: int = 5) -> pl.DataFrame:
    """What each bar's label is: the sum of the next returns, null at the end."""
    bars, symbols = returns.shape
    path = np.vstack([np.zeros((1, symbols)), np.cumsum(returns, axis=0)])
    values = np.full((bars, symbols), np.nan)
    values[: bars - horizon] = path[horizon + 1 :] - path[1 : bars + 1 - horizon]
    moments = pl.Series([START + timedelta(days=bar) for bar in range(bars)])
    return pl.DataFrame(
        {
            "timestamp": moments.gather(np.repeat(np.arange(bars), symbols)),
            "symbol": [f"S{number:03d}" for number in range(symbols)] * bars,
            "horizon": pl.Series([horizon], dtype=pl.Int32).new_from_index(0, bars * symbols),
            "log_return": pl.Series(values.ravel()).fill_nan(None),
        }
    )


def share(table: pl.DataFrame) -> tuple[float, int]:
    found = far_labels(table)
    return (found["share"][0], found["moments"][0]) if len(found) else (0.0, 0)


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("seed", range(5))
def test_planted_splits_hold_much_and_are_named(seed, horizon):
    returns = market(seed)
    rng = np.random.default_rng(seed)
    names, bars = rng.choice(40, 8, replace=False), rng.choice(np.arange(100, 400, 20), 8, replace=False)
    returns[bars, names] -= np.log(rng.choice([4, 5, 10, 0.1, 20], 8))
    table = labels(returns, horizon)
    held, moments = share(table)
    assert held > 0.05
    assert moments >= 5
    far = far_labels(table).row(0, named=True)
    assert far["symbol"] in {f"S{name:03d}" for name in names}
    assert far["sizes"] > far_sizes(horizon)
    assert abs(far["log_return"]) > 1


def crash(returns: np.ndarray) -> np.ndarray:
    """Everything falls by half in three bars, and moves four times as much for sixty bars after."""
    returns[200:203] -= 0.23
    returns[200:260] *= 4
    return returns


def squeeze(returns: np.ndarray) -> np.ndarray:
    """One name rises by 500 % in ten bars, and gives it back."""
    returns[200:260, 3] += np.random.default_rng(0).normal(0, 0.12, 60)
    returns[200:210, 3] += np.log(6) / 10
    returns[215:240, 3] -= np.log(6) / 25
    return returns


def calm(returns: np.ndarray) -> np.ndarray:
    return returns


def news(returns: np.ndarray) -> np.ndarray:
    """Four earnings a year and name, each of some three usual moves."""
    rng = np.random.default_rng(1)
    there = rng.random(returns.shape) < 4 / 252
    return returns + there * 0.06 * rng.normal(size=returns.shape)


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("honest", [calm, crash, squeeze, news])
@pytest.mark.parametrize("freedom", [3.5, 8.0])
def test_honest_markets_pass(honest, freedom, horizon):
    held, moments = zip(
        *(share(labels(honest(market(seed, freedom=freedom)), horizon)) for seed in range(5)), strict=True
    )
    assert not [pair for pair in zip(held, moments, strict=True) if pair[0] > 0.05 and pair[1] >= 5]


def test_a_label_is_measured_by_what_does_not_overlap_with_it():
    """A jump does not raise its own measure, and a symbol that moves more afterwards is measured by that."""
    returns = market(1, symbols=6, turmoil=False)
    returns[250, 2] += 1.0
    lonely = in_usual_sizes(labels(returns))["sizes"].max()
    returns[251:330, 2] *= 6
    assert lonely > 15
    assert in_usual_sizes(labels(returns))["sizes"].max() < lonely / 2.5


def test_rows_keep_their_order_and_nulls_stay_null():
    table = labels(market(2, bars=80, symbols=7))
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=1)
    both = pl.concat([shuffled, in_usual_sizes(shuffled)], how="horizontal").sort("timestamp", "symbol")
    straight = pl.concat([table, in_usual_sizes(table)], how="horizontal")
    assert both.equals(straight)
    assert both["sizes"].is_null().equals(table["log_return"].is_null())
    assert in_usual_sizes(table.clear()).shape == (0, 3)
    assert far_labels(table.clear()).is_empty()


def test_a_market_in_which_nothing_moves_has_no_far_labels():
    still = labels(np.zeros((50, 3)))
    assert in_usual_sizes(still)["sizes"].null_count() == len(still)
    assert far_labels(still).is_empty()
