"""The feature store end to end on small tables: publishing, online values, training sets, lookup, and what
goes wrong.
"""

import contextlib
import json
import runpy
import shutil
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import feature_repo
from components.contracts import (
    FACTORS,
    PANEL,
    RETURN_COLUMN,
    TRAINING_SET,
    UNIVERSE,
    CatalogEntry,
    ContractError,
    check_table,
    content_sha256,
    read_stamp,
    read_table,
    require_json,
    write_catalog,
    write_table,
)
from components.feature_store import store as feature_store
from components.feature_store.config import Settings
from components.feature_store.lookup import newest_values, read_windows
from components.feature_store.online_state import holds_online
from components.feature_store.online_universe import OnlineUniverse, read_online_universe
from components.feature_store.publication import (
    FactorTable,
    FeatureStoreError,
    read_current,
    row_type,
    sequence_rows,
    verify_publication,
    write_publication,
)
from components.feature_store.run import TrainingInputs, run_make_training_set
from components.feature_store.store import (
    _own_yaml,
    open_store,
    publication_store,
    publish_factors,
    put_online,
    restore,
    training_set,
)
from feature_repo import offline_store

START = datetime(2024, 1, 1, 21, tzinfo=UTC)
SYMBOLS = ["AAPL", "MSFT", "NVDA"]
BARS = 8
LATE = timedelta(days=2, hours=1)
SETTINGS = Settings(lookback_bars=4, ttl_days=3)


def entry(column: str, group: str, role: str) -> CatalogEntry:
    return CatalogEntry(
        column=column,
        factor=column.removesuffix("_z"),
        group=group,
        role=role,
        normalisation="none",
        warm_up_bars=1,
        expression=column,
        source="test",
    )


# The model's order is not the order of the groups.
CATALOG = [
    entry("rsi_z", "mean_reversion", "input"),
    entry("slope_z", "trend", "input"),
    entry("gap_z", "mean_reversion", "input"),
    entry("regime_state", "regime", "context"),
    entry("volatility_20", "volatility", "context"),
    entry("rsi", "mean_reversion", "raw"),
    entry("slope", "trend", "raw"),
]


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def make_factors(shift: float = 0.0) -> pl.DataFrame:
    """Value = bar + 100 x symbol + 1000 x column; NVDA stops trading after bar 5, MSFT's bar 6 was known two
    days late.
    """
    rows = [
        (day(bar), symbol, day(bar) + (LATE if (symbol, bar) == ("MSFT", 6) else timedelta()), bar, place)
        for bar in range(BARS)
        for place, symbol in enumerate(SYMBOLS)
    ]
    frame = pl.DataFrame(
        rows,
        schema={
            "timestamp": pl.Datetime("us", "UTC"),
            "symbol": pl.String,
            "known_time": pl.Datetime("us", "UTC"),
            "bar": pl.Int64,
            "place": pl.Int64,
        },
        orient="row",
    )
    frame = frame.filter(~((pl.col("symbol") == "NVDA") & (pl.col("bar") > 5)))
    values = [
        (pl.col("bar") + 100 * pl.col("place") + 1000 * number + shift).cast(pl.Float32).alias(item.column)
        for number, item in enumerate(CATALOG)
    ]
    frame = frame.with_columns(values).drop("bar", "place")
    return check_table(
        frame.with_columns(pl.when(pl.col("rsi_z") == 2).then(None).otherwise("rsi_z").alias("rsi_z")),
        FACTORS,
    )


def value(symbol: str, bar: int, column: str) -> float:
    return bar + 100 * SYMBOLS.index(symbol) + 1000 * [item.column for item in CATALOG].index(column)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    publication = publish_factors(FactorTable(make_factors(), CATALOG, "1d"), SETTINGS, folder)
    put_online(publication, SETTINGS, folder)
    return folder, publication


@pytest.fixture
def copy(published, tmp_path):
    """The store's files in a folder that a test may spoil; its registry still names the old place, so publish
    again before use.
    """
    folder, publication = published
    shutil.copytree(folder, tmp_path / "store")
    return tmp_path / "store", publication


def test_publication_describes_service_schema_and_views(published):
    folder, publication = published
    assert publication["columns"] == ["rsi_z", "slope_z", "gap_z"]
    assert publication["context"] == ["regime_state", "volatility_20"]
    assert publication["views"] == {
        "mean_reversion": ["rsi_z", "gap_z", "rsi"],
        "trend": ["slope_z", "slope"],
        "regime": ["regime_state"],
        "volatility": ["volatility_20"],
    }
    assert publication["service"] == f"alpha_v{publication['schema']}"
    assert publication["factors_sha256"] == content_sha256(make_factors())
    files = {path.name for path in (folder / "data" / publication["publication"]).iterdir()}
    assert files == {
        "mean_reversion.parquet",
        "trend.parquet",
        "regime.parquet",
        "volatility.parquet",
        "sequence.parquet",
        "publication.json",
    }
    assert read_current(folder) == publication


def test_registry_holds_the_service_with_its_column_order(published):
    folder, publication = published
    service = open_store(SETTINGS, folder).get_feature_service(publication["service"])
    assert json.loads(service.tags["columns"]) == [
        "rsi_z",
        "slope_z",
        "gap_z",
        "regime_state",
        "volatility_20",
    ]
    assert service.tags["schema"] == publication["schema"]


def test_another_order_of_inputs_is_another_schema(tmp_path, published):
    reordered = [CATALOG[1], CATALOG[0], *CATALOG[2:]]
    assert (
        write_publication(FactorTable(make_factors(), reordered, "1d"), SETTINGS, tmp_path)["schema"]
        != published[1]["schema"]
    )


def test_training_set_holds_what_was_known(published):
    folder, publication = published
    rows = pl.DataFrame(
        {
            "timestamp": [day(6), day(7), day(7.5), day(8.5)],
            "symbol": ["MSFT", "AAPL", "NVDA", "NVDA"],
            "sector": ["tech", "tech", "chips", "chips"],
        },
        schema={"timestamp": pl.Datetime("us", "UTC"), "symbol": pl.String, "sector": pl.String},
    )
    with publication_store(publication, folder) as store:
        table = training_set(store, publication["service"], rows)
    assert table.columns == [
        "timestamp",
        "symbol",
        "sector",
        "rsi_z",
        "slope_z",
        "gap_z",
        "regime_state",
        "volatility_20",
    ]
    assert table.schema["rsi_z"] == pl.Float32
    assert table.select("timestamp", "symbol", "sector").equals(rows)
    # MSFT's bar 6 was not yet known at its own close; NVDA's bar 5 has expired after three days.
    assert table["slope_z"].to_list() == [
        value("MSFT", 5, "slope_z"),
        value("AAPL", 7, "slope_z"),
        value("NVDA", 5, "slope_z"),
        None,
    ]
    assert table["gap_z"].to_list() == [
        value("MSFT", 5, "gap_z"),
        value("AAPL", 7, "gap_z"),
        value("NVDA", 5, "gap_z"),
        None,
    ]


def made_training_set(folder, publication, name):
    inputs = TrainingInputs(
        *(folder / f"inputs/{file}" for file in ("factors.parquet", "catalog.json", "panel.parquet")),
        publication["publication"],
        "1d",
    )
    settings = SETTINGS.model_dump_json()
    run_make_training_set(inputs, folder / name, folder=str(folder / "store"), settings=settings, code="c")
    return (folder / name).read_bytes()


def test_a_training_set_is_the_same_however_its_rows_are_cut(copy, tmp_path, monkeypatch):
    """MSFT's bar 6 is not known at its close: what is joined there stands in an earlier cut."""
    _, publication = copy
    (tmp_path / "inputs").mkdir()
    write_inputs(tmp_path / "inputs", make_factors())
    whole = made_training_set(tmp_path, publication, "whole")
    for rows in (5, 2, 1):
        monkeypatch.setattr(feature_store, "JOINED_AT_ONCE", rows)
        assert made_training_set(tmp_path, publication, f"by_{rows}") == whole
    table = read_table(tmp_path / "by_1", TRAINING_SET)
    late = table.filter(pl.col("symbol") == "MSFT", pl.col("timestamp") == day(6))
    assert late["slope_z"].to_list() == [value("MSFT", 5, "slope_z")]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []

    seen = offline_store._in_sight
    monkeypatch.setattr(
        offline_store,
        "_in_sight",
        lambda features, time, moments, ttl: seen(features, time, moments, timedelta(hours=1)),
    )
    assert made_training_set(tmp_path, publication, "planted") != whole, (
        "planted: a block looks back too little"
    )


def test_online_window_by_hand():
    known = make_factors().filter(pl.col("timestamp") <= day(3))
    rows = sequence_rows(known, ["rsi_z", "slope_z"], ["regime_state"], 3, schema="0123456789ab")
    window = np.frombuffer(rows.filter(pl.col("symbol") == "AAPL")["window"].item(), "<f4").reshape(3, 2)
    np.testing.assert_array_equal(window, np.array([[1, 1001], [np.nan, 1002], [3, 1003]], dtype=np.float32))
    assert rows["symbol"].to_list() == SYMBOLS
    packed = np.frombuffer(b"".join(rows["row"]), row_type(3))
    assert packed["values"].tolist() == [[3, 1003, 3003], [103, 1103, 3103], [203, 1203, 3203]]
    assert (
        packed["timestamp_us"].tolist()
        == packed["known_at_us"].tolist()
        == [int(day(3).timestamp() * 1e6)] * 3
    )
    assert set(packed["schema"].tolist()) == {b"0123456789ab"}


def test_short_history_is_padded_in_front():
    rows = sequence_rows(make_factors().filter(pl.col("timestamp") <= day(1)), ["slope_z"], [], 4)
    window = np.frombuffer(rows["window"][0], "<f4")
    np.testing.assert_array_equal(window, np.array([np.nan, np.nan, 1000, 1001], dtype=np.float32))
    assert np.frombuffer(rows["row"][0], row_type(1))["values"].tolist() == [[1001]]


def test_a_row_holds_the_returns_of_its_last_bars():
    known = make_factors().rename({"slope_z": RETURN_COLUMN})
    rows = sequence_rows(known.filter(pl.col("timestamp") <= day(3)), ["rsi_z"], [], 1, past_return_bars=6)
    packed = np.frombuffer(b"".join(rows["row"]), row_type(7))["values"]
    np.testing.assert_array_equal(packed[0], [3, np.nan, np.nan, 1000, 1001, 1002, 1003])
    np.testing.assert_array_equal(packed[1, 3:], [1100, 1101, 1102, 1103])


def test_windows_come_back_from_the_online_store(published):
    folder, publication = published
    windows, moments = read_windows(open_store(SETTINGS, folder), publication, ["MSFT", "NVDA"])
    assert windows.shape == (2, 4, 3)
    assert windows.dtype == np.float32
    expected = [[value("MSFT", bar, column) for column in publication["columns"]] for bar in range(4, 8)]
    np.testing.assert_array_equal(windows[0], np.array(expected, dtype=np.float32))
    assert moments == [day(7), day(5)]


def test_lookup_shows_newest_values_with_their_times(published):
    folder, _ = published
    table = newest_values(["NVDA", "AAPL"], SETTINGS, folder, now=day(10.5))
    assert table.select("symbol", "group", "column", "value").rows() == [
        ("NVDA", "mean_reversion", "rsi", value("NVDA", 5, "rsi")),
        ("NVDA", "trend", "slope", value("NVDA", 5, "slope")),
        ("AAPL", "mean_reversion", "rsi", value("AAPL", 7, "rsi")),
        ("AAPL", "trend", "slope", value("AAPL", 7, "slope")),
    ]
    assert table["timestamp"].to_list() == [day(5), day(5), day(7), day(7)]
    assert table["known_time"].to_list() == [day(5), day(5), day(7), day(7)]
    assert table["age_hours"].to_list() == [132, 132, 84, 84]
    assert table["stale"].to_list() == [True, True, False, False]
    assert table["behind"].to_list() == [True, True, False, False]


def test_unknown_symbols_are_named_with_close_matches(published):
    with pytest.raises(
        FeatureStoreError, match=r"'APPL' is not in the feature store \(3 symbols\). Closest: AAPL"
    ):
        newest_values(["MSFT", "APPL"], SETTINGS, published[0])
    with pytest.raises(FeatureStoreError, match="Closest: MSFT"):
        newest_values(["msft"], SETTINGS, published[0])
    with pytest.raises(FeatureStoreError, match="starts with AAPL, MSFT, NVDA"):
        newest_values(["ZZZZZZ"], SETTINGS, published[0])
    with pytest.raises(FeatureStoreError, match="No symbol"):
        newest_values([], SETTINGS, published[0])


def test_no_store_says_what_to_run(tmp_path):
    with pytest.raises(FeatureStoreError, match="Run `alphaloop materialise` or `alphaloop run` first"):
        newest_values(["AAPL"], SETTINGS, tmp_path / "nothing")
    (tmp_path / "current.json").write_text('{"half')
    with pytest.raises(FeatureStoreError, match="missing or unreadable"):
        open_store(SETTINGS, tmp_path)


def test_nothing_known_after_the_cut_goes_online(tmp_path):
    publication = publish_factors(FactorTable(make_factors(), CATALOG, "1d"), SETTINGS, tmp_path, cut=day(6))
    put_online(publication, SETTINGS, tmp_path)
    table = newest_values(SYMBOLS, SETTINGS, tmp_path, now=day(7))
    assert dict(table.filter(pl.col("column") == "slope").select("symbol", "value").rows()) == {
        "AAPL": value("AAPL", 6, "slope"),
        "MSFT": value("MSFT", 5, "slope"),
        "NVDA": value("NVDA", 5, "slope"),
    }
    windows, moments = read_windows(open_store(SETTINGS, tmp_path), publication, ["MSFT"])
    assert moments == [day(5)]
    assert windows[0, -1, 1] == value("MSFT", 5, "slope_z")


def test_corrected_values_replace_those_of_the_same_bar(tmp_path):
    for shift in (0.0, 0.5):
        put_online(
            publish_factors(FactorTable(make_factors(shift), CATALOG, "1d"), SETTINGS, tmp_path),
            SETTINGS,
            tmp_path,
        )
        assert newest_values(["AAPL"], SETTINGS, tmp_path)["value"].to_list() == [
            value("AAPL", 7, column) + shift for column in ("rsi", "slope")
        ]


def test_publishing_does_not_touch_what_is_online(copy):
    folder, publication = copy
    other = publish_factors(FactorTable(make_factors(0.5), CATALOG, "1d"), SETTINGS, folder)
    assert other["publication"] != publication["publication"]
    assert read_current(folder) == publication


def test_a_whole_publication_is_kept_and_a_damaged_one_is_written_anew(copy):
    folder, publication = copy
    file = folder / "data" / publication["publication"] / "trend.parquet"
    before = file.stat().st_mtime_ns
    assert write_publication(FactorTable(make_factors(), CATALOG, "1d"), SETTINGS, folder) == publication
    assert file.stat().st_mtime_ns == before
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(FeatureStoreError, match=r"trend\.parquet is missing or differs"):
        verify_publication(publication, folder)
    write_publication(FactorTable(make_factors(), CATALOG, "1d"), SETTINGS, folder)
    verify_publication(publication, folder)


def test_a_crash_while_writing_online_is_repaired_by_the_next_run(copy, monkeypatch):
    folder, publication = copy
    from feast.infra.online_stores.sqlite import SqliteOnlineStore

    other = publish_factors(FactorTable(make_factors(0.5), CATALOG, "1d"), SETTINGS, folder)
    write, calls = SqliteOnlineStore.online_write_batch, []

    def die_at_the_third_view(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(self, *arguments, **options)

    registry = (folder / "registry.db").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(SqliteOnlineStore, "online_write_batch", die_at_the_third_view)
        with pytest.raises(KeyboardInterrupt):
            put_online(other, SETTINGS, folder)
    assert (folder / "registry.db").read_bytes() == registry
    assert read_current(folder) == publication
    put_online(other, SETTINGS, folder)
    assert newest_values(["AAPL"], SETTINGS, folder)["value"].to_list() == [
        value("AAPL", 7, column) + 0.5 for column in ("rsi", "slope")
    ]


def test_a_broken_online_database_is_rebuilt(copy):
    folder, publication = copy
    (folder / "online.db").write_bytes(b"SQLite format 3\0" + b"torn" * 1000)
    (folder / "registry.db").write_bytes(b"torn")
    put_online(publication, SETTINGS, folder)
    assert len(newest_values(["AAPL"], SETTINGS, folder)) == 2


def test_old_publications_are_deleted_but_not_the_one_online(copy):
    folder, publication = copy
    for shift in range(1, 5):
        two = SETTINGS.model_copy(update={"keep_publications": 2})
        newest = write_publication(FactorTable(make_factors(shift), CATALOG, "1d"), two, folder)
    names = {path.name for path in (folder / "data").iterdir()}
    assert {publication["publication"], newest["publication"]} <= names
    assert len(names) == 3


@pytest.mark.parametrize(
    ("factors", "catalog", "message"),
    [
        (make_factors(), CATALOG[:-1], "lacks the column 'slope'"),
        (make_factors().drop("slope"), CATALOG, "describes 'slope', which the table lacks"),
        (make_factors(), [*CATALOG, CATALOG[0]], "describes 'rsi_z' twice"),
        (make_factors().clear(), CATALOG, "has no rows"),
        (
            make_factors(),
            [entry(item.column, "sequence", item.role) for item in CATALOG],
            "called 'sequence'",
        ),
        (
            make_factors().rename({"slope": "window"}),
            [*CATALOG[:-1], entry("window", "trend", "raw")],
            "called 'window'",
        ),
        (
            make_factors(),
            [entry(item.column, item.group, "raw") for item in CATALOG],
            "no column with the role 'input'",
        ),
    ],
)
def test_what_cannot_be_published_is_refused(tmp_path, factors, catalog, message):
    with pytest.raises(FeatureStoreError, match=message):
        write_publication(FactorTable(factors, catalog, "1d"), SETTINGS, tmp_path)
    assert not (tmp_path / "data").exists()


def test_redis_without_a_connection_says_which_variable(published, monkeypatch):
    monkeypatch.delenv("ALPHALOOP_TEST_REDIS", raising=False)
    with pytest.raises(FeatureStoreError, match="variable ALPHALOOP_TEST_REDIS is not set"):
        open_store(
            SETTINGS.model_copy(update={"online": "redis", "redis_variable": "ALPHALOOP_TEST_REDIS"}),
            published[0],
        )


def write_inputs(folder, factors):
    stamp = {"code_version": "code", "config_hash": "config"}
    write_table(factors, folder / "factors.parquet", FACTORS, **stamp)
    write_catalog(CATALOG, folder / "catalog.json")
    price = {name: pl.lit(1.0) for name in ("open", "high", "low", "close", "volume")}
    panel = factors.select(
        "timestamp",
        "symbol",
        pl.lit("1d").alias("period"),
        pl.col("timestamp").alias("event_time"),
        "known_time",
        **price,
        sector=pl.lit("tech"),
    )
    write_table(panel, folder / "panel.parquet", PANEL, **stamp)
    universe = factors.select(
        "timestamp",
        "symbol",
        pl.lit(None, pl.Float64).alias("traded_value"),
        # AAPL at the last bar alone, the others before it: so is NVDA, which ends earlier.
        (pl.col("symbol") == "AAPL").ne(pl.col("timestamp") < pl.col("timestamp").max()).alias("tradable"),
    )
    write_table(universe, folder / "universe.parquet", UNIVERSE, **stamp)


def restored(publication, inputs, folder, *, catalog=CATALOG, settings=SETTINGS):
    name, factors = publication["publication"], inputs / "factors.parquet"
    return restore(name, factors, catalog, "1d", settings=settings, folder=folder)


def test_restore_accepts_its_own_factors_and_writes_pruned_files_again(copy, tmp_path):
    folder, publication = copy
    write_inputs(tmp_path, make_factors())
    assert restored(publication, tmp_path, folder) == publication
    shutil.rmtree(folder / "data")
    assert restored(publication, tmp_path, folder) == publication
    verify_publication(publication, folder)


def test_restore_refuses_a_mixed_state(published, tmp_path):
    folder, publication = published
    write_inputs(tmp_path, make_factors(0.5))
    with pytest.raises(
        ContractError, match=r"was published from factors \w{12}, but .*factors\.parquet holds factors"
    ):
        restored(publication, tmp_path, folder)
    write_inputs(tmp_path, make_factors())
    with pytest.raises(ContractError, match="the catalog names 2 others"):
        restored(publication, tmp_path, folder, catalog=[CATALOG[0], CATALOG[1], *CATALOG[3:]])
    changed = SETTINGS.model_copy(update={"lookback_bars": 5})
    with pytest.raises(ContractError, match="these settings make"):
        restored(publication, tmp_path, tmp_path / "empty", settings=changed)


class Artifact:
    """Stands for what kfp hands to a door: something with a path."""

    def __init__(self, path):
        self.path = str(path)


def test_doors_publish_and_join(tmp_path):
    from components.feature_store import component

    write_inputs(tmp_path, make_factors())
    files = {
        name: Artifact(tmp_path / name)
        for name in (
            "factors.parquet",
            "panel.parquet",
            "universe.parquet",
            "catalog.json",
            "registry.json",
            "online_universe.json",
            "set.parquet",
        )
    }
    common = {"settings": SETTINGS.model_dump_json(), "folder": str(tmp_path / "store"), "code": "v1"}
    publication = component.materialise.python_func(
        factors=files["factors.parquet"],
        catalog=files["catalog.json"],
        panel=files["panel.parquet"],
        universe=files["universe.parquet"],
        period="1d",
        registry=files["registry.json"],
        online_universe=files["online_universe.json"],
        **common,
    )
    component.make_training_set.python_func(
        factors=files["factors.parquet"],
        panel=files["panel.parquet"],
        catalog=files["catalog.json"],
        publication=publication,
        period="1d",
        training_set=files["set.parquet"],
        **common,
    )
    table = read_table(tmp_path / "set.parquet", TRAINING_SET)
    assert len(table) == len(make_factors())
    assert read_stamp(tmp_path / "set.parquet").inputs == {
        name: read_stamp(tmp_path / f"{name}.parquet").content_sha256 for name in ("factors", "panel")
    }
    described = require_json(tmp_path / "registry.json")
    assert described["service"].startswith("alpha_v")
    assert described["publication"] == publication
    current = require_json(tmp_path / "store" / "current.json")
    panel = read_table(tmp_path / "panel.parquet", PANEL)
    newest = {symbol: moment for moment, symbol in make_factors().select("timestamp", "symbol").rows()}
    for symbol, moment in newest.items():
        close = panel.row(
            by_predicate=(pl.col("symbol") == symbol) & (pl.col("timestamp") == moment), named=True
        )["close"]
        assert current["closes"][symbol] == [int(moment.timestamp() * 1e6), close]
    assert "closes" not in described, "a model's features are not made of them"
    # The universe of the newest bars stands beside what is online, and is no part of the publication.
    current, beside = read_current(tmp_path / "store"), require_json(tmp_path / "online_universe.json")
    assert current["universe"] == beside
    assert beside["rules"] == "config"
    assert read_online_universe(current, source="current.json") == OnlineUniverse(
        "config", frozenset({"MSFT"})
    )
    assert "universe" not in described
    assert read_online_universe(described, source="registry.json") is None
    # Letters of a symbol are no symbols.
    for damaged in (["MSFT"], {"rules": "config", "outside": "MSFT"}):
        with pytest.raises(ContractError, match=r"current\.json holds 'universe' of another form"):
            read_online_universe({"universe": damaged}, source="current.json")


def test_the_feast_command_line_applies_the_same_definitions(copy, monkeypatch):
    from click.testing import CliRunner
    from feast.cli.cli import cli

    folder, publication = copy
    repository = Path(feature_repo.__file__).parent
    # The command changes folder, search path and bytecode setting of its process.
    monkeypatch.chdir(repository.parent)
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("ALPHALOOP_FEATURE_STORE", str(folder))
    (folder / "registry.db").unlink()
    result = CliRunner().invoke(cli, ["-c", str(repository), "apply"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    service = open_store(SETTINGS, folder).get_feature_service(publication["service"])
    assert json.loads(service.tags["columns"]) == [*publication["columns"], *publication["context"]]
    assert newest_values(["AAPL"], SETTINGS, folder)["value"].to_list() == [
        value("AAPL", 7, "rsi"),
        value("AAPL", 7, "slope"),
    ]


@pytest.mark.parametrize(
    ("folder", "message"), [(None, "Set ALPHALOOP_FEATURE_STORE"), ("empty", "nothing is published there")]
)
def test_the_feast_command_line_says_what_is_missing(tmp_path, monkeypatch, folder, message):
    if folder:
        monkeypatch.setenv("ALPHALOOP_FEATURE_STORE", str(tmp_path / folder))
    else:
        monkeypatch.delenv("ALPHALOOP_FEATURE_STORE", raising=False)
    with pytest.raises(SystemExit, match=message):
        runpy.run_module("feature_repo.published")


def test_missing_online_values_say_what_to_run(copy):
    folder, publication = copy
    (folder / "online.db").unlink()
    with pytest.raises(
        FeatureStoreError, match=r"online\.db can't be used: no such table.*Run `alphaloop materialise`"
    ):
        newest_values(["AAPL"], SETTINGS, folder)
    (folder / "registry.db").unlink()
    with pytest.raises(FeatureStoreError, match=r"registry\.db is missing"):
        newest_values(["AAPL"], SETTINGS, folder)
    put_online(publication, SETTINGS, folder)
    assert len(newest_values(["AAPL"], SETTINGS, folder)) == 2


def test_a_symbol_without_online_rows_is_named(copy):
    folder, publication = copy
    store = open_store(SETTINGS, folder)
    with pytest.raises(FeatureStoreError, match="no window of GOOG"):
        read_windows(store, {**publication, "symbols": ["AAPL", "GOOG"]}, ["AAPL", "GOOG"])


def test_an_online_store_that_was_emptied_is_named(copy):
    folder, publication = copy
    with contextlib.closing(sqlite3.connect(folder / "online.db")) as database, database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            database.execute(f'DELETE FROM "{table}"')
    with pytest.raises(FeatureStoreError, match=r"no values of AAPL \(1 of 1 .*Run `alphaloop materialise`"):
        newest_values(["AAPL"], SETTINGS, folder)
    assert not holds_online(publication, SETTINGS, folder)
    put_online(publication, SETTINGS, folder)
    assert holds_online(publication, SETTINGS, folder)
    assert len(newest_values(["AAPL"], SETTINGS, folder)) == 2


def test_feasts_own_tools_read_the_folder_wherever_it_lies(copy, monkeypatch, tmp_path):
    from feast import FeatureStore

    folder, publication = copy
    put_online(publication, SETTINGS, folder)
    moved = folder.rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    monkeypatch.delenv("ALPHALOOP_FEATURE_STORE", raising=False)
    store = FeatureStore(repo_path=str(moved))
    answer = store.get_online_features(["mean_reversion:rsi"], [{"symbol": "AAPL"}]).to_dict()
    assert answer["rsi"] == [pytest.approx(value("AAPL", 7, "rsi"))]


def test_the_folders_yaml_names_the_variable_and_not_the_connection(monkeypatch):
    settings = Settings(online="redis", redis_variable="MY_CACHE", project="mine")
    monkeypatch.setenv("MY_CACHE", "cache:6379,password=secret")
    written = _own_yaml(settings, "registry.db")
    assert "${MY_CACHE}" in written
    assert "project: mine" in written
    assert "secret" not in written
