"""What is predicted beside the judged task: measured by its own labels, held for its own horizon, and no part
of what is judged.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_markets import long_table

from components.backtest.config import Settings
from components.backtest.evaluate import evaluate
from components.backtest.further import evaluate_further
from components.backtest.market_facts import MarketFacts, what_happened
from components.backtest.predictions import Task, split_predictions
from components.backtest.run import Inputs, Outputs, run
from components.backtest.terms import Terms
from components.contracts import ALL_PREDICTIONS, LABELS, PANEL, TRAINING_SET, UNIVERSE, write_table
from components.contracts.documents.evaluation import Evaluation
from components.registry.scored import scored_models
from components.timeline import Settings as TimelineSettings
from components.timeline import Span, Windows

BARS, COUNT, HORIZONS = 140, 12, (3, 8)
JUDGED, FURTHER = Task("log_return", 3), Task("log_return", 8)
WINDOWS = Windows(train=(0, 20), validation=(20, 40), test=(40, BARS), backtest=(50, BARS))
# The judged task is held for longer than its horizon here: a further one is held for its own all the same.
SETTINGS = Settings(decay_bars=2, quantile=0.25, holding_bars=5)


@pytest.fixture(scope="module")
def market() -> MarketFacts:
    """Prices at random, and the labels of both horizons."""
    random = np.random.default_rng(4)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, (BARS, COUNT)), axis=0))
    opening = np.vstack([close[:1], close[:-1]])
    moment = pl.col("timestamp")
    panel = (
        long_table(
            open=opening,
            high=np.maximum(opening, close),
            low=np.minimum(opening, close),
            close=close,
            volume=np.full_like(close, 1e4),
        )
        .with_columns(
            pl.lit("all").alias("sector"),
            pl.lit("1d").alias("period"),
            moment.alias("event_time"),
            moment.alias("known_time"),
        )
        .select(*PANEL.columns)
    )
    regimes = panel.select("timestamp", "symbol", regime_state=pl.lit(1.0, pl.Float32))
    universe = panel.select(
        "timestamp", "symbol", traded_value=pl.col("close") * pl.col("volume"), tradable=pl.lit(True)
    )
    labels = pl.concat([labels_of(opening, horizon) for horizon in HORIZONS]).sort(LABELS.key)
    calendar = panel["timestamp"].unique().sort()
    return MarketFacts(labels, panel, regimes, WINDOWS, calendar, universe)


def labels_of(opening: np.ndarray, horizon: int) -> pl.DataFrame:
    label = np.full(opening.shape, np.nan)
    label[: -horizon - 1] = np.log(opening[horizon + 1 :] / opening[1:-horizon])
    number = pl.col("log_return").fill_nan(None)
    return (
        long_table(log_return=label)
        .with_columns(
            number,
            number.alias("sector_neutral_return"),
            number.abs().alias("realised_volatility"),
            number.sign().cast(pl.Int8).alias("direction"),
            pl.lit(horizon, dtype=pl.Int32).alias("horizon"),
            (pl.col("timestamp") + pl.duration(days=horizon + 1)).alias("label_end"),
        )
        .select(*LABELS.columns, "realised_volatility")
    )


def predictions(
    market: MarketFacts, task: Task, expert: str, *, skill: float, sign: float = 1.0, seed: int = 0
) -> pl.DataFrame:
    """Scores from the validation window on: the task's own label times `sign`, weighed against noise."""
    labels = market.labels.filter(pl.col("horizon") == task.horizon).sort("timestamp", "symbol")
    truth = labels[task.target].fill_null(0.0).to_numpy()
    noise = np.random.default_rng(seed).normal(0, truth.std(), len(truth))
    score = pl.Series("score", sign * (skill * truth + (1 - skill) * noise))
    return (
        labels.select("timestamp", "symbol")
        .with_columns(
            pl.lit("1d").alias("period"),
            pl.lit(task.horizon, dtype=pl.Int32).alias("horizon"),
            pl.lit(task.target).alias("target"),
            pl.lit(expert).alias("expert"),
            pl.lit("fold_00").alias("fold"),
            pl.lit("w").alias("train_window"),
            score,
            pl.lit(0.03).alias("uncertainty"),
            (score - 0.05).alias("p10"),
            score.alias("p50"),
            (score + 0.05).alias("p90"),
            pl.lit(1.0).alias("head_scale"),
            pl.lit(0.0).alias("head_bias"),
        )
        .filter(pl.col("timestamp") >= market.calendar[WINDOWS.validation[0]])
    )


@pytest.fixture(scope="module")
def judged(market) -> list[pl.DataFrame]:
    """The judged task: a stack that is wrong more often than right, and noise."""
    return [
        predictions(market, JUDGED, "stack", skill=0.3, sign=-1.0),
        predictions(market, JUDGED, "noise", skill=0.0, seed=1),
    ]


@pytest.fixture(scope="module")
def further(market) -> list[pl.DataFrame]:
    """A further task that knows nearly all, by one expert and its stack."""
    return [
        predictions(market, FURTHER, "stack", skill=0.8),
        predictions(market, FURTHER, "adept", skill=0.7, seed=2),
    ]


def split(frames: list[pl.DataFrame], task: Task = JUDGED):
    table = pl.concat(frames, how="diagonal").sort(ALL_PREDICTIONS.key)
    return split_predictions(table, task, source="the predictions")


def test_a_further_task_is_held_against_its_own_labels(market, judged, further):
    """The coefficients by a loop over bars; the money as if the task were the judged one, held for its
    horizon: neither the judged horizon nor the judged holding time.
    """
    parted = split([*judged, *further])
    (task,) = evaluate_further(parted.further, market, Terms(SETTINGS, JUDGED.horizon, 252.0))
    assert (task.target, task.horizon) == ("log_return", FURTHER.horizon)
    assert [model.model for model in task.models] == ["stack", "adept"]
    stack = task.models[0]
    wanted = by_hand(market, parted.further[FURTHER]["stack"], FURTHER.horizon)
    assert stack.ic.mean == pytest.approx(wanted.mean())
    assert stack.ic.bars == len(wanted) == BARS - WINDOWS.test[0] - FURTHER.horizon - 1
    low, high = stack.rank_ic_interval
    assert low < stack.rank_ic.mean < high
    settings = SETTINGS.model_copy(update={"holding_bars": FURTHER.horizon})
    alone, _ = evaluate(parted.further[FURTHER], market, settings, horizon=FURTHER.horizon, code="c")
    figures = alone.experts["stack"].test.portfolio.long_short
    yearly = Terms(SETTINGS, JUDGED.horizon, alone.bars_per_year)
    (again,) = evaluate_further(parted.further, market, yearly)
    assert again.models[0].long_short == figures
    assert figures.sharpe_net > 3


def by_hand(market: MarketFacts, scores: pl.DataFrame, horizon: int) -> np.ndarray:
    """The correlation of each test bar that has labels."""
    labels = market.labels.filter(pl.col("horizon") == horizon).select("timestamp", "symbol", "log_return")
    rows = scores.filter(pl.col("timestamp") >= market.calendar[WINDOWS.test[0]]).join(
        labels.drop_nulls(), on=["timestamp", "symbol"]
    )
    bars = rows.partition_by("timestamp", maintain_order=True)
    return np.array([np.corrcoef(bar["score"], bar["log_return"])[0, 1] for bar in bars])


def test_a_forecast_that_orders_nothing_earns_nothing(market, judged):
    """Planted: volatility foreseen. It is a good forecast, and no portfolio."""
    task = Task("realised_volatility", JUDGED.horizon)
    frames = [*judged, predictions(market, task, "stack", skill=0.9)]
    (found,) = evaluate_further(split(frames).further, market, Terms(SETTINGS, JUDGED.horizon, 252.0))
    assert found.models[0].long_short is None
    assert found.models[0].rank_ic.mean > 0.5


def test_classes_and_numbers_in_one_table_keep_to_themselves(market, judged):
    """Probabilities that stand in the table for one task make no class of the other."""
    task = Task("direction", JUDGED.horizon)
    given = {"p_down": 0.25, "p_none": 0.15, "p_up": 0.6}
    chances = [pl.lit(chance).alias(name) for name, chance in given.items()]
    of_classes = predictions(market, task, "stack", skill=0.9).with_columns(chances)
    parted = split([*judged, of_classes])
    assert not set(given) & set(parted.judged["stack"].columns)
    (found,) = evaluate_further(parted.further, market, Terms(SETTINGS, JUDGED.horizon, 252.0))
    assert found.models[0].classes.rows == found.models[0].labelled_rows
    predicted = [row.predicted for row in found.models[0].classes.classes]
    assert predicted == pytest.approx(list(given.values()))
    assert found.models[0].long_short is not None


def test_what_is_no_return_is_sized_equally_where_kelly_could_not_tell_its_share(market, judged):
    task = Task("return_quantile", 8)
    quantile = pl.col("log_return").rank().over("timestamp", "horizon") / pl.len().over(
        "timestamp", "horizon"
    )
    market = replace(market, labels=market.labels.with_columns(return_quantile=quantile))
    frames = [*judged, predictions(market, task, "stack", skill=0.9)]
    found = [
        evaluate_further(
            split(frames).further,
            market,
            Terms(SETTINGS.model_copy(update={"sizing": sizing}), JUDGED.horizon, 252.0),
        )[0].models[0]
        for sizing in ("equal", "kelly")
    ]
    assert found[0].long_short == found[1].long_short


def test_rows_outside_the_universe_and_the_window_do_not_count(market, judged, further):
    closed = market.universe.with_columns(tradable=pl.col("symbol") != "S00")
    smaller = MarketFacts(
        market.labels, market.panel, market.regimes, market.windows, market.calendar, closed
    )
    early = further[1].filter(pl.col("timestamp") < market.calendar[WINDOWS.test[0]])
    parted = split([*judged, further[0], early])
    (task,) = evaluate_further(parted.further, smaller, Terms(SETTINGS, JUDGED.horizon, 252.0))
    assert [model.model for model in task.models] == ["stack"]
    assert task.models[0].rows == (COUNT - 1) * (BARS - WINDOWS.test[0])


@pytest.fixture(scope="module")
def artifacts(market, judged, further, tmp_path_factory) -> tuple[Path, Path]:
    """What the stage writes without and with the further task, a folder each."""
    folders = []
    for name, frames in (("alone", judged), ("both", [*judged, *further])):
        folder = tmp_path_factory.mktemp(name)
        run_stage(market, pl.concat(frames).sort(ALL_PREDICTIONS.key), folder)
        folders.append(folder)
    return tuple(folders)


def run_stage(market: MarketFacts, table: pl.DataFrame, folder: Path) -> None:
    origin = {"code_version": "c", "config_hash": "h"}
    labels = write_table(market.labels, folder / "labels", LABELS, **origin)
    write_table(market.panel, folder / "panel", PANEL, **origin)
    write_table(market.universe, folder / "universe", UNIVERSE, **origin)
    training = market.regimes.with_columns(pl.lit("all").alias("sector"))
    write_table(training, folder / "training_set", TRAINING_SET, **origin)
    given = {"labels": labels.content_sha256}
    write_table(table, folder / "predictions", ALL_PREDICTIONS, **origin, inputs=given)
    days = market.calendar.dt.date()
    timeline = TimelineSettings(
        validation=Span(start=days[20]), test=Span(start=days[40]), backtest=Span(start=days[50])
    )
    names = ("panel", "universe", "labels", "training_set", "predictions")
    run(
        Inputs(*(str(folder / name) for name in names)),
        Outputs(str(folder / "returns"), str(folder / "evaluation")),
        settings=SETTINGS.model_dump_json(),
        timeline=timeline.model_dump_json(),
        target=JUDGED.target,
        horizon=JUDGED.horizon,
        code="c",
    )


def test_the_judged_task_is_the_same_with_and_without_further_ones(artifacts):
    """Bit for bit: the returns that trials are kept by, and every figure that a gate reads."""
    alone, both = artifacts
    assert (alone / "returns").read_bytes() == (both / "returns").read_bytes()
    one, other = (json.loads((folder / "evaluation").read_text()) for folder in artifacts)
    assert one.pop("further_tasks") == []
    assert [task["horizon"] for task in other.pop("further_tasks")] == [FURTHER.horizon]
    assert one == other
    kept = [
        scored_models(Evaluation.read(folder / "evaluation"), pl.read_parquet(folder / "returns"))
        for folder in artifacts
    ]
    assert kept[0] == kept[1]


def test_an_evaluation_of_before_has_no_further_tasks(artifacts, tmp_path):
    written = json.loads((artifacts[1] / "evaluation").read_text())
    del written["further_tasks"]
    (tmp_path / "old.json").write_text(json.dumps(written))
    assert Evaluation.read(tmp_path / "old.json").further_tasks == []


def test_the_size_of_names_is_that_of_the_panel_and_unknown_where_it_has_none(market):
    sized = replace(market, panel=market.panel.with_columns(market_cap=pl.col("close") - 100.0))
    found = what_happened(sized, target="log_return", horizon=HORIZONS[0])
    expected = found.join(sized.panel, on=("timestamp", "symbol"), suffix="_of_panel")
    small = pl.col("market_cap_of_panel") <= 0
    assert expected.filter(small)["market_cap"].null_count() == expected.select(small.sum()).item() > 0
    assert (
        expected.filter(~small).select((pl.col("market_cap") == pl.col("market_cap_of_panel")).all()).item()
    )
    bare = what_happened(market, target="log_return", horizon=HORIZONS[0])
    assert bare["market_cap"].null_count() == len(bare)
