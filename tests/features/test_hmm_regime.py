"""The hidden Markov regime: filtered by the book, blind to the future, refitted on schedule, and honest where
it can't be fitted.
"""

from datetime import UTC, datetime, timedelta
from itertools import pairwise, product

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from components.audit.config import Settings as AuditSettings
from components.audit.factors import audit_factors
from components.contracts import REGIME_COLUMN, REGIMES
from components.features import hmm
from components.features.errors import FeatureError
from components.features.hidden_regime import (
    PROBABILITIES,
    SMOOTHING_BARS,
    hmm_catalog,
    hmm_columns,
    hmm_warm_up_bars,
)
from components.features.hmm import RegimeModel, filtered_states
from components.features.regime_config import Regimes

START = datetime(2020, 1, 1, tzinfo=UTC)
# With daily bars from 2020-01-01 the stretches of two months end at bars 59, 120, 181, 243, 304, 365. Inputs
# are known from bar 20 on, so bar 120 brings the first fit.
QUICK = Regimes(model="hmm", states=3, fit_bars=100, refit_months=2)
FIRST_FIT = 120
AUDITED = QUICK.model_copy(update={"max_iterations": 6})
# Mean trend, volatility and breadth of the simulated states: bear, bull, high volatility.
STATES = np.array([[-0.05, 0.010, 0.3], [0.05, 0.008, 0.7], [0.0, 0.030, 0.5]])
NAMES = ("bear", "bull", "high_volatility")


def simulated(seed: int, bars: int = 420, *, noise: float = 1.0) -> tuple[pl.DataFrame, np.ndarray]:
    """A market's series that moves between three states which last 30 bars on average, and the state of each
    bar.
    """
    rng = np.random.default_rng(seed)
    state = np.zeros(bars, dtype=int)
    for t in range(1, bars):
        state[t] = state[t - 1] if rng.random() > 1 / 30 else rng.integers(3)
    values = STATES[state] + noise * rng.normal(size=(bars, 3)) * np.array([0.02, 0.003, 0.1])
    times = pl.Series([START + timedelta(days=t) for t in range(bars)]).dt.cast_time_unit("us")
    frame = pl.DataFrame(
        {
            "timestamp": times,
            "market_trend": values[:, 0],
            "market_volatility": values[:, 1],
            "market_breadth_20": values[:, 2],
        }
    )
    frame = frame.with_columns(pl.when(pl.int_range(pl.len()) >= 20).then(pl.exclude("timestamp")))
    return (
        frame.with_columns(
            pl.exclude("timestamp").cast(pl.Float32), pl.lit(1.0, pl.Float32).alias(REGIME_COLUMN)
        ),
        state,
    )


def random_model(seed: int, states: int = 3, inputs: int = 2) -> RegimeModel:
    rng = np.random.default_rng(seed)
    start, moves = rng.dirichlet(np.ones(states)), rng.dirichlet(np.ones(states), states)
    scale = np.zeros(inputs), np.ones(inputs)
    return RegimeModel(
        np.arange(inputs),
        *scale,
        start,
        moves,
        rng.normal(size=(states, inputs)),
        rng.uniform(0.5, 2, (states, inputs)),
        np.arange(states),
    )


def density(model: RegimeModel, state: int, row: np.ndarray) -> float:
    known = np.isfinite(row)
    z = (row[known] - model.means[state][known]) ** 2 / model.variances[state][known]
    return float(np.exp(-0.5 * z).prod() / np.sqrt(2 * np.pi * model.variances[state][known]).prod())


@pytest.mark.parametrize("seed", range(4))
def test_filtered_probabilities_agree_with_the_sum_over_all_paths(seed):
    model, rng = random_model(seed), np.random.default_rng(seed)
    values = rng.normal(size=(6, 2))
    values[3, 0] = values[4] = np.nan
    got = filtered_states(model, values)
    for t in range(len(values)):
        weight = np.zeros(3)
        for path in product(range(3), repeat=t + 1):
            chance = model.start[path[0]] * np.prod(
                [density(model, s, row) for s, row in zip(path, values, strict=False)]
            )
            weight[path[-1]] += chance * np.prod([model.moves[a, b] for a, b in pairwise(path)])
        assert got[t] == pytest.approx(weight / weight.sum(), abs=1e-12)


def test_filtered_is_what_hmmlearn_says_of_the_last_bar_of_each_prefix():
    from hmmlearn.hmm import GaussianHMM

    model, values = random_model(7), np.random.default_rng(7).normal(size=(40, 2))
    learner = GaussianHMM(3, covariance_type="diag", init_params="")
    learner.startprob_, learner.transmat_, learner.means_, learner.covars_ = (
        model.start,
        model.moves,
        model.means,
        model.variances,
    )
    got = filtered_states(model, values)
    for t in (0, 1, 10, 39):
        assert got[t] == pytest.approx(learner.predict_proba(values[: t + 1])[-1], abs=1e-9)
    assert np.abs(got - learner.predict_proba(values)).max() > 0.01, "smoothed is something else"


def test_nothing_up_to_a_bar_changes_when_history_ends_there_or_goes_on_otherwise():
    series, _ = simulated(0)
    whole = hmm_columns(series, QUICK)
    other, _ = simulated(99)
    for t in (58, 59, 60, 119, 120, 121, 122, 150, 180, 181, 182, 243, 244, 304, 305, 402, 418):
        assert hmm_columns(series[: t + 1], QUICK).equals(whole[: t + 1], null_equal=True), t
        changed = pl.concat([series[: t + 1], other[t + 1 :].with_columns(pl.col("market_volatility") * 50)])
        assert hmm_columns(changed, QUICK)[: t + 1].equals(whole[: t + 1], null_equal=True), t


@pytest.mark.parametrize("begin", [5, 37, 100, 150])
def test_values_do_not_depend_on_where_history_begins_after_the_declared_warm_up(begin):
    series, _ = simulated(10, 700)
    whole, later = hmm_columns(series, QUICK), hmm_columns(series[begin:], QUICK)
    warm = hmm_warm_up_bars(QUICK, "1d")
    assert warm == 61 + 100 + 62
    assert later[warm - 1 :].select(PROBABILITIES).equals(whole[begin + warm - 1 :].select(PROBABILITIES))
    smooth = warm + SMOOTHING_BARS
    assert later[REGIME_COLUMN][smooth - 1 :].equals(whole[REGIME_COLUMN][begin + smooth - 1 :])


def test_fits_see_bars_before_those_they_are_for_and_come_on_schedule(monkeypatch):
    series, _ = simulated(1, 300)
    seen = []
    true_fit = hmm.fit

    def recorded(window, names, settings):
        seen.append((len(window), window[-1, 0]))
        return true_fit(window, names, settings)

    monkeypatch.setattr(hmm, "fit", recorded)
    whole = hmm_columns(series, QUICK)
    trend = series["market_trend"].to_list()
    assert [(bars, pytest.approx(last)) for bars, last in seen] == [
        (100, trend[120]),
        (100, trend[181]),
        (100, trend[243]),
    ]
    assert whole["hmm_bull"].is_not_null().to_list() == [t > FIRST_FIT for t in range(300)]


def test_simulated_regimes_are_found():
    series, state = simulated(2, 1200)
    found = hmm_columns(series, QUICK.model_copy(update={"fit_bars": 500}))
    codes = np.array([REGIMES.index(name) for name in NAMES])[state]
    probabilities = found.select(PROBABILITIES).to_numpy()
    known = np.isfinite(probabilities).all(axis=1)
    assert probabilities[known].sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert (probabilities[known].argmax(axis=1) == codes[known]).mean() > 0.95
    # The smoothed regime takes five bars to follow.
    assert (found[REGIME_COLUMN].to_numpy()[known] == codes[known]).mean() > 0.6


def test_states_are_called_by_what_they_are():
    rank = {name: code for code, name in enumerate(REGIMES)}
    assert hmm._regimes(np.array([0.02, -0.03, 0.0, -0.1]), np.array([0.1, 0.2, 0.15, 0.9])).tolist() == [
        rank["bull"],
        rank["bear"],
        rank["neutral"],
        rank["high_volatility"],
    ]
    assert hmm._regimes(np.array([0.02, 0.05, -0.1]), np.array([0.1, 0.2, 0.9])).tolist() == [
        rank["neutral"],
        rank["bull"],
        rank["high_volatility"],
    ], "no bear without a fall"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda series: series.with_columns(pl.lit(0.01, pl.Float32).alias("market_volatility")),
        lambda series: series.with_columns(pl.lit(0.01, pl.Float32).alias("market_trend")),
    ],
    ids=["flat volatility", "flat trend"],
)
def test_a_degenerate_fit_falls_back_to_the_thresholds_with_a_warning(spoil, capsys):
    series = spoil(simulated(3, 200)[0]).with_columns(
        (pl.int_range(pl.len()) // 50).cast(pl.Float32).alias(REGIME_COLUMN)
    )
    found = hmm_columns(series, QUICK)
    assert found[REGIME_COLUMN].equals(series[REGIME_COLUMN])
    assert found["hmm_bull"].to_list()[121:] == [1.0] * 29 + [0.0] * 50
    assert found["hmm_high_volatility"].to_list()[121:] == [0.0] * 29 + [1.0] * 50
    assert "does not vary" in capsys.readouterr().err


def test_too_many_states_for_the_data_are_degenerate():
    window = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(hmm.DegenerateFit, match="only 60 bars"):
        hmm.fit(window, ["market_trend", "market_volatility"], QUICK.model_copy(update={"states": 8}))
    steps = np.stack([np.repeat([0.0, 1.0], 50), np.repeat([0.0, 1.0], 50)], axis=1)
    with pytest.raises(hmm.DegenerateFit, match=r"a state|broke off"):
        hmm.fit(steps, ["market_trend", "market_volatility"], QUICK.model_copy(update={"states": 4}))


def test_a_hole_and_a_late_input_are_borne():
    series, _ = simulated(4, 400)
    t = pl.int_range(pl.len())
    series = series.with_columns(
        pl.when((t < 150) | (t > 160)).then(pl.col("market_breadth_20", "market_trend")),
        pl.when(t >= 300).then(pl.col("market_breadth_20")).alias("market_funding_rate"),
    )
    found = hmm_columns(series, QUICK)
    assert found["hmm_bull"][FIRST_FIT + 1 :].null_count() == 0
    assert np.isfinite(found.select(PROBABILITIES)[FIRST_FIT + 1 :].to_numpy()).all()


def test_an_outlier_neither_ends_the_recursion_nor_sets_the_scale():
    series, state = simulated(2, 1200)
    wild = pl.when(pl.int_range(pl.len()) == 380).then(1e30).otherwise(pl.col("market_volatility"))
    found = hmm_columns(
        series.with_columns(wild.cast(pl.Float32).alias("market_volatility")),
        QUICK.model_copy(update={"fit_bars": 500}),
    )
    probabilities = found.select(PROBABILITIES)[600:].to_numpy()
    assert np.isfinite(probabilities).all()
    codes = np.array([REGIMES.index(name) for name in NAMES])[state[600:]]
    assert (probabilities.argmax(axis=1) == codes).mean() > 0.95


def test_two_fits_of_the_same_bars_have_the_same_bytes():
    series, _ = simulated(6)
    assert hmm_columns(series, QUICK).equals(hmm_columns(series, QUICK), null_equal=True)


@pytest.mark.parametrize("newest", [1, 3, 30, 200, 420])
def test_the_newest_bars_alone_are_those_of_the_whole(newest, monkeypatch):
    series, _ = simulated(8)
    series = series.with_columns((pl.int_range(pl.len()) // 7 % 4).cast(pl.Float32).alias(REGIME_COLUMN))
    whole = {end: hmm_columns(series[:end], QUICK) for end in (95, 125, 182, 230, 420)}
    fits, true_fit = [], hmm.fit
    monkeypatch.setattr(hmm, "fit", lambda *given: fits.append(1) or true_fit(*given))
    for end, table in whole.items():
        assert hmm_columns(series[:end], QUICK, newest=newest).equals(table.tail(newest), null_equal=True), (
            end
        )
    if newest == 1:
        assert len(fits) <= 2 * len(whole), "at most the fit for the last bars and the one before"


def test_thresholds_add_nothing_and_the_catalog_names_what_the_model_adds():
    series, _ = simulated(0, 120)
    assert hmm_columns(series, Regimes()).columns == ["timestamp"]
    assert hmm_catalog(Regimes()) == []
    entries = hmm_catalog(QUICK, "1d")
    assert {entry.warm_up_bars for entry in entries} == {hmm_warm_up_bars(QUICK, "1d")}
    assert hmm_warm_up_bars(QUICK) == hmm_warm_up_bars(QUICK, "1m") > hmm_warm_up_bars(QUICK, "1h")
    assert [entry.column for entry in entries] == list(PROBABILITIES)
    assert hmm_columns(series, QUICK).columns == ["timestamp", *PROBABILITIES, REGIME_COLUMN]
    assert {(entry.group, entry.role, entry.modality) for entry in entries} == {
        ("regime_hmm", "input", "base")
    }
    assert set(hmm_columns(series, QUICK).schema.dtypes()[1:]) == {pl.Float32()}


def test_series_that_do_not_fit_are_refused():
    series, _ = simulated(0, 120)
    with pytest.raises(FeatureError, match="lacks 'market_trend'"):
        hmm_columns(series.drop("market_trend"), QUICK)
    with pytest.raises(FeatureError, match="does not ascend"):
        hmm_columns(series[::-1], QUICK)
    assert len(hmm_columns(series[:0], QUICK)) == 0
    assert hmm_columns(series[:1], QUICK)["hmm_bear"].to_list() == [None]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"inputs": ("market_trend",)}, "market_volatility"),
        ({"fit_bars": 20}, "greater than or equal"),
        ({"states": 2}, "greater than or equal"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        Regimes(**values)


def builder(columns):
    """Factors of a panel whose bars are the market's series: every symbol gets the market's columns."""

    def build(panel: pl.DataFrame) -> pl.DataFrame:
        change = pl.col("close").log().diff().over("symbol")
        market = (
            panel.with_columns(change.alias("change"))
            .group_by("timestamp")
            .agg(pl.col("change").mean(), (pl.col("change") > 0).mean().alias("up"))
            .sort("timestamp")
        )
        series = market.select(
            "timestamp",
            pl.col("change").rolling_sum(10).alias("market_trend"),
            pl.col("change").rolling_std(10).alias("market_volatility"),
            pl.col("up").rolling_mean(10).alias("market_breadth_20"),
            pl.lit(1.0).alias(REGIME_COLUMN),
        )
        return panel.select("timestamp", "symbol", "known_time").join(
            columns(series), on="timestamp", how="left", maintain_order="left"
        )

    return build


def smoothed_over_everything(series: pl.DataFrame) -> pl.DataFrame:
    """The planted fault: fitted once on all bars, and each bar's state judged with those after it."""
    from hmmlearn.hmm import GaussianHMM

    names = ["market_trend", "market_volatility", "market_breadth_20"]
    values = series.select(names).fill_null(0.0).to_numpy()
    learner = GaussianHMM(3, random_state=0, n_iter=10).fit(
        (values - values.mean(axis=0)) / values.std(axis=0)
    )
    probabilities = learner.predict_proba((values - values.mean(axis=0)) / values.std(axis=0))
    return series.select(
        "timestamp", *(pl.Series(f"hmm_{k}", probabilities[:, k]).cast(pl.Float32) for k in range(3))
    )


def smoothed_within_the_segment(series: pl.DataFrame) -> pl.DataFrame:
    """A subtler one: fits on schedule on the past alone, but bars are judged with those after them up to the
    next fit.
    """

    def backwards(model, values):
        forward = filtered_states(model, values)
        smoothed = forward.copy()
        for t in range(len(values) - 2, -1, -1):
            expected = forward[t] @ model.moves
            smoothed[t] = forward[t] * (model.moves @ (smoothed[t + 1] / expected))
        return smoothed @ np.eye(len(REGIMES))[model.regimes]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hmm, "filtered", backwards)
        return hmm_columns(series, AUDITED)


@pytest.fixture(scope="module")
def panel():
    rng = np.random.default_rng(0)
    state = np.repeat(rng.permutation(np.tile([0, 1, 2], 2)), 35)
    market = np.array([-0.01, 0.01, 0.0])[state] + np.array([0.005, 0.005, 0.03])[state] * rng.normal(
        size=210
    )
    close = 100 * np.exp((market[:, None] + 0.01 * rng.normal(size=(210, 6))).cumsum(axis=0))
    bar, symbol = (grid.ravel() for grid in np.meshgrid(np.arange(210), np.arange(6), indexing="ij"))
    times = (pl.lit(START).dt.cast_time_unit("us") + pl.duration(days=pl.col("bar"))).alias("timestamp")
    frame = pl.DataFrame(
        {"bar": bar, "symbol": [f"S{s}" for s in symbol], "close": close.ravel(), "sector": "one"}
    )
    return frame.select(
        times,
        "symbol",
        times.alias("known_time"),
        *(pl.col("close").alias(name) for name in ("open", "high", "low", "close")),
        pl.lit(1.0).alias("volume"),
        "sector",
    )


def audited(panel: pl.DataFrame, columns):
    build = builder(columns)
    return audit_factors(
        panel,
        build,
        cuts=2,
        seed=0,
        factors=build(panel),
        settings=AuditSettings(guided_cuts=0, scan_cuts=0, staggered_builds=0, warm_up_starts=0),
    )


def test_the_audit_passes_the_filter_and_catches_smoothing(panel):
    assert [
        leak.sentence() for leak in audited(panel, lambda series: hmm_columns(series, AUDITED)).leaks
    ] == []
    for wrong in (smoothed_over_everything, smoothed_within_the_segment):
        checks = {leak.check for leak in audited(panel, wrong).leaks if leak.factor.startswith("hmm_")}
        assert {"future_mutation", "truncation"} <= checks, wrong.__name__
