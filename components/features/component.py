"""KFP door of the features stage."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_features(panel: Input[Dataset], settings: str, period: str, code: str, factors: Output[Dataset], catalog: Output[Artifact]):
    """Raw factors and normalised inputs of every bar, and the catalog of their columns."""
    from components.contracts import FACTORS, PANEL, read_stamp, read_table, write_catalog, write_table
    from components.features.build import build_factors, thin_cross_section
    from components.features.build import catalog as factor_catalog
    from components.features.config import Settings
    from components.progress import report, stage, warn
    from components.settings import config_hash

    with stage("features"):
        parsed = Settings.model_validate_json(settings)
        bars = read_table(panel.path, PANEL)
        entries = factor_catalog(parsed, period)
        advice = thin_cross_section(bars, parsed)
        if advice:
            warn("features", advice)
        table = build_factors(bars, parsed)
        inputs = {"panel": read_stamp(panel.path).content_sha256}
        write_table(table, factors.path, FACTORS, code_version=code, config_hash=config_hash(parsed), inputs=inputs)
        write_catalog(entries, catalog.path)
        wanted = sum(entry.role == "input" for entry in entries)
        report("features", f"{len({entry.factor for entry in entries})} factors, {wanted} inputs, {len(table):,} rows")
