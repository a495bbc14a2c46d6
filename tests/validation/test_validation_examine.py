"""Every fault, planted in a clean panel, is found at its rows with its reason; clean and volatile panels lose
nothing.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.contracts import PANEL, RAW_PANEL, check_table
from components.validation.config import Settings
from components.validation.examine import examine
from components.validation.listing import outages
from components.validation.rules import RULES

SYMBOLS, BARS = 8, 160
START = datetime(2020, 1, 6, 21, tzinfo=UTC)
PRICES = ["open", "high", "low", "close"]


def random_walk(seed: int, *, symbols: int = SYMBOLS, bars: int = BARS, wild: bool = False) -> pl.DataFrame:
    """Daily bars of a market and its symbols; with `wild`, real-looking turmoil: jumps of 30 % on ten times
    the volume.
    """
    rng = np.random.default_rng(seed)
    market = rng.normal(0, 0.01, bars)
    frames = []
    for number in range(symbols):
        volatility = rng.uniform(0.008, 0.03)
        overnight = rng.normal(0, volatility / 2, bars) + market / 2
        intraday = rng.normal(0, volatility, bars) + market / 2
        volume = 1e6 * np.exp(rng.normal(0, 0.3, bars))
        wick = np.abs(rng.normal(0, volatility / 2, (2, bars)))
        if wild:
            news = rng.random(bars) < 0.03
            size = rng.choice([-1, 1], bars) * rng.uniform(0.15, 0.5, bars) * news
            overnight, intraday = overnight + size * 0.7, intraday + size * 0.3
            volume = volume * np.where(news, 10.0, 1.0)
            volume[1:] *= np.where(news[:-1], 4.0, 1.0)
            wick = wick * np.where(news, 4.0, 1.0)
        close = 50 * np.exp(np.cumsum(overnight + intraday))
        opened = close / np.exp(intraday)
        moments = [START + timedelta(days=day) for day in range(bars)]
        frames.append(
            pl.DataFrame(
                {
                    "timestamp": moments,
                    "symbol": f"S{number}",
                    "period": "1d",
                    "event_time": [moment - timedelta(hours=7) for moment in moments],
                    "known_time": moments,
                    "open": opened,
                    "high": np.maximum(opened, close) * np.exp(wick[0]),
                    "low": np.minimum(opened, close) / np.exp(wick[1]),
                    "close": close,
                    "volume": np.round(volume),
                    "sector": "all",
                }
            )
        )
    frame = pl.concat(frames).sort("timestamp", "symbol")
    return check_table(
        frame.cast({name: dtype for name, dtype in RAW_PANEL.columns.items() if name != "symbol"}), RAW_PANEL
    )


def place(frame: pl.DataFrame, symbol: str, first: int, last: int | None = None) -> pl.Expr:
    """The bars `first` to `last` (both included, counted from 0) of a symbol."""
    moment = pl.col("timestamp")
    return (pl.col("symbol") == symbol) & moment.is_between(
        START + timedelta(days=first), START + timedelta(days=first if last is None else last)
    )


def change(frame: pl.DataFrame, where: pl.Expr, **values) -> pl.DataFrame:
    return frame.with_columns(
        pl.when(where).then(value).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )


def scaled(frame: pl.DataFrame, where: pl.Expr, factor: float, columns=PRICES) -> pl.DataFrame:
    return change(frame, where, **{name: pl.col(name) * factor for name in columns})


def found(frame: pl.DataFrame, **overrides) -> dict[str, list[tuple[str, int]]]:
    """(symbol, bar) of each finding, by reason."""
    findings = examine(frame, Settings(**overrides)).findings.join(
        frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row")), on="row"
    )
    findings = findings.with_columns((pl.col("timestamp") - START).dt.total_days().alias("bar")).sort(
        "reason", "symbol", "bar"
    )
    return {
        reason: list(part.select("symbol", "bar").rows())
        for (reason,), part in findings.partition_by("reason", as_dict=True, maintain_order=True).items()
    }


def quarantined(result) -> list[tuple[int, str]]:
    return (
        result.findings.filter(pl.col("reason") != "time_reversal").select("row", "reason").sort("row").rows()
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_clean_panel_has_no_findings(seed):
    panel = random_walk(seed)
    result = examine(panel, Settings())
    assert result.findings.is_empty()
    assert result.clean.drop("row").equals(panel)
    assert result.gaps.is_empty()
    assert result.coverage["coverage"].min() == 1.0


@pytest.mark.parametrize("seed", range(8))
def test_real_volatility_is_no_fault(seed):
    assert found(random_walk(seed, wild=True, bars=400)) == {}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("reason", "values"),
    [
        ("not_finite", {"close": None}),
        ("not_finite", {"volume": float("nan")}),
        ("not_finite", {"high": float("inf")}),
        ("not_positive", {"open": 0.0, "low": 0.0}),
        ("ohlc_order", {"close": pl.col("high") * 1.01}),
        ("ohlc_order", {"open": pl.col("low") * 0.99}),
        ("negative_volume", {"volume": -5.0}),
        ("zero_volume_moving", {"volume": 0.0}),
        ("impossible_times", {"known_time": pl.col("timestamp") - timedelta(hours=1)}),
        ("impossible_times", {"event_time": pl.col("timestamp")}),
    ],
)
def test_a_faulty_row_is_found_where_it_is(seed, reason, values):
    panel = random_walk(seed)
    spoiled = change(
        panel,
        place(panel, "S3", 40),
        **{
            name: pl.lit(value) if not isinstance(value, pl.Expr) else value for name, value in values.items()
        },
    )
    assert found(spoiled)[reason] == [("S3", 40)]
    assert len(examine(spoiled, Settings()).clean) == len(panel) - 1


def test_a_source_without_volume_can_keep_its_bars():
    panel = random_walk(0).with_columns(volume=pl.lit(0.0))
    assert found(panel, zero_volume="keep") == {
        "silent_volume": [(f"S{number}", BARS - 1) for number in range(SYMBOLS)]
    }
    assert len(found(panel)["zero_volume_moving"]) == len(panel)


def test_a_null_key_is_found():
    panel = random_walk(0)
    spoiled = change(panel, place(panel, "S0", 3), symbol=pl.lit(None, dtype=pl.String))
    result = examine(spoiled, Settings())
    assert result.findings["reason"].to_list() == ["missing_key"]
    assert len(result.clean) == len(panel) - 1


def test_prices_in_single_precision_are_in_order():
    panel = random_walk(3)
    assert found(panel.with_columns(pl.col(PRICES).cast(pl.Float32).cast(pl.Float64))) == {}


def test_identical_repeats_lose_all_but_the_one_known_first():
    panel = random_walk(0)
    late = panel.filter(place(panel, "S2", 10)).with_columns(
        known_time=pl.col("known_time") + timedelta(days=1)
    )
    both = pl.concat([late, panel])
    result = examine(both, Settings())
    assert quarantined(result) == [(0, "duplicate_identical")]
    assert result.clean.drop("row").equals(panel)


def test_a_later_revision_gives_way_to_what_was_known_first():
    panel = random_walk(0)
    revised = scaled(panel.filter(place(panel, "S2", 10)), pl.lit(True), 1.01).with_columns(
        known_time=pl.col("known_time") + timedelta(days=2)
    )
    result = examine(pl.concat([revised, panel]), Settings())
    assert quarantined(result) == [(0, "revision")]
    assert result.findings.filter(pl.col("reason") == "revision")["detected_at"][0] == START + timedelta(
        days=12
    )
    assert result.clean.drop("row").equals(panel)


def test_conflicting_repeats_known_together_are_all_set_aside():
    panel = random_walk(0)
    other = scaled(panel.filter(place(panel, "S2", 10)), pl.lit(True), 1.01)
    assert found(pl.concat([panel, other, other]))["duplicate_conflicting"] == [("S2", 10)] * 3


def test_time_that_runs_backwards_is_noticed_and_sorted():
    panel = random_walk(0)
    rows = np.arange(len(panel))
    rows[[SYMBOLS * 50, SYMBOLS * 51]] = rows[[SYMBOLS * 51, SYMBOLS * 50]]
    result = examine(panel[rows], Settings())
    assert result.findings["reason"].to_list() == ["time_reversal"]
    assert result.clean.drop("row").equals(panel)


def test_stale_prices_are_found_from_the_fifth_bar_on():
    panel = random_walk(4)
    price = panel.filter(place(panel, "S1", 70))["close"][0]
    frozen = change(
        panel, place(panel, "S1", 71, 90), **{name: pl.lit(price) for name in PRICES}, volume=pl.lit(0.0)
    )
    assert found(frozen) == {
        "not_tradable": [("S1", bar) for bar in range(71, 75)],
        "stale_price": [("S1", bar) for bar in range(75, 91)],
    }
    stale = examine(frozen, Settings()).findings.filter(pl.col("reason") == "stale_price")
    at = stale.select(pl.col("detected_at").min(), pl.len())
    assert at.row(0) == (START + timedelta(days=75), 16)


def test_a_symbol_frozen_to_the_end_is_named():
    panel = random_walk(4)
    last = panel.filter(place(panel, "S1", BARS - 21))
    frozen = change(
        panel,
        place(panel, "S1", BARS - 20, BARS - 1),
        **{name: pl.lit(last[name][0]) for name in [*PRICES, "volume"]},
    )
    result = examine(frozen, Settings())
    assert result.frozen_symbols == ("S1",)
    assert set(result.findings["reason"]) == {"stale_price"}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("factor", [0.5, 2 / 3, 0.1, 2.0, 5.0])
@pytest.mark.parametrize("volume_adjusted", [True, False])
def test_an_unadjusted_split_ends_what_lies_before(seed, factor, volume_adjusted):
    panel = random_walk(seed)
    after = place(panel, "S5", 100, BARS)
    split = scaled(panel, after, factor)
    if not volume_adjusted:
        split = change(split, after, volume=pl.col("volume") / factor)
    assert found(split) == {"unadjusted_split": [("S5", bar) for bar in range(100)]}
    assert set(examine(split, Settings()).findings["detected_at"]) == {START + timedelta(days=103)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("factor", [1.72, 36.0, 1 / 9])
def test_a_change_of_currency_ends_what_lies_before(seed, factor):
    panel = random_walk(seed)
    assert found(scaled(panel, place(panel, "S0", 60, BARS), factor)) == {
        "currency_jump": [("S0", bar) for bar in range(60)]
    }


def test_a_fall_of_the_whole_market_is_no_split():
    panel = random_walk(1)
    assert found(scaled(panel, pl.col("timestamp") >= START + timedelta(days=90), 0.5)) == {}


def test_a_jump_in_the_newest_bar_waits_for_the_next():
    panel = random_walk(1)
    assert found(scaled(panel, place(panel, "S4", BARS - 1), 0.5)) == {"unconfirmed_jump": [("S4", BARS - 1)]}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("columns", "factor"),
    [
        (PRICES, 3.0),
        (PRICES, 0.4),
        (["high"], 2.0),
        (["low"], 0.4),
        (["high", "close"], 2.5),
        (["low", "open"], 0.4),
    ],
)
def test_a_bad_print_is_found_alone(seed, columns, factor):
    panel = random_walk(seed)
    assert found(scaled(panel, place(panel, "S6", 120), factor, columns)) == {"bad_print": [("S6", 120)]}


def test_a_bad_print_within_its_bar_is_known_at_once_and_one_at_the_close_a_bar_later():
    panel = random_walk(2)
    within = examine(scaled(panel, place(panel, "S6", 120), 3.0, ["high"]), Settings()).findings
    across = examine(scaled(panel, place(panel, "S6", 120), 3.0), Settings()).findings
    assert within["detected_at"].to_list() == [START + timedelta(days=120)]
    assert across["detected_at"].to_list() == [START + timedelta(days=121)]


def test_a_newest_bar_that_is_not_final_is_set_aside():
    panel = random_walk(5)
    newest = pl.col("timestamp") == pl.col("timestamp").max()
    early = panel.with_columns(
        pl.when(newest).then(pl.max_horizontal("open", "close")).otherwise("high").alias("high"),
        pl.when(newest).then(pl.min_horizontal("open", "close")).otherwise("low").alias("low"),
    )
    early = change(
        early,
        newest,
        close=pl.col("open") * 1.0005,
        high=pl.col("open") * 1.001,
        low=pl.col("open") * 0.999,
        volume=pl.col("volume") * 0.15,
    )
    assert found(early) == {"last_bar_not_final": [(f"S{number}", BARS - 1) for number in range(SYMBOLS)]}


def test_a_newest_bar_made_of_parts_from_different_moments_is_set_aside():
    panel = random_walk(5, symbols=40)
    newest = pl.col("timestamp") == pl.col("timestamp").max()
    mixed = change(panel, newest & pl.col("symbol").is_in(["S1", "S2", "S3"]), close=pl.col("high") * 1.002)
    reasons = found(mixed)
    assert reasons["ohlc_order"] == [("S1", BARS - 1), ("S2", BARS - 1), ("S3", BARS - 1)]
    assert len(reasons["last_bar_not_final"]) == 37


def test_an_exchange_without_any_volume_was_closed():
    panel = random_walk(5)
    flat = change(
        panel,
        pl.col("timestamp") == START + timedelta(days=30),
        volume=pl.lit(0.0),
        **{name: pl.col("close") for name in PRICES},
    )
    assert found(flat) == {"dead_cross_section": [(f"S{number}", 30) for number in range(SYMBOLS)]}
    assert examine(flat, Settings()).gaps.is_empty()


def test_a_holiday_on_which_the_last_session_was_copied_is_no_session():
    panel = random_walk(2)
    before = panel.filter(pl.col("timestamp") == START + timedelta(days=29)).sort("symbol")
    copied = panel.sort("timestamp", "symbol").with_row_index("place")
    values = copied.filter(pl.col("timestamp") == START + timedelta(days=30)).drop(*PRICES, "volume")
    values = values.join(before.select("symbol", *PRICES, "volume"), on="symbol").select(copied.columns)
    holiday = pl.concat([copied.join(values, on="place", how="anti"), values]).sort("place").drop("place")
    assert found(holiday) == {"dead_cross_section": [(f"S{number}", 30) for number in range(SYMBOLS)]}
    one_traded = change(holiday, place(holiday, "S1", 30), volume=pl.col("volume") + 1)
    assert found(one_traded) == {}


def test_missing_bars_are_reported_as_gaps():
    panel = random_walk(6)
    result = examine(panel.filter(~place(panel, "S2", 40, 44)), Settings())
    assert result.findings.is_empty()
    assert result.gaps.rows() == [("S2", START + timedelta(days=39), START + timedelta(days=45), 5)]
    assert result.coverage.row(0)[:4] == ("S2", BARS - 5, BARS, (BARS - 5) / BARS)


def test_a_date_that_most_symbols_lack_falls_out():
    panel = random_walk(6)
    thin = panel.filter(
        (pl.col("timestamp") != START + timedelta(days=50)) | pl.col("symbol").is_in(["S0", "S1"])
    )
    assert found(thin) == {"thin_cross_section": [("S0", 50), ("S1", 50)]}
    assert examine(thin, Settings()).gaps.is_empty()


def test_a_symbol_with_too_few_bars_falls_out():
    panel = random_walk(6)
    sparse = panel.filter(
        (pl.col("symbol") != "S3") | ((pl.col("timestamp") - START).dt.total_days() % 3 == 0)
    )
    assert {symbol for symbol, _ in found(sparse)["low_coverage"]} == {"S3"}
    findings = examine(sparse, Settings()).findings.filter(pl.col("reason") == "low_coverage")
    assert findings["detected_at"].unique().to_list() == [
        sparse.filter(pl.col("symbol") == "S3")["timestamp"].max()
    ], "judged over the whole span, so with hindsight"
    assert found(sparse, min_coverage=0.2) == {}


def test_another_instrument_under_the_same_symbol_is_parted():
    panel = random_walk(6)
    reused = scaled(panel, place(panel, "S7", 100, BARS), 9.0).filter(~place(panel, "S7", 60, 99))
    assert found(reused, min_coverage=0.5) == {"recycled_ticker": [("S7", bar) for bar in range(60)]}


ABSENT = [["open"], ["volume"], ["high", "low"], ["open", "high", "low"], ["open", "high", "low", "volume"]]


def lacking(frame: pl.DataFrame, absent: list[str]) -> pl.DataFrame:
    return frame.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in absent)


@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("seed", range(3))
def test_a_clean_panel_that_lacks_columns_loses_nothing(absent, seed):
    for wild in (False, True):
        panel = lacking(random_walk(seed, wild=wild), absent)
        result = examine(panel, Settings())
        assert result.findings.is_empty()
        assert result.absent == tuple(absent)
        assert result.clean.drop("row").equals(panel)


@pytest.mark.parametrize("absent", ABSENT)
def test_faults_of_the_columns_that_are_there_are_found(absent):
    panel = random_walk(2)
    price = panel.filter(place(panel, "S1", 70))["close"][0] * 1.001
    spoiled = change(
        panel, place(panel, "S1", 71, 80), **{name: pl.lit(price) for name in PRICES}, volume=pl.lit(0.0)
    )
    spoiled = change(
        scaled(spoiled, place(panel, "S5", 100, BARS), 0.4), place(panel, "S2", 30), close=pl.lit(-1.0)
    )
    spoiled = scaled(spoiled, place(panel, "S6", 120), 3.0)
    spoiled = pl.concat(
        [
            spoiled,
            spoiled.filter(place(panel, "S3", 50)),
            scaled(spoiled.filter(place(panel, "S4", 50)), pl.lit(True), 1.01),
        ]
    ).sort("timestamp", maintain_order=True)
    reasons = found(lacking(spoiled, absent))
    assert reasons["stale_price"] == [("S1", bar) for bar in range(75, 81)]
    assert reasons["not_positive"] == [("S2", 30)]
    assert reasons["bad_print"] == [("S6", 120)]
    assert reasons["duplicate_identical"] == [("S3", 50)]
    assert reasons["duplicate_conflicting"] == [("S4", 50)] * 2
    assert reasons["unadjusted_split"] == [("S5", bar) for bar in range(100)]
    assert set(reasons) <= {
        "not_tradable",
        "stale_price",
        "not_positive",
        "bad_print",
        "duplicate_identical",
        "duplicate_conflicting",
        "unadjusted_split",
        "ohlc_order",
    }


def test_symbols_that_end_together_are_told_and_single_delistings_are_not():
    panel = random_walk(3, symbols=30)
    cut = [f"S{number}" for number in range(6)]
    ended = panel.filter(~pl.col("symbol").is_in(cut) | (pl.col("timestamp") <= START + timedelta(days=60)))
    assert found(ended) == {"ended_together": [(symbol, 60) for symbol in cut]}
    findings = examine(ended, Settings()).findings
    assert findings["detected_at"].unique().to_list() == [START + timedelta(days=67)], (
        "gone for the listing's memory of seven days"
    )
    assert len(examine(ended, Settings()).clean) == len(ended), "told, not quarantined"
    one_by_one = panel.filter(
        pl.struct("symbol", "timestamp").map_batches(
            lambda rows: ~_after(rows, {symbol: 40 + 10 * place for place, symbol in enumerate(cut)})
        )
    )
    assert found(one_by_one) == {}
    few = panel.filter(~pl.col("symbol").is_in(cut[:4]) | (pl.col("timestamp") <= START + timedelta(days=60)))
    assert found(few) == {}


def _after(rows: pl.Series, last: dict[str, int]) -> pl.Series:
    frame = rows.struct.unnest()
    days = frame["symbol"].replace_strict(last, default=BARS, return_dtype=pl.Int64)
    return frame.select(pl.col("timestamp") > START + pl.duration(days=days)).to_series()


def test_bars_filled_in_afterwards_are_told():
    panel = random_walk(3)
    late = change(panel, place(panel, "S2", 10, 12), known_time=pl.col("timestamp") + timedelta(days=8))
    assert found(late) == {"known_late": [("S2", 10), ("S2", 11), ("S2", 12)]}
    assert examine(late, Settings()).findings["detected_at"].min() == START + timedelta(days=18)
    assert len(examine(late, Settings()).clean) == len(panel)
    assert (
        found(change(panel, place(panel, "S2", 10, 12), known_time=pl.col("timestamp") + timedelta(days=6)))
        == {}
    )


@pytest.mark.parametrize("missing", [0, 1, 5, 30])
def test_a_jump_after_a_halt_is_told_from_news_by_trading(missing):
    panel = random_walk(4)
    price = panel.filter(place(panel, "S3", 90))["close"][0]
    flat = {name: pl.lit(price) for name in PRICES}
    halted = change(panel, place(panel, "S3", 91), **flat, volume=pl.lit(0.0))
    halted = halted.filter(~place(panel, "S3", 92, 91 + missing))
    reopened, after = place(panel, "S3", 92 + missing), place(panel, "S3", 92 + missing, BARS)
    quiet = scaled(halted, after, 0.1)
    reason = "recycled_ticker" if missing == 30 else "unadjusted_split"
    assert set(found(quiet)) == {reason}
    crash = change(quiet, after, volume=pl.col("volume") * 30)
    wide = {"high": pl.col("high") * 1.2, "low": pl.col("low") / 1.2}
    assert found(change(crash, reopened, **wide)) == {"not_tradable": [("S3", 91)]}


def test_a_fall_that_began_in_a_bad_print_is_no_split():
    panel = random_walk(4)
    crashed = scaled(
        change(panel, place(panel, "S3", 90), low=pl.col("low") * 0.2), place(panel, "S3", 91, BARS), 3 / 4
    )
    assert found(crashed) == {"bad_print": [("S3", 90)]}


@pytest.mark.parametrize("seed", range(3))
def test_a_large_split_is_found_through_livelier_trading_and_a_crash_is_not_one(seed):
    panel = random_walk(seed)
    after = place(panel, "S5", 100, BARS)
    lively = change(scaled(panel, after, 1 / 50), after, volume=pl.col("volume") * 50 * 2.6)
    assert found(lively) == {"unadjusted_split": [("S5", bar) for bar in range(100)]}
    crash = change(scaled(panel, after, 0.3), after, volume=pl.col("volume") * 30)
    assert found(crash) == {}


def test_a_slow_fall_behind_conflicting_versions_is_no_jump():
    panel = random_walk(5)
    day = (pl.col("timestamp") - START).dt.total_days()
    fallen = panel.with_columns(
        pl.when(pl.col("symbol") == "S5")
        .then(pl.col(name) * (pl.lit(2 / 3) ** ((day - 60).clip(0, 20) / 20)))
        .otherwise(name)
        .alias(name)
        for name in PRICES
    )
    hidden = pl.concat(
        [
            fallen,
            scaled(fallen.filter(day.is_between(60, 80) & (pl.col("symbol") != "S0")), pl.lit(True), 1.001),
        ]
    ).sort("timestamp", maintain_order=True)
    assert set(found(hidden)) == {"duplicate_conflicting", "thin_cross_section"}
    split = scaled(fallen, place(panel, "S5", 70, BARS), 0.5)
    hidden = pl.concat(
        [
            split,
            scaled(split.filter(day.is_between(60, 80) & (pl.col("symbol") != "S0")), pl.lit(True), 1.001),
        ]
    ).sort("timestamp", maintain_order=True)
    assert found(hidden)["unadjusted_split"] == [("S5", bar) for bar in range(60)]


def test_whether_a_date_is_thin_is_known_at_the_date():
    panel = random_walk(6)
    gone = ["S1", "S2", "S3", "S4"]
    outage = panel.filter(
        ~(
            pl.col("symbol").is_in(gone)
            & pl.col("timestamp").is_between(START + timedelta(days=50), START + timedelta(days=52))
        )
    )
    whole = examine(outage, Settings()).findings
    assert set(whole["reason"]) == {"thin_cross_section"}
    assert (whole["detected_at"] == outage[whole["row"].to_list(), "timestamp"]).all()
    for cut in (50, 51, 52, 53):
        moment = START + timedelta(days=cut)
        known = whole.filter(pl.col("detected_at") <= moment).sort("row")
        assert (
            examine(outage.filter(pl.col("timestamp") <= moment), Settings())
            .findings.sort("row")
            .equals(known)
        )
    delisted = panel.filter(
        ~(pl.col("symbol").is_in(gone) & (pl.col("timestamp") >= START + timedelta(days=50)))
    )
    thin = {bar for _, bar in found(delisted)["thin_cross_section"]}
    assert thin == set(range(50, 57)), "an ended symbol is missed for seven days, then forgotten"


@pytest.mark.parametrize("seed", range(3))
def test_a_rule_known_at_the_bar_never_needs_a_later_one(seed):
    panel = random_walk(seed)
    price = panel.filter(place(panel, "S1", 70))["close"][0]
    spoiled = change(
        panel, place(panel, "S1", 71, 80), **{name: pl.lit(price) for name in PRICES}, volume=pl.lit(0.0)
    )
    spoiled = scaled(scaled(spoiled, place(panel, "S6", 60), 3.0), place(panel, "S5", 100, BARS), 0.5)
    spoiled = change(spoiled, place(panel, "S2", 30), close=pl.lit(-1.0))
    spoiled = spoiled.filter(
        ~(
            pl.col("symbol").is_in(["S1", "S2", "S3", "S4"])
            & (pl.col("timestamp") == START + timedelta(days=50))
        )
    )
    findings = examine(spoiled, Settings()).findings.join(
        spoiled.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row")), on="row"
    )
    at_once = findings.filter(
        pl.col("reason").is_in([rule.reason for rule in RULES if rule.known == "at the bar"])
    )
    assert at_once["reason"].n_unique() >= 3
    assert (at_once["detected_at"] == at_once["timestamp"]).all()
    assert (
        findings.filter(pl.col("reason") == "unadjusted_split")["detected_at"] > START + timedelta(days=100)
    ).all()


def test_outages_of_a_calendar_round_the_clock():
    hours = [START + timedelta(hours=hour) for hour in range(200) if hour not in (50, 51, 52)]
    assert outages(pl.Series(hours)).rows() == [(START + timedelta(hours=49), START + timedelta(hours=53), 3)]
    weekdays = [START + timedelta(days=day) for day in range(200) if day % 7 < 5]
    assert outages(pl.Series(weekdays)).is_empty()


def test_findings_at_one_bar_do_not_depend_on_what_comes_later_unless_they_say_so():
    panel = random_walk(7)
    price = panel.filter(place(panel, "S1", 70))["close"][0]
    spoiled = change(
        panel, place(panel, "S1", 71, 80), **{name: pl.lit(price) for name in PRICES}, volume=pl.lit(0.0)
    )
    spoiled = scaled(
        scaled(spoiled, place(panel, "S6", 60), 3.0, ["high"]), place(panel, "S5", 100, BARS), 0.5
    )
    whole = examine(spoiled, Settings()).findings
    for cut in (65, 78, 99, 130):
        moment = START + timedelta(days=cut)
        known = whole.filter(pl.col("detected_at") <= moment).sort("row", "reason")
        assert (
            examine(spoiled.filter(pl.col("timestamp") <= moment), Settings())
            .findings.sort("row", "reason")
            .equals(known)
        )


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 3),
    keep=st.lists(st.integers(0, SYMBOLS * 40 - 1), min_size=1, max_size=60),
    repeats=st.integers(1, 3),
)
def test_whatever_comes_in_what_comes_out_is_a_panel(seed, keep, repeats):
    rows = np.array(keep * repeats)
    raw = random_walk(seed, bars=40)[rows]
    result = examine(raw, Settings())
    check_table(result.clean.drop("row"), PANEL)
    set_aside = result.findings.filter(pl.col("reason") != "time_reversal")["row"].n_unique()
    assert set_aside + len(result.clean) == len(raw)
    assert (result.findings["detected_at"] >= raw["timestamp"].min()).all()


def early_newest_bar(panel: pl.DataFrame) -> pl.DataFrame:
    newest = pl.col("timestamp") == pl.col("timestamp").max()
    opened = {"close": 1.0005, "high": 1.001, "low": 0.999}
    early = {name: pl.col("open") * factor for name, factor in opened.items()}
    return change(panel, newest, **early, volume=pl.col("volume") * 0.15)


SPOILED = {
    "not_positive": lambda panel: change(panel, place(panel, "S2", 30), close=pl.lit(-1.0)),
    "stale_price": lambda panel: change(
        panel, place(panel, "S1", 71, 80), **dict.fromkeys(PRICES, pl.lit(50.0)), volume=pl.lit(0.0)
    ),
    "dead_cross_section": lambda panel: change(
        panel,
        pl.col("timestamp") == START + timedelta(days=30),
        **{name: pl.col("close") for name in PRICES},
        volume=pl.lit(0.0),
    ),
    "thin_cross_section": lambda panel: panel.filter(
        (pl.col("timestamp") != START + timedelta(days=50)) | pl.col("symbol").is_in(["S0", "S1"])
    ),
    "duplicate_identical": lambda panel: pl.concat([panel, panel.filter(place(panel, "S3", 50))]),
    "bad_print": lambda panel: scaled(panel, place(panel, "S6", 120), 3.0),
    "unadjusted_split": lambda panel: scaled(panel, place(panel, "S5", 100, BARS), 0.4),
    "recycled_ticker": lambda panel: scaled(panel, place(panel, "S7", 100, BARS), 9.0).filter(
        ~place(panel, "S7", 60, 99)
    ),
    "last_bar_not_final": early_newest_bar,
    "low_coverage": lambda panel: panel.filter(
        (pl.col("symbol") != "S3") | ((pl.col("timestamp") - START).dt.total_days() % 3 == 0)
    ),
}


@pytest.mark.parametrize("reason", SPOILED)
def test_a_row_is_either_set_aside_or_in_the_clean_panel(reason):
    raw = SPOILED[reason](random_walk(6))
    result = examine(raw, Settings(min_coverage=0.5))
    grave = [rule.reason for rule in RULES if rule.severity == "quarantine"]
    aside = set(result.findings.filter(pl.col("reason").is_in(grave))["row"])
    assert reason in set(result.findings["reason"])
    assert aside.isdisjoint(result.clean["row"]), "what is quarantined must not be learned from"
    assert aside | set(result.clean["row"]) == set(range(len(raw)))
