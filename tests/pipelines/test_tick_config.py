"""Configs of runs on order books: what their sections say of each other, and which leaves fit."""

import pytest

from components.settings import ConfigError
from pipelines.commands.options import CONFIGS, DEMO
from pipelines.config import learning_config, load_config
from pipelines.graphs.build import build_pipeline
from pipelines.lasting import lost_by_pods
from pipelines.leaves import resolve_leaf, resolve_leaves
from tests.pipelines.tick_run import write_config


@pytest.fixture
def path(tmp_path):
    return write_config(tmp_path / "ticks.yaml", tmp_path / "run")


def test_labels_follow_the_distance_of_samples(path):
    config = load_config(path)
    assert (config.tick_labels.sample_ms, config.tick_labels.horizons) == (250, (1, 20))
    finer = load_config(path, ["tick_features.sample=50ms", "timeline.purge_bars=101"])
    assert (finer.tick_labels.sample_ms, finer.tick_labels.horizons) == (50, (5, 100))


def test_labels_of_another_distance_are_refused(path):
    with pytest.raises(ConfigError, match=r"sample_ms=50 but tick_features.sample=250ms.* it follows"):
        load_config(path, ["tick_labels.sample_ms=50"])


@pytest.mark.parametrize(("latency_ms", "purge_bars"), [(250, 21), (251, 22), (1_000, 24)])
def test_purging_covers_horizon_and_arrival(path, latency_ms, purge_bars):
    late = f"tick_labels.entry_latency_ms={latency_ms}"
    load_config(path, [late, f"timeline.purge_bars={purge_bars}"])
    with pytest.raises(ConfigError, match=f"Set timeline.purge_bars to {purge_bars} or more"):
        load_config(path, [late, f"timeline.purge_bars={purge_bars - 1}"])


def test_experts_learn_the_labels_of_ticks(path):
    learning = learning_config(load_config(path))
    assert learning.market.period == "250ms"
    assert (learning.labels.target, learning.labels.primary_horizon) == ("trade_class", 20)
    assert learning.selection.mode == "off"
    bars = load_config(DEMO)
    assert learning_config(bars) is bars


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        ("lightgbm/1d/base", r"this run is on samples of 250ms.* Write lightgbm/250ms/base\."),
        ("lightgbm/50ms/base", r"or set tick_features.sample: 50ms\."),
        ("xgboost/250ms/base", "there is no such leaf"),
    ],
)
def test_leaves_of_other_samples_are_refused(path, leaf, said):
    with pytest.raises(ConfigError, match=said):
        resolve_leaf(leaf, load_config(path))


def test_a_leaf_of_samples_is_refused_in_a_run_on_bars():
    with pytest.raises(ConfigError, match=r"this run is on bars of 1d.* Write lightgbm/1d/base\."):
        resolve_leaf("lightgbm/250ms/base", load_config(DEMO))


def test_a_pipeline_is_refused_by_a_config_of_the_other_kind(path):
    with pytest.raises(ConfigError, match=r"is of ticks: .* no pipeline training. Run its pipeline ticks"):
        build_pipeline("training", load_config(path), folder="/run")
    with pytest.raises(ConfigError, match=r"has no section ticks: .* Run its pipeline training"):
        build_pipeline("ticks", load_config(DEMO), folder="/run")


def test_a_cluster_would_miss_the_files_of_ticks_and_lose_their_model():
    kept = ["run.store=s3://bucket/place", "registry.tracking_uri=http://mlflow.alphaloop:5000"]
    lost = lost_by_pods(load_config(CONFIGS / "lob_btc.yaml", kept))
    assert [one.split(",")[0] for one in lost] == [
        "ticks.depth_messages.events",
        "ticks.depth_messages.levels",
    ]
    assert lost_by_pods(load_config(CONFIGS / "ticks_demo.yaml", kept)) == []
    without = lost_by_pods(load_config(CONFIGS / "ticks_demo.yaml", kept[:1]))
    assert len(without) == 1
    assert "the model: registry.tracking_uri is empty" in without[0]


def test_what_is_learned_to_pay_is_what_is_traded(path):
    with pytest.raises(ConfigError, match=r"tick_labels.fee_bps=0.3 but tick_replay.taker_fee_bps=0.1"):
        load_config(path, ["tick_labels.fee_bps=0.3"])
    with pytest.raises(ConfigError, match=r"tick_labels.order_value=100 but tick_replay.capital=5000"):
        load_config(path, ["tick_labels.order_value=100"])
    both = ["tick_labels.order_value=100", "tick_replay.capital=100"]
    assert load_config(path, both).tick_replay.capital == 100


def test_samples_by_event_are_refused_where_a_run_counts_those_of_the_clock(path):
    with pytest.raises(ConfigError, match=r"tick_features.sampling=event: .* set it to clock"):
        load_config(path, ["tick_features.sampling=event"])


@pytest.mark.parametrize(
    "setting",
    ["tick_gates.candidate=lightgmb", "tick_gates.baselines={median: 0.0}"],
    ids=["judged", "beside"],
)
def test_gates_that_ask_for_an_expert_that_is_not_trained_are_refused(path, setting):
    with pytest.raises(ConfigError, match="which is no expert of this run; choose from touch_imbalance"):
        load_config(path, [setting])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "tick_gates.policy=passive_then_cross",
            r"tick_replay.policies=\['taker', 'passive'\]; add it there",
        ),
        ("tick_gates.latency=33ms", "tick_gates.latency=33ms is not replayed; choose from 10ms, measured"),
        ("tick_replay.latency.measured=false", "tick_gates.latency=measured is not replayed"),
        ("tick_replay.policies=[taker, taker]", "names one twice"),
        ("tick_replay.step_seconds=1e-12", "step_seconds"),
        ("tick_replay.patience_ms=1e30", "patience_ms"),
        ("tick_features.normalisation.least_values=60", "every scaled feature would stay null"),
        ("ticks.clock.floor_ms=1e300", "floor_ms"),
        ("ticks.clock.window_ms=1e-9", "window_ms"),
        ("ticks.simulator.start=2262-04-11", "choose a year from 1991 to 2198"),
    ],
)
def test_what_could_only_fail_later_is_refused_at_once(path, setting, said):
    with pytest.raises(ConfigError, match=said):
        load_config(path, [setting])
    load_config(path, ["tick_gates.policy=passive", "tick_gates.latency=10ms"])


@pytest.mark.parametrize("name", ["ticks_demo", "lob_btc"])
def test_shipped_configs_of_ticks_resolve(name):
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.ticks is not None
    assert {leaf.period for leaf in resolve_leaves(config)} == {config.tick_features.sample}
