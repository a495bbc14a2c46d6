"""What the cache key of a task depends on: on a tree made for it, and for the tasks of the house."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict

from components.contracts.documents.experts import SHARED_CODE_END
from components.experts.leaves import Leaf
from components.processes import sources
from pipelines import code_version as module
from pipelines import reach
from pipelines.config import Config, load_config
from pipelines.graphs import data, experts, judging, replay, research, retraining
from pipelines.graphs.arrange import Pods, gather
from pipelines.graphs.build import build_pipeline
from pipelines.leaves import resolve_leaf

GOLDEN = Path(__file__).parent / "golden" / "cache_keys.json"
DEMO = module.ROOT / "pipelines" / "configs" / "demo.yaml"
MODULES = ("features.build", "labels.build", "features.in_pieces", "labels.in_pieces")
BUILDERS = tuple(f"components.{name}" for name in MODULES)
FILES = {
    "__init__.py": "",
    "stage_a/__init__.py": "",
    "stage_a/component.py": (
        "import kfp\n\n\n@kfp.door\ndef door_a(x, page: Output[HTML]):\n"
        "    '''What it does.'''\n    from components.stage_a.run import"
        " run\n\n    run(x)\n\n\n"
        "@kfp.door\ndef other_a(x):\n    from components.ground.words import say\n\n    say(x)\n"
        "\n\n@kfp.door\ndef table_a(x, table: Output[Dataset]):\n"
        "    from components.stage_a.run import run\n\n    run(x)\n"
    ),
    "stage_a/run.py": (
        "'''What the door calls.'''\n\nimport os\n\nimport numpy as np\n\n"
        "from components.ground import words\n\n\n"
        "def run(x):\n    '''Run.'''\n"
        "    from components.stage_a.page import write\n\n    return write(words.say(x))\n"
    ),
    "stage_a/page.py": "STYLE = 'own.css'\n\n\ndef write(x):\n    return render('stage_a/page.html', x=x)\n",
    "stage_a/page.html": '{% extends "base/page.html" %}{{ source("stage_a/x.js") }}\n',
    "stage_a/own.css": "body {}\n",
    "stage_a/x.js": "draw()\n",
    "stage_a/unused.py": "A = 1\n",
    "stage_a/unused.html": "unused\n",
    "base/page.html": "<style>{{ source('base/style.css') }}</style>\n",
    "base/style.css": "p {}\n",
    "ground/__init__.py": "",
    "ground/words.py": "NAMES = {'a', 'b'}\n\n\ndef say(x):\n    return x in NAMES\n",
    "stage_b/__init__.py": "from components.stage_b.inner import f\n",
    "stage_b/inner.py": "def f():\n    return load('components.stage_b.worker')\n",
    "stage_b/worker.py": "W = 1\n",
    "stage_b/loaded.py": "FOUND = find('components.stage_b.kinds.' + ('one' if x else 'two'))\n",
    "stage_b/kinds/__init__.py": "",
    "stage_b/kinds/one.py": "K = 1\n",
    "stage_b/kinds/two.py": "K = 2\n",
    "stage_b/kinds/three.py": "K = 3\n",
    "stage_b/caught.py": "def f():\n    try:\n        f()\n    except ValueError:\n        pass\n",
    "stage_b/component.py": "@door\ndef door_b(x):\n"
    "    import components.stage_b.loaded\n    import components.stage_b.caught\n",
}
CACHES = (
    *(module.version_at, module.own_modules_of, module._environment, module._installed, module._extras),
    *(sources._folder_hash, reach._own_modules),
)
# `a` has a page among its outputs; `table` runs the same code and has none.
DOORS = {
    "a": ("stage_a", "door_a"),
    "table": ("stage_a", "table_a"),
    "other": ("stage_a", "other_a"),
    "b": ("stage_b", "door_b"),
}


@pytest.fixture
def tree(tmp_path):
    """A small repository in place of this one."""
    for name, text in FILES.items():
        path = tmp_path / "components" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for cached in CACHES:
        cached.cache_clear()


def versions(tree: Path) -> dict[str, str]:
    forget()
    return {
        name: module.version_at(tree, f"components.{stage}.component", door)
        for name, (stage, door) in DOORS.items()
    }


def renewed(tree: Path, change: Callable[[], object]) -> set[str]:
    """Names of the doors whose version another state of the tree changes."""
    before = versions(tree)
    change()
    after = versions(tree)
    return {name for name in before if before[name] != after[name]}


def edit(path: Path, old: str, new: str) -> Callable[[], object]:
    text = path.read_text()
    assert old in text
    return lambda: path.write_text(text.replace(old, new))


def test_the_reach_of_a_door(tree):
    found = module.door_reach(tree, "components.stage_a.component", "door_a")
    modules = ["", ".ground", ".ground.words", ".stage_a", ".stage_a.page", ".stage_a.run"]
    assert found.modules == tuple(f"components{name}" for name in modules)
    resources = ["base/page.html", "base/style.css", "stage_a/own.css", "stage_a/page.html", "stage_a/x.js"]
    assert found.resources == tuple(f"components/{name}" for name in resources)
    assert found.packages == ("numpy",)


def test_the_reach_of_a_door_without_a_page_among_its_outputs(tree):
    """Code of pages is left out, with all that is reached through it alone."""
    stage = tree / "components" / "stage_a"
    words = "import jinja2\nfrom components.stage_a.unused import A\n"
    (stage / "page.py").write_text(words + (stage / "page.py").read_text())
    found = module.door_reach(tree, "components.stage_a.component", "table_a")
    modules = ["", ".ground", ".ground.words", ".stage_a", ".stage_a.run"]
    assert found.modules == tuple(f"components{name}" for name in modules)
    assert found.resources == ()
    assert found.packages == ("numpy",)
    drawn = module.door_reach(tree, "components.stage_a.component", "door_a")
    assert set(drawn.modules) - set(found.modules) == {"components.stage_a.page", "components.stage_a.unused"}
    assert drawn.packages == ("jinja2", "numpy")


@pytest.mark.parametrize(
    ("name", "draws"),
    [
        ("components.page", True),
        ("components.page.blocks", True),
        ("components.validation.page", True),
        ("components.validation.pages", False),
        ("components.experts.studies.search_page", False),
    ],
)
def test_what_counts_as_code_of_pages(name, draws):
    assert reach.is_page_code(name) is draws


def test_modules_named_in_text_count_and_their_neighbours_do_not(tree):
    found = module.door_reach(tree, "components.stage_b.component", "door_b").modules
    names = ["", ".caught", ".inner", ".kinds", ".kinds.one", ".kinds.two", ".loaded", ".worker"]
    assert found == ("components", *(f"components.stage_b{name}" for name in names))
    more = module.door_reach(
        tree, "components.stage_b.component", "door_b", ("components.stage_b.kinds.three",)
    )
    assert set(more.modules) - set(found) == {"components.stage_b.kinds.three"}


@pytest.mark.parametrize(
    ("file", "old", "new", "doors"),
    [
        ("stage_a/run.py", "words.say(x)", "words.say(x + 1)", {"a", "table"}),
        ("stage_a/page.py", "STYLE = ", "STYLES = ", {"a"}),
        ("ground/words.py", "x in NAMES", "x not in NAMES", {"a", "table", "other"}),
        ("ground/words.py", "'b'", "'c'", {"a", "table", "other"}),
        ("__init__.py", "", "A = 1\n", {"a", "table", "other", "b"}),
        ("stage_a/page.html", "{{", "{{ 1 }}{{", {"a"}),
        ("stage_a/own.css", "{}", "{ margin: 0 }", {"a"}),
        ("stage_a/x.js", "draw()", "draw(1)", {"a"}),
        ("base/page.html", "style>", "b>", {"a"}),
        ("base/style.css", "{}", "{ margin: 0 }", {"a"}),
        ("stage_b/worker.py", "1", "2", {"b"}),
        ("stage_b/kinds/two.py", "2", "3", {"b"}),
        ("stage_a/component.py", "    run(x)", "    run(x, x)", {"a", "table"}),
        ("stage_a/unused.py", "1", "2", set()),
        ("stage_a/unused.html", "unused", "changed", set()),
        ("stage_b/kinds/three.py", "3", "4", set()),
        ("stage_a/component.py", "What it does.", "What it really does.", set()),
        ("stage_a/run.py", "'''What the door calls.'''", "'''What the\n\ndoor calls.'''", set()),
        ("stage_a/run.py", "    '''Run.'''", "    '''Run it.'''  # for good\n", set()),
        ("stage_a/run.py", "    '''Run.'''\n", "", set()),
        ("stage_b/caught.py", "def f():\n", "def f():\n    '''Added.'''\n", set()),
        ("stage_b/caught.py", "        f()\n", "        f()\n        g()\n", {"b"}),
    ],
)
def test_what_an_edit_renews(file, old, new, doors, tree):
    assert renewed(tree, edit(tree / "components" / file, old, new)) == doors


def test_a_file_that_asserts_counts_with_its_assertions(tree):
    words = tree / "components" / "ground" / "words.py"
    words.write_text("def say(x):\n    assert x\n")
    assert renewed(tree, edit(words, "assert x", "assert not x")) == {"a", "table", "other"}


def test_sources_that_are_known_are_not_compiled_again_and_an_edited_one_is(tree, tmp_path, monkeypatch):
    kept, read = tmp_path / "kept.json", []
    compiled = reach._compiled_source
    monkeypatch.setattr(reach, "_compiled_source", lambda *told: read.append(told[1]) or compiled(*told))

    def known() -> tuple[dict[str, str], list[str]]:
        """Versions as a new process finds them, and the files that it compiled."""
        monkeypatch.setattr(reach, "_known", {})
        monkeypatch.setattr(reach, "_met", set())
        reach._read_source.cache_clear()
        read.clear()
        with reach.known_sources(kept):
            return versions(tree), list(read)

    first, all_read = known()
    assert all_read
    assert known() == (first, [])
    source = tree / "components/ground/words.py"
    text, about = source.read_text(), source.stat()
    source.write_text(text.replace("'b'", "'c'"))
    os.utime(source, ns=(about.st_atime_ns, about.st_mtime_ns))
    edited, read_again = known()
    assert edited != first
    assert read_again == ["words.py"]
    for damaged in ("cut off", "[1]", '{"a": 1}', '{"a": []}', '{"a": {"x": 1}}', '{"a": ["d", null, []]}'):
        kept.write_text(damaged)
        assert known() == (edited, all_read)
        assert known() == (edited, [])


def test_a_renamed_template_counts(tree):
    def rename() -> None:
        stage = tree / "components" / "stage_a"
        shutil.move(stage / "page.html", stage / "view.html")
        page = stage / "page.py"
        page.write_text(page.read_text().replace("page.html", "view.html"))

    assert renewed(tree, rename) == {"a"}


def test_the_version_is_the_same_in_every_process():
    """Sets and dictionaries of names have another order where Python's hashes have another seed."""
    text = (
        "from pipelines.code_version import code_version; from components.gates.component import judge;"
        " print(code_version(judge))"
    )
    said = {
        subprocess.check_output([sys.executable, "-c", text], env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_bytecode_does_not_count(tree):
    cache = tree / "components" / "stage_a" / "__pycache__"
    cache.mkdir()
    assert renewed(tree, lambda: (cache / "run.cpython-311.pyc").write_bytes(b"0")) == set()


def test_an_import_far_into_a_long_function_counts(tree):
    names = "".join(f"    use(name_{number})\n" for number in range(300))
    (tree / "components" / "stage_a" / "page.py").write_text(
        f"def write(x):\n{names}    from components.stage_b import worker as w\n    return w\n"
    )
    found = module.door_reach(tree, "components.stage_a.component", "door_a")
    assert "components.stage_b.worker" in found.modules


@pytest.fixture
def installed(monkeypatch):
    """Some distributions: numpy wants a runtime, lightgbm wants numpy, kfp carries."""
    monkeypatch.delenv(module.IMAGE_ID_VARIABLE, raising=False)

    def install(**newer: str) -> None:
        found = {
            "numpy": module.Installed("2.4", ("blas-runtime>=1",), frozenset({"numpy"})),
            "blas-runtime": module.Installed("1.0", (), frozenset({"blas"})),
            "lightgbm": module.Installed("4.7", ("numpy", "dask; extra == 'dask'"), frozenset({"lightgbm"})),
            "dask": module.Installed("1.0", (), frozenset({"dask"})),
            "kfp": module.Installed("2.17", ("numpy",), frozenset({"kfp"})),
            "alphaloop": module.Installed("0.4", ("lightgbm[dask]>=4",), frozenset({"components"})),
        }
        for name, version in newer.items():
            known = found[name.replace("_", "-")]
            found[name.replace("_", "-")] = module.Installed(version, known.requires, known.provides)
        monkeypatch.setattr(module, "_installed", lambda: found)
        monkeypatch.setattr(module, "_extras", lambda: {"lightgbm": {"", "dask"}})

    install()
    return install


def test_packages_count_with_what_they_require_where_they_are_imported(installed):
    assert module.required({"numpy", "kfp", "unknown"}) == ["blas-runtime", "numpy"]
    assert module.required({"lightgbm"}) == ["blas-runtime", "dask", "lightgbm", "numpy"]


@pytest.mark.parametrize(
    ("newer", "doors"),
    [
        ("numpy", {"a", "table", "b"}),
        ("blas_runtime", {"a", "table", "b"}),
        ("lightgbm", {"b"}),
        ("kfp", set()),
        ("alphaloop", set()),
    ],
)
def test_a_newer_package_renews_what_uses_it(newer, doors, installed, tree, monkeypatch):
    worker = tree / "components" / "stage_b" / "worker.py"
    worker.write_text("def w():\n    import lightgbm\n")
    before = _versions_of(tree)
    installed(**{newer: "99"})
    after = _versions_of(tree)
    assert {name for name in before if before[name] != after[name]} == doors


def _versions_of(tree: Path) -> dict[str, str]:
    """As `versions`, with the made-up distributions left in place."""
    for cached in (module.version_at, module.own_modules_of, module._environment):
        cached.cache_clear()
    return {
        name: module.version_at(tree, f"components.{stage}.component", door)
        for name, (stage, door) in DOORS.items()
    }


def test_the_image_stands_for_all_that_is_installed(tree, monkeypatch, installed):
    monkeypatch.setenv(module.IMAGE_ID_VARIABLE, "sha256:one")
    before = _versions_of(tree)
    installed(numpy="99")
    assert _versions_of(tree) == before
    monkeypatch.setenv(module.IMAGE_ID_VARIABLE, "sha256:another")
    assert all(before[name] != version for name, version in _versions_of(tree).items())


def test_the_minor_version_of_python_counts(tree, monkeypatch):
    before = versions(tree)
    monkeypatch.setattr(module, "PYTHON", "python 3.99")
    assert all(before[name] != version for name, version in versions(tree).items())


def test_a_package_that_is_found_twice_changes_nothing(tree, monkeypatch):
    found, before = list(module.distributions()), versions(tree)
    monkeypatch.setattr(module, "distributions", lambda: [*found, found[0]])
    assert versions(tree) == before


def test_what_an_older_installer_or_a_removal_left_ends_nothing(tree, tmp_path, monkeypatch):
    (tmp_path / "old-1.0.egg-info").write_text("Metadata-Version: 1.1\nName: old\nVersion: 1.0\n")
    (tmp_path / "gone-1.0.dist-info").mkdir()
    found = [*module.distributions(), *distributions(path=[str(tmp_path)])]
    monkeypatch.setattr(module, "distributions", lambda: found)
    module._installed.cache_clear()
    known = module._installed()
    assert known["old"].version == "1.0"
    assert "gone" not in known


def test_an_expert_of_ones_own_counts_with_its_package_and_what_it_uses_of_ours(tmp_path, monkeypatch):
    package = tmp_path / "own_experts_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text("from components.experts.networks.patchtst import build\n")
    (package / "layers.py").write_text("B = 1\n")
    (tmp_path / "own_expert_module.py").write_text("C = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("own_experts_package.model", "own_expert_module")

    def of(name: str) -> str:
        forget()
        return module.code_version(experts.train_expert, name)

    before = {name: of(name) for name in names}
    assert before == {name: of(name) for name in names}
    reached = module.door_reach(module.ROOT, "components.experts.component", "train_expert", names[:1])
    assert "components.experts.networks.patchtst" in reached.modules
    (package / "layers.py").write_text("B = 2\n")
    assert of("own_experts_package.model") != before["own_experts_package.model"]
    assert of("own_expert_module") == before["own_expert_module"]
    (tmp_path / "own_expert_module.py").write_text("C = 2\n")
    assert of("own_expert_module") != before["own_expert_module"]


# The house itself.


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(DEMO, ["selection.mode=quick"])


def own_doors(config: Config) -> dict[str, tuple[object, tuple[str, ...]]]:
    """Door and modules loaded by name, by task; an expert's training by the expert's name."""
    plain = [
        *(data.ingest, data.validate, data.fuse, data.build_features, data.make_labels, data.materialise),
        *(data.make_training_set, experts.select_factors, experts.make_learnable, experts.build_oof, gather),
        *(experts.stack, judging.make_reference, data.make_universe, judging.backtest, judging.judge),
        *(judging.register, experts.stack_splits),
        *(research.mine, retraining.collect_served, retraining.detect_drift, replay.live_rows),
        *(data.check_plan, data.draw_validation, data.draw_fusion, experts.draw_selection),
    ]
    families = [leaf.split("/")[0] for leaf in config.experts.leaves]
    return {
        **{door.python_func.__name__: (door, ()) for door in plain},
        "audit_leaks": (data.audit_leaks, BUILDERS),
        **{
            f"train_expert {name}": (experts.train_expert, (f"components.experts.families.{name}",))
            for name in families
        },
    }


def golden_keys(config: Config) -> dict[str, dict[str, list[str]]]:
    """Modules and files in the cache key of each task."""
    found = {}
    for task, (door, modules) in sorted(own_doors(config).items()):
        function = door.python_func
        reached = module.door_reach(module.ROOT, function.__module__, function.__name__, modules)
        found[task] = {"modules": list(reached.modules), "resources": list(reached.resources)}
    return found


def test_the_reach_of_each_task_is_the_golden_one(config):
    """After a wanted change: python -m tests.pipelines.write_golden, and look at the diff."""
    assert golden_keys(config) == json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the sources that tasks can import, to be edited."""
    root = tmp_path_factory.mktemp("house")
    for floor in sources.FLOORS:
        shutil.copytree(module.ROOT / floor, root / floor, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def house_versions(house: Path, config: Config) -> dict[str, str]:
    forget()
    return {
        task: module.version_at(house, door.python_func.__module__, door.python_func.__name__, modules)
        for task, (door, modules) in own_doors(config).items()
    }


def touched(house: Path, config: Config, pattern: str) -> set[str]:
    """Tasks that an edit of all files of a pattern renews; the files are put back."""
    before = house_versions(house, config)
    kept = {path: path.read_text() for path in house.glob(pattern) if path.is_file()}
    assert kept, pattern
    try:
        for path, text in kept.items():
            path.write_text(text + ("\nTOUCHED = 1\n" if path.suffix == ".py" else " "))
        after = house_versions(house, config)
    finally:
        for path, text in kept.items():
            path.write_text(text)
    return {task for task in before if before[task] != after[task]}


def test_touching_a_page_of_the_search_retrains_nothing(house, config):
    assert touched(house, config, "components/experts/studies/*page*") == set()


def test_touching_the_base_of_all_pages_renews_pages_and_retrains_nothing(house, config):
    found = touched(house, config, "components/page/*.*")
    assert found == {"draw_validation", "draw_fusion", "draw_selection", "audit_leaks", "mine"}


def test_touching_the_page_of_a_stage_renews_that_page(house, config):
    assert touched(house, config, "components/validation/page.*") == {"draw_validation"}
    assert touched(house, config, "components/fusion/page.*") == {"draw_fusion"}
    assert touched(house, config, "components/selection/page.*") == {"draw_selection"}


def test_the_tasks_that_draw_a_page_and_do_not_count_its_code_are_known(house, config):
    """`validate` draws one only before it fails; `detect_drift`, whose folder holds pages, and
    `collect_served` are never cached; the others draw none, and share a module with a door that does. A task
    that is not among them would go on answering with a page as it looked before: give it an output of type
    HTML.
    """
    left_out = set()
    for task, (door, modules) in own_doors(config).items():
        function = door.python_func
        path = module.ROOT.joinpath(*function.__module__.split(".")).with_suffix(".py")
        start = reach.read_source(path, function.__name__)
        whole = reach.reach_of(module.ROOT, [start], modules)
        counted = module.door_reach(module.ROOT, function.__module__, function.__name__, modules)
        if set(filter(reach.is_page_code, whole.modules)) - set(counted.modules):
            left_out.add(task)
    draw_none = {"fuse", "make_learnable", "select_factors", "make_reference"}
    assert left_out == {"validate", "detect_drift", "collect_served"} | draw_none


def test_touching_one_expert_retrains_no_other(house, config):
    assert touched(house, config, "components/experts/families/lightgbm.py") == {"train_expert lightgbm"}
    assert touched(house, config, "components/experts/networks/patch*.py") == {"train_expert patchtst"}


def test_touching_contracts_renews_everything(house, config):
    assert touched(house, config, "components/contracts/tables.py") == set(house_versions(house, config))


def test_touching_feasts_repository_renews_the_store(house, config):
    assert touched(house, config, "feature_repo/*.yaml") == {"materialise", "make_training_set"}


def test_touching_a_source_of_bars_renews_the_ingest(house, config):
    assert "ingest" in touched(house, config, "components/market/yahoo.py")


@pytest.mark.parametrize(
    ("package", "renews", "leaves"),
    [
        ("kfp", set(), {"ingest", "train_expert lightgbm", "stack", "build_features"}),
        ("lightgbm", {"train_expert lightgbm", "stack"}, {"train_expert elasticnet", "build_features"}),
        ("torch", {"train_expert patchtst"}, {"ingest", "build_features", "make_labels"}),
    ],
)
def test_a_newer_package_renews_what_imports_it(package, renews, leaves, house, config, monkeypatch):
    monkeypatch.delenv(module.IMAGE_ID_VARIABLE, raising=False)
    before = house_versions(house, config)
    found = dict(module._installed())
    known = found[package]
    found[package] = module.Installed("99.0", known.requires, known.provides)
    monkeypatch.setattr(module, "_installed", lambda: found)
    after = house_versions(house, config)
    changed = {task for task in before if before[task] != after[task]}
    assert renews <= changed
    assert not leaves & changed
    assert package != "kfp" or not changed


def test_ray_and_what_no_task_imports_renew_nothing(house, config, monkeypatch):
    """Ray carries the pieces of a task: whether it is installed, and which, is no part of what is made. Shown
    to be seen where a task's own library is concerned.
    """
    monkeypatch.delenv(module.IMAGE_ID_VARIABLE, raising=False)
    door = module.door_reach(house, experts.train_expert.python_func.__module__, "train_expert")
    assert "ray" in door.packages, "the engine can be reached"
    versions, known = [], {name: one for name, one in module._installed().items() if name != "ray"}
    for more in ({}, {"ray": "2.60.0"}, {"ray": "99.0", "no-stage-imports-it": "1.0"}, {"polars": "99.0"}):
        found = {
            name: module.Installed(version, ("msgpack>=1",), frozenset({name}))
            for name, version in more.items()
        }
        monkeypatch.setattr(
            module, "_installed", lambda found=found: {**known, "msgpack": known["numpy"], **found}
        )
        versions.append(house_versions(house, config))
    assert versions[0] == versions[1] == versions[2]
    assert versions[3]["train_expert lightgbm"] != versions[0]["train_expert lightgbm"]


def codes(config: Config, name: str) -> dict[str, tuple[str, str]]:
    """Function of the door and `code` argument of each task of a pipeline that has one."""
    pipeline = build_pipeline(name, config, folder="/run", pods=Pods("/data"))
    document = MessageToDict(pipeline.pipeline_spec)
    commands = {
        label: [*executor["container"].get("command", ()), *executor["container"].get("args", ())]
        for label, executor in document["deploymentSpec"]["executors"].items()
    }
    found = {}
    for graph in [one["dag"] for one in document["components"].values() if "dag" in one]:
        for task, spec in graph["tasks"].items():
            label = document["components"][spec["componentRef"]["name"]].get("executorLabel")
            arguments = spec.get("inputs", {}).get("parameters", {})
            if label and "code" in arguments:
                function = commands[label][commands[label].index("--function_to_execute") + 1]
                code = arguments["code"]["runtimeValue"]["constant"]
                leaf = arguments.get("leaf", {}).get("runtimeValue", {}).get("constant")
                expert = f" {Leaf.model_validate_json(leaf).expert}" if leaf else ""
                found[task] = (function + expert, code)
    return found


def wrong_codes(config: Config, name: str) -> list[str]:
    """Tasks of a pipeline whose `code` is not the version of their own door."""
    forget()
    own = {task: module.code_version(door, *modules) for task, (door, modules) in own_doors(config).items()}
    # An expert's has the part that all experts share before its own.
    return [
        f"{task} ({door})"
        for task, (door, code) in codes(config, name).items()
        if code.rpartition(SHARED_CODE_END)[2] != own[door]
    ]


@dataclass(frozen=True)
class Task:
    """A task of a compiled pipeline: whether its cache may answer it, its constant arguments, and the tasks
    whose artifacts it gets.
    """

    cached: bool
    constants: str
    takes: frozenset[str]


def tasks_of(config: Config, name: str) -> dict[str, Task]:
    """The tasks of a pipeline within its exit handler."""
    pipeline = build_pipeline(name, config, folder="/run")
    document = MessageToDict(pipeline.pipeline_spec)
    graph = next(one["dag"] for title, one in document["components"].items() if "exit-handler" in title)
    found = {}
    for task, spec in graph["tasks"].items():
        inputs = spec.get("inputs", {})
        # Each training is taken to have ended well before: so its token is what it was.
        inputs.get("parameters", {}).pop("token", None)
        sources = [one.get("taskOutputArtifact") for one in inputs.get("artifacts", {}).values()]
        found[task] = Task(
            cached=spec.get("cachingOptions", {}).get("enableCache", False),
            constants=json.dumps(inputs.get("parameters", {}), sort_keys=True),
            takes=frozenset(one["producerTask"] for one in sources if one),
        )
    return found


def run_again(before: Mapping[str, Task], after: Mapping[str, Task]) -> set[str]:
    """Tasks that the cache does not answer: those that it never answers, those with other arguments, and
    those that get an artifact of one that runs, because the place of an artifact is part of the key.
    """
    found = {task for task, one in after.items() if not one.cached or one.constants != before[task].constants}
    while more := {task for task, one in after.items() if one.takes & found} - found:
        found |= more
    return found


PIPELINES = ("training", "materialisation", "retraining", "drift", "replay", "selection", "mining")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Config:
    """A configuration with slow tables and a cross-validation, so that every task occurs."""
    table = {"name": "notes", "path": "notes.csv", "observed": "day", "known": "day", "modality": "base"}
    slow = {"tables": [{**table, "columns": [{"name": "quality", "normalisation": "rank"}]}]}
    path = tmp_path_factory.mktemp("whole") / "whole.yaml"
    crossed = {"scheme": "combinatorial"}
    path.write_text(json.dumps({"fusion": slow, "selection": {"mode": "quick"}, "timeline": crossed}))
    return load_config(path)


@pytest.fixture
def in_sight(house, whole, tmp_path, monkeypatch):
    """The house in place of this one, and market data that can be seen: then the ingest may be cached too."""
    (tmp_path / "notes.csv").write_text("day,symbol,quality\n")
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
    monkeypatch.setattr(module, "ROOT", house)
    forget()
    return house


def run_after_an_edit(house: Path, config: Config, name: str, pattern: str) -> set[str]:
    """Tasks of a pipeline that its cache would answer, and no longer once all files of a pattern
    were edited.
    """
    before = tasks_of(config, name)
    kept = {path: path.read_bytes() for path in house.glob(pattern) if path.is_file()}
    assert kept, pattern
    try:
        for path, text in kept.items():
            path.write_bytes(text + (b"\nTOUCHED = 1\n" if path.suffix == ".py" else b" "))
        module.version_at.cache_clear()
        after = tasks_of(config, name)
    finally:
        for path, text in kept.items():
            path.write_bytes(text)
        module.version_at.cache_clear()
    return run_again(before, after) - run_again(before, before)


SELECTED = {"draw-selection", "draw-selection-2"}
DRAWN = {"draw-validation", "draw-fusion", "audit-leaks", *SELECTED}
GATHERED_PAGES = {"training": {"gather-2"}, "selection": {"gather"}, "mining": {"gather-2", "mine"}}


@pytest.mark.parametrize(
    ("name", "pattern", "drawn"),
    [
        ("training", "components/page/*.*", DRAWN),
        ("training", "components/*/page.*", DRAWN),
        ("training", "components/validation/page.html", {"draw-validation"}),
        ("selection", "components/page/style.css", DRAWN),
        ("mining", "components/page/*.*", DRAWN),
        ("materialisation", "components/page/*.*", {"draw-validation", "draw-fusion"}),
    ],
)
def test_an_edited_page_draws_pages_and_trains_nothing(name, pattern, drawn, in_sight, whole):
    gathered = GATHERED_PAGES.get(name, set()) if "audit-leaks" in drawn else set()
    assert run_after_an_edit(in_sight, whole, name, pattern) == drawn | gathered


def test_an_edited_page_of_the_search_runs_nothing_again(in_sight, whole):
    assert run_after_an_edit(in_sight, whole, "training", "components/experts/studies/*page*") == set()


def test_an_edited_stage_trains_again(in_sight, whole):
    """The same look finds what an edit of a table's code runs again."""
    found = run_after_an_edit(in_sight, whole, "training", "components/validation/examine.py")
    assert {"validate", "draw-validation", "build-features", "train-expert", "stack"} <= found
    assert "ingest" not in found


@pytest.mark.parametrize("name", PIPELINES)
def test_the_code_of_each_task_is_the_version_of_its_own_door(name, whole):
    assert wrong_codes(whole, name) == []


def test_every_task_with_a_code_is_looked_at(whole):
    seen = {door for name in PIPELINES for door, _ in codes(whole, name).values()}
    assert seen == set(own_doors(whole))


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        (data, lambda door, *_: module.code_version(data.ingest)),
        (experts, lambda door, *_: module.code_version(experts.train_expert)),
        (judging, lambda door, *_: module.code_version(judging.make_reference)),
    ],
)
def test_the_code_of_another_stage_is_found(place, fault, whole, monkeypatch):
    monkeypatch.setattr(place, "code_version", fault)
    assert len(wrong_codes(whole, "training")) > 1


def test_the_leaf_of_a_run_decides_about_its_family(config):
    leaf = resolve_leaf("lightgbm/1d/base", config)
    forget()
    family = "components.experts.families.lightgbm"
    shared, _, own = experts.expert_code(leaf).partition(SHARED_CODE_END)
    assert own == module.code_version(experts.train_expert, family)
    other = experts.expert_code(resolve_leaf("elasticnet/1d/base", config)).partition(SHARED_CODE_END)
    assert (other[0] == shared, other[2] == own) == (True, False)
