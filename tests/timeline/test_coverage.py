"""Coverage of symbols, against counts made by hand."""

from datetime import UTC, datetime, timedelta

import polars as pl

from components.timeline.coverage import symbol_coverage

DAYS = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(6)]


def test_bars_count_between_a_symbols_own_first_and_last_thinnest_first():
    held = {"whole": [0, 1, 2, 3, 4, 5], "young": [3, 4, 5], "holed": [1, 4], "once": [2]}
    bars = pl.DataFrame(
        [{"symbol": symbol, "timestamp": DAYS[day]} for symbol, days in held.items() for day in days]
    )
    found = symbol_coverage(bars, pl.Series(DAYS))
    assert found.rows() == [
        ("holed", 2, 4, 0.5, DAYS[1], DAYS[4]),
        ("once", 1, 1, 1.0, DAYS[2], DAYS[2]),
        ("whole", 6, 6, 1.0, DAYS[0], DAYS[5]),
        ("young", 3, 3, 1.0, DAYS[3], DAYS[5]),
    ]


def test_only_the_expected_moments_count():
    bars = pl.DataFrame({"symbol": ["A", "A"], "timestamp": [DAYS[0], DAYS[5]]})
    assert symbol_coverage(bars, pl.Series([DAYS[0], DAYS[2], DAYS[5]]))["coverage"].to_list() == [2 / 3]
