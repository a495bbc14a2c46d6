"""KFP doors of the feature store: publishing with materialisation, and the training set."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def materialise(
    factors: Input[Dataset],
    catalog: Input[Artifact],
    settings: str,
    folder: str,
    period: str,
    code: str,
    registry: Output[Artifact],
):
    """Publish the factors to Feast and put the newest values of each symbol online."""
    import json

    from components.contracts import FACTORS, atomic_write_text, read_catalog, read_stamp, read_table
    from components.feature_store.config import Settings
    from components.feature_store.store import materialise, publish
    from components.progress import report, stage

    with stage("materialise"):
        parsed = Settings.model_validate_json(settings)
        table = read_table(factors.path, FACTORS)
        publication = publish(
            table,
            read_catalog(catalog.path),
            parsed,
            folder,
            period,
            factors_sha256=read_stamp(factors.path).content_sha256,
        )
        symbols = materialise(publication, parsed, folder)
        atomic_write_text(registry.path, json.dumps({**publication, "code_version": code}, indent=1))
        report(
            "materialise",
            f"{symbols:,} symbols online at {publication['newest'][:16]}, service {publication['service']},"
            f" {len(publication['columns'])} inputs",
        )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_training_set(
    factors: Input[Dataset],
    panel: Input[Dataset],
    catalog: Input[Artifact],
    registry: Input[Artifact],
    settings: str,
    folder: str,
    code: str,
    training_set: Output[Dataset],
):
    """Join the model's inputs to every (timestamp, symbol) of the panel through Feast, as known at that
    moment.
    """
    from components.contracts import PANEL, TRAINING_SET, read_catalog, read_stamp, read_table, write_table
    from components.feature_store.config import Settings
    from components.feature_store.publication import read_registry
    from components.feature_store.store import publication_store, restore
    from components.feature_store.store import training_set as join
    from components.progress import report, stage
    from components.settings import config_hash

    with stage("training set"):
        parsed = Settings.model_validate_json(settings)
        published = read_registry(registry.path)
        restore(published, factors.path, read_catalog(catalog.path), parsed, folder)
        rows = read_table(panel.path, PANEL).select("timestamp", "symbol", "sector")
        with publication_store(published, folder) as store:
            table = join(store, published["service"], rows)
        inputs = {"factors": published["factors_sha256"], "panel": read_stamp(panel.path).content_sha256}
        write_table(
            table,
            training_set.path,
            TRAINING_SET,
            code_version=code,
            config_hash=config_hash(parsed),
            inputs=inputs,
        )
        report("training set", f"{len(table):,} rows, {len(published['columns'])} inputs")
