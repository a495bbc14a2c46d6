"""The drift report of a check that came too early: no champion, a champion without a reference that can be
read, or nothing served yet.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.contracts import atomic_path
from components.drift.reference import read_reference
from components.drift.tables import DriftError

FORMAT = 1


def too_early(
    champion: Mapping[str, Any], reference: Path, rows: int, *, source: str, sha256: str
) -> dict[str, Any] | None:
    """What drift.json says where there is nothing to compare, or None where there is.

    Parameters
    ----------
    champion : champion.json of the registry stage
    reference : folder of the champion's reference
    rows : of the current table
    source, sha256 : kind and content hash of the current table
    """
    version = champion.get("version")
    if version is None:
        reason = "there is no champion yet, so nothing is served that could drift"
    elif not reference.is_dir():
        reason = (
            f"champion {version} carries no reference of its training window: it was registered before"
            " references were kept"
        )
    elif not rows:
        reason = f"nothing was served yet on bars that champion {version} has not learned from"
    else:
        try:
            read_reference(reference)
            return None
        except DriftError as error:
            reason = f"the reference of champion {version} can't be used: {error}"
    return {
        "format": FORMAT,
        "verdict": "not_enough_data",
        "reason": reason,
        "reference": {
            "bundle_sha256": champion.get("bundle_sha256"),
            "version": version,
            "train_window": champion.get("train_window"),
            "rows": None,
            "bars": None,
        },
        "current": {"rows": rows, "bars": 0, "first": None, "last": None, "source": source, "sha256": sha256},
        "columns": [],
        "predictions": None,
        "label_shift": None,
        "adversarial": None,
        "information_ratio": None,
        "rules": [],
    }


def write_early(folder: Path, result: Mapping[str, Any]) -> None:
    """The report's folder with drift.json alone: there is nothing to draw."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        (temporary / "drift.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
