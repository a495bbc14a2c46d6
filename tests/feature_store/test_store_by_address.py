"""A feature store on S3 and Redis: published in one process, joined in another, looked up in a third, each
with nothing but the addresses.
"""

import numpy as np
import polars as pl
import pytest

from components.contracts import (
    FACTORS,
    PANEL,
    UNIVERSE,
    CatalogEntry,
    require_json,
    write_catalog,
    write_table,
)
from components.feature_store.by_address import online_view
from components.feature_store.config import Settings
from components.feature_store.lookup import newest_values
from components.feature_store.publication import FeatureStoreError
from components.feature_store.run import (
    Described,
    Factors,
    TrainingInputs,
    run_make_training_set,
    run_materialise,
)
from components.lasting.file_systems import LastingError
from components.lasting.folder import LastingFolder, opened
from tests.stores import redis_server

VARIABLE = "ALPHALOOP_TEST_REDIS"
REDIS = Settings(lookback_bars=3, online="redis", redis_variable=VARIABLE, keep_publications=2)
CATALOG = [
    CatalogEntry("x_z", "x", "trend", "input", "zscore", 1, "x", "test"),
    CatalogEntry("x", "x", "trend", "raw", "none", 1, "x", "test"),
]
CODE = {"code_version": "c", "config_hash": "h", "inputs": {}}


@pytest.fixture(scope="module")
def server(led_s3):
    with redis_server() as redis, pytest.MonkeyPatch.context() as patch:
        for name, value in {**led_s3.environment, VARIABLE: redis.address}.items():
            patch.setenv(name, value)
        yield led_s3


def make_market(folder, seed):
    """Panel, factors and catalog of two symbols in a folder, as the stages before leave them."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    days = pl.datetime_range(
        pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 6), "1d", time_unit="us", time_zone="UTC", eager=True
    )
    keys = pl.DataFrame({"timestamp": days}).join(pl.DataFrame({"symbol": ["A", "B"]}), how="cross")
    keys = keys.with_columns(pl.col("timestamp").alias("known_time"))
    values = {item.column: pl.Series(rng.normal(size=len(keys)), dtype=pl.Float32) for item in CATALOG}
    write_table(keys.with_columns(**values), folder / "factors", FACTORS, **CODE)
    prices = dict.fromkeys(("open", "high", "low", "close"), pl.lit(10.0))
    panel = keys.with_columns(
        **prices, volume=pl.lit(5.0), sector=pl.lit("all"), period=pl.lit("1d"), event_time="timestamp"
    )
    write_table(panel, folder / "panel", PANEL, **CODE)
    universe = keys.select("timestamp", "symbol", traded_value=pl.lit(50.0), tradable=pl.lit(True))
    write_table(universe, folder / "universe", UNIVERSE, **CODE)
    write_catalog(CATALOG, folder / "catalog")
    return folder


def materialise(market, store):
    run_materialise(
        Factors(*(market / name for name in ("factors", "catalog", "panel", "universe"))),
        Described(market / "registry", market / "online_universe"),
        folder=store,
        period="1d",
        settings=REDIS.model_dump_json(),
        code="c",
    )


def join(market, store, settings=REDIS):
    publication = require_json(market / "registry")["publication"]
    inputs = TrainingInputs(*(market / name for name in ("factors", "catalog", "panel")), publication, "1d")
    run_make_training_set(
        inputs, market / "training_set", folder=store, settings=settings.model_dump_json(), code="c"
    )
    return pl.read_parquet(market / "training_set")


def newest(store):
    with online_view(store) as folder:
        return newest_values(["A", "B"], REDIS, folder)["value"].to_list()


def test_nothing_but_addresses_is_needed(server, tmp_path):
    store = f"{server.address}/{tmp_path.name}/feature_store"
    with pytest.raises(FeatureStoreError, match=f"There is no feature store in {store}"):
        newest(store)
    for seed in (1, 2, 3, 4):
        market = make_market(tmp_path / str(seed), seed)
        materialise(market, store)
        factors = pl.read_parquet(market / "factors")
        assert newest(store) == factors["x"].tail(2).to_list()
        assert join(market, store)["x_z"].to_list() == factors["x_z"].to_list()
    names = list(LastingFolder.at(store).names())
    # Beside the kept ones the one that was current until the last put.
    kept = {name.split("/")[1] for name in names if name.startswith("data/")}
    assert len(kept) == REDIS.keep_publications + 1
    # A training set of factors whose publication was pruned meanwhile brings its files back.
    assert len(join(tmp_path / "1", store)) == 12
    assert newest(store) == factors["x"].tail(2).to_list()


def test_feast_itself_reads_registry_and_values_by_address(server, tmp_path, monkeypatch):
    pytest.importorskip("boto3", reason="boto3 is not installed (extra server)")
    from feast import FeatureStore

    store = f"{server.address}/{tmp_path.name}/feature_store"
    market = make_market(tmp_path / "market", 1)
    materialise(market, store)
    with opened(store, lambda name: name == "feature_store.yaml") as folder:
        (tmp_path / "feature_store.yaml").write_text((folder / "feature_store.yaml").read_text())
    feast = FeatureStore(str(tmp_path))
    factors = pl.read_parquet(market / "factors")
    online = feast.get_online_features(["trend:x"], [{"symbol": "A"}, {"symbol": "B"}]).to_dict()
    assert online["x"] == factors["x"].tail(2).to_list()
    rows = factors.select("symbol", event_timestamp="timestamp").to_pandas()
    joined = feast.get_historical_features(rows, ["trend:x_z"]).to_df()
    assert joined["x_z"].to_list() == factors["x_z"].to_list()


def test_feast_itself_works_in_a_store_that_is_a_folder_by_its_address(server, tmp_path):
    from feast import FeatureStore

    place = tmp_path / "kept in here"
    market = make_market(tmp_path / "market", 1)
    materialise(market, f"file://{tmp_path}/kept%20in%20here")
    feast = FeatureStore(str(place.rename(tmp_path / "moved")))
    factors = pl.read_parquet(market / "factors")
    online = feast.get_online_features(["trend:x"], [{"symbol": "A"}, {"symbol": "B"}]).to_dict()
    assert online["x"] == factors["x"].tail(2).to_list()
    rows = factors.select("symbol", event_timestamp="timestamp").to_pandas()
    joined = feast.get_historical_features(rows, ["trend:x_z"]).to_df()
    assert joined["x_z"].to_list() == factors["x_z"].to_list()


def test_of_two_at_once_the_last_is_current_and_whole(server, tmp_path, monkeypatch):
    store = f"{server.address}/{tmp_path.name}/feature_store"
    slow, quick = (make_market(tmp_path / name, seed) for name, seed in (("slow", 1), ("quick", 2)))
    original = LastingFolder.put

    def put(self, source, before, **options):
        monkeypatch.undo()
        materialise(quick, store)
        return original(self, source, before, **options)

    monkeypatch.setattr(LastingFolder, "put", put)
    materialise(slow, store)
    for market in (slow, quick):
        assert len(join(market, store)) == 12
    with online_view(store) as folder:
        from components.feature_store.store import open_store

        sources = {view.batch_source.path for view in open_store(REDIS, folder).list_feature_views()}
    published = read_published(slow)
    assert sources == {f"{store}/data/{published}/{name}.parquet" for name in ("trend", "sequence")}


def read_published(market):
    from components.contracts import require_json

    return require_json(market / "registry")["publication"]


def test_a_store_that_is_gone_leaves_what_was_current(server, tmp_path):
    store = f"{server.address}/{tmp_path.name}/feature_store"
    materialise(make_market(tmp_path / "one", 1), store)
    other = make_market(tmp_path / "other", 2)
    server.way.cut()
    with pytest.raises(LastingError, match="no S3 server answers"):
        materialise(other, store)
    server.way.mend()
    assert not (other / "registry").exists()
    materialise(other, store)
    assert newest(store) == pl.read_parquet(other / "factors")["x"].tail(2).to_list()


def test_a_training_set_of_an_old_publication_leaves_what_is_online(server, tmp_path):
    """Whatever the store's times say of which is older: it is brought back beside what is online."""
    store = f"{server.address}/{tmp_path.name}/feature_store"
    for seed in (1, 2, 3, 4):
        materialise(make_market(tmp_path / str(seed), seed), store)
    online = newest(store)
    assert len(join(tmp_path / "1", store, REDIS.model_copy(update={"keep_publications": 1}))) == 12
    assert newest(store) == online
