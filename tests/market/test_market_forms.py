"""The same bars in the forms in which files come: each is read as the plain file is, by itself or by the
setting that the message names.
"""

import gzip
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from components.contracts.tables import content_sha256
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.load import load_panel

NAMES = ["date", "symbol", "open", "high", "low", "close", "volume"]
CHINESE = ["日期", "股票代码", "开盘", "最高", "最低", "收盘", "成交量"]
MAPPED = {"timestamp": "date"}


def bars(symbols=("000001", "NA", "TRUE"), days: int = 40) -> list[list[str]]:
    """Rows of text, prices with two decimals, volumes of six or seven digits."""
    rows = []
    for number, symbol in enumerate(symbols):
        for day in range(days):
            close = 40 + number + day / 8 + (day % 5) / 4
            moment = date(2023, 3, 1) + timedelta(days=day)
            prices = [f"{close + step:.2f}" for step in (0.11, 0.52, -0.43, 0.0)]
            rows.append([str(moment), symbol, *prices, str(987_654 + 31_457 * day)])
    return rows


def text(rows, names=NAMES, separator=",") -> str:
    return "".join(separator.join(row) + "\n" for row in [names, *rows])


def load(folder: Path, **changes):
    given = {"source": "csv", "path": "p.csv", "columns": MAPPED, "stamp": "session_date", **changes}
    return load_panel(Settings.model_validate(given), data_folder=folder, seed=0)


@pytest.fixture
def plain(tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "p.csv").write_text(text(bars()))
    market = load(folder)
    assert market.found == ""
    return content_sha256(market.panel)


def changed(change) -> list[list[str]]:
    return [change(list(row)) for row in bars()]


def day_form(form: str):
    return changed(lambda row: [date.fromisoformat(row[0]).strftime(form), *row[1:]])


def marked(decimal: str, thousands: str):
    def cell(value: str) -> str:
        return (
            f"{float(value):,.2f}".translate({44: thousands, 46: decimal})
            if "." in value
            else (f"{int(value):,}".replace(",", thousands))
        )

    return changed(lambda row: [*row[:2], *map(cell, row[2:])])


FOUND = {
    "utf-8 with a mark": (text(bars()).encode("utf-8-sig"), "utf-8-sig"),
    "utf-16": (text(bars()).encode("utf-16"), 'encoding: "utf-16"'),
    "utf-16 without a mark": (text(bars()).encode("utf-16-be"), 'encoding: "utf-16-be"'),
    "windows lines": (text(bars()).replace("\n", "\r\n").encode(), ""),
    "old mac lines": (text(bars()).replace("\n", "\r").encode(), ""),
    "semicolons": (text(bars(), separator=";").encode(), 'separator: ";"'),
    "tabs": (text(bars(), separator="\t").encode(), 'separator: "\\t"'),
    "bars": (text(bars(), separator="|").encode(), 'separator: "|"'),
    "a title above": (("Prices of three shares\n\n" + text(bars())).encode(), "skip_lines: 2"),
    "a long title with commas": (("a,b,c\nx, y\n# by, whom\n" + text(bars())).encode(), "skip_lines: 3"),
    "tickers and an index below the names": (
        text([["Ticker", *["AAA"] * 6], ["day", *[""] * 6], *bars()]).encode(),
        "header_lines: 3",
    ),
    "units below the names": (
        text([["ymd", "", "USD", "USD", "USD", "USD", "shares"], *bars()]).encode(),
        "header_lines: 2",
    ),
    "decimal comma": (text(marked(",", ""), separator=";").encode(), 'decimal: ","'),
    "decimal comma, points between thousands": (
        text(marked(",", "."), separator=";").encode(),
        'decimal: ","',
    ),
    "decimal comma, blanks between thousands": (
        text(marked(",", "\u00a0"), separator=";").encode(),
        'decimal: ","',
    ),
    "apostrophes between thousands": (text(marked(".", "'")).encode(), ""),
    "commas between thousands, quoted": (
        text(changed(lambda row: [*row[:6], f'"{int(row[6]):,}"'])).encode(),
        "",
    ),
    "signs of a currency": (text(changed(lambda row: [*row[:5], f"${row[5]}", row[6]])).encode(), ""),
    "blanks around": (text(changed(lambda row: [f" {cell} " for cell in row])).encode(), ""),
    "quotes around all": (text(changed(lambda row: [f'"{cell}"' for cell in row])).encode(), ""),
    "digits of a calendar": (text(day_form("%Y%m%d")).encode(), 'timestamp_unit: "calendar"'),
    "day first": (text(day_form("%d/%m/%Y")).encode(), 'timestamp_format: "%d/%m/%Y"'),
    "month first": (text(day_form("%m/%d/%Y")).encode(), 'timestamp_format: "%m/%d/%Y"'),
    "days of Germany": (text(day_form("%d.%m.%Y")).encode(), 'timestamp_format: "%d.%m.%Y"'),
    "names of months": (text(day_form("%d-%b-%Y")).encode(), 'timestamp_format: "%d-%b-%Y"'),
    "days of a spreadsheet": (
        text(
            changed(lambda row: [str((date.fromisoformat(row[0]) - date(1899, 12, 30)).days), *row[1:]])
        ).encode(),
        'timestamp_unit: "excel"',
    ),
    "seconds": (
        text(
            changed(
                lambda row: [
                    str(int(datetime.fromisoformat(row[0]).replace(tzinfo=UTC).timestamp())),
                    *row[1:],
                ]
            )
        ).encode(),
        'timestamp_unit: "s"',
    ),
    "blank lines inside and after": (
        text(bars()).replace("\n2023-03-09,NA", "\n\n2023-03-09,NA").encode() + b"\n\n",
        "",
    ),
}


@pytest.mark.parametrize("form", FOUND)
def test_a_form_that_leaves_no_doubt_is_found_and_its_settings_read_the_same(tmp_path, plain, form):
    content, setting = FOUND[form]
    (tmp_path / "p.csv").write_bytes(content)
    market = load(tmp_path)
    assert content_sha256(market.panel) == plain
    assert setting in market.found
    if setting:
        import yaml

        held = load(tmp_path, **yaml.safe_load(market.found)["market"])
        assert content_sha256(held.panel) == plain
        assert held.found == ""


@pytest.mark.parametrize(
    "encoding", ["gb18030", "utf-8", "utf-8-sig", "utf-16", "big5", "shift_jis", "euc_kr"]
)
def test_names_in_chinese_tell_the_encoding(tmp_path, plain, encoding):
    names = CHINESE if encoding not in ("big5", "shift_jis", "euc_kr") else ["日期", *NAMES[1:]]
    (tmp_path / "p.csv").write_bytes(text(bars(), names).encode(encoding))
    contract = ("timestamp", *NAMES[1:])
    columns = {ours: theirs for ours, theirs in zip(contract, names, strict=True) if ours != theirs}
    assert content_sha256(load(tmp_path, columns=columns).panel) == plain


@pytest.mark.parametrize(
    ("encoding", "company"), [("gb18030", "平安银行"), ("cp1252", "Société Générale"), ("cp1251", "Сбербанк")]
)
def test_the_encoding_of_a_column_that_is_not_used_does_not_matter(tmp_path, plain, encoding, company):
    rows = [[*row, company] for row in bars()]
    (tmp_path / "p.csv").write_bytes(text(rows, [*NAMES, "company"]).encode(encoding))
    assert content_sha256(load(tmp_path).panel) == plain


def test_symbols_in_a_doubtful_encoding_are_asked_for(tmp_path):
    (tmp_path / "p.csv").write_bytes(text(bars(("MÜLLER", "AB"))).encode("cp1252"))
    with pytest.raises(MarketError, match=r"encoding is in doubt.*'MÜLLER' in cp1252.*market\.csv\.encoding"):
        load(tmp_path)
    panel = load(tmp_path, csv={"encoding": "latin-1"}).panel
    assert panel["symbol"].unique().sort().to_list() == ["AB", "MÜLLER"]


def test_symbols_in_chinese_are_sure(tmp_path):
    symbols = ("平安银行", "贵州茅台")
    (tmp_path / "p.csv").write_bytes(text(bars(symbols)).encode("gb18030"))
    assert set(load(tmp_path).panel["symbol"]) == set(symbols)


DOUBTFUL = {
    "day or month": (
        text([row for row in day_form("%d/%m/%Y") if row[0] < "13"]),
        {},
        r"no date tells day from month.*market\.timestamp_format.*'%d/%m/%Y' or '%m/%d/%Y'",
        {"timestamp_format": "%d/%m/%Y"},
    ),
    "comma before three digits": (
        text([[*row[:2], *['"1,234"'] * 4, "5"] for row in bars()]),
        {},
        r"leaves its decimal mark in doubt: '1,234' may be 1\.234 or 1234\. Set market\.csv\.decimal",
        {"csv": {"decimal": ","}},
    ),
    "point before three digits between semicolons": (
        text([[*row[:2], *["1.234"] * 4, "5"] for row in bars()], separator=";"),
        {},
        r"'1\.234' may be 1\.234 or 1234\. Set market\.csv\.decimal",
        {"csv": {"decimal": "."}},
    ),
    "no header": (
        text(bars())[len(",".join(NAMES)) + 1 :],
        {},
        r"has no header: its first line is '2023-03-01,000001.*market\.csv\.names",
        {"csv": {"names": NAMES}},
    ),
}


@pytest.mark.parametrize("form", DOUBTFUL)
def test_what_the_file_leaves_in_doubt_is_asked_for_by_its_setting(tmp_path, form):
    content, given, message, answer = DOUBTFUL[form]
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(MarketError, match=message.replace(" ", r"\s")):
        load(tmp_path, **given)
    assert len(load(tmp_path, **answer).panel) == len(content.splitlines()) - (form != "no header")


def test_the_mark_that_was_set_counts(tmp_path):
    (tmp_path / "p.csv").write_text(text([[*row[:2], *['"1,234"'] * 4, "5"] for row in bars()]))
    closes = {mark: load(tmp_path, csv={"decimal": mark}).panel["close"][0] for mark in ",."}
    assert closes == {",": 1.234, ".": 1234.0}


def test_prices_with_three_decimals_are_no_thousands(tmp_path):
    """As those of yen: 145.123, beside whole volumes."""
    (tmp_path / "p.csv").write_text(text([[*row[:2], *["145.123"] * 4, row[6]] for row in bars()]))
    assert load(tmp_path).panel["close"].unique().to_list() == [145.123]


def test_marks_may_differ_from_column_to_column(tmp_path):
    """Prices with a decimal comma beside volumes with commas between thousands."""
    rows = changed(lambda row: [*row[:2], *(cell.replace(".", ",") for cell in row[2:6]), f"{int(row[6]):,}"])
    (tmp_path / "p.csv").write_text(text(rows, separator=";"))
    panel = load(tmp_path).panel
    assert panel["close"][0] == 40.0
    assert panel["volume"][:2].to_list() == [987_654.0, 1_019_111.0]


def test_three_decimals_behind_a_comma_beside_unparted_thousands_are_asked_for(tmp_path):
    rows = changed(
        lambda row: [*row[:2], *(f"{cell.replace('.', ',')}5" for cell in row[2:6]), f"{row[6]}.0"]
    )
    (tmp_path / "p.csv").write_text(text(rows, separator=";"))
    with pytest.raises(MarketError, match=r"'40,115' may be 40\.115 or 40115\. Set market\.csv\.decimal"):
        load(tmp_path)


@pytest.mark.parametrize(
    "cells", [["1.234,50", "1,234.50"], ["49,67", "49.67"], ["1.2.3", "4"], ["12,34", "1,234,567"]]
)
def test_marks_that_contradict_each_other_are_refused(tmp_path, cells):
    rows = [[*row[:5], cells[number % 2], row[6]] for number, row in enumerate(bars())]
    (tmp_path / "p.csv").write_text(text(rows, separator=";"))
    with pytest.raises(MarketError, match=r"p\.csv: column 'close' (writes its decimals in two ways|holds)"):
        load(tmp_path)


def hours() -> pl.DataFrame:
    begin = datetime(2024, 2, 14)
    return pl.DataFrame(
        {
            "stamp": [begin + timedelta(hours=hour) for hour in range(60)],
            "symbol": ["EURUSD"] * 60,
            **{name: [1.1 + hour / 1000 for hour in range(60)] for name in ("open", "high", "low", "close")},
        }
    )


HOURLY = {"stamp": "bar_open", "period": "1h", "timezone": "UTC", "columns": {"timestamp": "stamp"}}


@pytest.mark.parametrize(
    ("day", "clock", "name"),
    [
        ("%Y.%m.%d", "%H:%M:%S", "<TIME>"),
        ("%Y-%m-%d", "%H:%M", "time"),
        ("%Y%m%d", "%H%M%S", "Time"),
        ("%m/%d/%Y", "%I:%M %p", "time"),
        ("%d.%m.%Y", "%H:%M", "Uhrzeit"),
        ("%Y-%m-%d", "%H", "hour"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_date_and_time_in_two_columns(tmp_path, day, clock, name, kind):
    frame = hours()
    whole = load_hours(tmp_path / "whole", frame)
    split = frame.with_columns(
        pl.col("stamp").dt.strftime(day), pl.col("stamp").dt.strftime(clock).alias(name)
    )
    market = load_hours(tmp_path / kind, split, kind)
    assert content_sha256(market.panel) == content_sha256(whole.panel)
    assert f'time_column: "{name}"' in market.found
    set_by_hand = load_hours(tmp_path / "set", split.rename({name: "t"}), kind, time_column="t")
    assert content_sha256(set_by_hand.panel) == content_sha256(whole.panel)


@pytest.mark.parametrize("number", ["%H%M", "%H%M%S", "%H"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_times_of_day_as_numbers_without_their_zeros(tmp_path, number, kind):
    clock = pl.col("stamp").dt.strftime(number).cast(pl.Int64).alias("time")
    split = hours().with_columns(pl.col("stamp").dt.strftime("%Y-%m-%d"), clock)
    market = load_hours(tmp_path / kind, split, kind)
    assert content_sha256(market.panel) == content_sha256(load_hours(tmp_path / "whole", hours()).panel)


def test_dates_alone_are_refused_for_bars_within_the_day_and_the_times_are_named(tmp_path):
    day, clock = pl.col("stamp").dt.strftime("%Y-%m-%d"), pl.col("stamp").dt.strftime("%H:%M")
    with pytest.raises(MarketError, match=r"(?s)p\.csv: .*market\.time_column.*Such columns: 'clk'"):
        load_hours(tmp_path, hours().with_columns(day, clock.alias("clk")))


def test_one_bar_a_day_at_midnight_is_no_missing_time(tmp_path):
    midnights = hours().filter(pl.col("stamp").dt.hour() == 0)
    assert len(load_hours(tmp_path, midnights).panel) == len(midnights)


def test_days_of_a_spreadsheet_with_a_decimal_comma(tmp_path):
    days = pl.col("stamp").dt.epoch("s") / 86_400 + 25_569
    written = days.round(6).cast(pl.String).str.replace(".", ",", literal=True)
    with_comma = hours().with_columns(written.alias("stamp"))
    with_comma.write_csv(tmp_path / "p.csv", separator=";")
    found = load(tmp_path, **HOURLY)
    assert content_sha256(found.panel) == content_sha256(load_hours(tmp_path / "whole", hours()).panel)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "euc_jp"])
def test_names_of_east_asia_in_encodings_without_a_mark(tmp_path, plain, encoding):
    names = ["日付", "銘柄", "開値一", "高値", "安値", "終値", "出来高"]
    (tmp_path / "p.csv").write_bytes(text(bars(), names).encode(encoding))
    columns = dict(zip(["timestamp", *NAMES[1:]], names, strict=True))
    market = load(tmp_path, columns=columns)
    assert content_sha256(market.panel) == plain
    assert f'encoding: "{encoding}"' in market.found


def load_hours(folder: Path, frame: pl.DataFrame, kind: str = "csv", **changes):
    folder.mkdir(exist_ok=True)
    (frame.write_csv if kind == "csv" else frame.write_parquet)(folder / f"p.{kind}")
    return load(folder, source=kind, path=f"p.{kind}", **{**HOURLY, **changes})


def test_a_column_called_time_beside_whole_stamps_is_left_alone(tmp_path):
    market = load_hours(tmp_path, hours().with_columns(pl.lit("09:30").alias("time")))
    assert market.panel["event_time"][3].hour == 3


@pytest.mark.parametrize("scales", [(1_000, 1_000_000), (1, 1_000), (1_000_000, 1_000_000_000)])
@pytest.mark.parametrize("unit", [None, "ms"])
def test_a_unit_that_changes_within_a_file_is_read_row_by_row(tmp_path, scales, unit):
    seconds = hours()["stamp"].dt.epoch("s")
    stamps = pl.concat([seconds[:30] * scales[0], seconds[30:] * scales[1]])
    market = load_hours(
        tmp_path, hours().with_columns(stamps.alias("stamp")), timestamp_unit=unit, timezone=None
    )
    whole = load_hours(tmp_path / "whole", hours())
    if unit == "ms" and scales[0] == 1:
        return
    assert content_sha256(market.panel) == content_sha256(whole.panel)
    assert any("by the size of its numbers: 30 rows in" in note for note in market.notes)


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.Int32])
@pytest.mark.parametrize("form", ["calendar", "excel"])
def test_numbers_of_dates_in_parquet(tmp_path, plain, dtype, form):
    days = pl.Series([date.fromisoformat(row[0]) for row in bars()])
    numbers = {
        "calendar": days.dt.strftime("%Y%m%d").cast(pl.Int64),
        "excel": days.to_physical().cast(pl.Int64) + 25_569,
    }[form]
    frame = pl.DataFrame(bars(), schema=NAMES, orient="row").with_columns(numbers.cast(dtype).alias("date"))
    frame.with_columns(pl.col(NAMES[2:]).cast(pl.Float64)).write_parquet(tmp_path / "p.parquet")
    market = load(tmp_path, source="parquet", path="p.parquet")
    assert content_sha256(market.panel) == plain
    assert f'timestamp_unit: "{form}"' in market.found


@pytest.mark.parametrize(("end", "pack"), [(".csv", bytes), (".csv.gz", gzip.compress), (".CSV", bytes)])
def test_a_symbol_is_the_whole_name_of_its_file(tmp_path, end, pack):
    symbols = ["BRK.A", "BRK.B", "000001.SZ", "000001.SH", "NA", "null", "X"]
    rows = [[*row[:1], *row[2:]] for row in bars(("X",))]
    for symbol in symbols:
        (tmp_path / f"{symbol}{end}").write_bytes(pack(text(rows, ["date", *NAMES[2:]]).encode()))
    panel = load(tmp_path, path=".").panel
    assert panel["symbol"].unique().sort().to_list() == sorted(symbols)
    assert load(tmp_path, path=".", symbols=["BRK.B"]).panel["symbol"].unique().to_list() == ["BRK.B"]


def test_two_files_that_would_be_one_symbol_are_refused_and_parts_are_joined_when_told(tmp_path):
    rows = [[*row[:1], *row[2:]] for row in bars(("X",))]
    parts = {"BTC-1h-2023": rows[:20], "BTC-1h-2024": rows[20:]}
    for name, part in parts.items():
        (tmp_path / f"{name}.csv").write_text(text(part, ["date", *NAMES[2:]]))
    market = load(tmp_path, path="*.csv")
    assert market.panel["symbol"].unique().sort().to_list() == list(parts)
    assert any("look like parts of one symbol" in note and "symbol_pattern" in note for note in market.notes)
    joined = load(tmp_path, path="*.csv", symbol_pattern=r"(.+)-1h")
    assert joined.panel["symbol"].unique().to_list() == ["BTC"]
    assert joined.notes == ()
    with pytest.raises(MarketError, match=r"BTC-1h-2023\.csv: market\.symbol_pattern .* finds no symbol"):
        load(tmp_path, path="*.csv", symbol_pattern="(ETH)")
    (tmp_path / "BTC-1h-2024.csv.gz").write_bytes(gzip.compress((tmp_path / "BTC-1h-2024.csv").read_bytes()))
    with pytest.raises(MarketError, match=r"both\s+are named after the symbol 'BTC-1h-2024'.*symbol_pattern"):
        load(tmp_path, path=".")


def test_files_of_years_with_a_column_of_symbols_are_one_panel_without_a_note(tmp_path):
    for year, part in ((2023, bars()[::2]), (2024, bars()[1::2])):
        (tmp_path / f"all-{year}.csv").write_text(text(part))
    market = load(tmp_path, path="*.csv", min_coverage=0)
    assert set(market.panel["symbol"]) == {"000001", "NA", "TRUE"}
    assert market.notes == ()


NAMED = ["NA", "NaN", "nan", "null", "None", "ON", "NO", "TRUE", "000001", "1E5", "INF", "-", "N/A", "1e400"]


def test_a_symbol_is_never_missing_by_its_spelling(tmp_path):
    (tmp_path / "p.csv").write_text(
        text([*bars(NAMED), *[["2023-03-01", blank, "1", "1", "1", "1", "1"] for blank in ("", " ", '""')]])
    )
    panel = load(tmp_path).panel
    assert panel["symbol"].drop_nulls().unique().sort().to_list() == sorted(NAMED)
    assert panel["symbol"].null_count() == 3
    kinds = {"text": pl.String, "category": pl.Categorical}
    for name, dtype in kinds.items():
        frame = pl.DataFrame(bars(NAMED), schema=NAMES, orient="row")
        frame.with_columns(pl.col("symbol").cast(dtype), pl.col(NAMES[2:]).cast(pl.Float64)).write_parquet(
            tmp_path / f"{name}.parquet"
        )
        symbols = load(tmp_path, source="parquet", path=f"{name}.parquet").panel["symbol"]
        assert symbols.unique().sort().to_list() == sorted(NAMED)


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.UInt16])
def test_symbols_that_are_numbers_become_text_and_the_lost_zeros_are_said(tmp_path, dtype):
    frame = pl.DataFrame(bars(("000001", "600")), schema=NAMES, orient="row").with_columns(
        pl.col("symbol").cast(dtype, strict=False)
    )
    frame.with_columns(pl.col(NAMES[2:]).cast(pl.Float64)).write_parquet(tmp_path / "p.parquet")
    market = load(tmp_path, source="parquet", path="p.parquet")
    assert set(market.panel["symbol"]) == {"1", "600"}
    assert "Leading zeros, as of 000001, were lost" in market.notes[0]
    assert load(tmp_path, source="parquet", path="p.parquet", symbols=["1"]).panel[
        "symbol"
    ].unique().to_list() == ["1"]


@pytest.mark.parametrize("values", [[True, False], [date(2023, 3, 1)] * 2, [1.5, 2.0]])
def test_a_column_of_symbols_that_holds_something_else_is_refused(tmp_path, values):
    frame = pl.DataFrame(bars(("A",), 2), schema=NAMES, orient="row").with_columns(
        pl.Series("symbol", values)
    )
    frame.write_parquet(tmp_path / "p.parquet")
    with pytest.raises(
        MarketError, match=r"p\.parquet: column 'symbol' (has type|holds numbers with decimals)"
    ):
        load(tmp_path, source="parquet", path="p.parquet")


def test_the_old_name_of_the_separator_still_counts(tmp_path):
    (tmp_path / "p.csv").write_text(text(bars(), separator="~"))
    assert load(tmp_path, csv_separator="~").panel.equals(load(tmp_path, csv={"separator": "~"}).panel)


def sectors(folder: Path, symbols) -> None:
    lines = "".join(f"{symbol};Bank;01.01.2020;31.12.2030\n" for symbol in symbols)
    (folder / "sectors.csv").write_text("code;industry;first;last\n" + lines)


SECTORS = {"path": "sectors.csv", "symbol": "code", "sector": "industry", "start": "first", "end": "last"}


def test_sectors_are_read_like_bars_and_their_keys_are_text(tmp_path):
    (tmp_path / "p.csv").write_text(text(bars(("000001", "NA", "ON", "X"))))
    sectors(tmp_path, ("000001", "NA", "ON", "X"))
    market = load(tmp_path, sectors=SECTORS)
    assert market.panel["sector"].unique().to_list() == ["Bank"]
    assert market.notes == ()


def test_sectors_that_meet_few_symbols_say_so_and_none_at_all_is_refused(tmp_path):
    codes = [f"00{number:04}" for number in range(8)]
    (tmp_path / "p.csv").write_text(text(bars(codes)))
    sectors(tmp_path, [*codes[:5], *(code.lstrip("0") or "0" for code in codes[5:])])
    note = load(tmp_path, sectors=SECTORS).notes[0]
    assert "Only 5 of the panel's 8 symbols" in note
    assert "'000005' and '5'" in note
    sectors(tmp_path, [f"SZ{code}" for code in codes])
    with pytest.raises(
        MarketError, match=r"sectors\.csv: not one of the panel's 8 symbols.*'000000'.*'SZ000000'"
    ):
        load(tmp_path, sectors=SECTORS)


def test_sectors_of_more_or_fewer_symbols_are_honest(tmp_path):
    codes = [f"S{number:02}" for number in range(8)]
    (tmp_path / "p.csv").write_text(text(bars(codes)))
    for known in (codes[:3], [*codes, *(f"T{number}" for number in range(90))]):
        sectors(tmp_path, known)
        assert not any("Only" in note for note in load(tmp_path, sectors=SECTORS).notes)
