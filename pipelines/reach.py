"""Which of our own sources a function reaches: modules through their imports, and the templates, styles and
scripts that those modules name. Read from compiled code, without importing or running any of it.
"""

import ast
import hashlib
import json
import re
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dis import Bytecode
from functools import cache
from opcode import opmap
from pathlib import Path
from types import CodeType

from components.contracts import atomic_write_text, read_json
from components.processes.sources import FLOORS

FILE_NAME = re.compile(r"[\w./-]{1,100}\.\w{1,5}")
# What pages are made of beside code.
PAGE_FILES = (".html", ".css", ".js")
QUOTED_FILE = re.compile(r"""["']([\w./-]+\.\w+)["']""")


@dataclass(frozen=True)
class Source:
    """What counts of a file or a function: a hash of its code without docstrings and comments, the dotted
    names that it imports, and the text constants in it.
    """

    digest: str
    imports: frozenset[str]
    strings: frozenset[str]


@dataclass(frozen=True)
class Reach:
    """Everything that a function can run: own modules by dotted name, own files other than modules by path
    from the root, and the top names of foreign packages.
    """

    modules: tuple[str, ...]
    resources: tuple[str, ...]
    packages: tuple[str, ...]


# What is known of sources, by a hash of their bytes; and which of them this process met.
_known: dict[str, Source] = {}
_met: set[str] = set()


def own_modules(root: Path) -> dict[str, Path]:
    """Path by dotted name of each module below the root's floors; a package has the name of its folder."""
    paths = (path for floor in FLOORS for path in sorted((root / floor).rglob("*.py")))
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def reach_of(
    root: Path, starts: Iterable[Source], modules: Iterable[str] = (), *, pages: bool = True
) -> Reach:
    """What can run where the code of `starts` runs and `modules` are loaded by name; without `pages`, code
    and files of pages are left out, with what is reached through them alone.

    An import counts wherever it stands, at the top or in a function, with the packages around the module. So
    does a module whose dotted name stands in the code as text, alone or before a colon, and one that the
    code's own texts make up: a package's name with a dot behind it, and the name of a module in it.
    """
    own = _own_modules(root)
    found: set[str] = set()
    packages: set[str] = set()
    resources: set[str] = set()
    waiting = [name for name in modules if name in own]
    for start in starts:
        waiting += _modules_in(start, own)
        packages |= _foreign(start)
    while waiting:
        name = waiting.pop()
        if name not in found and (pages or not is_page_code(name)):
            found.add(name)
            source = read_source(own[name])
            waiting += _modules_in(source, own)
            waiting += [above for above in [name.rpartition(".")[0]] if above in own]
            packages |= _foreign(source)
            resources |= _files_in(root, own[name].parent, source, own)
    if not pages:
        resources = {name for name in resources if not name.endswith(PAGE_FILES)}
    return Reach(tuple(sorted(found)), tuple(sorted(resources)), tuple(sorted(packages)))


def is_page_code(module: str) -> bool:
    """Whether a module draws pages: `page`, the base of all pages, with what lies in it, or the `page` of a
    stage.
    """
    return "page" in module.split(".")


def has_page_output(path: Path, function: str) -> bool:
    """Whether a page, declared as `Output[HTML]`, is among the outputs of a door; read without running it."""
    tree = ast.parse(path.read_bytes())
    door = next(one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == function)
    declared = [one.annotation for one in (*door.args.args, *door.args.kwonlyargs) if one.annotation]
    return "Output[HTML]" in map(ast.unparse, declared)


def read_source(path: Path, function: str = "") -> Source:
    """What counts of a file, or of one function at its top; each state of a file is read once."""
    return _read_source(path, function, path.stat().st_mtime_ns)


@contextmanager
def known_sources(file: Path) -> Iterator[None]:
    """Keep in `file` what was read of sources, for the next time: compiling them is most of the work. They
    are known by their bytes, so that one that was edited is read again. A file that is missing or damaged
    counts for nothing.
    """
    kept = read_json(file) or {}
    try:
        known = {key: Source(one[0], frozenset(one[1]), frozenset(one[2])) for key, one in kept.items()}
    except (AttributeError, TypeError, LookupError):  # of another shape
        kept = known = {}
    _known.update(known)
    yield
    if _met - kept.keys():
        met = {key: _known[key] for key in sorted(_met)}
        told = {key: [one.digest, sorted(one.imports), sorted(one.strings)] for key, one in met.items()}
        atomic_write_text(file, json.dumps(told))


@cache
def _read_source(path: Path, function: str, changed_ns: int) -> Source:
    text = path.read_bytes()
    key = hashlib.sha256(b"\0".join((_reader(), function.encode(), text))).hexdigest()
    if key not in _known:
        _known[key] = _compiled_source(text, path.name, function)
    _met.add(key)
    return _known[key]


@cache
def _reader() -> bytes:
    """What a source is read by: this code, in this Python."""
    return Path(__file__).read_bytes() + sys.version.encode()


def _compiled_source(text: bytes, name: str, function: str) -> Source:
    # Compiled without docstrings and assertions; where a file asserts, both count: too often beats never.
    code = compile(text, name, "exec", dont_inherit=True, optimize=0 if b"assert " in text else 2)
    if function:
        code = next(one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == function)
    imports, strings = set(), set()
    for part in _parts(code):
        imports.update(_imports(part))
        strings.update(_strings(part.co_consts))
    digest = hashlib.sha256(repr(_plain(code)).encode()).hexdigest()
    return Source(digest, frozenset(imports), frozenset(strings))


@cache
def _own_modules(root: Path) -> dict[str, Path]:
    return own_modules(root)


def _parts(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)


def _imports(code: CodeType) -> Iterator[str]:
    """`x.y` and, for `from x import y`, both `x` and `x.y`."""
    raw, high, module = code.co_code, 0, ""
    for position in range(0, len(raw), 2):
        operation, argument = raw[position], raw[position + 1] | high
        high = argument << 8 if operation == opmap["EXTENDED_ARG"] else 0
        if operation == opmap["IMPORT_NAME"]:
            module = code.co_names[argument]
            yield module
        elif operation == opmap["IMPORT_FROM"]:
            yield f"{module}.{code.co_names[argument]}"


def _strings(constants: Iterable[object]) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple | frozenset):
            yield from _strings(constant)


def _plain(constant: object) -> object:
    """Code as nested tuples without names of files and numbers of lines; sets in one order."""
    if isinstance(constant, CodeType):
        counts = (constant.co_argcount, constant.co_posonlyargcount, constant.co_kwonlyargcount)
        names = (constant.co_names, constant.co_varnames, constant.co_freevars, constant.co_cellvars)
        body = tuple(map(_plain, constant.co_consts))
        return constant.co_qualname, constant.co_flags, counts, names, _steps(constant), body
    if isinstance(constant, frozenset):
        return sorted(map(repr, constant))
    return tuple(map(_plain, constant)) if isinstance(constant, tuple) else constant


def _steps(code: CodeType) -> tuple[bytes, list[tuple]]:
    """Instructions and the ranges of `try`, without the empty instruction that a docstring leaves."""
    raw = code.co_code
    empty = (
        [at for at in range(0, len(raw), 2) if raw[at] == opmap["NOP"]] if opmap["NOP"] in raw[::2] else []
    )
    kept = b"".join(raw[at : at + 2] for at in range(0, len(raw), 2) if at not in empty) if empty else raw
    entries = Bytecode(code).exception_entries if code.co_exceptiontable else ()
    places = [(entry.start, entry.end, entry.target) for entry in entries]
    moved = [tuple(place - 2 * bisect_left(empty, place) for place in three) for three in places]
    return kept, [(*place, entry.depth, entry.lasti) for place, entry in zip(moved, entries, strict=True)]


def _modules_in(source: Source, own: dict[str, Path]) -> list[str]:
    named = {text.partition(":")[0] for text in source.strings}
    prefixes = [text for text in source.strings if text.endswith(".") and text[:-1] in own]
    made_up = {f"{prefix}{text}" for prefix in prefixes for text in source.strings}
    return [name for name in source.imports | named | made_up if name in own]


def _foreign(source: Source) -> set[str]:
    tops = {name.partition(".")[0] for name in source.imports}
    return {name for name in tops if name not in FLOORS and name not in sys.stdlib_module_names}


def _files_in(root: Path, folder: Path, source: Source, own: dict[str, Path]) -> set[str]:
    """Files that texts of a module name: beside it, below `components`, or in a package that it imports; and
    what those files name themselves, below `components`.
    """
    packages = (own[name].parent for name in source.imports if name in own and own[name].stem == "__init__")
    places = [folder, root / "components", *packages]
    named = [text for text in source.strings if FILE_NAME.fullmatch(text) and not text.endswith(".py")]
    waiting = [place / text for text in named for place in places if (place / text).is_file()]
    found: set[str] = set()
    while waiting:
        path = waiting.pop()
        name = path.resolve().relative_to(root.resolve()).as_posix()
        if name not in found:
            found.add(name)
            inner = QUOTED_FILE.findall(path.read_text(encoding="utf-8", errors="replace"))
            waiting += [
                root / "components" / text for text in inner if (root / "components" / text).is_file()
            ]
    return found
