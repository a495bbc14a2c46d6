"""Loops are compiled on any machine, also where no folder for compiled code can be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import njit
from numba.core import caching

from components.compiling import compiled

PRODUCT = Path(__file__).parent.parent / "components"


def half(value):
    return value / 2


def test_without_a_folder_for_compiled_code_it_is_compiled_all_the_same(monkeypatch):
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        njit(cache=True)(half)
    assert compiled(nogil=True)(half)(3.0) == 1.5


def test_the_options_are_those_of_numba(monkeypatch, tmp_path):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    loop = compiled(nogil=True)(half)
    assert loop(3.0) == 1.5
    assert loop.targetoptions["nogil"] is True
    assert list(tmp_path.rglob("*.nbi")), "kept on disk where there is a folder"


def test_no_loop_asks_numba_itself_for_a_folder():
    asking = {path.name for path in PRODUCT.rglob("*.py") if "cache=True" in path.read_text()}
    assert asking == {"compiling.py"}


CALLER = """
import sys
sys.path.insert(0, sys.argv[1])
from components.compiling import compiled
from called import FACTOR, times

@compiled(nogil=True)
def outer(value):
    return times(value) + FACTOR

print(outer(2.0), sum(outer.stats.cache_hits.values()))
"""
CALLED = """
from components.compiling import compiled

FACTOR = {constant}

@compiled(nogil=True)
def times(value):
    return value * {factor}
"""


@pytest.mark.parametrize("changed", [{"factor": 5, "constant": 1}, {"factor": 3, "constant": 4}])
def test_a_loop_is_compiled_anew_where_what_it_calls_or_a_constant_changed(tmp_path, changed):
    (tmp_path / "caller.py").write_text(CALLER)

    def answer(factor: int, constant: int) -> list[str]:
        text = CALLED.format(factor=factor, constant=constant)
        if not (tmp_path / "called.py").exists() or (tmp_path / "called.py").read_text() != text:
            (tmp_path / "called.py").write_text(text)
        command = [sys.executable, str(tmp_path / "caller.py"), str(tmp_path)]
        told = {**os.environ, "PYTHONPATH": str(PRODUCT.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=told)
        return done.stdout.split()

    assert answer(3, 1) == ["7.0", "0"]
    assert answer(3, 1) == ["7.0", "1"], "kept on disk"
    expected = 2.0 * changed["factor"] + changed["constant"]
    assert answer(**changed) == [str(expected), "0"]
