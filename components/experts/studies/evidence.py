"""What a fit left of itself, read for its page: the evidence of its network and, of a composition, of the
first member.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from components.contracts import ContractError, read_json
from components.contracts.documents import Document
from components.contracts.documents.experts import COMPOSED, EXPLAIN, Composition, Explanation
from components.scoring.form import MEMBERS

Kind = TypeVar("Kind", bound=Document)


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
        return Evidence(_read(Explanation, model / EXPLAIN), window)
    composition = _read(Composition, model / COMPOSED)
    first = model / MEMBERS / composition.members[0]
    return Evidence(_read(Explanation, first / EXPLAIN), window, composition)


def _read(kind: type[Kind], path: Path) -> Kind:
    if read_json(path) is None:
        raise ContractError(f"{path.name} is missing or holds no JSON object.")
    try:
        return kind.read(path)
    except ContractError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        first = error.__cause__.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ContractError(f"{path.name}: {place}: {first['msg']}.") from None
