"""KFP doors of the market stage."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def find_source(settings: str, seed: int) -> str:
    """The content hash of the market data where they lie: an argument of `ingest`, so that changed data are
    never answered from a cache.
    """
    from components.market.run import run_source

    return run_source(settings=settings, seed=seed)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(settings: str, seed: int, source: str, code: str, panel: Output[Dataset], truth: Output[Dataset]):
    """The raw panel of the configured source, and the simulator's truth (an empty table for any other
    source).
    """
    from components.market.run import Inputs, Outputs, run

    run(Inputs(seed, source), Outputs(panel.path, truth.path), settings=settings, code=code)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_universe(panel: Input[Dataset], settings: str, code: str, universe: Output[Dataset]):
    """Which rows of a clean panel can be traded, as known at each bar."""
    from components.market.make_universe import run_make_universe

    run_make_universe(panel.path, universe.path, settings=settings, code=code)
