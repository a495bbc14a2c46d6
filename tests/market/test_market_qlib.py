"""A Qlib data folder, written byte by byte in its documented layout, gives the bars of its lists; a damaged
one is explained.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from components.contracts import RAW_PANEL, check_table
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.load import load_panel
from components.market.source_hash import market_sha256

DAYS = ["2020-01-02", "2020-01-03", "2020-01-06", "2020-01-07", "2020-01-08"]
SHANGHAI = {"exchange_timezone": "Asia/Shanghai", "session_open": "09:30", "session_close": "15:00"}


def store(
    folder: Path, symbol: str, first: int, fields: dict[str, list[float]], frequency: str = "day"
) -> None:
    place = folder / "features" / symbol
    place.mkdir(parents=True, exist_ok=True)
    for field, values in fields.items():
        (place / f"{field}.{frequency}.bin").write_bytes(np.array([first, *values], dtype="<f4").tobytes())


def folder(root: Path) -> Path:
    (root / "calendars").mkdir(parents=True)
    (root / "instruments").mkdir()
    (root / "calendars" / "day.txt").write_text("\n".join(DAYS) + "\n")
    (root / "instruments" / "all.txt").write_text(
        "SH600000\t2020-01-02\t2020-01-08\nSZ000001\t2020-01-03\t2020-01-07\n"
    )
    (root / "instruments" / "few.txt").write_text(
        "SH600000\t2020-01-02\t2020-01-03\nSH600000\t2020-01-08\t2020-01-08\n"
    )
    prices = {
        name: [value + step for step in range(5)]
        for name, value in (("open", 10.0), ("high", 12.0), ("low", 9.0), ("close", 11.0))
    }
    store(root, "sh600000", 0, {**prices, "volume": [100.0, 200.0, 300.0, 400.0, 500.0], "factor": [0.5] * 5})
    late = {name: [1.0, np.nan, 3.0] for name in ("open", "high", "low", "close", "volume", "factor")}
    store(root, "sz000001", 1, late)
    return root


def ask(**changes) -> Settings:
    return Settings(**{"source": "qlib", "path": "cn", **SHANGHAI, **changes})


def load(root: Path, **changes):
    return load_panel(ask(**changes), data_folder=root, seed=0)


def test_bars_lie_where_their_bins_begin_and_close_in_their_zone(tmp_path):
    folder(tmp_path / "cn")
    market = load(tmp_path)
    check_table(market.panel, RAW_PANEL)
    rows = market.panel.select("symbol", "timestamp", "close", "volume").rows()
    moment = {day: datetime(2020, 1, int(day[-2:]), 7, tzinfo=UTC) for day in DAYS}
    assert rows == [
        *(("SH600000", moment[day], 11.0 + step, 100.0 * (step + 1)) for step, day in enumerate(DAYS)),
        ("SZ000001", moment["2020-01-03"], 1.0, 1.0),
        ("SZ000001", moment["2020-01-07"], 3.0, 3.0),
    ]
    assert "as stored" in market.notes[0]


def test_a_symbol_counts_only_while_it_is_on_the_list(tmp_path):
    folder(tmp_path / "cn")
    panel = load(tmp_path, qlib={"instruments": "few"}).panel
    assert panel["timestamp"].dt.day().to_list() == [2, 3, 8]


def test_the_factor_takes_the_adjustment_back(tmp_path):
    folder(tmp_path / "cn")
    panel = load(tmp_path, symbols=["SH600000"], qlib={"adjusted": False}).panel
    assert panel["close"].to_list() == [22.0, 24.0, 26.0, 28.0, 30.0]
    assert panel["volume"].to_list() == [50.0, 100.0, 150.0, 200.0, 250.0]


def test_hours_take_the_stamps_of_their_calendar(tmp_path):
    root = folder(tmp_path / "cn")
    (root / "calendars" / "60min.txt").write_text("2020-01-02 10:30:00\n2020-01-02 11:30:00\n")
    store(root, "sh600000", 0, {"close": [1.0, 2.0]}, "60min")
    market = load(tmp_path, period="1h", symbols=["SH600000"], timezone="Asia/Shanghai", stamp="bar_close")
    assert market.panel["timestamp"].to_list() == [
        datetime(2020, 1, 2, 2, 30, tzinfo=UTC),
        datetime(2020, 1, 2, 3, 30, tzinfo=UTC),
    ]
    assert market.panel["open"].null_count() == 2
    assert "no column open, high, low, volume" in market.notes[1]


def test_a_name_that_windows_keeps_for_a_device_is_prefixed(tmp_path):
    root = folder(tmp_path / "cn")
    (root / "instruments" / "all.txt").write_text("CON\t2020-01-02\t2020-01-08\n")
    store(root, "_qlib_con", 0, {"close": [1.0, 2.0]})
    assert load(tmp_path).panel["close"].to_list() == [1.0, 2.0]


def test_the_hash_follows_every_file_that_is_read(tmp_path):
    root = folder(tmp_path / "cn")
    hashes = {market_sha256(ask(), tmp_path, 0)}
    for path in (root / "calendars" / "day.txt", root / "instruments" / "all.txt"):
        path.write_text(path.read_text() + "\n")
        hashes.add(market_sha256(ask(), tmp_path, 0))
    store(root, "sz000001", 1, {"close": [1.0, np.nan, 4.0]})
    hashes.add(market_sha256(ask(), tmp_path, 0))
    assert len(hashes) == 4
    store(root, "sz000001", 1, {"unread": [1.0]})
    assert market_sha256(ask(), tmp_path, 0) in hashes


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "calendars" / "day.txt").unlink(), "does not exist .*market.qlib.frequency"),
        (
            lambda root: (root / "instruments" / "all.txt").unlink(),
            "does not exist .*market.qlib.instruments",
        ),
        (
            lambda root: (root / "instruments" / "all.txt").write_text("SH600000 2020-01-02\n"),
            "line 1: .*parted by tabs",
        ),
        (
            lambda root: (root / "instruments" / "all.txt").write_text("SH600000\tyesterday\t2020-01-08\n"),
            "line 1: 'yesterday' is no day",
        ),
        (lambda root: (root / "calendars" / "day.txt").write_text("monday\n"), "'monday' is not an ISO time"),
        (lambda root: (root / "calendars" / "day.txt").write_bytes(b"\xff\xfe"), "no text in UTF-8"),
        (lambda root: (root / "calendars" / "day.txt").write_text("\n"), "holds no step"),
        (
            lambda root: (root / "features" / "sh600000" / "close.day.bin").write_bytes(
                b"\x00\x00\x00\x00\x01\x02"
            ),
            "does not fit the calendar",
        ),
        (
            lambda root: store(root, "sh600000", 4, {"close": [1.0, 2.0]}),
            "does not fit the calendar of 5 steps",
        ),
        (lambda root: store(root, "sh600000", -3, {"close": [1.0]}), "does not fit the calendar"),
        (
            lambda root: (root / "features" / "sz000001" / "high.day.bin").unlink(),
            "high.day.bin does not exist",
        ),
        (
            lambda root: (root / "features" / "sh600000" / "close.day.bin").unlink(),
            "close.day.bin does not exist",
        ),
    ],
)
def test_a_damaged_folder_is_explained(tmp_path, damage, message):
    damage(folder(tmp_path / "cn"))
    with pytest.raises(MarketError, match=message):
        load(tmp_path)


def test_listed_symbols_without_a_folder_are_told(tmp_path):
    root = folder(tmp_path / "cn")
    (root / "instruments" / "all.txt").write_text(
        "SH600000\t2020-01-02\t2020-01-08\nSH600001\t2020-01-02\t2020-01-08\n"
    )
    market = load(tmp_path)
    assert market.panel["symbol"].unique().to_list() == ["SH600000"]
    assert "1 symbols of the list all have no bars in the folder: SH600001" in market.notes[1]
    with pytest.raises(MarketError, match="lists no symbol with bars"):
        load(tmp_path, symbols=["SH600001"])


def test_what_is_no_qlib_folder_or_symbol_is_said(tmp_path):
    folder(tmp_path / "cn")
    with pytest.raises(MarketError, match="no Qlib data folder: it lacks calendars"):
        load(tmp_path, path="elsewhere")
    with pytest.raises(MarketError, match="lists no SH999999"):
        load(tmp_path, symbols=["SH999999"])
