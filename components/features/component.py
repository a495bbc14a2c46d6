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
    from pathlib import Path

    from components.contracts import FACTORS, FUSED, PANEL, read_stamp, read_table, write_catalog, write_table
    from components.features.build import build_factors, supported_catalog, thin_cross_section, with_fused
    from components.features.config import Settings
    from components.features.kept import add_to_kept, keep
    from components.progress import report, stage, warn
    from components.settings import config_hash

    with stage("features"):
        parsed = Settings.model_validate_json(settings)
        bars = read_table(panel.path, PANEL)
        slow = read_table(fused.path, FUSED) if fused is not None else None
        inputs = {
            "panel": read_stamp(panel.path).content_sha256,
            **({"fused": read_stamp(fused.path).content_sha256} if fused is not None else {}),
        }
        fed = bars if slow is None else with_fused(bars, slow)
        entries, left_out = supported_catalog(fed, parsed)
        for advice in (thin_cross_section(bars, parsed), left_out):
            if advice:
                warn("features", advice)
        added = add_to_kept(
            Path(kept) if kept else None,
            bars,
            slow,
            parsed,
            code_version=code,
            inputs=inputs,
            target=factors.path,
        )
        if added is None:
            table = build_factors(fed, parsed).select(*FACTORS.columns, *(entry.column for entry in entries))
            write_table(
                table,
                factors.path,
                FACTORS,
                code_version=code,
                config_hash=config_hash(parsed),
                inputs=inputs,
            )
        if kept:
            keep(factors.path, Path(kept))
        write_catalog(entries, catalog.path)
        wanted = sum(entry.role == "input" for entry in entries)
        rows = f"{len(bars):,} rows" if added is None else f"{added:,} rows added to {len(bars) - added:,}"
        report("features", f"{len({entry.factor for entry in entries})} factors, {wanted} inputs, {rows}")
