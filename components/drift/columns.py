"""Holds each column of the current rows against the reference: how far, how sure, beyond what is usual, what
moved, and since when.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from components.drift.config import Settings
from components.drift.windows import TAIL, nearest_length, tail_limits
from components.metrics import adjusted_p_values, ks_p_value, ks_to_sketch, psi_p_value, psi_to_sketch
from components.metrics.shift import distribution, psi_cuts

# A shift or a stretch explains a move when undoing it takes away at least this share of the distance.
EXPLAINED = 0.5
NORMAL_RANGE = 1.349
# A column that had fewer distinct values than this in some window of training, such as a regime, may well
# stay the same for one.
FEWEST_CELLS = 5
FEWEST_SYMBOLS = 3


@dataclass(frozen=True)
class Current:
    """The rows that are judged: values (N, F) Float32 with NaN for missing, the bar (N,) and symbol (N,) of
    each row, the bars' moments (B,).

    `moments` is empty for a table without timestamps: its rows count as independent. `symbols` is None where
    there are none. `full_rows_per_bar`: rows that a bar of the reference has.
    """

    values: np.ndarray
    bars: np.ndarray
    moments: Sequence[datetime]
    symbols: np.ndarray | None
    full_rows_per_bar: float

    @property
    def covered(self) -> float:
        """Rows a bar, as a share of those of the reference."""
        return min(len(self.values) / max(len(self.moments), 1) / max(self.full_rows_per_bar, 1), 1.0)


def judge_columns(
    names: Sequence[str],
    described: Mapping[str, Mapping[str, Any]],
    sketches: Mapping[str, np.ndarray],
    current: Current,
    settings: Settings,
    bins: int,
) -> list[dict]:
    """One entry a column, in the order of `names`; `rules` names what it fired: ks, psi, tail, missing,
    constant.

    `bins` is the number that the usual stability indices were measured with; with other bins in the settings
    they are unknown.
    """
    entries = [
        _measure(
            name, described[name], sketches[name], current.values[:, k], current, settings, bins, len(names)
        )
        for k, name in enumerate(names)
    ]
    for test in ("ks", "psi", "tail", "missing"):
        for entry, adjusted in zip(
            entries, adjusted_p_values([entry[f"{test}_p"] for entry in entries]), strict=True
        ):
            entry[f"{test}_p_adjusted"] = float(adjusted)
    for k, entry in enumerate(entries):
        entry["rules"] = _rules(entry, settings)
        entry["drifted"] = bool(entry["rules"])
        entry["what"], entry["since"] = None, None
        if entry["drifted"]:
            entry["what"] = _what(
                entry, sketches[entry["column"]], current.values[:, k], entry["rows_in_reference"]
            )
            entry["since"] = _since(entry, sketches[entry["column"]], current.values[:, k], current)
    return entries


def _measure(
    name: str,
    about: Mapping[str, Any],
    sketch: np.ndarray,
    values: np.ndarray,
    current: Current,
    settings: Settings,
    bins: int,
    columns: int,
) -> dict[str, Any]:
    known = np.isfinite(values)
    rows, count = about["rows"], int(known.sum())
    length = nearest_length(list(about["by_window"]), len(current.moments) or settings.window_bars)
    usual = about["by_window"][length] if length else {}
    effective = _effective_rows(about, usual, length, values, sketch, current)
    low, high = tail_limits(sketch)
    sample = values[known]
    tail = float(((sample < low) | (sample > high)).mean()) if count and rows else float("nan")
    width = sketch[-1] - sketch[0]
    far = (
        float(((sample < sketch[0] - width) | (sample > sketch[-1] + width)).mean())
        if count and rows and width > 0
        else 0.0
    )
    ks = ks_to_sketch(values, sketch, rows) if rows else float("nan")
    psi = (
        psi_to_sketch(values, sketch, bins=settings.psi_bins, rows=rows, missing=about.get("missing", 0))
        if rows
        else float("nan")
    )
    share = 1 - count / len(values)
    was = about["missing"] / max(about["missing"] + rows, 1) if rows else 1.0
    then = about.get("effective_rows", 0.0) or 1.0
    estimated = bool(current.moments) and then < 0.99 * rows

    def few(p_value: float) -> float:
        return _unsure(p_value, about["bars"] / int(length)) if estimated else p_value

    return {
        "column": name,
        "group": about["group"],
        "kind": about["kind"],
        "ks": ks,
        "ks_p": few(float(ks_p_value(ks, then, effective["rows"]))) if np.isfinite(ks) else float("nan"),
        "psi": psi,
        "psi_p": few(_psi_p(psi, sketch, settings, about, effective, share != was)),
        "usual_ks": usual.get("ks"),
        "usual_psi": usual.get("psi") if bins == settings.psi_bins else None,
        "missing_share": share,
        "usual_missing": usual.get("missing"),
        "missing_rise": share - was,
        "missing_p": _rise_p(was, share, about.get("effective_rows_missing", 1.0), effective["missing"]),
        "tail_share": tail,
        "far_share": far,
        "usual_tail": _usual_tail(
            usual, about["bars"] / int(length) if length else 0.0, settings.ks_p / columns
        ),
        "reference_tail": about.get("tail"),
        "tail_p": few(_excess_p(tail, max(about.get("tail") or 0.0, 2 * TAIL), effective["tail"])),
        "constant": bool(count and rows and sample.min() == sample.max() and sketch[0] < sketch[-1]),
        "usual_constant": (
            usual.get("fewest_cells", 0) < FEWEST_CELLS
            or not (about.get("shared") or _several_symbols(current))
        ),
        "rows_in_reference": rows,
        "rows": count,
        "effective_rows": effective["rows"],
        "effective_rows_in_reference": then,
        **_moments(sketch, sample, rows),
    }


def _effective_rows(
    about: Mapping[str, Any],
    usual: Mapping[str, Any],
    length: str | None,
    values: np.ndarray,
    sketch: np.ndarray,
    current: Current,
) -> dict[str, float]:
    """Rows that the current ones are worth, for the distribution, the tail and what is missing; all of them
    without timestamps.
    """
    known = np.isfinite(values)
    counts = {"rows": float(known.sum()), "tail": float(known.sum()), "missing": float(len(values))}
    if length is None or not len(current.moments):
        return {name: max(count, 1.0) for name, count in counts.items()}
    keys = {"rows": "effective_rows", "tail": "effective_rows_tail", "missing": "effective_rows_missing"}
    # The current window lies beyond the reference, so what moves more slowly than a window counts as well:
    # the worst of the longer ones.
    longer = {int(other): window for other, window in about["by_window"].items() if int(other) >= int(length)}
    by_bars = {
        name: min(window[key] * len(current.moments) / other for other, window in longer.items())
        for name, key in keys.items()
    }
    # What holds a decile back holds a tail back as well, even where the reference's few rows out there don't
    # show it.
    by_bars["tail"] = min(by_bars["tail"], by_bars["rows"])
    # Few of the symbols: which ones is chance too, and a symbol stays where it is in the cross-section for
    # long.
    chosen = (
        (1 - current.covered) * _variance_of_symbols(values, sketch, current)
        if current.covered < 1 and about["rows"]
        else 0.0
    )
    worth = {name: 1 / (1 / max(min(count, by_bars[name]), 1.0) + chosen) for name, count in counts.items()}
    return {name: max(rows, 1.0) for name, rows in worth.items()}


def _several_symbols(current: Current) -> bool:
    """Whether a factor that differs between symbols must vary: one symbol may keep its rank for months."""
    return current.symbols is None or len(np.unique(current.symbols)) >= FEWEST_SYMBOLS


def _variance_of_symbols(values: np.ndarray, sketch: np.ndarray, current: Current) -> float:
    """Variance of a decile's share by which symbols were asked for, in units of an independent row's; the
    largest over deciles.

    1 / number of symbols where they are not known.
    """
    known = np.isfinite(values)
    if current.symbols is None or not known.any():
        return 1.0
    codes = current.symbols[known]
    rows = np.bincount(codes)
    deciles = sketch[np.round(np.linspace(0, len(sketch) - 1, 11)[1:-1]).astype(int)]
    largest = 1 / max(np.count_nonzero(rows), 1)
    for cut in np.unique(deciles):
        below = np.bincount(codes, weights=values[known] <= cut, minlength=len(rows))
        share = below.sum() / rows.sum()
        if 0 < share < 1:
            largest = max(
                largest, float(((below - rows * share) ** 2).sum() / rows.sum() ** 2 / (share * (1 - share)))
            )
    return min(largest, 1.0)


def _rules(entry: Mapping[str, Any], settings: Settings) -> list[str]:
    """Beyond the threshold, beyond what training saw, and more than chance: all three."""
    level = settings.ks_p
    if entry["rows_in_reference"] == 0:
        return []
    fired = []
    if entry["ks_p_adjusted"] < level and entry["ks"] > (entry["usual_ks"] or 0.0):
        fired.append("ks")
    if (
        entry["psi"] > settings.psi
        and entry["psi"] > (entry["usual_psi"] or 0.0)
        and entry["psi_p_adjusted"] < level
    ):
        fired.append("psi")
    beyond = entry["tail_share"] > settings.tail_ratio * max(entry["reference_tail"], 2 * TAIL) and entry[
        "tail_share"
    ] > (entry["usual_tail"] or 0.0)
    # Values a whole range of training away from it need no test: no market that resembles training gives
    # them, however slowly it moves.
    if (beyond and entry["tail_p_adjusted"] < level) or entry["far_share"] > settings.tail_ratio * 2 * TAIL:
        fired.append("tail")
    if (
        entry["missing_rise"] > settings.missing_rise
        and entry["missing_share"] > (entry["usual_missing"] or 0.0)
        and entry["missing_p_adjusted"] < level
    ):
        fired.append("missing")
    if entry["constant"] and not entry["usual_constant"]:
        fired.append("constant")
    return fired


def _what(entry: Mapping[str, Any], sketch: np.ndarray, values: np.ndarray, rows: int) -> str:
    """What undoes the move: a shift of the middle (mean) or a stretch about it (scale); else the tail or the
    shape.
    """
    if "constant" in entry["rules"]:
        return "constant"
    if "missing" in entry["rules"] and "ks" not in entry["rules"]:
        return "missing"
    centre, spread = np.float32(entry["reference_median"]), entry["reference_spread"]
    if not {"ks", "psi"} & set(entry["rules"]):
        low, high = tail_limits(sketch)
        undone = centre + (values - np.float32(entry["median"])) * np.float32(
            spread / entry["spread"] if entry["spread"] > 0 else 1.0
        )
        left = ((undone < low) | (undone > high)).sum() / max(entry["rows"], 1)
        return (
            "scale" if left <= EXPLAINED * entry["tail_share"] or entry["tail_share"] > EXPLAINED else "tail"
        )
    shift = np.float32(entry["median"] - entry["reference_median"])
    left = {"mean": ks_to_sketch(values - shift, sketch, rows)}
    if spread > 0 and entry["spread"] > 0:
        left["scale"] = ks_to_sketch(
            centre + (values - entry["median"]) * np.float32(spread / entry["spread"]), sketch, rows
        )
        left["scale"] = min(
            left["scale"], ks_to_sketch(values * np.float32(spread / entry["spread"]), sketch, rows)
        )
    # A stretch takes a shift with it, so it counts only where a shift alone leaves much and the spread
    # changed.
    if left["mean"] <= EXPLAINED * entry["ks"] and left.get("scale", 1.0) > EXPLAINED * left["mean"]:
        return "mean"
    if left.get("scale", 1.0) <= EXPLAINED * entry["ks"]:
        return "scale"
    if (
        entry["rules"] == ["psi"]
        and entry["missing_rise"] > 0
        and entry["missing_share"] > (entry["usual_missing"] or 0.0)
    ):
        return "missing"
    return "shape"


def _since(entry: Mapping[str, Any], sketch: np.ndarray, values: np.ndarray, current: Current) -> str | None:
    """The bar from which the column stays outside, as the likeliest moment of a lasting step in what moved;
    None without timestamps.

    For each bar the share of rows that hold for an indicator is taken: below the point where the
    distributions differ most, in a tail, missing, or equal to the constant. The step is where the running sum
    of its distance from half the newest third's level is lowest.
    """
    if not len(current.moments):
        return None
    known = np.isfinite(values)
    if "constant" in entry["rules"]:
        holds, usual, known = known & (values == values[known][0]), 0.0, np.ones(len(values), dtype=bool)
    elif entry["what"] == "missing":
        holds, usual, known = (
            ~known,
            entry["missing_share"] - entry["missing_rise"],
            np.ones(len(values), dtype=bool),
        )
    elif entry["what"] == "tail":
        low, high = tail_limits(sketch)
        holds, usual = (values < low) | (values > high), entry["reference_tail"]
    else:
        point, usual = _furthest_point(sketch, values[known], entry["rows_in_reference"])
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
    return current.moments[int(running[:-1].argmin())].isoformat()


def _furthest_point(sketch: np.ndarray, sample: np.ndarray, rows: int) -> tuple[float, float]:
    """Where the distribution functions differ most, and the reference's share up to there."""
    points, _, up_to = distribution(sketch, rows)
    share = np.searchsorted(np.sort(sample), points, side="right") / len(sample)
    place = int(np.abs(share - up_to).argmax())
    return float(points[place]), float(up_to[place])


def _moments(sketch: np.ndarray, sample: np.ndarray, rows: int) -> dict[str, float | None]:
    """Median and spread (interquartile range, as of a normal distribution) of both sides."""
    place = np.round(np.array([0.25, 0.5, 0.75]) * (len(sketch) - 1)).astype(int)
    then = sketch[place].astype(float) if rows else np.full(3, np.nan)
    now = np.quantile(sample, [0.25, 0.5, 0.75]) if len(sample) else np.full(3, np.nan)
    return {
        "reference_median": float(then[1]),
        "median": float(now[1]),
        "reference_spread": float((then[2] - then[0]) / NORMAL_RANGE),
        "spread": float((now[2] - now[0]) / NORMAL_RANGE),
    }


def _psi_p(
    psi: float,
    sketch: np.ndarray,
    settings: Settings,
    about: Mapping[str, Any],
    effective: Mapping[str, float],
    missing: bool,
) -> float:
    """With as many effective rows as the bin of missing values has, where that took part and has fewer."""
    if not np.isfinite(psi):
        return float("nan")
    now = min(effective["rows"], effective["missing"]) if missing else effective["rows"]
    then = (
        about["effective_rows"]
        if not missing
        else min(about["effective_rows"], about["effective_rows_missing"])
    )
    return float(
        psi_p_value(psi, len(psi_cuts(sketch, settings.psi_bins)) + 1, max(then, 1.0), max(now, 1.0))
    )


def _usual_tail(usual: Mapping[str, Any], windows: float, level: float) -> float | None:
    """The tail's share that a further window passes with a chance of `level`, at least the largest so far.

    A prediction interval on the scale of square roots, where a share varies by about the same whatever it is.
    Tails swing with the level of volatility far more than the middle does, so their own windows say more than
    effective rows.
    """
    if not usual:
        return None
    from scipy.stats import t

    centre, spread = usual["tail_root"]
    freedom = max(1.5 * windows, 1.0)
    return float(
        max(
            usual["tail"],
            min((centre + t.isf(level, freedom) * spread * np.sqrt(1 + 1 / max(windows, 1.0))) ** 2, 1.0),
        )
    )


def _unsure(p_value: float, windows: float) -> float:
    """A p-value that allows for effective rows being estimated: its normal deviate is held against Student's
    t.

    A long-run variance from so many windows has about 1.5 times as many degrees of freedom (Bartlett's
    kernel; Priestley 1981, *Spectral Analysis and Time Series*).
    """
    from scipy.stats import norm, t

    return float(2 * t.sf(norm.isf(p_value / 2), 1.5 * windows)) if np.isfinite(p_value) else p_value


def _rise_p(was: float, share: float, then: float, now: float) -> float:
    """One-sided test of two shares."""
    from scipy.stats import norm

    then, now = max(then, 1.0), max(now, 1.0)
    pooled = (was * then + share * now) / (then + now)
    noise = np.sqrt(pooled * (1 - pooled) * (1 / then + 1 / now))
    return float(norm.sf((share - was) / noise)) if noise > 0 else 1.0


def _excess_p(share: float, usual: float, rows: float) -> float:
    """Chance of at least so large a share among so many independent rows."""
    from scipy.stats import binom

    return (
        float(binom.sf(np.ceil(share * rows - 1e-9) - 1, max(round(rows), 1), usual))
        if np.isfinite(share)
        else float("nan")
    )
