"""A small run with two bundles, made once for all tests of serving, and copies of it that a test
may spoil.
"""

import dataclasses
import shutil

import pytest

from tests.serving.small_champion import SmallRun, make_run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> SmallRun:
    """The run itself; leave it as it is."""
    return make_run(tmp_path_factory.mktemp("small") / "run")


@pytest.fixture
def run_copy(small_run, tmp_path) -> SmallRun:
    """A copy of the run's folder for one test."""
    return copy_run(small_run, tmp_path / "run")


def copy_run(run: SmallRun, folder) -> SmallRun:
    """The run in another folder, its bundles included."""
    shutil.copytree(run.folder, folder)
    return dataclasses.replace(
        run, folder=folder, bundles=[folder / "bundles" / bundle.name for bundle in run.bundles]
    )
