"""The targets beside the plain returns: worked out by hand where the rule matters, and against a slow oracle
for all of them.
"""

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components.contracts import LABELS, PANEL, check_table
from components.contracts.schemas import LABELS_OF_TICKS
from components.labels.build import build_labels
from components.labels.config import Settings
from components.metrics.liquidity import trailing_sum

START = datetime(2024, 1, 1, 21, tzinfo=UTC)
PRICES = ("open", "high", "low", "close")
SMALL = {
    "horizons": (1, 3, 4),
    "primary_horizon": 3,
    "barriers": {"up_volatilities": 0.8, "down_volatilities": 1.1, "volatility_bars": 4},
    "betas": {"window_bars": 6, "weight": 0.7},
    "costs": {
        "fee_bps": 20,
        "slippage_bps": 10,
        "half_spread": "roll",
        "spread_bars": 6,
        "order_value": 1e4,
        "impact_volatilities": 0.5,
        "volume_bars": 4,
    },
    "classes": {"margin_bps": 5},
}


def panel_of(bars: dict[str, list[tuple | None]], volume: float = 1000.0) -> pl.DataFrame:
    """A PANEL from (open, high, low, close) by symbol; None is a bar that is missing."""
    rows = [
        (t, symbol, *prices)
        for symbol, path in bars.items()
        for t, prices in enumerate(path)
        if prices is not None
    ]
    frame = pl.DataFrame(
        rows, schema={"bar": pl.Int64, "symbol": pl.String, **dict.fromkeys(PRICES, pl.Float64)}, orient="row"
    )
    at = pl.lit(START).dt.cast_time_unit("us") + pl.duration(days=pl.col("bar"))
    full = frame.with_columns(
        timestamp=at,
        period=pl.lit("1d"),
        event_time=at,
        known_time=at,
        volume=pl.lit(volume),
        sector=pl.lit(None, pl.String),
    )
    return check_table(full.select(*PANEL.columns).sort("timestamp", "symbol"), PANEL)


def random_panel(seed: int, *, n_bars: int = 18, n_symbols: int = 6, missing: float = 0.15) -> pl.DataFrame:
    """Random walks with a common part, missing bars, missing ranges and single missing prices."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(
        (rng.normal(0, 0.02, (n_bars, 1)) + rng.normal(0, 0.03, (n_bars, n_symbols))).cumsum(axis=0)
    )
    opened = close * np.exp(rng.normal(0, 0.02, close.shape))
    high = np.maximum(opened, close) * np.exp(np.abs(rng.normal(0, 0.01, close.shape)))
    low = np.minimum(opened, close) * np.exp(-np.abs(rng.normal(0, 0.01, close.shape)))
    bars = {
        f"S{s}": [
            None if rng.random() < missing else (opened[t, s], high[t, s], low[t, s], close[t, s])
            for t in range(n_bars)
        ]
        for s in range(n_symbols)
    }
    panel = panel_of(bars).with_columns(
        volume=pl.Series(rng.lognormal(5, 1, sum(b is not None for path in bars.values() for b in path)))
    )
    coarse, blind = pl.Series(rng.random(len(panel)) < 0.15), pl.Series(rng.random(len(panel)) < 0.05)
    gone = [pl.when(coarse).then(None).otherwise(pl.col(name)).alias(name) for name in ("high", "low")]
    return panel.with_columns(*gone, pl.when(blind).then(float("nan")).otherwise("open").alias("open"))


def first_row(panel: pl.DataFrame, horizon: int, at_bar: int, **settings) -> dict:
    labels = build_labels(panel, Settings(horizons=(horizon,), primary_horizon=horizon, **settings))
    return labels.filter(
        (pl.col("timestamp") == START + timedelta(days=at_bar)) & (pl.col("symbol") == "A")
    ).row(0, named=True)


class Oracle:
    """All targets of one row at a time, by loops over dictionaries."""

    def __init__(self, panel: pl.DataFrame, settings: Settings):
        self.settings, self.panel = settings, panel
        self.calendar = sorted(panel["timestamp"].unique().to_list())
        self.symbols = sorted(panel["symbol"].unique().to_list())
        self.bar = {(r["timestamp"], r["symbol"]): r for r in panel.iter_rows(named=True)}
        self.price = "open" if settings.entry == "next_open" else "close"

    def log(self, t: int, symbol: str, name: str) -> float | None:
        if not 0 <= t < len(self.calendar):
            return None
        value = self.bar.get((self.calendar[t], symbol), {}).get(name)
        return math.log(value) if value is not None and math.isfinite(value) and value > 0 else None

    def one_bar(self, t: int, symbol: str) -> float | None:
        now, before = self.log(t, symbol, "close"), self.log(t - 1, symbol, "close")
        return None if now is None or before is None else now - before

    def over(self, t: int, symbol: str, h: int) -> float | None:
        entry, leave = self.log(t + 1, symbol, self.price), self.log(t + 1 + h, symbol, self.price)
        return None if entry is None or leave is None else leave - entry

    def labelled(self, t: int, h: int) -> list[float]:
        # A symbol without a row at t has no label there.
        found = (self.over(t, symbol, h) for symbol in self.symbols if (self.calendar[t], symbol) in self.bar)
        return [value for value in found if value is not None]

    def market(self, t: int) -> float | None:
        known = [r for r in (self.one_bar(t, symbol) for symbol in self.symbols) if r is not None]
        return sum(known) / len(known) if len(known) >= 2 else None

    def volatility(self, t: int, symbol: str) -> float | None:
        bars = self.settings.barriers.volatility_bars
        known = [r for r in (self.one_bar(k, symbol) for k in range(t - bars + 1, t + 1)) if r is not None]
        return math.sqrt(sum(r * r for r in known) / len(known)) if 2 * len(known) >= bars else None

    def beta(self, t: int, symbol: str) -> float | None:
        bars, weight = self.settings.betas.window_bars, self.settings.betas.weight
        pairs = [(self.one_bar(k, symbol), self.market(k)) for k in range(t - bars + 1, t + 1)]
        pairs = [(r, m) for r, m in pairs if r is not None and m is not None]
        if 2 * len(pairs) < bars:
            return None
        r, m = (np.array(side) for side in zip(*pairs, strict=True))
        return (
            weight * np.mean((r - r.mean()) * (m - m.mean())) / m.var() + 1 - weight
            if m.var() > 1e-14
            else None
        )

    def cost(self, t: int, symbol: str) -> float | None:
        costs = self.settings.costs
        pairs = [
            (self.one_bar(k, symbol), self.one_bar(k - 1, symbol))
            for k in range(t - costs.spread_bars + 1, t + 1)
        ]
        pairs = [(r, b) for r, b in pairs if r is not None and b is not None]
        bars = [
            self.bar.get((self.calendar[k], symbol)) for k in range(max(t - costs.volume_bars + 1, 0), t + 1)
        ]
        values = [b["close"] * b["volume"] for b in bars if b is not None]
        volatility = self.volatility(t, symbol)
        if 2 * len(pairs) < costs.spread_bars or 2 * len(values) < costs.volume_bars or volatility is None:
            return None
        r, b = (np.array(side) for side in zip(*pairs, strict=True))
        spread = math.sqrt(max(-np.mean((r - r.mean()) * (b - b.mean())), 0))
        impact = costs.impact_volatilities * volatility * math.sqrt(costs.order_value / np.mean(values))
        side = min((costs.fee_bps + costs.slippage_bps) / 1e4 + spread + impact, 0.5)
        return math.log((1 + side) / (1 - side))

    def path_volatility(self, t: int, symbol: str, h: int) -> float:
        path = [self.log(k, symbol, self.price) for k in range(t + 1, t + 2 + h)]
        path = [p for p in path if p is not None]
        return math.sqrt(sum((b - a) ** 2 for a, b in pairwise(path)) / h)

    def barrier(self, t: int, symbol: str, h: int) -> tuple | None:
        volatility, settings = self.volatility(t, symbol), self.settings.barriers
        if not volatility:
            return None
        entry, leave = self.log(t + 1, symbol, self.price), self.log(t + 1 + h, symbol, self.price)
        upper, lower = (
            entry + side * volatility * math.sqrt(h)
            for side in (settings.up_volatilities, -settings.down_volatilities)
        )
        first = t + 1 if self.price == "open" else t + 2
        for k in range(first, first + h):
            opened, high, low, close = (self.log(k, symbol, name) for name in PRICES)
            if k > t + 1 and opened is not None and (opened >= upper or opened <= lower):
                return (1 if opened >= upper else -1), opened - entry, k
            if high is None or low is None:
                if close is not None and (close >= upper or close <= lower):
                    return (1 if close >= upper else -1), close - entry, k
            elif low <= lower:
                return -1, lower - entry, k
            elif high >= upper:
                return 1, upper - entry, k
        side = 1 if leave >= upper else -1 if leave <= lower else 0
        return side, leave - entry, t + 1 + h

    def row(self, at: datetime, symbol: str, h: int) -> dict:
        t = self.calendar.index(at)
        value = self.over(t, symbol, h)
        if value is None:
            of_bars = (name for name in LABELS.optional if name not in LABELS_OF_TICKS)
            return dict.fromkeys(("log_return", *of_bars))
        peers = self.labelled(t, h)
        below, equal = sum(v < value for v in peers), sum(v == value for v in peers)
        beta, cost, touched = self.beta(t, symbol), self.cost(t, symbol), self.barrier(t, symbol, h)
        worth = (
            None
            if cost is None
            else (
                int(math.copysign(1, value))
                if abs(value) > cost + self.settings.classes.margin_bps / 1e4
                else 0
            )
        )
        return {
            "log_return": value,
            "trend": int(value > 0),
            "return_quantile": (below + equal / 2) / len(peers) if len(peers) >= 2 else None,
            "realised_volatility": self.path_volatility(t, symbol, h),
            "beta_neutral_return": (
                value - beta * sum(peers) / len(peers) if beta is not None and len(peers) >= 2 else None
            ),
            "barrier": touched and touched[0],
            "barrier_return": touched and touched[1],
            "barrier_end": touched and self.calendar[touched[2]],
            "trade_class": worth,
            "cost": cost,
        }


@hypothesis_settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    missing=st.sampled_from([0.0, 0.1, 0.3]),
    entry=st.sampled_from(["next_open", "next_close"]),
)
def test_all_targets_agree_with_a_slow_oracle(seed, missing, entry):
    panel, settings = random_panel(seed, missing=missing), Settings(entry=entry, **SMALL)
    labels, oracle = check_table(build_labels(panel, settings), LABELS), Oracle(panel, settings)
    assert set(LABELS.optional) - set(LABELS_OF_TICKS) <= set(labels.columns)
    for row in labels.iter_rows(named=True):
        expected = oracle.row(row["timestamp"], row["symbol"], row["horizon"])
        for name, value in expected.items():
            wanted = pytest.approx(value, abs=1e-9) if isinstance(value, float) else value
            assert row[name] == wanted, (name, row["timestamp"], row["symbol"], row["horizon"])


def test_the_random_panels_reach_every_case():
    """The oracle's agreement says something only where all outcomes occur."""
    for entry in ("next_open", "next_close"):
        labels = pl.concat(
            build_labels(random_panel(seed), Settings(entry=entry, **SMALL)) for seed in range(4)
        )
        for name in ("barrier", "trade_class"):
            counts = labels[name].drop_nulls().value_counts()
            assert (len(counts), counts["count"].min() > 20) == (3, True)
        known = labels.filter(pl.col("log_return").is_not_null())
        for name in ("beta_neutral_return", "barrier", "cost"):
            assert 0 < known[name].null_count() < 0.75 * len(known), name
        assert (known["barrier_end"] < known["label_end"]).any()
        assert (known["barrier_end"] == known["label_end"]).any()


FLAT = [(100.0, 100.0, 100.0, 100.0)]
# Closes 100, 102, 100, 102, ...: every bar's return is log(1.02), so volatility is too, from the second bar
# on.
WAVE = [(p, p, p, p) for p in (100.0, 102.0) * 4]
STEP = math.log(1.02)


def barrier_of(*future: tuple, horizon: int = 4, **barriers) -> dict:
    """The label at the eighth bar of a wave (volatility log 1.02, barriers at 1.02 and 1 / 1.02 unless told),
    followed by `future`.
    """
    widths = {"up_volatilities": 0.5, "down_volatilities": 0.5, "volatility_bars": 4, **barriers}
    return first_row(panel_of({"A": [*WAVE, *future]}), horizon, 7, barriers=widths)


def test_the_barrier_touched_first_decides():
    quiet = (100.0, 101.0, 99.0, 100.0)
    up = barrier_of(quiet, (100.0, 103.0, 99.5, 102.5), (102.0, 102.0, 90.0, 95.0), quiet, quiet)
    assert (up["barrier"], up["barrier_end"], up["label_end"]) == (
        1,
        START + timedelta(days=9),
        START + timedelta(days=12),
    )
    assert up["barrier_return"] == pytest.approx(STEP), "left at the barrier, not at the high"
    down = barrier_of(quiet, (100.0, 101.0, 95.0, 96.0), (96.0, 110.0, 96.0, 110.0), quiet, quiet)
    assert (down["barrier"], down["barrier_return"]) == (-1, pytest.approx(-STEP))
    neither = barrier_of(quiet, quiet, quiet, quiet, (100.5, 150.0, 50.0, 100.0))
    assert (neither["barrier"], neither["barrier_end"]) == (0, neither["label_end"])
    assert neither["barrier_return"] == pytest.approx(neither["log_return"]) == pytest.approx(math.log(1.005))


def test_where_one_bar_touches_both_barriers_the_stop_counts():
    both = barrier_of((100.0, 110.0, 90.0, 109.0), *[(100.0, 100.0, 100.0, 100.0)] * 4)
    assert (both["barrier"], both["barrier_return"], both["barrier_end"]) == (
        -1,
        pytest.approx(-STEP),
        START + timedelta(days=8),
    )


def test_a_bar_that_opens_beyond_a_barrier_is_left_at_its_open():
    quiet = (100.0, 100.0, 100.0, 100.0)
    gap_up = barrier_of(quiet, (105.0, 106.0, 90.0, 91.0), quiet, quiet, quiet)
    assert (gap_up["barrier"], gap_up["barrier_return"]) == (1, pytest.approx(math.log(1.05)))
    gap_down = barrier_of(quiet, (80.0, 120.0, 80.0, 120.0), quiet, quiet, quiet)
    assert (gap_down["barrier"], gap_down["barrier_return"]) == (-1, pytest.approx(math.log(0.8)))
    at_the_end = barrier_of(quiet, quiet, quiet, quiet, (110.0, 110.0, 110.0, 110.0))
    assert (at_the_end["barrier"], at_the_end["barrier_end"]) == (1, at_the_end["label_end"])


def test_bars_without_a_range_are_seen_through_their_close():
    def closes(*prices):
        return [(p, None, None, p) for p in prices]

    missed = barrier_of((100.0, None, None, 101.0), *closes(101.0, 101.0, 101.0, 101.0))
    assert missed["barrier"] == 0
    seen = barrier_of((100.0, None, None, 104.0), *closes(104.0, 104.0, 104.0, 104.0))
    assert (seen["barrier"], seen["barrier_return"], seen["barrier_end"]) == (
        1,
        pytest.approx(math.log(1.04)),
        START + timedelta(days=8),
    )


def test_barriers_do_not_see_the_signals_own_bar_nor_anything_after_the_exit():
    wild = [*WAVE[:-1], (102.0, 500.0, 1.0, 102.0)]
    panel = panel_of({"A": [*wild, *[(100.0, 100.0, 100.0, 100.0)] * 5, (1.0, 900.0, 1.0, 1.0)]})
    assert first_row(panel, 4, 7, barriers={"volatility_bars": 4})["barrier"] == 0


def test_a_frozen_symbol_has_no_barriers():
    row = first_row(panel_of({"A": FLAT * 40}), 5, 25)
    assert row["log_return"] == 0.0
    assert (row["barrier"], row["barrier_return"], row["barrier_end"]) == (None, None, None)
    assert row["trade_class"] == 0


def test_realised_volatility_by_hand_and_over_a_gap():
    def path(*opens):
        return panel_of({"A": [None if p is None else (p, p, p, p) for p in opens]})

    up, down = math.log(1.1), math.log(0.95)
    whole = first_row(path(100.0, 100.0, 110.0, 104.5, 104.5), 2, 0)
    assert whole["realised_volatility"] == pytest.approx(math.sqrt((up**2 + down**2) / 2))
    gap = path(100.0, 100.0, None, 104.5, 104.5)
    gap = pl.concat([gap, path(*[1.0] * 5).with_columns(symbol=pl.lit("B"))]).sort("timestamp", "symbol")
    assert first_row(gap, 2, 0)["realised_volatility"] == pytest.approx(math.sqrt((up + down) ** 2 / 2))


def test_quantiles_share_ties_and_lie_inside_zero_and_one():
    opens = {"A": 1.1, "B": 1.2, "C": 1.2, "D": 1.4}
    panel = panel_of({name: [(p, p, p, p) for p in (1.0, 1.0, rate)] for name, rate in opens.items()})
    found = build_labels(panel, Settings(horizons=(1,), primary_horizon=1)).filter(
        pl.col("timestamp") == START
    )
    assert found["return_quantile"].to_list() == [0.125, 0.5, 0.5, 0.875]
    alone = build_labels(panel.filter(pl.col("symbol") == "A"), Settings(horizons=(1,), primary_horizon=1))
    assert alone["return_quantile"].is_null().all()


def test_cost_and_trade_class_by_hand():
    moves = {"A": 1.0060, "B": 1.0030, "C": 1 / 1.0060, "D": 1.0}
    panel = panel_of({name: [(p, p, p, p) for p in (1.0, 1.0, rate)] for name, rate in moves.items()})
    settings = Settings(horizons=(1,), primary_horizon=1, costs={"fee_bps": 20, "slippage_bps": 5})
    found = build_labels(panel, settings).filter(pl.col("timestamp") == START)
    # One side costs 25 basis points: log(1.0025 / 0.9975) = 0.0050000104.
    assert found["cost"].to_list() == pytest.approx([0.0050000104] * 4, abs=1e-10)
    assert found["trade_class"].to_list() == [1, 0, -1, 0]
    wide = build_labels(
        panel,
        settings.model_copy(update={"classes": settings.classes.model_copy(update={"margin_bps": 20.0})}),
    )
    assert wide.filter(pl.col("timestamp") == START)["trade_class"].to_list() == [0, 0, 0, 0]


def test_slippage_by_participation_follows_the_square_root_law():
    # Volatility log(1.02) a bar, traded value 1e5 a bar at a mean close of 101; an order of 1 % of it costs a
    # tenth of volatility.
    future = [(100.0, 100.0, 100.0, 100.0)] * 3
    volume = 1e5 / 101
    costs = {"fee_bps": 0, "slippage_bps": 0, "order_value": 1e3, "volume_bars": 4}
    row = first_row(
        panel_of({"A": [*WAVE, *future]}, volume), 1, 7, costs=costs, barriers={"volatility_bars": 4}
    )
    side = 0.1 * STEP
    assert row["cost"] == pytest.approx(math.log((1 + side) / (1 - side)), rel=1e-9)
    nothing_traded = first_row(
        panel_of({"A": [*WAVE, *future]}, 0.0), 1, 7, costs=costs, barriers={"volatility_bars": 4}
    )
    assert (nothing_traded["cost"], nothing_traded["trade_class"]) == (None, None)


def test_beta_takes_the_market_out_of_what_follows():
    rng = np.random.default_rng(0)
    market, betas = rng.normal(0, 0.02, 200), (0.5, 1.0, 1.5)
    paths = {f"S{i}": 100 * np.exp(np.cumsum(beta * market)) for i, beta in enumerate(betas)}
    panel = panel_of({name: [(p, p, p, p) for p in path] for name, path in paths.items()})
    exact = build_labels(panel, Settings(betas={"weight": 1.0})).filter(
        pl.col("beta_neutral_return").is_not_null()
    )
    assert len(exact) > 1000
    assert exact["beta_neutral_return"].abs().max() < 1e-12
    drawn = build_labels(panel, Settings(betas={"weight": 0.5}))
    third = drawn.filter((pl.col("symbol") == "S2") & pl.col("beta_neutral_return").is_not_null())
    # The estimate 1.5 is drawn half way to 1, so a quarter of the market's return (log return / 1.5) stays.
    assert (third["beta_neutral_return"] - third["log_return"] / 1.5 * 0.25).abs().max() < 1e-12


def test_windows_of_the_past_have_the_same_bits_whatever_lies_before():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 3))
    other = x.copy()
    other[:20] *= 1e6
    for bars in (1, 2, 3, 7, 20, 60):
        first = trailing_sum(x, bars)
        assert np.array_equal(first[19 + bars :], trailing_sum(other, bars)[19 + bars :])
        assert first[70] == pytest.approx(x[71 - bars : 71].sum(axis=0), abs=1e-12)


@pytest.mark.parametrize("target", ["realised_volatility", "cost", "barrier_end"])
def test_what_does_not_order_symbols_can_not_be_learned(target):
    with pytest.raises(ValidationError, match="gates and backtest judge how well a score orders symbols"):
        Settings(target=target)


@pytest.mark.parametrize(
    "values",
    [
        {"barriers": {"up_volatilities": 0}},
        {"betas": {"weight": 1.5}},
        {"costs": {"fee_bps": -1}},
        {"costs": {"half_spread": "guess"}},
    ],
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ValidationError):
        Settings(**values)
