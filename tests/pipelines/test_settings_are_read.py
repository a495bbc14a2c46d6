"""Every setting has an effect: some code outside of the checks of its own section reads it."""

import ast
from functools import cache
from pathlib import Path

import pytest

from components.features.catalog import catalog
from components.features.config import Settings as FactorSettings
from pipelines.commands.settings import setting_groups

ROOT = Path(__file__).parents[2]
# Sections whose settings act without being named: components/features/catalog.py goes through the switches
# of all groups and takes those that are on.
GONE_THROUGH = ("features.groups.",)


def read_names(sources: dict[str, str], models: frozenset[str]) -> set[str]:
    """Names that are read as an attribute, or given as text to getattr-like code; within a section's class
    only outside of its validators, which judge a value and do nothing with it.
    """
    return set().union(*(read_in(text, models) for text in sources.values()))


@cache
def read_in(text: str, models: frozenset[str]) -> frozenset[str]:
    """The same of one file."""
    tree = ast.parse(text)
    checks = {
        inner
        for section in ast.walk(tree)
        if isinstance(section, ast.ClassDef) and section.name in models
        for method in section.body
        if isinstance(method, ast.FunctionDef)
        and any("validator" in ast.unparse(one) for one in method.decorator_list)
        for inner in ast.walk(method)
    }
    return frozenset(
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node not in checks
    )


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    folders = ("components", "pipelines", "serving", "feature_repo")
    return {
        path.as_posix(): path.read_text(encoding="utf-8")
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    }


def unread(sources: dict[str, str]) -> list[str]:
    groups = setting_groups()
    read = read_names(sources, frozenset(group.model.__name__ for group in groups))
    return sorted(
        setting.key
        for group in groups
        for setting in group.settings
        if setting.key.rpartition(".")[2] not in read
    )


def test_every_setting_is_read_by_some_code(sources):
    assert [key for key in unread(sources) if not key.startswith(GONE_THROUGH)] == []


@pytest.mark.parametrize("group", ["candles", "trend", "alpha158"])
def test_a_switch_that_is_gone_through_has_its_effect(group):
    with_it = catalog(FactorSettings.model_validate({"groups": {group: True}}), "1d")
    without = catalog(FactorSettings.model_validate({"groups": {group: False}}), "1d")
    assert any(entry.group == group for entry in with_it)
    assert not any(entry.group == group for entry in without)


def test_a_setting_whose_reader_goes_is_found(sources):
    without = {path: text.replace(".embargo_bars", ".purge_bars") for path, text in sources.items()}
    assert "timeline.embargo_bars" in unread(without)
    only_checked = {path: text.replace(".retries", ".host") for path, text in sources.items()}
    assert "cluster.retries" in unread(only_checked)
