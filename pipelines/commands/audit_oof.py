"""What `alphaloop audit-oof` does: audits anybody's own table of out-of-fold predictions."""

from pathlib import Path

from components.audit.result import AuditError
from components.contracts import AlphaloopError
from components.stacking.own_table import OwnTableAudit, audit_own_table
from pipelines.commands.audit import AuditRefused, read_panel

MOST_LINES, MOST_NAMES = 12, 8


class FaultsFound(AlphaloopError):
    """The table was audited and must not be learned from; the message is the summary for the terminal."""

    exit_code = 2
    title = "Faults found"


def audit_oof_command(path: Path) -> str:
    """Audit the table in the file `path`; returns the summary for the terminal.

    Raises
    ------
    FaultsFound
        If it has faults (exit code 2).
    AuditRefused
        If the file can't be read, or has no timestamp and symbol (exit code 1).
    """
    try:
        table = read_panel(path)
    except AuditError as error:
        raise AuditRefused(str(error).replace("Give --data", "Give").replace("panel", "table")) from error
    audit = audit_own_table(table)
    text = summary(audit, path)
    if audit.faults:
        raise FaultsFound(text)
    return text


def summary(audit: OwnTableAudit, path: Path) -> str:
    """The verdict in a screen of text."""
    names = ", ".join(audit.experts[:MOST_NAMES]) + (", …" if audit.experts[MOST_NAMES:] else "")
    about = (
        f"{audit.rows:,} rows, {audit.bars:,} bars from {audit.first} to {audit.last}, {audit.symbols:,}"
        f" symbols, {len(audit.experts)} experts ({names})"
    )
    if not audit.faults:
        lines = [f"No fault found in {path}: {about}."]
    else:
        lines = [f"{path} must not be learned from: {about}."]
        lines += [f"- {fault}." for fault in audit.faults[:MOST_LINES]]
        lines += [f"and {len(audit.faults) - MOST_LINES} more"] if audit.faults[MOST_LINES:] else []
    return "\n".join([*lines, *(f"Note: {note}." for note in audit.notes[:6])])
