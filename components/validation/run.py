"""What the doors of validation call: judge a raw panel, write everything down, and stop the run where a
critical check failed; and draw the page of a panel that passed.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.contracts import (
    PANEL,
    RAW_PANEL,
    AlphaloopError,
    map_table,
    read_stamp,
    write_table,
)
from components.contracts.documents.health import PanelHealth
from components.memory.need import MIB, Need
from components.progress import report, stage
from components.progress.notes import keep_page
from components.settings import config_hash
from components.validation.config import Settings
from components.validation.health import document
from components.validation.judge import Judgements
from components.validation.page import write_data_docs
from components.validation.quarantine import QUARANTINE
from components.validation.terminal import stop_lines
from components.validation.validate import Checked, Validation, validate_panel

# Where the page of a panel that was refused lies, from the folder of the health file.
REFUSED = Path("data_docs", "index.html")


class ValidationFailed(AlphaloopError):
    """A critical expectation was not met; the message says which, where and what to do, and names
    the page.
    """


# Simulated panels of 291,452, 971,410 and 1,939,692 rows, two threads: 360, 635 and 1,063 MiB.
NEED = Need("validation", base=240 * MIB, row=450, cell=0)


@dataclass(frozen=True)
class Inputs:
    """`panel`: a RAW_PANEL table."""

    panel: str | os.PathLike


@dataclass(frozen=True)
class Outputs:
    """Where the tables (`clean`: PANEL, `quarantine`), `health` as JSON and the `Judgements` go."""

    clean: str | os.PathLike
    quarantine: str | os.PathLike
    health: str | os.PathLike
    judgements: str | os.PathLike


def run_validate(
    inputs: Inputs, outputs: Outputs, *, settings: str, code: str, origin: str = ""
) -> Validation:
    """Part a raw panel into clean rows and quarantine, and say what was found; `origin` names where the panel
    comes from.

    Raises
    ------
    ValidationFailed
        If a critical expectation was not met; then all is written but `clean`, and the page.
    """
    with stage("validation"):
        NEED.require(inputs.panel)
        parsed = Settings.model_validate_json(settings)
        stamped = {"raw_panel": read_stamp(inputs.panel).content_sha256}
        found = validate_panel(map_table(inputs.panel, RAW_PANEL), parsed)
        publish(found, outputs, settings=parsed, code=code, inputs=stamped, origin=origin)
        stamp = {"code_version": code, "config_hash": config_hash(parsed), "inputs": stamped}
        write_table(found.panel, outputs.clean, PANEL, **stamp)
        report(
            "validation",
            f"{len(found.panel):,} clean rows, {len(found.quarantine):,} in quarantine,"
            f" {found.health['symbols_out']} symbols",
        )
    return found


def run_draw_validation(
    health: str | os.PathLike, judgements: str | os.PathLike, data_docs: str | os.PathLike
) -> None:
    """Draw the page of a validation to `data_docs`, from the health and the judgements that it wrote."""
    with stage("data docs"):
        found = PanelHealth.read(health).model_dump(mode="json")
        write_data_docs(data_docs, found, Judgements.read(judgements).suites)


def publish(
    found: Validation,
    outputs: Outputs,
    *,
    settings: Settings,
    code: str,
    inputs: Mapping[str, str] | None = None,
    origin: str = "",
) -> None:
    """Write quarantine, health and judgements, each atomically; if a critical check failed, draw the page too
    and raise.

    No later task runs then that could draw it.

    Raises
    ------
    ValidationFailed
        After these are on disk; the message names the first failure and the page.
    """
    stamp = {"code_version": code, "config_hash": config_hash(settings), "inputs": inputs}
    write_table(found.quarantine, outputs.quarantine, QUARANTINE, **stamp)
    document(found.health).write(outputs.health)
    Judgements(suites=found.judgements).write(outputs.judgements)
    if found.failures:
        page = Path(outputs.health).parent / REFUSED
        write_data_docs(page, found.health, found.judgements)
        require(found, keep_page(page), origin)


def require(found: Validation | Checked, page: str | os.PathLike, origin: str = "") -> None:
    """Raise ValidationFailed where a critical expectation was not met; `page` is named as the place to read
    more, `origin` as where the table comes from.
    """
    if found.failures:
        of = f" of {origin}" if origin else ""
        told = "\n".join(stop_lines(found.health))
        raise ValidationFailed(f"Validation{of} stopped the run.\n{told}\nRead {page}")
