"""KFP door of the market stage."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(settings: str, seed: int, source: str, code: str, panel: Output[Dataset], truth: Output[Dataset]):
    """The raw panel of the configured source, and the simulator's truth (an empty table for any other
    source).
    """
    import os
    from pathlib import Path

    from components.contracts import RAW_PANEL, write_table
    from components.market.config import Settings
    from components.market.load import describe, load_panel
    from components.market.source_hash import market_sha256
    from components.market.truth import write_truth
    from components.progress import report, stage, warn
    from components.settings import config_hash

    with stage("ingest"):
        parsed = Settings.model_validate_json(settings)
        folder = Path(os.environ.get("ALPHALOOP_DATA", "data"))
        market = load_panel(parsed, data_folder=folder, seed=seed)
        inputs = {"source": source or market_sha256(parsed, folder, seed)}
        write_table(
            market.panel,
            panel.path,
            RAW_PANEL,
            code_version=code,
            config_hash=config_hash(parsed),
            inputs=inputs,
        )
        write_truth(market.truth, truth.path)
        for note in market.notes:
            warn("ingest", note)
        report("ingest", describe(market.panel))
