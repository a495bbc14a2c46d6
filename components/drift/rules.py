"""The rules of the report: each looks at what was found, and says whether it fires and why."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from components.contracts.documents.drift import (
    ColumnDrift,
    ColumnRule,
    DriftRule,
    InformationRatio,
    LabelShift,
    PredictionDrift,
    Separation,
)
from components.drift.config import Settings
from components.drift.windows import TAIL

COLUMN_RULES: tuple[ColumnRule, ...] = ("ks", "psi", "tail", "missing", "constant")
SAID = {
    "ks": "distribution moved (Kolmogorov-Smirnov)",
    "psi": "distribution moved (population stability index)",
    "tail": "more rows in the reference's outermost 0.2 %",
    "missing": "more values missing",
    "constant": "no longer varies",
}
MOST_NAMED = 3


@dataclass(frozen=True)
class Found:
    """What was measured, each part as the report holds it; None where it could not be."""

    columns: tuple[ColumnDrift, ...]
    predictions: PredictionDrift | None
    label_shift: LabelShift | None
    adversarial: Separation | None
    information_ratio: InformationRatio | None


def all_rules(found: Found, settings: Settings) -> tuple[DriftRule, ...]:
    """Every rule, in the order of the report."""
    return (
        *(column_rule(name, found.columns, settings) for name in COLUMN_RULES),
        prediction_rule(found.predictions, settings),
        auc_rule(found.adversarial, settings),
        label_rule(found.label_shift, settings),
        information_rule(found.information_ratio, settings),
    )


def column_rule(name: ColumnRule, columns: Sequence[ColumnDrift], settings: Settings) -> DriftRule:
    """One rule over all columns: fires where it fired on any."""
    fired = [column for column in columns if name in column.rules]
    value, threshold = _value(name, fired or columns, settings)
    if name == "constant":
        value = float(len(fired))
    return DriftRule(
        rule=name,
        value=value,
        threshold=threshold,
        fired=bool(fired),
        reason=_why_fired(name, fired, len(columns)) if fired else _why_quiet(name, columns, settings),
        factors=tuple(column.column for column in fired),
    )


def prediction_rule(score: PredictionDrift | None, settings: Settings) -> DriftRule:
    """The score, as a column and by its spread within a bar."""
    if score is None:
        return _quiet("predictions", settings.ks_p, "the table holds no scores")
    words = [SAID[name] for name in score.rules]
    if score.dispersion_moved:
        words.append(f"spread within a bar {score.dispersion:.3g} against {score.reference_dispersion:.3g}")
    within = (
        f"scores lie within what training windows show (KS {_known(score.ks):.3f}, usual up to"
        f" {score.usual_ks or 0:.3f}, PSI {_known(score.psi):.2f})"
    )
    return DriftRule(
        rule="predictions",
        value=score.ks_p_adjusted,
        threshold=settings.ks_p,
        fired=bool(words),
        reason=f"scores: {'; '.join(words)}" if words else within,
        factors=(),
    )


def auc_rule(found: Separation | None, settings: Settings) -> DriftRule:
    """The classifier: beyond the threshold and what a further window of training reaches by chance."""
    if found is None:
        why = "not measured: too few bars or symbols, no timestamps, or switched off"
        return _quiet("auc", settings.auc, why)
    limit = found.usual_limit
    beyond = found.auc > settings.auc and limit is not None and found.auc > limit
    usual = (
        "the reference is too short to know what is usual"
        if limit is None
        else f"windows of training reach {found.usual_auc:.2f}, a further one {limit:.2f} by chance"
    )
    return DriftRule(
        rule="auc",
        value=found.auc,
        threshold=settings.auc,
        fired=beyond,
        reason=f"held-out bars are told apart with AUC {found.auc:.2f}; {usual}",
        factors=tuple(factor.column for factor in found.factors[:5]) if beyond else (),
    )


def label_rule(found: LabelShift | None, settings: Settings) -> DriftRule:
    """Labels that changed class in any regime."""
    if found is None:
        return _quiet("label_shift", settings.label_shift, "too few labels are known")
    usual = (
        "training held too little of it to know what is usual"
        if found.usual is None
        else f"training windows up to {found.usual:.0%}"
    )
    how = {"lean": "leaning to one side", "dispersion": "spreading otherwise"}[found.move]
    return DriftRule(
        rule="label_shift",
        value=found.largest,
        threshold=settings.label_shift,
        fired=any(row.moved for row in found.by_regime),
        reason=(
            f"{found.largest:.0%} of labels change class in regime {found.regime}, {how} ({usual}, p"
            f" {found.p_adjusted:.1e} corrected for regimes)"
        ),
        factors=(),
    )


def information_rule(found: InformationRatio | None, settings: Settings) -> DriftRule:
    """The scores' worth: a fall beyond the threshold, below any window of training, and no chance."""
    limit = settings.information_ratio_drop
    if found is None:
        return _quiet("information_ratio", limit, "too few labels or scores are known")
    if found.drop is None:
        why = "the reference's information ratio is not above 0, so a fall can't be measured"
        return _quiet("information_ratio", limit, why)
    if found.p is None:
        why = f"the reference's {found.reference_bars} bars are too few to tell a fall from chance"
        return _quiet("information_ratio", limit, why)
    return DriftRule(
        rule="information_ratio",
        value=found.drop,
        threshold=limit,
        fired=found.drop > limit and found.current < found.usual and found.p < settings.ks_p,
        reason=(
            f"information ratio {found.current:.2f} over {found.bars} bars against {found.reference:.2f}"
            f" out of sample, whose windows fall to {found.usual:.2f}; chance of such a mean RankIC p"
            f" {found.p:.2g}"
        ),
        factors=(),
    )


def _quiet(name: str, threshold: float, why: str) -> DriftRule:
    return DriftRule(rule=name, value=None, threshold=threshold, fired=False, reason=why, factors=())


def _value(
    name: ColumnRule, looked_at: Sequence[ColumnDrift], settings: Settings
) -> tuple[float | None, float]:
    """The furthest value of the columns, and the threshold that it stands against."""
    key, threshold, furthest = {
        "ks": ("ks_p_adjusted", settings.ks_p, min),
        "psi": ("psi", settings.psi, max),
        "tail": ("tail_share", settings.tail_ratio * 2 * TAIL, max),
        "missing": ("missing_rise", settings.missing_rise, max),
        "constant": ("constant", 0.0, max),
    }[name]
    values = [getattr(column, key) for column in looked_at]
    known = [value for value in values if value is not None]
    return (float(furthest(known)) if known else None), threshold


def _why_fired(name: ColumnRule, fired: Sequence[ColumnDrift], columns: int) -> str:
    furthest = sorted(fired, key=lambda column: -(column.ks or 0.0))[:MOST_NAMED]
    shown = ", ".join(f"{column.column} {_size(name, column)}" for column in furthest)
    more = f" and {len(fired) - MOST_NAMED} more" if len(fired) > MOST_NAMED else ""
    sure = (
        "as in no window of training"
        if name == "constant"
        else (
            "beyond the threshold, beyond what training windows show, and significant after correction for"
            " all columns"
        )
    )
    return f"{len(fired)} of {columns} columns, {SAID[name]}: {shown}{more}; {sure}"


def _why_quiet(name: ColumnRule, columns: Sequence[ColumnDrift], settings: Settings) -> str:
    passes: Callable[[ColumnDrift], bool] = {
        "ks": lambda column: _known(column.ks_p_adjusted) < settings.ks_p,
        "psi": lambda column: _known(column.psi) > settings.psi,
        "tail": lambda column: _known(column.tail_share) > settings.tail_ratio * 2 * TAIL,
        "missing": lambda column: _known(column.missing_rise) > settings.missing_rise,
        "constant": lambda column: column.constant,
    }[name]
    over = sum(passes(column) for column in columns)
    alone = f"; {over} passed the threshold alone, within what training windows show or what chance gives"
    return f"no column fires{alone if over else ''}"


def _size(name: ColumnRule, column: ColumnDrift) -> str:
    """How far a column that fired lies from the reference, in brackets."""
    if name == "ks":
        return f"(KS {column.ks:.3f}, usual up to {column.usual_ks or 0:.3f}, p {column.ks_p_adjusted:.1e})"
    if name == "psi":
        return f"(PSI {column.psi:.2f}, usual up to {column.usual_psi or 0:.2f})"
    if name == "tail":
        far = f", {column.far_share:.0%} a whole range away" if column.far_share else ""
        return f"({column.tail_share:.1%} of rows, usual up to {column.usual_tail or 0:.1%}{far})"
    if name == "missing":
        return f"({column.missing_share:.0%} missing, usual up to {column.usual_missing or 0:.0%})"
    return f"(always {column.median:.4g})"


def _known(value: float | None) -> float:
    """NaN for null: it compares as false and is shown as such."""
    return math.nan if value is None else value
