"""From the artifacts of a run to the registry: builds the bundle, then records the judged model."""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.registry.bundle import build_bundle
from components.registry.config import Settings
from components.registry.store import register_model


def record(
    settings: Settings,
    *,
    name: str,
    folder: Path,
    expert_folders: Sequence[Path],
    verdict: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    predictions: Path,
    stacker: Path,
    catalog: Path,
    feature_registry: Path,
    config: Mapping[str, Any],
    code: str,
    reference: Path | None = None,
) -> dict[str, Any]:
    """Bundle the fitted experts with the stacker and record the model; see `register_model` for what comes
    back.

    Parameters
    ----------
    expert_folders : artifact folders of the experts, each with `status.json` and, where it was trained,
        `model/`
    evaluation : of the backtest stage
    predictions : ALL_PREDICTIONS file of the run
    config : the whole configuration, kept in the manifest
    reference : folder with the drift reference of the training window
    """
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        bundle.mkdir()
        build_bundle(
            bundle,
            experts=_trained(expert_folders),
            stacker=stacker,
            catalog=catalog,
            feature_registry=feature_registry,
            predictions=predictions,
            config={key: value for key, value in config.items() if key not in ("run", "registry", "cluster")},
            code=code,
            reference=reference,
        )
        return register_model(
            settings,
            name,
            folder,
            bundle=bundle,
            verdict=verdict,
            metrics=_metrics(verdict),
            trial=_trial(evaluation),
        )


def _trained(folders: Sequence[Path]) -> dict[str, Path]:
    statuses = {
        folder: json.loads((folder / "status.json").read_text(encoding="utf-8")) for folder in folders
    }
    return {
        status["expert"]: folder / "model"
        for folder, status in statuses.items()
        if status["status"] == "trained"
    }


def _metrics(verdict: Mapping[str, Any]) -> dict[str, float]:
    """The gates' numbers, as MLflow takes them: finite floats by name."""
    values = {gate["name"]: gate["value"] for gate in verdict["gates"]}
    return {
        key: float(value)
        for key, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _trial(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """What was scored; models of the same kind whose test windows overlap are trials of one another."""
    window = evaluation["windows"]["test"]
    return {
        "period": evaluation["period"],
        "target": evaluation["target"],
        "test_start": window["start"],
        "test_end": window["end"],
    }
