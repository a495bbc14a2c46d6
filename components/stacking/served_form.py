"""The files that hold a fitted combiner with its head, as serving reads them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from components.contracts import REGIMES, atomic_path
from components.scoring.form import SERVED_FORMAT
from components.scoring.stacker import (
    BY_SECTOR_NAME,
    CLASSES_NAME,
    GRAPH_FILE,
    HEAD_NAMES,
    STACKER_FILE,
    TEMPERATURE_NAME,
    USUAL_NAME,
    WIDTHS_NAME,
    Head,
)
from components.scoring.trees import lightgbm_graph
from components.stacking.combiners import Combiner, listened_to
from components.stacking.network import network_graph


def served_files(
    method: str,
    combiner: Combiner,
    experts: list[str],
    head: Head,
    widths: Mapping[str, float] | None = None,
    *,
    by_sector: bool = False,
) -> dict[str, str | bytes]:
    """Files by name that hold a fitted combiner with its head:

    `stacker.json`; for trees and networks `stacker.onnx`, and of trees LightGBM's text.

    Parameters
    ----------
    method : the combiner that was chosen; where too little was known to fit it, `combiner` is equal weights
    experts : all that it could have listened to
    widths : factor on the uncertainty of each expert that learned another task
    by_sector : scores are taken less the mean of their sector
    """
    columns = {"columns": combiner.columns} if combiner.has_graph else {}
    classes = (
        {} if head.pool is None else {CLASSES_NAME: head.pool.values, TEMPERATURE_NAME: head.pool.temperature}
    )
    alpha = {} if combiner.alpha is None else {"alpha": combiner.alpha}
    values = {
        "format": SERVED_FORMAT,
        "method": method,
        "experts": experts,
        "served_experts": listened_to(combiner),
        "regimes": list(REGIMES),
        "graph": GRAPH_FILE if combiner.has_graph else None,
        **dict(zip(HEAD_NAMES, (head.scale, head.bias, head.low, head.high), strict=True)),
        USUAL_NAME: head.usual if math.isfinite(head.usual) else None,
        **classes,
        **columns,
        "weights": combiner.weights,
        **({WIDTHS_NAME: dict(widths)} if widths else {}),
        **({BY_SECTOR_NAME: True} if by_sector else {}),
        **alpha,
    }
    files: dict[str, str | bytes] = {STACKER_FILE: json.dumps(values, indent=1)}
    if combiner.booster is not None:
        files |= {"stacker_lightgbm.txt": combiner.booster, GRAPH_FILE: _graph(combiner.booster)}
    if combiner.network is not None:
        files[GRAPH_FILE] = network_graph(combiner.network)
    return files


def write_model(files: dict[str, str | bytes], folder: Path) -> None:
    """Write the stacker's files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / name) as path:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def _graph(booster: str) -> bytes:
    import lightgbm

    return lightgbm_graph(lightgbm.Booster(model_str=booster).dump_model())
