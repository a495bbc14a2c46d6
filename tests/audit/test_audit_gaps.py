"""On panels whose symbols have gaps, warm-ups are counted in a symbol's own bars: honest factors pass, and a
declared warm-up that is too short is found.
"""

from collections import Counter

import polars as pl
import pytest

from components.audit.config import Settings as AuditSettings
from components.audit.factors import audit_factors
from components.contracts import content_sha256
from components.features.build import build_supported
from components.features.config import Settings
from components.market.config import Settings as MarketSettings
from components.market.simulator import simulate
from tests.audit.clean import build_clean_library
from tests.audit.planted import PLANTED, RETURN, own

ONLY_WARM_UP = AuditSettings(guided_cuts=0, scan_cuts=0, whole_history=False)
KEYS = ["timestamp", "symbol"]


def with_gaps(panel: pl.DataFrame, share: float, traded_share: float, seed: int) -> pl.DataFrame:
    """The panel of `market` without the bars that a share of its symbols did not trade on."""
    symbols = panel["symbol"].unique().sort()
    rare = symbols.sample(round(share * len(symbols)), seed=seed)
    hidden = pl.int_range(pl.len()).shuffle(seed=seed) >= traded_share * pl.len()
    return panel.filter(~(pl.col("symbol").is_in(rare.implode()) & hidden))


def beta(bars: int):
    """Beta to the equal-weighted market over `bars` returns of the symbol, its rank, and an own window."""

    def build(panel: pl.DataFrame) -> pl.DataFrame:
        rows = panel.with_columns(own(RETURN).alias("__own"))
        rows = rows.with_columns(pl.col("__own").mean().over("timestamp").alias("__market"))
        covariance = pl.rolling_cov(pl.col("__own"), pl.col("__market"), window_size=bars, min_samples=bars)
        rows = rows.with_columns(own(covariance / pl.col("__market").rolling_var(bars)).alias("beta"))
        return rows.select(
            *KEYS,
            "beta",
            pl.col("beta").rank().over("timestamp").alias("beta_rank"),
            own(pl.col("close").rolling_mean(bars) / pl.col("close")).alias("average"),
        )

    return build


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("share", "traded_share"), [(0.33, 0.5), (0.1, 0.3), (1.0, 0.8)])
def test_an_honest_beta_on_a_panel_with_gaps_is_not_accused(seed, share, traded_share, market):
    panel = with_gaps(market(seed, n_bars=400, n_symbols=30), share, traded_share, seed)
    declared = {"beta": 31, "beta_rank": 31, "average": 30}
    result = audit_factors(
        panel, beta(30), seed=seed, warm_up_bars=31, declared=declared, settings=ONLY_WARM_UP
    )
    assert [leak.sentence() for leak in result.leaks] == []
    assert [(row["factor"], row["bars"]) for row in result.warm_up] == [
        ("beta", 31),
        ("beta_rank", 31),
        ("average", 30),
    ]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("share", "traded_share"), [(0.33, 0.5), (1.0, 0.5)])
def test_each_warm_up_that_is_too_short_is_found_there(seed, share, traded_share, market):
    panel = with_gaps(market(seed, n_bars=400, n_symbols=60), share, traded_share, seed)
    declared = {"beta": 30, "beta_rank": 30, "average": 29}
    result = audit_factors(
        panel, beta(30), seed=seed, warm_up_bars=31, declared=declared, settings=ONLY_WARM_UP
    )
    assert {(leak.check, leak.factor) for leak in result.leaks} == {
        ("warm_up", name) for name in ("beta", "beta_rank", "average")
    }


def test_all_factors_of_the_library_pass_on_an_exchange_of_which_a_third_is_rarely_traded():
    rare = {"share": 0.33, "untraded": "missing"}
    panel = simulate(MarketSettings(simulator={"symbols": 100, "bars": 450, "rare": rare}), 4).panel
    settings = Settings()
    table, entries, _ = build_supported(panel, settings)
    told = {entry.column: entry.warm_up_bars for entry in entries}
    # The second audit asks for the factors of the same stretches as the first.
    built: dict[tuple[str, int], pl.DataFrame] = {}

    def audited(declared: dict[str, int]):
        asked: Counter[str] = Counter()

        def build(stretch: pl.DataFrame) -> pl.DataFrame:
            sha256 = content_sha256(stretch)
            asked[sha256] += 1
            key = sha256, asked[sha256]
            if key not in built:
                built[key] = build_supported(stretch, settings)[0]
            return built[key]

        return audit_factors(
            panel,
            build,
            factors=table,
            seed=4,
            warm_up_bars=max(told.values()),
            declared=declared,
            settings=ONLY_WARM_UP,
        )

    assert [leak.sentence() for leak in audited(told).leaks] == []
    shorter = {name: bars - 5 for name, bars in told.items() if bars > 10}
    assert {leak.factor for leak in audited(shorter).leaks} == set(shorter)


@pytest.mark.parametrize("leak", PLANTED[::4], ids=lambda leak: leak.name)
def test_planted_leaks_are_caught_on_a_panel_with_gaps(leak, market, with_factor):
    def build(panel):
        return with_factor(pl.col("planted"))(leak.build(panel))

    panel = with_gaps(market(0, n_bars=160, n_symbols=16), 0.33, 0.5, 0)
    settings = AuditSettings(scan_cuts=60, staggered_builds=4, warm_up_starts=0)
    assert {found.factor for found in audit_factors(panel, build, seed=0, settings=settings).leaks} == {
        "planted"
    }


def test_no_honest_factor_of_more_than_two_hundred_is_accused_there(market):
    panel = with_gaps(market(1, n_bars=200, n_symbols=12), 0.4, 0.5, 1)
    settings = AuditSettings(guided_cuts=1, scan_cuts=6, staggered_builds=1)
    result = audit_factors(panel, build_clean_library, cuts=2, seed=1, settings=settings)
    assert [leak.sentence() for leak in result.leaks] == []
