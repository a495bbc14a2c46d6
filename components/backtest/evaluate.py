"""Measures every expert and the stack, before and after costs, in one nested dictionary that JSON can hold.

The test window is what counts. The validation window, on which the stacker learned, is measured too and kept
apart.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.backtest.config import Settings
from components.backtest.engine import Backtest, Prices, market_prices, run_backtest
from components.contracts import ALL_PREDICTIONS, REGIMES, ContractError, check_table, read_stamp, read_table
from components.metrics import (
    bars_per_year,
    block_bootstrap_interval,
    calibration_slope,
    coverage,
    horizon_adjusted_sharpe,
    ic_decay,
    ic_summary,
    information_coefficient,
    information_ratio,
    overlap_corrected_sharpe,
    performance_summary,
    pinball_loss,
    population_stability_index,
    reliability_table,
    sharpe_ratio,
)
from components.metrics.calibration import QUANTILES
from components.progress import warn
from components.timeline import Windows
from components.timeline.periods import is_daily

FORMAT = 1
PORTFOLIOS = ("long_short", "long_only")
BENCHMARK = "universe"
MEASURED_COLUMNS = ("timestamp", "symbol", "period", "target", "score", "uncertainty", "p10", "p50", "p90")
RETURNS_SCHEMA = (
    "timestamp",
    "expert",
    "strategy",
    "window",
    "gross_return",
    "cost",
    "net_return",
    "benchmark_return",
    "turnover",
    "exposure",
    "net_exposure",
    "n_long",
    "n_short",
)


def split_experts(
    predictions: pl.DataFrame, *, horizon: int, source: str = "the predictions"
) -> dict[str, pl.DataFrame]:
    """The columns MEASURED_COLUMNS of each expert, by name, from an ALL_PREDICTIONS table in which experts
    stand beneath each other.

    Raises
    ------
    ContractError
        If the table is not ALL_PREDICTIONS, the horizon does not occur, or experts learned different targets
        or periods.
    """
    chosen = (
        check_table(predictions, ALL_PREDICTIONS, source=source)
        .lazy()
        .filter(pl.col("horizon") == horizon)
        .select("expert", *MEASURED_COLUMNS)
        .collect()
    )
    if chosen.is_empty():
        raise ContractError(
            f"{source}: no rows of horizon {horizon} (found {sorted(predictions['horizon'].unique())})."
            " Predict that horizon or change labels.primary_horizon."
        )
    for name in ("target", "period"):
        if chosen[name].n_unique() > 1:
            raise ContractError(
                f"{source}: several values of {name!r} ({', '.join(chosen[name].unique().sort())}). Experts"
                " that are compared must have the same; train them again."
            )
    return {
        name: part
        for (name,), part in sorted(
            chosen.partition_by("expert", as_dict=True, maintain_order=True, include_key=False).items()
        )
    }


def read_predictions(path: Path, labels: Path, *, horizon: int) -> dict[str, pl.DataFrame]:
    """`split_experts` of a stamped ALL_PREDICTIONS file that was made from the labels at `labels`.

    Raises
    ------
    ContractError
        If the file can't be read or was made from other labels, or see `split_experts`.
    """
    table = read_table(path, ALL_PREDICTIONS)
    made_from, given = read_stamp(path).inputs.get("labels", ""), read_stamp(labels).content_sha256
    if made_from != given:
        raise ContractError(
            f"{path} was made from labels {made_from[:12] or '(unknown)'}, but {labels} holds {given[:12]}."
            " Run the stages from the experts on again on one data set."
        )
    return split_experts(table, horizon=horizon, source=str(path))


def evaluate(
    predictions_by_name: Mapping[str, pl.DataFrame],
    labels: pl.DataFrame,
    panel: pl.DataFrame,
    regimes: pl.DataFrame,
    windows: Windows,
    calendar: pl.Series,
    settings: Settings,
    *,
    horizon: int,
    seed: int,
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Evaluate each expert in the validation and the test window; portfolios are traded in the backtest
    window instead of the test window.

    Parameters
    ----------
    predictions_by_name : tables with MEASURED_COLUMNS, of one horizon, target and period
    labels : LABELS table; only rows of `horizon` are used
    panel : PANEL table
    regimes : columns `timestamp`, `symbol`, `regime_state` (code into REGIMES, or null)
    windows, calendar : the four windows as bar positions, and the sorted distinct timestamps they count in
    seed : of the bootstrap

    Returns
    -------
    The evaluation (what can't be computed is None) and the returns of all portfolios, columns RETURNS_SCHEMA.
    """
    settings = _possible_entry(panel, settings)
    first = next(iter(predictions_by_name.values()))
    target, period = first["target"][0], first["period"][0]
    yearly = bars_per_year(period, calendar)
    facts = _facts(labels, panel, regimes, target=target, horizon=horizon)
    evaluation: dict[str, Any] = {
        "format": FORMAT,
        "horizon": horizon,
        "period": period,
        "target": target,
        "bars_per_year": yearly,
        "cost_bps_per_side": settings.cost_bps_per_side,
        "entry": settings.entry,
        "strategies": list(PORTFOLIOS),
        "windows": {
            name: _span(calendar, getattr(windows, name)) for name in ("validation", "test", "backtest")
        },
        "experts": {name: {} for name in predictions_by_name},
    }
    returns = []
    for window, traded in (("validation", "validation"), ("test", "backtest")):
        inside = {
            name: _inside(frame, calendar, getattr(windows, window))
            for name, frame in predictions_by_name.items()
        }
        window_facts = _inside(facts, calendar, getattr(windows, window))
        prices = market_prices(_inside(panel, calendar, getattr(windows, traded)))
        benchmark = _benchmark(inside, prices, settings, horizon)
        returns.append(_tagged(benchmark, BENCHMARK, traded, None))
        for name, predictions in inside.items():
            if predictions.is_empty():
                evaluation["experts"][name][window] = None
                continue
            tests = {
                strategy: run_backtest(
                    prices, predictions, settings, horizon=horizon, strategy=strategy, bars_per_year=yearly
                )
                for strategy in PORTFOLIOS
            }
            frames = {
                strategy: _tagged(test, name, traded, benchmark if strategy == "long_only" else None)
                for strategy, test in tests.items()
            }
            returns.extend(frames.values())
            block = _quality(predictions, window_facts, settings, horizon=horizon, yearly=yearly)
            block["portfolio"] = {
                strategy: _portfolio(
                    frames[strategy], tests[strategy], settings, horizon=horizon, yearly=yearly, seed=seed
                )
                for strategy in PORTFOLIOS
            }
            evaluation["experts"][name][window] = block
    return _jsonable(evaluation), pl.concat(returns).select(RETURNS_SCHEMA)


def _possible_entry(panel: pl.DataFrame, settings: Settings) -> Settings:
    """The settings, entering at the next close where a panel holds no open prices, as the labels do."""
    if settings.entry == "next_open" and len(panel) and not panel["open"].is_not_null().any():
        warn(
            "backtest",
            "The panel holds no open prices: positions are entered at the next close instead of the next"
            " open.",
        )
        return settings.model_copy(update={"entry": "next_close"})
    return settings


def _facts(
    labels: pl.DataFrame, panel: pl.DataFrame, regimes: pl.DataFrame, *, target: str, horizon: int
) -> pl.DataFrame:
    """What happened and where, one row a (timestamp, symbol):

    `label` (the target), `log_return`, `sector`, `regime`.
    """
    key = ["timestamp", "symbol"]
    code = pl.col("regime_state").fill_nan(None).cast(pl.Int32)
    names = (
        code.replace_strict(dict(enumerate(REGIMES)), default="unknown", return_dtype=pl.String)
        .fill_null("unknown")
        .alias("regime")
    )
    return (
        labels.filter(pl.col("horizon") == horizon)
        .select(*key, pl.col(target).cast(pl.Float64).alias("label"), "log_return")
        .join(panel.select(*key, pl.col("sector").fill_null("unknown")), on=key, how="left")
        .join(regimes.select(*key, names), on=key, how="left")
        .with_columns(pl.col("sector", "regime").fill_null("unknown"))
        .sort(key)
    )


def _quality(
    predictions: pl.DataFrame, facts: pl.DataFrame, settings: Settings, *, horizon: int, yearly: float
) -> dict[str, Any]:
    """Everything about the scores and bands themselves, no portfolio."""
    daily = _daily(predictions, facts, ("timestamp",))
    pairs = predictions.join(
        facts.select("timestamp", "symbol", "label", "log_return"),
        on=["timestamp", "symbol"],
        how="inner",
        maintain_order="left",
    )
    return_facts = facts.select("timestamp", "symbol", pl.col("log_return").alias("label"))
    return {
        "rows": len(predictions),
        "labelled_rows": int(pairs["label"].is_finite().fill_null(False).sum()),
        "symbols": predictions["symbol"].n_unique(),
        "ic": ic_summary(daily["ic"], horizon=horizon),
        "rank_ic": ic_summary(daily["rank_ic"], horizon=horizon),
        "ic_log_return": ic_summary(
            information_coefficient(predictions, return_facts)["ic"], horizon=horizon
        ),
        "rank_ic_log_return": ic_summary(
            information_coefficient(predictions, return_facts, rank=True)["ic"], horizon=horizon
        ),
        "daily": (
            daily.select(pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%SZ"), "ic", "rank_ic").to_dict(
                as_series=False
            )
        ),
        "by_year": _grouped(daily.with_columns(pl.col("timestamp").dt.year().alias("year")), "year", horizon),
        "by_hour": (
            _grouped(daily.with_columns(pl.col("timestamp").dt.hour().alias("hour")), "hour", horizon)
            if not is_daily(predictions["period"][0])
            else []
        ),
        "by_regime": _grouped(_daily(predictions, facts, ("timestamp", "regime")), "regime", horizon),
        "by_sector": _grouped(_daily(predictions, facts, ("timestamp", "sector")), "sector", horizon),
        "by_symbol": _by_symbol(predictions, facts, pairs),
        "decay": ic_decay(predictions, facts, range(settings.decay_bars + 1)).to_dicts(),
        "calibration": _calibration(pairs),
        "psi": _drift(predictions),
        "spread": _spread(pairs, settings, horizon=horizon, yearly=yearly),
    }


def _daily(predictions: pl.DataFrame, facts: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    plain, ranked = (information_coefficient(predictions, facts, rank=rank, by=by) for rank in (False, True))
    return plain.select(*by, "ic").with_columns(ranked["ic"].alias("rank_ic"))


def _grouped(daily: pl.DataFrame, group: str, horizon: int) -> list[dict[str, Any]]:
    rows = []
    for (value,), part in (
        daily.sort("timestamp").partition_by(group, as_dict=True, maintain_order=True).items()
    ):
        ranks = ic_summary(part["rank_ic"], horizon=horizon)
        rows.append(
            {
                group: value,
                "ic": ic_summary(part["ic"], horizon=horizon)["mean"],
                "rank_ic": ranks["mean"],
                "rank_ic_t": ranks["t_hac"],
                "bars": ranks["bars"],
            }
        )
    return sorted(rows, key=lambda row: row[group])


def _by_symbol(predictions: pl.DataFrame, facts: pl.DataFrame, pairs: pl.DataFrame) -> list[dict[str, Any]]:
    """Correlation over time and coverage of the band, for each symbol."""
    inside = pairs.group_by("symbol").agg(
        pl.col("label").is_between("p10", "p90").mean().alias("inside_p10_p90")
    )
    over_time = information_coefficient(predictions, facts, by=("symbol",)).rename({"n_symbols": "bars"})
    return over_time.join(inside, on="symbol", how="left").sort("symbol").to_dicts()


def _calibration(pairs: pl.DataFrame) -> dict[str, Any]:
    label = pairs["label"].cast(pl.Float64).to_numpy()
    return {
        **coverage(pairs),
        "slope": calibration_slope(pairs),
        "pinball": {
            name: pinball_loss(label, pairs[name].to_numpy(), quantile=quantile)
            for name, quantile in QUANTILES.items()
        },
        "reliability": reliability_table(pairs).to_dicts(),
    }


def _drift(predictions: pl.DataFrame) -> dict[str, float]:
    """PSI of the newer against the older half of the window, of raw scores and of scores standardised in
    their cross-section.

    The scale of scores follows volatility, which is no fault; a changed shape of the cross-section is one.
    """
    score = pl.col("score")
    standardised = predictions.select(
        "timestamp",
        score.alias("raw"),
        ((score - score.mean().over("timestamp")) / score.std().over("timestamp")).alias("cross_section"),
    )
    calendar = standardised["timestamp"].unique().sort()
    older = standardised["timestamp"] < calendar[len(calendar) // 2]
    return {
        name: population_stability_index(
            standardised.filter(older)[name].to_numpy(), standardised.filter(~older)[name].to_numpy()
        )
        for name in ("raw", "cross_section")
    }


def _spread(pairs: pl.DataFrame, settings: Settings, *, horizon: int, yearly: float) -> dict[str, float]:
    """Mean log return of the top less that of the bottom quantile over the horizon, one value a bar; values
    overlap, costs are not in it.
    """
    usable = pairs.filter(pl.col("log_return").is_finite().fill_null(False) & pl.col("score").is_finite())
    share = (pl.col("score").rank() - 0.5) / pl.len()
    top, bottom = (
        pl.col("log_return").filter(side).mean()
        for side in (pl.col("share") >= 1 - settings.quantile, pl.col("share") <= settings.quantile)
    )
    daily = (
        usable.with_columns(share.over("timestamp").alias("share"))
        .group_by("timestamp")
        .agg((top - bottom).alias("spread"))
        .sort("timestamp")
    )
    values = daily["spread"].drop_nulls().to_numpy()
    return {
        "mean_bps": float(values.mean() * 1e4) if len(values) else float("nan"),
        "sharpe_horizon_adjusted": horizon_adjusted_sharpe(values, horizon=horizon, bars_per_year=yearly),
        "sharpe_overlap_corrected": overlap_corrected_sharpe(values, lags=2 * horizon, bars_per_year=yearly),
        "hit_share": float((values > 0).mean()) if len(values) else float("nan"),
    }


def _benchmark(
    predictions: Mapping[str, pl.DataFrame], prices: Prices, settings: Settings, horizon: int
) -> Backtest:
    """Every name that any expert scored, alike, held as long as the portfolios, without costs and stops."""
    scored = (
        pl.concat([frame.select("timestamp", "symbol") for frame in predictions.values()])
        .unique()
        .with_columns(score=pl.lit(1.0), uncertainty=pl.lit(1.0))
    )
    free = settings.model_copy(
        update={
            "cost_bps_per_side": 0.0,
            "stop_loss_share": None,
            "drawdown_stop": None,
            "consecutive_loss_stop": None,
            "volatility_ceiling": None,
        }
    )
    return run_backtest(prices, scored, free, horizon=horizon, strategy=BENCHMARK)


def _tagged(test: Backtest, expert: str, window: str, benchmark: Backtest | None) -> pl.DataFrame:
    frame = test.returns.with_columns(pl.lit(expert).alias("expert"), pl.lit(window).alias("window"))
    if benchmark is None:
        return frame.with_columns(pl.lit(0.0).alias("benchmark_return")).select(RETURNS_SCHEMA)
    other = benchmark.returns.select("timestamp", pl.col("gross_return").alias("benchmark_return"))
    return (
        frame.join(other, on="timestamp", how="left", maintain_order="left")
        .with_columns(pl.col("benchmark_return").fill_null(0.0))
        .select(RETURNS_SCHEMA)
    )


def _portfolio(
    returns: pl.DataFrame, test: Backtest, settings: Settings, *, horizon: int, yearly: float, seed: int
) -> dict[str, Any]:
    net, gross, benchmark = (
        returns[name].to_numpy() for name in ("net_return", "gross_return", "benchmark_return")
    )
    block_bars = max(2 * horizon, round(len(net) ** (1 / 3)))

    def interval(values: np.ndarray) -> list[float]:
        limits = block_bootstrap_interval(
            values,
            lambda drawn: sharpe_ratio(drawn, bars_per_year=yearly),
            block_bars=block_bars,
            draws=settings.bootstrap_draws,
            level=settings.bootstrap_level,
            seed=seed,
        )
        return list(limits)

    return {
        **performance_summary(returns, horizon=horizon, bars_per_year=yearly),
        "sharpe_gross_interval": interval(gross),
        "sharpe_net_interval": interval(net),
        "interval_level": settings.bootstrap_level,
        "information_ratio_net": information_ratio(net, benchmark, bars_per_year=yearly),
        "events": test.events,
    }


def _inside(frame: pl.DataFrame, calendar: pl.Series, window: tuple[int, int]) -> pl.DataFrame:
    return frame.filter(pl.col("timestamp").is_between(calendar[window[0]], calendar[window[1] - 1]))


def _span(calendar: pl.Series, window: tuple[int, int]) -> dict[str, Any]:
    start, end = (calendar[bar].strftime("%Y-%m-%dT%H:%M:%SZ") for bar in (window[0], window[1] - 1))
    return {"start": start, "end": end, "bars": window[1] - window[0]}


def _jsonable(value: Any) -> Any:
    """The same with plain Python numbers, and None for every number that JSON does not know."""
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
