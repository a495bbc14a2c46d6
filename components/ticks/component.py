"""KFP doors of the ticks stage."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def find_tick_source(settings: str, seed: int) -> str:
    """The content hash of the events where they lie: an argument of `ingest_ticks`."""
    from components.ticks.source_hash import run_tick_source

    return run_tick_source(settings=settings, seed=seed)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest_ticks(
    settings: str, seed: int, source: str, code: str, raw: Output[Artifact], report: Output[Artifact]
):
    """The raw events of the configured source, a file for each symbol and session, and what was read;
    `source` is there for the cache alone, so that changed data are never answered from it.
    """
    from components.ticks.run import IngestOutputs, run_ingest

    run_ingest(IngestOutputs(raw.path, report.path), settings=settings, seed=seed, code=code)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate_ticks(
    raw: Input[Artifact],
    settings: str,
    work_folder: str,
    code: str,
    ticks: Output[Artifact],
    delays: Output[Dataset],
    quarantine: Output[Dataset],
    quality: Output[Artifact],
    page: Output[HTML],
):
    """Events that can be relied on, with the clock's offset and their delays; a critical fault stops the run
    after its page was written.
    """
    from components.ticks.run import ValidateOutputs, run_validate

    tables = (ticks.path, delays.path, quarantine.path)
    outputs = ValidateOutputs(*tables, quality.path, page.path, work_folder)
    run_validate(raw.path, outputs, settings=settings, code=code)
