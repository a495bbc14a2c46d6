"""Approvals must not be hollow: skill that only names have which nobody can buy is caught, skill everywhere
is let pass, and a universe that can be traded judges by its own names alone.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.backtest.config import Settings as BacktestSettings
from components.backtest.evaluate import evaluate
from components.backtest.market_facts import MarketFacts
from components.contracts import TIME
from components.contracts.documents.evaluation import CapacityRow, Evaluation, Measurement
from components.contracts.documents.trials import Trials
from components.contracts.documents.verdict import Gate, Verdict
from components.gates.config import Settings
from components.gates.judge import judge
from components.gates.promotion import Contest
from components.gates.tradable import tradability_gates
from components.registry.scored import scored_models
from components.timeline import Windows

NAMES, BARS, WARM_UP, VOLATILITY = 150, 200, 10, 0.02
KINDS = ("illiquid_profit", "sharpe_outside_illiquid", "skill_outside_illiquid", "most_traded_skill")


@dataclass(frozen=True)
class Judged:
    """A model on a made market."""

    evaluation: Evaluation
    verdict: Verdict

    @property
    def failed(self) -> list[str]:
        return [gate.name for gate in self.verdict.gates if not gate.passed]

    def reason(self, name: str) -> str:
        return next(gate.reason for gate in self.verdict.gates if gate.name == name)


def judged(
    skilled: np.ndarray, *, tradable: np.ndarray | None = None, volume_known: bool = True, ic: float = 0.12
) -> Judged:
    """Names in order of their traded value, the smallest first; one-bar scores with this IC in `skilled`."""
    random = np.random.default_rng(5)
    signal = random.normal(size=(BARS, NAMES))
    known = np.vstack([np.zeros((2, NAMES)), signal[:-2]])
    own = VOLATILITY * (ic * skilled * known + random.normal(size=(BARS, NAMES)))
    opening = 100 * np.exp(np.cumsum(own, axis=0))
    close = np.vstack([opening[1:], opening[-1:]])
    label = np.full((BARS, NAMES), np.nan)
    label[:-2] = np.log(opening[2:] / opening[1:-1])
    days = pl.Series([datetime(2021, 1, 1, tzinfo=UTC) + timedelta(days=1.45 * bar) for bar in range(BARS)])
    keys = pl.DataFrame(
        {
            "timestamp": days.cast(TIME).gather(np.repeat(np.arange(BARS), NAMES)),
            "symbol": [f"S{number:03d}" for number in range(NAMES)] * BARS,
        }
    )
    place = np.tile(np.arange(NAMES), BARS)
    sizes = np.exp(12 * place / NAMES)  # few names make the market: 14 % of them four fifths of the money
    universe = keys.with_columns(
        pl.Series("traded_value", sizes if volume_known else [None] * len(place), dtype=pl.Float64),
        pl.Series("tradable", np.ones(len(place), bool) if tradable is None else tradable[place]),
    )
    neutral = (label - label.mean(axis=1, keepdims=True)).ravel()
    labels = keys.with_columns(
        pl.lit(1, dtype=pl.Int32).alias("horizon"),
        pl.Series("log_return", label.ravel()).fill_nan(None),
        pl.Series("sector_neutral_return", neutral).fill_nan(None),
    )
    prices = keys.with_columns(
        pl.lit(None, dtype=pl.Float64).alias("volume"),
        pl.lit("all").alias("sector"),
        pl.Series("open", opening.ravel()),
        pl.Series("close", close.ravel()),
    )
    score = ic * VOLATILITY * signal
    experts = {
        name: predictions(keys, name, values)
        for name, values in {
            "stack": score,
            "median": np.zeros_like(score),
            "equal_weights": score,
            "best_single": score,
        }.items()
    }
    windows = Windows((0, 5), (5, WARM_UP), (WARM_UP, BARS), (WARM_UP, BARS))
    regimes = keys.with_columns(pl.lit(1.0).alias("regime_state"))
    calendar = keys["timestamp"].unique().sort()
    facts = MarketFacts(labels, prices, regimes, windows, calendar, universe)
    # Costs of a market maker, so that one bar's skill pays.
    settings = BacktestSettings(decay_bars=0, cost_bps_per_side=1.0)
    evaluation, returns = evaluate(experts, facts, settings, horizon=1, code="c")
    contest = Contest(evaluation, experts["stack"], labels, None)
    trials = Trials(scored=(scored_models(evaluation, returns),), unseen=0)
    return Judged(evaluation, judge(contest, trials, Settings(), code="c"))


def predictions(keys: pl.DataFrame, name: str, score: np.ndarray) -> pl.DataFrame:
    half = 1.2816 * VOLATILITY
    return keys.select(
        "timestamp",
        "symbol",
        pl.lit("1d").alias("period"),
        pl.lit(1, dtype=pl.Int32).alias("horizon"),
        pl.lit("sector_neutral_return").alias("target"),
        pl.lit(name).alias("expert"),
        pl.Series("score", score.ravel()),
        pl.lit(VOLATILITY).alias("uncertainty"),
        *(pl.Series(at, score.ravel() + move) for at, move in (("p10", -half), ("p50", 0.0), ("p90", half))),
    ).filter(pl.col("timestamp") >= keys["timestamp"].unique().sort()[5])


LEAST_FIFTH = np.arange(NAMES) < NAMES / 5
MOST_TRADED = np.arange(NAMES) >= NAMES * 0.85


@pytest.fixture(scope="module")
def everywhere() -> Judged:
    """A model with skill in every name."""
    return judged(np.ones(NAMES))


@pytest.fixture(scope="module")
def sound(everywhere) -> Measurement:
    """The test block of that model."""
    return everywhere.evaluation.experts["stack"].test


@pytest.fixture(scope="module")
def but_there() -> Judged:
    """A model with skill in every name but the most traded."""
    return judged(~MOST_TRADED)


def test_skill_in_every_name_passes(everywhere):
    assert everywhere.failed == []
    liquidity = everywhere.evaluation.experts["stack"].test.liquidity
    assert liquidity.names == NAMES
    assert liquidity.least_traded_profit_share == pytest.approx(0.2, abs=0.1)
    assert liquidity.rank_ic_most_traded.mean == pytest.approx(0.12, abs=0.04)
    assert everywhere.evaluation.experts["stack"].test.all_names is None


def test_skill_in_the_least_traded_fifth_alone_is_caught():
    found = judged(LEAST_FIFTH, ic=0.4)
    assert (
        {"illiquid_profit", "skill_outside_illiquid", "most_traded_skill"} <= set(found.failed) <= set(KINDS)
    )
    liquidity = found.evaluation.experts["stack"].test.liquidity
    assert liquidity.least_traded_profit_share > 0.8
    assert abs(liquidity.rank_ic_outside.mean) < 0.02
    assert "least traded fifth of names: " in found.reason("illiquid_profit")


def test_skill_everywhere_but_among_the_names_that_can_be_bought_is_caught(but_there):
    """As where an approval was hollow: some 15 % of names trade enough, and among them is no skill."""
    assert but_there.failed == ["most_traded_skill"]


def test_the_universe_is_judged_by_its_own_names_and_all_names_stay_beside(but_there):
    hollow = judged(~MOST_TRADED, tradable=MOST_TRADED)
    block = hollow.evaluation.experts["stack"].test
    assert {"information_coefficient", "significance", "sharpe"} <= set(hollow.failed)
    assert abs(block.ic.mean) < 0.03 < 0.08 < block.all_names.ic.mean
    assert block.symbols == MOST_TRADED.sum()
    assert block.all_names.symbols == NAMES
    assert block.portfolio.long_short.sharpe_net < 2 < block.all_names.portfolio.long_short.sharpe_net
    every = but_there.evaluation.experts["stack"].test
    assert block.all_names.ic == every.ic
    assert block.all_names.portfolio == every.portfolio
    sound = judged(MOST_TRADED, tradable=MOST_TRADED, ic=0.3)
    assert {"information_coefficient", "significance", "sharpe"}.isdisjoint(sound.failed)


def test_without_volume_the_gates_say_so_and_fail_for_nothing():
    found = judged(LEAST_FIFTH, volume_known=False, ic=0.4)
    assert set(KINDS).isdisjoint(found.failed)
    assert all("not judged, no volume is known" in found.reason(name) for name in KINDS)


@pytest.mark.parametrize(
    ("capital", "sharpe", "passed"), [(1e6, 1.0, True), (1e7, 0.0, False), (10**6.4, 0.6, True)]
)
def test_the_capital_that_config_names_is_what_capacity_is_asked_at(sound, capital, sharpe, passed):
    curve = [
        CapacityRow(capital=at, sharpe_net=net, return_net=0.1, cost_share=0.1)
        for at, net in ((1e5, 2.0), (1e6, 1.0), (1e7, 0.0))
    ]
    long_short = sound.portfolio.long_short.model_copy(update={"capacity": curve})
    portfolio = sound.portfolio.model_copy(update={"long_short": long_short})
    gates = tradability_gates(sound.model_copy(update={"portfolio": portfolio}), Settings(capital=capital))
    (found,) = (gate for gate in gates if gate.name == "capacity")
    assert found.value == pytest.approx(sharpe, abs=1e-9)
    assert found.passed == passed
    (unknown,) = (gate for gate in tradability_gates(sound, Settings()) if gate.name == "capacity")
    assert unknown.passed
    assert "not judged, no traded value is known" in unknown.reason


def tradability(block: Measurement, **settings) -> dict[str, Gate]:
    return {gate.name: gate for gate in tradability_gates(block, Settings(**settings))}


def with_liquidity(block: Measurement, **change) -> Measurement:
    return block.model_copy(update={"liquidity": block.liquidity.model_copy(update=change)})


def test_too_few_bars_pass_no_gate_of_what_can_be_traded(sound):
    """Also where no volume is known: what cannot be judged is let pass on enough bars alone."""
    for block in (sound, sound.model_copy(update={"liquidity": None})):
        enough = tradability(block, min_test_bars=block.rank_ic.bars)
        few = tradability(block, min_test_bars=block.portfolio.long_short.bars + 1)
        assert all(gate.passed for gate in enough.values())
        for name in ("capacity", *KINDS):
            assert not few[name].passed
            assert few[name].reason.startswith("only ")


def test_few_names_say_nothing_of_a_fifth(sound):
    hollow = with_liquidity(sound, least_traded_profit_share=0.9, rank_ic_most_traded=sound.rank_ic)
    kept = {names: tradability(with_liquidity(hollow, names=names)) for names in (24, 25, 99, 100)}
    assert [kept[names]["illiquid_profit"].passed for names in (24, 25)] == [True, False]
    assert kept[24]["illiquid_profit"].reason.startswith("not judged, only 24 names a bar")
    assert [kept[names]["most_traded_skill"].value for names in (99, 100)] == [None, 1.0]


def test_no_skill_has_no_share(sound):
    """Planted fault: both means below 0, whose quotient looks like a share of skill."""
    below = sound.rank_ic.model_copy(update={"mean": -0.05})
    turned = with_liquidity(sound, rank_ic_most_traded=below).model_copy(update={"rank_ic": below})
    assert tradability(sound)["most_traded_skill"].passed
    found = tradability(turned)["most_traded_skill"]
    assert not found.passed
    assert found.value is None


def test_a_capacity_that_is_partly_unknown_does_not_pass(sound):
    curve = [
        CapacityRow(capital=at, sharpe_net=net, return_net=0.1, cost_share=0.1)
        for at, net in ((1e5, 2.0), (1e6, 2.0), (1e7, None))
    ]
    long_short = sound.portfolio.long_short.model_copy(update={"capacity": curve})
    portfolio = sound.portfolio.model_copy(update={"long_short": long_short})
    found = tradability(sound.model_copy(update={"portfolio": portfolio}), capital=1e7)["capacity"]
    assert not found.passed
    assert found.value is None
