"""Scoring leaves nothing in the home folder and sends nothing: ONNX Runtime's reports are off before it is
imported.
"""

import os
import subprocess
import sys

import pytest

from tests.scoring.made_graphs import window_graph

LOADS = """
import sys
from pathlib import Path
from components.scoring.graph import open_session
open_session(Path(sys.argv[1]), 1)
"""
PLAIN = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"


def left_by(code: str, folder) -> list[str]:
    """Files below an empty home folder after the code ran on a graph, in an environment that says nothing."""
    graph, home = folder / "graph.onnx", folder / "home"
    graph.write_bytes(window_graph(3, 2))
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")}
    environment = {**kept, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code, str(graph)], env=environment, check=True, timeout=300)
    return [path.name for path in home.rglob("*") if path.is_file()]


def test_a_session_leaves_nothing_behind(tmp_path):
    assert left_by(LOADS, tmp_path) == []


def test_a_plain_session_would(tmp_path):
    if not left_by(PLAIN, tmp_path):
        pytest.skip("this build of ONNX Runtime sends nothing by itself")
