"""Price levels: planted ones are leaks on adjusted prices and remarks on others, ratios and traded value are
neither, and every factor of the library stays where it is.
"""

import numpy as np
import polars as pl
import pytest

from components.audit.config import Settings
from components.audit.factors import audit_factors
from components.audit.price_level import is_adjusted, multiplied, price_columns, price_levels
from components.audit.scene import Context, Extent, Tally, make_scene
from components.features.build import build_factors
from components.features.catalog import catalog
from components.features.config import Settings as FeatureSettings
from components.market.config import Settings as MarketSettings
from components.market.simulator import simulate
from components.settings import load_settings
from tests.audit.planted import own

CLOSE, VOLUME = pl.col("close"), pl.col("volume")
LEVELS = {
    "logarithm": CLOSE.log(),
    "cheap": (CLOSE < 50).cast(pl.Float64),
    "average": own(CLOSE.rolling_mean(30)),
    "rank": CLOSE.rank().over("timestamp"),
    "change": own(CLOSE - CLOSE.shift(5)),
    "share_count": VOLUME.log(),
    "against_the_market": CLOSE / CLOSE.mean().over("timestamp"),
    "money": (CLOSE * VOLUME * CLOSE).log(),
}
HONEST = {
    "momentum": own(CLOSE / CLOSE.shift(5)),
    "log_return": own(CLOSE.log().diff()),
    "range": (pl.col("high") - pl.col("low")) / CLOSE,
    "traded_value": (CLOSE * VOLUME).log(),
    "distance_from_average": CLOSE / own(CLOSE.rolling_mean(30)),
    "spread": own(CLOSE.log().diff().rolling_std(20)),
    "volume_surprise": VOLUME / own(VOLUME.rolling_mean(20)),
    "rank_of_return": own(CLOSE / CLOSE.shift(1)).rank().over("timestamp"),
    "to_first_close": CLOSE / own(CLOSE.first()),
}
QUICK = {"cuts": 1, "guided_cuts": 0, "scan_cuts": 0, "staggered_builds": 0, "warm_up_starts": 0}


def audited(panel: pl.DataFrame, adjusted: str, factors: dict[str, pl.Expr], **settings):
    def build(rows):
        made = rows.sort("symbol", "timestamp").select("timestamp", "symbol", **factors)
        return made.sort("timestamp", "symbol")

    chosen = Settings(adjusted=adjusted, **{**QUICK, **settings})
    return audit_factors(panel, build, cuts=1, seed=0, settings=chosen)


@pytest.mark.parametrize("lookback_bars", [None, 120])
def test_every_price_level_is_a_leak_on_adjusted_prices_and_nothing_else_is(lookback_bars, market):
    found = audited(market(0), "yes", {**LEVELS, **HONEST}, lookback_bars=lookback_bars)
    assert {leak.factor for leak in found.leaks} == set(LEVELS)
    assert {leak.check for leak in found.leaks} == {"price_level"}
    assert found.checked["checks"]["price_level"] == 1


@pytest.mark.parametrize("adjusted", ["no", "auto"])
def test_on_other_prices_a_level_is_a_remark_that_names_it(adjusted, market):
    found = audited(market(0), adjusted, {**LEVELS, **HONEST})
    assert found.passed
    (note,) = [note for note in found.checked["notes"] if "level of prices" in note]
    assert all(name in note for name in LEVELS)
    assert not any(name in note for name in HONEST)
    assert ("say so by `adjusted`" in note) == (adjusted == "auto")
    assert not [note for note in audited(market(0), adjusted, HONEST).checked["notes"] if "level of" in note]


def traded(step: float = 0.01, bars: int = 200, symbols: int = 20) -> pl.DataFrame:
    """Prices as an exchange prints them, on a grid."""
    rng = np.random.default_rng(1)
    close = 60 * np.exp(np.cumsum(rng.normal(0, 0.02, (bars, symbols)), axis=0))
    return pl.DataFrame(
        {
            "timestamp": np.repeat(np.arange(bars), symbols),
            "symbol": np.tile([f"S{number}" for number in range(symbols)], bars),
            "close": (np.round(close / step) * step).ravel(),
        }
    )


@pytest.mark.parametrize("step", [0.001, 0.01, 0.05, 1.0])
@pytest.mark.parametrize("type_", [pl.Float64, pl.Float32])
def test_prices_that_left_their_grid_were_adjusted(step, type_):
    panel = traded(step)
    assert is_adjusted(panel.with_columns(CLOSE.cast(type_))) is False
    dividend = pl.when(pl.col("timestamp") < 150).then(CLOSE * 0.9871).otherwise(CLOSE)
    assert is_adjusted(panel.with_columns(dividend.cast(type_).alias("close"))) is True
    few = pl.when(pl.col("symbol").is_in(["S1", "S2"])).then(dividend).otherwise(CLOSE)
    assert is_adjusted(panel.with_columns(few.alias("close"))) is None


def test_an_exchange_that_made_its_step_coarser_adjusted_nothing():
    finer = traded(0.001)
    newer = pl.when(pl.col("timestamp") >= 150).then(CLOSE.round(1)).otherwise(CLOSE)
    assert is_adjusted(finer.with_columns(newer.alias("close"))) is None


def test_prices_without_a_grid_show_nothing():
    panel = traded().with_columns(CLOSE * np.exp(1))
    assert is_adjusted(panel) is None
    assert is_adjusted(traded(bars=30)) is None
    assert is_adjusted(panel.clear()) is None


def test_auto_makes_a_leak_of_a_level_on_prices_that_left_their_grid():
    panel = traded()
    split = pl.when(pl.col("timestamp") < 120).then(CLOSE / 7).otherwise(CLOSE)
    stamps = pl.col("timestamp").cast(pl.Duration("ms")) * 86_400_000 + pl.datetime(
        2024, 1, 1, time_zone="UTC"
    )
    found = {}
    for name, close in (("adjusted", split), ("traded", CLOSE)):
        given = panel.with_columns(close.alias("close")).with_columns(stamps.cast(pl.Datetime("us", "UTC")))
        found[name] = audited(given, "auto", {"level": CLOSE.log(), "momentum": HONEST["momentum"]})
    assert [(leak.check, leak.factor) for leak in found["adjusted"].leaks] == [("price_level", "level")]
    assert found["traded"].passed
    assert any("prices as traded" in note for note in found["traded"].checked["notes"])


def test_prices_are_what_lies_within_the_bar(market):
    panel = market(0).with_columns(
        vwap=(pl.col("high") + pl.col("low")) / 2, other=CLOSE * 2, share=pl.lit(0.4), nothing=pl.lit(None)
    )
    assert price_columns(panel) == ["open", "high", "low", "close", "vwap"]
    after = multiplied(panel, np.random.default_rng(0))
    factor = (after["close"] / panel["close"]).to_numpy()
    assert (after["vwap"] / panel["vwap"] == after["close"] / panel["close"]).all()
    assert after["volume"].to_numpy() * factor == pytest.approx(panel["volume"].to_numpy())
    assert (after["other"] == panel["other"]).all()
    by_symbol = pl.DataFrame({"symbol": panel["symbol"], "factor": factor}).unique()
    assert len(by_symbol) == panel["symbol"].n_unique()
    assert (by_symbol["factor"] != 1).all()


def test_every_factor_of_the_library_stays_where_it_is():
    settings = FeatureSettings(groups=dict.fromkeys(FeatureSettings().groups.model_dump(), True))
    market = simulate(MarketSettings(simulator={"symbols": 12, "bars": 320, "rare": {"share": 0.1}}), 3).panel
    draws = np.random.default_rng(0)
    panel = market.with_columns(
        vwap=(pl.col("high") + pl.col("low")) / 2,
        trades=pl.Series(draws.poisson(200, len(market)).astype(float)),
        funding_rate=pl.Series(draws.normal(0, 1e-4, len(market))),
        open_interest=pl.col("volume") * 3 + pl.Series(draws.uniform(1e4, 2e4, len(market))),
    )
    calendar = panel["timestamp"].unique().sort()
    context = Context(
        lambda rows: build_factors(rows, settings), calendar, Settings(), np.random.default_rng(1), Tally()
    )
    scene = make_scene(context, panel, "the market")
    assert len(scene.columns) >= len(catalog(settings, "1d"))
    assert [leak.factor for leak in price_levels(context, scene, Extent(True, 0), "yes")] == []
    assert context.tally.made == {"price_level": 1}


@pytest.mark.parametrize(
    ("written", "meant"), [("yes", "yes"), ("no", "no"), ('"yes"', "yes"), ("auto", "auto")]
)
def test_yes_and_no_may_stand_without_quotes(written, meant, tmp_path):
    (tmp_path / "audit.yaml").write_text(f"adjusted: {written}\n")
    assert load_settings(Settings, tmp_path / "audit.yaml").adjusted == meant
