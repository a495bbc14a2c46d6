"""What a compiled pipeline tells its tasks of the code and the image that they were compiled with."""

from pathlib import Path

import pytest

from components.image import IMAGE
from components.processes.sources import module_version, task_sources
from pipelines.commands.printed import told_image
from pipelines.config import load_config
from pipelines.runners.containers import ContainerError, pinned_image, require_image_name
from pipelines.runners.ir import compile_pipeline, read_ir

DEMO = Path(__file__).parents[2] / "pipelines" / "configs" / "demo.yaml"
DIGEST = f"registry.example/alphaloop@sha256:{'0' * 64}"
EXPERT = """
from components.experts.families.median import Expert, Settings
"""


def environments(ir: Path) -> list[dict[str, str]]:
    """Environment of each task."""
    executors = read_ir(ir)[0]["deploymentSpec"]["executors"].values()
    return [{one["name"]: one["value"] for one in found["container"].get("env", [])} for found in executors]


@pytest.fixture
def settings(tmp_path, monkeypatch) -> list[str]:
    """A config with a leaf whose expert is a module of the user's own."""
    (tmp_path / "expert_of_mine.py").write_text(EXPERT)
    leaf = tmp_path / "leaves" / "mine" / "1d" / "base.yaml"
    leaf.parent.mkdir(parents=True)
    leaf.write_text("expert: mine\nperiod: 1d\nmodality: base\nmodule: expert_of_mine\nsettings: {}\n")
    monkeypatch.chdir(tmp_path)
    return [f"experts.folder={tmp_path / 'leaves'}", "experts.leaves=[median/1d/base,mine/1d/base]"]


def test_every_task_is_told_what_it_was_compiled_with(settings, tmp_path):
    config = load_config(DEMO, settings)
    told = environments(compile_pipeline("training", config, tmp_path / "ir.yaml", image=DIGEST))
    assert len(told) > 10
    for environment in told:
        assert environment["ALPHALOOP_SOURCES"] == task_sources()
        assert environment["ALPHALOOP_MODULES"] == f"expert_of_mine={module_version('expert_of_mine')}"
        assert environment["ALPHALOOP_IMAGE"] == DIGEST


def test_a_pipeline_without_experts_asks_the_image_for_none(settings, tmp_path):
    for environment in environments(
        compile_pipeline("materialisation", load_config(DEMO, settings), tmp_path / "ir.yaml")
    ):
        assert environment["ALPHALOOP_SOURCES"] == task_sources()
        assert "ALPHALOOP_MODULES" not in environment
        assert environment["ALPHALOOP_IMAGE"] == IMAGE


def test_no_setting_gets_past_the_check(tmp_path):
    config = load_config(DEMO, ["cluster.environment={ALPHALOOP_SOURCES: mine, ALPHALOOP_OTHER: x}"])
    for environment in environments(compile_pipeline("materialisation", config, tmp_path / "ir.yaml")):
        assert environment["ALPHALOOP_SOURCES"] == task_sources()
        assert environment["ALPHALOOP_OTHER"] == "x"


def test_an_image_stays_as_it_is_where_no_engine_knows_its_digest(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    assert pinned_image("registry.example:5000/alphaloop:1") == "registry.example:5000/alphaloop:1"
    assert told_image("registry.example/alphaloop:1") == "registry.example/alphaloop:1"
    assert "a tag that may be moved" in capsys.readouterr().out
    assert told_image(DIGEST) == DIGEST
    assert "moved" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "image",
    [
        "alphaloop-python:0.8.0",
        "localhost:5000/a/b_c.d:1-x",
        "Registry.example/a",
        f"{IMAGE}@sha256:{'0f' * 32}",
    ],
)
def test_what_a_cluster_can_pull_passes(image):
    require_image_name(image)


@pytest.mark.parametrize(
    "image",
    ["registry/a@sha256:abc", "Alphaloop:1", "a b", "a:", "ada:Gr3enApple@registry/a:1", "https://host/a:1"],
)
def test_what_no_cluster_could_pull_is_refused_before_anything_is_written(
    image, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContainerError, match="no name of an image") as raised:
        told_image(image)
    assert "Gr3enApple" not in str(raised.value) + capsys.readouterr().out
