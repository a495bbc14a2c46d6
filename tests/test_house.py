"""Rules of the house that hold for all product files: no circle of imports, doors that only hand on, no bags
of anything, no long lines, one reader of JSON. Each rule is shown to catch a fault planted in a made-up tree.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("components", "feature_repo", "pipelines", "serving")
DOOR_LINES, LINE_LENGTH = 10, 110
# Where JSON is read from files: its one home, and what people write into the review folder, whose faults are
# told in words of its own.
JSON_HOMES = {"components/contracts/files.py", "components/retraining/entries.py"}


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


def json_readers(root: Path) -> set[str]:
    """Files that read JSON from a file by themselves: `json.load`, or `json.loads` of what a file holds."""
    return {
        path.relative_to(root).as_posix()
        for path in product_files(root).values()
        if any(_reads_json(node) for node in ast.walk(ast.parse(path.read_text())))
    }


def _reads_json(node: ast.AST) -> bool:
    """Whether a call takes JSON from a file; JSON lines, and what was not read in the same breath, do not
    count.
    """
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    inner = (ast.unparse(one.func) for one in ast.walk(node) if isinstance(one, ast.Call) and one is not node)
    of_file = any(name.endswith((".read_text", ".read_bytes")) for name in inner)
    return called == "json.load" or (called.endswith(("json.loads", "from_json")) and of_file)


def long_lines(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}:{number}"
        for path in product_files(root).values()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > LINE_LENGTH
    ]


def test_no_files_import_each_other_in_a_ring():
    assert circle(import_graph(ROOT)) == []


def test_doors_only_hand_on():
    assert long_doors(ROOT) == set()


def test_every_field_has_a_name_that_is_declared():
    assert bags(ROOT) == []


def test_lines_fit():
    assert long_lines(ROOT) == []


def test_reading_json_has_one_home():
    assert json_readers(ROOT) == JSON_HOMES


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
    assert json_readers(tree) == set()


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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("json.loads(path.read_text(encoding='utf-8'))", True),
        ("{name: json.loads(Path(name).read_bytes())['a'] for name in names}", True),
        ("json.load(handle)", True),
        ("pydantic_core.from_json((folder / 'a.json').read_bytes())", True),
        ("[json.loads(line) for line in path.read_text().splitlines()]", False),
        ("json.loads(answer.read())", False),
        ("require_json(path)", False),
    ],
)
def test_a_second_reader_of_json_is_found(text, found, tree):
    (tree / "pipelines" / "second.py").write_text(f"def f():\n    return {text}\n")
    assert json_readers(tree) == ({"pipelines/second.py"} if found else set())
