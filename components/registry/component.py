"""KFP doors of the registry."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def read_champion(
    settings: str,
    name: str,
    folder: str,
    champion: Output[Artifact],
    training_set: Input[Dataset] = None,
    feature_registry: Input[Artifact] = None,
):
    """Fetch the champion's out-of-sample predictions and drift reference; with a training set it also scores
    the bars after its own training.
    """
    from components.registry.run import ChampionInputs, RegistryPlace, run_read_champion

    scored = training_set is not None
    inputs = ChampionInputs(training_set.path, feature_registry.path) if scored else None
    run_read_champion(RegistryPlace(settings, name, folder), champion.path, inputs)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gather_trials(
    evaluation: Input[Artifact],
    returns: Input[Dataset],
    settings: str,
    name: str,
    folder: str,
    trials: Output[Artifact],
):
    """Gather every model that was ever scored on the evaluation's test window."""
    from components.registry.run import RegistryPlace, run_gather_trials

    run_gather_trials(RegistryPlace(settings, name, folder), evaluation.path, returns.path, trials.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    verdict: Input[Artifact],
    evaluation: Input[Artifact],
    trials: Input[Artifact],
    predictions: Input[Dataset],
    stacker: Input[Artifact],
    catalog: Input[Artifact],
    feature_registry: Input[Artifact],
    config: str,
    settings: str,
    name: str,
    folder: str,
    code: str,
    reference: Input[Artifact],
    experts: Input[Artifact],
    registration: Output[Artifact],
):
    """Record the judged model; register and promote it if it was approved."""
    from components.registry.run import CandidateInputs, RegistryPlace, run_register

    documents = (verdict.path, evaluation.path, trials.path)
    made = (predictions.path, stacker.path, catalog.path, feature_registry.path, reference.path)
    inputs = CandidateInputs(*documents, *made, experts.path)
    run_register(RegistryPlace(settings, name, folder), inputs, registration.path, config=config, code=code)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register_ticks(
    verdict: Input[Artifact],
    found: Input[Artifact],
    predictions: Input[Dataset],
    ticks: Input[Artifact],
    delays: Input[Dataset],
    catalog: Input[Artifact],
    expert: Input[Artifact],
    config: str,
    settings: str,
    name: str,
    folder: str,
    code: str,
    registration: Output[Artifact],
):
    """Record the judged model of ticks; register it if it was approved."""
    from components.registry.run import RegistryPlace
    from components.registry.tick_bundle import CandidateInputs, run_register_ticks

    documents, made = (verdict.path, found.path), (predictions.path, ticks.path, delays.path, catalog.path)
    inputs = CandidateInputs(*documents, *made, expert.path)
    place = RegistryPlace(settings, name, folder)
    run_register_ticks(place, inputs, registration.path, config=config, code=code)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fetch_bundle(champion: Input[Artifact], settings: str, name: str, folder: str, bundle: Output[Artifact]):
    """Copy the champion's bundle out of the registry."""
    from components.registry.champion_bundle import run_fetch_bundle
    from components.registry.run import RegistryPlace

    run_fetch_bundle(RegistryPlace(settings, name, folder), champion.path, bundle.path)
