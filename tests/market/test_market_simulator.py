"""The simulated market: its alpha has the strength that was asked for, without alpha nothing predicts, and
faults lie where it says.
"""

from typing import get_args

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.contracts import PANEL, RAW_PANEL, check_table
from components.market.alpha import WARM_UP_BARS
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.faults import GAP_BARS, PRINT_RATIO, SPLIT_RATIO, STALE_BARS
from components.market.load import load_panel
from components.market.simulator import calendar, simulate, simulate_to_files
from components.market.simulator_config import Fault
from components.timeline.periods import PERIODS

FAULTS = get_args(Fault)
SEEDS = range(8)
HORIZON = 5


def wide(frame: pl.DataFrame, column: str) -> np.ndarray:
    """Values as (bars, symbols); NaN where a symbol is not listed."""
    return (
        frame.pivot(on="symbol", index="timestamp", values=column, sort_columns=True)
        .sort("timestamp")
        .drop("timestamp")
        .cast(pl.Float64)
        .fill_null(np.nan)
        .to_numpy()
    )


def lagged(values: np.ndarray, bars: int) -> np.ndarray:
    return np.vstack([np.full((bars, values.shape[1]), np.nan), values[:-bars]])


def ahead(values: np.ndarray, bars: int) -> np.ndarray:
    return np.vstack([values[bars:], np.full((bars, values.shape[1]), np.nan)])


def sector_neutral_return(panel: pl.DataFrame, horizon: int = HORIZON) -> np.ndarray:
    """open[t+1] to open[t+1+horizon] minus the mean of its sector, written with plain loops over sectors as
    an oracle.
    """
    log_open = np.log(wide(panel, "open"))
    values = ahead(log_open, 1 + horizon) - ahead(log_open, 1)
    sectors = dict(panel.select("symbol", "sector").unique().iter_rows())
    codes = np.array([sectors[symbol] for symbol in sorted(sectors)])
    for name in np.unique(codes):
        inside = codes == name
        known = np.isfinite(values[:, inside])
        mean = np.where(known, values[:, inside], 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        values[:, inside] -= mean[:, None]
    return values


def information_coefficients(signal: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Cross-sectional correlation, one a bar after the warm-up with a complete future."""
    signal, target = signal[WARM_UP_BARS : -HORIZON - 1], target[WARM_UP_BARS : -HORIZON - 1]
    known = np.isfinite(signal) & np.isfinite(target)
    count = known.sum(axis=1, keepdims=True)
    x, y = np.where(known, signal, 0), np.where(known, target, 0)
    x, y = (
        np.where(known, x - x.sum(axis=1, keepdims=True) / count, 0),
        np.where(known, y - y.sum(axis=1, keepdims=True) / count, 0),
    )
    return (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))


def simple_signals(panel: pl.DataFrame) -> dict[str, np.ndarray]:
    log_open, high, low, close, volume = (
        np.log(wide(panel, name)) for name in ("open", "high", "low", "close", "volume")
    )
    surprise = volume - sum(lagged(volume, step) for step in range(1, 21)) / 20
    return {
        "reversal_1": lagged(close, 1) - close,
        "reversal_5": lagged(close, 5) - close,
        "momentum_60_20": lagged(close, 20) - lagged(close, 60),
        "volume_surprise": surprise,
        "volume_surprise_5": surprise + sum(lagged(surprise, step) for step in range(1, 5)),
        "overnight_gap": log_open - lagged(close, 1),
        "intraday_move": close - log_open,
        "place_in_range": 2 * close - high - low,
        "range": high - low,
        "size_of_move": np.abs(close - lagged(close, 1)),
    }


def markets(planted_ic: float, **changes) -> list:
    return [simulate(Settings(planted_ic=planted_ic, **changes), seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def null_markets():
    return markets(0.0)


@pytest.fixture(scope="module")
def planted_markets():
    return markets(0.08)


def test_the_truth_attains_the_planted_ic(planted_markets):
    means = [
        information_coefficients(wide(m.truth, "expected_return_5"), sector_neutral_return(m.panel)).mean()
        for m in planted_markets
    ]
    assert abs(np.mean(means) - 0.08) < 0.012  # four standard errors of the mean over eight seeds
    assert np.std(means) < 0.03


@pytest.mark.parametrize("planted_ic", [0.03, 0.2])
def test_other_strengths_are_attained_too(planted_ic):
    means = [
        information_coefficients(wide(m.truth, "expected_return_5"), sector_neutral_return(m.panel)).mean()
        for m in markets(planted_ic)
    ]
    assert abs(np.mean(means) - planted_ic) < 0.013


def test_the_truth_is_unbiased_in_size(planted_markets):
    slopes = []
    for market in planted_markets:
        x, y = wide(market.truth, "expected_return_5")[:-6], sector_neutral_return(market.panel)[:-6]
        known = np.isfinite(x) & np.isfinite(y)
        slopes.append((x[known] * y[known]).sum() / (x[known] ** 2).sum())
    assert abs(np.mean(slopes) - 1) < 0.2


@pytest.mark.parametrize("name", ["reversal_5", "momentum_60_20", "volume_surprise_5"])
def test_classic_formulas_find_each_planted_signal(planted_markets, name):
    means = [
        information_coefficients(simple_signals(m.panel)[name], sector_neutral_return(m.panel)).mean()
        for m in planted_markets
    ]
    assert np.mean(means) > 0.02
    assert np.mean(means) < 0.08


def test_nothing_predicts_in_the_null_market(null_markets):
    """Ten signals, three horizons and targets: t over independent markets, where 4.8 is the 1-in-20 limit of
    30 t tests with 7 degrees of freedom.
    """
    found = {}
    for market in null_markets:
        signals, close = simple_signals(market.panel), np.log(wide(market.panel, "close"))
        targets = {
            "open to open, 5 bars": sector_neutral_return(market.panel),
            "open to open, 1 bar": sector_neutral_return(market.panel, 1),
            "close to next open": ahead(np.log(wide(market.panel, "open")), 1) - close,
        }
        for signal, values in signals.items():
            for target, returns in targets.items():
                found.setdefault((signal, target), []).append(
                    information_coefficients(values, returns).mean()
                )
    t_values = {
        key: np.mean(means) / (np.std(means, ddof=1) / np.sqrt(len(means))) for key, means in found.items()
    }
    assert max(np.abs(list(t_values.values()))) < 4.8, t_values
    assert max(abs(np.mean(means)) for means in found.values()) < 0.015
    assert all((market.truth["expected_return_5"] == 0).all() for market in null_markets)


def test_a_bounce_planted_in_the_close_is_noticed(null_markets):
    """The test above can fail: noise in the close alone makes the next gap predictable."""
    panel = null_markets[0].panel
    noisy = panel.with_columns(
        pl.col("close") * np.exp(0.004 * np.random.default_rng(0).standard_normal(len(panel)))
    )
    close = np.log(wide(noisy, "close"))
    gap = ahead(np.log(wide(noisy, "open")), 1) - close
    assert information_coefficients(lagged(close, 1) - close, gap).mean() > 0.05


def test_equal_weighted_wealth_is_a_martingale_in_the_null_market(null_markets):
    growth = [
        np.nanmean(np.exp(np.log(wide(m.panel, "close")) - np.log(wide(m.panel, "open")))) - 1
        for m in null_markets
    ]
    assert abs(np.mean(growth)) < 5e-4


def test_truth_uses_nothing_after_its_bar():
    """A longer market of the same draws is out of reach, so the formula is redone on truncated prices: bars
    t-4 to t suffice.
    """
    market = simulate(
        Settings(
            planted_ic=0.3,
            simulator={"planted": {"reversal_5": 1.0}, "late_share": 0, "delisted_share": 0, "sectors": 1},
        ),
        3,
    )
    close = np.log(wide(market.panel, "close"))
    one_bar = lagged(close, 1) - close
    one_bar -= one_bar.mean(axis=1, keepdims=True)
    standard = np.clip(one_bar / one_bar.std(axis=1, keepdims=True), -3, 3)
    standard -= standard.mean(axis=1, keepdims=True)
    five = sum(lagged(standard, step) if step else standard for step in range(5))
    truth = wide(market.truth, "expected_return_5")
    ratio = truth[10:-6] / five[10:-6]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-6)


def product_signals(panel: pl.DataFrame) -> dict[str, np.ndarray]:
    """The two trends whose product is planted as `trend_agreement`, and the product of their ranks within the
    bar.
    """
    close = np.log(wide(panel, "close"))
    older, newer = lagged(close, 20) - lagged(close, 60), close - lagged(close, 20)
    ranks = [
        pl.DataFrame(values.T)
        .select(pl.all().fill_nan(None).rank() / pl.all().is_not_nan().sum() - 0.5)
        .to_numpy()
        .T
        for values in (older, newer)
    ]
    return {
        "older": older,
        "newer": newer,
        "sum": older + newer,
        "product": np.where(np.isfinite(ranks[0] * ranks[1]), ranks[0] * ranks[1], np.nan),
    }


def test_the_non_linear_signal_is_attained_and_its_product_shows_it_best():
    config = {"symbols": 120, "planted": {"trend_agreement": 1.0}}
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        market = simulate(Settings(planted_ic=0.15, simulator=config), seed)
        returns = sector_neutral_return(market.panel)
        for name, values in {
            "truth": wide(market.truth, "expected_return_5"),
            **product_signals(market.panel),
        }.items():
            found.setdefault(name, []).append(information_coefficients(values, returns).mean())
    mean = {name: np.mean(values) for name, values in found.items()}
    assert mean["truth"] == pytest.approx(0.15, abs=0.015)
    assert mean["product"] > 0.09
    # Not 0: what the product moved yesterday is part of today's trends.
    assert max(abs(mean[name]) for name in ("older", "newer", "sum")) < mean["product"] / 2


def test_the_non_linear_truth_is_the_sum_of_five_known_products():
    """One sector, no listings: standardised trends, their product standardised, summed over bars t-4 to t,
    gives the truth but for one factor.
    """

    def standard(values):
        cut = values - values.mean(axis=1, keepdims=True)
        cut = np.clip(cut / np.sqrt((cut**2).mean(axis=1, keepdims=True)), -3, 3)
        return cut - cut.mean(axis=1, keepdims=True)

    simulator = {
        "bars": 300,
        "planted": {"trend_agreement": 1.0},
        "late_share": 0,
        "delisted_share": 0,
        "sectors": 1,
    }
    market = simulate(Settings(planted_ic=0.3, simulator=simulator), 3)
    trends = product_signals(market.panel)
    product = standard(standard(trends["older"]) * standard(trends["newer"]))
    five = sum(lagged(product, step) if step else product for step in range(5))
    ratio = wide(market.truth, "expected_return_5")[64:-6] / five[64:-6]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    symbols=st.integers(6, 40),
    bars=st.integers(30, 200),
    period=st.sampled_from(PERIODS),
    planted_ic=st.sampled_from([0.0, 0.05, 0.5]),
    late=st.floats(0, 0.5),
    gone=st.floats(0, 0.5),
    seed=st.integers(0, 2**32),
)
def test_any_market_is_a_sound_panel(symbols, bars, period, planted_ic, late, gone, seed):
    config = Settings(
        period=period,
        planted_ic=planted_ic,
        simulator={
            "symbols": symbols,
            "bars": bars,
            "sectors": 3,
            "late_share": late,
            "delisted_share": gone,
        },
    )
    market = simulate(config, seed)
    panel = check_table(market.panel, PANEL)
    assert panel.select(
        pl.all_horizontal(
            pl.col("low") <= pl.min_horizontal("open", "close"),
            pl.col("high") >= pl.max_horizontal("open", "close"),
        ).all()
    ).item()
    assert panel.select(
        pl.all_horizontal(
            pl.col("low", "volume") > 0, pl.col("open", "high", "low", "close", "volume").is_finite()
        ).all()
    ).item()
    assert (panel["event_time"] < panel["timestamp"]).all()
    assert market.truth.select("timestamp", "symbol").equals(panel.select("timestamp", "symbol"))
    assert market.truth["expected_return_5"].is_finite().all()


def test_same_seed_same_market_other_seed_other_market():
    first, again, other = (simulate(Settings(), seed) for seed in (1, 1, 2))
    assert first.panel.equals(again.panel)
    assert first.truth.equals(again.truth)
    assert not first.panel.equals(other.panel)


def test_calendar_and_lives(planted_markets):
    opened, closed = calendar(Settings())
    assert opened[0] == np.datetime64("2021-01-04T14:30")
    assert closed[0] == np.datetime64("2021-01-04T21:00")
    assert np.is_busday(closed.astype("datetime64[D]")).all()
    opened, closed = calendar(Settings(period="4h"))
    assert closed[1] - opened[0] == np.timedelta64(8, "h")
    lives = (
        planted_markets[0]
        .panel.group_by("symbol")
        .agg(pl.len(), pl.col("timestamp").min().alias("first"), pl.col("timestamp").max().alias("last"))
    )
    assert (lives["first"] > lives["first"].min()).sum() == 6
    assert (lives["last"] < lives["last"].max()).sum() == 3
    assert planted_markets[0].panel["sector"].n_unique() == 6


def test_volume_grows_with_the_move_and_volatility_comes_in_regimes(planted_markets):
    panel = planted_markets[0].panel
    close, volume = np.log(wide(panel, "close")), np.log(wide(panel, "volume"))
    size, surprise = np.abs(close - lagged(close, 1)), volume - lagged(volume, 1)
    assert information_coefficients(size, surprise).mean() > 0.1
    spread = np.nanstd((close - lagged(close, 1))[1:], axis=1)
    assert np.corrcoef(spread[1:], spread[:-1])[0, 1] > 0.6


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_lies_where_it_is_said_to_be(kind):
    clean = simulate(Settings(), 5).panel
    market = simulate(Settings(simulator={"faults": [kind]}), 5)
    check_table(market.panel, RAW_PANEL)
    assert market.faults["kind"].unique().to_list() == [kind]
    assert market.panel["timestamp"].is_sorted()
    keys = ["timestamp", "symbol"]
    hit = market.panel.join(market.faults, on=keys, how="semi")
    originals = clean.join(market.faults, on=keys, how="semi")
    untouched = (
        market.panel.join(market.faults.select("symbol").unique(), on="symbol", how="anti")
        if kind != "last_bar_not_final"
        else market.panel.join(market.faults, on=keys, how="anti")
    )
    assert untouched.join(clean, on=clean.columns, how="anti").is_empty()
    last = market.faults["timestamp"].max()
    if kind == "duplicates":
        assert len(market.panel) == len(clean) + len(market.faults)
        assert len(hit) == 2 * len(market.faults)
        assert len(hit.unique()) == len(market.faults) + 2
    elif kind == "gaps":
        assert hit.is_empty()
        assert len(market.panel) == len(clean) - 2 * GAP_BARS
    elif kind == "stale_prices":
        assert len(hit) == 2 * STALE_BARS
        assert hit.group_by("symbol").agg(pl.col("close").n_unique())["close"].to_list() == [1, 1]
    elif kind == "bad_print":
        np.testing.assert_allclose(hit["close"] / originals["close"], PRINT_RATIO)
        assert (hit["high"] >= hit["close"]).all()
    elif kind == "last_bar_not_final":
        assert last == clean["timestamp"].max()
        assert (hit["volume"] < 0.2 * originals["volume"]).all()
        assert (hit["high"] - hit["low"] < 0.5 * (originals["high"] - originals["low"])).all()
    else:
        ratio = 1 / SPLIT_RATIO if kind == "unadjusted_split" else 17.3
        both = market.panel.join(clean, on=keys, suffix="_clean").join(
            market.faults.rename({"timestamp": "since"}), on="symbol"
        )
        after = pl.col("timestamp") >= pl.col("since")
        change = pl.col("close") / pl.col("close_clean")
        assert both.select((change - pl.when(after).then(ratio).otherwise(1.0)).abs().max()).item() < 1e-9


CHANGE = {"bar": 450, "volatility": 2.0, "planted": {"momentum_60_20": 1.0}}


def test_a_change_leaves_the_past_and_moves_what_it_says():
    """Before the change every bar is the one of the unchanged market; after it the signals and the size of
    the moves are others, the attainable IC is not.
    """
    found = {"before": [], "after": []}
    for seed in SEEDS:
        same, changed = (
            simulate(Settings(planted_ic=0.15, simulator=simulator), seed)
            for simulator in ({}, {"change": CHANGE})
        )
        cut = same.panel["timestamp"].unique().sort()[CHANGE["bar"]]
        assert changed.panel.filter(pl.col("timestamp") < cut).equals(
            same.panel.filter(pl.col("timestamp") < cut)
        )
        returns, signals = sector_neutral_return(changed.panel), simple_signals(changed.panel)
        for name, part in (("before", slice(70, 440)), ("after", slice(460, -6))):
            attained, reversal, momentum = (
                information_coefficients(values[part], returns[part]).mean()
                for values in (
                    wide(changed.truth, "expected_return_5"),
                    signals["reversal_5"],
                    signals["momentum_60_20"],
                )
            )
            found[name].append(
                (
                    attained,
                    reversal,
                    momentum,
                    np.nanstd(returns[part]) / np.nanstd(sector_neutral_return(same.panel)[part]),
                )
            )
    before, after = (np.mean(found[name], axis=0) for name in ("before", "after"))
    assert before[0] == pytest.approx(0.15, abs=0.025)
    assert after[0] == pytest.approx(0.15, abs=0.035)
    assert before[1] > 0.05
    assert after[1] < 0.03
    assert after[2] > before[2] + 0.05
    assert before[3] == pytest.approx(1)
    assert after[3] == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"bar": 750}, "beyond the last"),
        ({"bar": 5, "planted": {"carry": 1}}, "can't be planted"),
        ({"bar": 5, "volatility": 0}, "greater than 0"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        Settings(simulator={"change": change})


def test_a_clean_market_has_no_faults(planted_markets):
    assert planted_markets[0].faults.is_empty()


def test_all_faults_together_and_symbols_of_the_simulator(tmp_path):
    config = Settings(simulator={"faults": FAULTS}, symbols=["S01", "S60"])
    market = load_panel(config, data_folder=tmp_path, seed=4)
    assert market.panel["symbol"].unique().sort().to_list() == ["S01", "S60"]
    assert set(market.faults["kind"].unique()) == set(FAULTS)
    with pytest.raises(MarketError, match="does not have: 'S99'"):
        load_panel(Settings(symbols=["S99"]), data_folder=tmp_path, seed=4)
    with pytest.raises(MarketError, match="Ask for fewer"):
        simulate(Settings(simulator={"symbols": 20_000, "bars": 100_000}), 1)


def test_files_of_a_simulated_market_load_as_the_same_market(tmp_path):
    config = Settings(simulator={"bars": 100, "faults": ["gaps"]})
    simulate_to_files(config, 9, tmp_path / "out")
    loaded = load_panel(
        Settings(source="parquet", path="out/panel.parquet"), data_folder=tmp_path, seed=0
    ).panel
    market = simulate(config, 9)
    columns = ["timestamp", "symbol", "open", "high", "low", "close", "volume", "sector"]
    assert loaded.select(columns).equals(market.panel.select(columns))
    assert pl.read_parquet(tmp_path / "out" / "truth.parquet").equals(market.truth)
    assert pl.read_parquet(tmp_path / "out" / "faults.parquet").equals(market.faults)
    assert "seed 9" in (tmp_path / "out" / "README.md").read_text()
