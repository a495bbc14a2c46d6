"""Gates: each with its number and threshold, and the champions so far."""

from collections.abc import Sequence
from dataclasses import dataclass

from components.contracts.documents.summary import RunSummary
from components.contracts.documents.verdict import Gate

_KINDS = {"pass": "good", "fail": "bad", "not asked": "soft"}


@dataclass(frozen=True)
class GateRow:
    """A gate as it is shown."""

    name: str
    value: str
    threshold: str
    word: str
    kind: str  # of the word, as a badge has it
    level: str
    asks: str
    needed: str  # what would have let it pass; empty where it did


@dataclass(frozen=True)
class GatesSection:
    """`champions`: version, since when (UTC), by whom, why; empty where there was none."""

    gates: list[GateRow]
    champions: list[tuple[int, str, str, str]]


def gates_section(summary: RunSummary) -> GatesSection:
    """What the gates said, and who was champion when."""
    history = summary.registration.history
    champions = [(reign.version, reign.when.isoformat(), reign.who, reign.why) for reign in history]
    return GatesSection(gate_rows(summary.gates), champions)


def gate_rows(gates: Sequence[Gate]) -> list[GateRow]:
    """Gates as they are shown."""
    return [
        GateRow(
            name=gate.name.replace("_", " "),
            value=_short(gate.value),
            threshold=f"{gate.comparison} {_short(gate.threshold)}",
            word=word(gate),
            kind=_KINDS[word(gate)],
            level=gate.level,
            asks=gate.reason.split(":")[0],
            needed=gate.needed,
        )
        for gate in gates
    ]


def word(gate: Gate) -> str:
    """`pass`, `fail`, or `not asked` where a gate passes without a number."""
    return "not asked" if not gate.asked else "pass" if gate.passed else "fail"


def _short(value: float | None) -> str:
    """A gate's number in at most four digits."""
    return "–" if value is None else f"{value:.4g}"
