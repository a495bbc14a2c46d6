"""A simulated market in the form that mining takes: a few plain factors, labels, and walk-forward predictions
of two linear experts or of trees.
"""

import numpy as np
import polars as pl

from components.contracts import ALL_PREDICTIONS, CatalogEntry, check_table
from components.labels.build import build_labels
from components.labels.config import Settings as LabelSettings
from components.market.config import Settings as MarketSettings
from components.market.simulator import simulate
from components.mining.tables import RunTables
from components.timeline import Settings as TimelineSettings
from components.timeline import bar_index, resolve_windows, walk_forward

TARGET, HORIZON = "sector_neutral_return", 5
TIMELINE = TimelineSettings(train_share=0.4, validation_share=0.4, fold_bars=100)
# The planted non-linear signal as a formula over the inputs: the momentum of the last 20 bars times that of
# the 40 before.
TRUE_FORMULA = "mul(momentum_20_rank, momentum_60_20_rank)"


def mined_market(
    planted_ic: float,
    seed: int,
    *,
    trees: bool = False,
    planted: dict[str, float] | None = None,
    symbols: int = 80,
    bars: int = 750,
) -> RunTables:
    """Tables of a market whose only alpha is the non-linear `trend_agreement`, unless `planted` says
    otherwise.
    """
    simulator = {"symbols": symbols, "bars": bars, "planted": planted or {"trend_agreement": 1.0}}
    panel = simulate(MarketSettings(planted_ic=planted_ic, simulator=simulator), seed).panel
    training_set, catalog = plain_factors(panel)
    labels = build_labels(panel, LabelSettings())
    return RunTables(
        training_set,
        labels,
        catalog,
        walk_forward_predictions(training_set, labels, catalog, TIMELINE, trees=trees, seed=seed),
    )


def plain_factors(panel: pl.DataFrame) -> tuple[pl.DataFrame, list[CatalogEntry]]:
    """Eleven factors of one column each, ranked within the bar to [-0.5, 0.5], and one that is equal for all
    symbols.
    """
    close, volume = pl.col("close").log(), pl.col("volume").log()
    lag = lambda values, bars: values.shift(bars).over("symbol")  # noqa: E731
    factors = {
        "reversal_1": lag(close, 1) - close,
        "reversal_5": lag(close, 5) - close,
        "momentum_20": close - lag(close, 20),
        "momentum_60_20": lag(close, 20) - lag(close, 60),
        "momentum_60": close - lag(close, 60),
        "gap": pl.col("open").log() - lag(close, 1),
        "intraday": close - pl.col("open").log(),
        "range": pl.col("high").log() - pl.col("low").log(),
        "place": 2 * close - pl.col("high").log() - pl.col("low").log(),
        "volume": volume,
        "volume_change": volume - lag(volume, 5),
    }
    values = panel.with_columns(expression.alias(name) for name, expression in factors.items())
    ranks = [
        ((pl.col(name).rank() - 1) / (pl.col(name).count() - 1) - 0.5)
        .over("timestamp")
        .cast(pl.Float32)
        .alias(f"{name}_rank")
        for name in factors
    ]
    weekday = (pl.col("timestamp").dt.weekday() / 5).cast(pl.Float32).alias("weekday")
    table = values.select("timestamp", "symbol", "sector", *ranks, weekday)
    names = [*(f"{name}_rank" for name in factors), "weekday"]
    return table, [CatalogEntry(name, name, "test", "input", "rank", 60, "", "test") for name in names]


def walk_forward_predictions(
    training_set: pl.DataFrame,
    labels: pl.DataFrame,
    catalog: list[CatalogEntry],
    timeline: TimelineSettings,
    *,
    trees: bool,
    seed: int,
) -> pl.DataFrame:
    """ALL_PREDICTIONS of two ridge regressions (or of one and boosted trees), each fold from its past only,
    through validation and test.
    """
    names = [entry.column for entry in catalog if entry.role == "input"]
    rows = training_set.join(
        labels.filter(pl.col("horizon") == HORIZON).select("timestamp", "symbol", TARGET, "label_end"),
        on=["timestamp", "symbol"],
    )
    calendar, bars = bar_index(rows["timestamp"])
    inputs = rows.select(pl.col(names).fill_null(0.0)).to_numpy().astype(float)
    inputs -= inputs.mean(axis=0)
    label = (
        rows.select(pl.col(TARGET) - pl.col(TARGET).mean().over("timestamp"))
        .to_series()
        .fill_null(np.nan)
        .to_numpy()
    )
    parts = []
    for fold in walk_forward(resolve_windows(calendar, timeline), timeline, longest_horizon=10)[:-1]:
        train = np.isin(bars, np.concatenate([fold.train, fold.early_stopping])) & np.isfinite(label)
        predict = np.isin(bars, fold.predict)
        experts = (
            {"ridge_light": _ridge(1.0), "ridge_heavy": _ridge(10_000.0)}
            if not trees
            else {"ridge_light": _ridge(1.0), "trees": _trees(seed)}
        )
        for name, fit in experts.items():
            score = fit(inputs[train], label[train])(inputs[predict])
            parts.append(_as_predictions(rows.filter(pl.Series(predict)), name, fold.name, score))
    return check_table(pl.concat(parts).sort(ALL_PREDICTIONS.key), ALL_PREDICTIONS)


def _ridge(penalty: float):
    def fit(inputs: np.ndarray, label: np.ndarray):
        weights = np.linalg.solve(inputs.T @ inputs + penalty * np.eye(inputs.shape[1]), inputs.T @ label)
        return lambda new: new @ weights

    return fit


def _trees(seed: int):
    def fit(inputs: np.ndarray, label: np.ndarray):
        import lightgbm

        parameters = {
            "num_leaves": 15,
            "learning_rate": 0.05,
            "min_data_in_leaf": 200,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "seed": seed,
            "num_threads": 1,
            "verbosity": -1,
        }
        return lightgbm.train(parameters, lightgbm.Dataset(inputs, label), 100).predict

    return fit


def _as_predictions(rows: pl.DataFrame, expert: str, fold: str, score: np.ndarray) -> pl.DataFrame:
    values = pl.Series(score)
    return rows.select("timestamp", "symbol").with_columns(
        pl.lit("1d").alias("period"),
        pl.lit(HORIZON, pl.Int32).alias("horizon"),
        pl.lit(TARGET).alias("target"),
        pl.lit(expert).alias("expert"),
        pl.lit(fold).alias("fold"),
        pl.lit("").alias("train_window"),
        *(values.alias(name) for name in ("score", "p50")),
        *(pl.lit(0.01).alias(name) for name in ("uncertainty", "head_bias")),
        (values - 0.01).alias("p10"),
        (values + 0.01).alias("p90"),
        pl.lit(1.0).alias("head_scale"),
    )
