"""ONNX Runtime sessions whose inputs and outputs are checked against what a bundle promises."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.scoring.form import ScoringError


class Graph:
    """One graph on the CPU.

    `inputs`: name to the sizes of the axes after the first (rows); `outputs`: what it must give; `others`:
    what it may give beside.
    """

    def __init__(
        self,
        path: Path,
        inputs: Mapping[str, Sequence[int]],
        outputs: Sequence[str],
        threads: int,
        others: Sequence[str] = (),
    ):
        self.path, self.session = path, open_session(path, threads)
        found = {node.name: (node.type, node.shape) for node in self.session.get_inputs()}
        given = [node.name for node in self.session.get_outputs()]
        for name, sizes in inputs.items():
            kind, shape = found.get(name, (None, None))
            if kind != "tensor(float)" or list(shape[1:]) != list(sizes):
                raise ScoringError(
                    f"{path}: input {name!r} is {kind} {shape}, expected float rows of shape {list(sizes)}."
                    " Train the model again."
                )
        if set(found) != set(inputs) or set(given) - set(others) != set(outputs):
            raise ScoringError(
                f"{path} takes {sorted(found)} and gives {sorted(given)}, expected {sorted(inputs)} and"
                f" {sorted(outputs)}. Train the model again."
            )
        self.given = given

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """All outputs by name, Float64."""
        try:
            found = self.session.run(self.given, inputs)
            return {
                name: np.asarray(value, dtype=np.float64)
                for name, value in zip(self.given, found, strict=True)
            }
        except Exception as error:
            raise ScoringError(
                f"{self.path} could not be run on"
                f" { ({name: value.shape for name, value in inputs.items()}) }: {error}"
            ) from error


def open_session(path: Path, threads: int) -> Any:
    """A session of ONNX Runtime on the CPU; ScoringError where the file is missing or no graph."""
    # Read at the import: else it sends home what it runs, and leaves an identifier in the home folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Threads that spin while they wait take the cores from the service's other work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not path.exists():
        raise ScoringError(
            f"{path} is missing, but the bundle says that a graph makes this output. Fetch the bundle again,"
            " or train the model again."
        )
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ScoringError(
            f"{path} is not a graph that ONNX Runtime can load ({str(error).splitlines()[0]}). Train the"
            " model again."
        ) from error
