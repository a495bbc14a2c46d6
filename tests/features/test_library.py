"""The factor library as declared: every factor has values when its warm-up is over, none before, none from
the future, and none that depends on older bars.
"""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from components.contracts import PANEL, check_table
from components.features import kernels as k
from components.features.build import build_factors
from components.features.config import Groups, Settings
from components.features.library import (
    FACTORS,
    GROUPS,
    MEASURES,
    Factor,
    base_columns,
    did_you_mean,
    needed_measures,
    wanted_factors,
)
from components.features.library.context import CONTEXT
from components.features.support import unsupported
from components.market.config import Settings as MarketSettings
from components.market.simulator import simulate
from components.market.simulator_config import SimulatorSettings

EVERY_GROUP = Settings(groups=Groups(**dict.fromkeys(GROUPS, True)), reference_symbol="S04")
OLDER_GROUPS = (
    "trend",
    "mean_reversion",
    "volatility",
    "volume_liquidity",
    "microstructure",
    "style",
    "calendar",
    "regime",
    "bars",
)
NUMBERS = ("open", "high", "low", "close", "volume", "vwap", "funding_rate", "open_interest")
# The simulator's bars never have these: no return of exactly 0, no gap of a whole true range.
MAY_BE_CONSTANT = {"zero_return_share_20", "gap_event"}


def market(period: str, bars: int) -> pl.DataFrame:
    """A simulated market whose symbols are there from the first bar, with all optional columns and a delay of
    its own for each bar.
    """
    simulator = SimulatorSettings(
        symbols=12, bars=bars, sectors=3, start=date(2021, 3, 22), late_share=0.0, delisted_share=0.0
    )
    panel = simulate(MarketSettings(period=period, simulator=simulator), seed=7).panel
    rng = np.random.default_rng(1)
    delay = pl.Series(rng.integers(1, 600, len(panel)) * 1_000_000).cast(pl.Duration("us"))
    panel = panel.sort("timestamp", "symbol").with_columns(
        known_time=pl.col("timestamp") + delay,
        vwap=(pl.col("high") + pl.col("low") + 2 * pl.col("close")) / 4,
        funding_rate=pl.Series(1e-4 * rng.standard_normal(len(panel))),
        open_interest=pl.Series(np.exp(15 + 0.1 * rng.standard_normal(len(panel)))),
        industry=pl.format("industry {}", pl.col("symbol").str.tail(1)),
    )
    return check_table(panel, PANEL)


@pytest.fixture(scope="module", params=["1d", "1h"])
def built(request):
    """(period, panel, factors of every group)."""
    panel = market(request.param, 340)
    return request.param, panel, build_factors(panel, EVERY_GROUP)


def bar_number() -> pl.Expr:
    return pl.int_range(pl.len()).over("symbol")


def test_the_library_is_large_and_its_names_are_its_own():
    assert len([factor for factor in FACTORS if factor.group != "alpha158"]) >= 200
    assert len([factor for factor in FACTORS if factor.group == "alpha158"]) == 158
    assert (
        len(
            [
                factor
                for factor in FACTORS
                if factor.group not in OLDER_GROUPS and factor.name.startswith("alpha_")
            ]
        )
        >= 12
    )
    assert len({factor.name for factor in FACTORS}) == len(FACTORS)
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    assert tuple(Groups.model_fields) == GROUPS
    assert GROUPS[: len(OLDER_GROUPS)] == OLDER_GROUPS
    assert all(factor.source for factor in FACTORS)
    assert max(factor.warm_up_bars for factor in FACTORS) <= 252


def test_every_column_that_is_read_is_a_measure_or_the_panels():
    panels = {*PANEL.columns, *PANEL.optional, "is_reference"}
    for factor in FACTORS:
        assert base_columns(factor) <= panels, factor.name
    used = {measure.name for measure in needed_measures(FACTORS)}
    assert used == {measure.name for measure in MEASURES}
    by_name = {factor.name: base_columns(factor) for factor in FACTORS}
    assert by_name["momentum_20"] == {"close"}
    assert by_name["sector_relative_momentum_20"] == {"close"}
    assert by_name["alpha158_vwap_0"] == {"vwap", "close"}
    assert by_name["profile_control_60"] == {"high", "low", "close", "volume"}
    assert by_name["reference_beta_60"] == {"close", "is_reference"}
    assert by_name["candle_engulfing"] == {"open", "high", "low", "close"}
    assert by_name["delay_s"] == {"known_time", "timestamp"}


def test_default_inputs_stay_quick_to_train_on():
    on = [name for name, value in Settings().groups if value]
    optional = {"funding_rate", "open_interest", "vwap", "is_reference"}
    daily = [factor for factor in wanted_factors("1d", on) if not base_columns(factor) & optional]
    assert 120 <= len([factor for factor in daily if factor.name not in CONTEXT]) <= 140
    assert not {"alpha158", "candles", "formulas", "pivots"} & set(on)


def test_a_misspelt_factor_gets_a_hint():
    assert "alpha158_roc_5" in did_you_mean("alpha158_rok_5")


def test_factors_that_a_panel_can_not_support_are_named_and_the_others_are_not():
    panel = market("1d", 30)
    bare = panel.drop("vwap", "funding_rate", "open_interest", "industry")
    gone = unsupported(bare, EVERY_GROUP.model_copy(update={"reference_symbol": None}))
    expected = {
        factor.name
        for factor in wanted_factors("1d")
        if base_columns(factor) & {"vwap", "funding_rate", "open_interest", "industry", "is_reference"}
    }
    assert set(gone) == expected
    assert {"alpha158_vwap_0", "alpha_041", "funding", "industry_code", "reference_beta_60"} <= expected
    assert unsupported(panel, EVERY_GROUP) == {}


def differing(one: pl.DataFrame, other: pl.DataFrame) -> list[str]:
    """Names of the columns, but the known time, that are not equal to the bit."""
    return [name for name in one.columns if name != "known_time" and not one[name].equals(other[name])]


def not_whole(table: pl.DataFrame, factors) -> list[str]:
    """Factors with a value during their warm-up, or without a finite one after it."""
    numbered = table.with_columns(bar_number().alias("bar"))
    found = []
    for factor in factors:
        warm = numbered.filter(pl.col("bar") >= factor.warm_up_bars - 1)[factor.name]
        cold = numbered.filter(pl.col("bar") < factor.warm_up_bars - 1)[factor.name]
        if cold.null_count() < len(cold) or warm.null_count() or not warm.is_finite().all():
            found.append(factor.name)
    return found


def remembering(
    panel: pl.DataFrame, table: pl.DataFrame, factors, start: int, settings: Settings
) -> list[str]:
    """Factors whose values, once warm, change when the bars before bar `start` are cut off."""
    times = panel["timestamp"].unique().sort()
    later = build_factors(panel.filter(pl.col("timestamp") >= times[start]), settings)
    found = []
    for factor in factors:
        ready = pl.col("timestamp") >= times[start + factor.warm_up_bars - 1]
        found += (
            [factor.name]
            if differing(later.filter(ready).select(factor.name), table.filter(ready).select(factor.name))
            else []
        )
    return found


def looking_ahead(panel: pl.DataFrame, table: pl.DataFrame, cut_bar: int, settings: Settings) -> list[str]:
    """Factors whose values up to a bar change when the bars after it are cut off, or changed."""
    later = pl.col("timestamp") > panel["timestamp"].unique().sort()[cut_bar]
    changed = panel.with_columns(
        *(
            pl.when(later).then(pl.col(name) * 1e4 + bar_number()).otherwise(pl.col(name)).alias(name)
            for name in NUMBERS
        ),
        known_time=pl.when(later)
        .then(pl.col("known_time") + timedelta(minutes=7))
        .otherwise(pl.col("known_time")),
    )
    expected = table.filter(~later)
    return sorted(
        {
            *differing(expected, build_factors(panel.filter(~later), settings)),
            *differing(expected, build_factors(changed, settings).filter(~later)),
        }
    )


def test_every_factor_has_finite_values_once_its_warm_up_is_over_and_none_before(built):
    period, _, table = built
    assert not_whole(table, wanted_factors(period)) == []
    assert {
        factor.name for factor in wanted_factors(period) if table[factor.name].drop_nulls().n_unique() < 2
    } <= MAY_BE_CONSTANT


@pytest.mark.parametrize("start", [17, 61])
def test_a_value_depends_on_no_bar_older_than_its_warm_up(built, start):
    period, panel, table = built
    assert remembering(panel, table, wanted_factors(period), start, EVERY_GROUP) == []


@pytest.mark.parametrize("cut_bar", [70, 300])
def test_no_factor_looks_ahead(built, cut_bar):
    _, panel, table = built
    assert looking_ahead(panel, table, cut_bar, EVERY_GROUP) == []


def test_planted_faults_are_caught(monkeypatch):
    close = pl.col("close")
    planted = (
        Factor("peeks", "delay", 1, close.shift(-1) / close, "planted: the next close"),
        Factor("peeks_at_all", "delay", 1, close / close.mean(), "planted: the mean of the whole history"),
        Factor("never_forgets", "delay", 20, close.ewm_mean(span=10), "planted: infinite memory"),
        Factor("too_early", "delay", 5, k.mean(close, 20), "planted: a warm-up that is too short"),
    )
    monkeypatch.setattr(
        "components.features.catalog.wanted_factors", lambda *given: (*wanted_factors(*given), *planted)
    )
    # Settings of no other test: catalogs are kept by their settings.
    settings = Settings(groups=Groups(**{name: name == "delay" for name in GROUPS}), window_bars=49)
    panel = market("1d", 340)
    table = build_factors(panel, settings)
    assert {"peeks", "peeks_at_all"} <= set(looking_ahead(panel, table, 70, settings))
    assert not {"delay_s", "too_early", "volatility_20"} & set(looking_ahead(panel, table, 70, settings))
    assert set(remembering(panel, table, planted, 61, settings)) >= {"peeks_at_all", "never_forgets"}
    assert set(not_whole(table, planted)) >= {"too_early", "peeks"}


def test_symbols_do_not_leak_into_each_other(built):
    period, panel, table = built
    shared = {
        measure.name
        for measure in MEASURES
        if measure.scope in ("market_mean", "sector_mean", "cross_section", "market")
    }
    own = [
        factor.name
        for factor in wanted_factors(period)
        if factor.scope != "market"
        and not shared
        & {
            *factor.columns,
            *(name for measure in needed_measures([factor]) for name in (measure.name, *measure.columns)),
        }
    ]
    assert len(own) > 300
    alone = build_factors(panel.filter(pl.col("symbol") == "S05"), EVERY_GROUP)
    assert_frame_equal(
        alone.select(own), table.filter(pl.col("symbol") == "S05").select(own), check_exact=True
    )


@pytest.mark.parametrize(
    "columns",
    [
        ("high", "low"),
        ("open",),
        ("open", "high", "low", "volume"),
        ("vwap",),
        ("funding_rate", "open_interest"),
    ],
)
def test_a_column_that_begins_later_changes_nothing_before(columns):
    panel = market("1d", 200)
    cut = panel["timestamp"].unique().sort()[150]
    panel = panel.with_columns(
        pl.when(pl.col("timestamp") > cut).then(pl.col(name)).alias(name) for name in columns
    )
    before = build_factors(panel.filter(pl.col("timestamp") <= cut), EVERY_GROUP)
    assert {"atr_14", "close_location_5", "gap_event", "candle_body_10"} <= set(before.columns)
    assert differing(before, build_factors(panel, EVERY_GROUP).filter(pl.col("timestamp") <= cut)) == []
