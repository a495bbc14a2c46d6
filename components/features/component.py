"""KFP door of the features stage."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_features(
    panel: Input[Dataset],
    settings: str,
    period: str,
    code: str,
    factors: Output[Dataset],
    catalog: Output[Artifact],
    fused: Input[Dataset] = None,  # kfp reads an optional input from `= None`
    kept: str = "",
):
    """Raw factors and normalised inputs of every bar, and the catalog of their columns; `fused` are values of
    slow tables.

    `kept` is where the table is kept for the next run, which then makes the rows of new bars only.
    """
    from components.features.run import Inputs, Outputs, run

    inputs = Inputs(panel=panel.path, fused=fused and fused.path, kept=kept)
    run(inputs, Outputs(factors=factors.path, catalog=catalog.path), settings=settings, code=code)
