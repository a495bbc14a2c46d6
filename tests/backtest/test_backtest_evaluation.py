"""The evaluation: its shape, what it finds on planted skill, and that windows stay apart."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from small_markets import long_table

from components.backtest.config import Settings
from components.backtest.evaluate import evaluate
from components.backtest.market_facts import MarketFacts
from components.backtest.portfolios import RETURNS_SCHEMA
from components.backtest.predictions import Task, read_predictions, split_predictions
from components.contracts import (
    ALL_PREDICTIONS,
    LABELS,
    PANEL,
    REGIMES,
    TRAINING_SET,
    UNIVERSE,
    ContractError,
    check_table,
    content_sha256,
    write_table,
)
from components.metrics import information_coefficient, performance_summary
from components.timeline import Settings as TimelineSettings
from components.timeline import Span, Windows

BARS, COUNT, HORIZON = 90, 12, 3
WINDOWS = Windows(train=(0, 20), validation=(20, 40), test=(40, 90), backtest=(50, 90))
QUICK = Settings(decay_bars=4, quantile=0.25)


@pytest.fixture(scope="module")
def market() -> SimpleNamespace:
    random = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, (BARS, COUNT)), axis=0))
    opening = np.vstack([close[:1], close[:-1]])
    label = np.full((BARS, COUNT), np.nan)
    label[: -HORIZON - 1] = np.log(opening[HORIZON + 1 :] / opening[1:-HORIZON])
    neutral = label - np.nanmean(np.where(np.isfinite(label), label, 0), axis=1, keepdims=True)
    skilled = 0.5 * np.nan_to_num(neutral) + random.normal(0, 0.02, neutral.shape)
    keys = long_table(
        open=opening,
        high=np.maximum(opening, close),
        low=np.minimum(opening, close),
        close=close,
        volume=np.broadcast_to(np.arange(1.0, COUNT + 1), close.shape),
    )
    sectors = pl.when(pl.col("symbol") < "S06").then(pl.lit("tech")).otherwise(pl.lit("oil")).alias("sector")
    moment = pl.col("timestamp")
    panel = keys.with_columns(
        sectors, pl.lit("1d").alias("period"), moment.alias("event_time"), moment.alias("known_time")
    ).select(*PANEL.columns)
    universe = panel.select(
        "timestamp",
        "symbol",
        (pl.col("close") * pl.col("volume")).alias("traded_value"),
        tradable=pl.lit(True),
    )
    labels = long_table(log_return=label, sector_neutral_return=neutral).with_columns(
        pl.lit(HORIZON, dtype=pl.Int32).alias("horizon"),
        (moment + pl.duration(days=HORIZON + 1)).alias("label_end"),
        pl.col("log_return", "sector_neutral_return").fill_nan(None),
        pl.col("log_return").fill_nan(None).sign().cast(pl.Int8).alias("direction"),
    )
    regimes = long_table(
        regime_state=np.repeat((np.arange(BARS) // 10 % 4)[:, None], COUNT, axis=1)
    ).with_columns(pl.col("regime_state").cast(pl.Float32))
    both = {
        "stack": predictions(skilled, "stack"),
        "noise": predictions(random.normal(0, 0.02, neutral.shape), "noise"),
    }
    return SimpleNamespace(
        panel=panel,
        labels=labels.select(*LABELS.columns),
        regimes=regimes,
        predictions=both,
        universe=universe,
    )


def predictions(score: np.ndarray, expert: str) -> pl.DataFrame:
    frame = long_table(
        score=score,
        uncertainty=np.full_like(score, 0.03),
        p10=score - 0.05,
        p50=score,
        p90=score + 0.05,
        head_scale=np.ones_like(score),
        head_bias=score * 0,
    )
    first = frame["timestamp"].unique().sort()[WINDOWS.validation[0]]
    return frame.filter(pl.col("timestamp") >= first).with_columns(
        pl.lit("1d").alias("period"),
        pl.lit(HORIZON, dtype=pl.Int32).alias("horizon"),
        pl.lit("sector_neutral_return").alias("target"),
        pl.lit(expert).alias("expert"),
        pl.lit("fold_00").alias("fold"),
        pl.lit("w").alias("train_window"),
    )


def measure(market, experts=None, labels=None, panel=None, settings=QUICK, universe=None):
    """The evaluation as JSON holds it, without the stamp, and the returns."""
    facts = MarketFacts(
        labels=market.labels if labels is None else labels,
        panel=market.panel if panel is None else panel,
        regimes=market.regimes,
        windows=WINDOWS,
        calendar=market.panel["timestamp"].unique().sort(),
        universe=market.universe if universe is None else universe,
    )
    evaluation, returns = evaluate(experts or market.predictions, facts, settings, horizon=HORIZON, code="c")
    values = evaluation.model_dump(mode="json")
    assert values.pop("stamp")["returns_sha256"] == content_sha256(returns)
    return values, returns


def test_planted_skill_is_found_and_noise_is_not(market):
    result, _ = measure(market)
    skilled, noise = (result["experts"][name]["test"] for name in ("stack", "noise"))
    assert skilled["ic"]["mean"] > 0.3 > abs(noise["ic"]["mean"])
    assert skilled["ic"]["t_hac"] > 4
    assert abs(noise["ic"]["t_hac"]) < 2.5
    assert (
        skilled["portfolio"]["long_short"]["sharpe_net"] > noise["portfolio"]["long_short"]["sharpe_net"] + 2
    )
    assert skilled["portfolio"]["long_only"]["information_ratio_net"] > 2
    assert skilled["spread"]["sharpe_horizon_adjusted"] > 2
    assert [row["lag"] for row in skilled["decay"]] == [0, 1, 2, 3, 4]
    assert skilled["decay"][0]["ic"] == pytest.approx(skilled["ic"]["mean"])
    assert skilled["decay"][0]["ic"] > skilled["decay"][2]["ic"] > skilled["decay"][4]["ic"] - 0.05


def test_it_is_json_and_has_every_breakdown(market):
    result, returns = measure(market)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    block = result["experts"]["stack"]["test"]
    tables = {table["by"]: table["rows"] for table in block["slices"]}
    parts = {by: [row["part"] for row in rows] for by, rows in tables.items()}
    assert parts["year"] == ["2024"]
    assert set(parts["regime"]) == set(REGIMES)
    assert parts["sector"] == ["oil", "tech"]
    assert parts["month"] == ["Feb", "Mar"]
    assert parts["weekday"] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    assert parts["traded_value"] == [str(number) for number in range(1, 11)]
    assert len(parts["symbol"]) == COUNT
    assert "hour" not in tables
    assert sum(row["bars"] for row in tables["regime"]) == block["rank_ic"]["bars"]
    mean = np.mean([row["inside_p10_p90"] for row in tables["symbol"]])
    assert mean == pytest.approx(block["calibration"]["inside_p10_p90"])
    assert sum(row["rows"] for row in block["calibration"]["reliability"]) == block["labelled_rows"]
    assert tuple(returns.columns) == RETURNS_SCHEMA
    assert result["windows"]["backtest"]["bars"] == 40


def test_numbers_are_those_of_the_metrics_on_the_test_window(market):
    result, returns = measure(market)
    first = market.panel["timestamp"].unique().sort()[WINDOWS.test[0]]
    scores = market.predictions["stack"].filter(pl.col("timestamp") >= first)
    ic = information_coefficient(
        scores, market.labels.with_columns(pl.col("sector_neutral_return").alias("label"))
    )["ic"]
    block = result["experts"]["stack"]["test"]
    assert block["ic"]["mean"] == pytest.approx(ic.mean())
    own = returns.filter(
        (pl.col("expert") == "stack")
        & (pl.col("strategy") == "long_short")
        & (pl.col("window") == "backtest")
    )
    assert len(own) == 39
    summary = performance_summary(own, horizon=HORIZON, bars_per_year=result["bars_per_year"])
    assert block["portfolio"]["long_short"]["sharpe_net"] == pytest.approx(summary["sharpe_net"])
    low, high = block["portfolio"]["long_short"]["sharpe_net_interval"]
    assert low < summary["sharpe_net"] < high


def test_long_only_is_held_against_every_name_alike(market):
    result, returns = measure(market)
    window = returns.filter(pl.col("window") == "backtest").sort("timestamp")
    universe = window.filter(pl.col("strategy") == "universe")
    own = window.filter((pl.col("expert") == "stack") & (pl.col("strategy") == "long_only"))
    assert universe["gross_return"].abs().max() > 0
    assert own["benchmark_return"].to_list() == pytest.approx(universe["gross_return"].to_list())
    active = (own["net_return"] - universe["gross_return"]).to_numpy()
    expected = active.mean() / active.std(ddof=1) * np.sqrt(result["bars_per_year"])
    assert result["experts"]["stack"]["test"]["portfolio"]["long_only"][
        "information_ratio_net"
    ] == pytest.approx(expected)


def test_the_benchmark_trades_without_costs(market):
    _, returns = measure(market)
    universe = returns.filter(pl.col("strategy") == "universe")
    assert universe["turnover"].max() > 0
    assert (universe["cost"] == 0).all()


def test_costs_by_name_reach_the_portfolios_and_not_the_benchmark(market):
    """Planted: with prices alike, what a capital, a spread and a fee add is cost alone; and it adds up."""
    plain, _ = measure(market)
    dear = QUICK.model_copy(update={"capital": 1e3, "half_spread": "roll", "borrow_bps_per_year": 100.0})
    result, returns = measure(market, settings=dear)
    before, after = (one["experts"]["stack"]["test"]["portfolio"]["long_short"] for one in (plain, result))
    assert after["sharpe_gross"] == before["sharpe_gross"]
    assert after["annual_return_net"] < before["annual_return_net"] - 0.01
    assert (returns.filter(pl.col("strategy") == "universe")["cost"] == 0).all()
    curve = [row["return_net"] for row in before["capacity"]]
    assert len(curve) == 9
    assert curve == sorted(curve, reverse=True)
    assert curve[0] < before["annual_return_net"]
    silent, _ = measure(market, panel=market.panel.with_columns(volume=pl.lit(None, pl.Float64)))
    unknown = silent["experts"]["stack"]["test"]["portfolio"]["long_short"]
    assert unknown == before | {"capacity": []}


def test_validation_and_test_do_not_touch_each_other(market):
    base, _ = measure(market)
    start = market.panel["timestamp"].unique().sort()[WINDOWS.test[0]]
    later = pl.col("timestamp") >= start
    experts = {
        name: frame.with_columns(
            pl.when(later).then(-pl.col("score") * 3).otherwise(pl.col("score")).alias("score")
        )
        for name, frame in market.predictions.items()
    }
    panel = market.panel.with_columns(
        pl.when(later).then(pl.col(name) * 5).otherwise(pl.col(name)).alias(name)
        for name in ("open", "close")
    )
    labels = market.labels.with_columns(
        pl.when(later).then(-9 * pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name in ("log_return", "sector_neutral_return")
    )
    changed, _ = measure(market, experts, labels, panel)
    assert changed["experts"]["stack"]["validation"] == base["experts"]["stack"]["validation"]
    assert changed["experts"]["stack"]["test"] != base["experts"]["stack"]["test"]


def test_without_open_prices_the_next_close_is_traded(market):
    closing, _ = measure(market, settings=QUICK.model_copy(update={"entry": "next_close"}))
    without, _ = measure(
        market, panel=market.panel.with_columns(pl.lit(None, dtype=pl.Float64).alias("open"))
    )
    assert without == closing
    assert without["entry"] == "next_close"
    assert (
        without["experts"]["stack"]["test"]["portfolio"]["long_short"]["sharpe_net"]
        != measure(market)[0]["experts"]["stack"]["test"]["portfolio"]["long_short"]["sharpe_net"]
    )


def test_an_expert_without_rows_in_a_window_is_none_there(market):
    start = market.panel["timestamp"].unique().sort()[WINDOWS.test[0]]
    result, _ = measure(
        market,
        {**market.predictions, "late": market.predictions["noise"].filter(pl.col("timestamp") >= start)},
    )
    assert result["experts"]["late"]["validation"] is None
    assert result["experts"]["late"]["test"]["rows"] == 50 * COUNT


def test_flat_scores_and_missing_labels_give_none(market):
    flat = market.predictions["noise"].with_columns(pl.lit(0.0).alias("score"))
    result, _ = measure(
        market,
        {"flat": flat},
        labels=market.labels.with_columns(
            pl.lit(None, dtype=pl.Float64).alias(n) for n in ("log_return", "sector_neutral_return")
        ),
    )
    block = result["experts"]["flat"]["test"]
    assert block["ic"]["mean"] is None
    assert block["labelled_rows"] == 0
    assert block["calibration"]["inside_p10_p90"] is None
    assert block["portfolio"]["long_short"]["sharpe_net"] is None


def test_same_seed_same_numbers(market):
    first, second = measure(market), measure(market)
    assert first[0] == second[0]
    assert first[1].equals(second[1])


def together(market) -> pl.DataFrame:
    return check_table(pl.concat(market.predictions.values()).sort(ALL_PREDICTIONS.key), ALL_PREDICTIONS)


def split(table: pl.DataFrame, horizon: int = HORIZON):
    return split_predictions(table, Task("sector_neutral_return", horizon), source="the predictions")


def test_models_are_split_by_task_and_checked(market):
    table = together(market)
    assert list(split(table).judged) == ["noise", "stack"]
    assert split(table).further == {}
    with pytest.raises(ContractError, match=r"over 5 bars .found: sector_neutral_return over 3"):
        split(table, horizon=5)
    noise = pl.col("expert") == "noise"
    other = pl.when(noise).then(pl.lit("log_return")).otherwise("target").alias("target")
    parted = split(table.with_columns(other))
    assert list(parted.judged) == ["stack"]
    assert {task: list(models) for task, models in parted.further.items()} == {
        Task("log_return", HORIZON): ["noise"]
    }
    with pytest.raises(ContractError, match=r"several values of 'period' .1d, 1h"):
        split(table.with_columns(pl.when(noise).then(pl.lit("1h")).otherwise("period").alias("period")))
    with pytest.raises(ContractError, match="rows repeat"):
        split(pl.concat([table, table[:3]]).sort(ALL_PREDICTIONS.key))
    with pytest.raises(ContractError, match="column 'score' is missing"):
        split(table.drop("score"))


def test_predictions_of_other_labels_are_refused(market, tmp_path):
    origin = {"code_version": "c", "config_hash": "h"}
    labels = write_table(market.labels, tmp_path / "labels", LABELS, **origin)
    write_table(
        together(market),
        tmp_path / "good",
        ALL_PREDICTIONS,
        **origin,
        inputs={"labels": labels.content_sha256},
    )
    write_table(together(market), tmp_path / "bad", ALL_PREDICTIONS, **origin, inputs={"labels": "0123"})
    judged = Task("sector_neutral_return", HORIZON)
    read = read_predictions(tmp_path / "good", tmp_path / "labels", judged)
    assert list(read.judged) == ["noise", "stack"]
    with pytest.raises(ContractError, match="made from labels 0123"):
        read_predictions(tmp_path / "bad", tmp_path / "labels", judged)


def test_the_door(market, tmp_path: Path):
    from components.backtest.component import backtest

    paths = {
        name: SimpleNamespace(path=str(tmp_path / name))
        for name in ("panel", "universe", "labels", "training_set", "predictions", "returns", "evaluation")
    }
    origin = {"code_version": "c", "config_hash": "h"}
    write_table(market.panel, paths["panel"].path, PANEL, **origin)
    write_table(market.universe, paths["universe"].path, UNIVERSE, **origin)
    labels = write_table(market.labels, paths["labels"].path, LABELS, **origin)
    training = market.regimes.with_columns(pl.lit("all").alias("sector"))
    write_table(training, paths["training_set"].path, TRAINING_SET, **origin)
    write_table(
        together(market),
        paths["predictions"].path,
        ALL_PREDICTIONS,
        **origin,
        inputs={"labels": labels.content_sha256},
    )
    days = market.panel["timestamp"].unique().sort().dt.date()
    timeline = TimelineSettings(
        validation=Span(start=days[20]), test=Span(start=days[40]), backtest=Span(start=days[50])
    )
    backtest.python_func(
        **paths,
        settings=QUICK.model_dump_json(),
        timeline=timeline.model_dump_json(),
        target="sector_neutral_return",
        horizon=HORIZON,
        code="c",
    )
    written = json.loads(Path(paths["evaluation"].path).read_text())
    stamp = written.pop("stamp")
    result, returns = measure(market, split(together(market)).judged)
    assert written == result
    assert (
        stamp["returns_sha256"]
        == content_sha256(pl.read_parquet(paths["returns"].path))
        == content_sha256(returns)
    )
