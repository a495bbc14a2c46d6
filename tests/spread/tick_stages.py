"""The stages of ticks that work on symbol-sessions by themselves: half a minute of two simulated symbols."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from components.tick_features import run as features
from components.tick_labels import run as labels
from components.tick_labels.config import Settings as LabelSettings
from components.ticks.config import Settings
from components.ticks.run import IngestOutputs, ValidateOutputs, run_ingest, run_validate

MARKET = Settings(simulator={"symbols": 2, "session_minutes": 0.5}).model_dump_json()
LABELS = LabelSettings(
    horizons_ms=(250,), primary_horizon_ms=250, order_value=5_000.0, fewest_moves=0
).model_dump_json()


def ingest(folder: Path) -> Path:
    """The raw ticks."""
    outputs = IngestOutputs(folder / "raw", folder / "report.json")
    run_ingest(outputs, settings=MARKET, seed=5, code="test")
    return folder / "raw"


def stages(raw: Path, folder: Path) -> Mapping[str, Callable[[], object]]:
    """Each stage by its name, in their order; all write into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ticks, delays, table = folder / "ticks", folder / "delays", folder / "features"
    names = ("aside", "quality", "page", "work_ticks")
    valid = ValidateOutputs(ticks, delays, *(folder / name for name in names))
    sampled = features.Outputs(table, folder / "catalog", folder / "work_features")
    inputs = labels.Inputs(ticks, table, delays)
    made = labels.Outputs(folder / "labels", folder / "work_labels")
    return {
        "validate ticks": partial(run_validate, raw, valid, settings=MARKET, code="test"),
        "tick features": partial(features.run, features.Inputs(ticks), sampled, settings="{}", code="test"),
        "tick labels": partial(labels.run, inputs, made, settings=LABELS, code="test"),
    }


def make_all(raw: Path, folder: Path) -> None:
    for stage in stages(raw, folder).values():
        stage()
