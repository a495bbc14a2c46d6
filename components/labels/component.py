"""KFP door of the labels stage."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_labels(panel: Input[Dataset], settings: str, code: str, labels: Output[Dataset]):
    """Labels of every bar, symbol and horizon, entered one bar after the signal."""
    from components.contracts import LABELS, PANEL, read_stamp, read_table, write_table
    from components.labels.build import build_labels
    from components.labels.config import Settings
    from components.progress import report, stage
    from components.settings import config_hash

    with stage("labels"):
        parsed = Settings.model_validate_json(settings)
        table = build_labels(read_table(panel.path, PANEL), parsed)
        inputs = {"panel": read_stamp(panel.path).content_sha256}
        write_table(
            table, labels.path, LABELS, code_version=code, config_hash=config_hash(parsed), inputs=inputs
        )
        labelled = table["log_return"].is_not_null().sum()
        report(
            "labels",
            f"{labelled:,} of {len(table):,} rows labelled, horizons {sorted(parsed.horizons)} bars; rows"
            " without their complete future stay unlabelled",
        )
