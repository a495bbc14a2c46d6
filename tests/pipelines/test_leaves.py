"""The leaves of a run: what overrides do to them, how they are called, and which are refused before anything
runs.
"""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from components.experts.leaves import SWITCHES, Leaf, known_experts
from components.settings import ConfigError
from pipelines.commands.options import CONFIGS
from pipelines.config import Config, features_json, load_config
from pipelines.demands import demands
from pipelines.graphs.arrange import Pods
from pipelines.graphs.build import build_pipeline
from pipelines.leaves import find_leaf, learned, resolve_leaf, resolve_leaves, run_name, unused_overrides

DEMO = CONFIGS / "demo.yaml"
TABLE = {"name": "notes", "path": "notes.csv", "release_lag_days": 1, "columns": [{"name": "note"}]}
BOTH = ["experts.leaves=[median/1d/base, lightgbm/1d/base, lightgbm/1d/rich]", f"fusion.tables=[{TABLE}]"]


def demo(*overrides: str) -> Config:
    return load_config(DEMO, overrides)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("lightgbm.ensemble=3", "ensemble", 3),
        ("lightgbm.threads=1", "threads", 1),
        ("lightgbm.tracking=http://mlflow:5000", "tracking", "http://mlflow:5000"),
        ("patchtst.processes=2", "processes", 2),
    ],
)
def test_a_switch_of_a_leaf_is_set_from_the_config(override, key, value):
    expert = override.partition(".")[0]
    leaf = resolve_leaf(f"{expert}/1d/base", demo(f"experts.overrides.{override}"))
    assert getattr(leaf, key) == value


def test_regimes_and_further_tasks_are_set_from_the_config():
    leaf = resolve_leaf("lightgbm/1d/base", demo("experts.overrides.lightgbm.regimes={}"))
    assert leaf.regimes.fewest_rows == 300
    leaf = resolve_leaf("lightgbm/1d/base", demo("experts.overrides.lightgbm.regimes.fewest_rows=70"))
    assert leaf.regimes.fewest_rows == 70
    also = "experts.overrides.patchtst.also=[{target: log_return, horizon: 10}]"
    assert resolve_leaf("patchtst/1d/base", demo(also)).also[0].horizon == 10


def test_a_leaf_may_have_a_task_of_its_own_as_long_as_another_has_that_of_the_run():
    own = [f"experts.overrides.lightgbm.{one}" for one in ("target=log_return", "horizon=1")]
    config = demo(*own)
    assert learned(resolve_leaf("lightgbm/1d/base", config), config) == ("log_return", 1)
    other = "patchtst" if "patchtst/1d/base" in config.experts.leaves else "elasticnet"
    assert learned(resolve_leaf(f"{other}/1d/base", config), config) == ("sector_neutral_return", 5)
    with pytest.raises(
        ConfigError, match=r"no expert of experts\.leaves learns sector_neutral_return over 5"
    ):
        resolve_leaves(
            demo(
                *own,
                "experts.overrides.median.horizon=1",
                "experts.leaves=[lightgbm/1d/base, median/1d/base]",
            )
        )


def test_switches_settings_and_the_rest_of_a_leaf_stand_side_by_side():
    before = resolve_leaf("patchtst/1d/base", demo())
    leaf = resolve_leaf(
        "patchtst/1d/base",
        demo("experts.overrides.patchtst.ensemble=2", "experts.overrides.patchtst.training.epochs=9"),
    )
    assert (leaf.ensemble, leaf.settings["training"]["epochs"]) == (2, 9)
    assert leaf.settings["width"] == before.settings["width"]
    # The demo's own override of the same section is kept.
    assert leaf.settings["training"]["max_train_windows"] == 4000


def test_the_config_stands_over_the_leaf_and_the_command_line_over_the_config(tmp_path):
    place = tmp_path / "leaves" / "lightgbm" / "1d" / "base.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(
        "expert: lightgbm\nperiod: 1d\nensemble: 2\nthreads: 1\nsettings: {rounds: 11, leaves: 5}\n"
    )
    config = yaml.safe_load(DEMO.read_text())
    config["experts"] |= {"folder": str(tmp_path / "leaves")}
    config["experts"]["overrides"] |= {"lightgbm": {"ensemble": 3, "rounds": 12}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    leaf = resolve_leaf("lightgbm/1d/base", load_config(path, ["experts.overrides.lightgbm.rounds=13"]))
    assert (leaf.threads, leaf.settings["leaves"]) == (1, 5)
    assert leaf.ensemble == 3
    assert leaf.settings["rounds"] == 13


def test_no_expert_has_a_setting_that_is_called_like_a_switch():
    for expert in known_experts():
        leaf = Leaf(expert=expert, period="1d")
        module = __import__(f"components.experts.families.{leaf.expert}", fromlist=["Settings"])
        assert not set(SWITCHES) & set(module.Settings.model_fields)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("lightgbm.ensembel=2", "unknown key 'ensembel'. Did you mean 'ensemble'"),
        ("lightgbm.period=1h", "unknown key 'period'. Known keys: rounds"),
        ("lightgbm.ensemble=many", r"experts\.overrides\.lightgbm: ensemble"),
        ("lightgbm.regimes.fewest_row=3", "unknown key 'regimes.fewest_row'. Did you mean 'fewest_rows'"),
        ("lightgbm.processes=2", "no neural expert"),
        ("patchtst.also=[{target: log_retur, horizon: 5}]", "the target 'log_retur', which is no label"),
        ("patchtst.also=[{target: log_return, horizon: 7}]", "horizon 7, which is not made"),
        ("patchtst.also=[{target: barrier_end, horizon: 5}]", "which is no label"),
        (
            "patchtst.also=[{target: sector_neutral_return, horizon: 5}]",
            "sector_neutral_return over 5 bars, which the leaf learns already",
        ),
        ("lightgbm.target=log_retur", "`target` names the target 'log_retur'.* Did you mean 'log_return'"),
        ("lightgbm.horizon=7", "experts.overrides.lightgbm: `horizon` names horizon 7, which is not made"),
    ],
)
def test_a_wrong_override_is_told_with_its_place(override, words):
    with pytest.raises(ConfigError, match=words):
        resolve_leaves(demo(f"experts.overrides.{override}"))


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (
            "lightgbm/1h/base",
            "period is 1d: bars of 1h can't be made from longer ones. Write lightgbm/1d/base",
        ),
        (
            "patchtst/4h/base",
            "period is 1d: bars of 4h can't be made from longer ones. Write patchtst/1d/base",
        ),
        ("lightgbm/weekly/base", "'weekly' is no period. Write lightgbm/1d/base"),
        ("ligthgbm/1d/base", "no expert 'ligthgbm'. Did you mean lightgbm/1d/base"),
        ("LightGBM/1d/base", "Did you mean lightgbm/1d/base"),
        ("lightgbm/1d/richer", "base or rich. Write lightgbm/1d/base"),
        ("lightgbm", "is no leaf. Write expert/period/modality, such as lightgbm/1d/base"),
        ("lightgbm/1d/rich", "no input is rich"),
        ("median/1d/rich", "no such leaf. Write median/1d/base"),
    ],
)
@pytest.mark.parametrize("pipeline", ["training", "retraining", "mining"])
def test_a_leaf_that_can_not_be_trained_is_refused_before_anything_runs(pipeline, leaf, words):
    config = demo(f"experts.leaves=[median/1d/base, {leaf}]")
    with pytest.raises(ConfigError, match=words):
        build_pipeline(pipeline, config, folder="/run", pods=Pods("/data"))


@pytest.mark.parametrize(
    ("leaf", "words"),
    [("lightgbm/2h/base", "'2h' is no period. Write lightgbm/1d/base"), ("lightgbm/1d/base/x", "is no leaf")],
)
def test_what_is_no_leaf_is_told_so_beside_a_right_one_of_its_expert(leaf, words):
    """Not that the two would share a name: another name would not help."""
    with pytest.raises(ConfigError, match=words):
        resolve_leaves(demo(f"experts.leaves=[median/1d/base, lightgbm/1d/base, {leaf}]"))


def test_another_period_with_its_own_leaves_is_right():
    config = demo(
        "market.period=4h", "experts.leaves=[median/4h/base, lightgbm/4h/base]", "experts.overrides={}"
    )
    assert [leaf.period for leaf in resolve_leaves(config)] == ["4h", "4h"]


def hours(*leaves: str, **others: str) -> Config:
    """A config of hourly bars with these leaves."""
    given = [f"{name}={value}" for name, value in others.items()]
    return demo("market.period=1h", f"experts.leaves=[{', '.join(leaves)}]", *given)


def test_leaves_of_coarser_periods_have_names_of_their_own_and_bring_their_inputs():
    config = hours("lightgbm/1h/base", "lightgbm/1d/base", "elasticnet/4h/base", "median/1h/base")
    assert [run_name(leaf, config) for leaf in resolve_leaves(config)] == [
        "lightgbm",
        "lightgbm_1d",
        "elasticnet_4h",
        "median",
    ]
    assert find_leaf("lightgbm_1d", config) == "lightgbm/1d/base"
    features = json.loads(features_json(config))
    assert features["coarser"] == ["4h", "1d"]
    assert "coarser" not in json.loads(features_json(hours("lightgbm/1h/base", "median/1h/base")))
    own = config.model_copy(update={"features": config.features.model_copy(update={"coarser": ("4h", "1d")})})
    assert json.loads(features_json(own))["coarser"] == ["4h", "1d"]


def test_a_coarser_period_asks_no_longer_panel_of_the_run():
    one = demands(hours("lightgbm/1h/base", "median/1h/base"))
    both = demands(hours("lightgbm/1h/base", "lightgbm/1d/base"))
    assert both.warm_up_bars == one.warm_up_bars


def test_an_override_of_the_expert_is_for_all_its_periods_and_that_of_a_period_stands_over_it():
    config = load_config(
        DEMO,
        [
            "market.period=1h",
            "experts.leaves=[lightgbm/1h/base, lightgbm/1d/base]",
            "experts.overrides.lightgbm.threads=1",
            "experts.overrides.lightgbm_1d.threads=3",
        ],
    )
    assert [leaf.threads for leaf in resolve_leaves(config)] == [1, 3]
    assert unused_overrides(config) == ["patchtst"]


def test_rich_and_base_of_two_periods_are_told_apart():
    leaves = [f"lightgbm/{period}/{modality}" for period in ("1h", "1d") for modality in ("base", "rich")]
    names = Config.model_validate({"experts": {"leaves": leaves}}).experts.names
    assert list(names.values()) == ["lightgbm", "lightgbm_rich", "lightgbm_1d", "lightgbm_1d_rich"]


def test_names_that_collide_are_refused():
    leaves = ["lightgbm/1h/base", "lightgbm/1d/base", "lightgbm_1d/1h/base"]
    with pytest.raises(ValidationError, match="would both be called 'lightgbm_1d'"):
        Config.model_validate({"experts": {"leaves": leaves}})


def test_a_network_of_a_coarser_period_is_refused():
    words = (
        r"patchtst/1d/base, but market.period is 1h: patchtst reads windows of bars.* Write patchtst/1h/base,"
        " or name a tree or linear expert of 1d, such as lightgbm/1d/base"
    )
    with pytest.raises(ConfigError, match=words):
        resolve_leaves(hours("patchtst/1d/base", "lightgbm/1h/base"))


def test_a_coarser_period_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"features.coarser names 1h, which is not coarser than .*=1d"):
        demo("features.coarser=[1h]")


def test_rich_needs_a_table_that_is_rich():
    assert [leaf.modality for leaf in resolve_leaves(demo(*BOTH))] == ["base", "base", "rich"]
    base_only = f"fusion.tables=[{ {**TABLE, 'modality': 'base'} }]"
    with pytest.raises(ConfigError, match="no input is rich"):
        resolve_leaves(demo(BOTH[0], base_only))


def test_what_no_leaf_uses_is_said(capsys):
    config = demo("experts.leaves=[median/1d/base, lightgbm/1d/base]")
    assert unused_overrides(config) == ["patchtst"]
    build_pipeline("training", config, folder="/run", pods=Pods("/data"))
    assert "experts.overrides holds settings of patchtst, which no leaf" in capsys.readouterr().err
    build_pipeline("training", demo(), folder="/run", pods=Pods("/data"))
    assert "overrides" not in capsys.readouterr().err


def test_base_and_rich_of_an_expert_have_names_of_their_own():
    config = demo(*BOTH)
    assert config.experts.names == {
        "median/1d/base": "median",
        "lightgbm/1d/base": "lightgbm",
        "lightgbm/1d/rich": "lightgbm_rich",
    }
    assert find_leaf("lightgbm", config) == "lightgbm/1d/base"
    assert find_leaf("lightgbm_rich", config) == find_leaf("lightgbm/1d/rich", config) == "lightgbm/1d/rich"
    alone = demo("experts.leaves=[median/1d/base, lightgbm/1d/rich]", BOTH[1])
    assert alone.experts.names["lightgbm/1d/rich"] == "lightgbm"


def test_an_override_of_the_expert_is_for_both_and_one_of_the_rich_name_stands_over_it():
    overrides = "experts.overrides={lightgbm: {rounds: 31, ensemble: 2}, lightgbm_rich: {rounds: 32}}"
    config = demo(*BOTH, overrides)
    _, base, rich = resolve_leaves(config)
    assert (base.settings["rounds"], rich.settings["rounds"]) == (31, 32)
    assert (base.ensemble, rich.ensemble) == (2, 2)
    assert [run_name(leaf, config) for leaf in (base, rich)] == ["lightgbm", "lightgbm_rich"]
    with pytest.raises(ConfigError, match=r"lightgbm_rich.*unknown key 'round'"):
        resolve_leaves(demo(*BOTH, "experts.overrides={lightgbm_rich: {round: 3}}"))


def trained(config: Config) -> dict[str, dict]:
    """The leaf that each training task of the compiled graph gets, by the task's work folder."""
    from google.protobuf.json_format import MessageToDict

    document = MessageToDict(
        build_pipeline("training", config, folder="/run", pods=Pods("/data")).pipeline_spec
    )
    found = {}
    for graph in (one["dag"] for one in document["components"].values() if "dag" in one):
        for task in graph["tasks"].values():
            arguments = task.get("inputs", {}).get("parameters", {})
            if "work_folder" in arguments:
                text = {
                    name: value["runtimeValue"]["constant"]
                    for name, value in arguments.items()
                    if name != "token"
                }
                found[text["work_folder"]] = json.loads(text["leaf"])
    return found


def test_both_are_trained_each_in_a_folder_of_its_own():
    found = trained(demo(*BOTH))
    assert set(found) == {f"/run/experts/{name}" for name in ("median", "lightgbm", "lightgbm_rich")}
    rich = found["/run/experts/lightgbm_rich"]
    assert (rich["expert"], rich["module"]) == ("lightgbm_rich", "components.experts.families.lightgbm")
    assert "module" not in found["/run/experts/lightgbm"], "its own"


def with_selection(document: dict) -> set[str]:
    """The experts of a pipeline, as it is compiled, that get chosen inputs."""
    found = set()
    for graph in (one["dag"] for one in document["components"].values() if "dag" in one):
        for task in graph["tasks"].values():
            inputs = task.get("inputs", {})
            if "work_folder" in inputs.get("parameters", {}) and "selection" in inputs.get("artifacts", {}):
                found.add(Path(inputs["parameters"]["work_folder"]["runtimeValue"]["constant"]).name)
    return found


@pytest.mark.parametrize(
    ("name", "chosen"), [("lightgbm", {"lightgbm", "lightgbm_rich"}), ("lightgbm_rich", {"lightgbm_rich"})]
)
def test_a_list_of_experts_means_both_by_the_expert_and_one_by_its_name(name, chosen):
    from google.protobuf.json_format import MessageToDict

    config = demo(
        *BOTH,
        "cluster.gpu=1",
        f"experts.gpu=[{name}]",
        "selection.mode=quick",
        f"selection.experts=[{name}]",
    )
    pods = Pods(data="/data")
    pipeline = build_pipeline("training", config, folder="/run", pods=pods)
    document = MessageToDict(pipeline.pipeline_spec)
    assert with_selection(document) == chosen
    executors = document["deploymentSpec"]["executors"].values()
    assert sum("accelerator" in str(executor) for executor in executors) == len(chosen)


def test_inputs_are_not_chosen_for_leaves_of_coarser_periods():
    from google.protobuf.json_format import MessageToDict

    def chosen_for(experts: str) -> set[str]:
        config = demo(
            "market.period=1h",
            "experts.leaves=[lightgbm/1h/base, lightgbm/1d/base]",
            "selection.mode=quick",
            f"selection.experts={experts}",
        )
        pipeline = build_pipeline("training", config, folder="/run")
        return with_selection(MessageToDict(pipeline.pipeline_spec))

    assert chosen_for("[lightgbm]") == chosen_for("[]") == {"lightgbm"}
    with pytest.raises(ConfigError, match=r"selection.experts names 'lightgbm_1d'.* among those of 1h only"):
        chosen_for("[lightgbm_1d]")


def test_shipped_configs_resolve_and_one_uses_ensemble_and_regimes():
    used = set()
    for path in CONFIGS.glob("*.yaml"):
        config = load_config(path)
        leaves = resolve_leaves(config)
        assert unused_overrides(config) == []
        used |= {"ensemble" for leaf in leaves if leaf.ensemble > 1}
        used |= {"regimes" for leaf in leaves if leaf.regimes}
    assert used == {"ensemble", "regimes"}
