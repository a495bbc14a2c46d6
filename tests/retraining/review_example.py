"""A review folder as the loop leaves it after some months: champions, decisions of every kind, words and
drift reports, as real files.
"""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from components.contracts import atomic_write_text
from components.contracts.documents.drift import ColumnDrift

START = datetime(2026, 3, 2, 21, 30, tzinfo=UTC)
FACTORS = (
    "rsi_14",
    "momentum_20",
    "volatility_20",
    "amihud_20",
    "volume_z_48",
    "corwin_schultz_20",
    "macd_12_26",
    "skew_60",
)


def name_of(when: datetime) -> str:
    return when.strftime("%Y%m%dT%H%M%S%fZ")


def iso(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def write(path: Path, content: Any) -> None:
    atomic_write_text(path, json.dumps(content, indent=1))


def measured(factor: str, **known: float) -> dict[str, Any]:
    """A column of a report in which nothing is known but what is given."""
    return {
        **dict.fromkeys(ColumnDrift.model_fields),
        "column": factor,
        "group": "price",
        "kind": "input",
        "constant": False,
        "usual_constant": False,
        "rows_in_reference": 1_000_000,
        "rows": 30_000,
        "rules": [],
        "drifted": False,
        **known,
    }


def drift_report(folder: Path, when: datetime, *, moved: str | None, seed: int) -> None:
    draw = random.Random(seed)
    columns = [
        measured(factor, ks=round(draw.uniform(0.01, 0.05), 4), psi=round(draw.uniform(0.002, 0.03), 4))
        for factor in FACTORS
    ]
    if moved:
        next(column for column in columns if column["column"] == moved).update(
            ks=0.4123, psi=0.61, drifted=True, rules=["psi"], what="mean", since=iso(when - timedelta(days=9))
        )
    fired = {
        "rule": "psi",
        "value": 0.61 if moved else 0.03,
        "threshold": 0.25,
        "fired": bool(moved),
        "reason": f"PSI of {moved} is 0.61, limit 0.25",
        "factors": [moved] if moved else [],
    }
    quiet = {
        "rule": "auc",
        "value": 0.53,
        "threshold": 0.7,
        "fired": False,
        "reason": "AUC 0.53, limit 0.7",
        "factors": [],
    }
    report = {
        "format": 2,
        "verdict": "drift" if moved else "no_drift",
        "reason": (
            f"1 of 8 columns moved; {moved} by KS 0.41"
            if moved
            else "none of 8 columns moved more than usual"
        ),
        "reference": {
            "bundle_sha256": "a" * 64,
            "version": 1,
            "train_window": None,
            "rows": 1_000_000,
            "bars": 1260,
            "window_bars": 60,
            "usual_flagged": None,
        },
        "current": {
            "rows": 30_000,
            "bars": 60,
            "symbols": 500,
            "rows_per_bar_in_reference": 500.0,
            "first": iso(when - timedelta(days=84)),
            "last": iso(when),
            "source": "served",
            "sha256": "c" * 64,
        },
        "columns": columns,
        "rules": [fired, quiet],
        **dict.fromkeys(("predictions", "label_shift", "adversarial", "information_ratio", "stamp")),
    }
    place = folder / "drift" / name_of(when)
    write(place / "drift.json", report)
    atomic_write_text(
        place / "index.html",
        f"<!doctype html><link rel=icon href=data:,><title>Drift {name_of(when)}</title><h1>Drift"
        f" {iso(when)}</h1><p>{report['reason']}</p>",
    )
    if moved:
        atomic_write_text(place / "evidently.html", "<!doctype html><title>Evidently</title>")


def decision(when: datetime, action: str, reason: str, **more: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "id": name_of(when),
        "when": iso(when),
        "action": action,
        "by": "rule",
        "who": None,
        "rules": [],
        "reason": reason,
        "data": {
            "rows": 30_000,
            "bars": 60,
            "first": iso(when - timedelta(days=84)),
            "last": iso(when),
            "source": "served",
            "current_sha256": "c" * 64,
            "panel_sha256": "b" * 64,
            "source_sha256": "d" * 64,
            "newest_bar": iso(when),
        },
        "champion": {"version": 1, "bundle_sha256": "a" * 64},
        "drift_report": f"drift/{name_of(when)}/index.html",
        "outcome": None,
        **more,
    }


def example(folder: Path, *, days: int = 180, every_report: int = 6) -> list[dict[str, Any]]:
    """Write the folder and return its decisions, oldest first: retrained and promoted on day 60, held on 80
    to 95, forced on 110, waiting at the end.
    """
    draw, made, version, held = random.Random(7), [], 1, None
    champions = [
        {
            "version": 1,
            "previous": None,
            "when": iso(START - timedelta(days=12)),
            "who": "pipeline",
            "why": "passed 9 of 9 gates; there was no champion",
        }
    ]
    words = []
    for day in range(days):
        when = START + timedelta(days=day, microseconds=day)
        at = {"champion": {"version": version, "bundle_sha256": "a" * 64}}
        moved = (
            draw.choice(FACTORS)
            if day in (60, 80, 110, 140, days - 1) or 61 <= day < 66 or 81 <= day < 95
            else None
        )
        fired = {"rules": ["psi"]} if moved else {}
        why = f"psi: PSI of {moved} is 0.61, limit 0.25"
        if day < 4:
            entry = decision(when, "not_enough_data", f"{day + 1} of 60 bars were served", **at)
        elif day == 80:
            held = "earnings week: the volume jump is known and passes"
            words.append(
                {
                    "format": 1,
                    "id": name_of(when - timedelta(hours=2)),
                    "when": iso(when - timedelta(hours=2)),
                    "who": "maria",
                    "word": "hold",
                    "reason": held,
                }
            )
            entry = decision(
                when,
                "held",
                f"maria said hold: {held}; without it these rules would count: {why}",
                by="reviewer",
                who="maria",
                **fired,
                **at,
            )
        elif held and day < 95:
            entry = decision(
                when,
                "held",
                f"maria said hold: {held}; without it these rules would count: {why}",
                by="reviewer",
                who="maria",
                **fired,
                **at,
            )
        elif day in (60, 95, 110, 140):
            after = version + 1 if day in (60, 110) else version
            outcome = {
                "when": iso(when + timedelta(minutes=41)),
                "status": "promoted" if after != version else "rejected",
                "version": after if after != version else None,
                "champion_before": version,
                "champion_after": after,
                "reason": (
                    "passed 9 of 9 gates; RankIC on the newest bars 0.041 against the champion's 0.012"
                    if after != version
                    else "failed the gate ic: 0.011, wanted 0.02"
                ),
            }
            person = {}
            if day in (95, 110):
                held = None
                words.append(
                    {
                        "format": 1,
                        "id": name_of(when - timedelta(hours=1)),
                        "when": iso(when - timedelta(hours=1)),
                        "who": "chen",
                        "word": "force",
                        "reason": "new fee schedule from Monday",
                    }
                )
                person = {"by": "reviewer", "who": "chen"}
            entry = decision(
                when,
                "retrain",
                "chen said force: new fee schedule from Monday" if person else why,
                **person,
                **fired,
                **at,
                outcome=outcome,
            )
            if after != version:
                champions.append(
                    {
                        "version": after,
                        "previous": version,
                        "when": outcome["when"],
                        "who": "pipeline",
                        "why": outcome["reason"],
                    }
                )
                version = after
        elif 61 <= day < 66:
            entry = decision(
                when,
                "cooling_down",
                f"{day - 60} of 20 bars have passed since the newest bar of the last retraining; {why}",
                **fired,
                **at,
            )
        elif day == days - 1:
            entry = decision(when, "waiting_for_approval", why, **fired, **at)
        else:
            entry = decision(when, "none", "none of 8 columns moved more than usual", **at)
        if moved or day % every_report == 0:
            drift_report(folder, when, moved=moved, seed=day)
        else:
            entry["drift_report"] = None
        made.append(entry)
        write(folder / "decisions" / f"{entry['id']}.json", entry)
    for word in words:
        write(folder / "words" / f"{word['id']}.json", word)
    write(folder / "champions.json", champions)
    return made
