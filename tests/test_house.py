"""Rules of the house that hold for all product files: no circle of imports, doors that only hand on, no bags of
anything, no long lines. Each rule is shown to catch a fault planted in a made-up tree.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("components", "feature_repo", "pipelines", "serving")
DOOR_LINES, LINE_LENGTH = 10, 110
# Imports that close a circle and are known: the one that goes when the last page is a template.
KNOWN_IMPORTS = {("components.page.blocks", "components.page")}
# Doors whose work is still to move into their stage's run.py.
KNOWN_DOORS: set[str] = {
    "components/feature_store/component.py:make_training_set",
    "components/feature_store/component.py:materialise",
    "components/labels/component.py:make_labels",
    "components/mining/component.py:mine",
    "components/selection/component.py:select_factors",
    "components/stacking/component.py:build_oof",
    "components/stacking/component.py:stack",
}
# Files with lines that are still to be broken.
KNOWN_LONG = {
    "components/contracts/documents/__init__.py",
    "components/contracts/documents/evaluation.py",
    "components/contracts/documents/experts.py",
    "components/experts/neural/losses.py",
    "components/experts/studies/evidence.py",
    "components/experts/training/processes.py",
    "components/feature_store/lookup.py",
    "components/gates/approval.py",
    "components/page/__init__.py",
    "components/page/blocks.py",
    "components/selection/eras.py",
    "components/selection/page.py",
    "components/timeline/periods.py",
    "pipelines/commands/settings.py",
    "serving/api/guard.py",
    "serving/live/signals.py",
    "serving/processes/feature_shift.py",
    "serving/processes/readiness.py",
    "serving/processes/registry_follower.py",
}


def product_files(root: Path) -> dict[str, Path]:
    """Path by dotted name of module; a package has the name of its folder."""
    paths = (path for floor in FLOORS for path in sorted((root / floor).rglob("*.py")))
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def import_graph(root: Path) -> dict[str, set[str]]:
    """Which module imports which, at the top of a file or inside a function.

    Imports for type checkers alone are left out: they are never carried out. So is the package around an
    imported module: that it is loaded first is no wish of the importer.
    """
    files = product_files(root)
    return {
        name: {
            target for node in _statements(ast.parse(path.read_text())) for target in _targets(node, files)
        }
        - {name}
        for name, path in files.items()
    }


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from _statements(child)


def _targets(node: ast.AST, files: Mapping[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in files)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "imports name the whole module"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield from [inner] if inner in files else [node.module] if node.module in files else []


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring, first and last the same; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def long_doors(root: Path) -> set[str]:
    """`file:function` of each KFP door whose body has more lines than a door may."""
    return {
        f"{path.relative_to(root).as_posix()}:{door.name}"
        for path in sorted((root / "components").rglob("*component.py"))
        for door in ast.parse(path.read_text()).body
        if isinstance(door, ast.FunctionDef) and door.decorator_list and _body_lines(door) > DOOR_LINES
    }


def _body_lines(door: ast.FunctionDef) -> int:
    body = [
        one for one in door.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
    ]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def bags(root: Path) -> list[str]:
    """Modules that use SimpleNamespace."""
    return [name for name, path in product_files(root).items() if "SimpleNamespace" in path.read_text()]


def long_lines(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}:{number}"
        for path in product_files(root).values()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > LINE_LENGTH
    ]


def test_no_files_import_each_other_in_a_ring():
    graph = import_graph(ROOT)
    for source, target in KNOWN_IMPORTS:
        graph[source].discard(target)
    assert circle(graph) == []


def test_doors_only_hand_on():
    assert long_doors(ROOT) - KNOWN_DOORS == set()


def test_every_field_has_a_name_that_is_declared():
    assert bags(ROOT) == []


def test_lines_fit():
    assert {place.split(":")[0] for place in long_lines(ROOT)} - KNOWN_LONG == set()


@pytest.fixture
def tree(tmp_path):
    """A small house in order."""
    files = {
        "components/__init__.py": "",
        "components/a/__init__.py": "",
        "components/a/low.py": "import math\n",
        "components/a/high.py": "from components.a import low\n\ndef f():\n    from components.b import x\n",
        "components/b/__init__.py": "from components.b.inner import x\n",
        "components/b/inner.py": "from components.a.low import y\n",
        "components/b/component.py": "@door\ndef b():\n    '''What.\n\n    It does.\n    '''\n"
        + "    f()\n" * 10,
        "pipelines/__init__.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_house_in_order_passes(tree):
    assert import_graph(tree)["components.a.high"] == {"components.a.low", "components.b"}
    assert circle(import_graph(tree)) == []
    assert long_doors(tree) == set()
    assert bags(tree) == long_lines(tree) == []


@pytest.mark.parametrize(
    "fault",
    [
        "from components.a import high\n",
        "import components.a.high\n",
        "def late():\n    from components.a.high import f\n",
        "class Late:\n    def late(self):\n        if self:\n            import components.a.high as h\n",
    ],
)
def test_a_ring_is_found_wherever_its_import_stands(fault, tree):
    (tree / "components" / "b" / "inner.py").write_text(fault)
    ring = circle(import_graph(tree))
    assert set(ring) == {"components.a.high", "components.b", "components.b.inner"}
    assert ring[0] == ring[-1]


def test_an_import_for_type_checkers_closes_no_ring(tree):
    text = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from components.a import high\n"
    (tree / "components" / "b" / "inner.py").write_text(text)
    assert circle(import_graph(tree)) == []


def test_a_door_that_works_a_bag_and_a_long_line_are_found(tree):
    door = tree / "components" / "b" / "component.py"
    door.write_text(door.read_text() + "    g()\n")
    (tree / "pipelines" / "bag.py").write_text("from types import SimpleNamespace\n")
    (tree / "pipelines" / "long.py").write_text(f"{'x' * 110}\n{'x' * 111}\n")
    assert long_doors(tree) == {"components/b/component.py:b"}
    assert bags(tree) == ["pipelines.bag"]
    assert long_lines(tree) == ["pipelines/long.py:2"]
