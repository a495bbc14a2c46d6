"""The factor audit: each kind of planted leak is caught and named, and clean factors never are."""

from functools import partial

import numpy as np
import polars as pl
import pytest

from components.audit.builders import load_builder
from components.audit.config import Settings
from components.audit.factors import audit_factors
from components.audit.result import AuditError
from components.contracts import ContractError
from components.features.build import build_factors
from components.features.catalog import catalog
from components.features.config import Settings as FeatureSettings

CLOSE, VOLUME = pl.col("close"), pl.col("volume")
TOMORROW = CLOSE.shift(-1).over("symbol")
MOMENTUM = (CLOSE / CLOSE.shift(5)).over("symbol") - 1
NEXT_RETURN = (CLOSE.shift(-1) / CLOSE).log().over("symbol")

LEAKS = {
    "centred window": CLOSE.rolling_mean(5, center=True).over("symbol"),
    "global z-score": (CLOSE - CLOSE.mean()) / CLOSE.std(),
    "global z-score of each symbol": ((CLOSE - CLOSE.mean()) / CLOSE.std()).over("symbol"),
    "global min-max": (VOLUME - VOLUME.min()) / (VOLUME.max() - VOLUME.min()),
    "shifted label": NEXT_RETURN,
    "far shift": CLOSE.shift(-20).over("symbol"),
    "backward fill": VOLUME.backward_fill().over("symbol"),
    "interpolation": CLOSE.interpolate().over("symbol"),
    "full-sample quantile": CLOSE.clip(upper_bound=CLOSE.quantile(0.9)),
    "rank over the whole history": VOLUME.rank().over("symbol"),
    "cross-section of tomorrow": VOLUME.shift(-1).over("symbol").rank().over("timestamp"),
    "sector map of the future": pl.col("sector").last().over("symbol").rank("dense"),
    "tomorrow's range": ((pl.col("high") - pl.col("low")) / CLOSE).shift(-1).over("symbol"),
    "tiny leak": MOMENTUM * (1 + 1e-3 * NEXT_RETURN.sign()),
    "reversed cumulative": CLOSE.cum_sum(reverse=True).over("symbol"),
    "total number of bars": pl.len().over("symbol").cast(pl.Float64),
    "one symbol only": pl.when(pl.col("symbol") == "S07").then(TOMORROW / CLOSE - 1).otherwise(MOMENTUM),
}
MATERIALISED = {"cross-section of tomorrow": VOLUME.shift(-1).over("symbol")}


@pytest.mark.parametrize("kind", LEAKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_leak_is_caught_and_only_it_is_named(kind, seed, market, with_factor):
    if kind in MATERIALISED:
        inner = MATERIALISED[kind]

        def build(panel):
            return with_factor(pl.col("inner").rank().over("timestamp"))(
                panel.with_columns(inner.alias("inner"))
            )

    else:
        build = with_factor(LEAKS[kind])
    result = audit_factors(market(seed), build, seed=seed)
    assert {leak.factor for leak in result.leaks} == {"planted"}
    assert not result.passed


def test_target_encoding_is_caught(market, with_factor):
    def build(panel):
        encoded = panel.with_columns(NEXT_RETURN.alias("next")).with_columns(
            pl.col("next").mean().over("sector").alias("encoded")
        )
        return with_factor(pl.col("encoded"))(encoded)

    result = audit_factors(market(2), build, seed=2)
    assert {leak.factor for leak in result.leaks} == {"planted"}


def test_a_leak_at_one_single_date_is_found_by_a_guided_cut(market, with_factor):
    panel = market(3)
    day = panel["timestamp"].unique().sort()[101]
    build = with_factor(pl.when(pl.col("timestamp") == day).then(NEXT_RETURN).otherwise(MOMENTUM))
    blind = audit_factors(
        panel, build, seed=3, settings=Settings(guided_cuts=0, scan_cuts=0, staggered_builds=0)
    )
    assert blind.passed, "the sampled cuts of this seed lie elsewhere"
    mutation, *_ = audit_factors(panel, build, seed=3).leaks
    assert (mutation.factor, mutation.check, mutation.timestamp, mutation.bars_ahead) == (
        "planted",
        "future_mutation",
        day,
        1,
    )


def test_a_leak_of_one_symbol_at_one_date_is_found_when_every_bar_is_a_cut(market, with_factor):
    panel = market(4, n_bars=60, n_symbols=10)
    day = panel["timestamp"].unique().sort()[33]
    build = with_factor(
        pl.when((pl.col("timestamp") == day) & (pl.col("symbol") == "S02")).then(TOMORROW).otherwise(CLOSE)
    )
    leaks = audit_factors(panel, build, cuts=60, seed=0).leaks
    assert {
        (leak.factor, leak.timestamp, leak.symbol) for leak in leaks if leak.check == "future_mutation"
    } == {("planted", day, "S02")}


def test_a_leak_says_where_it_begins_how_far_it_looks_and_how_large_it_is(market, with_factor):
    panel = market(5)
    calendar = panel["timestamp"].unique().sort()
    leaks = audit_factors(panel, with_factor(CLOSE.shift(-3).over("symbol")), seed=5).leaks
    mutation = next(leak for leak in leaks if leak.check == "future_mutation")
    cut = calendar.search_sorted(mutation.cut)
    assert calendar[cut - 2] == mutation.timestamp
    assert (mutation.bars_before_cut, mutation.bars_ahead) == (2, 3)
    assert mutation.relative > 1
    truncation = next(leak for leak in leaks if leak.check == "truncation")
    assert truncation.appeared_or_vanished == truncation.rows > 0


def test_the_whole_history_counts_where_a_statistic_is_global(market, with_factor):
    panel = market(6)
    leak = next(
        leak
        for leak in audit_factors(panel, with_factor(LEAKS["global z-score"]), seed=6).leaks
        if leak.check == "future_mutation"
    )
    assert leak.timestamp == panel["timestamp"][0]
    assert leak.bars_ahead > 200


@pytest.mark.parametrize("seed", range(8))
def test_clean_factors_raise_no_alarm(seed, market, clean_factors):
    result = audit_factors(market(seed), clean_factors, seed=seed)
    assert [leak.sentence() for leak in result.leaks] == []
    assert result.checked["factors"] == 17
    assert result.checked["factors_without_values"] == []
    assert result.checked["factor_values_compared"] > 100_000
    kinds = {cut["kind"] for cut in result.checked["cuts"]}
    assert kinds <= {"sampled", "guided", "scan", "suspected"}


@pytest.mark.parametrize("seed", range(3))
def test_clean_factors_raise_no_alarm_in_short_windows_of_few_symbols(seed, market, clean_factors):
    result = audit_factors(
        market(seed, n_bars=400, n_symbols=40),
        clean_factors,
        seed=seed,
        warm_up_bars=25,
        settings=Settings(max_symbols=12, future_bars=20),
    )
    assert [leak.sentence() for leak in result.leaks] == []
    assert max(cut["symbols"] for cut in result.checked["cuts"]) <= 12


def test_leaks_show_in_short_windows_of_few_symbols_too(market, with_factor):
    settings = Settings(max_symbols=12, future_bars=20, whole_history=False)
    for kind in ("global z-score", "full-sample quantile", "tiny leak", "centred window"):
        result = audit_factors(
            market(1, n_bars=400, n_symbols=40),
            with_factor(LEAKS[kind]),
            seed=1,
            warm_up_bars=25,
            settings=settings,
        )
        assert {leak.factor for leak in result.leaks} == {"planted"}, kind


def test_the_same_seed_gives_the_same_audit(market, with_factor):
    one, two = (audit_factors(market(0), with_factor(LEAKS["centred window"]), seed=9) for _ in range(2))
    assert one.to_json() == two.to_json()


def test_a_table_with_back_filled_values_is_caught_although_its_builder_is_clean(market, clean_factors):
    panel = market(7)
    table = clean_factors(panel)
    filled = table.with_columns(pl.col("momentum_20").backward_fill().over("symbol"))
    (leak,) = audit_factors(panel, clean_factors, seed=7, factors=filled).leaks
    assert (leak.check, leak.factor) == ("whole_history", "momentum_20")
    assert leak.timestamp == panel["timestamp"][0]


def late_market(market, seed: int) -> pl.DataFrame:
    """A market in which some bars became known three days late."""
    panel = market(seed)
    late = pl.Series(np.random.default_rng(seed).random(len(panel)) < 0.005)
    return panel.with_columns(
        pl.when(late)
        .then(pl.col("timestamp") + pl.duration(days=3))
        .otherwise("timestamp")
        .alias("known_time")
    )


def test_using_a_bar_before_it_was_known_is_caught(market, with_factor):
    result = audit_factors(late_market(market, 0), with_factor(CLOSE.rolling_mean(5).over("symbol")), seed=0)
    known_time = next(
        leak for leak in result.leaks if leak.check == "known_time" and leak.factor == "planted"
    )
    assert known_time.rows > 0
    assert {leak.check for leak in result.leaks} == {"known_time"}


def test_rows_that_claim_to_be_known_only_with_their_latest_input_are_clean(market):
    def build(panel):
        known = (
            pl.col("known_time")
            .dt.timestamp()
            .rolling_max(5, min_samples=1)
            .over("symbol")
            .cast(panel.schema["known_time"])
        )
        return panel.select(
            "timestamp",
            "symbol",
            known.alias("known_time"),
            CLOSE.rolling_mean(5).over("symbol").alias("average"),
        )

    result = audit_factors(late_market(market, 0), build, seed=0)
    assert [leak.sentence() for leak in result.leaks] == []
    assert "late" in {cut["kind"] for cut in result.checked["cuts"]}


@pytest.mark.parametrize("delay_hours", [1, 60])
def test_a_constant_publication_delay_is_no_leak(delay_hours, market, clean_factors):
    panel = market(1).with_columns((pl.col("timestamp") + pl.duration(hours=delay_hours)).alias("known_time"))
    assert [leak.sentence() for leak in audit_factors(panel, clean_factors, seed=1).leaks] == []


def test_the_factors_of_the_product_are_clean(market):
    settings = FeatureSettings()
    longest = max(entry.warm_up_bars for entry in catalog(settings, "1d"))
    result = audit_factors(
        market(0, n_bars=400),
        partial(build_factors, settings=settings),
        cuts=2,
        seed=0,
        warm_up_bars=longest,
        settings=Settings(guided_cuts=1, scan_cuts=2, staggered_builds=0),
    )
    assert [leak.sentence() for leak in result.leaks] == []
    assert result.checked["factors"] > 100


def test_rows_that_come_from_the_future_are_caught(market):
    def build(panel):
        lasting = panel.filter(pl.col("timestamp").max().over("symbol") == pl.col("timestamp").max())
        return lasting.select("timestamp", "symbol", CLOSE.alias("price"))

    result = audit_factors(market(0), build, seed=0)
    assert "(rows)" in {leak.factor for leak in result.leaks}


def test_one_symbol_without_sector_can_be_audited(market, with_factor):
    panel = market(0, n_symbols=1).with_columns(pl.lit(None, pl.String).alias("sector"))
    assert audit_factors(panel, with_factor(MOMENTUM), seed=0).passed
    assert not audit_factors(panel, with_factor(TOMORROW), seed=0).passed


def test_a_builder_that_refuses_holes_is_audited_without_them(market):
    def build(panel):
        if panel["close"].has_nulls():
            raise ContractError("close has nulls")
        return panel.select("timestamp", "symbol", CLOSE.alias("price"))

    result = audit_factors(market(0), build, seed=0)
    assert result.passed
    assert any("gap_truncation was left out" in note for note in result.checked["notes"])


def test_a_builder_that_fails_says_on_what(market):
    def build(panel):
        return 1 / 0

    with pytest.raises(AuditError, match=r"failed on the whole panel.*ZeroDivisionError"):
        audit_factors(market(0), build, seed=0)
    with pytest.raises(AuditError, match="returned int"):
        audit_factors(market(0), lambda panel: 3, seed=0)
    with pytest.raises(AuditError, match="at least 3"):
        audit_factors(market(0).head(2), build, seed=0)


def test_rounding_is_no_leak_and_a_thousandth_is_one(market):
    def noisy(size):
        def build(panel):
            moved = 1 + size * (len(panel) % 2)
            return panel.select("timestamp", "symbol", (CLOSE * moved).alias("price"))

        return build

    panel = market(0)
    panel = panel if len(panel) % 2 else panel.slice(1)
    assert audit_factors(panel, noisy(1e-12), seed=0).passed
    assert not audit_factors(panel, noisy(1e-3), seed=0).passed


def test_a_builder_is_found_by_name_with_its_settings(market):
    build = load_builder("components.labels.build:build_labels", '{"horizons": [2], "primary_horizon": 2}')
    assert build(market(0)).get_column("horizon").unique().to_list() == [2]


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("components.labels.build", "", "package.module:function"),
        ("components.nowhere:build", "", "can't be imported"),
        ("components.labels.build:nothing", "", "can't be imported"),
        ("components.labels.build:build_labels", "{", "do not fit components.labels.config.Settings"),
        ("components.labels.build:build_labels", '{"horizon": 1}', "do not fit"),
    ],
)
def test_an_unknown_builder_or_settings_that_do_not_fit_are_refused(name, settings, words):
    with pytest.raises(AuditError, match=words):
        load_builder(name, settings)
