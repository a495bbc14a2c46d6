"""Yahoo, an exchange and Wind, answered by stand-ins from files in the packages' documented shapes: clocks,
refusals, retries, and what is kept.
"""

import copy
import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import polars as pl
import pytest

from components.contracts import RAW_PANEL, check_table
from components.market import fetched
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.fetched import fetch, fetched_path, kept_or_fetched
from components.market.load import load_panel
from components.market.source_hash import market_sha256

RECORDED = Path(__file__).parent / "recorded"
NOW = datetime(2024, 6, 1, tzinfo=UTC)
PATIENCE = {"attempts": 3, "wait_s": 0.0}
SHANGHAI = {"exchange_timezone": "Asia/Shanghai", "session_open": "09:30", "session_close": "15:00"}


def utc(*parts) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def recorded(name: str) -> dict:
    return json.loads((RECORDED / f"{name}.json").read_text())


class Network:
    """Counts questions, and fails the first `failures` of them with `error`."""

    def __init__(self, failures: int = 0, error: Exception | None = None):
        self.asked, self.failures, self.error = 0, failures, error

    def pass_or_fail(self) -> None:
        self.asked += 1
        if self.asked <= self.failures:
            raise self.error


def yahoo(monkeypatch, network: Network | None = None, change=None) -> ModuleType:
    module, answers, network = ModuleType("yfinance"), recorded("yahoo"), network or Network()

    class YFException(Exception):
        pass

    class YFRateLimitError(YFException):
        pass

    class Ticker:
        def __init__(self, symbol):
            self.symbol = symbol

        def history(self, start, end, interval, auto_adjust, actions, raise_errors, timeout):
            network.pass_or_fail()
            assert raise_errors
            answer = answers["hours" if interval == "1h" else "days"].get(self.symbol)
            if answer is None:
                raise YFException(f"${self.symbol}: possibly delisted; no price data found")
            index = pd.DatetimeIndex(answer["index"], name="Date").tz_localize(answer["zone"])
            frame = pd.DataFrame(answer["columns"], index=index)
            if not auto_adjust:
                frame["Adj Close"] = frame["Close"]
            frame = frame[
                (index >= pd.Timestamp(start, tz=answer["zone"]))
                & (index < pd.Timestamp(end or "2100-01-01", tz=answer["zone"]))
            ]
            return change(frame) if change else frame

    module.Ticker, module.exceptions = (
        Ticker,
        SimpleNamespace(YFException=YFException, YFRateLimitError=YFRateLimitError),
    )
    module.network = network
    monkeypatch.setitem(sys.modules, "yfinance", module)
    return module


def exchange(monkeypatch, network: Network | None = None, most: int = 2) -> ModuleType:
    """A stand-in for ccxt whose exchange answers at most `most` bars, whatever the limit says, and nothing
    before a listing.
    """
    module, answers, network = ModuleType("ccxt"), recorded("ccxt"), network or Network()
    for name, base in (
        ("BaseError", Exception),
        ("ExchangeError", "BaseError"),
        ("NetworkError", "BaseError"),
        ("RateLimitExceeded", "NetworkError"),
        ("BadSymbol", "ExchangeError"),
    ):
        setattr(module, name, type(name, (getattr(module, base) if isinstance(base, str) else base,), {}))

    class Exchange:
        has = {"fetchOHLCV": True}  # noqa: RUF012
        timeframes = answers["timeframes"]

        def __init__(self, options):
            assert options["enableRateLimit"] is True

        def load_markets(self):
            self.markets = {symbol: {} for symbol in answers["bars"]}

        def fetch_ohlcv(self, symbol, timeframe, since, limit):
            network.pass_or_fail()
            first = datetime.fromisoformat(answers["bars"][symbol]["first"]).timestamp() * 1000
            step = {"1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000}[timeframe]
            bars = [
                [int(first) + number * step, price, price * 1.01, price * 0.99, price * 1.001, 10.0]
                for number, price in enumerate(answers["bars"][symbol]["open"])
            ]
            page = [bar for bar in bars if since - step <= bar[0] < since + limit * step]
            return page[:most]

    class Silent(Exchange):
        has = {"fetchOHLCV": False}  # noqa: RUF012

    module.exchanges, module.bourse, module.silent, module.network = (
        ["bourse", "silent"],
        Exchange,
        Silent,
        network,
    )
    monkeypatch.setitem(sys.modules, "ccxt", module)
    return module


def wind(monkeypatch, change=None, timeouts: int = 0) -> SimpleNamespace:
    answers = copy.deepcopy(recorded("wind"))
    if change:
        change(answers)
    state = SimpleNamespace(asked=[], timeouts=timeouts)

    def answer(found: dict) -> SimpleNamespace:
        return SimpleNamespace(**{**found, "Times": [date.fromisoformat(day) for day in found["Times"]]})

    class Terminal:
        def start(self, waitTime):
            return answer(answers["start"])

        def wsd(self, code, fields, first, last, options):
            state.asked.append(options)
            if state.timeouts:
                state.timeouts -= 1
                return SimpleNamespace(
                    ErrorCode=-40521010, Fields=["OUTMESSAGE"], Times=[], Codes=[], Data=[["time out"]]
                )
            assert fields == "open,high,low,close,volume"
            return answer(answers["wsd"][code])

        def wset(self, report, options):
            assert (report, options.split(";")[1]) == ("sectorconstituent", "sectorid=a001")
            return answer(answers["wset"])

        def wss(self, codes, fields, options):
            return answer(answers["wss"][options.split(";")[0].removeprefix("tradeDate=")])

    module = ModuleType("WindPy")
    module.w = Terminal()
    monkeypatch.setitem(sys.modules, "WindPy", module)
    return state


def ask_yahoo(**changes) -> Settings:
    return Settings(
        **{"source": "yahoo", "symbols": ["AAPL"], "start": "2024-03-07", "fetch": PATIENCE, **changes}
    )


def ask_exchange(**changes) -> Settings:
    return Settings(
        **{
            "source": "ccxt",
            "symbols": ["BTC/USDT"],
            "start": "2024-01-01",
            "fetch": PATIENCE,
            "ccxt": {"exchange": "bourse", "page_bars": 3},
            **changes,
        }
    )


def ask_wind(**changes) -> Settings:
    return Settings(
        **{
            "source": "wind",
            "symbols": ["600000.SH", "000001.SZ"],
            "start": "2023-12-28",
            "end": "2024-01-03",
            "fetch": PATIENCE,
            **SHANGHAI,
            **changes,
        }
    )


def test_yahoo_days_are_known_at_the_close_on_both_sides_of_a_clock_change(tmp_path, monkeypatch):
    yahoo(monkeypatch)
    fetch(ask_yahoo(), tmp_path, now=NOW)
    market = load_panel(ask_yahoo(), data_folder=tmp_path, seed=0)
    check_table(market.panel, RAW_PANEL)
    assert market.panel["timestamp"].to_list() == [
        utc(2024, 3, 7, 21),
        utc(2024, 3, 8, 21),
        utc(2024, 3, 11, 20),
        utc(2024, 3, 12, 20),
    ]
    assert market.panel["event_time"][2] == utc(2024, 3, 11, 13, 30)
    assert market.panel.row(0, named=True)["close"] == 168.1
    assert market.panel["volume"].to_list()[0] == 71765100.0
    assert "as fetched at 2024-06-01 00:00 UTC" in market.notes[0]
    assert "adjusted for splits and dividends as of the fetch" in market.notes[1]


def test_yahoo_hours_open_at_their_stamp(tmp_path, monkeypatch):
    yahoo(monkeypatch)
    settings = ask_yahoo(period="1h")
    fetch(settings, tmp_path, now=NOW)
    panel = load_panel(settings, data_folder=tmp_path, seed=0).panel
    assert panel["event_time"].to_list() == [
        utc(2024, 3, 8, 14, 30),
        utc(2024, 3, 8, 15, 30),
        utc(2024, 3, 11, 13, 30),
    ]
    assert panel["timestamp"][0] == utc(2024, 3, 8, 15, 30)


def test_a_bar_that_has_not_ended_is_left_out_and_said(tmp_path, monkeypatch):
    yahoo(monkeypatch)
    early = fetch(ask_yahoo(), tmp_path, now=utc(2024, 3, 12, 19, 59))
    assert (early.rows, "1 bars had not ended" in early.notes[-1]) == (3, True)
    on_time = fetch(ask_yahoo(), tmp_path, now=utc(2024, 3, 12, 20))
    assert (on_time.rows, any("not ended" in note for note in on_time.notes)) == (4, False)
    late = ask_yahoo(publication_lag_s=3600)
    assert fetch(late, tmp_path, now=utc(2024, 3, 12, 20, 30)).rows == 3
    with pytest.raises(MarketError, match="no finished bar"):
        fetch(ask_yahoo(), tmp_path, now=utc(2024, 3, 7, 15))


def test_a_symbol_of_another_zone_is_refused_and_coins_have_days_of_their_own(tmp_path, monkeypatch):
    yahoo(monkeypatch)
    with pytest.raises(MarketError, match=r"7203\.T trades in the zone Asia/Tokyo, not America/New_York"):
        fetch(ask_yahoo(symbols=["7203.T"]), tmp_path, now=NOW)
    with pytest.raises(MarketError, match="round_the_clock: true"):
        fetch(ask_yahoo(symbols=["BTC-USD"]), tmp_path, now=NOW)
    coins = ask_yahoo(symbols=["BTC-USD"], yahoo={"round_the_clock": True})
    fetch(coins, tmp_path, now=NOW)
    assert load_panel(coins, data_folder=tmp_path, seed=0).panel["timestamp"].to_list() == [
        utc(2024, 3, 9),
        utc(2024, 3, 10),
    ]


@pytest.mark.parametrize(
    "error", [OSError("connection reset"), TimeoutError("timed out"), RuntimeError("Yahoo is down"), "rate"]
)
def test_a_refusal_that_passes_is_asked_again_and_one_that_stays_is_explained(tmp_path, monkeypatch, error):
    def network(failures: int) -> ModuleType:
        module = yahoo(monkeypatch, Network(failures))
        module.network.error = (
            module.exceptions.YFRateLimitError("Too Many Requests") if error == "rate" else error
        )
        return module

    assert network(2).network.asked == 0
    assert fetch(ask_yahoo(), tmp_path, now=NOW).rows == 4
    kept = fetched_path(ask_yahoo(), tmp_path).read_bytes()
    module = network(99)
    with pytest.raises(MarketError, match=r"no answer after 3 attempts.*Nothing was written") as caught:
        fetch(ask_yahoo(), tmp_path, now=NOW)
    assert module.network.asked == 3
    assert len(str(caught.value).splitlines()) == 1
    assert fetched_path(ask_yahoo(), tmp_path).read_bytes() == kept
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == [
        fetched_path(ask_yahoo(), tmp_path).name
    ]


def test_pauses_grow_and_end(monkeypatch, tmp_path):
    yahoo(monkeypatch, Network(99, OSError("down")))
    pauses = []
    monkeypatch.setattr(fetched.time, "sleep", pauses.append)
    with pytest.raises(MarketError, match="after 4 attempts"):
        fetch(ask_yahoo(fetch={"attempts": 4, "wait_s": 1.5}), tmp_path, now=NOW)
    assert pauses == [1.5, 3.0, 6.0]


def test_all_symbols_without_an_answer_are_named_at_once(tmp_path, monkeypatch):
    yahoo(monkeypatch)
    with pytest.raises(MarketError, match=r"no bars of 2 symbols \(NOPE: .*delisted.*; GONE"):
        fetch(ask_yahoo(symbols=["NOPE", "AAPL", "GONE"]), tmp_path, now=NOW)
    with pytest.raises(MarketError, match="AAPL: an empty answer"):
        fetch(ask_yahoo(start="2024-04-01"), tmp_path, now=NOW)
    assert not (tmp_path / "fetched").exists()


def test_a_partial_answer_is_said(tmp_path, monkeypatch):
    yahoo(monkeypatch)
    notes = fetch(ask_yahoo(start="2020-01-01"), tmp_path, now=NOW).notes
    assert "1 symbols begin later than market.start=2020-01-01" in notes[-1]
    assert "AAPL 2024-03-07" in notes[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="Volume"), "lacks the columns Volume"),
        (lambda frame: frame.tz_localize(None), "lacks a time zone"),
    ],
)
def test_an_answer_in_another_form_is_refused(tmp_path, monkeypatch, change, message):
    yahoo(monkeypatch, change=change)
    with pytest.raises(MarketError, match=message):
        fetch(ask_yahoo(), tmp_path, now=NOW)


@pytest.mark.parametrize(
    ("settings", "module", "install"),
    [
        (ask_yahoo(), "yfinance", r"alphaloop\[yahoo\]"),
        (ask_exchange(), "ccxt", r"alphaloop\[exchanges\]"),
        (ask_wind(), "WindPy", "install the terminal"),
    ],
)
def test_a_missing_package_names_what_to_install(tmp_path, monkeypatch, settings, module, install):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(fetched.importlib, "import_module", _without(module, fetched.importlib.import_module))
    with pytest.raises(MarketError, match=f"needs the package {module}, which is not installed.*{install}"):
        fetch(settings, tmp_path, now=NOW)


def _without(missing: str, importer):
    def load(name):
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return importer(name)

    return load


def test_what_was_fetched_is_kept_until_it_is_fetched_anew(tmp_path, monkeypatch):
    module = yahoo(monkeypatch)
    first = market_sha256(ask_yahoo(), tmp_path, 0)
    asked = module.network.asked
    assert asked == 1
    again = load_panel(ask_yahoo(), data_folder=tmp_path, seed=0)
    assert market_sha256(ask_yahoo(), tmp_path, 5) == first
    assert module.network.asked == asked
    assert kept_or_fetched(ask_yahoo(start="2024-03-08"), tmp_path) != fetched_path(ask_yahoo(), tmp_path)
    yahoo(monkeypatch, change=lambda frame: frame * 1.5)
    assert load_panel(ask_yahoo(), data_folder=tmp_path, seed=0).panel.equals(again.panel)
    fetch(ask_yahoo(), tmp_path)
    assert load_panel(ask_yahoo(), data_folder=tmp_path, seed=0).panel["close"][0] == pytest.approx(
        168.1 * 1.5
    )
    assert market_sha256(ask_yahoo(), tmp_path, 0) != first
    fetched_path(ask_yahoo(), tmp_path).write_bytes(b"PAR1")
    with pytest.raises(MarketError, match="damaged"):
        load_panel(ask_yahoo(), data_folder=tmp_path, seed=0)


def test_an_exchange_is_read_page_by_page_from_its_listing_on(tmp_path, monkeypatch):
    module = exchange(monkeypatch)
    settings = ask_exchange(symbols=["BTC/USDT", "ETH/USDT"])
    fetch(settings, tmp_path, now=utc(2024, 1, 10))
    market = load_panel(settings, data_folder=tmp_path, seed=0)
    btc = market.panel.filter(pl.col("symbol") == "BTC/USDT")
    assert btc["open"].to_list() == recorded("ccxt")["bars"]["BTC/USDT"]["open"]
    assert btc["event_time"].to_list() == [utc(2024, 1, day) for day in range(2, 9)]
    assert btc["timestamp"][0] == btc["known_time"][0] == utc(2024, 1, 3)
    assert market.panel.select("symbol", "timestamp").is_duplicated().sum() == 0
    assert module.network.asked < 20


def test_an_exchanges_running_bar_is_dropped_and_the_end_respected(tmp_path, monkeypatch):
    exchange(monkeypatch)
    running = fetch(ask_exchange(), tmp_path, now=utc(2024, 1, 8, 12))
    assert (running.rows, "1 bars had not ended" in running.notes[-1]) == (6, True)
    assert fetch(ask_exchange(end="2024-01-04"), tmp_path, now=NOW).rows == 3
    panel = load_panel(ask_exchange(end="2024-01-04"), data_folder=tmp_path, seed=0).panel
    assert panel["timestamp"].max() == utc(2024, 1, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbols": ["BTC/USDC"]}, "has no market BTC/USDC .*Close: BTC/USDT"),
        ({"ccxt": {"exchange": "borse"}}, "knows no exchange 'borse'.*Close: bourse"),
        ({"ccxt": {"exchange": "silent"}}, "silent gives no bars"),
        ({"start": "2024-02-01"}, "no bar from 2024-02-01 on"),
    ],
)
def test_what_an_exchange_does_not_have_is_said(tmp_path, monkeypatch, changes, message):
    exchange(monkeypatch)
    with pytest.raises(MarketError, match=message):
        fetch(ask_exchange(**changes), tmp_path, now=utc(2024, 3, 1))


def test_an_exchanges_limits_and_refusals(tmp_path, monkeypatch):
    module = exchange(monkeypatch, Network(2))
    module.network.error = module.RateLimitExceeded("429")
    assert fetch(ask_exchange(), tmp_path, now=NOW).rows == 7
    module = exchange(monkeypatch, Network(99))
    module.network.error = module.RateLimitExceeded("429")
    with pytest.raises(MarketError, match="after 3 attempts, last RateLimitExceeded: 429"):
        fetch(ask_exchange(), tmp_path, now=NOW)
    module = exchange(monkeypatch, Network(99))
    module.network.error = module.ExchangeError("maintenance")
    with pytest.raises(MarketError, match="bourse refused: ExchangeError: maintenance"):
        fetch(ask_exchange(), tmp_path, now=NOW)
    assert module.network.asked == 1


def test_a_period_that_the_exchange_lacks_is_refused(tmp_path, monkeypatch):
    module = exchange(monkeypatch)
    module.bourse.timeframes = {"1d": "1d"}
    with pytest.raises(MarketError, match=r"has no bars of 4h\. It has 1d"):
        fetch(ask_exchange(period="4h"), tmp_path, now=NOW)


def test_wind_days_close_in_shanghai_with_the_industry_of_each_year(tmp_path, monkeypatch):
    state = wind(monkeypatch)
    fetch(ask_wind(), tmp_path, now=NOW)
    market = load_panel(ask_wind(), data_folder=tmp_path, seed=0)
    pudong = market.panel.filter(pl.col("symbol") == "600000.SH")
    assert pudong["timestamp"].to_list() == [
        utc(2023, 12, 28, 7),
        utc(2023, 12, 29, 7),
        utc(2024, 1, 2, 7),
    ], "the suspended day has no bar"
    ping_an = market.panel.filter(pl.col("symbol") == "000001.SZ")
    assert pudong["sector"].to_list() == [None, "Banks", "Banks"]
    assert ping_an["sector"].to_list() == [None, None, "Finance", "Finance"]
    assert state.asked == ["PriceAdj=B"] * 2
    assert "adjusted to the oldest price" in market.notes[1]


def test_winds_members_are_named_survivors(tmp_path, monkeypatch):
    wind(monkeypatch)
    notes = fetch(
        ask_wind(symbols=None, wind={"sector_id": "a001", "industry": None, "adjusted": "none"}),
        tmp_path,
        now=NOW,
    ).notes
    assert any("survivors only" in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "change", "message"),
    [
        (
            {"exchange_timezone": "America/New_York"},
            None,
            "Set market.period: 1d, market.exchange_timezone: Asia/Shanghai",
        ),
        ({"symbols": ["600000.SH", "999999.SH"]}, None, "no bars of 1 symbols \\(999999.SH: an empty answer"),
        ({"symbols": ["QUOTA.SH"]}, None, "code -40522017, CWSDService: quota exceeded"),
        ({"symbols": ["CUT.SH"]}, None, "incomplete: fields open, high, low, close"),
        (
            {},
            lambda answers: answers["start"].update(ErrorCode=-103, Data=[["not logged in"]]),
            "log in to it first.*code -103, not logged in",
        ),
        ({}, lambda answers: answers["wsd"]["600000.SH"]["Data"][0].pop(), "incomplete"),
    ],
)
def test_winds_refusals_are_explained(tmp_path, monkeypatch, changes, change, message):
    wind(monkeypatch, change)
    with pytest.raises(MarketError, match=message):
        fetch(ask_wind(**changes), tmp_path, now=NOW)
    assert not (tmp_path / "fetched").exists()


def test_winds_time_out_is_asked_again(tmp_path, monkeypatch):
    wind(monkeypatch, timeouts=2)
    assert fetch(ask_wind(), tmp_path, now=NOW).rows == 7
    wind(monkeypatch, timeouts=99)
    with pytest.raises(MarketError, match="after 3 attempts"):
        fetch(ask_wind(), tmp_path, now=NOW)


@pytest.mark.parametrize(
    "values",
    [
        {"source": "yahoo", "start": "2024-01-01"},
        {"source": "ccxt", "symbols": ["BTC/USDT"]},
        {"source": "wind", "start": "2024-01-01"},
        {"source": "qlib"},
    ],
)
def test_settings_that_cannot_be_asked_are_refused(values):
    with pytest.raises(ValueError, match="needs"):
        Settings(**values)


def test_files_are_not_fetched(tmp_path):
    with pytest.raises(MarketError, match=r"market\.source csv is not fetched"):
        fetch(Settings(source="csv", path="x.csv"), tmp_path)
