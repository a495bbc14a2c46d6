"""The drift report of a check that came too early: no champion, a champion without a reference that can be
read, or nothing served yet.
"""

from pathlib import Path

from components.contracts import atomic_path
from components.contracts.documents.champion import ChampionRecord
from components.contracts.documents.drift import CurrentRows, DriftReport, ReferenceRows
from components.drift.reference import read_reference
from components.drift.report import DATA
from components.drift.tables import DriftError


def too_early(
    champion: ChampionRecord | None, reference: Path, rows: int, *, source: str, sha256: str
) -> DriftReport | None:
    """What drift.json says where there is nothing to compare, or None where there is.

    Parameters
    ----------
    champion : None where there is none
    reference : folder of the champion's reference
    rows : of the current table
    source, sha256 : kind and content hash of the current table
    """
    reason = _why(champion, reference, rows)
    if reason is None:
        return None
    whose = ReferenceRows(
        bundle_sha256=champion.bundle_sha256 if champion else None,
        version=champion.version if champion else None,
        train_window=champion.train_window if champion else None,
        rows=None,
        bars=None,
        window_bars=None,
        usual_flagged=None,
    )
    current = CurrentRows(
        rows=rows,
        bars=0,
        symbols=None,
        rows_per_bar_in_reference=None,
        first=None,
        last=None,
        source=source,
        sha256=sha256,
    )
    return DriftReport.nothing_measured(reason, whose, current)


def _why(champion: ChampionRecord | None, reference: Path, rows: int) -> str | None:
    if champion is None:
        return "there is no champion yet, so nothing is served that could drift"
    if not reference.is_dir():
        return (
            f"champion {champion.version} carries no reference of its training window: it was registered"
            " before references were kept"
        )
    if not rows:
        return f"nothing was served yet on bars that champion {champion.version} has not learned from"
    try:
        read_reference(reference)
    except DriftError as error:
        return f"the reference of champion {champion.version} can't be used: {error}"
    return None


def write_early(folder: Path, report: DriftReport) -> None:
    """The report's folder with drift.json alone: there is nothing to draw."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        report.write(temporary / DATA)
