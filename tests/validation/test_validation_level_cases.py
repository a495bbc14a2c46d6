"""Faults of level are found by their name, honest events that look alike lose no bar, over some markets.

The rates over 200 markets: python -m tests.benchmarks.bench_levels
"""

from collections import Counter
from datetime import timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest

from components.labels.build import build_labels
from components.labels.config import Settings as LabelSettings
from components.validation.config import Settings
from components.validation.examine import examine
from components.validation.rules import NOTICES
from components.validation.validate import validate_panel
from tests.validation.level_cases import (
    FAULTS,
    HONEST,
    PRICES,
    START,
    at_the_limit,
    found_by_symbol,
    lots,
    market,
    planted,
    spin_off,
    split,
    table,
    unit,
)

SYMBOLS, BARS, SEEDS = 26, 400, range(40, 50)


def reasons(raw: pl.DataFrame, **settings) -> dict[str, set[str]]:
    return found_by_symbol(examine(raw, Settings(**settings)).findings, raw)


def only(raw: pl.DataFrame, number: int) -> pl.Expr:
    return pl.col("symbol") == f"S{number:02}"


def test_faults_are_found_and_their_neighbours_are_not():
    found, spoiled = Counter(), set()
    for seed in SEEDS:
        raw, _ = planted(seed, [plant for plant, _ in FAULTS.values()], SYMBOLS, BARS)
        by_symbol = reasons(raw)
        for number, (name, (_, wanted)) in enumerate(FAULTS.items()):
            found[name] += bool(by_symbol.get(f"S{number:02}", set()) & set(wanted))
        spoiled |= {symbol for symbol in by_symbol if int(symbol[1:]) >= len(FAULTS)}
    assert not spoiled
    assert {name: count for name, count in found.items() if count < 0.7 * len(SEEDS)} == {}
    assert found.total() >= 0.93 * len(SEEDS) * len(FAULTS)


def test_honest_events_lose_no_bar():
    cut = Counter()
    for seed in SEEDS:
        raw, _ = planted(seed, list(HONEST.values()), SYMBOLS, BARS)
        for symbol, found in reasons(raw).items():
            number = int(symbol[1:])
            name = list(HONEST)[number] if number < len(HONEST) else "untouched"
            cut[name] += bool(found - set(NOTICES))
    assert cut.total() <= 1, cut
    assert cut["untouched"] == 0


@pytest.mark.parametrize("volume", [0.02, 1.0])
def test_days_at_a_limit_are_no_splits_even_where_prices_are_not_adjusted(volume):
    limits = [(-0.2, 1), (-0.2, 3), (0.2, 2), (0.3, 1), (0.44, 1), (-0.25, 1)]
    cases = [split(2), split(3), *(at_the_limit(limit, days, volume) for limit, days in limits)]
    for seed in range(4):
        raw, _ = planted(seed, cases, SYMBOLS, BARS)
        said = {"one_price_jump", "not_tradable"}
        found = {symbol: names - said for symbol, names in reasons(raw).items()}
        assert {symbol: names for symbol, names in found.items() if names} == {
            "S00": {"unadjusted_split"},
            "S01": {"unadjusted_split"},
        }


@pytest.mark.parametrize("symbols", [9, SYMBOLS])
@pytest.mark.parametrize(("first", "bars"), [(200, 1), (120, 4), (0, 6), (BARS - 3, 3)])
@pytest.mark.parametrize("factor", [100, 1e-3])
def test_a_few_bars_of_volume_in_another_unit_are_unknown_and_prices_stay(factor, first, bars, symbols):
    made = market(5, SYMBOLS, BARS)
    for symbol in made[:symbols]:
        symbol.volume[first : first + bars] *= factor
    result = examine(table(made), Settings())
    assert set(result.findings["reason"]) == {"volume_spell"}
    assert len(result.findings) == pytest.approx(symbols * bars, rel=0.15)
    assert len(result.clean) == SYMBOLS * BARS
    assert result.clean["volume"].null_count() == len(result.findings)


@pytest.mark.parametrize(
    ("factor", "ranges"),
    [(12.0, 1.0), (50.0, 3.5), (0.08, 1.0), (100.0, 3.0)],
    ids=["an index is made anew", "a crash", "a thin holiday", "news for all"],
)
def test_days_of_much_or_little_trading_are_in_the_unit_of_all_others(factor, ranges):
    made = market(6, SYMBOLS, BARS)
    for symbol in made:
        symbol.volume[150:152] *= factor
        symbol.widen(150, 152, ranges)
    assert not any("volume_spell" in names for names in reasons(table(made)).values())


def test_hours_of_the_day_that_trade_little_come_again_and_again():
    made = market(7, SYMBOLS, BARS)
    for symbol in made:
        symbol.volume[::24] *= 0.01
    assert not any("volume_spell" in names for names in reasons(table(made)).values())


def test_a_symbol_that_often_has_one_price_may_split():
    made = market(8, SYMBOLS, BARS)
    flat = np.arange(BARS) % 3 == 0
    for name in ("open", "high", "low"):
        getattr(made[4], name)[flat] = made[4].close[flat]
    split(1.2)(made[4], 201, np.random.default_rng(0))
    for number in (0, 1):
        split(2)(made[number], 150, np.random.default_rng(0))
    assert reasons(table(made))["S04"] & {"unadjusted_split", "unexplained_step"}


def test_a_market_with_news_loses_no_bar_and_few_labels():
    told = 0
    for seed in SEEDS:
        raw = table(market(seed, SYMBOLS, BARS, wild=0.01))
        findings = examine(raw, Settings()).findings
        assert set(findings["reason"]) <= set(NOTICES)
        told += len(findings)
    news = 0.01 * BARS * SYMBOLS * len(SEEDS)
    assert told < 0.06 * news


def test_a_fault_of_the_whole_market_is_found_and_its_crash_is_not():
    raw = table(market(3, 12, BARS))
    after = pl.col("timestamp") >= START + timedelta(days=200)
    crash = raw.with_columns(pl.when(after).then(pl.col(n) * 0.7).otherwise(n).alias(n) for n in PRICES)
    assert reasons(crash) == {}
    pence = raw.with_columns(pl.when(after).then(pl.col(n) * 100).otherwise(n).alias(n) for n in PRICES)
    assert set().union(*reasons(pence).values()) == {"currency_jump"}
    assert len(reasons(pence)) == 12


@pytest.mark.parametrize("bars", [2, 3, 5, 20])
@pytest.mark.parametrize("factor", [0.01, 100, 1 / 7.8, 1000])
def test_bars_in_another_unit_go_alone(bars, factor):
    raw, (at,) = planted(5, [unit(factor, bars=bars)], 12, BARS)
    result = examine(raw, Settings())
    found = result.findings.join(raw.with_row_index("row").cast({"row": pl.Int64}), on="row")
    assert set(found["reason"]) == {"other_unit"}
    days = (found["timestamp"].sort() - START).dt.total_days().to_list()
    assert days == list(range(at, at + bars))
    assert set(found["detected_at"]) == {START + timedelta(days=at + bars)}
    assert result.steps.select("reason", pl.col("ratio").round(4)).height == 1
    assert result.steps["ratio"][0] == pytest.approx(factor, rel=0.05)


def test_bars_that_go_to_another_unit_again_and_again():
    raw, _ = planted(5, [lambda symbol, at, rng: None], 12, BARS)
    day = (pl.col("timestamp") - START).dt.total_days()
    away = only(raw, 3) & (day.is_between(100, 102) | day.is_between(110, 114) | day.is_between(118, 119))
    mixed = raw.with_columns(pl.when(away).then(pl.col(n) / 100).otherwise(n).alias(n) for n in PRICES)
    findings = examine(mixed, Settings()).findings
    assert set(findings["reason"]) == {"other_unit"}
    assert len(findings) == 3 + 5 + 2


SILENT = {"zero": 0.0, "constant": 1.0, "large": 5e6, "null": None}
LEVELS = (split(2), unit(0.01), split(1 / 5), unit(40, bars=3))


@cache
def another_level(number: int) -> tuple[pl.DataFrame, set[str]]:
    """A market whose first symbol has that fault of LEVELS, and what is found of it where volume speaks."""
    raw, _ = planted(7 + number, [LEVELS[number]], 12, BARS)
    return raw, reasons(raw)["S00"]


@pytest.mark.parametrize("value", SILENT.values(), ids=SILENT)
@pytest.mark.parametrize("silent", [1, 12], ids=["in a mixed panel", "everywhere"])
def test_a_volume_that_says_nothing_counts_as_absent(value, silent):
    for number in range(len(LEVELS)):
        raw, wanted = another_level(number)
        mute = pl.col("symbol") < f"S{silent:02}"
        without = pl.when(mute).then(pl.lit(value, dtype=pl.Float64)).otherwise("volume").alias("volume")
        quiet = raw.with_columns(without)
        result = examine(quiet, Settings(zero_volume="keep"))
        found = found_by_symbol(result.findings, quiet)
        told = set() if value is None and silent == 12 else {"silent_volume"}
        assert found["S00"] == wanted | told
        assert set(result.silent) == (set() if not told else {f"S{n:02}" for n in range(silent)})
        assert set(result.clean.filter(pl.col("volume").is_null())["symbol"]) == {
            f"S{n:02}" for n in range(silent)
        } & set(result.clean["symbol"])


def test_a_bad_print_is_found_without_volume_and_a_panel_with_symbols_without_any_passes():
    raw, _ = planted(9, [lambda symbol, at, rng: None], 12, BARS)
    day = (pl.col("timestamp") - START).dt.total_days()
    printed = only(raw, 2) & (day == 250)
    spoiled = raw.with_columns(pl.when(printed).then(pl.col(n) * 100).otherwise(n).alias(n) for n in PRICES)
    null = pl.when(pl.col("symbol") >= "S03").then("volume").alias("volume")
    found = validate_panel(spoiled.with_columns(null), Settings())
    assert found.failures == ()
    assert {entry["reason"]: entry["rows"] for entry in found.health["reasons"]} == {
        "silent_volume": 3,
        "bad_print": 1,
    }
    assert found.panel["symbol"].n_unique() == 12


def test_a_volume_of_zero_that_may_not_be_is_still_set_aside():
    raw = table(market(3, 12, BARS)).with_columns(volume=pl.lit(0.0))
    assert "silent_volume" not in set().union(*reasons(raw).values())


@pytest.mark.parametrize("factor", [100, 1000, 1 / 100, 37_000])
def test_the_older_part_of_a_volume_in_another_unit_is_unknown_and_prices_stay(factor):
    raw, (at,) = planted(11, [lots(factor)], 12, BARS)
    result = examine(raw, Settings())
    assert set(result.findings["reason"]) == {"volume_unit"}
    assert result.steps["ratio"][0] == pytest.approx(factor, rel=0.5)
    clean = result.clean.filter(only(raw, 0))
    assert len(clean) == BARS
    assert clean["volume"].null_count() == at
    assert clean["volume"][:at].null_count() == at
    assert result.clean["volume"].null_count() == at


def test_a_volume_unit_of_ten_is_believed_where_several_symbols_change_at_once():
    raw = table(market(13, 12, BARS))
    after = pl.col("timestamp") >= START + timedelta(days=200)
    for symbols, told in ((1, set()), (12, {"volume_unit"})):
        changed = after & (pl.col("symbol") < f"S{symbols:02}")
        lot = raw.with_columns(
            pl.when(changed).then(pl.col("volume") * 10).otherwise("volume").alias("volume")
        )
        assert set().union(*reasons(lot).values()) == told


def test_no_label_spans_a_step_that_stays_open():
    raw, (at,) = planted(17, [spin_off(0.73, 1.4)], 12, BARS)
    result = examine(raw, Settings())
    assert set(result.findings["reason"]) == {"unexplained_step"}
    assert len(result.clean) == len(raw)
    stepped = result.clean.filter("level_step").select("symbol", "timestamp").rows()
    assert stepped == [("S00", START + timedelta(days=at))]
    panel = result.clean.drop("row")
    settings = LabelSettings(horizons=[1, 5])
    labels, plain = build_labels(panel, settings), build_labels(panel.drop("level_step"), settings)
    lost = labels.filter(pl.col("log_return").is_null()).join(
        plain.filter(pl.col("log_return").is_not_null()), on=["timestamp", "symbol", "horizon"]
    )
    days = lost.with_columns(day=(pl.col("timestamp") - START).dt.total_days())
    # Entered at the open of t + 1 and left at that of t + 1 + h: the step lies between where t + 1 < at.
    assert days.filter(horizon=1)["day"].to_list() == [at - 2]
    assert days.filter(horizon=5)["day"].sort().to_list() == list(range(at - 6, at - 1))
    assert set(lost["symbol"]) == {"S00"}
    others = labels.filter(pl.col("symbol") != "S00")["log_return"]
    assert others.equals(plain.filter(pl.col("symbol") != "S00")["log_return"])
    old, new = (
        frame.filter(only(raw, 0), horizon=1)["barrier_return"].abs().max() for frame in (plain, labels)
    )
    assert np.isfinite(new)
    assert new < old
