"""The doors of tick features: tables, catalog, audit and page from a folder of ticks."""

import json

import polars as pl
import pytest

from components.contracts import (
    FACTORS,
    REGIME_COLUMN,
    VOLATILITY_COLUMN,
    read_catalog,
    read_stamp,
    read_table,
    write_table,
)
from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.documents.leak_audit import LeakAudit
from components.contracts.tick_days import INSTRUMENTS, write_day
from components.experts.training.frames import input_groups
from components.settings import ConfigError, validate_settings
from components.tick_features.audit_run import AuditInputs, AuditOutputs, run_audit
from components.tick_features.catalog import catalog
from components.tick_features.config import Settings
from components.tick_features.errors import TickFeatureError, TickLeakFound
from components.tick_features.run import Inputs, Outputs, run
from tests.tick_features.streams import depth_stream

SETTINGS = Settings.model_validate(
    {"normalisation": {"values": 20, "every_samples": 2, "least_values": 5}, "audit": {"cuts": 2, "days": 3}}
)
TEXT = SETTINGS.model_dump_json()
DAY = 86_400 * 10**9
ABOUT = {"code_version": "test", "config_hash": "test"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two symbols, two sessions; the second has one of them, without depth."""
    folder = tmp_path_factory.mktemp("ticks")
    for number, (symbol, session) in enumerate([("A", "one"), ("B", "one"), ("A", "two")]):
        levels = {} if session == "one" else {"levels": 3}
        ticks = depth_stream(number, 400, **levels).with_columns(
            pl.lit(symbol).alias("symbol"),
            pl.lit(session).alias("session"),
            pl.col("exchange_ts", "ingest_ts") + (DAY if session == "two" else number * 10**9),
        )
        write_day(ticks, folder, symbol, session, **ABOUT)
    one = Instrument(tick_size=0.1, lot_size=0.001)
    Instruments(symbols={"A": one, "B": one}).write(folder / INSTRUMENTS)
    return folder


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    run(
        Inputs(folder),
        Outputs(out / "features.parquet", out / "catalog.json", out / "work"),
        settings=TEXT,
        code="code",
    )
    return out


def test_all_symbols_of_a_session_share_one_grid(made):
    table = read_table(made / "features.parquet", FACTORS)
    assert table.equals(table.sort("timestamp", "symbol"))
    own = {
        symbol: rows["timestamp"] for (symbol,), rows in table.partition_by("symbol", as_dict=True).items()
    }
    assert own["A"][: len(own["B"])].equals(own["B"])
    assert (own["B"].diff().drop_nulls().unique().dt.total_milliseconds()).to_list() == [50]
    assert (table["known_time"] <= table["timestamp"]).all()


def test_experts_find_inputs_and_context(made):
    table = read_table(made / "features.parquet", FACTORS)
    entries = read_catalog(made / "catalog.json")
    assert [entry.column for entry in entries] == [
        name for name in table.columns if name not in FACTORS.columns
    ]
    groups = input_groups(table, entries, "base")
    assert groups["imbalance_1"] == "book"
    assert groups["vwap_gap_100_robust"] == "trades"
    assert {VOLATILITY_COLUMN, REGIME_COLUMN, "vwap_gap_100"}.isdisjoint(groups)
    assert table[VOLATILITY_COLUMN].min() > 0
    assert set(table[REGIME_COLUMN].drop_nulls()) <= {0.0, 1.0, 2.0, 3.0}


def test_columns_without_a_value_are_no_inputs(folder, tmp_path):
    lonely = tmp_path / "ticks"
    ticks = depth_stream(1, 100, levels=3, quotes=False).filter(pl.col("price").is_between(996, 1004))
    write_day(ticks, lonely, "A", "one", **ABOUT)
    run(
        Inputs(lonely),
        Outputs(tmp_path / "f.parquet", tmp_path / "c.json", tmp_path / "w"),
        settings=TEXT,
        code="code",
    )
    roles = {entry.column: entry.role for entry in read_catalog(tmp_path / "c.json")}
    assert roles["imbalance_10"] == "raw"
    assert roles["imbalance_1"] == "input"


def test_the_audit_of_honest_features_passes_and_has_a_page(folder, made, tmp_path):
    outputs = AuditOutputs(tmp_path / "audit.json", tmp_path / "audit.html")
    found = run_audit(AuditInputs(folder, made / "features.parquet"), outputs, settings=TEXT)
    assert found.passed
    assert LeakAudit.read(outputs.document).checked.factors == len(catalog(SETTINGS))
    assert "no leak found" in outputs.page.read_text()


def test_the_audit_stops_at_a_table_that_knows_more(folder, made, tmp_path):
    table = read_table(made / "features.parquet", FACTORS)
    planted = table.with_columns(pl.col("imbalance_1").shift(-2).over("symbol"))
    stamp, path = read_stamp(made / "features.parquet"), tmp_path / "planted.parquet"
    write_table(planted, path, FACTORS, **ABOUT, inputs=stamp.inputs)
    outputs = AuditOutputs(tmp_path / "audit.json", tmp_path / "audit.html")
    with pytest.raises(TickLeakFound, match="imbalance_1: whole_history"):
        run_audit(AuditInputs(folder, path), outputs, settings=TEXT)
    assert not LeakAudit.read(outputs.document).passed
    assert "1 column failed" in outputs.page.read_text()


def test_features_of_other_ticks_are_not_audited(folder, made, tmp_path):
    other = tmp_path / "ticks"
    write_day(depth_stream(9, 50), other, "A", "one", **ABOUT)
    with pytest.raises(TickFeatureError, match="not made of the ticks"):
        run_audit(
            AuditInputs(other, made / "features.parquet"),
            AuditOutputs(tmp_path / "a.json", tmp_path / "a.html"),
            settings=TEXT,
        )


def test_ticks_too_short_for_a_sample_are_refused(tmp_path):
    write_day(depth_stream(9, 1), tmp_path / "ticks", "A", "one", **ABOUT)
    with pytest.raises(TickFeatureError, match="long enough"):
        run(
            Inputs(tmp_path / "ticks"),
            Outputs(tmp_path / "f.parquet", tmp_path / "c.json", tmp_path / "w"),
            settings=json.dumps({"sample": "1s"}),
            code="code",
        )


def test_groups_and_features_can_be_left_out():
    settings = Settings(groups=("book", "flow"), exclude=("spread",))
    entries = catalog(settings)
    assert {entry.group for entry in entries if entry.role == "input"} == {"book", "flow"}
    columns = {entry.column: entry.role for entry in entries}
    assert "spread" not in columns
    assert columns[VOLATILITY_COLUMN] == columns[REGIME_COLUMN] == "context"
    assert columns["momentum_600"] == "raw"


def test_an_unknown_feature_is_named_with_one_like_it():
    with pytest.raises(ConfigError, match="did you mean spread"):
        validate_settings(Settings, {"exclude": ["spreed"]}, source="test")
