"""Says where a run's tables lie, for work outside of the pipeline: searches and ablations."""

from pathlib import Path

from components.contracts.documents.experts import InputPaths
from components.experts.training.inputs import Inputs

__all__ = ["Inputs", "run"]


def run(inputs: Inputs, panel: str, target: str | Path) -> None:
    """Write the paths of an expert's inputs and of the panel as JSON to the path `target`; empty for a table
    that the run lacks.
    """
    InputPaths(
        panel=panel,
        training_set=str(inputs.training_set),
        labels=str(inputs.labels),
        catalog=str(inputs.catalog),
        selection=str(inputs.selection or ""),
        learnable=str(inputs.learnable or ""),
    ).write(target)
