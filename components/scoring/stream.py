"""A network that is asked sample by sample: its graph takes what it keeps of the past, and gives it back.

Shapes: B symbols, A inputs, S numbers of a symbol's state.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from components.scoring.form import ScoringError
from components.scoring.graph import open_session

STREAM_FILE = "stream.onnx"
STATE, STATE_AFTER = "state", "state_after"


class Stream:
    """One graph on the CPU, and the state of `symbols` of them."""

    def __init__(self, path: Path, symbols: int, threads: int = 1):
        self.path, self.session = path, open_session(path, threads)
        shapes = {node.name: node.shape for node in self.session.get_inputs()}
        self.given = [node.name for node in self.session.get_outputs()]
        if STATE not in shapes or STATE_AFTER not in self.given:
            raise ScoringError(
                f"{path} takes {sorted(shapes)} and gives {self.given}: it keeps no state, so it can't be"
                f" asked sample by sample. Expected {STATE!r} and {STATE_AFTER!r}. Train the model again."
            )
        self.state_BS = np.zeros((symbols, shapes[STATE][1]), dtype=np.float32)

    def forget(self, which_B: np.ndarray) -> None:
        """Begin anew for some symbols: after the end of a session, or a hole in their samples."""
        self.state_BS[which_B] = 0.0

    def __call__(self, **inputs: np.ndarray) -> Mapping[str, np.ndarray]:
        """What the graph says of one more sample of each symbol, by name, Float32.

        Parameters
        ----------
        inputs : float32; `sample` [B, A] as the rows are, missing values NaN; `begun` [B], 1 from a symbol's
        first
            sample on, 0 before; `regime` [B, 4] one-hot; `context` [B, 2] where the graph takes it
        """
        found = dict(
            zip(self.given, self.session.run(self.given, {**inputs, STATE: self.state_BS}), strict=True)
        )
        self.state_BS = found.pop(STATE_AFTER)
        return found
