"""Reading slow tables: what is refused and counted, errors that name the place, tickers of two companies, the
content hash, and settings.
"""

from datetime import date, timedelta

import polars as pl
import pytest
from pydantic import ValidationError
from small_tables import INSTANT, moment, small_panel, small_slow, small_table

from components.fusion.columns import slow_columns
from components.fusion.config import ColumnSettings, Settings, TableSettings
from components.fusion.errors import FusionError
from components.fusion.join import join_tables
from components.fusion.oracle import verify_sample
from components.fusion.read import from_frame, read_slow_table
from components.fusion.source_hash import slow_tables_sha256

ROWS = [
    ("A", 0, 1, 1.0),
    (None, 0, 1, 1.0),
    ("", 0, 1, 1.0),
    ("A", None, 1, 1.0),
    ("A", 0, None, 1.0),
    ("A", 5, 4, 1.0),
    ("A", 5, 5, 1.0),
]


def test_rows_that_cannot_be_are_refused_by_reason_and_kept_for_the_report():
    slow = from_frame(small_table(), small_slow(ROWS))
    assert slow.refusals() == {
        "no key": 2,
        "no observation time": 1,
        "no known time": 1,
        "known before observed": 1,
    }
    assert len(slow.feeds[0].rows) == 2
    assert slow.feeds[0].refused["_row"].to_list() == [1, 2, 3, 4, 5]


def test_too_many_refused_rows_stop_the_run():
    with pytest.raises(
        FusionError, match=r"5 of 7 rows can't be used, 2 of them because the symbol.*max_refused_share"
    ):
        from_frame(small_table(max_refused_share=0.5), small_slow(ROWS))


def test_where_keeps_only_named_rows():
    slow = from_frame(
        small_table(where={"company": ["x"]}),
        small_slow([("A", 0, 1, 1.0, "x"), ("A", 0, 1, 2.0, "y"), ("A", 0, 1, 3.0)]),
    )
    assert slow.feeds[0].rows["x"].to_list() == [1.0]
    with pytest.raises(FusionError, match=r"holds no rows.*where"):
        from_frame(small_table(where={"company": ["z"]}), small_slow(ROWS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observed": "observd"}, r"no column 'observd'.*Did you mean 'observed'"),
        ({"column": {"column": "valu"}}, "Did you mean 'value'"),
        (
            {"column": {"column": "symbol"}},
            r"takes the column 'symbol' of slow.parquet for a name and for a value",
        ),
        (
            {"column": {"column": "company"}},
            r"'company' of fusion table 'slow' holds 1 values that are no numbers, first 'yesterday' in",
        ),
        ({"known": "value"}, "takes the column 'value' of slow.parquet for a time and for a value"),
        ({"known": "company"}, r"'yesterday' is not an ISO time such as"),
        ({"symbol": "observed"}, r"takes the column 'observed' of slow.parquet for a time and for a name"),
        ({"symbol": "value"}, r"takes the column 'value' of slow.parquet for a name and for a value"),
    ],
)
def test_columns_that_are_not_there_or_of_another_type_are_named(changes, message):
    with pytest.raises(FusionError, match=message):
        from_frame(small_table(**changes), small_slow([*ROWS, ("A", 0, 1, 1.0, "yesterday")]))


def test_one_column_may_say_both_when_it_was_and_when_it_became_known():
    slow = from_frame(small_table(known="observed"), small_slow([("A", 0, 1, 1.0), ("A", 5, None, 2.0)]))
    assert slow.feeds[0].rows["_known"].to_list() == [moment(0), moment(5)]


def test_unknown_series_are_named():
    table = small_table(layout="long", columns=[{"name": "x", "column": "DGS1"}])
    with pytest.raises(FusionError, match=r"no series 'DGS1'.*Did you mean 'DGS10'"):
        from_frame(table, small_slow(ROWS).with_columns(pl.lit("DGS10").alias("series")))


def test_files_that_are_missing_empty_or_damaged_are_named(tmp_path):
    (tmp_path / "slow.parquets").write_bytes(b"x")
    with pytest.raises(FusionError, match=r"does not exist.*Did you mean 'slow.parquets'"):
        read_slow_table(small_table(), tmp_path)
    (tmp_path / "slow.parquet").write_bytes(b"")
    with pytest.raises(FusionError, match="is empty"):
        read_slow_table(small_table(), tmp_path)
    (tmp_path / "slow.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(FusionError, match="can't be read"):
        read_slow_table(small_table(), tmp_path)


def test_csv_is_read_like_parquet(tmp_path):
    frame = pl.DataFrame(
        {"symbol": ["A"], "observed": [date(2024, 1, 1)], "known": [date(2024, 1, 3)], "value": [2]}
    )
    frame.write_csv(tmp_path / "slow.csv")
    frame.write_parquet(tmp_path / "slow.parquet")
    changes = {"frequency": "day"}
    rows = [
        read_slow_table(small_table(path=path, **changes), tmp_path).feeds[0].rows
        for path in ("slow.csv", "slow.parquet")
    ]
    assert rows[0].equals(rows[1])


IDENTITY = {"path": "members.parquet", "max_gap_days": 1, "start": "starts", "end": "ends"}
BARS = [(24 * day, "A", 24 * day) for day in range(1, 12)]
SLOW = [
    ("A", 24 * 1, 24 * 1, 1.0, "old"),
    ("A", 24 * 5.5, 24 * 8, 2.0, "old"),
    ("A", 24 * 9, 24 * 9, 3.0, "new"),
]


@pytest.fixture
def members(tmp_path):
    """A ticker that one company used up to the third day and another from the seventh on."""
    pl.DataFrame(
        {
            "symbol": ["A", "A", "B"],
            "starts": [moment(0).date(), moment(24 * 6).date(), moment(0).date()],
            "ends": [moment(24 * 2).date(), None, None],
            "company": ["old", "new", "b"],
        },
        schema_overrides={"ends": pl.Date},
    ).write_parquet(tmp_path / "members.parquet")
    return tmp_path


@pytest.mark.parametrize("named", [False, True])
def test_rows_of_the_other_company_under_a_ticker_are_not_joined(members, named):
    table = small_table(
        identity=IDENTITY | ({"company": "company"} if named else {}), company="company" if named else ""
    )
    slow = from_frame(table, small_slow(SLOW), data_folder=members)
    panel = small_panel(BARS)
    fused, joined = join_tables(panel, [slow])
    assert fused["x"].to_list() == [1.0] * 5 + [None] * 3 + [3.0] * 3
    assert joined[0].other_company == 3
    assert verify_sample(panel, [slow], fused, len(panel), 1) == len(panel)
    without = join_tables(panel, [from_frame(small_table(), small_slow(SLOW))])[0]
    assert without["x"].to_list() == [1.0] * 7 + [2.0] + [3.0] * 3, (
        "the fault that identity is there to catch"
    )


def test_the_last_day_of_a_company_is_its_own_in_local_time(members):
    first = moment(24 * 6).date()
    table = small_table(identity=IDENTITY, frequency="day", known="known", timezone="America/New_York")
    rows = pl.DataFrame(
        {
            "symbol": ["A", "A"],
            "observed": [first - timedelta(days=1), first],
            "known": [moment(24 * 8), moment(24 * 9)],
            "value": [1.0, 2.0],
        }
    )
    slow = from_frame(table, rows, data_folder=members)
    panel = small_panel(BARS)
    fused = join_tables(panel, [slow])[0]
    assert fused["x"].to_list() == [None] * 8 + [2.0] * 3
    assert verify_sample(panel, [slow], fused, len(panel), 1) == len(panel)


def test_identity_that_is_not_applied_only_counts(members):
    slow = from_frame(
        small_table(identity=IDENTITY | {"apply": False}), small_slow(SLOW), data_folder=members
    )
    panel = small_panel(BARS)
    fused, joined = join_tables(panel, [slow])
    assert fused["x"].to_list() == [1.0] * 7 + [2.0] + [3.0] * 3
    assert joined[0].other_company == 3
    assert verify_sample(panel, [slow], fused, len(panel), 1) == len(panel)


def test_a_short_pause_is_still_the_same_company(members):
    slow = from_frame(
        small_table(identity=IDENTITY | {"max_gap_days": 30}), small_slow(SLOW), data_folder=members
    )
    assert join_tables(small_panel(BARS), [slow])[0]["x"].to_list() == [1.0] * 7 + [2.0] + [3.0] * 3


def test_the_hash_follows_the_content_of_all_files(members):
    settings = Settings(tables=(small_table(identity=IDENTITY),))
    small_slow(SLOW).write_parquet(members / "slow.parquet")
    first = slow_tables_sha256(settings, members)
    assert slow_tables_sha256(settings, members) == first
    small_slow(SLOW[:2]).write_parquet(members / "slow.parquet")
    second = slow_tables_sha256(settings, members)
    (members / "members.parquet").write_bytes((members / "slow.parquet").read_bytes())
    assert len({first, second, slow_tables_sha256(settings, members)}) == 3
    assert slow_tables_sha256(Settings(), members) == ""
    (members / "members.parquet").unlink()
    with pytest.raises(FusionError, match="does not exist"):
        slow_tables_sha256(settings, members)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"known": ""}, "one of `known`"),
        ({"release_lag_days": 3}, "one of `known`"),
        ({"known": "", "release_lag_days": 0.5, "frequency": "day"}, "not a whole number of days"),
        ({"key": "market"}, "can't be ranked"),
        ({"column": {"release_lag_days": 3}}, "for long tables"),
        ({"layout": "long", "column": {"divide_by": "other"}}, "divide_by is for wide tables"),
        ({"layout": "long", "column": {"release_lag_days": 1}}, "of no use beside"),
        ({"timezone": "Mars"}, "not a known time zone"),
        ({"column": {"lowest": 2, "highest": 1}}, "is not above"),
        ({"column": {"name": "Bad Name"}}, "pattern"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        small_table(**changes)


def test_names_of_slow_columns_are_their_own():
    with pytest.raises(ValidationError, match="like a column of the panel"):
        Settings(tables=(small_table(column={"name": "open_interest"}),))
    with pytest.raises(ValidationError, match="two slow columns are called 'x'"):
        Settings(tables=(small_table(), small_table(name="other")))


def test_features_are_told_what_each_slow_column_is():
    table = TableSettings(
        name="money",
        **INSTANT,
        modality="base",
        columns=(
            ColumnSettings(name="a"),
            ColumnSettings(
                name="b",
                column="v",
                divide_by="w",
                transform="change",
                observations=4,
                group="g",
                modality="rich",
            ),
        ),
    )
    first, second = slow_columns(Settings(tables=(table,)))
    assert first == {
        "name": "a",
        "group": "money",
        "normalisation": "rank",
        "modality": "base",
        "source": "slow.parquet: a",
    }
    assert second == {
        "name": "b",
        "group": "g",
        "normalisation": "rank",
        "modality": "rich",
        "source": "slow.parquet: v / w, change over 4 observations",
    }
