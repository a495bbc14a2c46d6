"""Reading files: clocks, columns, folders, sectors, and one clear screen for each way in which a file can be
wrong.
"""

import os
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.contracts import RAW_PANEL, AlphaloopError, check_table
from components.market.config import SectorSettings, Settings
from components.market.errors import MarketError
from components.market.load import load_panel
from components.market.source_hash import market_sha256
from components.timeline.coverage import symbol_coverage

HEADER = "timestamp,symbol,open,high,low,close,volume\n"
ROWS = "2024-03-08,AAA,10,11,9,10.5,1000\n2024-03-11,AAA,10.5,12,10,11,1200\n2024-03-11,BBB,5,6,4,5,700\n"
DAILY = {"source": "csv", "path": "bars.csv", "stamp": "session_date"}


def utc(*parts) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def load(folder: Path, **changes):
    return load_panel(Settings(**{**DAILY, **changes}), data_folder=folder, seed=0)


def write(folder: Path, text: str = HEADER + ROWS, name: str = "bars.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def hourly(stamps: list, **extra) -> pl.DataFrame:
    size = len(stamps)
    return pl.DataFrame(
        {
            "timestamp": stamps,
            "symbol": ["AAA"] * size,
            **{name: [1.0] * size for name in ("open", "high", "low", "close", "volume")},
            **extra,
        }
    )


def test_a_session_date_is_known_at_the_close_in_new_york_on_both_sides_of_a_clock_change(tmp_path):
    write(tmp_path)
    panel = load(tmp_path, publication_lag_s=60).panel
    check_table(panel, RAW_PANEL)
    assert panel["timestamp"].to_list() == [utc(2024, 3, 8, 21), utc(2024, 3, 11, 20), utc(2024, 3, 11, 20)]
    assert panel["event_time"].to_list() == [
        utc(2024, 3, 8, 14, 30),
        utc(2024, 3, 11, 13, 30),
        utc(2024, 3, 11, 13, 30),
    ]
    assert panel["known_time"].to_list()[0] == utc(2024, 3, 8, 21, 1)
    assert panel["sector"].null_count() == 3


def test_session_dates_may_stand_at_midnight_of_the_exchange_or_of_utc(tmp_path):
    frame = hourly([utc(2024, 7, 1, 4), utc(2024, 7, 2)])
    frame.write_parquet(tmp_path / "bars.parquet")
    panel = load(tmp_path, source="parquet", path="bars.parquet").panel
    assert panel["timestamp"].to_list() == [utc(2024, 7, 1, 20), utc(2024, 7, 2, 20)]


def test_stamps_that_are_not_at_midnight_are_no_session_dates(tmp_path):
    hourly([utc(2024, 7, 1, 15)]).write_parquet(tmp_path / "bars.parquet")
    with pytest.raises(MarketError, match=r"no session dates\. Set market\.stamp"):
        load(tmp_path, source="parquet", path="bars.parquet")


@pytest.mark.parametrize(
    ("stamp", "event_time", "timestamp"),
    [
        ("bar_open", utc(2024, 7, 1, 10), utc(2024, 7, 1, 11)),
        ("bar_close", utc(2024, 7, 1, 9), utc(2024, 7, 1, 10)),
    ],
)
def test_open_and_close_stamps(tmp_path, stamp, event_time, timestamp):
    hourly([utc(2024, 7, 1, 10)]).write_parquet(tmp_path / "bars.parquet")
    row = load(tmp_path, source="parquet", path="bars.parquet", period="1h", stamp=stamp).panel.row(
        0, named=True
    )
    assert (row["event_time"], row["timestamp"], row["known_time"]) == (event_time, timestamp, timestamp)


def test_a_mapped_known_time_wins_over_the_lag(tmp_path):
    hourly([utc(2024, 7, 1, 10)], seen=[utc(2024, 7, 3)]).write_parquet(tmp_path / "bars.parquet")
    panel = load(
        tmp_path,
        source="parquet",
        path="bars.parquet",
        period="1h",
        stamp="bar_open",
        columns={"known_time": "seen"},
        publication_lag_s=5,
    ).panel
    assert panel["known_time"].to_list() == [utc(2024, 7, 3)]


def test_naive_stamps_need_a_zone_and_clock_changes_are_named(tmp_path):
    hour = {"source": "parquet", "path": "bars.parquet", "period": "1h", "stamp": "bar_open"}
    hourly([datetime(2024, 7, 1, 10)]).write_parquet(tmp_path / "bars.parquet")
    with pytest.raises(MarketError, match=r"no time zone .*Set market\.timezone"):
        load(tmp_path, **hour)
    assert load(tmp_path, **hour, timezone="America/New_York").panel["event_time"].item() == utc(
        2024, 7, 1, 14
    )
    hourly([datetime(2024, 11, 3, 1, 30)]).write_parquet(tmp_path / "bars.parquet")
    with pytest.raises(MarketError, match="occurs twice in America/New_York"):
        load(tmp_path, **hour, timezone="America/New_York")
    earliest, latest = (
        load(tmp_path, **hour, timezone="America/New_York", ambiguous=rule).panel["event_time"].item()
        for rule in ("earliest", "latest")
    )
    assert (earliest, latest) == (utc(2024, 11, 3, 5, 30), utc(2024, 11, 3, 6, 30))
    hourly([datetime(2024, 3, 10, 2, 30)]).write_parquet(tmp_path / "bars.parquet")
    with pytest.raises(MarketError, match="does not exist in America/New_York"):
        load(tmp_path, **hour, timezone="America/New_York", ambiguous="latest")


@pytest.mark.parametrize(
    ("stamp", "extra"),
    [
        ("2024-07-01T10:00:00Z", {}),
        ("2024-07-01 12:00:00+02:00", {}),
        ("2024-07-01T10:00:00.000+0000", {}),
        ("2024-07-01 10:00", {"timezone": "UTC"}),
        ("1719828000", {"timestamp_unit": "s"}),
        ("1719828000000", {"timestamp_unit": "ms"}),
        ("01.07.2024 10:00", {"timestamp_format": "%d.%m.%Y %H:%M", "timezone": "UTC"}),
    ],
)
def test_written_forms_of_a_time(tmp_path, stamp, extra):
    write(tmp_path, HEADER + f"{stamp},AAA,1,1,1,1,1\n")
    assert load(tmp_path, period="1h", stamp="bar_open", **extra).panel["event_time"].item() == utc(
        2024, 7, 1, 10
    )


def test_columns_of_another_name_and_codes_with_leading_zeros(tmp_path):
    write(tmp_path, "Date,Ticker,Open,High,Low,Close,Vol\n2024-07-01,000001,1,2,1,2,100\n")
    names = {
        "timestamp": "Date",
        "symbol": "Ticker",
        "open": "Open",
        "high": "High",
        "low": "Low",
        "close": "Close",
        "volume": "Vol",
    }
    assert load(tmp_path, columns=names).panel["symbol"].item() == "000001"


def test_a_folder_or_glob_without_symbol_columns_takes_the_file_names_as_symbols(tmp_path):
    for symbol in ("AAA", "BBB"):
        write(
            tmp_path, "timestamp,open,high,low,close,volume\n2024-07-01,1,2,1,2,100\n", f"prices/{symbol}.csv"
        )
    for path in ("prices", "prices/*.csv"):
        assert load(tmp_path, path=path).panel["symbol"].to_list() == ["AAA", "BBB"]
    assert load(tmp_path, path="prices", symbols=["BBB"]).panel["symbol"].to_list() == ["BBB"]
    with pytest.raises(MarketError, match="'symbol' is missing"):
        load(tmp_path, path="prices/AAA.csv")


@pytest.mark.parametrize("absent", [["open"], ["volume"], ["high", "low"], ["open", "high", "low", "volume"]])
def test_a_file_without_open_range_or_volume_is_accepted_and_said(tmp_path, absent):
    names = [
        name
        for name in ("timestamp", "symbol", "open", "high", "low", "close", "volume")
        if name not in absent
    ]
    write(tmp_path, ",".join(names) + "\n2024-07-01," + ",".join(["AAA", *["2"] * (len(names) - 2)]) + "\n")
    market = load(tmp_path)
    check_table(market.panel, RAW_PANEL)
    assert [
        name for name in ("open", "high", "low", "close", "volume") if market.panel[name].null_count()
    ] == absent
    assert len(market.notes) == 1
    assert market.notes[0].startswith(f"The source has no column {', '.join(absent)}: ")
    assert ("next close" in market.notes[0]) == ("open" in absent)


@pytest.mark.parametrize("written", ["Volume", " volume ", "VOL", "v"])
def test_a_column_that_is_only_spelt_otherwise_is_not_dropped(tmp_path, written):
    write(tmp_path, HEADER.replace("volume", written) + ROWS)
    with pytest.raises(MarketError, match=r"'volume' is missing.*set market\.columns\.volume"):
        load(tmp_path)
    assert load(tmp_path, columns={"volume": written}).panel["volume"].null_count() == 0


def test_an_empty_column_is_an_error_unless_it_is_left_out_by_name(tmp_path):
    write(tmp_path, HEADER + "2024-07-01,AAA,,2,1,2,\n2024-07-02,AAA,,2,1,2,\n")
    with pytest.raises(MarketError, match=r"'open' holds no number at all.*leave it out with an empty name"):
        load(tmp_path)
    market = load(tmp_path, columns={"open": "", "volume": ""})
    assert "no column open, volume" in market.notes[0]
    with pytest.raises(ValueError, match="'close' can't be left out"):
        Settings(**DAILY, columns={"close": ""})


def test_files_of_a_folder_must_agree_on_their_columns(tmp_path):
    write(tmp_path, "timestamp,open,high,low,close,volume\n2024-07-01,1,2,1,2,100\n", "prices/AAA.csv")
    write(tmp_path, "timestamp,open,high,low,close\n2024-07-01,1,2,1,2\n", "prices/BBB.csv")
    with pytest.raises(MarketError, match=r"BBB\.csv: column 'volume' is missing, but 1 of 2 files"):
        load(tmp_path, path="prices")


def test_csv_and_parquet_give_the_same_panel(tmp_path):
    write(tmp_path)
    pl.read_csv(tmp_path / "bars.csv").write_parquet(tmp_path / "bars.parquet")
    assert load(tmp_path).panel.equals(load(tmp_path, source="parquet", path="bars.parquet").panel)


def test_faults_of_the_source_are_kept(tmp_path):
    write(
        tmp_path, HEADER + "2024-07-02,AAA,1,2,1,2,\n2024-07-01,AAA,1,2,1,-2,5\n2024-07-01,AAA,1,2,1,-2,5\n"
    )
    panel = load(tmp_path).panel
    assert panel["volume"].to_list() == [None, 5.0, 5.0]
    assert panel["timestamp"].to_list() == [utc(2024, 7, 2, 20), utc(2024, 7, 1, 20), utc(2024, 7, 1, 20)]


def test_start_end_and_thin_symbols(tmp_path):
    days = [f"2024-07-{day:02d}" for day in range(1, 11)]
    lines = [f"{day},AAA,1,1,1,1,1\n" for day in days] + [
        f"{day},BBB,1,1,1,1,1\n" for day in (days[0], days[4], days[9])
    ]
    write(tmp_path, HEADER + "".join(lines))
    market = load(tmp_path)
    assert market.notes == (
        (
            "1 symbols have less than 70% of the bars between their first and last: BBB (30% of 10 bars,"
            " 2024-07-01 to 2024-07-10)."
        ),
    )
    assert load(tmp_path, min_coverage=0.3).notes == ()
    moments = market.panel["timestamp"].unique().sort()
    assert symbol_coverage(market.panel, moments).row(0)[:3] == ("BBB", 3, 10)
    assert load(tmp_path, start=date(2024, 7, 3), end=date(2024, 7, 4)).panel["timestamp"].unique().len() == 2
    with pytest.raises(MarketError, match=r"runs from 2024-07-01 to 2024-07-10"):
        load(tmp_path, start=date(2025, 1, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty \\(0 bytes\\)"),
        (HEADER, "no rows"),
        ("\n\n\n", "nothing but blank lines"),
        (HEADER.replace("close", "cloze") + ROWS, "'close' is missing\\. Close: 'cloze'"),
        (HEADER.replace("close", "Close") + ROWS, "'close' is missing\\. Close: 'Close'"),
        (
            HEADER + "2024-03-08,AAA,10,11,9,ten,1000\n",
            "column 'close' holds 1 values that are no numbers, first 'ten' in row 1",
        ),
        (
            HEADER.replace("volume", "volume,borrow_bps") + "2024-03-08,AAA,10,11,9,10,1000,-5\n",
            "column 'borrow_bps' holds 1 fees below 0 or infinite, first -5 in row 1",
        ),
        (HEADER + "yesterday,AAA,10,11,9,10,1000\n", "'yesterday' is not an ISO time"),
        (HEADER + "2024-03-08,AAA,1,1,1,1,1\nlater,AAA,1,1,1,1,1\n", "1 of 2 values: 'later' \\(row 2\\)"),
        (HEADER + ",AAA,10,11,9,10,1000\n", "no time at all"),
        (
            HEADER + "2024-03-08,AAA,10,11,9,NaN,1000\n2024-03-09,AAA,10,11,9,,1000\n",
            "'close' holds no number at all",
        ),
        (HEADER + "2024-03-08,AAA,10,11,9,10,1000,7,8\n", "can't be read as CSV"),
        (HEADER + '2024-03-08,"AAA,10,11,9,10,1000\n', "can't be read as CSV|no time|no number|no rows"),
    ],
)
def test_broken_csv_files_are_explained(tmp_path, text, message):
    write(tmp_path, text)
    with pytest.raises(MarketError, match=message) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value).splitlines()) < 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "bras.csv"}, "does not exist .*Did you mean 'bars.csv'"),
        ({"path": "nothing/*.csv"}, "No file matches market.path 'nothing/\\*.csv'"),
        ({"path": "void"}, "holds no csv file"),
        ({"columns": {"close": "last"}}, "market.columns.close names 'last', which is not there"),
        ({"symbols": ["AAA", "BBBB"]}, "symbols that the source does not have: 'BBBB'. Close to 'BBBB': BBB"),
        ({"stamp": "bar_close", "timezone": None}, "carry no time zone"),
        ({"source": "parquet"}, "can't be read as Parquet"),
        ({"timestamp_unit": "s"}, "not a whole number"),
        ({"timestamp_format": "%d.%m.%Y"}, "is not the format '%d.%m.%Y'"),
        ({"timestamp_format": "%"}, "is not the format"),
        ({"sectors": {"path": "none.parquet"}}, "market.sectors.path"),
    ],
)
def test_settings_that_do_not_fit_the_file_are_explained(tmp_path, changes, message):
    write(tmp_path)
    (tmp_path / "void").mkdir()
    with pytest.raises(MarketError, match=message):
        load(tmp_path, **changes)


def test_half_a_parquet_file_and_wrong_types(tmp_path):
    parquet = {"source": "parquet", "path": "bars.parquet", "period": "1h", "stamp": "bar_open"}
    path = tmp_path / "bars.parquet"
    hourly([utc(2024, 7, 1, hour) for hour in range(20)]).write_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(MarketError, match="cut off, damaged"):
        load(tmp_path, **parquet)
    for column, values, message in [
        ("close", [True], "'close' has type Boolean, expected numbers"),
        ("timestamp", [1.5], "'timestamp' holds numbers with decimals"),
        ("timestamp", [1_719], "nothing says in which unit"),
        ("close", [float("nan")], "no number at all"),
    ]:
        hourly([utc(2024, 7, 1)]).with_columns(pl.Series(column, values)).write_parquet(path)
        with pytest.raises(MarketError, match=message):
            load(tmp_path, **parquet)


@pytest.mark.parametrize(
    "values",
    [
        {"source": "csv"},
        {"source": "simulator", "timezone": "Mars/Olympus"},
        {"columns": {"closing": "c"}},
        {"period": "1h", "stamp": "session_date"},
        {"start": "2024-02-01", "end": "2024-01-01"},
        {"simulator": {"planted": {"astrology": 1.0}}},
        {"simulator": {"faults": ["gremlins"]}},
        {"simulator": {"symbols": 6, "sectors": 6}},
    ],
)
def test_settings_that_contradict_themselves_are_refused(values):
    with pytest.raises(ValueError, match=r"Value error|Input should be"):
        Settings(**values)


def test_sectors_are_those_known_at_each_date(tmp_path):
    pl.DataFrame(
        {
            "symbol": ["AAA", "AAA", "AAA", "BBB", "BBB"],
            "label": ["Tech", "Services", "Nonsense", "Energy", "Nested"],
            "first_seen": [
                date(2024, 1, 3),
                date(2024, 1, 8),
                date(2024, 1, 5),
                date(2024, 1, 1),
                date(2024, 1, 3),
            ],
            "last_seen": [
                date(2024, 1, 5),
                date(2024, 1, 12),
                date(2024, 1, 5),
                date(2024, 1, 12),
                date(2024, 1, 5),
            ],
            "good": [True, True, False, True, True],
        }
    ).write_parquet(tmp_path / "sectors.parquet")
    days = [1, 2, 3, 4, 5, 8, 9, 15]
    write(
        tmp_path,
        HEADER
        + "".join(
            f"2024-01-{day:02d},{symbol},1,1,1,1,1\n" for symbol in ("AAA", "BBB", "CCC") for day in days
        ),
    )
    market = load(tmp_path, sectors=SectorSettings(path="sectors.parquet", sector="label", valid="good"))
    by_symbol = dict(market.panel.group_by("symbol").agg("sector").iter_rows())
    assert by_symbol["AAA"] == [None, None, None, "Tech", "Tech", "Tech", "Services", "Services"]
    assert by_symbol["BBB"] == [None, "Energy", "Energy", "Nested", "Nested", "Nested", "Energy", "Energy"]
    assert by_symbol["CCC"] == [None] * 8
    assert "12 of 24 rows (3 symbols) have no sector" in market.notes[0]


def sector_history(tmp_path) -> None:
    """AAA is seen with an industry, then under another sector without one; BBB has none."""
    pl.DataFrame(
        {
            "symbol": ["AAA", "AAA", "BBB"],
            "sector": ["Tech", "Services", "Energy"],
            "sub_industry": ["Software", None, None],
            "first_seen": [date(2024, 1, 3), date(2024, 1, 8), date(2024, 1, 1)],
            "last_seen": [date(2024, 1, 5), date(2024, 1, 12), date(2024, 1, 12)],
        }
    ).write_parquet(tmp_path / "sectors.parquet")
    days = [3, 4, 5, 8, 9]
    write(
        tmp_path,
        HEADER
        + "".join(f"2024-01-{day:02d},{symbol},1,1,1,1,1\n" for symbol in ("AAA", "BBB") for day in days),
    )


def test_industries_are_those_of_the_look_that_gave_the_sector(tmp_path):
    """A null industry does not cost the sector, an older industry is not carried into a newer sector, and
    without the setting there is no such column.
    """
    sector_history(tmp_path)
    market = load(tmp_path, sectors=SectorSettings(path="sectors.parquet", industry="sub_industry"))
    found = {
        symbol: (sectors, industries)
        for symbol, sectors, industries in (
            market.panel.group_by("symbol").agg("sector", "industry").iter_rows()
        )
    }
    assert found["AAA"] == (
        [None, "Tech", "Tech", "Tech", "Services"],
        [None, "Software", "Software", "Software", None],
    )
    assert found["BBB"] == (["Energy"] * 5, [None] * 5)
    assert market.panel.schema["industry"] == pl.String
    assert "industry" not in load(tmp_path, sectors=SectorSettings(path="sectors.parquet")).panel.columns


def test_industries_count_from_the_day_on_which_they_were_recorded(tmp_path):
    sector_history(tmp_path)
    market = load(
        tmp_path,
        sectors=SectorSettings(
            path="sectors.parquet", industry="sub_industry", industry_from=date(2024, 1, 5)
        ),
    )
    assert market.panel.filter(pl.col("symbol") == "AAA")["industry"].to_list() == [
        None,
        None,
        None,
        "Software",
        None,
    ]
    assert market.panel.filter(pl.col("symbol") == "AAA")["sector"].to_list() == [
        None,
        "Tech",
        "Tech",
        "Tech",
        "Services",
    ]


def test_an_industry_column_that_is_not_there_is_named(tmp_path):
    sector_history(tmp_path)
    with pytest.raises(MarketError, match=r"no column 'branch' \(market.sectors.industry\)"):
        load(tmp_path, sectors=SectorSettings(path="sectors.parquet", industry="branch"))


def test_later_sector_labels_change_nothing_before_them(tmp_path):
    base = pl.DataFrame(
        {
            "symbol": ["AAA"],
            "sector": ["Tech"],
            "first_seen": [date(2024, 1, 1)],
            "last_seen": [date(2024, 1, 4)],
        }
    )
    later = pl.concat(
        [
            base,
            base.with_columns(
                sector=pl.lit("Energy"), first_seen=date(2024, 1, 8), last_seen=date(2024, 1, 9)
            ),
        ]
    )
    write(tmp_path, HEADER + "".join(f"2024-01-{day:02d},AAA,1,1,1,1,1\n" for day in range(1, 12)))
    labels = []
    for frame in (base, later):
        frame.write_parquet(tmp_path / "sectors.parquet")
        labels.append(
            load(tmp_path, sectors=SectorSettings(path="sectors.parquet")).panel["sector"].to_list()
        )
    assert labels[0][:8] == labels[1][:8]
    assert labels[1][8:] == ["Energy"] * 3


def test_the_content_hash_follows_content_names_seed_and_settings(tmp_path):
    path = write(tmp_path)
    settings_ = Settings(**DAILY)
    first = market_sha256(settings_, tmp_path, 1)
    os.utime(path, (1, 1))
    assert market_sha256(settings_, tmp_path, 2) == first
    path.write_text(path.read_text().replace("10.5", "10.6"))
    assert market_sha256(settings_, tmp_path, 1) != first
    simulated = {
        market_sha256(Settings(planted_ic=ic), tmp_path, seed) for ic in (0.0, 0.1) for seed in (1, 2)
    }
    assert len(simulated) == 4
    with pytest.raises(MarketError, match="does not exist"):
        market_sha256(Settings(**{**DAILY, "path": "absent.csv"}), tmp_path, 1)


def read_or_explain(folder: Path, **changes) -> None:
    """Load a file; anything but a sound table or an error that fits on one screen fails the test."""
    explanation = ""
    try:
        check_table(load(folder, **changes).panel, RAW_PANEL)
    except AlphaloopError as error:
        explanation = str(error)
    assert len(explanation) < 2_000


CELLS = st.one_of(
    st.sampled_from(
        [
            "2024-03-08",
            "AAA",
            "1",
            "-1",
            "1e400",
            "nan",
            "inf",
            '"',
            '""',
            "'",
            "\x00",
            "é",
            "1,5",
            "",
            " ",
            "NA",
            "99999-99-99",
        ]
    ),
    st.text(max_size=6),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.lists(CELLS, min_size=1, max_size=9), max_size=5),
    header=st.sampled_from([HEADER, "", "timestamp,symbol\n", HEADER.upper()]),
)
def test_any_text_is_either_read_or_explained(tmp_path, lines, header):
    (tmp_path / "bars.csv").write_bytes(
        (header + "\n".join(",".join(line) for line in lines)).encode("utf-8", "surrogatepass")
    )
    read_or_explain(tmp_path, timezone="UTC")


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_time_that_no_calendar_knows_is_refused(tmp_path, unit):
    """Such as a damaged file holds; converting it would bring the process down."""
    bars = hourly([utc(2024, 7, 1), utc(2024, 7, 2)])
    wild = pl.Series("timestamp", [1_719_792_000_000, 2**62]).cast(pl.Datetime(unit, "UTC"))
    bars[: len(wild)].with_columns(wild).write_parquet(tmp_path / "bars.csv")
    with pytest.raises(MarketError, match="beyond the year 2100"):
        load(tmp_path, source="parquet", path="bars.csv", timezone="UTC")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), at=st.integers(0, 600), source=st.sampled_from(["csv", "parquet"]))
def test_any_bytes_are_either_read_or_explained(tmp_path, content, at, source):
    whole = HEADER.encode() + ROWS.encode()
    if source == "parquet":
        hourly([utc(2024, 7, 1)]).write_parquet(tmp_path / "bars.csv")
        whole = (tmp_path / "bars.csv").read_bytes()
    (tmp_path / "bars.csv").write_bytes(whole[:at] + content + whole[at + len(content) :])
    read_or_explain(tmp_path, source=source, timezone="UTC")


@pytest.mark.parametrize(
    ("name", "changes", "symbols"),
    [
        ("us_equity_daily.parquet", {"stamp": "session_date"}, 503),
        ("crypto_spot_1h.parquet", {"stamp": "bar_open", "period": "1h"}, 18),
    ],
)
def test_real_panels_load(name, changes, symbols):
    folder = Path(os.environ.get("ALPHALOOP_DATA", "data"))
    if not (folder / name).is_file():
        pytest.skip(f"{name} is not in ALPHALOOP_DATA")
    panel = load(folder, source="parquet", path=name, **changes).panel
    assert panel["symbol"].n_unique() == symbols
    assert (panel["event_time"] < panel["timestamp"]).all()


@pytest.mark.parametrize(("period", "refused"), [("1h", False), ("4h", True), ("1d", True)])
def test_bars_that_are_shorter_than_the_period_says_are_refused(tmp_path, period, refused):
    hourly([datetime(2024, 1, 1, hour) for hour in range(20)]).write_parquet(tmp_path / "bars.parquet")
    options = {
        "source": "parquet",
        "path": "bars.parquet",
        "period": period,
        "stamp": "bar_open",
        "timezone": "UTC",
    }
    if not refused:
        assert len(load(tmp_path, **options).panel) == 20
        return
    with pytest.raises(MarketError, match=r"1:00:00 apart, but market\.period is"):
        load(tmp_path, **options)


def test_the_size_of_a_company_is_read_where_the_file_has_it(tmp_path):
    write(tmp_path, HEADER.replace("volume", "volume,shares_worth") + "2024-03-08,AAA,10,11,9,10,1000,5e9\n")
    frame = load(tmp_path, columns={"market_cap": "shares_worth"}).panel
    assert frame["market_cap"].to_list() == [5e9]
