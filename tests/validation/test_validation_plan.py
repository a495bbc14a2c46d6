"""A panel that is not enough for its config is refused at once, with what was found and what to do; one that
is enough passes.
"""

from datetime import date

import pytest

from components.contracts import PANEL, write_table
from components.validation.plan import PanelFallsShort, run_check_plan, shortfalls
from pipelines.config import Config
from pipelines.demands import demands, demands_json
from tests.validation.test_validation_examine import random_walk

LEARNABLE_ALONE = {"labels": {"target": "log_return"}, "features": {"normalisation": "zscore"}}


def reasons(config: dict, *, symbols: int, bars: int) -> tuple[str, ...]:
    panel = random_walk(1, symbols=symbols, bars=bars)
    return shortfalls(panel, demands(Config.model_validate(config))).reasons


@pytest.mark.parametrize("target", ["sector_neutral_return", "return_quantile", "beta_neutral_return"])
def test_a_target_against_others_needs_others(target):
    config = {**LEARNABLE_ALONE, "labels": {"target": target}, "timeline": {"fold_bars": 60}}
    (reason,) = reasons(config, symbols=1, bars=500)
    assert f"labels.target={target}" in reason
    assert "1 symbol (S0)" in reason
    assert "log_return" in reason
    assert reasons(config, symbols=2, bars=500) == ()


@pytest.mark.parametrize(
    "target", ["log_return", "direction", "trend", "barrier", "barrier_return", "trade_class"]
)
def test_a_target_of_one_symbol_passes_with_a_word_on_its_gates(target):
    config = {**LEARNABLE_ALONE, "labels": {"target": target}, "timeline": {"fold_bars": 60}}
    found = shortfalls(random_walk(1, symbols=1, bars=500), demands(Config.model_validate(config)))
    assert found.reasons == ()
    assert "no model of it can be approved" in found.notes[0]


def test_ranks_of_few_symbols_are_refused_because_they_say_nothing():
    config = {"labels": {"target": "log_return"}, "timeline": {"fold_bars": 60}}
    (reason,) = reasons(config, symbols=4, bars=500)
    assert "features.normalisation=auto" in reason
    assert "needs 5 symbols" in reason
    assert "zscore" in reason
    assert reasons(config, symbols=5, bars=500) == ()


@pytest.mark.parametrize("bars", [1, 8])
def test_fewer_bars_than_any_factor_and_its_label_need(bars):
    (reason,) = reasons({}, symbols=8, bars=bars)
    assert "are needed" in reason
    assert ("one bar" if bars == 1 else f"{bars} bars") in reason


def test_a_year_of_bars_is_enough_with_a_word_on_the_factors_that_look_back_further():
    config = {"timeline": {"fold_bars": 30}}
    panel = random_walk(1, symbols=8, bars=262)
    found = shortfalls(panel, demands(Config.model_validate(config)))
    assert found.reasons == ()
    (note,) = found.notes
    assert "262 bars" in note
    assert "features.groups.regime: false" in note or "features.groups.trend: false" in note
    config["features"] = {"groups": dict.fromkeys(["trend", "style", "regime"], False)}
    assert shortfalls(panel, demands(Config.model_validate(config))).notes == ()


def test_windows_that_the_data_does_not_reach_and_folds_that_are_longer_than_it():
    beyond = {"timeline": {"test": {"start": date(2031, 1, 1)}, "fold_bars": 60}}
    (reason,) = reasons(beyond, symbols=8, bars=400)
    assert "timeline.test holds no bars" in reason
    assert "2020-01-06" in reason
    (reason,) = reasons({"timeline": {"fold_bars": 500}}, symbols=8, bars=400)
    assert "timeline.fold_bars=500 is longer than the panel (400 bars" in reason
    crowded = {"timeline": {"train_share": 0.1, "purge_bars": 40, "embargo_bars": 20, "fold_bars": 60}}
    (reason,) = reasons(crowded, symbols=8, bars=400)
    assert "Lengthen timeline.train or the panel" in reason
    assert reasons({}, symbols=8, bars=400) == ()


def test_groups_of_a_cross_validation_that_are_too_short_are_said_before_anything_is_trained():
    crossed = {"timeline": {"scheme": "combinatorial", "groups": 10}}
    (reason,) = reasons(crossed, symbols=8, bars=350)
    assert "timeline.groups=10 cut the 233 bars before the test window into groups of 23" in reason
    assert reasons({"timeline": {"scheme": "combinatorial"}}, symbols=8, bars=600) == ()


def test_everything_that_is_missing_is_said_at_once_with_the_name_of_the_panel(tmp_path):
    config = Config.model_validate({"market": {"source": "csv", "path": "few.csv"}})
    panel = random_walk(1, symbols=1, bars=100).select(list(PANEL.columns))
    write_table(panel, tmp_path / "panel", PANEL, code_version="c", config_hash="c", inputs={})
    with pytest.raises(PanelFallsShort) as stopped:
        run_check_plan(tmp_path / "panel", demands=demands_json(config))
    text = str(stopped.value)
    assert text.startswith("market.path=few.csv: not enough for this config.")
    assert text.count("\n- ") == 3
    assert len(text.splitlines()) < 10
