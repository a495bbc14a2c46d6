"""KFP doors of the feature store: publishing with materialisation, and the training set."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def materialise(
    factors: Input[Dataset],
    catalog: Input[Artifact],
    panel: Input[Dataset],
    universe: Input[Dataset],
    settings: str,
    folder: str,
    period: str,
    code: str,
    registry: Output[Artifact],
    online_universe: Output[Artifact],
) -> str:
    """Publish the factors to Feast and put the newest values of each symbol online, beside which of them can
    be traded; returns the name of the publication, which stands for its content.
    """
    from components.feature_store.run import Described, Factors, run_materialise

    published = Factors(factors.path, catalog.path, panel.path, universe.path)
    described = Described(registry.path, online_universe.path)
    return run_materialise(published, described, folder=folder, period=period, settings=settings, code=code)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_training_set(
    factors: Input[Dataset],
    panel: Input[Dataset],
    catalog: Input[Artifact],
    publication: str,
    period: str,
    settings: str,
    folder: str,
    code: str,
    training_set: Output[Dataset],
):
    """Join the model's inputs to every (timestamp, symbol) of the panel through Feast, as known at that
    moment. What was published is an argument, for it is the content that counts: `materialise` may have run
    again only to see that all stands.
    """
    from components.feature_store.run import TrainingInputs, run_make_training_set

    inputs = TrainingInputs(factors.path, catalog.path, panel.path, publication, period)
    run_make_training_set(inputs, training_set.path, folder=folder, settings=settings, code=code)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def live_rows(
    factors: Input[Dataset],
    catalog: Input[Artifact],
    settings: str,
    bars: int,
    code: str,
    rows: Output[Dataset],
):
    """Make the rows of the newest bars as the online store would have held them, bar by bar."""
    from components.feature_store.as_served import run_live_rows

    run_live_rows(factors.path, catalog.path, rows.path, settings=settings, bars=bars, code=code)
