"""Every function, class, constant and public method of the product is reached by the product itself: what
nobody uses, or tests alone, goes. Shown to find what is planted in a made-up tree, and to pass what is used
in roundabout ways.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.test_house import FLOORS, ROOT, product_files

# What stays though nothing reaches it, and why. A line goes once something does.
KEPT = {
    "components.feature_store.lookup:read_windows": "windows of the online store, for experts served from it",
    "components.market.clock:bar_delays": "what live bars lag behind by",
    "components.order_book.state:queue_ahead": "an order's place in its queue, where a source numbers orders",
    "components.metrics.many_models:reality_check": "what White's test says beside the sharper one of Hansen",
    "feature_repo.offline_store:PolarsOfflineStoreConfig": "Feast makes this name from that of the store",
    "serving.pyfunc:_load_pyfunc": "MLflow calls this name in the module that a bundle's MLmodel names",
}
# What carries such a decorator is called by what it was handed to.
HANDED_OVER = re.compile(
    r"(\.(command|callback|get|post|exception_handler|middleware|on_\w+)|^(field|model)_(validator|serializer))$"
)
# Where names of the code stand besides the code: templates, configs, images.
TEXTS = (".html", ".js", ".yaml", ".yml", ".toml", ".json", ".sh")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Module:
    """`parts` are the statements at the top that give a name, `rest` those that do something when it is
    imported; `imported` says what a name of the file is elsewhere: (module, name), the name None for a whole
    module.
    """

    parts: dict[str, ast.stmt]
    rest: list[ast.stmt]
    imported: dict[str, tuple[str, str | None]]


def read_module(tree: ast.Module, known: Collection[str]) -> Module:
    parts, rest = {}, []
    for statement in _top(tree.body):
        names = _given(statement)
        parts |= dict.fromkeys(names, statement)
        if not names:
            rest.append(statement)
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                target = (inner, None) if inner in known else (node.module, alias.name)
                imported[alias.asname or alias.name] = target
        elif isinstance(node, ast.Import):
            imported |= {alias.asname: (alias.name, None) for alias in node.names if alias.asname}
    return Module(parts, rest, imported)


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, (ast.If, ast.Try)):
            yield from _top(statement.body + statement.orelse)
        elif not isinstance(statement, (ast.Import, ast.ImportFrom)) and "__all__" not in _given(statement):
            yield statement


def _given(statement: ast.stmt) -> list[str]:
    """The names that a statement gives; none to what is called for what it does."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return [] if _is_handed_over(statement) else [statement.name]
    if isinstance(statement, ast.AnnAssign):
        return [statement.target.id] if isinstance(statement.target, ast.Name) else []
    if not isinstance(statement, ast.Assign):
        return []
    return [one.id for to in statement.targets for one in ast.walk(to) if isinstance(one, ast.Name)]


def _is_handed_over(node: ast.stmt) -> bool:
    called = (one.func if isinstance(one, ast.Call) else one for one in node.decorator_list)
    return any(HANDED_OVER.search(ast.unparse(one)) for one in called)


@dataclass
class Search:
    """From the statements that importing carries out to all that they lead to, and to what these lead to."""

    modules: dict[str, Module]
    words: set[str]  # used somewhere as `.word`, or as text
    reached: set[tuple[str, str]] = field(default_factory=set)
    waiting: list[tuple[str, ast.AST]] = field(default_factory=list)
    methods: dict[str, list[tuple[str, str, ast.AST]]] = field(default_factory=lambda: defaultdict(list))

    def reach(self, module: str, name: str) -> None:
        """A name as `module` knows it: its own, or one that it hands on from another."""
        while module in self.modules and (module, name) not in self.reached:
            found = self.modules[module]
            if name in found.parts:
                self.reached.add((module, name))
                self.waiting.append((module, found.parts[name]))
            elif name in found.imported and found.imported[name][1]:
                module, name = found.imported[name]
                continue
            return

    def use(self, word: str) -> None:
        """A word that is looked up on something: any method may be meant, and any part that has that name."""
        if word in self.words:
            return
        self.words.add(word)
        self.waiting.extend((module, node) for module, _, node in self.methods.pop(word, ()))
        for module in self.named.get(word, ()):
            self.reach(module, word)

    def run(self) -> None:
        self.named = defaultdict(list)
        for module, found in self.modules.items():
            self.waiting.extend((module, statement) for statement in found.rest)
            for name in found.parts:
                self.named[name].append(module)
        for word in [word for word in self.words if word in self.named]:
            for module in self.named[word]:
                self.reach(module, word)
        while self.waiting:
            module, node = self.waiting.pop()
            self.visit(module, node)

    def visit(self, module: str, node: ast.AST) -> None:
        """Follow everything that a node names."""
        imported = self.modules[module].imported
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            self.reach(module, node.id)
        elif isinstance(node, ast.Attribute):
            base = imported.get(node.value.id) if isinstance(node.value, ast.Name) else None
            if base and base[1] is None and base[0] in self.modules:
                self.reach(base[0], node.attr)
            else:
                self.use(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            self.read(module, node.value)
        for child in ast.iter_child_nodes(node):
            if (
                isinstance(node, ast.ClassDef)
                and isinstance(child, FUNCTIONS)
                and self._may_wait(node, child)
            ):
                self.methods[child.name].append((module, node.name, child))
            else:
                self.visit(module, child)

    def read(self, module: str, text: str) -> None:
        """A text that is a name, `module:name`, or a type in quotes."""
        if text.isidentifier():
            self.use(text)
        elif found := re.fullmatch(r"([\w.]+)[:.](\w+)", text):
            self.reach(*found.groups())
        if re.fullmatch(r"[\w\[\], .|]+", text):
            for word in re.findall(r"\w+", text):
                self.reach(module, word)

    def _may_wait(self, owner: ast.ClassDef, method: ast.stmt) -> bool:
        """Whether a method counts once it is called: a public one of a class of our own."""
        own = all(self._is_ours(base) for base in owner.bases)
        called = method.name.startswith("_") or method.name in self.words or _is_handed_over(method)
        return own and not called

    def _is_ours(self, base: ast.expr) -> bool:
        name = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
        return name in ("Protocol", "Generic", "Exception") or name in self.named


def read_house(root: Path) -> tuple[dict[str, Module], set[str]]:
    """The modules by name, and the words of templates, configs and images."""
    files = product_files(root)
    modules = {name: read_module(ast.parse(path.read_text()), files) for name, path in files.items()}
    return modules, words_of_texts(root)


def unreached(house: tuple[dict[str, Module], set[str]], kept: Collection[str] = ()) -> set[str]:
    """`module:name`, or `module:Class.name`, of what neither the product's own statements, nor templates and
    configs, nor what is `kept` lead to.
    """
    modules, words = house
    search = Search(modules, set(words))
    for entry in kept:
        search.reach(*entry.split(":"))
    search.run()
    parts = {(module, name) for module, found in modules.items() for name in found.parts}
    return {f"{module}:{name}" for module, name in parts - search.reached} | {
        f"{module}:{owner}.{name}" for name, found in search.methods.items() for module, owner, _ in found
    }


def words_of_texts(root: Path) -> set[str]:
    """Every word of templates, configs and images."""
    folders = [root / name for name in (*FLOORS, "infra")]
    paths = [path for folder in folders for path in folder.rglob("*") if path.suffix in TEXTS]
    paths += [
        path for path in (root / "pyproject.toml", *(root / "infra").rglob("Dockerfile*")) if path.exists()
    ]
    return {word for path in paths for word in re.findall(r"[A-Za-z_]\w*", path.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def product():
    return read_house(ROOT)


def test_the_product_reaches_all_of_itself(product):
    assert unreached(product, KEPT) == set(), (
        "delete these, or connect them; what stays stands in KEPT, with why"
    )


def test_what_is_kept_is_there_and_reached_by_nothing(product):
    assert set(KEPT) <= unreached(product)


LOW = """LIMIT = 3

def handed_on(shown):
    return LIMIT

def by_name():
    pass

class Shown:
    def title(self):
        return self._words()

    def _words(self):
        pass
"""
DOOR = """@door
def component(builder):
    from components.a import handed_on
    from components.a.low import Shown

    handed_on(Shown())
"""
COMMAND = """from components.a import component as doors

BUILDER = "components.a.low:by_name"

@app.command()
def go():
    doors.component(BUILDER)
"""
HOUSE = {
    "components/a/__init__.py": 'from components.a.low import handed_on\n\n__all__ = ["handed_on"]\n',
    "components/a/low.py": LOW,
    "components/a/page.html": "{{ shown.title() }}\n",
    "components/a/component.py": DOOR,
    "pipelines/commands.py": COMMAND,
}


@pytest.fixture
def house(tmp_path):
    """A small house, all of whose parts are reached: by a command, a package, a text, a template."""
    for name, text in HOUSE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_is_used_in_a_roundabout_way_is_reached(house):
    assert unreached(read_house(house)) == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def left():\n    pass\n", {"left"}),
        ("def left(n):\n    return left(n - 1)\n", {"left"}),
        ("def left():\n    return other()\n\n\ndef other():\n    return left()\n", {"left", "other"}),
        ("_FIRST, SECOND = 1, 2\nprint(_FIRST)\n", {"SECOND"}),
        ("class Left:\n    size: int = 3\n", {"Left"}),
        ("class Used:\n    def left(self):\n        pass\n\n\nUsed()\n", {"Used.left"}),
        ("if FAST:\n    def left():\n        pass\n", {"left"}),
        ("from components.a.low import handed_on as left\n", set()),
    ],
)
def test_what_nothing_uses_is_found(text, found, house):
    (house / "components" / "a" / "new.py").write_text(text)
    (house / "tests").mkdir()
    (house / "tests" / "test_new.py").write_text(
        "from components.a.new import left, other, Left, Used, SECOND\n"
    )
    assert unreached(read_house(house)) == {f"components.a.new:{name}" for name in found}


def test_what_is_handed_on_by_a_package_and_taken_by_nobody_is_found(house):
    alone = DOOR.replace("from components.a import handed_on", "handed_on = print")
    (house / "components" / "a" / "component.py").write_text(alone)
    assert unreached(read_house(house)) == {"components.a.low:handed_on", "components.a.low:LIMIT"}


def test_what_is_kept_keeps_what_it_needs(house):
    (house / "components" / "a" / "new.py").write_text("STEP = 1\n\n\ndef left():\n    return STEP\n")
    assert unreached(read_house(house), ["components.a.new:left"]) == set()
