"""Recording an exchange: what is played is what is recorded, whatever is lost, said wrongly, late or too
large, whoever is killed; and a run learns from it.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import asynccontextmanager

import numpy as np
import polars as pl
import pytest
from websockets.asyncio.server import serve

from components.contracts import ContractError
from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.files import OutputError
from components.contracts.tick_days import INSTRUMENTS, read_day, tick_days, write_day
from components.contracts.tick_schemas import ADD, BUY, DEPTH, RAW_TICKS, SELL, SNAPSHOT, TRADE
from components.order_book.state import apply_rows, level, new_book
from components.processes.locks import LockHeld
from components.tick_stores.embedded import EmbeddedStore
from components.ticks.config import Settings
from components.ticks.run import IngestOutputs, ValidateOutputs, run_ingest, run_validate
from pipelines.commands.tick_live import BadArguments, record
from serving.live.exchange_messages import ExchangeError
from serving.processes import tick_collector
from serving.processes.tick_collector import BOOK_PATH, STREAM_PATH, Collector, Plan
from serving.processes.tick_exchange import Exchange, answered
from tests.spread.tick_stages import ingest

SYMBOLS = ("S1", "S2")
END_S = 120.0
SAID = ("side", "price", "quantity")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Half a minute of two simulated symbols."""
    return ingest(tmp_path_factory.mktemp("played"))


def plan(folder, port: int, **given) -> Plan:
    given = {"symbols": SYMBOLS, "patience_s": END_S, **given}
    return Plan(f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}", folder=folder, **given)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(END_S):
        while not true():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def recording(collector: Collector):
    """Record while entered; then all that arrived is kept."""
    stop = asyncio.Event()
    task = asyncio.create_task(collector.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


def port_of(server) -> int:
    return server.sockets[0].getsockname()[1]


def heard_all(collector: Collector, exchange: Exchange) -> bool:
    """Whether all that was sent, and every book that was asked for, is understood."""
    heard = {name: one.messages - one.books for name, one in collector.found.symbols.items()}
    return exchange.over.is_set() and heard == exchange.sent and not collector._asking


def record_all(played, folder, **how):
    """Play as fast as it is taken; the collector and the exchange at the end."""

    async def go():
        exchange = Exchange(played, speed=0, **how)
        async with await exchange.serve() as server:
            collector = Collector(plan(folder, port_of(server)))
            async with recording(collector):
                await until(lambda: heard_all(collector, exchange))
        return collector, exchange

    return asyncio.run(go())


def recorded(folder, symbol: str) -> pl.DataFrame:
    day = next(folder.glob(f"days/*/{symbol}/*.parquet")).stem
    return EmbeddedStore(folder).read(symbol, day)


def of_kind(ticks: pl.DataFrame, kind: int) -> list[tuple]:
    """What is said, message by message; the order of levels in one is the exchange's own."""
    own = ticks.filter(kind=kind).with_columns(number=pl.col("message").rle_id())
    return own.sort("number", *SAID).select("number", *SAID).rows()


def validated(folder, out):
    """The recording by way of a run's first two stages: what is found of its quality, and the ticks."""
    out.mkdir()
    checks = {"max_quarantine_share": 1.0}
    parsed = Settings(source="recorded", recorded={"folder": str(folder)}, checks=checks)
    settings = parsed.model_dump_json()
    run_ingest(IngestOutputs(out / "raw", out / "read.json"), settings=settings, seed=1, code="test")
    names = ("ticks", "delays", "aside", "quality", "page", "work")
    places = ValidateOutputs(*(out / name for name in names))
    quality = run_validate(out / "raw", places, settings=settings, code="test")
    return quality, {day.symbol: read_day(day) for day in tick_days(out / "ticks")}


def levels_of(ticks: pl.DataFrame) -> dict[int, dict[int, int]]:
    """What rests by side and price at the end, whatever quotes say."""
    depth = ticks.filter(pl.col("kind").is_in([SNAPSHOT, DEPTH]))
    names = ("kind", "side", "price", "quantity", "order_id", "message")
    book, columns = new_book(), [depth[name].cast(pl.Int64).to_numpy() for name in names]
    apply_rows(book, *columns, 0, len(depth))
    found = {BUY: {}, SELL: {}}
    for side in found:
        for n in range(10_000):
            price, quantity = level(book, side, n)
            if quantity == 0:
                break
            found[side][int(price)] = int(quantity)
    return found


def test_what_is_played_is_what_is_recorded_and_a_run_reads_it(played, tmp_path):
    collector, exchange = record_all(played, tmp_path / "rec")
    assert collector.found.unreadable == collector.found.connections_again == 0
    for day in tick_days(played):
        own, counts = recorded(tmp_path / "rec", day.symbol), collector.found.symbols[day.symbol]
        assert (counts.lost, counts.left_out, counts.rows) == (0, 0, len(own))
        assert own["sequence"].to_list() == list(range(len(own)))
        assert own["ingest_ts"].is_sorted()
        sent = read_day(day, RAW_TICKS)
        for kind in (DEPTH, TRADE):
            assert of_kind(own, kind) == of_kind(sent, kind) != []
    quality, ticks = validated(tmp_path / "rec", tmp_path / "run")
    assert [day.rows_quarantined for day in quality.days] == [0, 0]
    for symbol, own in ticks.items():
        assert levels_of(own) == exchange.markets[symbol].levels


def test_a_change_of_depth_that_was_lost_is_answered_by_a_whole_book(played, tmp_path):
    collector, exchange = record_all(played, tmp_path / "rec", lose_every=400)
    for counts in collector.found.symbols.values():
        assert counts.lost > 0
        assert counts.books > 1
    _, ticks = validated(tmp_path / "rec", tmp_path / "run")
    for symbol, own in ticks.items():
        assert levels_of(own) == exchange.markets[symbol].levels, "no change was put on a book that it misses"


def test_a_connection_that_ends_is_made_again(played, tmp_path):
    async def go():
        first, second = Exchange(played, speed=20), Exchange(played, speed=0)
        server = await first.serve()
        collector = Collector(plan(tmp_path / "rec", port_of(server)))
        async with recording(collector):
            await until(
                lambda: all(one.books and one.messages > 50 for one in collector.found.symbols.values())
            )
            first._playing.cancel()
            server.close()
            await server.wait_closed()
            async with await second.serve(port=collector_port(collector)):
                await until(lambda: second.over.is_set() and not collector._asking)
                await until(
                    lambda: all(
                        one.messages - one.books >= second.sent[name]
                        for name, one in collector.found.symbols.items()
                    )
                )
        return collector, second

    collector, exchange = asyncio.run(go())
    assert collector.found.connections_again >= 1
    _, ticks = validated(tmp_path / "rec", tmp_path / "run")
    for symbol, own in ticks.items():
        assert recorded(tmp_path / "rec", symbol)["sequence"].is_unique().all()
        assert levels_of(own) == exchange.markets[symbol].levels


def collector_port(collector: Collector) -> int:
    return int(collector._plan.streams.rpartition(":")[2])


STEPS = [
    {"filterType": "PRICE_FILTER", "tickSize": "0.1"},
    {"filterType": "LOT_SIZE", "stepSize": "0.001"},
]


@asynccontextmanager
async def saying(frames: list[str | bytes], book: object, *, hangs_up: bool = False):
    """An exchange of one symbol S1 that says these frames to each listener, and this of its book."""

    async def say(connection):
        for frame in frames:
            await connection.send(frame)
        if not hangs_up:
            await connection.wait_closed()

    def answer(connection, request):
        path = request.path.partition("?")[0]
        if path == STREAM_PATH:
            return None
        return answered(book if path == BOOK_PATH else {"symbols": [{"symbol": "S1", "filters": STEPS}]})

    async with serve(say, "127.0.0.1", 0, process_request=answer, max_size=None) as server:
        yield port_of(server)


def depth(u: int, pu: int, price: str = "10.1", quantity: str = "0.005", **more) -> str:
    said = {
        "e": "depthUpdate",
        "E": 1,
        "s": "S1",
        "u": u,
        "pu": pu,
        "b": [[price, quantity]],
        "a": [],
        **more,
    }
    return json.dumps({"data": said})


BOOK = {"lastUpdateId": 10, "bids": [["10.0", "1.000"]], "asks": [["10.5", "2.000"]]}


def test_a_hostile_exchange_is_survived_and_counted(tmp_path):
    unreadable = [
        "{",
        b"\xff\xfe\x00",
        "[]",
        json.dumps({"data": {"e": "newKind", "s": "S1"}}),
        depth(2**70, 10),
        depth(11, -1),
        depth(11, 10, E="soon"),
        depth(11, 10, E=10**18),
        depth(11, 10, s="S9"),
        depth(11, 10, b=[["10.1"]]),
        "[" * 100_000,
    ]
    unfit = ["NaN", "inf", "-1.0", "1e400", "", "10.12", "ten", "9" * 400]
    frames = [
        *unreadable,
        *(depth(11 + n, 10 + n, price=price) for n, price in enumerate(unfit)),
        depth(19, 18),
        depth(20, 19, b=[]),
        depth(21, 20, quantity="0.000"),
    ]

    async def go():
        async with saying(frames, {**BOOK, "lastUpdateId": 30}) as port:
            collector = Collector(plan(tmp_path, port, symbols=("S1",)))
            async with recording(collector):
                counts = collector.found.symbols["S1"]
                await until(
                    lambda: (
                        counts.messages - counts.books == 11 and counts.books > 1 and not collector._asking
                    )
                )
        return collector.found

    found = asyncio.run(go())
    assert found.unreadable == len(unreadable)
    assert found.symbols["S1"].left_out == len(unfit)
    assert found.symbols["S1"].lost == 0
    kept = recorded(tmp_path, "S1").filter(kind=DEPTH)
    assert kept.select(*SAID, "update_id", "previous_update_id").rows() == [
        (BUY, 101, 5, 19, 18),
        # That of 20 changed nothing: what continues it continues the one before.
        (BUY, 101, 0, 21, 19),
    ]


def test_a_frame_too_large_ends_the_connection_and_not_the_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(tick_collector, "MOST_FRAME_BYTES", 1_000)
    frames = [depth(11, 10), depth(12, 11, b=[["10.1", "1"]] * 100)]

    async def go():
        async with saying(frames, BOOK) as port:
            collector = Collector(plan(tmp_path, port, symbols=("S1",)))
            async with recording(collector):
                await until(lambda: collector.found.connections_again > 1)
        return collector.found

    assert asyncio.run(go()).symbols["S1"].rows > 0
    assert set(recorded(tmp_path, "S1").filter(kind=DEPTH)["update_id"]) == {11}


@pytest.mark.parametrize(
    ("frames", "books"),
    [
        pytest.param([depth(41, 40)], {40: True, 39: False}, id="a book from before the changes"),
        pytest.param([], {40: True}, id="no change yet"),
    ],
)
def test_books_are_asked_for_until_one_meets_the_changes(frames, books):
    chain = tick_collector._Chain()
    for frame in frames:
        chain.follow(tick_collector.decode_frame(frame).data)
    for number, meets in books.items():
        said = tick_collector.decode_book(json.dumps({**BOOK, "lastUpdateId": number}))
        assert chain.meet(said) == meets
    empty = tick_collector.decode_book(json.dumps({"lastUpdateId": 99, "bids": [], "asks": []}))
    assert not chain.meet(empty)


def test_a_change_after_a_book_that_it_does_not_continue_is_lost():
    chain = tick_collector._Chain()
    assert chain.meet(tick_collector.decode_book(json.dumps(BOOK)))
    assert chain.follow(tick_collector.decode_frame(depth(13, 12)).data) == (False, 12)
    assert chain.follow(tick_collector.decode_frame(depth(14, 13)).data) == (True, 13)


def test_a_slow_disk_is_waited_for_and_nothing_is_dropped(played, tmp_path, monkeypatch):
    honest = EmbeddedStore.append

    def slow(store, ticks):
        time.sleep(0.05)
        return honest(store, ticks)

    monkeypatch.setattr(EmbeddedStore, "append", slow)

    async def go():
        exchange = Exchange(played, speed=0)
        async with await exchange.serve() as server:
            collector = Collector(plan(tmp_path, port_of(server), room_bytes=10_000))
            async with recording(collector):
                await until(lambda: heard_all(collector, exchange))
        return collector

    collector = asyncio.run(go())
    assert collector.found.waits_for_disk > 0
    for day in tick_days(played):
        sent = read_day(day, RAW_TICKS)
        assert of_kind(recorded(tmp_path, day.symbol), DEPTH) == of_kind(sent, DEPTH)


def test_a_disk_that_can_not_be_written_ends_it_with_a_sentence(played, tmp_path):
    (tmp_path / "file").touch()

    async def go():
        async with await Exchange(played).serve() as server:
            await Collector(plan(tmp_path / "file", port_of(server))).run(asyncio.Event())

    with pytest.raises(OutputError, match="could not be written"):
        asyncio.run(go())


def test_a_disk_that_is_full_by_and_by_ends_it_and_what_was_kept_stays(played, tmp_path, monkeypatch):
    honest, kept = EmbeddedStore.append, []

    def full(store, ticks):
        if len(kept) == 3:
            raise OutputError("the disk is full")
        kept.append(ticks)
        return honest(store, ticks)

    monkeypatch.setattr(EmbeddedStore, "append", full)

    async def go():
        async with await Exchange(played, speed=10).serve() as server:
            await Collector(plan(tmp_path, port_of(server))).run(asyncio.Event())

    with pytest.raises(OutputError, match="the disk is full"):
        asyncio.run(go())
    day, store = kept[0]["session"][0], EmbeddedStore(tmp_path)
    assert sum(len(store.read(symbol, day)) for symbol in {rows["symbol"][0] for rows in kept}) == sum(
        map(len, kept)
    )


def test_a_second_recording_of_a_symbol_into_the_same_folder_is_refused(played, tmp_path):
    async def go():
        async with await Exchange(played, speed=0).serve() as server:
            first = Collector(plan(tmp_path, port_of(server)))
            async with recording(first):
                await until(lambda: first.found.heard)
                with pytest.raises(LockHeld, match="collector"):
                    await Collector(plan(tmp_path, port_of(server))).run(asyncio.Event())

    asyncio.run(go())


def test_another_day_is_another_session_that_begins_with_a_book(tmp_path):
    """The clock leaps over midnight after the first change."""
    evening = 1_767_225_599 * 10**9  # 2025-12-31 23:59:59
    frames, leapt = [depth(11, 10)], []

    async def go():
        async with saying(frames, BOOK) as port:
            clock = lambda: evening + 2 * 10**9 * len(leapt)  # noqa: E731
            collector = Collector(plan(tmp_path, port, symbols=("S1",)), now_ns=clock)
            counts = collector.found.symbols["S1"]
            async with recording(collector):
                await until(lambda: counts.books and counts.messages > counts.books and not collector._asking)
                leapt.append(True)
                books = counts.books
                await collector._arrive("", depth(12, 11).encode())
                await until(lambda: counts.books > books and not collector._asking)

    asyncio.run(go())
    store = EmbeddedStore(tmp_path)
    before, after = store.read("S1", "2025-12-31"), store.read("S1", "2026-01-01")
    assert set(before["update_id"]) == {10, 11}
    assert set(after["update_id"]) == {10, 12}
    assert (before["sequence"][0], after["sequence"][0]) == (0, 0)
    assert not list(tmp_path.glob("log/*/*")), "both are packed"


def test_a_killed_recording_leaves_whole_batches_and_the_next_goes_on(played, tmp_path):
    async def killed(port: int):
        words = ("-c", "from pipelines.commands.cli import main; main()", "ticks", "collect", str(tmp_path))
        words += ("--streams", f"ws://127.0.0.1:{port}", "--symbol", "S1", "--symbol", "S2")
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=subprocess.DEVNULL)
        log = EmbeddedStore(tmp_path)
        await until(lambda: any(path.stat().st_size > 20_000 for path in tmp_path.glob("log/S1/*.arrows")))
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        day = next(tmp_path.glob("log/S1/*.arrows")).stem
        return log.read("S1", day)

    async def go():
        async with await Exchange(played, speed=10).serve() as server:
            left = await killed(port_of(server))
        exchange = Exchange(played, speed=0)
        async with await exchange.serve() as server:
            collector = Collector(plan(tmp_path, port_of(server)))
            async with recording(collector):
                await until(lambda: heard_all(collector, exchange))
        return left, exchange

    left, exchange = asyncio.run(go())
    assert len(left) > 100
    whole = recorded(tmp_path, "S1")
    assert whole[: len(left)].equals(left)
    assert whole["sequence"].to_list() == list(range(len(whole)))
    assert np.all(np.diff(whole["message"].to_numpy()) >= 0)
    _, ticks = validated(tmp_path, tmp_path / "run")
    assert levels_of(ticks["S1"]) == exchange.markets["S1"].levels


def test_a_symbol_whose_steps_have_changed_is_not_mixed_with_what_is_there(played, tmp_path):
    Instruments(symbols={"S1": Instrument(tick_size=7.0, lot_size=1.0)}).write(tmp_path / INSTRUMENTS)

    async def go():
        async with await Exchange(played).serve() as server:
            await Collector(plan(tmp_path, port_of(server))).run(asyncio.Event())

    with pytest.raises(ExchangeError, match="S1 was recorded in steps of 7 and 1, and the exchange has"):
        asyncio.run(go())


def test_streams_that_end_at_once_are_silent_though_books_are_given(tmp_path):
    async def go():
        async with saying([], BOOK, hangs_up=True) as port:
            await Collector(plan(tmp_path, port, symbols=("S1",), patience_s=0.5)).run(asyncio.Event())

    with pytest.raises(ExchangeError, match=r"ws://.* gave no answer for 0\.5 s \(ConnectionClosed"):
        asyncio.run(go())


def test_what_the_exchange_lacks_and_one_that_is_silent_are_told(played, tmp_path):
    async def go(symbols=SYMBOLS, port=None):
        async with await Exchange(played).serve() as server:
            wanted = plan(tmp_path, port or port_of(server), symbols=symbols, patience_s=0.2)
            await Collector(wanted).run(asyncio.Event())

    with pytest.raises(ExchangeError, match=r"has no symbol 'S7'; it has S1, S2"):
        asyncio.run(go(("S7",)))
    with pytest.raises(ExchangeError, match=r"127\.0\.0\.1:1/.*gave no answer for 0\.2 s"):
        asyncio.run(go(port=1))
    with pytest.raises(ExchangeError, match="said nothing before the recording was ended"):
        record(tmp_path / "new", SYMBOLS, "ws://127.0.0.1:1", None, seconds=0.3, patience_s=60)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"symbols": ("../S1",)}, r"--symbol '\.\./S1' is no symbol"),
        ({"symbols": (".S1",)}, "is no symbol"),
        ({"streams": "http://host"}, "--streams 'http://host' is no address like ws://host:port"),
        ({"streams": "ws://host/stream"}, "without a path"),
        ({"answers": "ws://host"}, "--answers 'ws://host' is no address like http://host:port"),
    ],
)
def test_arguments_that_can_not_be_are_refused(tmp_path, change, said):
    given = {"symbols": SYMBOLS, "streams": "ws://host", "answers": None, **change}
    with pytest.raises(BadArguments, match=said):
        record(tmp_path / "rec", seconds=None, patience_s=1, **given)
    assert not (tmp_path / "rec").exists()


def test_orders_by_number_are_not_played(played, tmp_path):
    day = tick_days(played)[0]
    rows = read_day(day, RAW_TICKS).with_columns(kind=pl.lit(ADD, pl.Int8))
    shutil.copy(played / INSTRUMENTS, tmp_path / INSTRUMENTS)
    write_day(rows, tmp_path, day.symbol, day.session, code_version="t", config_hash="t", table=RAW_TICKS)
    with pytest.raises(ContractError, match="orders by number"):
        Exchange(tmp_path)
