"""`alphaloop data check` on files that can't be used: each gets one screen with the file's name, what was
found and what to do, at once and without a traceback.
"""

import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import pytest
import yaml

from components.contracts import AlphaloopError
from pipelines.commands.data import check_data

ONE_SCREEN_LINES, ONE_SCREEN_LETTERS = 24, 1_600
HEADER = "date,symbol,open,high,low,close,volume"
LINES = [
    f"2024-{month:02}-{day:02},{symbol},10,11,9,10.{day:02},1000"
    for month in (1, 2)
    for day in range(1, 29)
    for symbol in ("AAA", "BBB", "CCC")
]
TEXT = "\n".join([HEADER, *LINES]) + "\n"
MARKET = {
    "source": "csv",
    "path": "p.csv",
    "columns": {"timestamp": "date"},
    "stamp": "session_date",
}


def frame() -> pl.DataFrame:
    return pl.read_csv(io.StringIO(TEXT), try_parse_dates=True)


def parquet(table: pl.DataFrame) -> bytes:
    written = io.BytesIO()
    table.write_parquet(written)
    return written.getvalue()


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("p.csv", content)
    return packed.getvalue()


def without(column: str) -> str:
    return frame().drop(column).write_csv()


def line(number: int, text: str) -> bytes:
    """The file with another text in a row (from 1)."""
    return "\n".join([HEADER, *LINES[: number - 1], text, *LINES[number:]]).encode()


PARQUET = {"source": "parquet", "path": "p.parquet"}


@dataclass(frozen=True)
class Bad:
    """Files by name, what the settings say beside the usual, and words that the answer must have."""

    files: dict[str, bytes]
    words: tuple[str, ...]
    market: dict | None = None
    fusion: dict | None = None


def one(content: str | bytes, *words: str, **market) -> Bad:
    raw = content.encode() if isinstance(content, str) else content
    return Bad({market.get("path", "p.csv"): raw}, (market.get("path", "p.csv"), *words), market)


def slow(content: str, *words: str, **table) -> Bad:
    given = {
        "name": "fund",
        "path": "fund.csv",
        "symbol": "code",
        "observed": "day",
        "release_lag_days": 1,
        "columns": [{"name": "eps", "column": "eps"}],
        **table,
    }
    return Bad(
        {"p.csv": TEXT.encode(), "fund.csv": content.encode()}, ("fund.csv", *words), {}, {"tables": [given]}
    )


def sectors(content: str, *words: str) -> Bad:
    given = {"sectors": {"path": "sectors.csv", "sector": "sector"}}
    return Bad({"p.csv": TEXT.encode(), "sectors.csv": content.encode()}, ("sectors.csv", *words), given)


BAD = {
    "nothing there": Bad({"prices.csv": TEXT.encode()}, ("p.csv does not exist", "market.path")),
    "empty": one(b"", "is empty (0 bytes)", "export it again"),
    "blank lines": one(b"\n\n  \n", "nothing but blank lines"),
    "only a header": one(HEADER + "\n", "no rows", "export it again"),
    "a header without its last break": one(HEADER, "no rows"),
    "a folder without files": Bad(
        {"prices/readme.md": b"x"}, ("prices holds no csv file",), {"path": "prices"}
    ),
    "a folder called like a file": Bad(
        {"p.parquet/x.txt": b"x"}, ("p.parquet holds no parquet file",), PARQUET
    ),
    "a glob that meets nothing": Bad(
        {"p.csv": TEXT.encode()}, ("No file matches", "x/*.csv"), {"path": "x/*.csv"}
    ),
    "half a gzip": one(
        gzip.compress(TEXT.encode())[:-200], "can't be unpacked to its end", "cut off", path="p.csv.gz"
    ),
    "text called gzip": one(TEXT, "can't be unpacked", "not packed at all", path="p.csv.gz"),
    "gzip called text": one(gzip.compress(TEXT.encode()), "its content is gzip", "right name"),
    "a workbook called text": one(
        zipped(TEXT.encode()), "zip archive or an Excel workbook", "Export it as CSV"
    ),
    "parquet called text": one(parquet(frame()), "its content is Parquet", "right name"),
    "bytes called text": one(bytes(range(256)) * 40, "its content is binary"),
    "half a parquet": one(parquet(frame())[:-300], "can't be read as Parquet", "cut off", **PARQUET),
    "text called parquet": one(TEXT, "can't be read as Parquet", "market.source", **PARQUET),
    "another encoding than was set": one(
        TEXT.replace("AAA", "ÄÄÄ").encode("cp1252"),
        "can't be read as CSV in utf-8",
        "market.csv.encoding",
        csv={"encoding": "utf-8"},
    ),
    "a name twice": one(TEXT.replace("open", "close", 1), "two columns are called 'close'", "Rename one"),
    "two columns of one": one(
        TEXT,
        "'close' is taken for open and for close",
        "market.columns",
        columns={"timestamp": "date", "open": "close"},
    ),
    "a column that is missing": one(without("close"), "column 'close' is missing", "market.columns.close"),
    "a column of another name": one(TEXT.replace("close", "Close"), "'close' is missing", "Close: 'Close'"),
    "no symbols": one(without("symbol"), "column 'symbol' is missing", "market.columns.symbol"),
    "a column that was named and is not there": one(
        TEXT,
        "market.columns.close names 'last'",
        "The file has 'date'",
        columns={"timestamp": "date", "close": "last"},
    ),
    "no header": one("\n".join(LINES), "has no header", "market.csv.names", "2024-01-01,AAA"),
    "a header shorter than the rows": one(
        TEXT.replace(",volume", "", 1), "header has 6 columns", "rows have 7"
    ),
    "one row too long": one(line(20, LINES[19] + ",7"), "row 20 has 8 values, the header 7"),
    "one row too short": one(line(1, "2024-01-01,AAA,10"), "row 1 has 3 values, the header 7"),
    "a price that is a word": one(
        line(9, LINES[8].replace("10.03", "ten")),
        "'close' holds 1 values that are no numbers",
        "'ten' in row 9",
    ),
    "a day that is a word": one(
        line(9, "later" + LINES[8][10:]), "column 'date'", "'later' (row 9)", "market.timestamp_format"
    ),
    "a day that no calendar has": one(line(9, "2024-02-30" + LINES[8][10:]), "'2024-02-30' (row 9)"),
    "a column without a number": one(
        TEXT.replace(",1000", ","), "'volume' holds no number at all", "market.columns.volume"
    ),
    "day or month": one(
        "\n".join([HEADER, *(f"0{day}/02/2024,AAA,1,1,1,1,1" for day in range(1, 9))]),
        "no date tells day from month",
        "market.timestamp_format",
    ),
    "decimals in doubt": one(
        TEXT.replace("10,11,9", '"1,234","1,235","1,233"').replace(",10.", ",1"),
        "leaves its decimal mark in doubt",
        "market.csv.decimal",
    ),
    "numbers of no time": one(
        frame().with_row_index("n").with_columns(pl.col("n").alias("date")).drop("n").write_csv(),
        "nothing says in which unit",
        "market.timestamp_unit",
    ),
    "files that differ": Bad(
        {
            "p/A.csv": without("symbol").encode(),
            "p/B.csv": frame().drop("symbol", "volume").write_csv().encode(),
        },
        ("B.csv: column 'volume' is missing", "1 of 2 files"),
        {"path": "p"},
    ),
    "symbols in one file of two": Bad(
        {"p/A.csv": without("symbol").encode(), "p/B.csv": TEXT.encode()},
        ("A.csv: column 'symbol' is missing", "1 of 2 files"),
        {"path": "p"},
    ),
    "two files of one symbol": Bad(
        {"p/a/A.csv": without("symbol").encode(), "p/b/A.csv": without("symbol").encode()},
        ("A.csv and", "named after the symbol 'A'", "market.symbol_pattern"),
        {"path": "p"},
    ),
    "symbols unquoted": Bad(
        {"p.csv": TEXT.encode()}, ("market.symbols.0", "in quotes"), {"symbols": [True, 1]}
    ),
    "a symbol that is not there": Bad({"p.csv": TEXT.encode()}, ("'AAB'", "Close to"), {"symbols": ["AAB"]}),
    "symbols that are true and false": one(
        parquet(frame().with_columns(pl.lit(True).alias("symbol"))), "'symbol' has type Boolean", **PARQUET
    ),
    "slow: no column": slow("code,day,EPS\nAAA,2024-01-01,1\n", "no column 'eps'", "It has code, day, EPS"),
    "slow: a word among numbers": slow(
        "code,day,eps\nAAA,2024-01-01,1\nBBB,2024-01-01,much\n", "'eps'", "'much' in row 2"
    ),
    "slow: no symbol meets": slow(
        "code,day,eps\nSZ1,2024-01-01,1\n", "not one of the panel's 3 symbols", "'AAA'", "'SZ1'"
    ),
    "slow: day or month": slow(
        "code,day,eps\nAAA,01/02/2024,1\n",
        "no date tells day from month",
        "`timestamp_format` of fusion table 'fund'",
    ),
    "slow: only a header": slow("code,day,eps\n", "no rows"),
    "sectors: no column": sectors(
        "symbol,first_seen,last_seen\nAAA,2024-01-01,\n", "no column 'sector'", "market.sectors.sector"
    ),
    "sectors: a day that is a word": sectors(
        "symbol,sector,first_seen,last_seen\nAAA,Bank,once,\n", "'once'", "market.sectors.timestamp_format"
    ),
    "sectors: no symbol meets": sectors(
        "symbol,sector,first_seen,last_seen\nX,Bank,2020-01-01,\n", "not one of the panel's 3 symbols"
    ),
}


@pytest.fixture
def check(tmp_path, monkeypatch) -> Callable[[Bad], str]:
    """What the command says of a config with these files, in this process."""

    def run(bad: Bad) -> str:
        monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
        for name, content in bad.files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        sections = {"market": MARKET | (bad.market or {})} | ({"fusion": bad.fusion} if bad.fusion else {})
        config = tmp_path / "c.yaml"
        config.write_text(yaml.safe_dump(sections, allow_unicode=True))
        with pytest.raises(AlphaloopError) as refused:
            check_data(None, config, [])
        return str(refused.value).replace(str(tmp_path), "")

    return run


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_can_t_be_used_is_told_on_one_screen(kind, check):
    said = check(BAD[kind])
    for word in BAD[kind].words:
        assert word in said
    assert len(said.splitlines()) <= ONE_SCREEN_LINES
    assert len(said) <= ONE_SCREEN_LETTERS


def test_a_bad_price_is_told_with_its_file_and_row(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
    wrong = line(31, LINES[30].replace("10,11,9", "10,11,-9"))
    (tmp_path / "p.csv").write_bytes(wrong)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"market": MARKET}))
    said = check_data(None, tmp_path / "c.yaml", [])
    assert f"first not_positive: {tmp_path / 'p.csv'}, row 31" in said
