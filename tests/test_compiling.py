"""Loops are compiled on any machine, also where no folder for compiled code can be written."""

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
