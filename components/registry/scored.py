"""The models that a run scored on its test window, as the registry keeps them."""

import numpy as np
import polars as pl

from components.contracts import TIME, ContractError, content_sha256
from components.contracts.documents.evaluation import Evaluation, Measurement
from components.contracts.documents.market_sketch import UNKNOWN_MARKET, MarketSketch
from components.contracts.documents.trials import ModelKind, Scored, ScoredModel
from components.metrics import sharpe_moments

STACK, BASELINES, COMBINER = "stack", ("equal_weights", "performance_weights", "best_single"), "z_"
STRATEGY, WINDOW = "long_short", "backtest"
MOMENT = "%Y-%m-%dT%H:%M:%SZ"
# Two machines agree on what a model said to some thirteen digits; these many are kept, so that it stays one
# trial wherever it is scored again.
DIGITS = 9
SERIES = ("net_return", "ic", "rank_ic")


def scored_models(evaluation: Evaluation, returns: pl.DataFrame) -> Scored:
    """Every model of the evaluation that has test results, with its net returns of long_short.

    Parameters
    ----------
    returns : the returns that were made with the evaluation, columns `timestamp`, `expert`, `strategy`,
        `window`, `net_return`

    Raises
    ------
    ContractError
        If the returns lack one of these columns.
    """
    traded = _traded(returns)
    tested = {name: model.test for name, model in evaluation.experts.items() if model.test is not None}
    series = {name: _series(block, traded.filter(pl.col("expert") == name)) for name, block in tested.items()}
    return scored_together(
        series,
        {name: _kind(name) for name in series},
        period=evaluation.period,
        test=(evaluation.windows.test.start, evaluation.windows.test.end),
        bars_per_year=evaluation.bars_per_year,
        task=(evaluation.target, evaluation.horizon),
        market=evaluation.market,
    )


def scored_together(
    series: dict[str, pl.DataFrame],
    kinds: dict[str, ModelKind],
    *,
    period: str,
    test: tuple[str, str],
    bars_per_year: float,
    task: tuple[str, int],
    market: MarketSketch = UNKNOWN_MARKET,
) -> Scored:
    """Models by name, each by its series: `timestamp` and some of SERIES.

    `test` are the window's first and last moment, `task` the target and the horizon, `market` what prices
    did in the window.
    """
    empty = pl.DataFrame(schema={"timestamp": TIME})
    moments = pl.concat([empty, *(frame.select("timestamp") for frame in series.values())]).unique()
    moments = moments.sort("timestamp")
    aligned = {
        name: moments.join(frame, on="timestamp", how="left", maintain_order="left")
        for name, frame in series.items()
    }
    models = [_model(name, kinds[name], frame, task) for name, frame in aligned.items()]
    named: dict[str, list[ScoredModel]] = {}
    for model in models:
        named.setdefault(model.key, []).append(model)
    return Scored(
        run="",
        period=period,
        test_start=test[0],
        test_end=test[1],
        bars_per_year=bars_per_year,
        timestamps=moments["timestamp"].dt.strftime(MOMENT).to_list(),
        models=tuple(
            first.model_copy(update={"also": tuple(model.name for model in more)})
            for first, *more in named.values()
        ),
        market=market,
    )


def _traded(returns: pl.DataFrame) -> pl.DataFrame:
    wanted = ["timestamp", "expert", "net_return"]
    lacking = [name for name in (*wanted, "strategy", "window") if name not in returns.columns]
    if lacking:
        raise ContractError(
            f"The returns of the backtest lack {', '.join(lacking)}. Run the backtest stage again."
        )
    return returns.filter((pl.col("strategy") == STRATEGY) & (pl.col("window") == WINDOW)).select(wanted)


def _series(block: Measurement, traded: pl.DataFrame) -> pl.DataFrame:
    moment = pl.col("timestamp").str.to_datetime(MOMENT, time_unit="us", time_zone="UTC")
    daily = pl.DataFrame(
        {name: getattr(block.daily, name) for name in ("timestamp", "ic", "rank_ic")},
        schema={"timestamp": pl.String, "ic": pl.Float64, "rank_ic": pl.Float64},
    ).with_columns(moment)
    return daily.join(traded.drop("expert"), on="timestamp", how="full", coalesce=True).sort("timestamp")


def _kind(name: str) -> ModelKind:
    if name == STACK:
        return "stack"
    return "combiner" if name in BASELINES or name.startswith(COMBINER) else "expert"


def _model(name: str, kind: ModelKind, frame: pl.DataFrame, task: tuple[str, int]) -> ScoredModel:
    found = [column for column in SERIES if column in frame.columns]
    # Adding 0 makes 0 of -0, which would be another content.
    rounded = frame.select("timestamp", (pl.col(found).fill_nan(None).round(DIGITS) + 0.0))
    net = rounded["net_return"].drop_nulls().to_numpy() if "net_return" in found else np.array([])
    ranks = rounded["rank_ic"] if "rank_ic" in found else pl.Series([], dtype=pl.Float64)
    moments = sharpe_moments(net)
    told = rounded.select("timestamp", *(name for name in found if name != "ic"))
    return ScoredModel(
        key=content_sha256(told.filter(pl.any_horizontal(pl.exclude("timestamp").is_not_null()))),
        name=name,
        also=(),
        kind=kind,
        target=task[0],
        horizon=task[1],
        **{column: rounded[column] if column in found else [] for column in SERIES},
        bars=moments.bars,
        sharpe=moments.sharpe,
        skewness=moments.skewness,
        kurtosis=moments.kurtosis,
        mean_rank_ic=ranks.mean(),
    )
