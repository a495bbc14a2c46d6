"""What drift hands over: the report of one check, and in it each rule as one object."""

import json
from typing import Any, Literal, Self

from components.contracts.documents import Document, Part
from components.contracts.documents.fields import Figure, Moment

__all__ = [
    "RULES",
    "ColumnDrift",
    "ColumnRule",
    "Correlation",
    "CurrentRows",
    "DriftReport",
    "DriftRule",
    "Gain",
    "InformationRatio",
    "LabelMove",
    "LabelShift",
    "Month",
    "PredictionDrift",
    "ReferenceRows",
    "RuleName",
    "Separation",
    "UsualFlagged",
    "What",
]

ColumnRule = Literal["ks", "psi", "tail", "missing", "constant"]
RuleName = Literal[ColumnRule, "predictions", "auc", "label_shift", "information_ratio"]
What = Literal["mean", "scale", "tail", "constant", "missing", "shape"]

# Every rule, in the order of the report, and its name for people.
RULES: dict[RuleName, str] = {
    "ks": "Distribution of a factor (KS)",
    "psi": "Distribution of a factor (PSI)",
    "tail": "Tail of a factor",
    "missing": "Missing values",
    "constant": "Constant factor",
    "predictions": "Predictions",
    "auc": "Classifier (AUC)",
    "label_shift": "Labels by regime",
    "information_ratio": "Information ratio",
}


class DriftRule(Part):
    """One rule: what was found beside its threshold, whether it fired, and why in words."""

    rule: RuleName
    value: Figure
    threshold: Figure
    fired: bool
    reason: str
    factors: tuple[str, ...]  # the columns that made it fire, or that it names

    @property
    def title(self) -> str:
        """The rule's name for people."""
        return RULES[self.rule]

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason}"


class ColumnDrift(Part):
    """One column of the current rows beside the reference; `usual_...` is the most that windows of training
    show.
    """

    column: str
    group: str
    kind: Literal["input", "context", "score"]
    ks: Figure
    ks_p: Figure
    psi: Figure
    psi_p: Figure
    usual_ks: Figure
    usual_psi: Figure
    missing_share: Figure
    usual_missing: Figure
    missing_rise: Figure
    missing_p: Figure
    tail_share: Figure  # rows beyond the reference's outermost 0.1 % on each side
    far_share: Figure  # rows a whole range of training away from it
    usual_tail: Figure
    reference_tail: Figure
    tail_p: Figure
    constant: bool
    usual_constant: bool
    rows_in_reference: int
    rows: int
    effective_rows: Figure
    effective_rows_in_reference: Figure
    reference_median: Figure
    median: Figure
    reference_spread: Figure
    spread: Figure
    ks_p_adjusted: Figure
    psi_p_adjusted: Figure
    tail_p_adjusted: Figure
    missing_p_adjusted: Figure
    rules: tuple[ColumnRule, ...]
    drifted: bool
    what: What | None
    since: Moment | None  # the bar from which the column stays outside

    @property
    def beyond_usual(self) -> float:
        """How much further from the reference it lies than any window of training (Kolmogorov-Smirnov)."""
        return (self.ks or 0.0) - (self.usual_ks or 0.0)

    @property
    def chances(self) -> dict[ColumnRule, float | None]:
        """How likely chance does it, of each rule that fired and has a test; corrected for all columns."""
        tested: dict[ColumnRule, float | None] = {
            "ks": self.ks_p_adjusted,
            "psi": self.psi_p_adjusted,
            "tail": self.tail_p_adjusted,
            "missing": self.missing_p_adjusted,
        }
        return {rule: tested[rule] for rule in self.rules if rule in tested}


class Correlation(Part):
    """Rank correlation of the score with a column that moved, in the reference's sample and now."""

    column: str
    reference: Figure
    current: Figure


class PredictionDrift(ColumnDrift):
    """The score: a column like the others, with its spread within a bar and the columns that it goes along
    with.
    """

    dispersion: Figure
    reference_dispersion: Figure
    usual_dispersion: tuple[Figure, Figure] | None  # the smallest and largest mean over windows of training
    dispersion_moved: bool
    goes_along: tuple[Correlation, ...]


class LabelMove(Part):
    """What labels did in one regime: lean to one side, or spread out."""

    regime: str
    move: Literal["lean", "dispersion"]
    share: Figure
    usual: Figure
    p: Figure
    shares: tuple[float, ...]  # of low, middle and high labels
    reference_shares: tuple[float, ...]
    rows: int
    bars: int
    p_adjusted: Figure
    moved: bool


class LabelShift(Part):
    """The share of labels that changed class: where it is largest, and by regime."""

    largest: Figure
    regime: str
    move: Literal["lean", "dispersion"]
    usual: Figure
    p_adjusted: Figure
    labels: int
    by_regime: tuple[LabelMove, ...]


class Gain(Part):
    """A column's share of what the classifier gained."""

    column: str
    importance: float


class Separation(Part):
    """How well a classifier tells current rows from the reference."""

    auc: float
    usual_auc: Figure  # the highest of the reference's windows
    usual_limit: Figure  # what a further window passes by chance
    windows: int
    factors: tuple[Gain, ...]


class Month(Part):
    """What the scores were worth in one month (YYYY-MM)."""

    month: str
    information_ratio: Figure
    rank_ic: Figure
    bars: int


class InformationRatio(Part):
    """Mean over spread of the scores' RankIC by bar, now and out of sample at training."""

    reference: Figure
    current: Figure
    usual: Figure
    drop: Figure
    p: Figure
    reference_rank_ic: Figure
    rank_ic: Figure
    reference_bars: int
    bars: int
    monthly: tuple[Month, ...]


class UsualFlagged(Part):
    """How many columns the same tests would call moved in a window of the reference."""

    most: int
    mean: float
    windows: int


class ReferenceRows(Part):
    """Whose reference it is and what it was made of; null where it could not be read."""

    bundle_sha256: str | None
    version: int | None
    train_window: str | None
    rows: int | None
    bars: int | None
    window_bars: int | None
    usual_flagged: UsualFlagged | None


class CurrentRows(Part):
    """The rows that were judged; without timestamps `bars`, `first` and `last` are null."""

    rows: int
    bars: int | None
    symbols: int | None
    rows_per_bar_in_reference: Figure
    first: Moment | None
    last: Moment | None
    source: str
    sha256: str | None


class DriftReport(Document):
    """What one check found: drift.json. Null where a part was not measured."""

    format: Literal[2] = 2
    verdict: Literal["drift", "no_drift", "not_enough_data"]
    reason: str
    reference: ReferenceRows
    current: CurrentRows
    columns: tuple[ColumnDrift, ...]
    predictions: PredictionDrift | None
    label_shift: LabelShift | None
    adversarial: Separation | None
    information_ratio: InformationRatio | None
    rules: tuple[DriftRule, ...]
    stamp: dict[str, str] | None  # code_version and config_hash; null where it was asked for by hand

    @classmethod
    def nothing_measured(cls, reason: str, reference: ReferenceRows, current: CurrentRows) -> Self:
        """The report of a check that had too little to compare."""
        return cls(
            verdict="not_enough_data",
            reason=reason,
            reference=reference,
            current=current,
            columns=(),
            predictions=None,
            label_shift=None,
            adversarial=None,
            information_ratio=None,
            rules=(),
            stamp=None,
        )

    @property
    def fired(self) -> tuple[DriftRule, ...]:
        """The rules that fired."""
        return tuple(rule for rule in self.rules if rule.fired)

    @property
    def moved(self) -> tuple[ColumnDrift, ...]:
        """The columns that a rule fired on, without the score."""
        return tuple(column for column in self.columns if column.drifted)

    def furthest_first(self) -> list[ColumnDrift]:
        """Columns and score, those that moved first, then by how far beyond the usual."""
        entries = [*self.columns, *([self.predictions] if self.predictions else [])]
        return sorted(entries, key=lambda entry: (not entry.drifted, -entry.beyond_usual, entry.column))

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """As pydantic does, reports of format 1 (0.4.0 and before) included."""
        return super().model_validate_json(_from_format_1(json_data), **options)


def _from_format_1(text: str | bytes | bytearray) -> str | bytes | bytearray:
    """A report of format 1 with the keys that it left out: some where nothing was measured, the stamp where
    it was asked for by hand.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(found, dict) or found.get("format") != 1:
        return text
    unknown = {
        "reference": dict.fromkeys(("window_bars", "usual_flagged")),
        "current": dict.fromkeys(("symbols", "rows_per_bar_in_reference")),
    }
    filled = {key: keys | found[key] for key, keys in unknown.items() if isinstance(found.get(key), dict)}
    return json.dumps({"stamp": None} | found | filled | {"format": 2})
