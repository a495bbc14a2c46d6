"""KFP door of the features stage."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_features(
    panel: Input[Dataset], settings: str, period: str, code: str, factors: Output[Dataset], catalog: Output[Artifact], fused: Input[Dataset] = None
):  # kfp reads an optional input from `= None`
    """Raw factors and normalised inputs of every bar, and the catalog of their columns; `fused` are values of slow tables."""
    from components.contracts import FACTORS, FUSED, PANEL, read_stamp, read_table, write_catalog, write_table
    from components.features.build import build_supported, thin_cross_section, with_fused
    from components.features.config import Settings
    from components.progress import report, stage, warn
    from components.settings import config_hash

    with stage("features"):
        parsed = Settings.model_validate_json(settings)
        bars = read_table(panel.path, PANEL)
        inputs = {"panel": read_stamp(panel.path).content_sha256}
        if fused is not None:
            bars = with_fused(bars, read_table(fused.path, FUSED))
            inputs["fused"] = read_stamp(fused.path).content_sha256
        table, entries, left_out = build_supported(bars, parsed)
        for advice in (thin_cross_section(bars, parsed), left_out):
            if advice:
                warn("features", advice)
        write_table(table, factors.path, FACTORS, code_version=code, config_hash=config_hash(parsed), inputs=inputs)
        write_catalog(entries, catalog.path)
        wanted = sum(entry.role == "input" for entry in entries)
        report("features", f"{len({entry.factor for entry in entries})} factors, {wanted} inputs, {len(table):,} rows")
