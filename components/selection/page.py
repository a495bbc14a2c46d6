"""The evidence page: which factors were chosen and why, how they did by era and half-life, and what
the choice was worth going forward.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from components.page import figure, number, write_page
from components.selection.adversarial import Adversarial
from components.selection.eras import METHODS
from components.selection.evidence import CHOSEN
from components.selection.forward import Forward
from components.selection.overview import EraColumn, Overview

PAGE = "selection/page.html"
METHOD_NAMES = {
    "rolling_ic": "rolling IC",
    "mutual_information": "mutual information",
    "importance": "importance",
    "shap": "SHAP",
    "linear_path": "linear path",
    "permutation": "permutation",
    "boruta": "Boruta",
    "elimination": "elimination",
    "genetic": "genetic search",
}
# Decisions of a fold in the order of the table that counts them.
DECISIONS = ("core", "plus", "filled", "left out", "duplicate", "collinear", "no data")
MOST_HALF_LIVES, MOST_VOTERS, MOST_BEHIND = 20, 25, 6
# A span counts as lying in a window where it holds more than this share of it.
LIES_IN = 0.001

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A figure with a second one beside it, in small letters."""

    text: str
    beside: str


def write_evidence_page(overview: Overview, evidence: pl.DataFrame, path: str | os.PathLike) -> Path:
    """Write the page, atomically, and return its path."""
    return write_page(path, PAGE, **page_values(overview, evidence))


def page_values(overview: Overview, evidence: pl.DataFrame) -> dict[str, object]:
    """What the template shows, in words and figures; `evidence` is the EVIDENCE table of all folds."""
    asked = [name for name in METHODS if evidence[f"votes_{name}"].is_not_null().any()]
    served = {row["factor"]: row for row in _of_fold(evidence, "final").iter_rows(named=True)}
    return {
        "overview": overview,
        "tiles": _tiles(overview, evidence),
        "methods": [METHOD_NAMES[name] for name in asked],
        "listed": _listed(overview, served, asked),
        "voters": _voters(overview, served, asked),
        "spans": [_span(era) for era in overview.eras],
        "first_fold": overview.folds[0].name,
        "best": _best(overview, evidence),
        "forward": [_forward(one) for one in overview.forward],
        "decisions": DECISIONS,
        "folds": _folds(overview, evidence),
        "half_lives": _half_lives(evidence),
        "adversarial": [_adversarial(one) for one in overview.adversarial],
        "left_out": ", ".join(overview.adversarial[-1].left_out) if overview.adversarial else "",
        "evidence": _evidence(evidence),
    }


def _of_fold(evidence: pl.DataFrame, fold: str) -> pl.DataFrame:
    return evidence.filter(pl.col("fold") == fold)


def _tiles(overview: Overview, evidence: pl.DataFrame) -> list[tuple[str, str]]:
    served = _of_fold(evidence, "final").filter(pl.col("decision").is_in(CHOSEN))
    whole = overview.forward[-1] if overview.forward else None
    last = overview.adversarial[-1] if overview.adversarial else None
    flagged = ", flagged" if last and last.flagged else ""
    return [
        (f"{len(served)} of {evidence['factor'].n_unique()}", "inputs for the served model"),
        (str(len(overview.core)), "core factors over all folds"),
        (str(len(overview.plus)), "plus factors over all folds"),
        (number(whole and whole.difference, 4), "RankIC, subset less full set, validation"),
        (number(last and last.auc, 3), f"AUC of the newest bars against older ones{flagged}"),
    ]


def _listed(overview: Overview, served: Mapping[str, Row], asked: Sequence[str]) -> list[dict[str, object]]:
    """The factors of both lists; figures of the served model's training bars."""
    return [
        {
            "kind": kind,
            "group": row["group"],
            "figures": [
                _share(one.core),
                _share(one.chosen),
                _share(row["appearance"]),
                number(row["appearance_q"], 3),
                _signed(row["ic"]),
                number(row["ic_t"], 1),
                _share(row["steady_share"]),
            ],
            "factor": one.factor,
            "loss": Cell(
                _signed(row["permutation_loss"]),
                f"[{_signed(row['permutation_low'])}, {_signed(row['permutation_high'])}]",
            ),
            "votes": [_share(row["vote_share"]), *(_share(row[f"votes_{name}"]) for name in asked)],
        }
        for kind, entries in (("core", overview.core), ("plus", overview.plus))
        for one, row in ((one, served[one.factor]) for one in entries)
    ]


def _voters(overview: Overview, served: Mapping[str, Row], asked: Sequence[str]) -> dict[str, object] | None:
    """The mean share of votes by method, for the first factors of the lists; None without any."""
    names = [one.factor for one in (*overview.core, *overview.plus)][:MOST_VOTERS][::-1]
    if not names:
        return None
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": METHOD_NAMES[name],
            "y": names,
            "x": [(served[factor][f"votes_{name}"] or 0) / len(asked) for factor in names],
        }
        for name in asked
    ]
    line = {
        "type": "line",
        "x0": overview.chance,
        "x1": overview.chance,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"dash": "dot", "width": 1.5, "color": "#888"},
    }
    layout = {
        "barmode": "stack",
        "shapes": [line],
        "xaxis": {"title": "mean share of votes", "tickformat": ".0%"},
        "yaxis": {"tickmode": "linear", "dtick": 1},
        "margin": {"l": 190, "r": 12, "t": 8, "b": 70},
    }
    return {"figure": figure(bars, layout), "tall": len(names) > 8}


def _span(era: EraColumn) -> dict[str, object]:
    """Where a span of the IC table lies, and what that means."""
    lies = [f"{share:.0%} {window}" for window, share in era.windows.items() if share > LIES_IN]
    of_test = era.windows.get("test", 0) > LIES_IN
    use = "training of every fold"
    if era.windows.get("validation", 0) > LIES_IN:
        use = "validation: the first fold never saw it, later folds learned from it once it was past"
    if of_test:
        use = "holds test bars: reported only, and known to no fold that predicts validation"
    return {
        "name": era.name,
        "bars": f"{era.first} to {era.last}",
        "lies": ", ".join(lies) or "outside all windows",
        "use": use,
        "warns": of_test,
    }


def _best(overview: Overview, evidence: pl.DataFrame) -> list[dict[str, object]]:
    """The strongest factors of the first fold, with their RankIC in each span."""
    first = _of_fold(evidence, overview.folds[0].name)
    by_name = {row["factor"]: row for row in first.iter_rows(named=True)}
    return [
        {
            "factor": name,
            "group": by_name[name]["group"],
            "decision": by_name[name]["decision"],
            "ics": [
                _with_t(by_name[name]["ic"], by_name[name]["ic_t"]),
                *(_with_t(era.ic[name], era.t[name]) for era in overview.eras),
            ],
        }
        for name in overview.best
    ]


def _forward(one: Forward) -> list[str]:
    return [
        one.fold,
        str(one.inputs),
        str(one.all_inputs),
        _signed(one.subset),
        _signed(one.full),
        _signed(one.difference),
        f"[{_signed(one.low)}, {_signed(one.high)}]",
        _compared(one),
        str(one.bars),
    ]


def _compared(one: Forward) -> str:
    if one.low is not None and one.low > 0:
        return "better"
    return "worse" if one.high is not None and one.high < 0 else "no difference shown"


def _folds(overview: Overview, evidence: pl.DataFrame) -> list[list[str]]:
    """A row a fold: its bars, eras and inputs, and how many inputs got each decision."""
    grouped = evidence.group_by("fold", "decision").len().iter_rows()
    counts = {(fold, decision): count for fold, decision, count in grouped}
    eras = dict(evidence.group_by("fold").agg(pl.col("eras").max()).iter_rows())
    return [
        [
            fold.name,
            f"{fold.first} to {fold.last}",
            fold.predicts,
            fold.window,
            str(eras[fold.name]),
            str(fold.inputs),
            *(str(counts.get((fold.name, decision), 0)) for decision in DECISIONS),
        ]
        for fold in overview.folds
    ]


def _half_lives(evidence: pl.DataFrame) -> list[list[str]]:
    """A row an input of the served model, the strongest rolling IC first."""
    served = _of_fold(evidence, "final").filter(
        pl.col("ic").is_not_null() & ~pl.col("decision").is_in(["duplicate", "no data"])
    )
    strongest = served.sort(pl.col("rolling_ic_t").abs(), descending=True, nulls_last=True)
    return [
        [
            row["factor"],
            _signed(row["ic"]),
            f"{row['half_life_bars']} bars" if row["half_life_bars"] else "equal weights",
            _signed(row["rolling_ic"]),
            number(row["rolling_ic_t"], 1),
            str(row["rolling_list_place"] or "–"),
        ]
        for row in strongest.head(MOST_HALF_LIVES).iter_rows(named=True)
    ]


def _adversarial(one: Adversarial) -> dict[str, object]:
    behind = [f"{name} {share:.0%}" for name, share in one.factors[:MOST_BEHIND]]
    return {
        "fold": one.fold,
        "auc": number(one.auc, 3),
        "flagged": one.flagged,
        "usual": f"{number(max(one.usual), 3)} of {len(one.usual)}" if one.usual else "–",
        "word": "flagged" if one.flagged else one.reason or "quiet",
        "behind": ", ".join(behind),
    }


def _share(value: float | None, digits: int = 0) -> str:
    return number(value, digits, percent=True)


def _thousandths(value: float | None) -> str:
    return number(None if value is None else 1000 * value, 2)


# Columns of the table of all evidence: heading and how a value is shown.
SHOWN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "coverage": ("coverage", _share),
    "cluster": ("cluster", str),
    "vif": ("VIF", lambda value: number(value, 1)),
    "ic": ("IC", lambda value: number(value, 4)),
    "ic_t": ("t", lambda value: number(value, 1)),
    "rolling_ic_t": ("rolling t", lambda value: number(value, 1)),
    "mutual_information": ("MI, 1e-3", _thousandths),
    "importance_share": ("importance", lambda value: _share(value, 1)),
    "shap_share": ("SHAP", lambda value: _share(value, 1)),
    "path_order": ("path order", lambda value: number(value, 1)),
    "permutation_loss": ("permutation", lambda value: number(value, 4)),
    "elimination_rank": ("elimination", lambda value: number(value, 1)),
    "gene_frequency": ("genes", _share),
    "vote_share": ("votes", _share),
    "appearance": ("eras", _share),
}


def _evidence(evidence: pl.DataFrame) -> dict[str, object]:
    """One row a fold and factor, and the choices that narrow them down."""
    columns = {name: shown for name, shown in SHOWN.items() if evidence[name].is_not_null().any()}
    ordered = evidence.sort(
        ["fold", "appearance", "vote_share", "factor"], descending=[False, True, True, False], nulls_last=True
    )
    return {
        "headings": [heading for heading, _ in columns.values()],
        "cluster": list(columns).index("cluster"),
        "rows": [
            {**row, "figures": [show(row[name]) for name, (_, show) in columns.items()]}
            for row in ordered.iter_rows(named=True)
        ],
        "choices": [
            (name, column, sorted(evidence[name].unique()), chosen)
            for name, column, chosen in (("fold", 0, "final"), ("group", 2, None), ("decision", 3, None))
        ],
    }


def _with_t(value: float | None, t: float | None) -> Cell:
    return Cell(_signed(value), f"({number(t, 1)})")


def _signed(value: float | None) -> str:
    text = number(value, 4)
    return f"+{text}" if value is not None and value == value and value > 0 else text
