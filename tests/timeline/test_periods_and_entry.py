"""The one home of periods and of the entry bar: lengths written out by hand, and nobody else states them."""

import ast
from datetime import timedelta
from pathlib import Path
from typing import get_args

import components
from components.timeline.entry import ENTRY_LAG_BARS, label_reach
from components.timeline.periods import (
    BARS_A_DAY,
    DAILY,
    HOURS_A_BAR,
    INTRADAY,
    LENGTHS,
    PERIODS,
    TICK_LENGTHS,
    Period,
    TickPeriod,
    is_coarser,
    is_daily,
    widest_step,
)

HOUSE = Path(components.__file__).parents[1]
HOMES = {"components/timeline/periods.py", "components/timeline/entry.py"}


def test_lengths_written_out_by_hand():
    minutes = {"1d": 1440, "4h": 240, "1h": 60, "15m": 15, "1m": 1}
    assert dict(LENGTHS) == {period: timedelta(minutes=length) for period, length in minutes.items()}
    assert get_args(Period) == PERIODS == tuple(minutes)
    assert (DAILY, INTRADAY) == (("1d",), ("4h", "1h", "15m", "1m"))
    assert BARS_A_DAY == {"1d": 1, "4h": 6, "1h": 24, "15m": 96, "1m": 1440}
    assert HOURS_A_BAR == {"4h": 4, "1h": 1}
    assert [is_daily(period) for period in ("1d", "4h", "1h", "1w")] == [True, False, False, False]


def test_samples_of_order_books_are_no_bars():
    milliseconds = {"1s": 1000, "250ms": 250, "50ms": 50}
    assert {
        period: length / timedelta(milliseconds=1) for period, length in TICK_LENGTHS.items()
    } == milliseconds
    assert list(get_args(TickPeriod)) == list(milliseconds)
    assert not set(TICK_LENGTHS) & {*PERIODS, *INTRADAY, *BARS_A_DAY}
    assert widest_step("250ms") == timedelta(milliseconds=1250)
    assert {widest_step(period) for period in PERIODS} == {None}
    assert is_coarser("1s", "250ms")
    assert not is_coarser("50ms", "250ms")


def test_a_label_is_known_one_entry_bar_and_its_horizon_later():
    assert ENTRY_LAG_BARS == 1
    assert [label_reach(horizon) for horizon in (1, 5, 21)] == [2, 6, 22]


def test_nobody_else_lists_the_periods_or_states_the_entry_bar():
    found = []
    for folder in ("components", "pipelines", "serving", "feature_repo"):
        for path in sorted((HOUSE / folder).rglob("*.py")):
            name = path.relative_to(HOUSE).as_posix()
            if name not in HOMES:
                found += [f"{name}: {what}" for what in _stated(path.read_text(encoding="utf-8"))]
    assert not found


def test_what_the_search_finds():
    assert _stated('LENGTH = {"1d": 1, "4h": 6}') == ["lists periods"]
    assert _stated("ENTRY_LAG_BARS = 1") == ["states the entry bar"]
    assert _stated('period: Literal["1d", "4h", "1h"] = "1d"') == ["lists periods"]
    assert not _stated('def f(): """of 1d and 4h"""')


def _stated(source: str) -> list[str]:
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        inside = getattr(node, "keys", None) or getattr(node, "elts", [])
        words = {one.value for one in inside if isinstance(one, ast.Constant)}
        # Tables whose values are the source's own (Qlib's file names, the simulator's nights) are keyed by
        # period.
        if len(words & {*PERIODS, *TICK_LENGTHS}) > 1 and not _by_period(node):
            found.append("lists periods")
        targets = getattr(node, "targets", [])
        if any(isinstance(one, ast.Name) and one.id == "ENTRY_LAG_BARS" for one in targets):
            found.append("states the entry bar")
    return found


def _by_period(node: ast.AST) -> bool:
    values = [one.value for one in getattr(node, "values", []) if isinstance(one, ast.Constant)]
    return bool(values) and all(isinstance(value, str | float) for value in values)
