"""A model that looks across the symbols of a bar: a part of a bar is never scored as if it were the whole,
over HTTP and below it.
"""

import asyncio
import json
from dataclasses import dataclass, replace
from unittest.mock import MagicMock

import jsonschema
import numpy as np
import polars as pl
import pytest

from components.scoring import Model, score_table
from serving.api.request_types import SignalsRequest
from serving.client import Client, ServiceError
from serving.live.answers import Answers
from serving.live.market_snapshot import read_market
from serving.live.online import OnlineReader
from serving.live.state import ServedModel, State
from serving.live.store_reads import Reads
from serving.replay import current_publication, replay
from tests.scoring.made_graphs import by_hand
from tests.serving.across import LOOKBACK, SCALE, SECTOR
from tests.serving.live_service import Live
from tests.serving.small_champion import ACROSS, SERVING, STORE, SmallRun, make_bundle, notice_of

FIELDS = ("score", "p10", "p50", "p90", "uncertainty", "position")


@pytest.fixture(scope="module")
def run(shared, tmp_path_factory) -> SmallRun:
    run, folder = shared.run, tmp_path_factory.mktemp("across")
    # No gain is ever enough, so that the experts have equal weights and both are served.
    bundle = make_bundle(run.market, run.publication, folder / "bundles", experts=ACROSS, equal_weights=True)
    return replace(run, bundles=[bundle])


@pytest.fixture(scope="module")
def model(run) -> Model:
    model = Model.load(run.bundles[0])
    assert [expert.name for expert in model.experts] == ["elasticnet", "across"]
    return model


@pytest.fixture(scope="module")
def newest(run) -> pl.DataFrame:
    """The newest row of each symbol, with `behind`."""
    rows = run.market.factors.sort("timestamp").unique("symbol", keep="last").sort("symbol")
    rows = rows.with_columns((pl.col("timestamp") < pl.col("timestamp").max()).alias("behind"))
    assert 1 <= rows["behind"].sum() < 5
    return rows


@pytest.fixture(scope="module")
def windows(run, newest) -> dict[str, np.ndarray]:
    """Each symbol's last bars of inputs, [LOOKBACK, F]."""
    columns = run.publication["columns"]
    parts = run.market.factors.sort("timestamp").partition_by("symbol", as_dict=True)
    return {
        symbol: (
            part.tail(LOOKBACK).select(pl.col(columns).cast(pl.Float32).fill_null(float("nan"))).to_numpy()
        )
        for (symbol,), part in parts.items()
    }


def arrays(
    rows: pl.DataFrame, model: Model, windows: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    window = np.stack([windows[symbol] for symbol in rows["symbol"]])
    return (
        window[:, -1],
        rows.select(
            pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in model.context
        ).to_numpy(),
        window,
    )


@pytest.fixture(scope="module")
def live(shared, run) -> Live:
    shared.crown(run.bundles[0], 600)
    return shared.live


def signals(live: Live, *symbols: str) -> dict[str, dict]:
    answer = live.signals(*symbols).json()
    assert answer["features"]["source"] == "store"
    return {signal["symbol"]: signal for signal in answer["signals"]}


def test_the_model_says_what_it_needs(live, model):
    about = live.client.get("/model").json()
    assert (about["needs_whole_bars"], about["needs_window"], about["context"]) == (
        True,
        True,
        ["regime_state", "volatility_20", "sector_code"],
    )
    document = live.client.get("/openapi.json").json()
    body = document["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
    example = body["examples"]["one row"]["value"]
    assert example["cross_section"] == "batch"
    jsonschema.validate(example, body["schema"])


def test_the_experts_numbers_are_those_by_hand(model, newest, windows):
    current = newest.filter(~pl.col("behind"))
    found = model.expert_outputs(*arrays(current, model, windows)).score[1]
    _, context, window = arrays(current, model, windows)
    assert len(set(context[:, 2])) > 1, "several sectors"
    np.testing.assert_allclose(
        found, SCALE * by_hand(window, np.zeros(len(window)), context[:, 2], SECTOR), atol=1e-7
    )


def test_one_symbol_gets_the_numbers_that_it_has_in_the_whole_market_bit_for_bit(
    live, model, newest, windows
):
    """Planted fault: the score of the symbol as if it were the whole market lies elsewhere."""
    together = signals(live, *newest["symbol"])
    current = newest.filter(~pl.col("behind"))
    expected = model.score_bar(*arrays(current, model, windows))
    for place, symbol in enumerate(current["symbol"]):
        assert together[symbol]["score"] == pytest.approx(expected.score[place], abs=1e-6)
        assert together[symbol]["p90"] == pytest.approx(expected.p90[place], abs=1e-6)
    for symbol in newest["symbol"]:
        alone = signals(live, symbol)[symbol]
        assert [alone[name] for name in FIELDS] == [together[symbol][name] for name in FIELDS]
    few = signals(live, *newest["symbol"][:3])
    assert few == {symbol: together[symbol] for symbol in few}
    parts = [
        model.expert_outputs(*arrays(current[place : place + 1], model, windows)).score[1, 0]
        for place in range(len(current))
    ]
    whole = model.expert_outputs(*arrays(current, model, windows)).score[1]
    assert np.abs(np.array(parts) - whole).min() > 1e-5


def test_symbols_that_are_behind_change_nothing_for_the_others(live, newest):
    found = signals(live, *newest["symbol"])
    for symbol, behind in newest.select("symbol", "behind").rows():
        assert found[symbol]["behind"] is behind
        assert np.isfinite(found[symbol]["score"])
        assert not (behind and found[symbol]["position"])


def frame_of(rows: pl.DataFrame, model: Model, windows: dict[str, np.ndarray]) -> pl.DataFrame:
    packed = pl.Series(
        "window", [windows[symbol].astype("<f4").tobytes() for symbol in rows["symbol"]], dtype=pl.Binary
    )
    return rows.select(
        "symbol",
        "timestamp",
        *(pl.col(name).cast(pl.Float32).fill_nan(None) for name in (*model.columns, *model.context)),
    ).with_columns(packed)


def test_given_rows_are_scored_by_whole_bars_and_refused_against_the_market(live, model, newest, windows):
    current = newest.filter(~pl.col("behind"))
    rows = frame_of(current, model, windows)
    with Client(live.url) as client:
        answer = client.score(rows, cross_section="batch")
        expected = model.score_bar(*arrays(current, model, windows))
        np.testing.assert_allclose(
            [signal["score"] for signal in answer["signals"]], expected.score, atol=1e-7
        )
        with pytest.raises(
            ServiceError,
            match=r"looks across the symbols of a bar.*Send whole bars.*with cross_section batch",
        ):
            client.score(rows)
    row = {
        "symbol": "S01",
        "timestamp": "2024-01-02T21:00:00Z",
        "features": dict.fromkeys((*model.columns, *model.context)),
        "window": [[None] * len(model.columns)] * LOOKBACK,
    }
    refused = live.client.post(
        "/score", content=json.dumps({"rows": [row]}), headers={"content-type": "application/json"}
    )
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["field"]) == (422, "whole_bars_needed", "cross_section")
    taken = live.client.post(
        "/score",
        content=json.dumps({"cross_section": "batch", "rows": [row]}),
        headers={"content-type": "application/json"},
    )
    assert taken.status_code == 200, "sector unknown, everything unknown"


def test_a_replay_goes_through_and_the_offline_table_agrees(live, run, model):
    store = run.folder / "feature_store"
    moments = run.market.factors["timestamp"].unique().sort()[-4:-1]
    done = replay(
        current_publication(store), live.url, first=moments[0], last=moments[-1], bars_per_second=1000
    )
    assert (done.bars, done.rows) == (
        3,
        run.market.factors.filter(pl.col("timestamp").is_in(moments.implode())).height,
    )
    offline = score_table(model, run.market.factors.sort("timestamp", "symbol"), bars=moments.to_list())
    assert offline["score"].is_finite().all()


@dataclass(frozen=True)
class StandInKeeper:
    """The part of a keeper that answers look at."""

    state: State
    problem_of_store: str = ""


@pytest.fixture(scope="module")
def inside(run, model) -> State:
    """The service's state over the same store, without HTTP."""
    reader = OnlineReader(STORE, run.folder / "feature_store")
    served = ServedModel.of(notice_of(run.bundles[0], 1), model)
    market = read_market(reader, model, served.book)
    return State(served, market, reader)


def ask(state: State, *symbols: str) -> dict:
    reads = Reads(1)
    reads.reopen()
    answers = Answers(
        SERVING.model_copy(update={"store_timeout_ms": 5000.0}),
        StandInKeeper(state),
        reads,
        MagicMock(),
        None,
    )
    try:
        return json.loads(asyncio.run(answers.signals(SignalsRequest(symbols=list(symbols)), "id")))
    finally:
        answers.close()
        reads.close()


def test_rows_of_a_publication_that_is_being_written_are_not_mixed_with_the_last_market(inside, newest):
    """Planted: the store already holds a newer row of one symbol.

    Scoring it beside the old rows, or alone, would be a number of no bar.
    """
    symbols = newest["symbol"][:3].to_list()
    before = ask(inside, *symbols)
    assert before["features"]["source"] == "store"

    class Newer:
        """The reader, whose first row was overwritten."""

        def __init__(self, what: str):
            self.what = what
            self.columns, self.context, self.current = (
                inside.reader.columns,
                inside.reader.context,
                inside.reader.current,
            )

        def read(self, places, *, lookback_bars=0):
            rows = inside.reader.read(places, lookback_bars=lookback_bars)
            changed = getattr(rows, self.what).copy()
            changed[0] = changed[0] + (86_400_000_000 if self.what == "timestamps_us" else 1.0)
            return replace(rows, **{self.what: changed})

    for what in ("timestamps_us", "values"):
        found = ask(replace(inside, reader=Newer(what)), *symbols)
        assert found["features"]["source"] == "snapshot"
        assert found["signals"] == before["signals"]


def test_the_markets_scores_of_current_symbols_do_not_know_those_behind(inside, model, newest, windows):
    market = inside.market
    current = newest.filter(~pl.col("behind"))
    expected = model.score_bar(*arrays(current, model, windows))
    np.testing.assert_array_equal(market.scores.score[~market.behind], expected.score)
    everything = model.expert_outputs(*arrays(newest, model, windows)).score[1][~newest["behind"].to_numpy()]
    assert (
        np.abs(everything - model.expert_outputs(*arrays(current, model, windows)).score[1]).max() > 1e-6
    ), "they would, in one pass over all"
