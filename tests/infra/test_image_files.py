"""The image's build files: what they copy exists, and nothing but code enters the build. No engine needed."""

import re
import subprocess
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from components.image import IMAGE

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra" / "image" / "Dockerfile"
SOURCES = {"components", "feature_repo", "pipelines", "serving"}
FILES = {"requirements.lock", "pyproject.toml", "README.md", "LICENSE"}


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
        "components/market/load.py",
        "pipelines/configs/demo.yaml",
        "infra/image/wheels/kfp.whl",
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
    }


def test_this_checkout_brings_only_code_into_the_build():
    names = {name for name in context(ROOT) if not name.startswith("infra/image/wheels/")}
    assert {name.split("/")[0] for name in names} <= SOURCES | FILES
    assert {Path(name).suffix for name in names} <= {
        ".py",
        ".yaml",
        ".css",
        ".js",
        ".html",
        ".toml",
        ".md",
        ".lock",
        "",
    }
    assert max((ROOT / name).stat().st_size for name in names) < 1_000_000


def test_the_image_has_the_projects_name_and_version():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert f"alphaloop-python:{version}" == IMAGE
    assert f"-t {IMAGE} ." in DOCKERFILE.read_text()


def test_the_base_script_is_sound_shell():
    subprocess.run(["sh", "-n", ROOT / "infra" / "image" / "base.sh"], check=True)
