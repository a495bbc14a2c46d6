"""The stage as its doors call it: what is written, what stops, and the page."""

import json
import re

import numpy as np
import polars as pl
import pytest

from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.documents.tick_quality import TickQuality, TickReport
from components.contracts.tables import read_table
from components.contracts.tick_days import INSTRUMENTS, read_day, read_instruments, tick_days, write_day
from components.contracts.tick_schemas import DELAYS, QUOTE, RAW_TICKS, SNAPSHOT
from components.ticks.config import Settings
from components.ticks.delays import QUANTILES
from components.ticks.errors import TicksError
from components.ticks.pieces import QUARANTINE
from components.ticks.run import IngestOutputs, ValidateOutputs, ValidationFailed, run_ingest, run_validate
from tests.ticks.made import MS, clean, raw
from tests.ticks.test_depth_messages import events, levels, write

ABOUT = {"code_version": "test", "config_hash": "test"}


def outputs(folder) -> ValidateOutputs:
    names = ("ticks", "delays.parquet", "quarantine.parquet", "quality.json", "page.html", "work")
    return ValidateOutputs(*(folder / name for name in names))


def raw_folder(folder, *days):
    """A folder of raw ticks; each of `days` is (symbol, rows)."""
    for symbol, rows in days:
        frame = raw(rows).with_columns(pl.lit(symbol).alias("symbol"))
        write_day(frame, folder, symbol, "2023-11-14", **ABOUT, table=RAW_TICKS)
    sizes = {symbol: Instrument(tick_size=0.01, lot_size=0.1) for symbol, _ in days}
    Instruments(symbols=sizes).write(folder / INSTRUMENTS)
    return folder


def crossed_rows(rows):
    """Half of the touches stand the wrong way round."""

    def turned(one):
        wrong = one["kind"] == QUOTE and one["update_id"] % 2
        return {**one, "price": 2001 - one["price"]} if wrong else one

    return [turned(one) for one in rows]


def test_what_was_recorded_is_written_by_symbol_and_session(tmp_path, monkeypatch):
    settings = write(tmp_path, events(), levels())
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
    out = IngestOutputs(tmp_path / "raw", tmp_path / "report.json")
    run_ingest(out, settings=settings.model_dump_json(), seed=0, code="test")
    assert [(day.symbol, day.session) for day in tick_days(out.raw)] == [("BTC", "night")]
    assert read_instruments(out.raw).symbols["BTC"].tick_size == 0.1
    report = TickReport.read(out.report)
    assert (report.days[0].rows, report.days[0].messages) == (7, 5)
    slashed = (frame.with_columns(symbol=pl.lit("BTC/USDT")) for frame in (events(), levels()))
    renamed = write(tmp_path, *slashed)
    with pytest.raises(TicksError, match="'BTC/USDT' can't be the name of a folder"):
        run_ingest(out, settings=renamed.model_dump_json(), seed=0, code="test")
    nothing = settings.model_copy(update={"symbols": ("ETH",)})
    with pytest.raises(TicksError, match="has no 'ETH'"):
        run_ingest(out, settings=nothing.model_dump_json(), seed=0, code="test")


NAMES = ["../up", "..", "/abs", ".hidden", "", " ", " a", "[a]", "*", "a?", "a\nb", "a\0b", "x" * 300]


@pytest.mark.parametrize("column", ["symbol", "session"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_can_be_no_file_is_refused_and_nothing_is_written(tmp_path, monkeypatch, column, name):
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
    renamed = (frame.with_columns(pl.lit(name).alias(column)) for frame in (events(), levels()))
    settings, out = write(tmp_path, *renamed), IngestOutputs(tmp_path / "raw", tmp_path / "report.json")
    with pytest.raises(TicksError, match=rf"{column} .* can't be the name of a folder or file") as refused:
        run_ingest(out, settings=settings.model_dump_json(), seed=0, code="test")
    assert len(str(refused.value)) < 1_500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lob_events.parquet", "lob_levels.parquet"]


def test_times_in_another_unit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
    as_ns = pl.Datetime("ns", "UTC")
    thousandths = (pl.col("local_ts").dt.epoch("ns") // 1_000_000).cast(as_ns)
    settings = write(tmp_path, *(frame.with_columns(thousandths) for frame in (events(), levels())))
    out = IngestOutputs(tmp_path / "raw", tmp_path / "report.json")
    with pytest.raises(TicksError, match=r"BTC night: .* collected at 1970-01-01 .* mend their unit"):
        run_ingest(out, settings=settings.model_dump_json(), seed=0, code="test")
    assert not out.raw.exists()


def moved(messages):
    last = pl.int_range(pl.len()) == pl.len() - 1
    return messages.with_columns(
        pl.when(last).then(pl.col("local_ts") + pl.duration(days=40)).otherwise("local_ts")
    )


def grown(messages):
    is_trade = pl.col("kind") == "trade"
    return messages.with_columns(pl.when(is_trade).then(pl.lit(9e15)).otherwise("qty").alias("qty"))


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [(moved, "night lasts 40 days"), (grown, r"the most has 9,000,000,000,000,000 lots at")],
)
def test_a_session_too_long_or_too_large_is_refused(tmp_path, monkeypatch, spoiled, said):
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
    sizes = {"BTC": {"tick_size": 0.1, "lot_size": 1.0}}
    whole = (frame.with_columns(pl.col("^(ask_)?qty$").ceil()) for frame in (spoiled(events()), levels()))
    write(tmp_path, *whole)
    asked = Settings(source="depth_messages", instruments=sizes)
    out = IngestOutputs(tmp_path / "raw", tmp_path / "report.json")
    with pytest.raises(TicksError, match=said):
        run_ingest(out, settings=asked.model_dump_json(), seed=0, code="test")
    assert not out.raw.exists()


def test_clean_ticks_pass_and_all_is_written(tmp_path):
    folder = raw_folder(tmp_path / "raw", ("AAA", clean()), ("BBB", clean(40)))
    out = outputs(tmp_path)
    run_validate(folder, out, settings=Settings().model_dump_json(), code="test")
    quality = TickQuality.read(out.quality)
    assert quality.verdict == "passed"
    assert all(one.passed for one in quality.expectations)
    assert [day.rows_quarantined for day in quality.days] == [0, 0]
    ticks = [read_day(day) for day in tick_days(out.ticks)]
    assert [len(day) for day in ticks] == [len(clean()), len(clean(40))]
    assert {"offset_ns", "delay_ns"} <= set(ticks[0].columns)
    assert read_instruments(out.ticks) == read_instruments(folder)
    assert not len(read_table(out.quarantine, QUARANTINE))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["raw", "ticks", "delays.parquet", "quarantine.parquet", "quality.json", "page.html"]
    )


def test_delays_are_the_quantiles_of_messages_by_hour(tmp_path):
    rows = [{**one, "exchange_ts": one["exchange_ts"] - one["message"] * MS} for one in clean()]
    out = outputs(tmp_path)
    settings = Settings(checks={"max_drift_ms_a_minute": 1e9}, clock={"window_ms": 1e6})
    run_validate(
        raw_folder(tmp_path / "raw", ("AAA", rows)), out, settings=settings.model_dump_json(), code="t"
    )
    delays = read_table(out.delays, DELAYS)
    ticks = read_day(tick_days(out.ticks)[0])
    messages = ticks.filter(pl.col("kind") != SNAPSHOT).unique("message")
    assert delays["quantile"].to_list() == QUANTILES.tolist()
    assert delays["hour"].unique().to_list() == [22]
    found = np.interp([0.0, 0.25, 0.5, 1.0], QUANTILES, delays["delay_ns"].to_numpy())
    assert found == pytest.approx(np.quantile(messages["delay_ns"].to_numpy(), [0.0, 0.25, 0.5, 1.0]), abs=2)
    assert delays["delay_ns"].max() > 100 * MS


def test_without_the_time_of_the_exchange_there_are_no_delays(tmp_path):
    rows = [{**one, "exchange_ts": 0} for one in clean()]
    out = outputs(tmp_path)
    run_validate(
        raw_folder(tmp_path / "raw", ("MADE", rows)), out, settings=Settings().model_dump_json(), code="t"
    )
    assert read_table(out.delays, DELAYS).is_empty()
    assert len(read_day(tick_days(out.ticks)[0])) == len(rows)


def test_a_book_that_is_crossed_often_stops_the_run_and_the_page_is_there(tmp_path):
    folder = raw_folder(tmp_path / "raw", ("AAA", clean()), ("BBB", crossed_rows(clean())))
    out = outputs(tmp_path)
    with pytest.raises(ValidationFailed) as stopped:
        run_validate(folder, out, settings=Settings().model_dump_json(), code="test")
    said = str(stopped.value)
    assert "few_crossed" in said
    assert "BBB 2023-11-14" in said
    assert "AAA 2023-11-14" not in said
    assert str(out.page) in said
    assert len(said) < 1_500
    assert not out.ticks.exists()
    assert TickQuality.read(out.quality).verdict == "failed"
    assert read_table(out.quarantine, QUARANTINE)["reason"].unique().to_list() == ["crossed_quote"]
    page = out.page.read_text()
    assert "stopped" in page
    assert "crossed_quote" in page


def test_a_clock_beyond_its_bounds_stops_the_run(tmp_path):
    rows = [{**one, "exchange_ts": one["exchange_ts"] + 3_600_000 * MS} for one in clean()]
    with pytest.raises(ValidationFailed, match="exchange_clock_off"):
        run_validate(
            raw_folder(tmp_path / "raw", ("AAA", rows)), outputs(tmp_path), settings="{}", code="test"
        )


def test_the_page_loads_nothing_and_escapes_what_it_shows(tmp_path):
    out = outputs(tmp_path)
    folder = raw_folder(tmp_path / "raw", ("<b>X", clean(5)))
    run_validate(folder, out, settings=json.dumps({}), code="test")
    page = out.page.read_text()
    assert "<b>X" not in page
    assert "&lt;b&gt;X" in page
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=[\"']https?://", markup)
    assert "offset at start" in page
