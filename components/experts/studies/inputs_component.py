"""KFP door that hands a run's tables to work outside of the pipeline: searches and ablations."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def point_to_inputs(
    training_set: Input[Dataset],
    labels: Input[Dataset],
    catalog: Input[Artifact],
    target: str,
    selection: Input[Artifact] = None,
    learnable: Input[Dataset] = None,
):
    """Write the paths of an expert's inputs as JSON to the path `target`."""
    import json

    from components.contracts import atomic_write_text

    tables = {
        "training_set": training_set,
        "labels": labels,
        "catalog": catalog,
        "selection": selection,
        "learnable": learnable,
    }
    atomic_write_text(
        target, json.dumps({name: table.path if table else "" for name, table in tables.items()}, indent=1)
    )
