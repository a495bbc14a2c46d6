"""The factors table as a whole: no look-ahead, honest warm-up, independence of symbols, odd panels."""

import zlib
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from components.audit.config import Settings as AuditSettings
from components.audit.factors import audit_factors
from components.contracts import (
    BETA_COLUMN,
    FACTORS,
    INDUSTRY_COLUMN,
    PANEL,
    REGIME_COLUMN,
    REGIMES,
    RETURN_COLUMN,
    SECTOR_COLUMN,
    VOLATILITY_COLUMN,
    check_table,
)
from components.contracts.cut import SYMBOL
from components.features import build
from components.features.build import build_factors, build_supported
from components.features.catalog import catalog
from components.features.config import DeclaredFormula, Groups, Selection, Settings, SlowColumn
from components.features.errors import FeatureError
from components.features.kernels import BAR
from components.features.library import CONTEXT, GROUPS, MEASURES, name_codes
from components.features.library import FACTORS as LIBRARY
from components.features.support import thin_cross_section, unsupported, with_fused

SETTINGS = Settings()
EVERY_GROUP = Settings(groups=Groups(**dict.fromkeys(GROUPS, True)), reference_symbol="S01")


def with_optional_columns(panel: pl.DataFrame) -> pl.DataFrame:
    """The panel with all columns that a panel may have, made up from those it has."""
    return panel.with_columns(
        vwap=(pl.col("high") + pl.col("low") + pl.col("close")) / 3,
        trades=(pl.col("volume") / 300).floor(),
        funding_rate=(pl.col("close") / pl.col("open")).log() / 10,
        open_interest=pl.col("volume") * pl.col("close") / pl.col("high"),
        industry=pl.when(pl.col("symbol") != "S04").then(
            pl.format("{} of {}", "sector", pl.col("symbol").str.tail(1).cast(pl.Int64) % 2)
        ),
    )


@pytest.fixture(scope="module")
def panel(random_panel) -> pl.DataFrame:
    return random_panel()


@pytest.fixture(scope="module")
def every_panel(panel) -> pl.DataFrame:
    return with_optional_columns(panel)


@pytest.fixture(scope="module")
def built(panel) -> pl.DataFrame:
    return build_factors(panel, SETTINGS)


def test_the_table_keeps_its_contract_and_its_catalog(panel, built):
    check_table(built, FACTORS)
    entries = catalog(SETTINGS, "1d")
    assert built.columns[3:] == [entry.column for entry in entries]
    assert built.select("timestamp", "symbol").equals(panel.select("timestamp", "symbol"))
    roles = {entry.column: entry.role for entry in entries}
    assert {name for name, role in roles.items() if role == "context"} == set(CONTEXT)
    assert not [name for name in roles if name.startswith((f"{SECTOR_COLUMN}_", f"{INDUSTRY_COLUMN}_"))], (
        "codes are no quantities: nothing is made of them"
    )
    assert roles["momentum_20"] == "raw"
    assert roles["momentum_20_rank"] == roles["bar_close"] == "input"
    assert set(built[REGIME_COLUMN].drop_nulls().unique()) <= set(map(float, range(len(REGIMES))))
    assert {entry.group for entry in entries} == {name for name, on in SETTINGS.groups if on}
    assert {entry.modality for entry in entries} == {"base"}
    formula = next(entry.expression for entry in entries if entry.column == "momentum_20")
    assert "momentum_20 (symbol) = " in formula
    assert 'log_close (row) = col("close")' in formula
    windowed = next(entry.expression for entry in entries if entry.column == "volatility_20")
    assert 'deviation_20 (symbol) = col("log_return").deviation(20)' in windowed
    assert not any(
        "python_udf" in entry.expression or f'"{BAR}"' in entry.expression
        for entry in catalog(EVERY_GROUP, "1d")
    )


def test_the_library_is_large_enough_and_every_factor_has_values(every_panel):
    built = build_factors(every_panel, EVERY_GROUP)
    daily = [factor for factor in LIBRARY if "1d" in factor.periods]
    assert len(daily) >= 205
    assert {entry.factor for entry in catalog(EVERY_GROUP, "1d")} == {factor.name for factor in daily}
    assert len({factor.name for factor in LIBRARY}) == len(LIBRARY)
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    assert set(Groups.model_fields) == set(GROUPS)
    assert {factor.group for factor in LIBRARY} == set(GROUPS)
    assert max(factor.warm_up_bars for factor in LIBRARY) <= 252
    given = {*PANEL.columns, *PANEL.optional, "is_reference"} | {measure.name for measure in MEASURES}
    assert {column for declared in (*LIBRARY, *MEASURES) for column in declared.columns} <= given
    empty = [name for name in built.columns if built[name].null_count() == len(built)]
    assert empty == []


def test_values_are_finite_and_not_constant(panel):
    built, entries, left_out = build_supported(panel, SETTINGS)
    assert "open_interest" in left_out
    columns = built.select(entry.column for entry in entries)
    assert columns.select(pl.all().is_finite().all()).row(0) == (True,) * columns.width
    constant = [
        entry.column for entry in entries if columns[entry.column].n_unique() < 3 and entry.group != "events"
    ]
    assert set(constant) <= {
        REGIME_COLUMN,
        INDUSTRY_COLUMN,
        "zero_return_share_20",
        "zero_return_share_20_rank",
    }
    assert [name for name in columns.columns if columns[name].n_unique() < 2] == [INDUSTRY_COLUMN], (
        "this panel has no industries"
    )


@pytest.mark.parametrize(("period", "cut_bar"), [("1d", 60), ("1d", 170), ("1d", 300), ("1h", 262)])
def test_nothing_before_a_cut_moves_when_the_future_changes_or_is_missing(random_panel, cut_bar, period):
    panel = with_optional_columns(random_panel(3, period=period))
    times = panel["timestamp"].unique().sort()
    cut = times[cut_bar]
    whole = build_factors(panel, EVERY_GROUP).filter(pl.col("timestamp") <= cut)
    truncated = build_factors(panel.filter(pl.col("timestamp") <= cut), EVERY_GROUP)
    assert_frame_equal(whole, truncated, check_exact=True)
    later = pl.col("timestamp") > cut
    changed = panel.with_columns(
        *(
            pl.when(later)
            .then(pl.col(name) * 1e4 + pl.col("close").cum_count())
            .otherwise(pl.col(name))
            .alias(name)
            for name in (
                "open",
                "high",
                "low",
                "close",
                "volume",
                "vwap",
                "trades",
                "funding_rate",
                "open_interest",
            )
        ),
        *(
            pl.when(later).then(pl.lit("shuffled")).otherwise(pl.col(name)).alias(name)
            for name in ("sector", "industry")
        ),
        pl.when(later)
        .then(pl.col("known_time") + timedelta(days=90))
        .otherwise(pl.col("known_time"))
        .alias("known_time"),
    )
    assert_frame_equal(
        whole, build_factors(changed, EVERY_GROUP).filter(pl.col("timestamp") <= cut), check_exact=True
    )


@pytest.mark.parametrize("normalisation", ["zscore", "minmax", "robust"])
def test_other_normalisations_do_not_look_ahead_either(normalisation, panel):
    settings = Settings(normalisation=normalisation)
    cut = panel["timestamp"].unique().sort()[250]
    whole = build_factors(panel, settings).filter(pl.col("timestamp") <= cut)
    assert_frame_equal(
        whole, build_factors(panel.filter(pl.col("timestamp") <= cut), settings), check_exact=True
    )
    assert whole[f"reversal_5_{normalisation}"].drop_nulls().abs().max() > 0.4


def test_warm_up_is_null_and_tells_how_much_history_matters(random_panel):
    panel = with_optional_columns(random_panel(5, bars=420, symbols=11, missing=0.0)).filter(
        ~pl.col("symbol").is_in(["S00", "S10"])
    )
    whole = build_factors(panel, EVERY_GROUP)
    times = panel["timestamp"].unique().sort()
    for entry in catalog(EVERY_GROUP, "1d"):
        values = whole.filter(pl.col("symbol") == "S01")[entry.column]
        assert values[: entry.warm_up_bars - 1].null_count() == entry.warm_up_bars - 1, entry.column
    for start in (40, 100):
        cut = build_factors(panel.filter(pl.col("timestamp") >= times[start]), EVERY_GROUP)
        for entry in catalog(EVERY_GROUP, "1d"):
            ready = times[start + entry.warm_up_bars - 1]
            old = whole.filter(pl.col("timestamp") >= ready)[entry.column]
            new = cut.filter(pl.col("timestamp") >= ready)[entry.column]
            assert (old.is_null() == new.is_null()).all(), entry.column
            assert old.equals(new), entry.column


def test_a_new_symbols_factors_do_not_depend_on_unrelated_ones_and_names_do_not_matter(panel, built):
    per_symbol = [
        factor.name
        for factor in LIBRARY
        if factor.scope in ("row", "symbol")
        and factor.name in built.columns
        and not _reads_market(factor.columns)
    ]
    assert len(per_symbol) > 60
    alone = build_factors(panel.filter(pl.col("symbol") == "S03"), SETTINGS).select("timestamp", *per_symbol)
    assert_frame_equal(
        alone, built.filter(pl.col("symbol") == "S03").select("timestamp", *per_symbol), check_exact=True
    )
    renamed = panel.with_columns(
        symbol=pl.lit("S") + (99 - pl.col("symbol").str.slice(1).cast(pl.Int32)).cast(pl.String)
    ).sort("timestamp", "symbol")
    back = build_factors(renamed, SETTINGS).with_columns(
        symbol=pl.lit("S") + (99 - pl.col("symbol").str.slice(1).cast(pl.Int32)).cast(pl.String).str.zfill(2)
    )
    assert_frame_equal(
        back.sort("timestamp", "symbol").select("timestamp", "symbol", *per_symbol),
        built.select("timestamp", "symbol", *per_symbol),
        check_exact=True,
    )
    assert_frame_equal(back.sort("timestamp", "symbol"), built, rel_tol=1e-3, abs_tol=1e-3)


def _reads_market(columns: tuple[str, ...]) -> bool:
    by_name = {measure.name: measure for measure in MEASURES}
    return any(
        name in by_name
        and (
            by_name[name].scope in ("market_mean", "sector_mean", "cross_section")
            or _reads_market(by_name[name].columns)
        )
        for name in columns
    )


def test_known_time_is_the_latest_of_the_warm_up(panel):
    late = panel["timestamp"].max() + timedelta(days=400)
    marked = panel.with_columns(
        known_time=pl.when((pl.col("symbol") == "S02") & (pl.int_range(pl.len()).over("symbol") == 10))
        .then(pl.lit(late))
        .otherwise(pl.col("known_time"))
    )
    own = build_factors(marked, SETTINGS).filter(pl.col("symbol") == "S02")["known_time"]
    longest = max(entry.warm_up_bars for entry in catalog(SETTINGS, "1d"))
    assert (own == late).arg_true().to_list() == list(range(10, min(10 + longest, len(own))))


@pytest.mark.parametrize(
    "fault",
    [
        "one_symbol",
        "one_bar",
        "volume_nan",
        "volume_zero",
        "constant_prices",
        "no_sector",
        "one_price_missing",
        "tiny_prices",
        "two_symbols_one_bar",
    ],
)
def test_odd_panels_give_nulls_and_never_infinities(fault, panel):
    odd = {
        "one_symbol": panel.filter(pl.col("symbol") == "S01"),
        "one_bar": panel.filter(pl.col("timestamp") == panel["timestamp"][500]),
        "two_symbols_one_bar": panel.filter(pl.col("timestamp") == panel["timestamp"][500]).head(2),
        "volume_nan": panel.with_columns(volume=pl.lit(float("nan"))),
        "volume_zero": panel.with_columns(volume=pl.lit(0.0)),
        "constant_prices": panel.with_columns(
            pl.lit(7.3).alias(name) for name in ("open", "high", "low", "close")
        ),
        "no_sector": panel.with_columns(sector=pl.lit(None, dtype=pl.String)),
        "one_price_missing": panel.with_columns(
            close=pl.when(pl.int_range(pl.len()) == 700).then(None).otherwise(pl.col("close"))
        ),
        "tiny_prices": panel.with_columns(pl.col("open", "high", "low", "close") * 1e-7),
    }[fault]
    for settings in (SETTINGS, Settings(normalisation="zscore")):
        table = build_factors(odd, settings)
        check_table(table, FACTORS)
        assert len(table) == len(odd)
        assert table.select(pl.exclude("timestamp", "symbol", "known_time").is_finite().all()).row(0) == (
            True,
        ) * (table.width - 3)


def test_scale_free_factors_survive_a_change_of_currency(panel, built):
    rescaled = build_factors(panel.with_columns(pl.col("open", "high", "low", "close") * 1e-7), SETTINGS)
    names = [
        factor.name
        for factor in LIBRARY
        if factor.group in ("trend", "mean_reversion", "volatility") and factor.name != "alpha_053"
    ]
    assert_frame_equal(rescaled.select(names), built.select(names), rel_tol=1e-3, abs_tol=1e-5)


@pytest.mark.parametrize("unit", [1e-8, 1e-6])
def test_no_factor_depends_on_the_unit_of_prices_where_turnover_stays(panel, unit):
    everything = Settings(
        groups=dict.fromkeys(GROUPS, True),
        formulas=[{"name": "place_in_bar", "formula": "div(sub(close, low), sub(high, low))"}],
    )
    prices = [pl.col(name) * unit for name in ("open", "high", "low", "close")]
    few = panel.filter(pl.col("symbol") <= "S07")
    rescaled = build_factors(few.with_columns(*prices, pl.col("volume") / unit), everything)
    plain = build_factors(few, everything)
    assert rescaled.select(pl.all().null_count()).equals(plain.select(pl.all().null_count()))
    # A rank may pass over one of two values that differ by rounding only.
    values = [name for name in plain.columns if not name.endswith("_rank")]
    assert_frame_equal(rescaled.select(values), plain.select(values), rel_tol=2e-3, abs_tol=1e-4)


def test_flat_volume_and_price_are_undefined_rather_than_noise(panel):
    flat = build_factors(
        panel.with_columns(pl.lit(7.3).alias(name) for name in ("open", "high", "low", "close")), SETTINGS
    )
    assert flat["beta_60"].null_count() == len(flat)
    assert flat["rsi_14"].null_count() == len(flat)
    assert flat[VOLATILITY_COLUMN].drop_nulls().abs().max() == 0


def test_settings_switch_groups_and_factors_off_but_keep_the_context(panel):
    settings = Settings(
        groups=Groups(trend=False, volatility=False, regime=False), factors=Selection(exclude=("beta_60",))
    )
    columns = build_factors(panel, settings).columns
    assert VOLATILITY_COLUMN in columns
    assert REGIME_COLUMN in columns
    assert not {
        "momentum_20",
        "parkinson_20",
        "volatility_20_rank",
        "beta_60",
        "beta_60_rank",
        "market_trend",
    } & set(columns)
    with pytest.raises(ValueError, match="did you mean beta_60"):
        Settings.model_validate({"factors": {"exclude": ["beta_61"]}})
    with pytest.raises(ValueError, match="can't be left out"):
        Settings.model_validate({"factors": {"exclude": ["volatility_20"]}})


def test_only_the_context_is_left_when_every_group_is_off(panel):
    nothing = Settings(groups=Groups(**dict.fromkeys(GROUPS, False)))
    assert build_factors(panel, nothing).columns[3:] == [
        VOLATILITY_COLUMN,
        REGIME_COLUMN,
        SECTOR_COLUMN,
        INDUSTRY_COLUMN,
        BETA_COLUMN,
        RETURN_COLUMN,
    ]


def test_codes_are_a_function_of_the_name_alone(every_panel):
    """Checked against the checksum itself, row by row; unknown names give none, and another set of rows gives
    the same codes.
    """
    built = build_factors(every_panel, SETTINGS)
    for name, column in (("sector", SECTOR_COLUMN), ("industry", INDUSTRY_COLUMN)):
        expected = [
            None if value is None else float(zlib.crc32(value.encode("utf-8")) % 2**20)
            for value in every_panel[name]
        ]
        assert built[column].to_list() == expected
        assert built[column].n_unique() == every_panel[name].n_unique()
    few = every_panel.filter(pl.col("symbol").is_in(["S01", "S04"]))
    assert_frame_equal(
        build_factors(few, SETTINGS).select(SECTOR_COLUMN, INDUSTRY_COLUMN),
        built.filter(pl.col("symbol").is_in(["S01", "S04"])).select(SECTOR_COLUMN, INDUSTRY_COLUMN),
    )
    assert build_factors(few, SETTINGS)[INDUSTRY_COLUMN].null_count() == len(
        few.filter(pl.col("symbol") == "S04")
    )


def test_codes_are_exact_in_float32_and_survive_names_of_any_script():
    names = pl.Series([f"industry {number}" for number in range(2_000)] + ["Öl & Gas", "銀行", "", None])
    codes = name_codes(names)
    assert codes.dtype == pl.Float32
    assert codes[:-1].to_list() == [zlib.crc32(name.encode()) % 2**20 for name in names[:-1]]
    assert codes[-1] is None
    assert name_codes(pl.Series([None, None], dtype=pl.String)).to_list() == [None, None]


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


def test_a_panel_without_a_column_gives_nulls_there_and_a_list_of_what_was_left_out(panel, built):
    bare = panel.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in ("open", "high", "low", "volume")
    )
    table = build_factors(bare, SETTINGS)
    assert table.columns == built.columns
    gone = unsupported(bare, SETTINGS)
    assert gone["parkinson_20"] == "high, low"
    assert gone["amihud_20"] == "volume"
    assert not {"momentum_20", VOLATILITY_COLUMN, "beta_60"} & gone.keys()
    empty = {
        entry.factor for entry in catalog(SETTINGS, "1d") if table[entry.column].null_count() == len(table)
    }
    assert gone.keys() <= empty
    closes = [factor.name for factor in LIBRARY if factor.name in table.columns and factor.name not in gone]
    assert_frame_equal(table.select(closes), built.select(closes), check_exact=True)
    kept, entries, left_out = build_supported(bare, SETTINGS)
    assert kept.columns[3:] == [entry.column for entry in entries]
    assert {entry.factor for entry in entries} & gone.keys() == {INDUSTRY_COLUMN}
    assert left_out.startswith(f"{len(gone) - 1} factors are left out")
    assert "industry" not in left_out
    assert "volume" in left_out


def test_the_context_columns_stay_even_without_a_single_close(panel):
    kept, _, _ = build_supported(
        panel.with_columns(close=pl.lit(None, pl.Float64)),
        Settings(groups=Groups(**dict.fromkeys(GROUPS, False))),
    )
    assert kept.columns[3:] == [
        VOLATILITY_COLUMN,
        REGIME_COLUMN,
        SECTOR_COLUMN,
        INDUSTRY_COLUMN,
        BETA_COLUMN,
        RETURN_COLUMN,
    ]
    assert kept[VOLATILITY_COLUMN].null_count() == len(kept)


def test_slow_columns_and_formulas_become_factors(panel, built):
    fused = panel.select(
        "timestamp",
        "symbol",
        earnings=pl.col("close") / 20,
        rate=pl.col("timestamp").dt.day().cast(pl.Float64),
    )
    settings = Settings(
        slow=(
            SlowColumn(name="earnings", source="made up"),
            SlowColumn(name="rate", group="macro", normalisation="zscore", modality="base"),
        ),
        formulas=(
            DeclaredFormula(name="mixed", formula="sub(momentum_20_rank, mul(0.5, reversal_5_rank))"),
            DeclaredFormula(name="value", formula="div(earnings, close)", normalisation="none"),
            DeclaredFormula(name="absent", formula="add(momentum_20, not_there)"),
        ),
    )
    bars = with_fused(panel, fused)
    table = build_factors(bars, settings)
    check_table(table, FACTORS)
    entries = {entry.column: entry for entry in catalog(settings, "1d")}
    assert table.columns[3:] == list(entries)
    assert_frame_equal(table.select(built.columns), built, check_exact=True)
    assert np.allclose(table["value"].drop_nulls(), 1 / 20)
    expected = built.select(
        (pl.col("momentum_20_rank").cast(pl.Float64) - 0.5 * pl.col("reversal_5_rank").cast(pl.Float64))
        .cast(pl.Float32)
        .alias("mixed")
    )
    assert_frame_equal(table.select("mixed"), expected, check_exact=True)
    assert [
        entries[name].modality for name in ("earnings_rank", "rate_zscore", "mixed_rank", "value", "absent")
    ] == ["rich", "base", "base", "rich", "rich"]
    assert entries["mixed_rank"].warm_up_bars == 21
    assert entries["value"].role == "input"
    assert unsupported(bars, settings)["absent"] == "not_there"
    assert table["absent"].null_count() == len(table)
    assert unsupported(panel, settings)["value"] == "earnings"
    cut = panel["timestamp"].unique().sort()[200]
    shorter = build_factors(bars.filter(pl.col("timestamp") <= cut), settings)
    assert_frame_equal(table.filter(pl.col("timestamp") <= cut), shorter, check_exact=True)


def test_names_of_slow_columns_and_formulas_must_be_free(panel):
    for taken in ("momentum_20", "momentum_20_rank", "log_close", "close", "is_reference"):
        with pytest.raises(ValueError, match="taken"):
            Settings(slow=(SlowColumn(name=taken),))
    with pytest.raises(ValueError, match="taken"):
        Settings(
            slow=(SlowColumn(name="one"),), formulas=(DeclaredFormula(name="one", formula="neg(close)"),)
        )
    with pytest.raises(ValueError, match="'one_rank' is taken"):
        Settings(slow=(SlowColumn(name="one"), SlowColumn(name="one_rank")))
    with pytest.raises(FeatureError, match="panel column"):
        with_fused(panel, panel.select("timestamp", "symbol", "close"))


def late_panel(panel: pl.DataFrame, share: float = 0.01) -> pl.DataFrame:
    """The panel with some bars that became known one and a half to four bars after the others."""
    rng = np.random.default_rng(7)
    late = np.where(rng.random(len(panel)) < share, rng.integers(36, 96, len(panel)), 0)
    return panel.with_columns(known_time=pl.col("known_time") + pl.duration(hours=pl.Series(late)))


def test_late_rows_are_left_out_of_what_others_see(panel, built):
    late_bar = (pl.col("symbol") == "S02") & (pl.col("timestamp") == panel["timestamp"].unique().sort()[150])
    late = panel.with_columns(
        known_time=pl.when(late_bar)
        .then(pl.col("known_time") + timedelta(hours=30))
        .otherwise(pl.col("known_time"))
    )
    moved = late.with_columns(
        pl.when(late_bar).then(pl.col("close") * 1.5).otherwise(pl.col("close")).alias("close")
    )
    one, other = build_factors(late, SETTINGS), build_factors(moved, SETTINGS)
    at = pl.col("timestamp") == panel["timestamp"].unique().sort()[150]
    assert_frame_equal(
        one.filter(at, pl.col("symbol") != "S02"),
        other.filter(at, pl.col("symbol") != "S02"),
        check_exact=True,
    )
    row = one.filter(late_bar)
    assert row["momentum_20_rank"].item() is None
    assert row["momentum_20"].item() == built.filter(late_bar)["momentum_20"].item()
    known = one.filter(at)["known_time"]
    assert known.n_unique() == 2
    before = pl.col("timestamp") < panel["timestamp"].unique().sort()[150]
    assert_frame_equal(one.filter(before), built.filter(before), check_exact=True)


def test_a_market_that_is_late_as_a_whole_changes_nothing_but_the_known_times(panel, built):
    slow = panel.with_columns(known_time=pl.col("known_time") + timedelta(days=3))
    table = build_factors(slow, SETTINGS)
    assert_frame_equal(table.drop("known_time"), built.drop("known_time"), check_exact=True)
    assert (table["known_time"] == built["known_time"] + timedelta(days=3)).all()


def test_the_leak_audit_passes_late_rows_and_finds_them_used(random_panel, monkeypatch):
    panel = with_optional_columns(late_panel(random_panel(4, bars=70, symbols=12, missing=0.0)))
    kept = {
        *CONTEXT,
        "reversal_5",
        "sector_relative_reversal_5",
        "market_dispersion_20",
        "residual_reversal_1",
    }
    settings = Settings(
        factors=Selection(exclude=tuple(factor.name for factor in LIBRARY if factor.name not in kept))
    )
    audited = {"cuts": 2, "seed": 1, "warm_up_bars": 21, "settings": AuditSettings(guided_cuts=0)}
    clean = audit_factors(panel, lambda bars: build_factors(bars, settings), **audited)
    assert not [leak for leak in clean.leaks if leak.check == "known_time"]
    assert not clean.leaks

    def own_only(frame, longest_bars, length):
        own = frame.select(
            pl.col("known_time").rolling_max(longest_bars, min_samples=1).over(SYMBOL)
        ).to_series()
        return own, None

    monkeypatch.setattr(build, "known_times", own_only)
    leaky = audit_factors(panel, lambda bars: build_factors(bars, settings), **audited)
    assert "known_time" in {leak.check for leak in leaky.leaks}
