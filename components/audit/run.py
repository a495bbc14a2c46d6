"""What the door of the audit calls: audit the tables of a run, write what was found, and stop
where there is a leak.
"""

import os
from dataclasses import dataclass

from components.audit.builders import load_builder, load_pieces
from components.audit.config import Settings
from components.audit.page import page_html
from components.audit.result import AuditResult
from components.audit.whole_run import InPieces, Tables, audit_run
from components.contracts import (
    FACTORS,
    FUSED,
    LABELS,
    PANEL,
    atomic_write_text,
    map_table,
    read_catalog,
    read_table,
    require_one_origin,
)
from components.contracts.parts import scan_table
from components.memory.cutting import Held
from components.memory.need import MIB, Need, table_size
from components.progress import report, stage, warn

# With the whole history built anew in the smallest pieces: of 182 columns, 484,978, 968,835 and 1,940,267
# rows: 314, 424 and 843 MiB, most of it for the keys of three labels a row.
NEED = Need("audit", base=100 * MIB, row=400, cell=0)
# With all of it built at once: of 261 columns, 115,810 and 485,564 rows: 378 and 1,321 MiB; or of labels,
# 1,454,934 rows: 751 MiB more.
BASE_BYTES, VALUE_BYTES, LABEL_BYTES = 85 * MIB, 10.2, 540
# A piece of 250,000 rows of 182 columns: 335 MiB; or of labels at three horizons, 266 MiB.
ROW_BYTES_OF_PIECE, VALUE_BYTES_OF_PIECE, LABEL_BYTES_OF_PIECE = 700, 4, 370
# Smaller pieces save no memory that matters and cost time.
FEWEST_ROWS = 50_000


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
        If not even a rebuild of the whole history in the smallest pieces can ever fit; nothing is read then.
    """
    with stage("audit"):
        parsed = Settings.model_validate_json(settings)
        rows = _rows_of_a_piece(inputs) if parsed.whole_history else None
        require_one_origin([inputs.factors, inputs.labels], "panel")
        result = audit_run(
            _tables(inputs),
            load_builder(builders.factors, builders.factor_settings),
            load_builder(builders.labels, builders.label_settings),
            settings=parsed,
            seed=seed,
            in_pieces=InPieces() if rows is None else _in_pieces(builders, rows),
        )
        write_audit(result, outputs)
        result.raise_if_leaking(outputs.page)
        report(
            "audit",
            f"no leak in {result.checked['factors']} factor columns at {len(result.checked['cuts'])} cuts,"
            " nor in the labels",
        )
        if left_out := result.checked["scan_cuts_left_out"]:
            warn(
                "audit",
                f"{left_out} cuts of audit.scan_cuts were not made: see the notes in the audit's page.",
            )
    return result


def write_audit(result: AuditResult, outputs: Outputs) -> None:
    """Write the result as JSON and as a self-contained page."""
    result.write_json(outputs.audit)
    atomic_write_text(outputs.page, page_html(result))


def held(rows: int, columns: int, labels: int) -> Held:
    """What the audit of so many rows and columns of factors, and rows of labels, holds: one of the two tables
    is built anew at a time.
    """
    each = labels / max(rows, 1)
    of_row = max(VALUE_BYTES * columns, LABEL_BYTES * each)
    of_piece = max(ROW_BYTES_OF_PIECE + VALUE_BYTES_OF_PIECE * columns, LABEL_BYTES_OF_PIECE * each)
    beside = NEED.bytes(rows, columns) - BASE_BYTES - FEWEST_ROWS * int(of_piece)
    return Held(BASE_BYTES, int(of_row), beside, int(of_piece), FEWEST_ROWS)


def _rows_of_a_piece(inputs: Inputs) -> int | None:
    """The rows of a piece of the history that is built anew; None: all at once.

    Raises
    ------
    TooLittleMemory
        If not even the smallest pieces can ever fit.
    """
    rows, columns = table_size(inputs.factors)
    least = held(rows, columns, labels=0)
    needed = min(least.at_once(rows), least.at_least())
    Need("audit", base=needed, row=0, cell=0).require_for(rows, columns)
    holds = held(rows, columns, table_size(inputs.labels)[0])
    if holds.fits_at_once(rows):
        return None
    piece = holds.rows_of_a_piece()
    report(
        "audit",
        f"the whole history is built anew in pieces of about {piece:,} rows, because all at once would not"
        " fit into memory",
    )
    return piece


def _in_pieces(builders: Builders, rows: int) -> InPieces:
    return InPieces(
        load_pieces(builders.factors, builders.factor_settings, rows),
        load_pieces(builders.labels, builders.label_settings, rows),
    )


def _tables(inputs: Inputs) -> Tables:
    """The tables of a run; the panel with its slow columns, as the features stage hands it to its builder."""
    panel = map_table(inputs.panel, PANEL)
    if inputs.fused:
        fused = read_table(inputs.fused, FUSED)
        panel = panel.join(fused, on=["timestamp", "symbol"], how="left", maintain_order="left")
    factors, labels = scan_table(inputs.factors, FACTORS), scan_table(inputs.labels, LABELS)
    return Tables(panel, factors, labels, read_catalog(inputs.catalog))
