"""The replay: rows and scores that are the same on both sides pass, each planted fault fails by its name."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from components.contracts import LIVE_ROWS, SERVED, check_table, write_table
from components.contracts.documents.replay import ReplayReport
from components.feature_store.as_served import live_rows
from components.feature_store.config import Settings as StoreSettings
from components.replay.compare import ReplayError, Sides, compare
from components.replay.config import Settings
from components.replay.page import write_replay_page
from components.replay.run import run_require_same
from components.scoring import Model, score_table
from tests.serving import small_champion

BARS = 5
SETTINGS = Settings(bars=BARS)


@pytest.fixture(scope="module")
def market():
    return small_champion.make_market()


@pytest.fixture(scope="module")
def model(market, tmp_path_factory):
    """A champion with an expert that looks back, and one that looks across the symbols of a bar."""
    folder = tmp_path_factory.mktemp("champion")
    experts = {**small_champion.LOOKING_BACK, **small_champion.ACROSS}
    publication = small_champion.put_online(market, folder)
    return Model.load(
        small_champion.make_bundle(
            market, publication, folder / "bundle", experts=experts, equal_weights=True
        )
    )


@pytest.fixture(scope="module")
def live(market):
    return live_rows(market.factors, market.catalog, small_champion.STORE, BARS)


def answers(model: Model, market, **changed: pl.Expr) -> pl.DataFrame:
    """What a service would have answered for the newest bars."""
    bars = market.factors["timestamp"].unique().sort().tail(BARS)
    scores = score_table(model, market.factors, bars=bars.to_list()).drop("head_scale", "head_bias")
    made = scores.with_columns(
        (pl.col("timestamp") + timedelta(minutes=5)).alias("answered_at"),
        pl.col("timestamp").alias("known_time"),
        request_id=pl.lit("r"),
        endpoint=pl.lit("signals"),
        model_version=pl.lit(1, pl.Int64),
        bundle_sha256=pl.lit(model.sha256),
        publication=pl.lit("p"),
        stale=pl.lit(False),
        position=pl.lit(0.0),
    )
    return made.with_columns(**changed).select(*SERVED.columns)


NOTHING = pl.DataFrame(schema=SERVED.columns)


def test_the_live_path_and_the_backtest_say_the_same(model, market, live):
    found = compare(model, 3, Sides(live, market.factors, answers(model, market)), SETTINGS)
    assert found.same, found.reason
    assert found.live.rows == len(live) == found.answered.rows
    assert (found.live.lost, found.live.differing, found.answered.lost) == (0, 0, 0)
    assert found.live.largest < 1e-6
    assert [one.bar for one in found.bars] == sorted(set(live["timestamp"]))


def test_rows_are_those_of_the_store_when_their_bar_was_the_newest(market, live):
    check_table(live, LIVE_ROWS)
    later = market.factors["timestamp"].unique().sort()[-2]
    without = live_rows(
        market.factors.filter(pl.col("timestamp") <= later), market.catalog, small_champion.STORE, BARS - 1
    )
    assert without.equals(live.filter(pl.col("timestamp") <= later))


def test_a_row_that_became_known_after_the_next_bar_is_lost(model, market):
    first, second = market.factors["timestamp"].unique().sort().tail(BARS)[:2]
    symbol = market.symbols[3]
    at = (pl.col("timestamp") == first) & (pl.col("symbol") == symbol)
    late = pl.when(at).then(pl.lit(second) + timedelta(days=1)).otherwise(pl.col("known_time"))
    factors = market.factors.with_columns(late.cast(market.factors.schema["known_time"]).alias("known_time"))
    rows = live_rows(factors, market.catalog, small_champion.STORE, BARS)
    assert rows.filter(at).is_empty()
    found = compare(model, 3, Sides(rows, factors, NOTHING), SETTINGS)
    assert not found.same
    assert found.live.lost == 1
    assert "rows reach no live answer" in found.reason
    assert [one.held.lost for one in found.bars] == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("where", ["value", "window"])
def test_a_value_that_is_another_one_in_the_store_is_found(model, market, live, where):
    other = live.with_columns(
        pl.lit(bytes(len(live["window"][0]))).alias("window")
        if where == "window"
        else pl.col(model.columns).shuffle(seed=1).over("timestamp")
    )
    found = compare(model, 3, Sides(other, market.factors, NOTHING), SETTINGS)
    assert not found.same
    assert found.live.differing > 0
    assert "have another score on the live path" in found.reason


def test_an_answer_with_another_score_is_found_and_one_within_the_tolerance_is_not(model, market, live):
    spread = float(answers(model, market).group_by("timestamp").agg(pl.col("score").std())["score"].min())
    first = pl.int_range(pl.len()) == 0
    for shift, same in ((spread * 1e-5, True), (spread * 0.5, False)):
        given = answers(model, market, score=pl.col("score") + pl.when(first).then(shift).otherwise(0.0))
        found = compare(model, 3, Sides(live, market.factors, given), SETTINGS)
        assert found.same == same
        assert found.answered.differing == (0 if same else 1)
    assert "1 of" in found.reason
    assert "data of these bars has changed" in found.reason


def test_answers_on_rows_that_a_client_sent_do_not_count(model, market, live):
    given = answers(model, market, score=pl.col("score") + 1.0, endpoint=pl.lit("score"))
    found = compare(model, 3, Sides(live, market.factors, given), SETTINGS)
    assert found.same
    assert found.answered.rows == 0


def test_answers_on_rows_that_are_gone_are_found(model, market, live):
    symbol = market.symbols[0]
    factors = market.factors.filter(pl.col("symbol") != symbol)
    rows = live_rows(factors, market.catalog, small_champion.STORE, BARS)
    found = compare(model, 3, Sides(rows, factors, answers(model, market)), SETTINGS)
    assert not found.same
    assert found.answered.lost == BARS
    assert "rows that the data no longer has" in found.reason


def test_a_store_that_looks_back_less_than_the_model_is_told(model, market):
    short = live_rows(market.factors, market.catalog, StoreSettings(lookback_bars=2), BARS)
    with pytest.raises(ReplayError, match=rf"feature_store\.lookback_bars to {model.lookback_bars}"):
        compare(model, 3, Sides(short, market.factors, NOTHING), SETTINGS)


def test_the_verdict_stops_the_run_and_the_page_tells_where(model, market, live, tmp_path):
    good = compare(model, 3, Sides(live, market.factors, NOTHING), SETTINGS)
    good.write(tmp_path / "good.json")
    run_require_same(tmp_path / "good.json")
    bad = compare(model, 3, Sides(live[:-1], market.factors, NOTHING), Settings(bars=BARS, lost_share=0.0))
    bad.write(tmp_path / "bad.json")
    assert ReplayReport.read(tmp_path / "bad.json") == bad
    with pytest.raises(ReplayError, match=r"Champion 3 answers otherwise.*1 of .* rows reach no live answer"):
        run_require_same(tmp_path / "bad.json")
    page = write_replay_page(tmp_path / "page.html", bad).read_text()
    assert "not the same" in page
    assert "rows reach no live answer" in page


def test_windows_count_in_the_stamp_of_a_table(live, tmp_path):
    def stamp(rows: pl.DataFrame, name: str) -> str:
        made = write_table(rows, Path(tmp_path / name), LIVE_ROWS, code_version="c", config_hash="h")
        return made.content_sha256

    other = live.with_columns(pl.lit(bytes(len(live["window"][0]))).alias("window"))
    assert stamp(live, "a") == stamp(live, "b") != stamp(other, "c")
