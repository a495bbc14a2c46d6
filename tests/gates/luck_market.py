"""Markets of pure luck, or of a known information coefficient, to learn how often the gates are right."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from components.backtest.config import Settings as BacktestSettings
from components.backtest.evaluate import evaluate
from components.backtest.market_facts import MarketFacts
from components.contracts import TIME
from components.contracts.documents.evaluation import Evaluation
from components.contracts.documents.trials import Trials
from components.contracts.documents.verdict import Verdict
from components.gates.config import Settings
from components.gates.judge import judge
from components.gates.promotion import Contest
from components.registry.scored import scored_models
from components.timeline import Windows

SYMBOLS, BARS, WARM_UP, HORIZON = 60, 220, 30, 5
DAILY_VOLATILITY = 0.02


@dataclass(frozen=True)
class Measured:
    """What is known of a candidate, its run the first on this market."""

    evaluation: Evaluation
    predictions: pl.DataFrame
    labels: pl.DataFrame
    trials: Trials


def verdict_on(seed: int, *, true_ic: float, persistence: float) -> Verdict:
    """The gates' verdict on scores that are first-order autoregressive and have `true_ic` with the 5-bar
    return, 60 symbols x 220 bars.
    """
    found = measured(seed, true_ic=true_ic, persistence=persistence)
    contest = Contest(found.evaluation, found.predictions, found.labels, None)
    return judge(contest, found.trials, Settings(), code="c")


def measured(seed: int, *, true_ic: float, persistence: float, lucky_bar: int | None = None) -> Measured:
    """Evaluation of `stack` beside a flat baseline and two noisy ones.

    On `lucky_bar` the stack foresees the order of all symbols, and the largest moves of the market follow.
    """
    random = np.random.default_rng(seed)
    bars = WARM_UP + BARS
    signal = _autoregressive(random, bars, persistence)
    market = random.normal(0, 0.01, (bars, 1))
    reach = sum(persistence ** (lag + 1) for lag in range(HORIZON))
    strength = true_ic * np.sqrt(HORIZON) / reach if true_ic else 0.0
    known = np.vstack([np.zeros((1, SYMBOLS)), signal[:-1]])
    own = DAILY_VOLATILITY * (strength * known + random.standard_t(5, (bars, SYMBOLS)) / np.sqrt(5 / 3))
    if lucky_bar is not None:
        own[lucky_bar + 2] *= 6
    close = 100 * np.exp(np.cumsum(market + own, axis=0))
    opening = np.vstack([close[:1], close[:-1]])
    label = np.full((bars, SYMBOLS), np.nan)
    label[: -HORIZON - 1] = np.log(opening[HORIZON + 1 :] / opening[1:-HORIZON])
    neutral = label - label.mean(axis=1, keepdims=True)
    unit = DAILY_VOLATILITY * np.sqrt(HORIZON)
    score = signal * max(true_ic, 0.02) * unit
    if lucky_bar is not None:
        score[lucky_bar] = score.std() * neutral[lucky_bar] / neutral[lucky_bar].std()
    noisy = [0.9 * score + 0.1 * score.std() * random.normal(size=score.shape) for _ in range(2)]
    keys = _keys(bars)
    panel = keys.with_columns(
        pl.lit(None, dtype=pl.Float64).alias("volume"),
        pl.lit("all").alias("sector"),
        pl.Series("open", opening.ravel()),
        pl.Series("close", close.ravel()),
    )
    labels = keys.with_columns(
        pl.lit(HORIZON, dtype=pl.Int32).alias("horizon"),
        pl.Series("log_return", label.ravel()).fill_nan(None),
        pl.Series("sector_neutral_return", neutral.ravel()).fill_nan(None),
    )
    experts = {
        name: _predictions(keys, name, values, 1.2816 * unit)
        for name, values in {
            "stack": score,
            "median": np.zeros_like(score),
            "equal_weights": noisy[0],
            "best_single": noisy[1],
        }.items()
    }
    regimes = keys.with_columns(pl.lit(1.0).alias("regime_state"))
    windows = Windows((0, WARM_UP - 10), (WARM_UP - 10, WARM_UP), (WARM_UP, bars), (WARM_UP, bars))
    settings = BacktestSettings(decay_bars=0)
    sizes = np.random.default_rng([seed, 1]).lognormal(0, 1, SYMBOLS)
    universe = keys.with_columns(
        pl.Series("traded_value", np.tile(sizes, bars)), pl.lit(True).alias("tradable")
    )
    calendar = keys["timestamp"].unique().sort()
    market = MarketFacts(labels, panel, regimes, windows, calendar, universe)
    evaluation, returns = evaluate(experts, market, settings, horizon=HORIZON, code="c")
    trials = Trials(scored=(scored_models(evaluation, returns),), unseen=0)
    return Measured(evaluation, experts["stack"], labels, trials)


def _autoregressive(random: np.random.Generator, bars: int, persistence: float) -> np.ndarray:
    steps = random.normal(size=(bars, SYMBOLS))
    values = steps.copy()
    for bar in range(1, bars):
        values[bar] = persistence * values[bar - 1] + np.sqrt(1 - persistence**2) * steps[bar]
    return values


def _keys(bars: int) -> pl.DataFrame:
    days = pl.Series(
        [datetime(2021, 1, 1, tzinfo=UTC) + timedelta(days=1.45 * bar) for bar in range(bars)], dtype=TIME
    )
    return pl.DataFrame(
        {
            "timestamp": days.gather(np.repeat(np.arange(bars), SYMBOLS)),
            "symbol": [f"S{number:02d}" for number in range(SYMBOLS)] * bars,
        }
    )


def _predictions(keys: pl.DataFrame, name: str, score: np.ndarray, half_band: float) -> pl.DataFrame:
    first = keys["timestamp"].unique().sort()[WARM_UP]
    return keys.select(
        "timestamp",
        "symbol",
        pl.lit("1d").alias("period"),
        pl.lit(HORIZON, dtype=pl.Int32).alias("horizon"),
        pl.lit("sector_neutral_return").alias("target"),
        pl.lit(name).alias("expert"),
        pl.lit("fold_00").alias("fold"),
        pl.lit("window").alias("train_window"),
        pl.Series("score", score.ravel()),
        pl.lit(half_band / 1.2816).alias("uncertainty"),
        pl.Series("p10", score.ravel() - half_band),
        pl.Series("p50", score.ravel()),
        pl.Series("p90", score.ravel() + half_band),
        pl.lit(1.0).alias("head_scale"),
        pl.lit(0.0).alias("head_bias"),
    ).filter(pl.col("timestamp") >= first)
