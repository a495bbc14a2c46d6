"""Signals below HTTP, on the small run's model and market: a row that is too old gets no position."""

from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import polars as pl
import pytest

from components.scoring import Model
from serving.api.given_rows import GivenRows
from serving.live.market_snapshot import read_market
from serving.live.online import OnlineReader
from serving.live.signals import Scorer
from serving.live.state import ServedModel, State
from tests.serving.small_champion import SERVING, STORE, notice_of

HOUR_US = 3_600_000_000
SETTINGS = SERVING.model_copy(update={"max_feature_age_hours": 24.0})


@pytest.fixture(scope="module")
def state(small_run) -> State:
    reader = OnlineReader(STORE, small_run.folder / "feature_store")
    served = ServedModel.of(notice_of(small_run.bundles[0], 1), Model.load(small_run.bundles[0]))
    return State(served, read_market(reader, served.model, served.book), reader)


@pytest.fixture(scope="module")
def rows(state) -> GivenRows:
    """The market's own newest bar, as a client would give it."""
    market = state.market
    current = np.flatnonzero(~market.behind)
    symbols = [market.symbols[place] for place in current]
    return GivenRows(symbols, market.rows.timestamps_us[current], market.rows.values[current], None, "market")


@pytest.mark.parametrize("cross_section", ["market", "batch"])
def test_given_rows_keep_their_position_until_they_are_stale(state, rows, cross_section):
    scorer = Scorer(SETTINGS, MagicMock())
    given = replace(rows, cross_section=cross_section)
    fresh = scorer.given(state, given, state.market.newest_us + 24 * HOUR_US)
    assert not fresh.stale.any()
    assert (fresh.position > 0).any()
    assert (fresh.position < 0).any()
    stale = scorer.given(state, given, state.market.newest_us + 24 * HOUR_US + 1)
    assert stale.stale.all()
    assert not stale.position.any()
    np.testing.assert_array_equal(stale.scores.score, fresh.scores.score)


@pytest.mark.parametrize("cross_section", ["market", "batch"])
def test_of_old_and_new_rows_only_the_new_ones_keep_their_position(state, rows, cross_section):
    """Half of the rows are a day older; each bar of a batch is a book of its own."""
    now_us = state.market.newest_us + HOUR_US
    held = Scorer(SERVING, MagicMock()).given(state, rows, now_us).position != 0
    # Every other one, of those that the market's book holds and of the others.
    older = np.where(held, np.cumsum(held), np.cumsum(~held)) % 2 == 0
    moments_us = np.where(older, rows.timestamps_us - 24 * HOUR_US, rows.timestamps_us)
    given = replace(rows, timestamps_us=moments_us, cross_section=cross_section)
    signals = Scorer(SETTINGS, MagicMock()).given(state, given, now_us)
    without_limit = Scorer(SERVING, MagicMock()).given(state, given, now_us)
    np.testing.assert_array_equal(signals.stale, older)
    assert without_limit.position[older].any(), "else there would be nothing to take away"
    assert not signals.position[older].any()
    assert signals.position[~older].any()
    np.testing.assert_array_equal(signals.position[~older], without_limit.position[~older])


def test_symbols_of_a_stale_market_get_no_position(state):
    """A day is over since the market's bar closed, years ago: from the store and from the snapshot."""
    scorer = Scorer(SETTINGS, MagicMock())
    symbols, places = state.market.symbols, np.arange(len(state.market.symbols))
    assert state.market.weights.any()
    for signals in (scorer.stored(state, symbols, places), scorer.snapshot(state.market, symbols, places)):
        assert signals.stale.all()
        assert not signals.position.any()


def test_each_symbol_of_the_snapshot_gets_its_own_scores(state):
    market, places = state.market, np.array([2, 0, 1])
    symbols = [market.symbols[place] for place in places]
    found = Scorer(SERVING, MagicMock()).snapshot(market, symbols, places).scores.columns()
    assert len(set(found["score"])) == 3
    for name, values in market.scores.columns().items():
        np.testing.assert_array_equal(found[name], values[places])


def test_closes_are_those_of_the_very_bars_that_the_features_are_of(state, small_run):
    """From the store and from the snapshot; a bar that the market's reading does not hold has none."""
    market, scorer = state.market, Scorer(SERVING, MagicMock())
    places = np.arange(len(market.symbols))
    panel = small_run.market.panel
    wanted = [
        panel.filter((pl.col("symbol") == symbol) & (pl.col("timestamp").dt.epoch("us") == moment))["close"][
            0
        ]
        for symbol, moment in zip(market.symbols, market.rows.timestamps_us, strict=True)
    ]
    for signals in (
        scorer.stored(state, market.symbols, places),
        scorer.snapshot(market, market.symbols, places),
    ):
        np.testing.assert_array_equal(signals.closes, wanted)
    earlier = replace(market.rows, timestamps_us=market.rows.timestamps_us - HOUR_US)
    behind = replace(state, market=replace(market, rows=earlier))
    assert np.isnan(scorer.stored(behind, market.symbols, places).closes).all()


def test_a_bundle_without_its_usual_uncertainty_is_served_as_before_and_said_once(small_run, caplog):
    model = Model.load(small_run.bundles[0])
    settings = {**model.manifest["config"]["backtest"], "sizing": "confidence"}
    head = replace(model.stacker.head, usual=0.02)
    known = replace(
        model,
        manifest={**model.manifest, "config": {"backtest": settings}},
        stacker=replace(model.stacker, head=head),
    )
    notice = notice_of(small_run.bundles[0], 1)
    assert ServedModel.of(notice, known).book.usual == 0.02
    assert not caplog.records
    old = replace(known, stacker=replace(model.stacker, head=replace(head, usual=np.inf)))
    assert ServedModel.of(notice, old).book.usual == np.inf
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "usual uncertainty" in caplog.text
