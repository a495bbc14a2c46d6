"""What the door of the audit calls: audit the tables of a run, write what was found, and stop
where there is a leak.
"""

import os
from dataclasses import dataclass

from components.audit.builders import load_builder
from components.audit.config import Settings
from components.audit.page import page_html
from components.audit.result import AuditResult
from components.audit.whole_run import Tables, audit_run
from components.contracts import (
    FACTORS,
    FUSED,
    LABELS,
    PANEL,
    atomic_write_text,
    read_catalog,
    read_table,
    require_one_origin,
)
from components.contracts.parts import scan_table
from components.memory.need import MIB, Need
from components.progress import report, stage

# The whole history is rebuilt at once; all else holds windows and some columns. Simulated factors, 115,810
# and 485,564 rows of 261 columns: 378 and 1,321 MiB.
NEED = Need("audit", base=85 * MIB, row=0, cell=10.2)


@dataclass(frozen=True)
class Inputs:
    """PANEL, FACTORS, LABELS, the catalog, and FUSED where the run has slow tables."""

    panel: str | os.PathLike
    factors: str | os.PathLike
    labels: str | os.PathLike
    catalog: str | os.PathLike
    fused: str | os.PathLike | None = None


@dataclass(frozen=True)
class Outputs:
    """Where the result as JSON and as a page goes."""

    audit: str | os.PathLike
    page: str | os.PathLike


@dataclass(frozen=True)
class Builders:
    """What made factors and labels: `package.module:function` and its settings as JSON."""

    factors: str
    factor_settings: str
    labels: str
    label_settings: str


def run(inputs: Inputs, outputs: Outputs, builders: Builders, *, settings: str, seed: int) -> AuditResult:
    """Rebuild factors and labels on changed and cut-off history.

    Raises
    ------
    LeakFound
        If one knew the future; both files are written by then.
    TooLittleMemory
        If the rebuild of the whole history can never fit; nothing is read then.
    """
    with stage("audit"):
        parsed = Settings.model_validate_json(settings)
        if parsed.whole_history:
            NEED.require(inputs.factors)
        require_one_origin([inputs.factors, inputs.labels], "panel")
        result = audit_run(
            _tables(inputs),
            load_builder(builders.factors, builders.factor_settings),
            load_builder(builders.labels, builders.label_settings),
            settings=parsed,
            seed=seed,
        )
        write_audit(result, outputs)
        result.raise_if_leaking(outputs.page)
        report(
            "audit",
            f"no leak in {result.checked['factors']} factor columns at {len(result.checked['cuts'])} cuts,"
            " nor in the labels",
        )
    return result


def write_audit(result: AuditResult, outputs: Outputs) -> None:
    """Write the result as JSON and as a self-contained page."""
    result.write_json(outputs.audit)
    atomic_write_text(outputs.page, page_html(result))


def _tables(inputs: Inputs) -> Tables:
    """The tables of a run; the panel with its slow columns, as the features stage hands it to its builder."""
    panel = read_table(inputs.panel, PANEL)
    if inputs.fused:
        fused = read_table(inputs.fused, FUSED)
        panel = panel.join(fused, on=["timestamp", "symbol"], how="left", maintain_order="left")
    factors, labels = scan_table(inputs.factors, FACTORS), scan_table(inputs.labels, LABELS)
    return Tables(panel, factors, labels, read_catalog(inputs.catalog))
