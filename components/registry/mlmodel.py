"""MLmodel: what makes a bundle a model for MLflow's own tools. It names the module that loads the bundle, so
that no pickle is needed, and the columns that go in and come out.
"""

import sys
from pathlib import Path

import yaml

from components.contracts import atomic_write_text
from components.contracts.bundle import MLMODEL
from components.contracts.classes import CLASS_COLUMNS
from components.scoring import Model, ScoringError

# Imported by MLflow wherever a bundle is loaded: a name that stands in registered bundles must stay.
LOADER = "serving.pyfunc"


def write_mlmodel(bundle: Path) -> bool:
    """Write MLmodel into a bundle that has a manifest, which it is not part of yet; False where nothing can
    answer for the bundle, because a stack gives weight to an expert without served form.

    The same bundle gives the same file: nothing of the day or of the run stands in it.
    """
    try:
        model = Model.load(bundle, threads=1)
    except ScoringError:
        return False
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    flavour = {"loader_module": LOADER, "python_version": python}
    about = {"flavors": {"python_function": flavour}, "signature": _signature(model)}
    atomic_write_text(bundle / MLMODEL, yaml.safe_dump(about, sort_keys=False, width=2**16))
    return True


def _signature(model: Model) -> dict[str, str | None]:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    numbers = [ColSpec(DataType.double, name) for name in (*model.columns, *model.context)]
    # MLflow's own type of moments takes none with a zone, and without one we guess none.
    given = [ColSpec(DataType.string, "symbol"), ColSpec(AnyType(), "timestamp"), *numbers]
    window = [ColSpec(DataType.binary, "window")] if model.lookback_bars else []
    classes = CLASS_COLUMNS if model.stacker.head.pool is not None else ()
    answered = ("score", "p10", "p50", "p90", "uncertainty", *classes, "position")
    outputs = [ColSpec(DataType.string, "symbol"), *(ColSpec(DataType.double, name) for name in answered)]
    return ModelSignature(inputs=Schema([*given, *window]), outputs=Schema(outputs)).to_dict()
