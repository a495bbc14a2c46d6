"""Columns of coarser periods under the leak audit: a bar that is seen one bar too early is caught, and the
product's own columns pass.
"""

from datetime import timedelta

import polars as pl
import pytest

from components.audit.config import Settings as AuditSettings
from components.audit.factors import audit_factors
from components.features import build as of_features
from components.features.build import build_factors
from components.features.catalog import catalog, longest_warm_up
from components.features.coarser import seen_bars
from components.features.config import Groups, Settings
from components.features.library import GROUPS
from components.market.config import Settings as MarketSettings
from components.market.simulator import simulate

SETTINGS = Settings(
    groups=Groups(**dict.fromkeys(GROUPS, False) | {"mean_reversion": True}),
    window_bars=5,
    coarser=("4h", "1d"),
)
SHORT = AuditSettings(scan_cuts=0, warm_up_starts=1, adjusted="yes")
COARSER = {entry.column for entry in catalog(SETTINGS, "1h") if entry.period}


@pytest.fixture(scope="module")
def panel() -> pl.DataFrame:
    return simulate(
        MarketSettings.model_validate(
            {"period": "1h", "simulator": {"symbols": 9, "sectors": 3, "bars": 24 * 80}}
        ),
        3,
    ).panel


def audited(panel):
    entries = catalog(SETTINGS, "1h")
    return audit_factors(
        panel,
        lambda rows: build_factors(rows, SETTINGS),
        seed=0,
        warm_up_bars=longest_warm_up(entries),
        declared={entry.column: entry.warm_up_bars for entry in entries},
        settings=SHORT,
    )


def one_bar_early(rows: pl.DataFrame, bars: pl.DataFrame) -> pl.Series:
    later = [pl.col(name) + timedelta(hours=1) for name in ("timestamp", "known_time")]
    return seen_bars(rows.with_columns(later), bars)


def test_a_bar_that_is_seen_one_bar_early_is_caught(panel, monkeypatch):
    monkeypatch.setattr(of_features, "seen_bars", one_bar_early)
    found = {leak.factor for leak in audited(panel).leaks}
    assert found <= COARSER
    for period in SETTINGS.coarser:
        assert len([name for name in found if name.endswith(period)]) > 5, period


def test_the_products_own_columns_pass(panel):
    result = audited(panel)
    assert [leak.sentence() for leak in result.leaks] == []
    assert not COARSER & set(result.checked["factors_without_values"])
