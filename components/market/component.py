"""KFP door of the market stage."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(settings: str, seed: int, source: str, code: str, panel: Output[Dataset], truth: Output[Dataset]):
    """The raw panel of the configured source, and the simulator's truth (an empty table for any other
    source).
    """
    from components.market.run import Inputs, Outputs, run

    run(Inputs(seed, source), Outputs(panel.path, truth.path), settings=settings, code=code)
