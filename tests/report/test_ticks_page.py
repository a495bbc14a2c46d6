"""The report of a run on ticks: the book as it stood, fills where they were, all sections and figures."""

import json
import re
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import ALL_PREDICTIONS, LABELS, ContractError, write_table
from components.contracts.documents.champion import Registration
from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.documents.tick_replay import Kept, TickReplay
from components.contracts.documents.tick_truth import TRUTH, Attainable, TickTruth
from components.contracts.documents.verdict import Verdict, VerdictStamp
from components.contracts.tick_days import INSTRUMENTS, write_day
from components.contracts.tick_schemas import BUY, CURVE, DEPTH, FILLS, QUOTE, SELL, SNAPSHOT, TICKS
from components.gates.gate import gate
from components.report import ticks_book, ticks_money
from components.report.ticks import Inputs, run
from tests.gates.tick_replays import STAMP, START, curve, profit, replay, samples

SECOND = 10**9
MINUTE = timedelta(minutes=1)
AT = int(START.timestamp()) * SECOND
SETTINGS = json.dumps({"policy": "taker", "latency": "measured"})

# Seconds since the start, message, kind, side, price, quantity: a book of 100 to 101, an ask that is taken
# away after 10 s, a whole book anew after 40 s, in which the bid at 99 is no more.
EVENTS = [
    (0, 0, SNAPSHOT, BUY, 100, 7),
    (0, 0, SNAPSHOT, BUY, 99, 5),
    (0, 0, SNAPSHOT, SELL, 101, 4),
    (0, 0, SNAPSHOT, SELL, 102, 9),
    (0, 1, QUOTE, BUY, 100, 7),
    (0, 1, QUOTE, SELL, 101, 4),
    (10, 2, QUOTE, BUY, 100, 7),
    (10, 2, QUOTE, SELL, 102, 9),
    (10, 3, DEPTH, SELL, 101, 0),
    (40, 4, SNAPSHOT, BUY, 100, 6),
    (40, 4, SNAPSHOT, SELL, 102, 9),
    (40, 5, QUOTE, BUY, 100, 6),
    (40, 5, QUOTE, SELL, 102, 9),
    (60, 6, DEPTH, BUY, 100, 3),
]


def ticks(events: list[tuple] = EVENTS) -> pl.DataFrame:
    at, message, kind, side, price, quantity = zip(*events, strict=True)
    moments = [AT + second * SECOND for second in at]
    frame = pl.DataFrame(
        {
            "symbol": "S1",
            "session": "d",
            "sequence": range(len(events)),
            "message": message,
            "exchange_ts": moments,
            "ingest_ts": moments,
            "kind": kind,
            "side": side,
            "price": price,
            "quantity": quantity,
            "order_id": 0,
            "update_id": 0,
            "previous_update_id": 0,
            "offset_ns": 0,
            "delay_ns": [1_000_000 * (1 + number) for number in message],
        }
    )
    return frame.cast({name: {**TICKS.columns, **TICKS.optional}[name] for name in frame.columns})


def fills(at_s: tuple[int, ...] = (5, 30)) -> pl.DataFrame:
    """A trade of the judged strategy: bought, and sold again."""
    rows = {
        "expert": "causal_cnn",
        "policy": "taker",
        "latency": "measured",
        "symbol": "S1",
        "session": "d",
        "fill": list(range(len(at_s))),
        "trade": 0,
        "entry": [number % 2 == 0 for number in range(len(at_s))],
        "maker": False,
        "side": [BUY if number % 2 == 0 else SELL for number in range(len(at_s))],
        "decision_ts": [AT + second * SECOND for second in at_s],
        "sent_ts": [AT + second * SECOND for second in at_s],
        "filled_ts": [AT + second * SECOND for second in at_s],
        "half_ticks": 202,
        "lots": 1,
        "price": [10.1 if number % 2 == 0 else 10.0 for number in range(len(at_s))],
        "mid": 10.05,
        "quantity": 1.0,
        "fee": 0.0,
    }
    return pl.DataFrame(rows).cast(FILLS.columns)


def verdict() -> Verdict:
    gates = (gate("net_profit", -2.0, ">", 0.0, "lower limit of <net> profit"),)
    return Verdict(
        candidate="causal_cnn",
        champion_version=None,
        approved=False,
        beats_champion=True,
        reason="1 of 1 gates failed: net_profit",
        gates=gates,
        stamp=VerdictStamp(code_version="c", config_hash="h"),
    )


def registration() -> Registration:
    return Registration(
        status="registered",
        name="a run",
        version=3,
        aliases=["challenger"],
        run_id="r",
        bundle_sha256="0" * 64,
        trials=1,
        champion_before=2,
        champion_after=2,
        reason="1 of 1 gates failed: net_profit",
        history=[],
        tracking_uri="",
    )


@pytest.fixture
def folder(tmp_path):
    """What the stages before left."""
    instruments = Instruments(symbols={"S1": Instrument(tick_size=0.1, lot_size=1.0)})
    write_day(ticks(), tmp_path / "ticks", "S1", "d", **STAMP)
    instruments.write(tmp_path / "ticks" / INSTRUMENTS)
    (tmp_path / "raw").mkdir()
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "00_ticks_quality.html").write_text("checks")
    replay().write(tmp_path / "found.json")
    verdict().write(tmp_path / "verdict.json")
    registration().write(tmp_path / "registration.json")
    predictions, labels = samples(1.0, rows=1_000)
    write_table(predictions, tmp_path / "predictions.parquet", ALL_PREDICTIONS, **STAMP)
    write_table(labels, tmp_path / "labels.parquet", LABELS, **STAMP)
    write_table(fills(), tmp_path / "fills.parquet", FILLS, **STAMP)
    paper = curve(0.5).with_columns(policy=pl.lit("paper"), latency=pl.lit("none"))
    both = pl.concat([curve(0.5), paper]).sort(CURVE.key)
    write_table(both, tmp_path / "curve.parquet", CURVE, **STAMP)
    return tmp_path


def page(folder, settings: str = SETTINGS) -> str:
    tables = (f"{name}.parquet" for name in ("predictions", "labels", "fills", "curve"))
    names = ("raw", "ticks", *tables, "found.json", "verdict.json", "registration.json", "pages")
    inputs = Inputs(*(str(folder / name) for name in names))
    run(inputs, str(folder / "page.html"), name="a run", settings=settings, folder=str(folder / "run"))
    assert (folder / "run" / "report.html").read_text() == (folder / "page.html").read_text()
    return (folder / "page.html").read_text()


def test_every_section_is_there_with_the_figures_of_the_replay(folder):
    text = page(folder)
    headings = re.findall(r'<h2 id="(\w+)">', text)
    assert headings == ["experts", "money", "book", "parts", "orders", "gates"]
    assert "rejected" in text
    assert "600 [400,\N{NO-BREAK SPACE}800]" in text
    assert "Touch imbalance alone" in text
    assert "lower limit of &lt;net&gt; profit: -2, but wanted &gt; 0" in text
    assert (folder / "run" / "evidence" / "ticks_quality.html").read_text() == "checks"
    assert TickReplay.read(folder / "run" / "tick_replay.json") == replay()
    assert Verdict.read(folder / "run" / "verdict.json") == verdict()


def test_a_simulated_market_says_how_much_of_the_attainable_was_found(folder):
    one = Attainable(horizon_ms=1_000, moments=9, rank_correlation=0.5, linear=0.4, nonlinear=0.3)
    truth = TickTruth(seed=1, planted=0.5, attainable=[one], sessions=[])
    truth.write(folder / "raw" / TRUTH)
    text = page(folder)
    assert '<h2 id="truth">' in text
    found = re.search(r"<b>([\d.]+)</b><span>rank correlation over 1 s", text)
    share = re.search(r"<b>(\d+)%</b><span>of the attainable", text)
    assert int(share[1]) == pytest.approx(float(found[1]) / 0.5 * 100, abs=1)


def test_a_share_of_a_paper_loss_is_undefined(folder):
    nothing = Kept(share=None, interval=(None, None))
    replay(paper=profit(-5.0, 1.0), implementable=nothing).write(folder / "found.json")
    assert "<b>undefined</b><span>of the paper profit is left</span>" in page(folder)


def test_what_was_judged_must_have_been_replayed(folder):
    with pytest.raises(ContractError, match=r"no replay of causal_cnn, passive, measured"):
        page(folder, json.dumps({"policy": "passive", "latency": "measured"}))


def test_the_book_is_drawn_as_it_stood(folder):
    drawn = ticks_book.book_picture(folder / "ticks", fills())
    heat, bid, ask, bought, sold = drawn.figure["data"]
    lots = np.array(heat["customdata"]) * np.sign(np.array(heat["z"])).astype(int)
    seconds = [(np.datetime64(at) - np.datetime64(AT, "ns")) / np.timedelta64(1, "s") for at in heat["x"]]
    row = {round(price * 10): number for number, price in enumerate(heat["y"])}

    def resting(price: int, at_s: float) -> int:
        return lots[row[price], int(np.searchsorted(seconds, at_s, side="right")) - 1]

    assert [resting(price, 5) for price in (99, 100, 101, 102)] == [5, 7, -4, -9]
    assert [resting(price, 20) for price in (99, 100, 101, 102)] == [5, 7, 0, -9]
    # After the whole book came anew nothing is known of what it does not name.
    assert [resting(price, 50) for price in (99, 100, 101, 102)] == [0, 6, 0, -9]
    assert (set(bid["y"]), set(ask["y"])) == ({10.0}, {10.1, 10.2})
    assert (bought["y"], sold["y"]) == ([10.1], [10.0])
    assert (bought["marker"]["symbol"], sold["marker"]["symbol"]) == (["triangle-up"], ["triangle-down-open"])
    assert bought["x"] == ["2026-01-05 14:00:05.000"]


def test_the_fullest_minute_is_shown_and_without_fills_the_middle(folder):
    days = ticks_book.tick_days(folder / "ticks")
    _, middle = ticks_book._where(days, fills((5, 130, 140, 150)))
    assert middle == AT + 150 * SECOND
    drawn = ticks_book.book_picture(folder / "ticks", fills().clear())
    assert drawn.figure["data"][3]["x"] == []


def test_without_quotes_no_book_is_drawn(folder):
    write_day(ticks([event for event in EVENTS if event[2] != QUOTE]), folder / "ticks", "S1", "d", **STAMP)
    assert ticks_book.book_picture(folder / "ticks", fills()) is None
    assert "The source tells no quotes." in page(folder)


def test_it_ends_with_the_last_event_and_names_colours_only_where_lots_rest(folder):
    write_day(ticks(EVENTS[:-1]), folder / "ticks", "S1", "d", **STAMP)
    drawn = ticks_book.book_picture(folder / "ticks", fills())
    assert np.datetime64(drawn.figure["data"][0]["x"][-1]) == np.datetime64(AT + 40 * SECOND, "ns")
    assert ": 40 s with most fills" in drawn.title
    assert drawn.note.startswith("Lots that rest")
    write_day(ticks([event for event in EVENTS if event[2] == QUOTE]), folder / "ticks", "S1", "d", **STAMP)
    assert ticks_book.book_picture(folder / "ticks", fills()).note.startswith("Lines: best bid and ask.")


def test_where_the_touch_goes_far_a_row_holds_several_ticks(folder):
    far = [
        *EVENTS,
        (50, 7, QUOTE, BUY, 1_100, 1),
        (50, 7, QUOTE, SELL, 1_101, 2),
        (50, 8, DEPTH, SELL, 1_101, 2),
    ]
    far.sort(key=lambda event: event[0])
    write_day(ticks(far), folder / "ticks", "S1", "d", **STAMP)
    drawn = ticks_book.book_picture(folder / "ticks", fills())
    heat = drawn.figure["data"][0]
    assert len(heat["y"]) <= ticks_book.MOST_ROWS
    assert "A row is 12 ticks." in drawn.note
    # At the end 3 are bid at 100, 9 asked at 102, in one row or two, and 2 asked far away.
    assert sum(row[-1] for row in np.array(heat["customdata"])) in (9 - 3 + 2, 9 + 3 + 2)


def test_time_between_sessions_is_left_out_of_curves():
    """A week between two recordings; minutes without a step stay."""
    days = [curve(0.5), curve(0.5).with_columns(pl.col("timestamp") + timedelta(days=7))]
    both = pl.concat(days).filter(~pl.col("timestamp").is_between(START + MINUTE, START + 9 * MINUTE))
    drawn = ticks_money.profit_curves(both, replay().strategies[0], ["measured"])
    last = days[0]["timestamp"].max().strftime("%Y-%m-%d %H:%M:%S")
    next_one = (START + timedelta(days=7)).strftime("%Y-%m-%d %H:%M:%S")
    assert drawn.figure["layout"]["xaxis"]["rangebreaks"] == [{"bounds": [last, next_one]}]
    assert ticks_money.profit_curves(days[0], replay().strategies[0], ["measured"]).figure["layout"][
        "xaxis"
    ] == {"rangebreaks": []}


def test_one_clock_alone_measures_no_delay(tmp_path):
    write_day(ticks(), tmp_path, "S1", "d", **STAMP)
    untimed = ticks().with_columns(symbol=pl.lit("S2"), delay_ns=pl.lit(0, pl.Int64))
    write_day(untimed, tmp_path, "S2", "d", **STAMP)
    drawn = ticks_money.delay_histogram(tmp_path)
    assert [one["name"] for one in drawn.figure["data"]] == ["S1"]
    assert "Unknown for S2: one clock only, so that the latency `measured` is 0 there." in drawn.note
