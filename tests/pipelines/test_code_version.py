"""What the cache key of a stage depends on, on a tree made for it."""

import pytest

from pipelines import code_version as module


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small repository in place of this one."""
    for name in ("stage_a", "stage_b", *module.GROUND):
        (tmp_path / "components" / name).mkdir(parents=True)
        (tmp_path / "components" / name / "code.py").write_text(f"NAME = '{name}'\n")
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "views.py").write_text("")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.delenv(module.IMAGE_VARIABLE, raising=False)
    module._folder_hash.cache_clear()
    module._environment.cache_clear()
    yield tmp_path
    module._folder_hash.cache_clear()
    module._environment.cache_clear()


def versions(tree) -> dict[str, str]:
    module._folder_hash.cache_clear()
    return {
        "a": module.code_version("stage_a"),
        "b": module.code_version("stage_b"),
        "a with repo": module.code_version("stage_a", also=("feature_repo",)),
    }


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_a_stage_depends_on_its_own_code_alone(tree):
    before = versions(tree)
    (tree / "components" / "stage_a" / "code.py").write_text("NAME = 'other'\n")
    assert changed(before, versions(tree)) == {"a", "a with repo"}


def test_every_stage_depends_on_the_ground_floor(tree):
    for name in module.GROUND:
        before = versions(tree)
        (tree / "components" / name / "code.py").write_text("changed = True\n")
        assert changed(before, versions(tree)) == {"a", "b", "a with repo"}


def test_a_new_a_renamed_and_a_non_python_file_count(tree):
    before = versions(tree)
    (tree / "components" / "stage_b" / "page.css").write_text("body {}")
    after = versions(tree)
    assert changed(before, after) == {"b"}
    (tree / "components" / "stage_b" / "page.css").rename(tree / "components" / "stage_b" / "style.css")
    assert changed(after, versions(tree)) == {"b"}


def test_further_folders_count_where_they_are_named(tree):
    before = versions(tree)
    (tree / "feature_repo" / "views.py").write_text("VIEWS = []\n")
    assert changed(before, versions(tree)) == {"a with repo"}


def test_bytecode_does_not_count(tree):
    before = versions(tree)
    cache = tree / "components" / "stage_a" / "__pycache__"
    cache.mkdir()
    (cache / "code.cpython-311.pyc").write_bytes(b"0")
    assert changed(before, versions(tree)) == set()


def test_the_environment_counts(tree, monkeypatch):
    before = versions(tree)
    monkeypatch.setenv(module.IMAGE_VARIABLE, "sha256:another")
    module._environment.cache_clear()
    assert changed(before, versions(tree)) == {"a", "b", "a with repo"}


def test_an_expert_of_ones_own_counts_with_its_package(tmp_path, monkeypatch):
    package = tmp_path / "own_experts_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text("A = 1\n")
    (package / "layers.py").write_text("B = 1\n")
    (tmp_path / "own_expert_module.py").write_text("C = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = {
        name: module.module_version(name) for name in ("own_experts_package.model", "own_expert_module")
    }
    assert before == {name: module.module_version(name) for name in before}
    (package / "layers.py").write_text("B = 2\n")
    assert module.module_version("own_experts_package.model") != before["own_experts_package.model"]
    assert module.module_version("own_expert_module") == before["own_expert_module"]
    (tmp_path / "own_expert_module.py").write_text("C = 2\n")
    assert module.module_version("own_expert_module") != before["own_expert_module"]
    assert module.module_version(None) == ""


def test_a_package_that_is_found_twice_changes_nothing(tree, monkeypatch):
    found, before = list(module.distributions()), versions(tree)
    monkeypatch.setattr(module, "distributions", lambda: [*found, found[0]])
    module._environment.cache_clear()
    assert versions(tree) == before
