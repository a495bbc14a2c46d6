"""Bars of minutes go through market, validation, features and labels; coarser periods are made of them."""

import json
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import FACTORS, LABELS, PANEL, read_catalog, read_table
from components.features.config import Groups
from components.features.config import Settings as Features
from components.features.library import GROUPS
from components.features.run import Inputs as FeatureInputs
from components.features.run import Outputs as FeatureOutputs
from components.features.run import run as make_features
from components.labels.config import Settings as Labels
from components.labels.run import Inputs as LabelInputs
from components.labels.run import Outputs as LabelOutputs
from components.labels.run import run as make_labels
from components.market.config import Settings as Market
from components.market.run import Inputs as MarketInputs
from components.market.run import Outputs as MarketOutputs
from components.market.run import run as ingest
from components.settings import ConfigError
from components.validation.config import Settings as Validation
from components.validation.run import Inputs as ValidationInputs
from components.validation.run import Outputs as ValidationOutputs
from components.validation.run import run_validate
from pipelines.commands.options import CONFIGS
from pipelines.config import features_json, load_config
from pipelines.leaves import resolve_leaf

MINUTES = {"15m": 15, "1m": 1}
GROUPS_ON = {"trend": True, "calendar": True}


@pytest.mark.parametrize(("period", "coarser"), [("15m", "1h"), ("1m", "15m")])
def test_a_market_of_minutes_becomes_factors_and_labels(period, coarser, tmp_path):
    market = Market.model_validate(
        {"period": period, "simulator": {"symbols": 8, "bars": 500, "sectors": 2}}
    ).model_dump_json()
    ingest(MarketInputs(7), MarketOutputs(tmp_path / "raw", tmp_path / "truth"), settings=market, code="c")
    judged = ValidationOutputs(*(tmp_path / name for name in ("panel", "quarantine", "health", "judgements")))
    run_validate(
        ValidationInputs(tmp_path / "raw"), judged, settings=Validation().model_dump_json(), code="c"
    )
    settings = Features(groups=Groups(**dict.fromkeys(GROUPS, False) | GROUPS_ON), coarser=(coarser,))
    made = FeatureOutputs(tmp_path / "factors", tmp_path / "catalog")
    make_features(FeatureInputs(tmp_path / "panel"), made, settings=settings.model_dump_json(), code="c")
    labels = LabelOutputs(tmp_path / "labels")
    make_labels(LabelInputs(tmp_path / "panel"), labels, settings=Labels().model_dump_json(), code="c")

    panel = read_table(tmp_path / "panel", PANEL)
    length = timedelta(minutes=MINUTES[period])
    assert (panel["timestamp"] - panel["event_time"]).unique().to_list() == [length]
    factors = read_table(tmp_path / "factors", FACTORS)
    assert factors.select(PANEL.key).equals(panel.select(PANEL.key))
    assert {"hour_sin", "momentum_20_rank", f"momentum_20_rank_{coarser}"} <= set(factors.columns)
    _check_momentum(factors, panel)
    ratio = int(timedelta(minutes=60 if coarser == "1h" else 15) / length)
    seen = factors.drop_nulls(f"momentum_20_rank_{coarser}")
    # The coarser rank changes only where a stretch of the coarser period ends.
    changed = seen.filter(
        pl.col(f"momentum_20_rank_{coarser}") != pl.col(f"momentum_20_rank_{coarser}").shift(1).over("symbol")
    )
    assert len(changed) > 20
    since_midnight = pl.col("timestamp").dt.hour().cast(pl.Int32) * 60 + pl.col("timestamp").dt.minute()
    assert changed.select((since_midnight % (ratio * MINUTES[period]) == 0).all()).item()
    catalog = {entry.column: entry for entry in read_catalog(tmp_path / "catalog")}
    assert catalog[f"momentum_20_rank_{coarser}"].period == coarser

    known = read_table(tmp_path / "labels", LABELS).drop_nulls("log_return")
    assert len(known) > len(panel)
    late = known.select((pl.col("label_end") - pl.col("timestamp")) == (pl.col("horizon") + 1) * length)
    assert late.to_series().all()


def _check_momentum(factors: pl.DataFrame, panel: pl.DataFrame) -> None:
    """By hand, for one symbol without a gap."""
    one = panel.filter(pl.col("symbol") == panel["symbol"][0])
    found = factors.filter(pl.col("symbol") == panel["symbol"][0])["momentum_20"]
    expected = one["close"].log().diff(20)
    np.testing.assert_allclose(found[25:], expected[25:], rtol=1e-4, atol=1e-6)


def test_leaves_of_a_market_of_quarters_of_an_hour():
    leaves = "experts.leaves=[lightgbm/15m/base, elasticnet/1h/base]"
    config = load_config(CONFIGS / "demo.yaml", ["market.period=15m", leaves])
    assert config.experts.coarser == ("1h",)
    assert json.loads(features_json(config))["coarser"] == ["1h"]
    assert [resolve_leaf(name, config).period for name in config.experts.leaves] == ["15m", "1h"]
    with pytest.raises(ConfigError, match="bars of 1m can't be made from longer ones"):
        resolve_leaf("lightgbm/1m/base", config)
