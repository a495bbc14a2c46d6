"""What an answer says where the champion tells classes apart, and that it says nothing of them elsewhere."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from components.scoring import Scores
from components.scoring.model import ExpertOutputs
from serving.api.answer_types import SignalsAnswer
from serving.live.answer_body import answer_body, log_entry
from serving.live.market_snapshot import _with_those_behind
from serving.live.segments import Answer
from serving.live.signals import Signals

BAR_US = 1_700_000_000_000_000
STAMP = {
    "name": "demo",
    "version": 3,
    "bundle_sha256": "a" * 64,
    "schema": "s",
    "code_version": "c",
    "train_window": "w",
}


def signals_of(scores: Scores) -> Signals:
    return Signals(
        symbols=["A", "B"],
        timestamps_us=np.full(2, BAR_US),
        known_us=np.full(2, BAR_US),
        values=np.zeros((2, 1), dtype=np.float32),
        scores=scores,
        further=(),
        position=np.zeros(2),
        closes=np.full(2, np.nan),
        stale=np.zeros(2, dtype=bool),
        behind=np.zeros(2, dtype=bool),
        outside=np.zeros(2, dtype=bool),
        source="store",
        publication="p",
        newest_us=BAR_US,
    )


def body(scores: Scores, target: str) -> dict:
    served = SimpleNamespace(stamp=STAMP, model=SimpleNamespace(period="1d", horizon=5, target=target))
    return json.loads(answer_body(signals_of(scores), served, "r", BAR_US))


def entry(scores: Scores) -> Answer:
    model = SimpleNamespace(sha256="a" * 64, columns=("x",), context=())
    served = SimpleNamespace(model=model, notice=SimpleNamespace(version=3))
    return log_entry(signals_of(scores), served, "r", BAR_US, endpoint="signals")


def scores(**chances: np.ndarray) -> Scores:
    return Scores(*(np.array([0.1, -0.2]) for _ in range(5)), **chances)


def test_probabilities_are_answered_where_there_are_any():
    given = {"p_down": np.array([0.2, 0.5]), "p_none": np.array([0.5, 0.2]), "p_up": np.array([0.3, 0.3])}
    found = body(scores(**given), "trade_class")
    told = SignalsAnswer.model_validate(found).signals
    assert [(one.p_down, one.p_none, one.p_up) for one in told] == [(0.2, 0.5, 0.3), (0.5, 0.2, 0.3)]
    assert sum(found["signals"][0][name] for name in given) == pytest.approx(1.0)


def test_the_log_keeps_them_too():
    given = {"p_down": np.array([0.2, 0.5]), "p_none": np.array([0.5, 0.2]), "p_up": np.array([0.3, 0.3])}
    np.testing.assert_array_equal(entry(scores(**given)).chances, [[0.2, 0.5, 0.3], [0.5, 0.2, 0.3]])
    assert entry(scores()).chances is None


def test_a_champion_of_a_number_answers_as_before():
    found = body(scores(), "log_return")
    assert not {"p_down", "p_none", "p_up"} & set(found["signals"][0])
    assert SignalsAnswer.model_validate(found).signals[0].p_up is None


def test_the_description_names_them_and_asks_none_of_them():
    described = SignalsAnswer.model_json_schema(by_alias=True)["$defs"]["Signal"]
    assert {"p_down", "p_none", "p_up"} <= set(described["properties"])
    assert not {"p_down", "p_none", "p_up"} & set(described["required"])


@pytest.mark.parametrize("classes", [True, False])
def test_a_symbol_that_is_behind_changes_nothing_of_those_that_are_not(classes):
    """Of an expert that looks across symbols: a row's outputs depend on how many stand beside it."""

    def outputs(inputs, context, window):
        beside = np.full((1, len(inputs)), float(len(inputs)))
        chances = np.stack([beside, beside, beside], axis=-1) if classes else None
        return ExpertOutputs(("e",), beside, 2 * beside, chances)

    model = SimpleNamespace(outputs_of_tasks=lambda *given: (outputs(*given),))
    current, rows = np.array([True, False, True]), np.zeros((3, 1))
    newest = (outputs(rows[current], None, None),)
    (found,) = _with_those_behind(model, newest, rows, rows, None, current)
    np.testing.assert_array_equal(found.score, [[2.0, 3.0, 2.0]])
    np.testing.assert_array_equal(found.uncertainty, [[4.0, 6.0, 4.0]])
    if classes:
        np.testing.assert_array_equal(found.chances[..., 0], [[2.0, 3.0, 2.0]])
    else:
        assert found.chances is None
