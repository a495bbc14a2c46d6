"""Decides whether what is served now still looks like what the model learned from: columns, predictions,
labels, a classifier, and what the scores were worth.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.drift.adversarial import halves_of, separation, usual_limit
from components.drift.columns import Current, judge_columns
from components.drift.config import Settings
from components.drift.outcomes import information_ratio, label_shift, labels_of
from components.drift.reference import Reference, read_reference, to_rows
from components.drift.reference import _plain as plain
from components.drift.tables import SCORE, SYMBOL, TIMESTAMP, check_current, newest_bars

FORMAT = 1
# Fewer symbols are told apart from the market by which they are.
FEWEST_SYMBOLS = 20
COLUMN_RULES = ("ks", "psi", "tail", "missing", "constant")
SAID = {
    "ks": "distribution moved (Kolmogorov-Smirnov)",
    "psi": "distribution moved (population stability index)",
    "tail": "more rows in the reference's outermost 0.2 %",
    "missing": "more values missing",
    "constant": "no longer varies",
}


def detect(
    reference: Path,
    current: pl.DataFrame,
    labels: pl.DataFrame | None,
    settings: Settings,
    *,
    source: str = "table",
    sha256: str | None = None,
    champion: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that drift.json holds, plain values only.

    Parameters
    ----------
    reference : folder of `make_reference`
    current : the reference's columns, `timestamp` and `symbol` and `score` where known; the newest
        `window_bars` bars are judged. Without timestamps rows count as independent, and the result says so.
    labels : LABELS frame, or None where no outcome is known yet
    champion : `version` and `bundle_sha256` of the model that the reference belongs to

    Raises
    ------
    DriftError
        If the reference is not whole or the table does not fit it.
    """
    kept = read_reference(reference)
    table = newest_bars(check_current(current, kept.columns), settings.window_bars)
    timed = TIMESTAMP in table.columns
    moments: list[datetime] = table[TIMESTAMP].unique().sort().to_list() if timed else []
    about = kept.about
    result: dict[str, Any] = {
        "format": FORMAT,
        "reference": {
            "bundle_sha256": (champion or {}).get("bundle_sha256"),
            "version": (champion or {}).get("version"),
            "train_window": about["train_window"],
            "rows": about["rows"],
            "bars": about["bars"],
            "window_bars": about["window_bars"],
            "usual_flagged": about["usual_flagged"],
        },
        "current": {
            "rows": len(table),
            "bars": len(moments) if timed else None,
            "symbols": table[SYMBOL].n_unique() if SYMBOL in table.columns else None,
            "rows_per_bar_in_reference": about["rows_per_bar"],
            "first": moments[0].isoformat() if timed else None,
            "last": moments[-1].isoformat() if timed else None,
            "source": source,
            "sha256": sha256,
        },
        "columns": [],
        "predictions": None,
        "label_shift": None,
        "adversarial": None,
        "information_ratio": None,
        "rules": [],
    }
    lacking = _too_little(len(table), moments if timed else None, settings)
    if lacking:
        return plain(result | {"verdict": "not_enough_data", "reason": lacking})
    names = [*kept.columns, *([SCORE] if SCORE in table.columns and about["columns"][SCORE]["rows"] else [])]
    judged = judge_columns(
        names,
        about["columns"],
        {name: kept.sketch[name].to_numpy() for name in names},
        _current(table, names, kept),
        settings,
        about["psi_bins"],
    )
    columns = [entry for entry in judged if entry["kind"] != "score"]
    score = next((entry for entry in judged if entry["kind"] == "score"), None)
    known = (
        labels_of(labels, about["horizon"], about["target"])
        if labels is not None and timed and SYMBOL in table.columns
        else None
    )
    result["columns"] = columns
    result["predictions"] = (
        None
        if score is None
        else score
        | _dispersion(table, about["dispersion"], settings)
        | {"goes_along": _goes_along(columns, table, kept, settings)}
    )
    result["label_shift"] = label_shift(about["labels"], table, known, settings, about["horizon"])
    result["adversarial"] = _adversarial(table, moments, kept, settings)
    if known is not None and score is not None:
        result["information_ratio"] = information_ratio(
            about["information"], table.select(TIMESTAMP, SYMBOL, SCORE), known, about["horizon"]
        )
    result["rules"] = _rules(result, settings)
    return plain(result | _verdict(result))


def _too_little(rows: int, moments: list[datetime] | None, settings: Settings) -> str | None:
    if rows < settings.min_rows:
        return f"{rows:,} rows; drift.min_rows={settings.min_rows:,} are needed before anything is decided"
    if moments is not None and len(moments) < settings.min_bars:
        return (
            f"{len(moments)} bars; drift.min_bars={settings.min_bars} are needed before anything is decided"
        )
    return None


def _current(table: pl.DataFrame, names: list[str], kept: Reference) -> Current:
    timed = TIMESTAMP in table.columns
    bars = (
        table[TIMESTAMP].rank("dense").to_numpy().astype(np.int64) - 1
        if timed
        else np.zeros(len(table), dtype=np.int64)
    )
    symbols = (
        table[SYMBOL].rank("dense").fill_null(0).to_numpy().astype(np.int64)
        if SYMBOL in table.columns
        else None
    )
    moments = table[TIMESTAMP].unique().sort().to_list() if timed else []
    return Current(
        table.select(pl.col(names).fill_null(float("nan"))).to_numpy(),
        bars,
        moments,
        symbols,
        kept.about["rows_per_bar"],
    )


def _dispersion(table: pl.DataFrame, usual: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Mean spread of the scores within a bar, beside the reference's and what its windows had."""
    if TIMESTAMP not in table.columns or not usual["mean"]:
        return {
            "dispersion": None,
            "reference_dispersion": usual["mean"],
            "usual_dispersion": None,
            "dispersion_moved": False,
        }
    now = table.group_by(TIMESTAMP).agg(pl.col(SCORE).std().alias("std"))["std"].drop_nulls().mean()
    ratio = settings.dispersion_ratio
    outside = now is not None and not usual["low"] <= now <= usual["high"]
    moved = bool(outside and not usual["mean"] / ratio <= now <= usual["mean"] * ratio)
    return {
        "dispersion": now,
        "reference_dispersion": usual["mean"],
        "usual_dispersion": [usual["low"], usual["high"]],
        "dispersion_moved": moved,
    }


def _goes_along(
    columns: list[dict], table: pl.DataFrame, kept: Reference, settings: Settings
) -> list[dict[str, Any]]:
    """Rank correlation of the score with each column that moved, in the reference's sample and now."""
    moved = [entry["column"] for entry in columns if entry["drifted"]][: settings.page_columns]
    now = table.sample(min(settings.sample_rows, len(table)), seed=settings.seed) if len(table) else table
    return [
        {
            "column": name,
            "reference": _rank_correlation(kept.sample, name),
            "current": _rank_correlation(now, name),
        }
        for name in moved
    ]


def _rank_correlation(frame: pl.DataFrame, name: str) -> float | None:
    both = frame.select(name, SCORE).drop_nulls()
    if len(both) < 3 or both[name].n_unique() < 2 or both[SCORE].n_unique() < 2:
        return None
    return both.select(pl.corr(name, SCORE, method="spearman")).item()


def _adversarial(
    table: pl.DataFrame, moments: list[datetime], kept: Reference, settings: Settings
) -> dict[str, Any] | None:
    """AUC now, in windows of the reference, and the columns that tell the two apart; None where it is off or
    rows can't be cut into bars.
    """
    usual, names = kept.about["adversarial"]["usual"], kept.about["adversarial"]["columns"]
    few = SYMBOL in table.columns and table[SYMBOL].n_unique() < min(FEWEST_SYMBOLS, kept.about["symbols"])
    if not settings.auc_windows or not names or not moments or few:
        return None
    now = table.sample(min(settings.sample_rows, len(table)), seed=settings.seed)
    bars = (
        pl.Series(moments, dtype=table.schema[TIMESTAMP])
        .search_sorted(now[TIMESTAMP])
        .to_numpy()
        .astype(np.int64)
    )
    sketches = kept.sketch.select(names).to_numpy()
    sample = kept.sample.filter(pl.col("bar") >= kept.about["adversarial"]["first_bar"])
    symbols = now[SYMBOL].fill_null("") if SYMBOL in now.columns else pl.Series([""] * len(now))
    halves = symbols.replace_strict(halves_of(symbols.unique().to_list()), return_dtype=pl.Int8).to_numpy()
    reference = to_rows(
        sample,
        names,
        sample["bar"].to_numpy(),
        sample["half"].to_numpy() if SYMBOL in now.columns else np.zeros(len(sample)),
        sketches,
        settings,
    )
    area, gains = separation(reference, to_rows(now, names, bars, halves, sketches, settings), settings)
    if not np.isfinite(area):
        return None
    order = np.argsort(-gains, kind="stable")[:10]
    return {
        "auc": area,
        "usual_auc": max(usual) if usual else None,
        "usual_limit": usual_limit(usual, settings.ks_p),
        "windows": len(usual),
        "factors": [{"column": names[k], "importance": float(gains[k])} for k in order if gains[k] > 0],
    }


def _rules(result: Mapping[str, Any], settings: Settings) -> list[dict[str, Any]]:
    rules = [_column_rule(name, result["columns"], settings) for name in COLUMN_RULES]
    rules.append(_prediction_rule(result["predictions"], settings))
    rules.append(_auc_rule(result["adversarial"], settings))
    rules.append(_label_rule(result["label_shift"], settings))
    rules.append(_information_rule(result["information_ratio"], settings))
    return rules


def _column_rule(name: str, columns: list[dict], settings: Settings) -> dict[str, Any]:
    fired = [entry for entry in columns if name in entry["rules"]]
    key, threshold, worst = {
        "ks": ("ks_p_adjusted", settings.ks_p, min),
        "psi": ("psi", settings.psi, max),
        "tail": ("tail_share", None, max),
        "missing": ("missing_rise", settings.missing_rise, max),
        "constant": ("constant", None, max),
    }[name]
    looked_at = [
        entry[key] for entry in fired or columns if entry[key] is not None and np.isfinite(entry[key])
    ]
    value = float(worst(looked_at)) if looked_at else None
    if name == "constant":
        value, threshold = float(len(fired)), 0.0
    if name == "tail":
        threshold = settings.tail_ratio * 0.002
    if fired:
        shown = ", ".join(
            f"{e['column']} {_size(name, e)}"
            for e in sorted(fired, key=lambda e: -e["ks"] if np.isfinite(e["ks"]) else 0.0)[:3]
        )
        more = f" and {len(fired) - 3} more" if len(fired) > 3 else ""
        sure = (
            "as in no window of training"
            if name == "constant"
            else (
                "beyond the threshold, beyond what training windows show, and significant after correction"
                " for all columns"
            )
        )
        reason = f"{len(fired)} of {len(columns)} columns, {SAID[name]}: {shown}{more}; {sure}"
    else:
        over = _over(name, columns, settings)
        passed = (
            ""
            if not over
            else (
                f"; {over} passed the threshold alone, within what training windows show or what chance gives"
            )
        )
        reason = f"no column fires{passed}"
    return {
        "rule": name,
        "value": value,
        "threshold": threshold,
        "fired": bool(fired),
        "reason": reason,
        "factors": [entry["column"] for entry in fired],
    }


def _size(name: str, entry: Mapping[str, Any]) -> str:
    if name == "ks":
        return (
            f"(KS {entry['ks']:.3f}, usual up to {entry['usual_ks'] or 0:.3f}, p"
            f" {entry['ks_p_adjusted']:.1e})"
        )
    if name == "psi":
        return f"(PSI {entry['psi']:.2f}, usual up to {entry['usual_psi'] or 0:.2f})"
    if name == "tail":
        far = f", {entry['far_share']:.0%} a whole range away" if entry["far_share"] else ""
        return f"({entry['tail_share']:.1%} of rows, usual up to {entry['usual_tail'] or 0:.1%}{far})"
    if name == "missing":
        return f"({entry['missing_share']:.0%} missing, usual up to {entry['usual_missing'] or 0:.0%})"
    return f"(always {entry['median']:.4g})"


def _over(name: str, columns: list[dict], settings: Settings) -> int:
    """Columns that pass the rule's threshold, whether or not that is usual or chance."""
    passes = {
        "ks": lambda e: e["ks_p_adjusted"] < settings.ks_p,
        "psi": lambda e: e["psi"] > settings.psi,
        "tail": lambda e: e["tail_share"] > settings.tail_ratio * 0.002,
        "missing": lambda e: e["missing_rise"] > settings.missing_rise,
        "constant": lambda e: e["constant"],
    }[name]
    return sum(bool(passes(entry)) for entry in columns)


def _prediction_rule(score: Mapping[str, Any] | None, settings: Settings) -> dict[str, Any]:
    rule = {
        "rule": "predictions",
        "value": None,
        "threshold": settings.ks_p,
        "fired": False,
        "reason": "the table holds no scores",
        "factors": [],
    }
    if score is None:
        return rule
    words = [SAID[name] for name in score["rules"]]
    if score["dispersion_moved"]:
        words.append(
            f"spread within a bar {score['dispersion']:.3g} against {score['reference_dispersion']:.3g}"
        )
    reason = (
        f"scores: {'; '.join(words)}"
        if words
        else (
            f"scores lie within what training windows show (KS {score['ks']:.3f}, usual up to"
            f" {score['usual_ks'] or 0:.3f}, PSI {score['psi']:.2f})"
        )
    )
    return rule | {"value": score["ks_p_adjusted"], "fired": bool(words), "reason": reason}


def _auc_rule(found: Mapping[str, Any] | None, settings: Settings) -> dict[str, Any]:
    rule = {
        "rule": "auc",
        "value": None,
        "threshold": settings.auc,
        "fired": False,
        "reason": "not measured: too few bars or symbols, no timestamps, or switched off",
        "factors": [],
    }
    if found is None:
        return rule
    limit = found["usual_limit"]
    beyond = found["auc"] > settings.auc and limit is not None and found["auc"] > limit
    usual = (
        "the reference is too short to know what is usual"
        if limit is None
        else f"windows of training reach {found['usual_auc']:.2f}, a further one {limit:.2f} by chance"
    )
    names = [factor["column"] for factor in found["factors"][:5]] if beyond else []
    return rule | {
        "value": found["auc"],
        "fired": bool(beyond),
        "reason": f"held-out bars are told apart with AUC {found['auc']:.2f}; {usual}",
        "factors": names,
    }


def _label_rule(found: Mapping[str, Any] | None, settings: Settings) -> dict[str, Any]:
    rule = {
        "rule": "label_shift",
        "value": None,
        "threshold": settings.label_shift,
        "fired": False,
        "reason": "too few labels are known",
        "factors": [],
    }
    if found is None:
        return rule
    moved = [row for row in found["by_regime"] if row["moved"]]
    usual = (
        "training held too little of it to know what is usual"
        if found["usual"] is None
        else f"training windows up to {found['usual']:.0%}"
    )
    how = {"lean": "leaning to one side", "dispersion": "spreading otherwise"}[found["move"]]
    reason = (
        f"{found['largest']:.0%} of labels change class in regime {found['regime']}, {how} ({usual}, p"
        f" {found['p_adjusted']:.1e} corrected for regimes)"
    )
    return rule | {"value": found["largest"], "fired": bool(moved), "reason": reason}


def _information_rule(found: Mapping[str, Any] | None, settings: Settings) -> dict[str, Any]:
    rule = {
        "rule": "information_ratio",
        "value": None,
        "threshold": settings.information_ratio_drop,
        "fired": False,
        "reason": "too few labels or scores are known",
        "factors": [],
    }
    if found is None or found["drop"] is None or found["p"] is None:
        return (
            rule
            if found is None
            else rule
            | {"reason": "the reference's information ratio is not above 0, so a fall can't be measured"}
        )
    fired = (
        found["drop"] > settings.information_ratio_drop
        and found["current"] < found["usual"]
        and found["p"] < settings.ks_p
    )
    reason = (
        f"information ratio {found['current']:.2f} over {found['bars']} bars against {found['reference']:.2f}"
        f" out of sample, whose windows fall to {found['usual']:.2f}; chance of such a mean RankIC p"
        f" {found['p']:.2g}"
    )
    return rule | {"value": found["drop"], "fired": bool(fired), "reason": reason}


def _verdict(result: Mapping[str, Any]) -> dict[str, str]:
    fired = [rule for rule in result["rules"] if rule["fired"]]
    if not fired:
        return {"verdict": "no_drift", "reason": f"no rule fired; {len(result['columns'])} columns looked at"}
    return {"verdict": "drift", "reason": "; ".join(f"{rule['rule']}: {rule['reason']}" for rule in fired)}
