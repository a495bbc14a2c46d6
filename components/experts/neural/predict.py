"""What a fitted model says about rows of a panel.

Shapes: N rows, T tasks, C classes, K columns of some evidence, R regimes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from components.contracts import REGIMES


@dataclass(frozen=True)
class Predicted:
    """Scores [N, T], quantiles [N, T, 3] in units of volatility, chances of the classes [N, C] (C = 0 without
    a direction head), and the evidence: by name the sums [R + 1, K] over the rows of each regime (the last:
    unknown), and the rows of each [R + 1].
    """

    score_NT: np.ndarray
    quantiles_NT3: np.ndarray
    direction_NC: np.ndarray
    evidence: Mapping[str, np.ndarray]
    regime_rows: np.ndarray


def predict(
    model: torch.nn.Module,
    panel,
    rows: np.ndarray,
    windows: int,
    *,
    whole_days: bool = False,
    explain: bool = False,
) -> Predicted:
    """Everything about `rows`, in their order.

    Parameters
    ----------
    model : neural.heads.ForecastModel; left in evaluation mode
    panel : neural.panel.Panel
    rows : row numbers, sorted by day; with `whole_days` all rows of each day
    windows : windows a batch; more where a day holds more
    explain : show the network the bars as they are, so that what it says of single inputs is among the
        evidence; slower
    """
    model.eval()
    scores, quantiles, directions, sums = [], [], [], {}
    regime_N = np.where(panel.bars.regime_N[rows] < 0, len(REGIMES), panel.bars.regime_N[rows])
    with torch.inference_mode():
        prepared = None if explain else panel.prepared(model.network)
        for part in parts(panel.day_N[rows], windows, whole_days):
            outputs = model(panel.batch(rows[part], prepared))
            scores.append(outputs.score_BT.cpu())
            quantiles.append(outputs.quantiles_BT3.cpu())
            if outputs.direction_BC is not None:
                directions.append(torch.softmax(outputs.direction_BC, dim=-1).cpu())
            regime_B = torch.from_numpy(regime_N[part])
            for name, value_BK in outputs.encoded.evidence.items():
                total = sums.setdefault(
                    name, torch.zeros(len(REGIMES) + 1, value_BK.shape[1], dtype=torch.float64)
                )
                total.index_add_(0, regime_B, value_BK.double().cpu())
    tasks = len(model.score_TE)
    return Predicted(
        _joined(scores, (0, tasks)),
        _joined(quantiles, (0, tasks, 3)),
        _joined(directions, (len(rows), 0)),
        {name: total.numpy() for name, total in sums.items()},
        np.bincount(regime_N, minlength=len(REGIMES) + 1),
    )


def predict_among_others(
    model: torch.nn.Module, panel, rows: np.ndarray, windows: int, *, explain: bool = False
) -> Predicted:
    """As `predict`, for a network across symbols: it is shown all rows of the days of `rows`, which may be
    some of them in the frame's order.
    """
    bars = panel.bars
    numbers = np.flatnonzero(np.isin(bars.day_N, np.unique(bars.day_N[rows])))
    everyone = numbers[np.argsort(bars.frame_row_N[numbers])]
    found = predict(model, panel, everyone, windows, whole_days=True, explain=explain)
    places = np.searchsorted(bars.frame_row_N[everyone], bars.frame_row_N[rows])
    return Predicted(
        found.score_NT[places],
        found.quantiles_NT3[places],
        found.direction_NC[places],
        found.evidence,
        found.regime_rows,
    )


def parts(day_N: np.ndarray, windows: int, whole_days: bool) -> list[slice]:
    """Consecutive stretches of at most `windows` rows; with `whole_days` of whole days, at least one each."""
    if not len(day_N):
        return []
    if not whole_days:
        return [slice(start, start + windows) for start in range(0, len(day_N), windows)]
    starts = np.append(np.flatnonzero(np.diff(day_N, prepend=day_N[0] - 1)), len(day_N))
    borders = [0]
    while borders[-1] < len(day_N):
        following = int(np.searchsorted(starts, borders[-1] + windows, side="right")) - 1
        borders.append(
            int(max(starts[following], starts[np.searchsorted(starts, borders[-1], side="right")]))
        )
    return [slice(first, end) for first, end in pairwise(borders)]


def _joined(parts: list[torch.Tensor], empty: tuple[int, ...]) -> np.ndarray:
    return torch.cat(parts).numpy().astype(np.float64) if parts else np.zeros(empty)
