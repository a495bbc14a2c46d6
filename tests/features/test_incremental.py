"""Rows added for new bars equal those of a full build, bit for bit; a panel that isn't the old one with new
bars is refused.
"""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from components.contracts import FACTORS, content_sha256, read_stamp, read_table, write_table
from components.features.build import build_supported
from components.features.config import DeclaredFormula, Groups, Settings, SlowColumn
from components.features.errors import FeatureError
from components.features.incremental import append_factors, bars_needed, update_factors
from components.features.library import GROUPS
from components.features.regime_config import Regimes
from components.market.config import Settings as MarketSettings
from components.market.simulator import simulate
from components.settings import config_hash

DAYS = 250
EVERYTHING = Settings(
    groups=Groups(**dict.fromkeys(GROUPS, True)),
    reference_symbol="S01",
    slow=(SlowColumn(name="earnings"), SlowColumn(name="rate", normalisation="zscore")),
    formulas=(
        DeclaredFormula(name="mixed", formula="sub(momentum_20_rank, reversal_5_rank)"),
        DeclaredFormula(name="value", formula="div(earnings, close)", normalisation="robust"),
    ),
)
FEW = Settings(groups=Groups(**dict.fromkeys(GROUPS, False) | {"trend": True, "regime": True}))


def with_slow_columns(panel: pl.DataFrame) -> pl.DataFrame:
    return panel.with_columns(
        industry=pl.format("industry {}", pl.col("symbol").str.tail(1).cast(pl.Int64) % 4),
        earnings=pl.col("close") / 20,
        rate=pl.col("timestamp").dt.day() + pl.col("timestamp").dt.month() / 10,
    )


def until(frame: pl.DataFrame, moment) -> pl.DataFrame:
    return frame.filter(pl.col("timestamp") <= moment)


def added(panel, full, settings, last_old, last_new) -> None:
    """Append the bars after `last_old` up to `last_new` and compare with the full build."""
    got = append_factors(until(panel, last_new), until(full, last_old), settings)
    expected = full.filter(pl.col("timestamp") > last_old, pl.col("timestamp") <= last_new)
    assert_frame_equal(got, expected, check_exact=True)


@pytest.fixture(scope="module")
def panel(random_panel) -> pl.DataFrame:
    return with_slow_columns(random_panel(11, bars=620, symbols=9, missing=0.004))


@pytest.fixture(scope="module")
def full(panel) -> pl.DataFrame:
    return build_supported(panel, EVERYTHING)[0]


@pytest.fixture(scope="module")
def few(panel) -> pl.DataFrame:
    return build_supported(panel, FEW)[0]


def times(panel: pl.DataFrame) -> pl.Series:
    return panel["timestamp"].unique().sort()


def test_250_days_on_the_simulator_one_by_one_have_the_bits_of_a_full_build():
    simulator = {"start": "2021-01-01", "bars": 560, "symbols": 12}
    bars = simulate(MarketSettings.model_validate({"simulator": simulator}), 5).panel
    whole = build_supported(bars, FEW)[0]
    moments = times(bars)
    table = until(whole, moments[-DAYS - 1])
    for number in range(DAYS, 0, -1):
        table = pl.concat([table, append_factors(until(bars, moments[-number]), table, FEW)])
    assert content_sha256(table) == content_sha256(whole)


@pytest.mark.parametrize("bar", [3, 40, 270, 430, 619])
def test_a_day_of_every_factor_has_the_bits_of_a_full_build(panel, full, bar):
    moments = times(panel)
    added(panel, full, EVERYTHING, moments[bar - 1], moments[min(bar, len(moments) - 1)])


def test_many_days_at_once_and_none(panel, full):
    moments = times(panel)
    added(panel, full, EVERYTHING, moments[400], moments[460])
    assert append_factors(until(panel, moments[400]), until(full, moments[400]), EVERYTHING).is_empty()


def test_a_lazy_table_and_a_tail_of_the_panel_give_the_same(panel, few, tmp_path):
    moments = times(panel)
    until(few, moments[-2]).write_parquet(tmp_path / "few.parquet", row_group_size=500)
    needed = bars_needed(FEW, "1d")
    tail = panel.filter(pl.col("timestamp") >= moments[len(moments) - 1 - needed - 40])
    got = append_factors(tail, pl.scan_parquet(tmp_path / "few.parquet"), FEW)
    assert_frame_equal(got, few.filter(pl.col("timestamp") == moments[-1]), check_exact=True)


def test_a_new_symbol_and_one_that_missed_bars(random_panel):
    panel = random_panel(12, bars=600, missing=0.0)
    moments = times(panel)
    young = (pl.col("symbol") == "S03") & (pl.col("timestamp") < moments[590])
    absent = (pl.col("symbol") == "S04") & pl.col("timestamp").is_between(moments[540], moments[592])
    panel = panel.filter(~young & ~absent)
    full = build_supported(panel, FEW)[0]
    for bar in (590, 593, 599):
        added(panel, full, FEW, moments[bar - 1], moments[bar])


def test_late_rows_come_out_as_in_a_full_build(panel):
    rng = np.random.default_rng(3)
    hours = pl.Series(np.where(rng.random(len(panel)) < 0.02, rng.integers(24, 90, len(panel)), 0))
    late = panel.with_columns(known_time=pl.col("known_time") + pl.duration(hours=hours))
    full = build_supported(late, FEW)[0]
    moments = times(late)
    for bar in (560, 600, 619):
        added(late, full, FEW, moments[bar - 1], moments[bar])


def test_a_hidden_regime_goes_on_where_it_stopped(panel):
    settings = FEW.model_copy(update={"regimes": Regimes(model="hmm", fit_bars=150, refit_months=3)})
    full = build_supported(panel, settings)[0]
    moments = times(panel)
    for bar in (250, 450, 619):
        added(panel, full, settings, moments[bar - 1], moments[bar])


def test_a_tail_that_is_too_short_is_refused(panel, few):
    moments = times(panel)
    with pytest.raises(FeatureError, match="longer tail"):
        append_factors(panel.filter(pl.col("timestamp") >= moments[-100]), until(few, moments[-2]), FEW)
    with pytest.raises(FeatureError, match="longer tail"):
        append_factors(panel.filter(pl.col("timestamp") > moments[-2]), until(few, moments[-2]), FEW)


def test_a_revised_lost_or_added_bar_is_refused_by_name(panel, few):
    moments = times(panel)
    previous = until(few, moments[-2])
    bar = (pl.col("symbol") == "S05") & (pl.col("timestamp") == moments[-4])
    assert len(panel.filter(bar)) == 1
    revised = panel.with_columns(close=pl.when(bar).then(pl.col("close") * 1.001).otherwise(pl.col("close")))
    with pytest.raises(FeatureError, match=r"revised.*S0"):
        append_factors(revised, previous, FEW)
    with pytest.raises(FeatureError, match="no bar for S05"):
        append_factors(panel.filter(~bar), previous, FEW)
    with pytest.raises(FeatureError, match="does not know for S05"):
        append_factors(panel, previous.filter(~bar), FEW)
    added(panel, few, FEW, moments[-2], moments[-1])


def test_a_table_of_other_columns_is_refused(panel, few):
    previous = until(few, times(panel)[-2])
    with pytest.raises(FeatureError, match="'extra'"):
        append_factors(panel, previous.with_columns(extra=pl.lit(0.0, pl.Float32)), FEW)
    with pytest.raises(FeatureError, match="lacks 'macd'"):
        append_factors(panel, previous.drop("macd_rank"), FEW)
    with pytest.raises(FeatureError, match="no rows"):
        append_factors(panel, previous.clear(), FEW)


def test_a_stored_table_is_replaced_by_one_that_a_full_build_would_write(panel, few, tmp_path):
    moments = times(panel)
    stamped = {"code_version": "c1", "config_hash": config_hash(FEW)}
    write_table(until(few, moments[-3]), tmp_path / "factors", FACTORS, inputs={"panel": "old"}, **stamped)
    stamp = update_factors(tmp_path / "factors", panel, FEW, code_version="c1", inputs={"panel": "new"})
    write_table(few, tmp_path / "whole", FACTORS, inputs={"panel": "new"}, **stamped)
    assert stamp == read_stamp(tmp_path / "whole")
    assert (tmp_path / "factors").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (
        update_factors(tmp_path / "factors", panel, FEW, code_version="c1", inputs={"panel": "new"}) == stamp
    )
    with pytest.raises(FeatureError, match="other code"):
        update_factors(tmp_path / "factors", panel, FEW, code_version="c2", inputs={"panel": "new"})
    with pytest.raises(FeatureError, match="other settings"):
        update_factors(tmp_path / "factors", panel, Settings(), code_version="c1", inputs={"panel": "new"})
    assert_frame_equal(read_table(tmp_path / "factors", FACTORS), few)
