"""Feast's command line and SDK on the folder of a feature store, moved and asked from anywhere, with SQLite
and with a real Redis.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from components.contracts import CatalogEntry
from components.feature_store.config import Settings
from components.feature_store.publication import FactorTable
from components.feature_store.store import FEAST_OBJECTS, publish_factors, put_online
from tests.stores import redis_server

VARIABLE = "ALPHALOOP_REDIS"
CATALOG = [
    CatalogEntry("x_z", "x", "trend", "input", "zscore", 1, "x", "test"),
    CatalogEntry("y_z", "y", "volatility", "input", "zscore", 1, "y", "test"),
    CatalogEntry("x", "x", "trend", "raw", "none", 1, "x", "test"),
]
SYMBOLS = ["A", "B"]


def make_factors() -> pl.DataFrame:
    """Six days; the last one of B was known a day late."""
    days = pl.datetime_range(
        pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 6), "1d", time_unit="us", time_zone="UTC", eager=True
    )
    keys = pl.DataFrame({"timestamp": days}).join(pl.DataFrame({"symbol": SYMBOLS}), how="cross")
    late = (pl.col("symbol") == "B") & (pl.col("timestamp") == days[-1])
    known = pl.when(late).then(pl.col("timestamp") + pl.duration(days=1)).otherwise("timestamp")
    random = np.random.default_rng(1)
    values = {item.column: pl.Series(random.normal(size=len(keys)), dtype=pl.Float32) for item in CATALOG}
    return keys.with_columns(known_time=known, **values)


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def moved(request, tmp_path_factory) -> Path:
    """A store's folder, moved after it was written."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "redis":
            server = request.getfixturevalue("redis")
            patch.setenv(VARIABLE, server)
        settings, folder = Settings(online=request.param, lookback_bars=3), tmp_path_factory.mktemp("store")
        written = folder / "written"
        publication = publish_factors(FactorTable(make_factors(), CATALOG, "1d"), settings, written)
        put_online(publication, settings, written)
        patch.delenv("ALPHALOOP_FEATURE_STORE", raising=False)
        patch.chdir("/")
        yield Path(shutil.move(written, folder / "moved"))


@pytest.fixture(scope="module")
def redis():
    with redis_server() as server:
        yield server.address


def feast(folder: Path, *words: str) -> str:
    """What Feast's command line says. It changes folder, search path and bytecode setting of its process, and
    imports the objects of the folder.
    """
    from click.testing import CliRunner
    from feast.cli.cli import cli

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("/")
        patch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
        patch.setattr(sys, "path", list(sys.path))
        patch.delitem(sys.modules, FEAST_OBJECTS, raising=False)
        result = CliRunner().invoke(cli, ["-c", str(folder), *words], catch_exceptions=False)
        sys.modules.pop(FEAST_OBJECTS, None)
    assert result.exit_code == 0, result.output
    return result.output


def service(store) -> str:
    return next(one.name for one in store.list_feature_services() if one.name.startswith("alpha_"))


def test_the_sdk_reads_online_and_historical_features(moved):
    from feast import FeatureStore

    store, factors = FeatureStore(repo_path=str(moved)), make_factors()
    alpha = store.get_feature_service(service(store))
    online = store.get_online_features(alpha, [{"symbol": symbol} for symbol in SYMBOLS]).to_dict()
    newest = factors.sort("timestamp").group_by("symbol", maintain_order=True).last().sort("symbol")
    for column in ("x_z", "y_z"):
        assert online[column] == newest[column].to_list()
    moments = pd.to_datetime(["2024-01-06T12:00", "2024-01-06T12:00", "2024-01-07T12:00"], utc=True)
    asked = pd.DataFrame({"symbol": ["A", "B", "B"], "event_timestamp": moments})
    found = store.get_historical_features(asked, alpha).to_df()
    # What B's last bar held was known a day later.
    by_hand = [factors.filter(symbol=name)["x_z"][place] for name, place in (("A", -1), ("B", -2), ("B", -1))]
    assert found["x_z"].tolist() == by_hand


def test_the_command_line_lists_what_is_there_and_apply_keeps_it(moved):
    """Without the folder's own objects, `feast apply` would take all of them out of its registry."""
    from feast import FeatureStore

    def listed() -> set[str]:
        views, services = feast(moved, "feature-views", "list"), feast(moved, "feature-services", "list")
        return {line.split()[0] for line in (views + services).splitlines()}

    before = listed()
    assert {"trend", "volatility", "sequence"} <= before
    assert any(name.startswith("alpha_v") for name in before)
    assert "Deleted" not in feast(moved, "apply")
    assert listed() == before
    online = FeatureStore(repo_path=str(moved)).get_online_features(["trend:x"], [{"symbol": "A"}])
    assert online.to_dict()["x"] == [make_factors().filter(symbol="A")["x"][-1]]
    (moved / f"{FEAST_OBJECTS}.py").rename(moved / "put_away")
    feast(moved, "apply")
    assert "sequence" not in listed()


def test_no_file_of_the_folder_holds_the_connection(moved):
    assert (moved / "online.db").exists() or f"${{{VARIABLE}}}" in (moved / "feature_store.yaml").read_text()
    for path in moved.rglob("*"):
        assert not path.is_file() or b"127.0.0.1" not in path.read_bytes(), path
