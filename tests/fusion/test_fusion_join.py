"""The point-in-time join: worked out by hand, against brute force on random tables, and faults
planted in it.
"""

import re

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from small_tables import brute_force, moment, small_panel, small_slow, small_table

from components.fusion import join as join_module
from components.fusion.errors import FusionError
from components.fusion.join import join_tables, require_aligned
from components.fusion.oracle import verify_sample
from components.fusion.read import from_frame


def joined(bars, rows, **changes) -> list[float | None]:
    table = small_table(**changes)
    return join_tables(small_panel(bars), [from_frame(table, small_slow(rows))])[0]["x"].to_list()


HOURLY = [(hour, "A", hour) for hour in range(1, 11)]


def test_a_value_counts_from_the_moment_at_which_it_became_known():
    assert joined(HOURLY, [("A", 0, 3, 1.0), ("A", 1, 7, 2.0)]) == [None, None, 1, 1, 1, 1, 2, 2, 2, 2]


def test_a_late_bar_sees_what_was_known_when_it_came():
    bars = [(1, "A", 1), (2, "A", 9), (3, "A", 3)]
    assert joined(bars, [("A", 0, 2, 1.0), ("A", 1, 8, 2.0)]) == [None, 2.0, 1.0]


def test_an_amendment_replaces_its_value_from_its_own_known_time_on():
    assert joined(HOURLY, [("A", 0, 2, 1.0), ("A", 0, 5, 1.5)]) == [
        None,
        1,
        1,
        1,
        1.5,
        1.5,
        1.5,
        1.5,
        1.5,
        1.5,
    ]


def test_an_old_observation_published_again_displaces_nothing():
    rows = [("A", 0, 2, 1.0), ("A", 1, 4, 2.0), ("A", 0, 6, 1.0), ("A", 0, 8, 9.0)]
    assert joined(HOURLY, rows) == [None, 1, 1, 2, 2, 2, 2, 2, 2, 2]


def test_an_amendment_without_a_value_keeps_the_old_one():
    assert joined(HOURLY, [("A", 0, 2, 1.0), ("A", 0, 5, None)]) == [None, *[1.0] * 9]


def test_of_rows_known_at_once_the_later_observation_counts_then_the_later_row():
    assert joined(HOURLY[:3], [("A", 1, 2, 2.0), ("A", 0, 2, 1.0)]) == [None, 2, 2]
    assert joined(HOURLY[:3], [("A", 1, 2, 2.0), ("A", 1, 2, 3.0)], conflicts="last") == [None, 3, 3]


def test_rows_that_contradict_each_other_at_once_say_nothing():
    rows = [
        ("A", 0, 1, 1.0),
        ("A", 1, 2, 2.0),
        ("A", 1, 2, 3.0),
        ("A", 2, 4, 4.0),
        ("A", 2, 4, 4.0),
        ("A", 2, 4, None),
    ]
    assert joined(HOURLY[:4], rows) == [1, 1, 1, 4]
    assert from_frame(small_table(), small_slow(rows)).feeds[0].conflicting == {"x": 2}


def test_a_value_ages_from_the_end_of_its_observation():
    assert joined(
        [(24, "A", 24), (47, "A", 47), (48, "A", 48), (49, "A", 49)], [("A", 0, 23, 1.0)], max_age_days=2
    ) == [1, 1, 1, None]


def test_an_old_observation_published_again_does_not_age_the_newest():
    bars = [(30, "A", 30), (73, "A", 73), (75, "A", 75)]
    rows = [("A", 0, 23, 1.0), ("A", 26, 29, 2.0), ("A", 1, 30, 9.0)]
    assert joined(bars, rows, max_age_days=2) == [2, 2, None]


def test_changes_compare_with_what_was_known_by_then():
    rows = [("A", 0, 1, 10.0), ("A", 1, 3, 12.0), ("A", 0, 5, 11.0), ("A", 2, 7, 22.0)]
    change = {"transform": "change"}
    assert joined(HOURLY, rows, column=change) == [None, None, 2, 2, 1, 1, 10, 10, 10, 10]
    assert joined(HOURLY, rows, column={"transform": "percent_change", "observations": 2}) == [
        *[None] * 6,
        *[1.0] * 4,
    ]
    assert joined(
        HOURLY[:3], [("A", 0, 1, 0.0), ("A", 1, 2, 5.0)], column={"transform": "percent_change"}
    ) == [None, None, None]
    assert joined(
        HOURLY[:3], [("A", 0, 1, -4.0), ("A", 1, 2, -2.0)], column={"transform": "percent_change"}
    ) == [None, 0.5, 0.5]


def test_a_market_series_goes_to_every_symbol():
    bars = [(1, "A", 1), (1, "B", 1), (2, "A", 2), (2, "B", 3)]
    assert joined(
        bars, [("VIX", 0, 2, 5.0), ("VIX", 1, 3, 6.0)], key="market", column={"normalisation": "none"}
    ) == [None, None, 5, 6]


def test_symbols_are_mapped_and_other_symbols_are_left_alone():
    bars = [(1, "BTC", 1), (1, "ETH", 1)]
    assert joined(
        bars,
        [("btc", 0, 1, 5.0), ("xeth", 0, 1, 6.0), (" ", 0, 1, 7.0)],
        upper_case=True,
        symbols={"XETH": "ETH"},
    ) == [5, 6]


def test_ratio_scale_and_range_count_before_the_transform():
    table = small_table(column={"divide_by": "other", "scale": 100.0, "lowest": 0.0, "highest": 60.0})
    rows = small_slow(
        [("A", 0, 1, 1.0), ("A", 1, 2, 9.0), ("A", 2, 3, 1.0), ("A", 3, 4, float("nan"))]
    ).with_columns(pl.Series("other", [2.0, 10.0, 0.0, 1.0]))
    slow = from_frame(table, rows)
    assert join_tables(small_panel(HOURLY[:5]), [slow])[0]["x"].to_list() == [50, 50, 50, 50, 50]
    assert slow.feeds[0].out_of_range == {"x": 1}


def test_rows_of_an_earlier_company_end_with_the_first_of_the_next():
    rows = [
        ("A", 0, 1, 1.0, "old"),
        ("A", 1, 4, None, "new"),
        ("A", 2, 5, 9.0, "old"),
        ("A", 2, 7, 2.0, "new"),
    ]
    assert joined(HOURLY[:8], rows, company="company") == [1, 1, 1, None, None, None, 2, 2]
    assert joined(HOURLY[:8], rows) == [
        1,
        1,
        1,
        1,
        9,
        9,
        2,
        2,
    ], "without the column a ticker counts as one company"


def test_of_no_rows_come_no_values():
    assert joined(HOURLY[:2], [("Z", 0, 1, 1.0)]) == [None, None]
    assert joined(HOURLY[:2], [("A", 5, 1, 1.0)]) == [None, None], "known before it was observed"


def test_rows_older_than_a_young_symbol_are_another_companys_where_told_so():
    bars = [*HOURLY, *((hour, "B", hour) for hour in range(5, 9))]
    rows = [("A", 0, 0.5, 1.0), ("B", 0, 4, 2.0), ("B", 1, 6, 3.0)]
    panel = small_panel(bars)
    for setting, first in (("join", 2.0), ("refuse", None)):
        slow = from_frame(small_table(before_first_bar=setting), small_slow(rows))
        fused, parts = join_tables(panel, [slow])
        assert fused.filter(pl.col("symbol") == "B")["x"].to_list() == [first, 3.0, 3.0, 3.0]
        assert fused.filter(pl.col("symbol") == "A")["x"].to_list() == [1.0] * 10, (
            "symbols as old as the panel may have been listed long before"
        )
        assert parts[0].early["_key"].to_list() == ["B"]
        assert verify_sample(panel, [slow], fused, len(panel), 1) == len(panel)


hours = st.integers(0, 12)
random_bars = st.lists(
    st.tuples(hours, st.sampled_from("ABC"), st.integers(0, 3)),
    min_size=1,
    max_size=25,
    unique_by=lambda bar: bar[:2],
).map(lambda bars: [(hour, symbol, hour + late) for hour, symbol, late in bars])
values = st.sampled_from([None, -2.0, 0.0, 1.0, 3.5])
random_rows = st.lists(
    st.tuples(
        st.sampled_from(["A", "B", "Z", None]),
        st.none() | hours,
        st.none() | hours,
        values,
        st.sampled_from([None, "p", "q"]),
    ),
    min_size=1,
    max_size=40,
)
transforms = st.tuples(st.sampled_from(["level", "change", "percent_change"]), st.integers(1, 3))


@settings(max_examples=250, deadline=None)
@given(
    random_bars,
    random_rows,
    transforms,
    st.sampled_from([0.1, 0.3, 400.0]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_random_tables_join_as_by_brute_force(bars, rows, transform, max_age_days, market, companies, last):
    panel, slow = small_panel(bars), small_slow(rows)
    column = {"transform": transform[0], "observations": transform[1], "normalisation": "none"}
    table = small_table(
        key="market" if market else "symbol",
        column=column,
        max_age_days=max_age_days,
        company="company" if companies else "",
        conflicts="last" if last else "missing",
    )
    rules = {
        "transform": transform[0],
        "observations": transform[1],
        "max_age_days": max_age_days,
        "market": market,
        "companies": companies,
        "contradicted": not last,
    }
    expected = brute_force(panel, slow, **rules)
    read = from_frame(table, slow)
    fused = join_tables(panel, [read])[0]
    assert fused["x"].to_list() == pytest.approx(expected, nan_ok=False)
    assert verify_sample(panel, [read], fused, len(panel), 1) == len(panel)


@settings(max_examples=60, deadline=None)
@given(random_bars, random_rows, hours, transforms)
def test_rows_known_after_a_moment_change_nothing_up_to_it(bars, rows, cut, transform):
    panel = small_panel(bars)
    table = small_table(column={"transform": transform[0], "observations": transform[1]})
    slow = small_slow(rows)
    whole = join_tables(panel, [from_frame(table, slow)])[0]
    late = pl.col("known") > moment(cut)
    kept = panel["known_time"] <= moment(cut)
    mutated = slow.with_columns(
        pl.when(late).then(pl.col("value") * 1000 + 7).otherwise("value").alias("value")
    )
    assert join_tables(panel, [from_frame(table, mutated)])[0].filter(kept).equals(whole.filter(kept))
    truncated = slow.filter(~late.fill_null(False))
    if len(truncated):
        assert join_tables(panel, [from_frame(table, truncated)])[0].filter(kept).equals(whole.filter(kept))


def planted_rows():
    rng = np.random.default_rng(3)
    rows = []
    for symbol in "AB":
        for quarter in range(30):
            known = quarter * 10 + int(rng.integers(1, 9))
            rows += [
                (symbol, quarter * 10, known, float(rng.normal())),
                (symbol, quarter * 10, known + int(rng.integers(1, 30)), float(rng.normal())),
            ]
    return rows


PLANTED_BARS = [(hour, symbol, hour) for hour in range(330) for symbol in "AB"]


def caught(tables, fused) -> bool:
    try:
        verify_sample(small_panel(PLANTED_BARS), tables, fused, 300, 1)
    except FusionError as error:
        return bool(re.search(r"does not hold at [AB], .*by hand gives", str(error)))
    return False


def test_the_sample_passes_on_an_honest_join():
    tables = [from_frame(small_table(), small_slow(planted_rows()))]
    assert not caught(tables, join_tables(small_panel(PLANTED_BARS), tables)[0])


@pytest.mark.parametrize(
    "fault",
    [
        "known an hour too early",
        "amendments dropped",
        "strict instead of at or before",
        "newest published instead of newest observed",
        "one value",
    ],
)
def test_the_sample_catches_planted_faults(fault, monkeypatch):
    panel, slow = small_panel(PLANTED_BARS), small_slow(planted_rows())
    tables, faulty = [from_frame(small_table(), slow)], slow
    if fault == "known an hour too early":
        faulty = slow.with_columns(pl.col("known").dt.offset_by("-1h"))
    if fault == "amendments dropped":
        faulty = slow.unique(["symbol", "observed"], keep="first", maintain_order=True)
    if fault == "strict instead of at or before":
        honest = join_module.newest_row
        monkeypatch.setattr(
            join_module,
            "newest_row",
            lambda group, known, bar_group, bar_known: honest(group, known, bar_group, bar_known - 1),
        )
    if fault == "newest published instead of newest observed":
        faulty = slow.with_columns(pl.col("known").alias("observed"))
    fused = join_tables(panel, [from_frame(small_table(), faulty)])[0]
    if fault == "one value":
        # a single row: found when every row is looked at
        fused = fused.with_columns(
            pl.when(pl.int_range(pl.len()) == 400).then(1e-3 + pl.col("x")).otherwise("x").alias("x")
        )
        with pytest.raises(FusionError, match="by hand gives"):
            verify_sample(panel, tables, fused, len(panel), 1)
        return
    assert caught(tables, fused)


def test_a_join_that_sees_the_future_is_refused(monkeypatch):
    honest = join_module.newest_row
    monkeypatch.setattr(
        join_module,
        "newest_row",
        lambda group, known, bar_group, bar_known: honest(group, known, bar_group, bar_known + 3_600_000_000),
    )
    with pytest.raises(FusionError, match="became known after them"):
        join_tables(small_panel(PLANTED_BARS), [from_frame(small_table(), small_slow(planted_rows()))])


def test_tables_of_other_rows_are_refused_with_what_fell_out():
    panel = small_panel(HOURLY)
    fused = join_tables(panel, [from_frame(small_table(), small_slow([("A", 0, 1, 1.0)]))])[0]
    require_aligned(fused, panel)
    with pytest.raises(FusionError, match=r"9 rows, the panel 10: 1 fell out \(1 symbols, 1 dates"):
        require_aligned(fused.head(9), panel)


def test_the_order_of_rows_in_the_file_does_not_matter_where_times_differ():
    slow = small_slow(planted_rows())
    panel = small_panel(PLANTED_BARS)
    shuffled = slow.unique(["symbol", "observed", "known"], keep="first").sample(
        fraction=1.0, shuffle=True, seed=5
    )
    ordered = shuffled.sort("symbol", "observed", "known")
    assert join_tables(panel, [from_frame(small_table(), shuffled)])[0].equals(
        join_tables(panel, [from_frame(small_table(), ordered)])[0]
    )
