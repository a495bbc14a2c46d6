"""Writes the golden files of graphs and cache keys anew, after a wanted change: look at the diff.

python -m tests.pipelines.write_golden
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from pipelines.config import load_config
from pipelines.graphs.build import PIPELINES
from pipelines.runners.ir import compile_pipeline, graph
from tests.pipelines.test_code_version import golden_keys
from tests.pipelines.test_ir import DEMO, GOLDEN
from tests.pipelines.test_ticks_graph import DEMO as TICKS_DEMO
from tests.pipelines.test_ticks_graph import golden_tick_keys


def write(name: str, found: dict[str, Any]) -> None:
    (GOLDEN / f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name in PIPELINES:
            config = load_config(DEMO, ["selection.mode=quick"] if name == "selection" else [])
            write(name, graph(compile_pipeline(name, config, Path(scratch) / "ir.yaml")))
        write("ticks", graph(compile_pipeline("ticks", load_config(TICKS_DEMO), Path(scratch) / "ir.yaml")))
    write("cache_keys_ticks", golden_tick_keys())
    write("cache_keys", golden_keys(load_config(DEMO, ["selection.mode=quick"])))


if __name__ == "__main__":
    main()
