"""What a fit left of itself, read for its page: the evidence of its network and, of a composition, of the
first member.
"""

from dataclasses import dataclass
from pathlib import Path

from components.contracts import read_json
from components.contracts.documents.experts import COMPOSED, EXPLAIN, Composition, Explanation, read_left
from components.scoring.form import MEMBERS


@dataclass(frozen=True)
class Evidence:
    """Of one fit: what its network attends to, the window it was trained on, and what it is a member of."""

    explanation: Explanation
    train_window: str
    composition: Composition | None = None


def read_evidence(model: Path) -> Evidence:
    """What the fit in the folder `model` left.

    Raises
    ------
    ContractError
        If a file is missing or damaged; one line that says which and what is wrong, not what to do.
    """
    window = (read_json(model / "manifest.json") or {}).get("train_window", "an unknown window")
    if not (model / COMPOSED).exists():
        return Evidence(read_left(Explanation, model / EXPLAIN), window)
    composition = read_left(Composition, model / COMPOSED)
    first = model / MEMBERS / composition.members[0]
    return Evidence(read_left(Explanation, first / EXPLAIN), window, composition)
