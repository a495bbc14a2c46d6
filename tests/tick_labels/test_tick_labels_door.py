"""What the door of tick labels does: from files to a table, the arrival of orders, and what it refuses."""

import polars as pl
import pytest

from components.contracts import FACTORS, LABELS, read_table, write_table
from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.errors import ContractError
from components.contracts.tick_days import INSTRUMENTS, write_day
from components.contracts.tick_schemas import DELAYS, TRADE
from components.spread import local
from components.tick_labels import day
from components.tick_labels import run as door
from components.tick_labels.arrival_check import check_arrivals
from components.tick_labels.config import Settings
from components.tick_labels.latency import entry_latency_ns
from components.tick_labels.moves import moves_that_pay, require_moves
from tests.tick_labels.markets import MS, book_rows, events_of, label_all, moments, ticks_of

CENTS = Instrument(tick_size=0.01, lot_size=1.0)
ABOUT = {"code_version": "code", "config_hash": "hash"}
SETTINGS = Settings(
    sample_ms=50, horizons_ms=(50, 250), primary_horizon_ms=250, order_value=1_000.0, fewest_moves=2
)


def swinging(step: int = 100) -> list[tuple]:
    """Two seconds in which the mid goes up and down by `step` ticks, 5 ms after every 300 ms."""
    rows = []
    for turn in range(7):
        mid = 10_000 + step * (turn % 2)
        rows += book_rows(turn * 300 + 5 * (turn > 0), turn, [(mid - 1, 100)], [(mid + 1, 100)])
    return [*rows, (2_000, 99, TRADE, 1, 10_000, 1, 0)]


def delays(**by_symbol: tuple[int, ...]) -> pl.DataFrame:
    """Ms of the quantiles 0, 0.5, 0.95 and 1, in the hours 0, 1 ..."""
    rows = [
        (symbol, hour, quantile, round(ms * MS))
        for symbol, hours in by_symbol.items()
        for hour, quantiles in enumerate(hours)
        for quantile, ms in zip((0.0, 0.5, 0.95, 1.0), quantiles, strict=True)
    ]
    return pl.DataFrame(rows, schema=DELAYS.columns, orient="row").sort(DELAYS.key)


@pytest.fixture
def market(tmp_path):
    """Two symbols, of which one has two sessions; samples reach beyond them."""
    for symbol, session in (("A", "one"), ("B", "one")):
        write_day(ticks_of(swinging(), symbol, session), tmp_path / "ticks", symbol, session, **ABOUT)
    Instruments(symbols={"A": CENTS, "B": CENTS}).write(tmp_path / "ticks" / INSTRUMENTS)
    at = moments(*range(-200, 2_300, 50))
    features = pl.concat(
        pl.DataFrame({"timestamp": at, "symbol": symbol, "known_time": at, "x": 0.0}) for symbol in "AB"
    ).with_columns(pl.col("x").cast(pl.Float32))
    write_table(features.sort("timestamp", "symbol"), tmp_path / "features.parquet", FACTORS, **ABOUT)
    write_table(
        delays(A=((0, 1, 10, 20),), B=((0, 1, 30, 40),)), tmp_path / "delays.parquet", DELAYS, **ABOUT
    )
    inputs = door.Inputs(*(tmp_path / name for name in ("ticks", "features.parquet", "delays.parquet")))
    return inputs, door.Outputs(tmp_path / "labels.parquet", tmp_path / "work")


def test_the_door_labels_all_symbols_and_horizons(market):
    inputs, outputs = market
    door.run(inputs, outputs, settings=SETTINGS.model_dump_json(), code="code")
    labels = read_table(outputs.labels, LABELS)
    assert labels["horizon"].unique().sort().to_list() == [1, 5]
    assert labels["symbol"].unique().sort().to_list() == ["A", "B"]
    neutral = labels.filter(pl.col("log_return").count().over("timestamp", "horizon") == 2)
    total = neutral.group_by("timestamp", "horizon").agg(pl.col("sector_neutral_return").sum())
    assert total["sector_neutral_return"].abs().max() < 1e-12
    reach = labels.filter(pl.col("log_return").is_not_null()).select(
        "symbol",
        ms=(pl.col("label_end") - pl.col("timestamp")).dt.total_milliseconds() - 50 * pl.col("horizon"),
    )
    assert set(reach.unique().rows()) == {("A", 10), ("B", 30)}


def test_the_door_refuses_where_too_few_moves_pay(market):
    inputs, outputs = market
    many = SETTINGS.model_copy(update={"fewest_moves": 50})
    with pytest.raises(ContractError, match=r"Only 12 moves over 250 ms pay .*\(A 6, B 6\); 50 are needed"):
        door.run(inputs, outputs, settings=many.model_dump_json(), code="code")
    assert not outputs.labels.exists()


def test_the_door_refuses_labels_that_start_before_the_order_arrives(market, monkeypatch):
    """The planted fault: entries at the sample itself."""
    inputs, outputs = market
    honest = day.label_session
    monkeypatch.setattr(day, "label_session", lambda *given: honest(*given[:3], 0, given[4]))
    # In this process, where the fault is planted.
    monkeypatch.setattr(local, "cores", lambda: 1)
    with pytest.raises(ContractError, match=r"do not begin where the order arrives, 10 ms after .* no order"):
        door.run(inputs, outputs, settings=SETTINGS.model_dump_json(), code="code")


@pytest.mark.parametrize(("planted_ms", "caught"), [(20, False), (0, True), (19, True), (45, True)])
def test_an_early_or_late_start_is_found_again_from_the_events(planted_ms, caught):
    ticks = ticks_of([row for step in range(100) for row in _drift(step)])
    made, _ = label_all(ticks, moments(*range(0, 400, 50)), CENTS, planted_ms * MS, SETTINGS)
    labels = made.with_columns(symbol=pl.lit("A"))
    if caught:
        with pytest.raises(ContractError, match="20 ms after the sample"):
            check_arrivals(labels, events_of(ticks), 20 * MS, 50, 0)
    else:
        check_arrivals(labels, events_of(ticks), 20 * MS, 50, 0)


def _drift(step):
    """A mid that rises by another amount every 7 ms."""
    mid = 10_000 + step * step // 4
    return book_rows(7 * step, step, [(mid - 1, 100)], [(mid + 1, 100)])


def test_features_of_another_time_are_refused(market):
    inputs, outputs = market
    late = read_table(inputs.features, FACTORS).with_columns(
        pl.col("timestamp", "known_time").dt.offset_by("1d")
    )
    write_table(late, inputs.features, FACTORS, **ABOUT)
    with pytest.raises(ContractError, match=r"No sample of .* lies within a session"):
        door.run(inputs, outputs, settings=SETTINGS.model_dump_json(), code="code")


def test_an_order_arrives_after_the_quantile_of_the_slowest_hour():
    table = delays(A=((0, 1, 10, 20), (0, 2, 7, 90)))
    asked = {q: SETTINGS.model_copy(update={"entry_latency_quantile": q}) for q in (0.5, 0.95, 0.99)}
    assert entry_latency_ns(table, "A", asked[0.5]) == 2 * MS
    assert entry_latency_ns(table, "A", asked[0.95]) == 10 * MS
    assert entry_latency_ns(table, "A", asked[0.99]) == 90 * MS
    fixed = SETTINGS.model_copy(update={"entry_latency_ms": 2.5})
    assert entry_latency_ns(table, "B", fixed) == 2.5 * MS
    with pytest.raises(ContractError, match=r"no measured delays of B .*entry_latency_ms"):
        entry_latency_ns(table, "B", SETTINGS)


def test_moves_that_overlap_count_once():
    """Ends are known at 260, 310, ... ms after the samples at 0, 50, ...: of eleven that pay, at 0, 300 and
    others, those are counted that begin once the one before is over.
    """
    at = moments(0, 50, 200, 260, 300, 600)
    labels = pl.DataFrame(
        {
            "timestamp": at,
            "symbol": "A",
            "horizon": pl.Series([5] * 6, dtype=pl.Int32),
            "label_end": moments(260, 310, 460, 520, 560, 860),
            "trade_class": pl.Series([1, 1, -1, 0, -1, 1], dtype=pl.Int8),
        }
    )
    paying = labels.filter(pl.col("trade_class") != 0)
    counted = moves_that_pay(paying, {"A": 10 * MS, "B": 0})
    assert counted == {"A": 3, "B": 0}
    require_moves(counted, SETTINGS.model_copy(update={"fewest_moves": 3}))


@pytest.mark.parametrize(("late_ns", "ends_us", "count"), [(0, 0, 2), (1, 1, 2), (0, 1, 1)])
def test_a_move_that_begins_in_the_nanosecond_in_which_another_ends_is_apart(late_ns, ends_us, count):
    """Ends are told in whole microseconds, the next one."""
    paying = pl.DataFrame({"symbol": "A", "timestamp": moments(0, 250), "label_end": moments(260, 510)})
    paying = paying.with_columns(pl.col("label_end") + pl.duration(microseconds=ends_us))
    assert moves_that_pay(paying, {"A": 10 * MS + late_ns}) == {"A": count}
