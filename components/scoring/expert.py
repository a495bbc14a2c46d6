"""One served expert: score and uncertainty of rows, from its served form."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from components.contracts import REGIMES
from components.scoring.form import GRAPH_FILE, Linear, read_form
from components.scoring.graph import Graph

BLOCK_WINDOWS = 32


class ServedExpert:
    """The form of an expert, and its graph where it has one."""

    def __init__(self, folder: Path, *, threads: int):
        self.name, self.form = folder.name, read_form(folder)
        self.graph, self.workers = None, None
        if self.form.raw is None:
            width = len(self.form.columns)
            window = self.form.kind == "window"
            inputs = {"window": (self.form.lookback_bars, width), "begun": (self.form.lookback_bars,), "regime": (len(REGIMES),)} if window else {"inputs": (width,)}
            outputs = ["raw", "quantiles"] if self.form.band is None else ["raw"]
            self.graph = Graph(folder / GRAPH_FILE, inputs, outputs, 1 if window else threads)
            self.workers = ThreadPoolExecutor(threads, thread_name_prefix=f"score-{self.name}") if window and threads > 1 else None

    def __call__(self, inputs_BF: np.ndarray, window_BLF: np.ndarray | None, regime_BR: np.ndarray, volatility_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score and uncertainty [B], Float64, return over the horizon. `window_BLF` ends with the newest bar and may be longer than needed."""
        form = self.form
        unit_B = np.maximum(np.where(np.isfinite(volatility_B), volatility_B, form.unit.stand_in), form.unit.least) * form.unit.factor
        quantiles_B3 = None
        if self.graph is None:
            raw_B = _linear(form.raw, inputs_BF) if isinstance(form.raw, Linear) else np.full(len(inputs_BF), form.raw)
        elif form.kind == "window":
            raw_B, *rest = self._run_windows(window_BLF[:, -form.lookback_bars :], regime_BR)
            quantiles_B3 = rest[0] if rest else None
        else:
            (raw_B,) = self.graph(inputs=inputs_BF)
        score_B = form.head_scale * raw_B + form.head_bias
        if quantiles_B3 is None:
            return score_B, form.band * unit_B / form.p10_to_p90
        middle_B1 = quantiles_B3[:, 1:2]
        band_B3 = np.maximum.accumulate((middle_B1 + form.band_width * (quantiles_B3 - middle_B1)) * unit_B[:, None], axis=1)
        return score_B, (band_B3[:, 2] - band_B3[:, 0]) / form.p10_to_p90

    def _run_windows(self, window_BLF: np.ndarray, regime_BR: np.ndarray) -> list[np.ndarray]:
        """The graph over blocks of windows whose intermediate arrays stay in a core's cache, one thread a block: less work than one pass over all of them."""
        blocks = [slice(start, start + BLOCK_WINDOWS) for start in range(0, max(len(window_BLF), 1), BLOCK_WINDOWS)]

        def run(block: slice) -> list[np.ndarray]:
            part_BLF = np.ascontiguousarray(window_BLF[block])
            return self.graph(window=part_BLF, begun=begun(part_BLF), regime=regime_BR[block])

        parts = list(self.workers.map(run, blocks)) if self.workers and len(blocks) > 1 else [run(block) for block in blocks]
        return [np.concatenate(values) for values in zip(*parts, strict=True)]


def begun(window_BLF: np.ndarray) -> np.ndarray:
    """1 from the first bar of a window on that has any known input, 0 before, float32 [B, L]: what lies before is not missing, it never was."""
    begun_BL = np.ones(window_BLF.shape[:2], dtype=np.float32)
    late_B = np.flatnonzero(~np.isfinite(window_BLF[:, 0]).any(axis=1))
    if len(late_B):
        begun_BL[late_B] = np.logical_or.accumulate(np.isfinite(window_BLF[late_B]).any(axis=2), axis=1)
    return begun_BL


def _linear(raw: Linear, inputs_BF: np.ndarray) -> np.ndarray:
    known_BF = np.nan_to_num(np.clip(inputs_BF, -raw.largest_input, raw.largest_input), nan=0.0).astype(np.float64)
    return known_BF @ np.asarray(raw.coefficients) + raw.intercept
