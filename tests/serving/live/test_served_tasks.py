"""Further tasks in answers: each says what its model says when it alone is served, however it is asked."""

import json
from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import polars as pl
import pytest

from components.scoring import Model, score_table
from serving.api.answer_types import ModelAnswer, SignalsAnswer
from serving.api.given_rows import GivenRows
from serving.live.answer_body import answer_body
from serving.live.market_snapshot import read_market
from serving.live.online import OnlineReader
from serving.live.signals import Scorer
from serving.live.state import ServedModel, State
from serving.live.status import model_answer
from tests.serving.small_champion import SERVING, STORE, notice_of

TASK = ("log_return", 20)
NOW_US = 4_000_000_000_000_000


@pytest.fixture(scope="module")
def states(small_run) -> tuple[State, State]:
    """A model with a further task, which is the other bundle's model; and that one served by itself."""
    own, other = (Model.load(bundle) for bundle in small_run.bundles)
    other = replace(other, target=TASK[0], horizon=TASK[1])
    reader = OnlineReader(STORE, small_run.folder / "feature_store")
    notice = notice_of(small_run.bundles[0], 1)

    def state(model: Model) -> State:
        served = ServedModel.of(notice, model)
        return State(served, read_market(reader, model, served.book), reader)

    return state(replace(own, further=(other,))), state(other)


def ways(state: State) -> dict:
    """Signals from the store, the snapshot, and given rows against the market and by bar."""
    market, scorer = state.market, Scorer(SERVING, MagicMock())
    symbols, places = market.symbols, np.arange(len(market.symbols))
    given = GivenRows(list(symbols), market.rows.timestamps_us, market.rows.values, None, "market")
    return {
        "store": scorer.stored(state, symbols, places),
        "snapshot": scorer.snapshot(market, symbols, places[::-1]),
        "market": scorer.given(state, given, NOW_US),
        "batch": scorer.given(state, replace(given, cross_section="batch"), NOW_US),
    }


@pytest.mark.parametrize("way", ["store", "snapshot", "market", "batch"])
def test_a_further_task_says_what_it_says_by_itself(states, way):
    both, alone = (ways(state)[way] for state in states)
    (task,) = both.further
    assert (task.target, task.horizon) == TASK
    assert np.abs(task.scores.score - both.scores.score).max() > 0, "else they could be mixed up"
    for name, values in alone.scores.columns().items():
        np.testing.assert_array_equal(task.scores.columns()[name], values)
    assert alone.further == ()


def test_the_service_and_the_backtest_say_the_same_of_it(states, small_run):
    """The newest bar of the whole factors table, as a backtest scores it, and what is answered."""
    market, model = states[0].market, states[0].served.model
    newest = small_run.market.factors["timestamp"].max()
    bar = small_run.market.factors.filter(pl.col("timestamp") == newest)
    current = np.array([market.places[symbol] for symbol in bar["symbol"]])
    answered = Scorer(SERVING, MagicMock()).stored(states[0], bar["symbol"].to_list(), current)
    for one, scores in ((model, answered.scores), (model.further[0], answered.further[0].scores)):
        table = score_table(one, small_run.market.factors, bars=[newest])
        assert table["symbol"].to_list() == bar["symbol"].to_list()
        for name, values in scores.columns().items():
            np.testing.assert_allclose(values, table[name].to_numpy(), rtol=0, atol=1e-7)


def test_the_judged_task_and_its_positions_do_not_notice(states, small_run):
    own = replace(states[0].served.model, further=())
    served = ServedModel.of(notice_of(small_run.bundles[0], 1), own)
    reader = states[0].reader
    without = ways(State(served, read_market(reader, own, served.book), reader))
    for way, signals in ways(states[0]).items():
        np.testing.assert_array_equal(signals.position, without[way].position)
        np.testing.assert_array_equal(signals.scores.score, without[way].scores.score)


def test_the_answer_carries_them_with_their_prices(states):
    signals = ways(states[0])["store"]
    plain, priced = (
        json.loads(answer_body(signals, states[0].served, "r", NOW_US, prices=prices))
        for prices in (False, True)
    )
    task = signals.further[0].scores
    for place, signal in enumerate(SignalsAnswer.model_validate(plain).signals):
        (told,) = signal.tasks
        assert (told.target, told.horizon, told.prices) == (*TASK, None)
        assert (told.score, told.p10, told.p90) == (task.score[place], task.p10[place], task.p90[place])
    for place, signal in enumerate(SignalsAnswer.model_validate(priced).signals):
        assert "own log return" in signal.prices.missing
        later = signal.tasks[0].prices.future_price.p90
        assert later == pytest.approx(signals.closes[place] * np.exp(task.p90[place]))


def test_a_model_of_one_task_answers_as_before(states):
    found = json.loads(answer_body(ways(states[1])["store"], states[1].served, "r", NOW_US))
    assert all("tasks" not in signal for signal in found["signals"])


def test_model_names_them(states):
    keeper = MagicMock(state=states[0], refusal=None)
    answer = ModelAnswer.model_validate(model_answer(keeper).model_dump(by_alias=True))
    assert [(one.target, one.horizon) for one in answer.tasks] == [TASK]
