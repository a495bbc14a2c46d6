"""KFP door of the validation stage."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate(
    panel: Input[Dataset],
    settings: str,
    code: str,
    clean: Output[Dataset],
    quarantine: Output[Dataset],
    health: Output[Artifact],
    data_docs: Output[Artifact],
):
    """Part a raw panel into clean rows and quarantine; a critical fault stops the run after its page was
    written.
    """
    from components.contracts import PANEL, RAW_PANEL, read_stamp, read_table, write_table
    from components.progress import report, stage
    from components.settings import config_hash
    from components.validation.config import Settings
    from components.validation.validate import publish, validate_panel

    with stage("validation"):
        parsed = Settings.model_validate_json(settings)
        inputs = {"raw_panel": read_stamp(panel.path).content_sha256}
        found = validate_panel(read_table(panel.path, RAW_PANEL), parsed)
        publish(
            found,
            quarantine=quarantine.path,
            health=health.path,
            data_docs=data_docs.path,
            code_version=code,
            settings=parsed,
            inputs=inputs,
        )
        write_table(
            found.panel, clean.path, PANEL, code_version=code, config_hash=config_hash(parsed), inputs=inputs
        )
        report(
            "validation",
            f"{len(found.panel):,} clean rows, {len(found.quarantine):,} in quarantine,"
            f" {found.health['symbols_out']} symbols",
        )
