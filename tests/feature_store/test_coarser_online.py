"""What is online right after a bar, within a day and at its end, is what models learn from at that bar:
the inputs of coarser periods too.
"""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from components.feature_store.config import Settings
from components.feature_store.lookup import read_windows
from components.feature_store.publication import FactorTable
from components.feature_store.store import (
    open_store,
    publication_store,
    publish_factors,
    put_online,
    training_set,
)
from components.features.build import build_supported
from components.features.config import Groups
from components.features.config import Settings as FeatureSettings
from components.features.incremental import append_factors
from components.features.library import GROUPS
from components.market.config import Settings as MarketSettings
from components.market.simulator import simulate

FEATURES = FeatureSettings(
    groups=Groups(**dict.fromkeys(GROUPS, False) | {"bars": True}), window_bars=5, coarser=("4h", "1d")
)
STORE = Settings(lookback_bars=2, ttl_days=3)
COARSER = ("bar_close_1d", "bar_volume_1d", "bar_close_4h", "bar_volume_4h")


@pytest.fixture(scope="module")
def panel() -> pl.DataFrame:
    simulator = {"symbols": 6, "sectors": 2, "bars": 24 * 40, "late_share": 0, "delisted_share": 0}
    return simulate(MarketSettings.model_validate({"period": "1h", "simulator": simulator}), 3).panel


@pytest.fixture(scope="module")
def learned(panel, tmp_path_factory):
    """Catalog, factors of the whole panel, and a function that gives the training set at a moment."""
    table, catalog, _ = build_supported(panel, FEATURES)
    folder = tmp_path_factory.mktemp("whole")
    publication = publish_factors(FactorTable(table, catalog, "1h"), STORE, folder)

    def at(moment):
        rows = panel.filter(pl.col("timestamp") == moment).select("timestamp", "symbol", "sector")
        with publication_store(publication, folder) as store:
            return training_set(store, publication["service"], rows)

    return catalog, table, at


def test_a_live_row_is_the_training_row_within_a_day_and_at_its_end(panel, learned, tmp_path):
    catalog, table, training = learned
    times = panel["timestamp"].unique().sort()
    end = times.filter(times.dt.hour() == 0)[-5]
    seen = []
    for moment in (end - timedelta(hours=11), end - timedelta(hours=1), end):
        kept = table.filter(pl.col("timestamp") < moment)
        new = append_factors(panel.filter(pl.col("timestamp") <= moment), kept, FEATURES)
        live = pl.concat([kept, new])
        publication = publish_factors(FactorTable(live, catalog, "1h"), STORE, tmp_path)
        put_online(publication, STORE, tmp_path)
        expected = training(moment).sort("symbol")
        windows, moments = read_windows(
            open_store(STORE, tmp_path), publication, expected["symbol"].to_list()
        )
        assert set(moments) == {moment}
        names = publication["columns"]
        wanted = expected.select(pl.col(names).fill_null(np.nan)).to_numpy()
        assert np.array_equal(windows[:, -1, : len(names)], wanted, equal_nan=True)
        assert set(COARSER) <= set(names)
        assert expected.select(COARSER).null_count().row(0) == (0, 0, 0, 0)
        seen.append(expected.select(COARSER))
    middle, last, after = seen
    assert middle["bar_close_1d"].equals(last["bar_close_1d"])
    assert not after["bar_close_1d"].equals(last["bar_close_1d"])
    assert not middle["bar_close_4h"].equals(last["bar_close_4h"])
