"""The service when its store is stale, behind, slow, gone or of another schema: what it answers, what
readiness says, and that it recovers.
"""

import dataclasses
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from components.feature_store.config import Settings as FeatureStoreSettings
from tests.serving.conftest import copy_run
from tests.serving.live_service import Live, live_service, redis_server, until
from tests.serving.small_champion import MARKET, SmallMarket, crown, make_market, put_online

VARIABLE = "ALPHALOOP_TEST_REDIS"
# Without its guards the service would hang for good; how soon it answers is measured in tests/benchmarks.
SOON_S = 60.0
SYMBOLS = ("S01", "S02", "S03")


@pytest.fixture
def live(shared) -> Iterator[Live]:
    """The shared service; its store is put back as it was."""
    shared.crown(shared.run.bundles[0], 1)
    yield shared.live
    put_online(shared.run.market, shared.run.folder)
    until(
        lambda: (
            shared.live.ready()
            and shared.live.status()["features"]["publication"] == shared.run.publication["publication"]
        ),
        what="the publication as it was",
    )


def source(live) -> str:
    answer = live.signals(*SYMBOLS)
    assert answer.status_code == 200, answer.text
    return answer.json()["features"]["source"]


def assert_same(found: list[dict], expected: list[dict]) -> None:
    """The same signals, but for the last digits of floating-point sums that were added in another order."""
    for one, other in zip(found, expected, strict=True):
        assert {name: value for name, value in one.items() if not isinstance(value, float)} == {
            name: value for name, value in other.items() if not isinstance(value, float)
        }
        assert [value for value in one.values() if isinstance(value, float)] == pytest.approx(
            [value for value in other.values() if isinstance(value, float)], abs=1e-9
        )


def without(market: SmallMarket, column: str) -> SmallMarket:
    """The market's factors with one input fewer: another schema."""
    return dataclasses.replace(
        market,
        factors=market.factors.drop(column),
        catalog=[entry for entry in market.catalog if entry.column != column],
    )


def test_sqlite_gone_locked_replaced_and_of_another_schema(shared, live):
    run = shared.run
    database = run.folder / "feature_store" / "online.db"
    logged = len(live.log.read_text())
    failed = live.metric("store_reads_total", result="error") + live.metric(
        "store_reads_total", result="timeout"
    )
    before = live.signals(*SYMBOLS).json()["signals"]
    assert source(live) == "store"

    # A writer holds the file: reads wait, and the snapshot answers in their place.
    with sqlite3.connect(database) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        found = live.signals(*SYMBOLS).json()
        assert found["features"]["source"] == "snapshot"
        assert_same(found["signals"], before)
        assert time.monotonic() - began < SOON_S
        until(lambda: not live.ready(), what="readiness false while the store hangs")
        writer.rollback()
    until(live.ready, what="readiness after the writer let go")
    until(lambda: source(live) == "store", what="answers from the store")

    kept = run.folder / "kept.db"
    shutil.move(database, kept)
    assert_same(live.signals(*SYMBOLS).json()["signals"], before)
    until(
        lambda: not live.ready() and not live.check("store")["ok"],
        what="readiness false without the file",
    )
    assert source(live) == "snapshot"
    assert not database.exists()
    shutil.move(kept, database)
    until(live.ready, what="readiness with the file back")
    until(lambda: source(live) == "store", what="answers from the store")

    # Newer bars go online: the next answers are of them, without a restart.
    newer = make_market(
        settings=MARKET.model_copy(update={"simulator": MARKET.simulator.model_copy(update={"bars": 245})})
    )
    put_online(newer, run.folder)
    until(
        lambda: live.signals(*SYMBOLS).json()["features"]["publication"] != run.publication["publication"],
        what="the new publication",
    )
    after = live.signals(*SYMBOLS).json()
    assert after["features"]["newest"] > before[0]["feature_time"]
    assert after["model"]["version"] == 1

    # Another schema goes online: the old market answers, and readiness says why.
    put_online(without(newer, run.publication["columns"][0]), run.folder)
    until(lambda: live.check("schema")["ok"] is False, what="the schema check")
    assert not live.ready()
    found = live.signals(*SYMBOLS).json()
    assert found["features"]["source"] == "snapshot"
    assert [s["score"] for s in found["signals"]] == pytest.approx(
        [s["score"] for s in after["signals"]], abs=1e-7
    )
    put_online(newer, run.folder)
    until(live.ready, what="readiness with the old schema back")
    assert (
        live.metric("store_reads_total", result="error") + live.metric("store_reads_total", result="timeout")
        >= failed + 1
    )
    assert "Traceback" not in live.log.read_text()[logged:]


@pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed (Debian package redis-server)"
)
def test_redis_killed_frozen_and_back(small_run, tmp_path):
    run = copy_run(small_run, tmp_path / "run")
    store = FeatureStoreSettings(lookback_bars=16, online="redis", redis_variable=VARIABLE)
    crown(run.folder, run.bundles[0], 1)
    with pytest.MonkeyPatch.context() as patch, redis_server(tmp_path) as (server, port):
        patch.setenv(VARIABLE, f"127.0.0.1:{port},db=0")
        shutil.rmtree(run.folder / "feature_store")
        put_online(run.market, run.folder, store)
        plan = run.plan({"store_timeout_ms": 150.0}, store)
        with live_service(plan) as live:
            assert source(live) == "store"
            before = live.signals(*SYMBOLS).json()["signals"]

            # The server takes requests and says nothing.
            server.send_signal(signal.SIGSTOP)
            for _ in range(5):
                found = live.signals(*SYMBOLS).json()
                assert found["features"]["source"] == "snapshot"
                assert_same(found["signals"], before)
            until(lambda: not live.ready(), what="readiness false while Redis is frozen")
            server.send_signal(signal.SIGCONT)
            until(live.ready, what="readiness after Redis went on")
            until(lambda: source(live) == "store", what="answers from the store")

            server.kill()
            server.wait()
            found = live.signals(*SYMBOLS).json()
            assert found["features"]["source"] == "snapshot"
            assert_same(found["signals"], before)
            until(
                lambda: not live.ready() and "did not answer" in live.check("store")["reason"],
                what="readiness false without Redis",
            )

            # It comes back empty, as a cache does, and is filled again.
            with redis_server(tmp_path, port):
                assert source(live) == "snapshot"
                put_online(run.market, run.folder, store)
                until(live.ready, what="readiness with Redis back")
                until(lambda: source(live) == "store", what="answers from the store")
            assert "Traceback" not in live.log.read_text()


def test_readiness_without_champion_without_store_and_with_old_features(small_run, tmp_path):
    run = copy_run(small_run, tmp_path / "run")
    hidden = tmp_path / "hidden"
    shutil.move(run.folder / "feature_store", hidden)
    with live_service(run.plan({"max_feature_age_hours": 24.0}), ready=False) as live:
        until(lambda: live.check("store")["ok"] is False, what="the first look")
        assert not live.ready()
        assert "There is no feature store" in live.check("store")["reason"]
        assert live.check("champion")["reason"].startswith("there is no champion")
        for answer in (live.signals("S01"), live.client.get("/model")):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_champion")
            assert int(answer.headers["retry-after"]) >= 1

        crown(run.folder, run.bundles[0], 1)
        until(lambda: live.check("champion")["ok"], what="the champion without a store")
        assert (live.signals("S01").status_code, live.signals("S01").json()["error"]["code"]) == (
            503,
            "store_unavailable",
        )
        assert live.client.get("/model").json()["version"] == 1

        shutil.move(hidden, run.folder / "feature_store")
        until(lambda: live.check("store")["ok"], what="the store")
        assert not live.ready()
        assert "h ago (limit 24 h)" in live.check("features_fresh")["reason"]
        signals = live.signals(*run.market.symbols).json()["signals"]
        assert all(signal["stale"] and signal["position"] == 0 for signal in signals)
        assert live.metric("ready") == 0

        # The same market, moved to end yesterday.
        shift = datetime.now(UTC) - timedelta(hours=2) - run.market.factors["timestamp"].max()
        moved = run.market.factors.with_columns(pl.col("timestamp", "known_time") + shift)
        put_online(dataclasses.replace(run.market, factors=moved), run.folder)
        until(live.ready, what="readiness with fresh features")
        fresh = live.signals(*run.market.symbols).json()["signals"]
        assert not any(signal["stale"] for signal in fresh if not signal["behind"])
        assert any(signal["position"] for signal in fresh)
        assert live.metric("ready") == 1
