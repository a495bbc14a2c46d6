"""Labels: numbers worked out by hand, a brute-force oracle, and proof that no label uses the bars it must
not.
"""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components.contracts import LABELS, PANEL, check_table
from components.contracts.schemas import LABELS_OF_TICKS
from components.labels.build import ENTRY_LAG_BARS, build_labels
from components.labels.config import Settings

START = datetime(2024, 1, 1, 21, tzinfo=UTC)
TARGETS = [
    name for name in (*LABELS.columns, *LABELS.optional) if name not in (*LABELS.key, *LABELS_OF_TICKS)
]
# What may know the past: barriers are as wide as volatility was, betas and costs are estimates at the signal.
OF_THE_PAST = ("beta_neutral_return", "barrier", "barrier_return", "barrier_end", "trade_class", "cost")


def panel_of(rows: list[tuple]) -> pl.DataFrame:
    """A PANEL from (bar, symbol, open, close, sector)."""
    frame = pl.DataFrame(
        rows,
        schema={
            "bar": pl.Int64,
            "symbol": pl.String,
            "open": pl.Float64,
            "close": pl.Float64,
            "sector": pl.String,
        },
        orient="row",
    )
    at = pl.lit(START).dt.cast_time_unit("us") + pl.duration(days=pl.col("bar"))
    full = frame.with_columns(
        timestamp=at,
        period=pl.lit("1d"),
        event_time=at - pl.duration(hours=7),
        known_time=at,
        high=pl.max_horizontal("open", "close"),
        low=pl.min_horizontal("open", "close"),
        volume=pl.lit(1000.0),
    )
    return check_table(full.select(*PANEL.columns).sort("timestamp", "symbol"), PANEL)


def random_panel(n_bars: int, n_symbols: int, seed: int, *, missing: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    prices = np.exp(rng.normal(0, 0.05, (n_bars, n_symbols, 2)).cumsum(axis=0)) * 50
    sectors = ["tech", "energy", None, "tiny"]
    rows = [
        (
            t,
            f"S{s:02d}",
            float(prices[t, s, 0]),
            float(prices[t, s, 1]),
            sectors[0 if s < 4 else 1 if s < 7 else 2 if s < 9 else 3],
        )
        for t in range(n_bars)
        for s in range(n_symbols)
        if rng.random() >= missing
    ]
    return panel_of(rows)


def cell(labels: pl.DataFrame, bar: int, symbol: str, horizon: int) -> dict:
    moment = START + timedelta(days=bar)
    return labels.filter(
        (pl.col("timestamp") == moment) & (pl.col("symbol") == symbol) & (pl.col("horizon") == horizon)
    ).row(0, named=True)


def test_hand_worked_returns_enter_at_the_next_open_or_close():
    rows = [(t, "A", [10.0, 20.0, 40.0, 80.0][t], [11.0, 22.0, 33.0, 66.0][t], None) for t in range(4)]
    by_open = build_labels(panel_of(rows), Settings(horizons=(1, 2), primary_horizon=1))
    assert cell(by_open, 0, "A", 1)["log_return"] == pytest.approx(math.log(40 / 20))
    assert cell(by_open, 0, "A", 2)["log_return"] == pytest.approx(math.log(80 / 20))
    assert cell(by_open, 0, "A", 2)["label_end"] == START + timedelta(days=3)
    assert cell(by_open, 1, "A", 1)["log_return"] == pytest.approx(math.log(80 / 40))
    by_close = build_labels(panel_of(rows), Settings(horizons=(1, 2), primary_horizon=1, entry="next_close"))
    assert cell(by_close, 0, "A", 1)["log_return"] == pytest.approx(math.log(33 / 22))
    assert cell(by_close, 0, "A", 2)["log_return"] == pytest.approx(math.log(66 / 22))


def test_a_row_without_its_complete_future_has_no_label_at_all():
    labels = build_labels(random_panel(8, 5, 0), Settings(horizons=(1, 3), primary_horizon=1))
    check_table(labels, LABELS)
    for horizon in (1, 3):
        part = labels.filter(pl.col("horizon") == horizon)
        last = START + timedelta(days=7 - ENTRY_LAG_BARS - horizon)
        unlabelled = part.filter(pl.col("timestamp") > last)
        assert len(unlabelled) == 5 * (ENTRY_LAG_BARS + horizon)
        assert (
            unlabelled.select("label_end", "log_return", "direction", "sector_neutral_return")
            .null_count()
            .row(0)
            == (len(unlabelled),) * 4
        )
        assert unlabelled.select(*TARGETS).null_count().row(0) == (len(unlabelled),) * len(TARGETS)
        assert (
            part.filter(pl.col("timestamp") <= last).select(*LABELS.columns).null_count().row(0) == (0,) * 7
        )


def test_a_gap_at_entry_or_exit_leaves_the_row_unlabelled_and_bars_are_counted_on_the_calendar():
    rows = [(t, "A", 10.0 + t, 10.0 + t, None) for t in range(7)] + [
        (t, "B", 20.0 + t, 20.0 + t, None) for t in range(7) if t != 3
    ]
    labels = build_labels(panel_of(rows), Settings(horizons=(1,), primary_horizon=1))
    assert cell(labels, 1, "B", 1)["log_return"] is None, "exit bar 3 is missing"
    assert cell(labels, 2, "B", 1)["log_return"] is None, "entry bar 3 is missing"
    assert cell(labels, 0, "B", 1)["log_return"] == pytest.approx(math.log(22 / 21))
    assert cell(labels, 4, "B", 1)["log_return"] == pytest.approx(math.log(26 / 25))


def test_a_delisted_symbol_ends_unlabelled():
    rows = [(t, "A", 10.0, 10.0, None) for t in range(9)] + [(t, "GONE", 5.0, 5.0, None) for t in range(5)]
    gone = build_labels(panel_of(rows), Settings(horizons=(2,), primary_horizon=2)).filter(
        pl.col("symbol") == "GONE"
    )
    assert gone["log_return"].is_null().to_list() == [False, False, True, True, True]


def test_direction_has_three_values_and_a_threshold():
    opens = [100.0, 100.0, 100.05, 99.0, 99.0]
    panel = panel_of([(t, "A", price, price, None) for t, price in enumerate(opens)])
    plain = build_labels(panel, Settings(horizons=(1,), primary_horizon=1))["direction"].to_list()
    assert plain == [1, -1, 0, None, None]
    wide = build_labels(panel, Settings(horizons=(1,), primary_horizon=1, direction_threshold_bps=10))[
        "direction"
    ].to_list()
    assert wide == [0, -1, 0, None, None]


def test_sector_neutral_by_hand_with_small_and_unknown_sectors():
    growth = {"T1": 1.1, "T2": 1.2, "T3": 1.3, "E1": 1.4, "E2": 1.5, "N1": 1.6}
    sector = {"T": "tech", "E": "energy", "N": None}
    rows = [
        (t, name, 10.0 * rate**t, 1.0, sector[name[0]]) for t in range(3) for name, rate in growth.items()
    ]
    labels = build_labels(panel_of(rows), Settings(horizons=(1,), primary_horizon=1))
    logs = {name: math.log(rate) for name, rate in growth.items()}
    tech = np.mean([logs[name] for name in ("T1", "T2", "T3")])
    everyone = np.mean(list(logs.values()))
    for name in growth:
        expected = logs[name] - (tech if name.startswith("T") else everyone)
        assert cell(labels, 0, name, 1)["sector_neutral_return"] == pytest.approx(expected), name


def test_sector_is_taken_as_known_at_the_signal():
    rows = [
        (t, f"S{s}", 10.0 * (1 + s / 10) ** t, 1.0, ("a" if s < 3 else "b") if t == 0 else "merged")
        for t in range(3)
        for s in range(6)
    ]
    labels = build_labels(panel_of(rows), Settings(horizons=(1,), primary_horizon=1))
    expected = 0.0 - np.mean([math.log(1 + s / 10) for s in range(3)])
    assert cell(labels, 0, "S0", 1)["sector_neutral_return"] == pytest.approx(expected)


def test_one_symbol_has_no_neutral_return_and_an_empty_panel_no_rows():
    alone = build_labels(
        panel_of([(t, "A", 10.0 + t, 10.0, None) for t in range(4)]),
        Settings(horizons=(1,), primary_horizon=1),
    )
    assert alone["log_return"].is_not_null().sum() == 2
    assert alone["sector_neutral_return"].is_null().all()
    empty = build_labels(panel_of([]), Settings())
    assert len(check_table(empty, LABELS)) == 0


def test_without_open_prices_labels_fall_back_to_the_close_with_a_warning(capsys):
    panel = panel_of([(t, "A", None, 10.0 + t, None) for t in range(4)])
    fallen_back = build_labels(panel, Settings(horizons=(1,), primary_horizon=1))
    assert fallen_back.equals(
        build_labels(panel, Settings(horizons=(1,), primary_horizon=1, entry="next_close"))
    )
    assert "no open prices" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), None])
def test_impossible_prices_give_no_label(bad):
    panel = panel_of([(t, "A", bad if t == 2 else 10.0 + t, 1.0, None) for t in range(6)])
    returns = build_labels(panel, Settings(horizons=(1,), primary_horizon=1))["log_return"].to_list()
    assert [value is None for value in returns] == [True, True, False, False, True, True]


def oracle(panel: pl.DataFrame, settings: Settings) -> dict[tuple, tuple]:
    """The same labels by loops over dictionaries."""
    calendar = sorted(panel["timestamp"].unique().to_list())
    column = "open" if settings.entry == "next_open" else "close"
    price = {(r["timestamp"], r["symbol"]): r[column] for r in panel.iter_rows(named=True)}
    found: dict[tuple, tuple] = {}
    for row in panel.iter_rows(named=True):
        for h in settings.horizons:
            t = calendar.index(row["timestamp"])
            value, end = None, None
            if t + 1 + h < len(calendar):
                entry, leave = (price.get((calendar[t + k], row["symbol"])) for k in (1, 1 + h))
                if entry and leave:
                    value, end = math.log(leave / entry), calendar[t + 1 + h]
            found[row["timestamp"], row["symbol"], h] = (row["sector"], value, end)
    result = {}
    for (at, symbol, h), (sector, value, end) in found.items():
        peers = [(s, v) for (a, _, k), (s, v, _) in found.items() if a == at and k == h and v is not None]
        same = [v for s, v in peers if sector is not None and s == sector]
        group = same if len(same) >= 3 else [v for _, v in peers]
        neutral = value - sum(group) / len(group) if value is not None and len(group) >= 2 else None
        result[at, symbol, h] = (end, value, neutral)
    return result


@hypothesis_settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    missing=st.sampled_from([0.0, 0.2, 0.6]),
    entry=st.sampled_from(["next_open", "next_close"]),
)
def test_agrees_with_a_brute_force_oracle(seed, missing, entry):
    panel = random_panel(9, 11, seed, missing=missing)
    settings = Settings(horizons=(3, 1), primary_horizon=1, entry=entry)
    labels, expected = build_labels(panel, settings), oracle(panel, settings)
    assert len(labels) == len(expected)
    for row in labels.iter_rows(named=True):
        end, value, neutral = expected[row["timestamp"], row["symbol"], row["horizon"]]
        assert row["label_end"] == end
        assert row["log_return"] == (None if value is None else pytest.approx(value, abs=1e-12))
        assert row["sector_neutral_return"] == (
            None if neutral is None else pytest.approx(neutral, abs=1e-12)
        )


@pytest.mark.parametrize("entry", ["next_open", "next_close"])
def test_bars_after_the_label_end_and_prices_up_to_the_signal_change_nothing(entry):
    panel, settings = (
        random_panel(30, 11, 3, missing=0.1),
        Settings(horizons=(1, 5), primary_horizon=5, entry=entry),
    )
    before, cut = build_labels(panel, settings), START + timedelta(days=14)
    prices = ["open", "high", "low", "close", "volume"]
    later = pl.col("timestamp") > cut
    future = panel.with_columns(
        pl.when(later).then(pl.col(prices) * 1000).otherwise(pl.col(prices)),
        pl.when(later).then(pl.lit("new")).otherwise("sector").alias("sector"),
    )
    known = pl.col("label_end") <= cut
    assert build_labels(future, settings).filter(known).equals(before.filter(known))
    past = panel.with_columns(pl.when(later).then(pl.col(prices)).otherwise(pl.col(prices) * 1000))
    since = pl.col("timestamp") >= cut
    strict = [name for name in before.columns if name not in OF_THE_PAST]
    assert (
        build_labels(past, settings).filter(since).select(strict).equals(before.filter(since).select(strict))
    )


def test_history_cut_off_gives_the_same_labels_where_they_are_known():
    panel, settings = random_panel(30, 11, 5, missing=0.1), Settings(horizons=(1, 5), primary_horizon=5)
    cut = START + timedelta(days=20)
    whole, short = (
        build_labels(panel, settings),
        build_labels(panel.filter(pl.col("timestamp") <= cut), settings),
    )
    known = pl.col("label_end") <= cut
    assert short.filter(known).equals(whole.filter(known))
    assert short.filter(pl.col("log_return").is_not_null())["label_end"].max() <= cut


def test_the_order_of_rows_does_not_matter():
    panel = random_panel(12, 9, 7)
    assert build_labels(panel.sample(fraction=1.0, shuffle=True, seed=1), Settings()).equals(
        build_labels(panel, Settings())
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"horizons": (1, 10)}, "primary_horizon=5"),
        ({"horizons": (5, 5)}, "twice"),
        ({"horizons": (0, 5)}, "greater than or equal"),
        ({"target": "alpha"}, "log_return"),
        ({"target": "realised_volatility"}, "orders symbols"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        Settings(**values)


def blocked(panel: pl.DataFrame, name: str, symbol: str, bars: list[int]) -> pl.DataFrame:
    """The panel with a mark where these bars of a symbol could not be traded."""
    moments = [START + timedelta(days=bar) for bar in bars]
    there = (pl.col("symbol") == symbol) & pl.col("timestamp").is_in(moments)
    marks = {"unbuyable": pl.lit(False), "unsellable": pl.lit(False)} | {name: there}
    return check_table(panel.with_columns(**marks), PANEL)


@pytest.mark.parametrize("name", ["unbuyable", "unsellable"])
@pytest.mark.parametrize("entry", ["next_open", "next_close"])
def test_a_bar_that_could_not_be_traded_begins_and_ends_no_label(name, entry):
    panel = random_panel(40, 5, seed=3)
    settings = Settings(horizons=(1, 4), primary_horizon=1, entry=entry)
    free = build_labels(panel, settings)
    held = build_labels(blocked(panel, name, "S02", [20, 21]), settings)
    gone = held.filter(held["log_return"].is_null() & free["log_return"].is_not_null())
    assert set(gone["symbol"]) == {"S02"}
    bars = {
        (int((row["timestamp"] - START).days), row["horizon"])
        for row in gone.select("timestamp", "horizon").to_dicts()
    }
    assert bars == {(19, 1), (20, 1), (18, 1)} | {(19, 4), (20, 4), (15, 4), (16, 4)}
    others = ("log_return", "trend", "realised_volatility", "cost")
    stayed = held["log_return"].is_not_null() & (held["symbol"] != "S02")
    assert held.filter(stayed).select(others).equals(free.filter(stayed).select(others))
    for target in TARGETS:
        assert gone[target].null_count() == len(gone), target


def test_a_panel_whose_bars_could_all_be_traded_has_the_same_labels():
    panel = random_panel(30, 4, seed=4)
    settings = Settings(horizons=(2,), primary_horizon=2)
    assert build_labels(blocked(panel, "unbuyable", "S00", []), settings).equals(
        build_labels(panel, settings)
    )


def test_no_barrier_is_touched_where_nobody_could_trade():
    """The price falls through the lower barrier in a locked bar: the position is left at the next open."""
    steps = [1.0 + 0.01 * (-1) ** bar for bar in range(30)] + [0.8, 0.7, 0.7, 0.7, 0.7]
    rows = [(bar, "A", 100 * step, 100 * step, None) for bar, step in enumerate(steps)]
    settings = Settings(horizons=(4,), primary_horizon=4, barriers={"volatility_bars": 10})
    panel = panel_of(rows)
    free = cell(build_labels(panel, settings), 28, "A", 4)
    held = cell(build_labels(blocked(panel, "unsellable", "A", [30]), settings), 28, "A", 4)
    assert free["barrier"] == held["barrier"] == -1
    assert free["barrier_return"] == pytest.approx(math.log(0.8 / steps[29]))
    assert held["barrier_return"] == pytest.approx(math.log(0.7 / steps[29]))
    assert held["barrier_end"] == free["barrier_end"] + timedelta(days=1)
