"""The leak audit passes honest features of ticks, and catches planted ones that know the future."""

import polars as pl
import pytest

from components.contracts.tick_days import TickDay
from components.tick_features.audit import audit_day, verdict
from components.tick_features.audit_run import build
from components.tick_features.config import Audit, Normalisation, Settings
from tests.tick_features.feeding import span_of
from tests.tick_features.streams import MILLISECOND, depth_stream, order_stream

SETTINGS = Settings(
    normalisation=Normalisation(values=20, every_samples=2, least_values=5), audit=Audit(cuts=3)
)
BY_EVENT = SETTINGS.model_copy(update={"sampling": "event", "every_messages": 4})
DAY = TickDay("A", "one", None)


def audited(ticks, maker, settings=SETTINGS, table=None):
    """What is found of features as `maker` makes them."""
    span = span_of(ticks)
    made = maker(ticks, span, settings) if table is None else table
    with_symbol = made.with_columns(pl.lit("A").alias("symbol"))
    return verdict([audit_day(ticks, with_symbol, DAY, span, maker, settings)], [])


def failed(found, check):
    return {leak.factor for leak in found.leaks if leak.check == check}


@pytest.fixture(scope="module")
def ticks():
    return depth_stream(5, 1_500, gap_ms=8.0)


@pytest.mark.parametrize("settings", [SETTINGS, BY_EVENT])
def test_honest_features_pass(ticks, settings):
    for stream in (ticks, order_stream(4, 1_000, gap_ms=8.0)):
        found = audited(stream, build, settings)
        assert found.passed
        assert len(found.checked.cuts) == 3
        assert found.checked.checks["future_mutation"] == found.checked.checks["truncation"] == 3
        assert found.checked.factor_values_compared > 10_000


def test_a_feature_that_looks_one_message_ahead_is_caught(ticks):
    def leaking(ticks, span, settings):
        """A message's price and quantity as the next row's are."""
        ahead = [pl.col(name).shift(-1).fill_null(pl.col(name)) for name in ("price", "quantity")]
        return build(ticks.with_columns(ahead), span, settings)

    found = audited(ticks, leaking)
    assert not found.passed
    assert failed(found, "future_mutation")


def test_a_sample_that_sees_what_shares_a_millisecond_with_it_is_caught(ticks):
    def leaking(ticks, span, settings):
        """Every message stands at the beginning of its five milliseconds."""
        bucket = 5 * MILLISECOND
        return build(ticks.with_columns(pl.col("ingest_ts") // bucket * bucket), span, settings)

    found = audited(ticks, leaking)
    assert "imbalance_1" in failed(found, "future_mutation") | failed(found, "truncation")
    assert failed(found, "known_time") == {"known_time"}


def test_a_sample_that_sees_the_rest_of_the_messages_beside_its_own_is_caught(ticks):
    def leaking(ticks, span, settings):
        """Three messages that follow each other are known when the first one is."""
        first = pl.col("ingest_ts").first().over(pl.col("message") // 3)
        return build(ticks.with_columns(first), span, settings)

    found = audited(ticks, leaking)
    assert failed(found, "future_mutation")


@pytest.mark.parametrize("check", ["future_mutation", "truncation"])
def test_a_scale_of_the_whole_session_is_caught(ticks, check):
    def leaking(ticks, span, settings):
        made = build(ticks, span, settings)
        spread = pl.col("spread")
        return made.with_columns(((spread - spread.mean()) / spread.std()).alias("spread_rank"))

    assert failed(audited(ticks, leaking), check) == {"spread_rank"}


def test_a_table_of_another_history_is_caught(ticks):
    span = span_of(ticks)
    other = build(ticks.with_columns(pl.col("quantity") * 2), span, SETTINGS)
    found = audited(ticks, build, table=other)
    assert "depth_slope" in failed(found, "whole_history")


def test_a_known_time_after_the_moment_is_caught(ticks):
    made = build(ticks, span_of(ticks), SETTINGS)
    late = made.with_columns(pl.col("known_time") + pl.duration(milliseconds=80))
    found = audited(ticks, build, table=late)
    assert failed(found, "known_time") == {"known_time"}


def test_the_beginning_of_a_long_session_is_audited_alone(ticks):
    span = span_of(ticks)
    table = build(ticks, span, SETTINGS).with_columns(pl.lit("A").alias("symbol"))
    tally = audit_day(ticks.head(1_000), table, DAY, span, build, SETTINGS)
    assert not tally.leaks
    assert 0 < tally.table_rows < len(table)
