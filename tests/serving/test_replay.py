"""Replay reads a publication as the model takes it: the same rows, and the windows that the online store
holds.
"""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from serving import replay as module
from serving.replay import ReplayError, _History, current_publication


@pytest.fixture(scope="module")
def publication(small_run):
    return current_publication(small_run.folder / "feature_store")


@pytest.fixture(scope="module")
def model(small_run):
    about = small_run.publication
    return {"inputs": about["columns"], "context": about["context"], "lookback_bars": about["lookback_bars"]}


def test_each_bar_holds_the_rows_of_the_factors_table(small_run, publication, model):
    history = _History(publication, {**model, "lookback_bars": 0})
    frames = dict(history.frames(history.bars(None, None)))
    names = [*model["inputs"], *model["context"]]
    given = pl.concat(frames.values())
    assert given.select("timestamp", "symbol", *names).equals(
        small_run.market.factors.select("timestamp", "symbol", *names)
    )
    assert list(frames) == sorted(frames)
    assert all(frame["timestamp"].unique().to_list() == [moment] for moment, frame in frames.items())


def test_windows_are_those_of_the_online_store_wherever_the_chunks_end(
    small_run, publication, model, monkeypatch
):
    history = _History(publication, model)
    last = history.bars(None, None)[-1]
    stored = dict(
        pl.read_parquet(publication / "sequence.parquet")
        .filter(pl.col("timestamp") == last)
        .select("symbol", "window")
        .rows()
    )
    ((_, frame),) = history.frames([last])
    assert dict(frame.select("symbol", "window").rows()) == stored
    wanted = history.bars(None, None)[-40:]
    whole = pl.concat([frame for _, frame in history.frames(wanted)])
    monkeypatch.setattr(module, "_CHUNK_ROWS", 50)
    assert pl.concat([frame for _, frame in history.frames(wanted)]).equals(whole)


def test_a_window_reaches_back_over_the_symbols_own_bars_and_is_unknown_before_the_first(
    small_run, publication, model
):
    history = _History(publication, model)
    factors = small_run.market.factors
    early = history.bars(None, None)[4]
    ((_, frame),) = history.frames([early])
    row = frame.row(0, named=True)
    window = np.frombuffer(row["window"], dtype="<f4").reshape(model["lookback_bars"], -1)
    past = (
        factors.filter((pl.col("symbol") == row["symbol"]) & (pl.col("timestamp") <= early))
        .select(pl.col(model["inputs"]).fill_null(float("nan")))
        .to_numpy()
    )
    np.testing.assert_array_equal(window[-len(past) :], past)
    assert np.isnan(window[: -len(past)]).all()


def test_days_are_whole_and_moments_are_exact(publication, model):
    history = _History(publication, model)
    everything = history.bars(None, None)
    day = everything[10].date()
    assert history.bars(day, day) == [moment for moment in everything if moment.date() == day]
    assert history.bars(everything[3], everything[5].replace(tzinfo=UTC)) == everything[3:6]
    with pytest.raises(ReplayError, match="Choose days among these"):
        history.bars(datetime(1990, 1, 1), datetime(1990, 1, 2))


def test_a_column_that_is_not_published_is_named(publication, model):
    with pytest.raises(ReplayError, match="no column 'unheard_of'"):
        _History(publication, {**model, "inputs": ["unheard_of", *model["inputs"]]})
