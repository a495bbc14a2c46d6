"""The factors table as a whole: no look-ahead, honest warm-up, independence of symbols, odd panels."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from components.contracts import FACTORS, REGIME_COLUMN, REGIMES, VOLATILITY_COLUMN, check_table
from components.features.build import build_factors, catalog, thin_cross_section
from components.features.config import Groups, Selection, Settings
from components.features.errors import FeatureError
from components.features.library import FACTORS as LIBRARY
from components.features.library import GROUPS, MEASURES

SETTINGS = Settings()


@pytest.fixture(scope="module")
def panel(random_panel) -> pl.DataFrame:
    return random_panel()


@pytest.fixture(scope="module")
def built(panel) -> pl.DataFrame:
    return build_factors(panel, SETTINGS)


def test_the_table_keeps_its_contract_and_its_catalog(panel, built):
    check_table(built, FACTORS)
    entries = catalog(SETTINGS, "1d")
    assert built.columns[3:] == [entry.column for entry in entries]
    assert built.select("timestamp", "symbol").equals(panel.select("timestamp", "symbol"))
    roles = {entry.column: entry.role for entry in entries}
    assert roles[VOLATILITY_COLUMN] == roles[REGIME_COLUMN] == "context"
    assert roles["momentum_20"] == "raw"
    assert roles["momentum_20_rank"] == roles["bar_close"] == "input"
    assert set(built[REGIME_COLUMN].drop_nulls().unique()) <= set(map(float, range(len(REGIMES))))
    assert {entry.group for entry in entries} == set(GROUPS)
    formula = next(entry.expression for entry in entries if entry.column == "momentum_20")
    assert "momentum_20 (symbol) = " in formula
    assert 'log_close (row) = col("close")' in formula


def test_the_library_is_large_enough_and_every_factor_has_values(built):
    daily = [factor for factor in LIBRARY if "1d" in factor.periods]
    assert len(daily) - 5 >= 64
    assert len({factor.name for factor in LIBRARY}) == len(LIBRARY)
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    assert tuple(Groups.model_fields) == GROUPS
    assert {factor.group for factor in LIBRARY} == set(GROUPS)
    assert max(factor.warm_up_bars for factor in LIBRARY) <= 252
    given = {"event_time", "open", "high", "low", "close", "volume"} | {measure.name for measure in MEASURES}
    assert {column for declared in (*LIBRARY, *MEASURES) for column in declared.columns} <= given
    empty = [name for name in built.columns if built[name].null_count() == len(built)]
    assert empty == []


def test_values_are_finite_and_not_constant(built):
    columns = built.select(pl.exclude("timestamp", "symbol", "known_time"))
    assert columns.select(pl.all().is_finite().all()).row(0) == (True,) * columns.width
    constant = [name for name in columns.columns if columns[name].n_unique() < 3]
    assert set(constant) <= {REGIME_COLUMN, "zero_return_share_20", "zero_return_share_20_rank"}


@pytest.mark.parametrize("cut_bar", [60, 170, 262, 300])
@pytest.mark.parametrize("period", ["1d", "1h"])
def test_nothing_before_a_cut_moves_when_the_future_changes_or_is_missing(random_panel, cut_bar, period):
    panel = random_panel(3, period=period)
    times = panel["timestamp"].unique().sort()
    cut = times[cut_bar]
    whole = build_factors(panel, SETTINGS).filter(pl.col("timestamp") <= cut)
    truncated = build_factors(panel.filter(pl.col("timestamp") <= cut), SETTINGS)
    assert_frame_equal(whole, truncated, check_exact=True)
    later = pl.col("timestamp") > cut
    changed = panel.with_columns(
        *(pl.when(later).then(pl.col(name) * 1e4 + pl.col("close").cum_count()).otherwise(pl.col(name)).alias(name) for name in ("open", "high", "low", "close", "volume")),
        pl.when(later).then(pl.lit("shuffled")).otherwise(pl.col("sector")).alias("sector"),
        pl.when(later).then(pl.col("known_time") + timedelta(days=90)).otherwise(pl.col("known_time")).alias("known_time"),
    )
    assert_frame_equal(whole, build_factors(changed, SETTINGS).filter(pl.col("timestamp") <= cut), check_exact=True)


@pytest.mark.parametrize("normalisation", ["zscore", "minmax", "robust"])
def test_other_normalisations_do_not_look_ahead_either(normalisation, panel):
    settings = Settings(normalisation=normalisation)
    cut = panel["timestamp"].unique().sort()[250]
    whole = build_factors(panel, settings).filter(pl.col("timestamp") <= cut)
    assert_frame_equal(whole, build_factors(panel.filter(pl.col("timestamp") <= cut), settings), check_exact=True)
    assert whole[f"reversal_5_{normalisation}"].drop_nulls().abs().max() > 0.4


def test_warm_up_is_null_and_tells_how_much_history_matters(random_panel):
    panel = random_panel(5, bars=420, symbols=11, missing=0.0).filter(~pl.col("symbol").is_in(["S00", "S10"]))
    whole = build_factors(panel, SETTINGS)
    times = panel["timestamp"].unique().sort()
    for entry in catalog(SETTINGS, "1d"):
        values = whole.filter(pl.col("symbol") == "S01")[entry.column]
        assert values[: entry.warm_up_bars - 1].null_count() == entry.warm_up_bars - 1, entry.column
    for start in (40, 100):
        cut = build_factors(panel.filter(pl.col("timestamp") >= times[start]), SETTINGS)
        for entry in catalog(SETTINGS, "1d"):
            ready = times[start + entry.warm_up_bars - 1]
            old = whole.filter(pl.col("timestamp") >= ready)[entry.column]
            new = cut.filter(pl.col("timestamp") >= ready)[entry.column]
            assert (old.is_null() == new.is_null()).all(), entry.column
            assert (old - new).abs().max() < 1e-4 * max(1e-3, old.abs().max()), entry.column


def test_a_new_symbols_factors_do_not_depend_on_unrelated_ones_and_names_do_not_matter(panel, built):
    per_symbol = [factor.name for factor in LIBRARY if factor.scope in ("row", "symbol") and "1d" in factor.periods and not _reads_market(factor.columns)]
    assert len(per_symbol) > 60
    alone = build_factors(panel.filter(pl.col("symbol") == "S03"), SETTINGS).select("timestamp", *per_symbol)
    assert_frame_equal(alone, built.filter(pl.col("symbol") == "S03").select("timestamp", *per_symbol), check_exact=True)
    renamed = panel.with_columns(symbol=pl.lit("S") + (99 - pl.col("symbol").str.slice(1).cast(pl.Int32)).cast(pl.String)).sort("timestamp", "symbol")
    back = build_factors(renamed, SETTINGS).with_columns(symbol=pl.lit("S") + (99 - pl.col("symbol").str.slice(1).cast(pl.Int32)).cast(pl.String).str.zfill(2))
    assert_frame_equal(back.sort("timestamp", "symbol").select("timestamp", "symbol", *per_symbol), built.select("timestamp", "symbol", *per_symbol), check_exact=True)
    assert_frame_equal(back.sort("timestamp", "symbol"), built, rel_tol=1e-3, abs_tol=1e-3)


def _reads_market(columns: tuple[str, ...]) -> bool:
    by_name = {measure.name: measure for measure in MEASURES}
    return any(name in by_name and (by_name[name].scope in ("market_mean", "sector_mean") or _reads_market(by_name[name].columns)) for name in columns)


def test_known_time_is_the_latest_of_the_warm_up(panel):
    late = panel["timestamp"].max() + timedelta(days=400)
    marked = panel.with_columns(known_time=pl.when((pl.col("symbol") == "S02") & (pl.int_range(pl.len()).over("symbol") == 10)).then(pl.lit(late)).otherwise(pl.col("known_time")))
    own = build_factors(marked, SETTINGS).filter(pl.col("symbol") == "S02")["known_time"]
    longest = max(entry.warm_up_bars for entry in catalog(SETTINGS, "1d"))
    assert (own == late).arg_true().to_list() == list(range(10, min(10 + longest, len(own))))


@pytest.mark.parametrize(
    "fault",
    ["one_symbol", "one_bar", "volume_nan", "volume_zero", "constant_prices", "no_sector", "one_price_missing", "tiny_prices", "two_symbols_one_bar"],
)
def test_odd_panels_give_nulls_and_never_infinities(fault, panel):
    odd = {
        "one_symbol": panel.filter(pl.col("symbol") == "S01"),
        "one_bar": panel.filter(pl.col("timestamp") == panel["timestamp"][500]),
        "two_symbols_one_bar": panel.filter(pl.col("timestamp") == panel["timestamp"][500]).head(2),
        "volume_nan": panel.with_columns(volume=pl.lit(float("nan"))),
        "volume_zero": panel.with_columns(volume=pl.lit(0.0)),
        "constant_prices": panel.with_columns(pl.lit(7.3).alias(name) for name in ("open", "high", "low", "close")),
        "no_sector": panel.with_columns(sector=pl.lit(None, dtype=pl.String)),
        "one_price_missing": panel.with_columns(close=pl.when(pl.int_range(pl.len()) == 700).then(None).otherwise(pl.col("close"))),
        "tiny_prices": panel.with_columns(pl.col("open", "high", "low", "close") * 1e-7),
    }[fault]
    for settings in (SETTINGS, Settings(normalisation="zscore")):
        table = build_factors(odd, settings)
        check_table(table, FACTORS)
        assert len(table) == len(odd)
        assert table.select(pl.exclude("timestamp", "symbol", "known_time").is_finite().all()).row(0) == (True,) * (table.width - 3)


def test_scale_free_factors_survive_a_change_of_currency(panel, built):
    rescaled = build_factors(panel.with_columns(pl.col("open", "high", "low", "close") * 1e-7), SETTINGS)
    names = [factor.name for factor in LIBRARY if factor.group in ("trend", "mean_reversion", "volatility") and factor.name != "alpha_053"]
    assert_frame_equal(rescaled.select(names), built.select(names), rel_tol=1e-3, abs_tol=1e-5)


def test_flat_volume_and_price_are_undefined_rather_than_noise(panel):
    flat = build_factors(panel.with_columns(pl.lit(7.3).alias(name) for name in ("open", "high", "low", "close")), SETTINGS)
    assert flat["beta_60"].null_count() == len(flat)
    assert flat["rsi_14"].null_count() == len(flat)
    assert flat[VOLATILITY_COLUMN].drop_nulls().abs().max() == 0


def test_settings_switch_groups_and_factors_off_but_keep_the_context(panel):
    settings = Settings(groups=Groups(trend=False, volatility=False, regime=False), factors=Selection(exclude=("beta_60",)))
    columns = build_factors(panel, settings).columns
    assert VOLATILITY_COLUMN in columns
    assert REGIME_COLUMN in columns
    assert not {"momentum_20", "parkinson_20", "volatility_20_rank", "beta_60", "beta_60_rank", "market_trend"} & set(columns)
    with pytest.raises(ValueError, match="did you mean beta_60"):
        Settings.model_validate({"factors": {"exclude": ["beta_61"]}})
    with pytest.raises(ValueError, match="can't be left out"):
        Settings.model_validate({"factors": {"exclude": ["volatility_20"]}})


def test_only_the_context_is_left_when_every_group_is_off(panel):
    nothing = Settings(groups=Groups(**dict.fromkeys(GROUPS, False)))
    assert build_factors(panel, nothing).columns[3:] == [VOLATILITY_COLUMN, REGIME_COLUMN]


def test_switching_factors_off_does_not_change_the_others(panel, built):
    less = build_factors(panel, Settings(groups=Groups(trend=False, style=False, bars=False)))
    shared = less.columns
    assert_frame_equal(less.drop("known_time"), built.select(shared).drop("known_time"), check_exact=True)


def test_hours_are_factors_of_intraday_periods_only(random_panel):
    assert "hour_sin" not in {entry.column for entry in catalog(SETTINGS, "1d")}
    table = build_factors(random_panel(1, bars=60, period="1h"), SETTINGS)
    expected = table.select(((pl.col("timestamp").dt.hour() - 1.0) * (2 * np.pi / 24)).sin().cast(pl.Float32))
    assert np.allclose(table["hour_sin"], expected.to_series(), atol=1e-6)


def test_panels_that_cannot_be_built_are_refused_with_a_way_out(panel, random_panel):
    with pytest.raises(FeatureError, match="no rows"):
        build_factors(panel.clear(), SETTINGS)
    with pytest.raises(FeatureError, match="1d, 1h"):
        build_factors(pl.concat([panel, random_panel(2, bars=40, period="1h")]), SETTINGS)
    with pytest.raises(FeatureError, match="Resample"):
        build_factors(panel.with_columns(period=pl.lit("7d")), SETTINGS)


def test_few_symbols_bring_advice_and_enough_do_not(panel):
    few = panel.filter(pl.col("symbol") < "S03")
    assert "zscore" in thin_cross_section(few, SETTINGS)
    assert thin_cross_section(few, Settings(normalisation="zscore")) is None
    assert thin_cross_section(panel, SETTINGS) is None
