"""Writes a run's report, its summary and its evidence into the run folder."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.contracts import atomic_path, read_gathered
from components.contracts.documents.summary import RunSummary
from components.report.page import write_run_page
from components.report.result import EVIDENCE, Artifacts, read_run

REPORT, SUMMARY, DATA_DOCS = "report.html", "summary.json", "data_docs/index.html"


def build_report(artifacts: Artifacts, config: Mapping[str, Any], folder: Path) -> RunSummary:
    """Write `report.html`, `summary.json`, the page of validation and the stages' own pages into `folder`;
    returns the summary.

    `config` is the whole configuration.
    """
    run = read_run(artifacts, config)
    write_run_page(folder / REPORT, run)
    keep_pages({DATA_DOCS: Path(artifacts.data.data_docs)}, folder)
    keep_pages(read_gathered(artifacts.pages), folder / EVIDENCE)
    run.summary.write(folder / SUMMARY)
    return run.summary


def keep_pages(files: Mapping[str, Path], folder: Path) -> None:
    """Put the files into `folder` under the given names, each atomically; others that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(source, temporary)
