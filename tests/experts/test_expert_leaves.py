"""Config leaves: what they resolve to, and what a broken one says."""

import subprocess
import sys
from pathlib import Path

import pytest

import pipelines
from components.experts.leaves import known_experts, list_leaves, load_leaf
from components.settings import ConfigError
from components.timeline.periods import PERIODS, TICK_LENGTHS

LEAVES = Path(pipelines.__file__).parent / "configs" / "experts"


def write(folder, text):
    path = folder / "lightgbm" / "1d" / "base.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_shipped_leaves_resolve():
    names = list_leaves(LEAVES)
    with_rich = {
        "adaptive_tft",
        "elasticnet",
        "gru",
        "lightgbm",
        "median_regression",
        "patchtst",
        "tft",
        "xgboost",
    }
    expected = [
        (expert, period, modality)
        for expert in ("median", *with_rich)
        for period in PERIODS
        for modality in ("base", "rich")
        if modality == "base" or expert in with_rich
    ]
    of_ticks = ("causal_cnn", "elasticnet", "lightgbm", "median", "touch_imbalance")
    expected += [(expert, period, "base") for expert in of_ticks for period in TICK_LENGTHS]
    assert names == sorted("/".join(parts) for parts in expected)
    for name in names:
        leaf = load_leaf(LEAVES / f"{name}.yaml")
        assert f"{leaf.expert}/{leaf.period}/{leaf.modality}" == name


def test_protocol_is_no_expert():
    assert {"median", "elasticnet", "xgboost", "lightgbm"} <= set(known_experts())
    assert "protocol" not in known_experts()


def test_overrides_replace_settings(tmp_path):
    path = write(tmp_path, "expert: lightgbm\nperiod: 1d\nsettings:\n  leaves: 9\n")
    leaf = load_leaf(path, {"lightgbm": {"rounds": 3}})
    assert (leaf.settings["leaves"], leaf.settings["rounds"], leaf.settings["bins"]) == (9, 3, 63)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("expert: lightgbm\n period: 1d\n", "line 2: not valid YAML"),
        ("expert: lightgbm\nperiod: 1d\nseting: 1\n", "line 3: unknown key 'seting'"),
        (
            "expert: lightgbm\nperiod: 1d\nsettings:\n  leafs: 9\n",
            "line 4: unknown key 'leafs'. Did you mean 'leaves'",
        ),
        ("expert: lightgbm\nperiod: 1d\nsettings:\n  leaves: many\n", "line 4: leaves"),
        ("expert: lightgbn\nperiod: 1d\n", "no expert 'lightgbn'. Did you mean 'lightgbm'.*median"),
        ("expert: mine\nperiod: 1d\nmodule: nowhere.at_all\n", "can't be imported"),
        ("expert: mine\nperiod: 1d\nmodule: json\n", "has no class 'Settings'"),
        ("expert: lightgbm\nperiod: weekly\n", "line 2: period"),
    ],
)
def test_a_broken_leaf_says_where(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_leaf(write(tmp_path, text))


@pytest.mark.parametrize("code", [0, None, "I am a script"])
def test_an_experts_module_that_ends_python_is_told_of(tmp_path, monkeypatch, code):
    (tmp_path / "a_script.py").write_text(f"import sys\nsys.exit({code!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"'a_script' of expert 'mine' can't .* ends Python while it is"):
        load_leaf(write(tmp_path, "expert: mine\nperiod: 1d\nmodule: a_script\n"))


def test_a_missing_leaf_lists_those_there(tmp_path):
    path = write(tmp_path, "expert: lightgbm\nperiod: 1d\n")
    with pytest.raises(ConfigError, match="Leaves there: lightgbm/1d/base"):
        load_leaf(path.parent.parent / "4h" / "base.yaml")


def test_overrides_are_merged_section_by_section(tmp_path):
    path = tmp_path / "patchtst" / "1d" / "base.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        "expert: patchtst\nperiod: 1d\nsettings: {width: 8, training: {epochs: 7, batch_windows: 64}}\n"
    )
    settings = load_leaf(path, {"patchtst": {"training": {"epochs": 2}, "heads": 1}}).settings
    assert (
        settings["width"],
        settings["heads"],
        settings["training"]["epochs"],
        settings["training"]["batch_windows"],
    ) == (8, 1, 2, 64)
    with pytest.raises(ConfigError, match=r"experts.overrides.patchtst.*epoch"):
        load_leaf(path, {"patchtst": {"training": {"epoch": 2}}})


def test_only_neural_experts_take_several_processes(tmp_path):
    with pytest.raises(ConfigError, match="no neural expert"):
        load_leaf(write(tmp_path, "expert: lightgbm\nperiod: 1d\nprocesses: 2\n"))


def test_reading_a_leaf_does_not_import_torch():
    code = (
        f"import sys; from components.experts.leaves import load_leaf; [load_leaf(r'{LEAVES}/' + n +"
        " '/1d/base.yaml') for n in ('patchtst', 'tft', 'adaptive_tft')]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("horizon: 0", "horizon"),
        ("tracking: 'http://me:secret@host'", "MLFLOW_TRACKING_PASSWORD"),
        ("settings: {learning_rate: .inf}", "learning_rate"),
    ],
)
def test_what_a_leaf_can_not_have_is_refused_at_once(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as refusal:
        load_leaf(write(tmp_path, f"expert: lightgbm\nperiod: 1d\n{text}\n"))
    assert "secret@" not in str(refusal.value)


@pytest.mark.parametrize("expert", ["elasticnet", "lightgbm", "xgboost"])
def test_the_transform_of_before_is_told_with_its_new_place(tmp_path, expert):
    said = "'.*target_transform'. It was replaced by labels.transform"
    with pytest.raises(ConfigError, match=said):
        load_leaf(write(tmp_path, f"expert: {expert}\nperiod: 1d\nsettings: {{target_transform: none}}\n"))
    path = write(tmp_path / "own", f"expert: {expert}\nperiod: 1d\n")
    with pytest.raises(ConfigError, match=said):
        load_leaf(path, {expert: {"target_transform": "none"}})
