"""The image's build files: what they copy exists, and nothing but code enters the build. No engine needed."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from components.image import IMAGE

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra" / "image" / "Dockerfile"
SOURCES = {"components", "feature_repo", "pipelines", "serving"}
FILES = {
    *("requirements.lock", "pyproject.toml", "README.md", "LICENSE"),
    *("infra/image/added.sh", "infra/image/serving.txt"),
}
WHEELS = ("infra/image/wheels/", "infra/image/gpu-wheels/")


def copied() -> list[str]:
    """What the Dockerfile copies from the build context."""
    lines = [
        line.split()
        for line in DOCKERFILE.read_text().splitlines()
        if line.startswith("COPY ") and "--from=" not in line
    ]
    return [source for line in lines for source in line[1:-1]]


def context(root: Path) -> set[str]:
    """Files that can be copied when `root` is built, by the Docker SDK's own reading of .dockerignore, which
    always lets itself through.
    """
    names = exclude_paths(str(root), (ROOT / ".dockerignore").read_text().splitlines())
    return {name for name in names if (root / name).is_file()} - {".dockerignore"}


def test_what_the_dockerfile_copies_is_there():
    sources = copied()
    assert set(sources) >= SOURCES | FILES
    missing = [source for source in sources if "*" not in source and not (ROOT / source).exists()]
    assert missing == []


def test_every_package_of_the_project_is_copied():
    packages = re.search(r"include = \[(.*)\]", (ROOT / "pyproject.toml").read_text())[1]
    assert {name.strip(' "*') for name in packages.split(",")} <= set(copied())


@pytest.fixture
def tree(tmp_path):
    """A checkout as it looks after some use."""
    for name in [
        "requirements.lock",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "infra/image/added.sh",
        "infra/image/serving.txt",
        "components/market/load.py",
        "pipelines/configs/demo.yaml",
        "infra/image/wheels/kfp.whl",
        "infra/image/gpu-wheels/torch.whl",
        "data/us_equity_daily.parquet",
        "runs/demo/report.html",
        ".venv/bin/python",
        ".git/config",
        ".env",
        "components/.cache/x",
        "serving/.env",
        "components/market/__pycache__/load.pyc",
        "tests/test_a.py",
        "infra/image/Dockerfile",
        "shared/facts.md",
        "secrets.yaml",
    ]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def test_data_runs_history_and_secrets_stay_out_of_the_build(tree):
    assert context(tree) == FILES | {
        "components/market/load.py",
        "pipelines/configs/demo.yaml",
        "infra/image/wheels/kfp.whl",
        "infra/image/gpu-wheels/torch.whl",
    }


def test_this_checkout_brings_only_code_into_the_build():
    names = {name for name in context(ROOT) if not name.startswith(WHEELS)}
    assert {name.split("/")[0] for name in names - FILES} == SOURCES
    assert {Path(name).suffix for name in names} <= {
        ".py",
        ".yaml",
        ".css",
        ".js",
        ".html",
        ".toml",
        ".md",
        ".lock",
        ".sh",
        ".txt",
        "",
    }
    assert max((ROOT / name).stat().st_size for name in names) < 1_000_000


def test_the_image_has_the_projects_name_and_version():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert f"alphaloop-python:{version}" == IMAGE
    said = DOCKERFILE.read_text()
    assert f"--target tasks-cpu -t {IMAGE} ." in said
    assert f"--target tasks-gpu -t {IMAGE}-gpu ." in said
    assert f"--target serving -t alphaloop-serving:{version} ." in said


def test_every_target_runs_as_a_numeric_user_who_is_not_root():
    """A cluster that demands `runAsNonRoot` knows of a named user not whether it is root."""
    final = {"serving", "tasks-cpu", "tasks-gpu"}
    parents, users = {}, {}
    for line in DOCKERFILE.read_text().splitlines():
        if line.startswith("FROM "):
            stage = line.split()[-1]
            parents[stage] = line.split()[1]
        if line.startswith("USER "):
            users[stage] = line.split()[1]
    assert final <= set(parents)
    for stage in final:
        above = stage
        while above not in users:
            above = parents[above]
        assert re.fullmatch(r"[1-9]\d{4,}:[1-9]\d{4,}", users[above])


def test_what_service_and_registry_are_given_is_of_the_lock():
    held = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    lines = (ROOT / "infra" / "image" / "serving.txt").read_text().splitlines()
    named = {line.partition("[")[0] for line in lines if not line.startswith("#")}
    assert named <= held
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    server = {re.split("[>=<]", line)[0] for line in project["optional-dependencies"]["server"]}
    assert server <= named  # the manifests start MLflow from this image
    assert named.isdisjoint({"torch", "lightgbm", "xgboost-cpu", "evidently", "great-expectations", "kfp"})


@pytest.mark.parametrize("script", ["base.sh", "added.sh"])
def test_the_scripts_are_sound_shell(script):
    subprocess.run(["sh", "-n", ROOT / "infra" / "image" / script], check=True)


def test_what_a_command_adds_is_kept_and_nothing_else(tmp_path):
    """On a root of its own, whose paths stand in the script."""
    text = (ROOT / "infra" / "image" / "added.sh").read_text()
    for place in ("/added", "/tmp/before"):
        text = text.replace(place, f"{tmp_path}{place}")
    script = tmp_path / "added.sh"
    script.write_text(text.replace("\ncd /\n", f"\ncd {tmp_path}\n"))
    (tmp_path / "tmp").mkdir()
    packages = tmp_path / "opt" / "alphaloop" / "lib"
    packages.mkdir(parents=True)
    (packages / "there before").write_text("x")
    subprocess.run(
        ["sh", script, "sh", "-c", f"sleep 0.1; echo y > '{packages}/a new one'; ln -s x {packages}/link"],
        check=True,
    )
    found = {path.name for path in (tmp_path / "added").rglob("*") if not path.is_dir()}
    assert found == {"a new one", "link"}
