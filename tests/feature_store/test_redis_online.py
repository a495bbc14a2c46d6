"""The online store on a real Redis server: the same values as SQLite, and what a missing server says."""

import contextlib
import shutil
import socket
import subprocess
import time

import numpy as np
import polars as pl
import pytest
import redis

from components.contracts import AlphaloopError, CatalogEntry
from components.feature_store.config import Settings
from components.feature_store.lookup import newest_values, read_windows
from components.feature_store.online_state import holds_online
from components.feature_store.publication import FactorTable, FeatureStoreError
from components.feature_store.redis_address import parse_redis_address
from components.feature_store.store import open_store, publish_factors, put_online

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed (Debian package redis-server)"
)

VARIABLE = "ALPHALOOP_TEST_REDIS"
SQLITE = Settings(lookback_bars=3)
REDIS = Settings(lookback_bars=3, online="redis", redis_variable=VARIABLE)
CATALOG = [
    CatalogEntry("x_z", "x", "trend", "input", "zscore", 1, "x", "test"),
    CatalogEntry("y_z", "y", "volatility", "input", "zscore", 1, "y", "test"),
    CatalogEntry("x", "x", "trend", "raw", "none", 1, "x", "test"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    command = [
        "redis-server",
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and server.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"127.0.0.1:{port},db=0"
    finally:
        server.terminate()
        server.wait(timeout=20)


def make_factors(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    moments = pl.datetime_range(
        pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 6), "1d", time_unit="us", time_zone="UTC", eager=True
    )
    frame = (
        pl.DataFrame({"timestamp": moments})
        .join(pl.DataFrame({"symbol": ["A", "B"]}), how="cross")
        .with_columns(pl.col("timestamp").alias("known_time"))
    )
    return frame.with_columns(
        pl.Series(entry.column, rng.normal(size=len(frame)), dtype=pl.Float32) for entry in CATALOG
    )


def test_a_redis_that_lost_its_memory_no_longer_holds_what_was_put_there(connection, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, connection)
    publication = publish_factors(FactorTable(make_factors(1), CATALOG, "1d"), REDIS, tmp_path)
    put_online(publication, REDIS, tmp_path)
    assert holds_online(publication, REDIS, tmp_path)
    assert not holds_online({**publication, "publication": "another"}, REDIS, tmp_path)
    host, port, options = parse_redis_address(connection, VARIABLE)
    with contextlib.closing(redis.Redis(host, port, db=int(options["db"]))) as server:
        server.flushdb()
    assert not holds_online(publication, REDIS, tmp_path)
    put_online(publication, REDIS, tmp_path)
    assert holds_online(publication, REDIS, tmp_path)
    monkeypatch.setenv(VARIABLE, f"127.0.0.1:{free_port()},db=0")
    # Redis's client asks again and again, and waits seconds in between.
    monkeypatch.setattr("redis.retry.sleep", lambda seconds: None)
    assert not holds_online(publication, REDIS, tmp_path)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("redis://ada:secret@cache:6379/0", "holds a redis:// address"),
        ("rediss://cache:6380", "ssl=true for rediss"),
        ("unix:///run/redis.sock", "holds a unix:// address"),
        ("localhost", "does not begin with host:port"),
        ("localhost,db=0", "does not begin with host:port"),
        ("localhost:port,db=0", "does not begin with host:port"),
        (":6379", "does not begin with host:port"),
        ("localhost:70000", "does not begin with host:port"),
        ("[::1]:6379", "does not begin with host:port"),
        ("password=secret,localhost:6379", "does not begin with host:port"),
        ("one:6379,two:6379", "Several nodes are for a Redis cluster"),
        ("localhost:6379,password=", "is no setting"),
    ],
)
def test_an_address_in_another_form_is_one_sentence(tmp_path, monkeypatch, address, says):
    monkeypatch.setenv(VARIABLE, address)
    publication = publish_factors(FactorTable(make_factors(1), CATALOG, "1d"), REDIS, tmp_path)
    with pytest.raises(AlphaloopError, match=says) as raised:
        put_online(publication, REDIS, tmp_path)
    assert VARIABLE in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("address", ["localhost:6379", "10.0.0.1:1,db=2,ssl=true,password=a=b"])
def test_an_address_in_feasts_form_is_taken(address):
    host, port, _ = parse_redis_address(address, VARIABLE)
    assert f"{host}:{port}" == address.split(",")[0]


def test_redis_serves_what_sqlite_serves(connection, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, connection)
    # The second table corrects the first at the same timestamps.
    for seed in (1, 2):
        answers = {}
        for settings in (SQLITE, REDIS):
            publication = publish_factors(
                FactorTable(make_factors(seed), CATALOG, "1d"), settings, tmp_path / settings.online
            )
            put_online(publication, settings, tmp_path / settings.online)
            windows, moments = read_windows(
                open_store(settings, tmp_path / settings.online), publication, ["B", "A"]
            )
            answers[settings.online] = (
                newest_values(["A", "B"], settings, tmp_path / settings.online).drop("age_hours"),
                windows,
                moments,
            )
        assert answers["sqlite"][0].equals(answers["redis"][0])
        np.testing.assert_array_equal(answers["sqlite"][1], answers["redis"][1])
        assert answers["sqlite"][2] == answers["redis"][2]
        newest = make_factors(seed).tail(2)
        assert answers["redis"][0]["value"].to_list() == newest["x"].to_list()


def test_a_server_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, f"127.0.0.1:{free_port()},db=0")
    monkeypatch.setattr("redis.retry.sleep", lambda seconds: None)
    publication = publish_factors(FactorTable(make_factors(1), CATALOG, "1d"), REDIS, tmp_path)
    with pytest.raises(FeatureStoreError, match=f"server that {VARIABLE} names did not answer"):
        put_online(publication, REDIS, tmp_path)
    assert not (tmp_path / "current.json").exists()
