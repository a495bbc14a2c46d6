"""Judges each column of the current rows against the reference: beyond the threshold, the usual and chance;
what moved, and since when.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from components.contracts.documents.drift import ColumnDrift, ColumnRule, What
from components.drift.config import Settings
from components.drift.measure import Current, Kept, Measured, measure
from components.drift.windows import TAIL, tail_limits
from components.metrics import adjusted_p_values, ks_to_sketch
from components.metrics.shift import distribution

# A shift or a stretch explains a move when undoing it takes away at least this share of the distance.
EXPLAINED = 0.5
TESTS = ("ks", "psi", "tail", "missing")


def judge_columns(kept: Mapping[str, Kept], current: Current, settings: Settings) -> list[ColumnDrift]:
    """One entry a column, in the order of `kept`, which is that of `current.values`."""
    found = [
        measure(name, column, current.values[:, k], current, settings, len(kept))
        for k, (name, column) in enumerate(kept.items())
    ]
    adjusted = {test: adjusted_p_values([getattr(one, f"{test}_p") for one in found]) for test in TESTS}
    judged = []
    for k, (one, column) in enumerate(zip(found, kept.values(), strict=True)):
        p_values = {test: float(adjusted[test][k]) for test in TESTS}
        rules = fired_rules(one, p_values, settings)
        what = since = None
        if rules:
            what = _what(one, rules, column.sketch, current.values[:, k])
            since = _since(one, rules, what, column.sketch, current.values[:, k], current)
        judged.append(
            ColumnDrift(
                **vars(one),
                **{f"{test}_p_adjusted": p_value for test, p_value in p_values.items()},
                rules=rules,
                drifted=bool(rules),
                what=what,
                since=since,
            )
        )
    return judged


def fired_rules(found: Measured, p_values: Mapping[str, float], settings: Settings) -> tuple[ColumnRule, ...]:
    """The rules that a column fires: beyond the threshold, beyond what training saw, and more than chance,
    all three.

    `p_values` are those of each test, corrected for all columns.
    """
    if found.rows_in_reference == 0:
        return ()
    sure = {test: p_value < settings.ks_p for test, p_value in p_values.items()}
    tail_limit = settings.tail_ratio * max(found.reference_tail, 2 * TAIL)
    beyond_tail = found.tail_share > tail_limit and found.tail_share > (found.usual_tail or 0.0)
    # Values a whole range of training away from it need no test: no market that resembles training gives
    # them, however slowly it moves.
    far_away = found.far_share > settings.tail_ratio * 2 * TAIL
    more_missing = found.missing_rise > settings.missing_rise
    fires: dict[ColumnRule, bool] = {
        "ks": sure["ks"] and found.ks > (found.usual_ks or 0.0),
        "psi": sure["psi"] and found.psi > settings.psi and found.psi > (found.usual_psi or 0.0),
        "tail": (beyond_tail and sure["tail"]) or far_away,
        "missing": sure["missing"] and more_missing and found.missing_share > (found.usual_missing or 0.0),
        "constant": found.constant and not found.usual_constant,
    }
    return tuple(rule for rule, does in fires.items() if does)


def _what(found: Measured, rules: Sequence[ColumnRule], sketch: np.ndarray, values: np.ndarray) -> What:
    """What undoes the move: a shift of the middle (mean) or a stretch about it (scale); else the tail or the
    shape.
    """
    if "constant" in rules:
        return "constant"
    if "missing" in rules and "ks" not in rules:
        return "missing"
    if not {"ks", "psi"} & set(rules):
        return _what_of_tail(found, sketch, values)
    centre, spread, rows = np.float32(found.reference_median), found.reference_spread, found.rows_in_reference
    shifted = ks_to_sketch(values - np.float32(found.median - found.reference_median), sketch, rows)
    stretched = 1.0
    if spread > 0 and found.spread > 0:
        ratio = np.float32(spread / found.spread)
        stretched = min(
            ks_to_sketch(centre + (values - found.median) * ratio, sketch, rows),
            ks_to_sketch(values * ratio, sketch, rows),
        )
    # A stretch takes a shift with it, so it counts only where a shift alone leaves much and the spread
    # changed.
    if shifted <= EXPLAINED * found.ks and stretched > EXPLAINED * shifted:
        return "mean"
    if stretched <= EXPLAINED * found.ks:
        return "scale"
    return "shape"


def _what_of_tail(found: Measured, sketch: np.ndarray, values: np.ndarray) -> What:
    """Where only the tail moved: scale where a stretch takes it back, or where most rows lie in it."""
    low, high = tail_limits(sketch)
    ratio = np.float32(found.reference_spread / found.spread if found.spread > 0 else 1.0)
    undone = np.float32(found.reference_median) + (values - np.float32(found.median)) * ratio
    left = ((undone < low) | (undone > high)).sum() / max(found.rows, 1)
    stretched = left <= EXPLAINED * found.tail_share or found.tail_share > EXPLAINED
    return "scale" if stretched else "tail"


def _since(
    found: Measured,
    rules: Sequence[ColumnRule],
    what: What,
    sketch: np.ndarray,
    values: np.ndarray,
    current: Current,
) -> datetime | None:
    """The bar from which the column stays outside, as the likeliest moment of a lasting step in what moved;
    None without timestamps.

    For each bar the share of rows that hold for an indicator is taken: below the point where the
    distributions differ most, in a tail, missing, or equal to the constant. The step is where the running sum
    of its distance from half the newest third's level is lowest.
    """
    if not len(current.moments):
        return None
    known, everywhere = np.isfinite(values), np.ones(len(values), dtype=bool)
    if "constant" in rules:
        holds, usual, known = known & (values == values[known][0]), 0.0, everywhere
    elif what == "missing":
        holds, usual, known = ~known, found.missing_share - found.missing_rise, everywhere
    elif what == "tail":
        low, high = tail_limits(sketch)
        holds, usual = (values < low) | (values > high), found.reference_tail
    else:
        point, usual = _furthest_point(sketch, values[known], found.rows_in_reference)
        holds = values <= point
    size = len(current.moments)
    rows = np.bincount(current.bars[known], minlength=size)
    share = np.divide(
        np.bincount(current.bars[known & holds], minlength=size),
        rows,
        out=np.full(size, usual, dtype=float),
        where=rows > 0,
    )
    step = share[-max(size // 3, 1) :].mean() - usual
    running = np.concatenate([[0.0], np.cumsum((share - usual) * np.sign(step) - abs(step) / 2)])
    return current.moments[int(running[:-1].argmin())]


def _furthest_point(sketch: np.ndarray, sample: np.ndarray, rows: int) -> tuple[float, float]:
    """Where the distribution functions differ most, and the reference's share up to there."""
    points, _, up_to = distribution(sketch, rows)
    share = np.searchsorted(np.sort(sample), points, side="right") / len(sample)
    place = int(np.abs(share - up_to).argmax())
    return float(points[place]), float(up_to[place])
