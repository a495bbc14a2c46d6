"""The page of a hyper-parameter search: what it gained over the leaf, how much of that luck alone would give,
and which settings matter.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from components.experts.studies.judging import measure_of
from components.experts.studies.search import StudyResult
from components.experts.studies.search_space import Range
from components.experts.studies.study import SearchPlan
from components.experts.studies.tries import PRUNE_AT_T, Try
from components.page import figure, number, render

FEW_TRIES = 15
# States of a try, best first, and what they are called.
STATES = {
    "complete": "finished",
    "pruned": "given up",
    "failed": "failed",
    "at work": "at work",
    "stopped": "killed, tried again",
}


def search_page(found: StudyResult, plan: SearchPlan) -> str:
    """The whole page as HTML."""
    tries, measure = _best_first(found), measure_of(plan.inputs.target)
    return render(
        "experts/studies/search_page.html",
        name=f"{plan.leaf.expert}/{plan.leaf.period}/{plan.leaf.modality}",
        found=found,
        plan=plan,
        verdict=verdict(found),
        beyond=found.luck is not None and found.gain > found.luck,
        judged=len(judged(found)),
        finished=len(_of(found, "complete")),
        given_up=len(_of(found, "pruned")),
        few_tries=FEW_TRIES,
        prune_at_t=PRUNE_AT_T,
        measure=measure,
        history=_history(found, measure),
        importances=_importances(found),
        slices={name: _slice(found, name, parameter, measure) for name, parameter in plan.space.items()},
        header=["try", "", measure, "seconds", *plan.space, ""],
        rows=[_row(one, plan) for one in tries],
        chosen=[place for place, one in enumerate(tries) if one.number == found.best.number],
    )


def verdict(found: StudyResult) -> str:
    """In one sentence, whether the search found more than luck gives."""
    if found.best.own:
        return "No try beat the leaf's own settings."
    tries = len(judged(found))
    if found.luck is None or found.gain_error is None:
        return (
            f"On {len(found.own.daily)} days, too few to know what luck alone would give to the best of"
            f" {tries} tries, the best lies {found.gain:.4f} above the leaf's own: there is no evidence that"
            " it is better. Lengthen timeline.validation."
        )
    beyond = found.gain - found.luck
    by_chance = (
        f"Had all {tries} tries been equally good, the best of them would by luck alone lie about"
        f" {found.luck:.4f} above the leaf's own on this one window"
    )
    if beyond <= 0:
        return (
            f"{by_chance}; the best lies {found.gain:.4f} above it, which is no more than that: there is no"
            " evidence that it is better."
        )
    sure = "more than" if beyond > found.gain_error else "less than"
    return (
        f"{by_chance}; the best lies {found.gain:.4f} above it. What is left, {beyond:.4f}, is {sure} one"
        f" standard error ({found.gain_error:.4f})."
    )


def judged(found: StudyResult) -> list[Try]:
    """Tries with a value."""
    return [one for one in found.tries if one.value is not None]


def _history(found: StudyResult, measure: str) -> dict[str, Any]:
    complete, pruned = (_of(found, state) for state in ("complete", "pruned"))
    best = list(accumulate((one.value for one in complete), max))
    last = max(one.number for one in found.tries)
    data = [
        _points("finished", complete, [one.number for one in complete]),
        _points("given up", pruned, [one.number for one in pruned], symbol="x", opacity=0.6),
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": [one.number for one in complete],
            "y": best,
            "line": {"shape": "hv"},
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "leaf's own",
            "x": [0, last],
            "y": [found.own.value] * 2,
            "line": {"dash": "dot"},
        },
    ]
    layout = {"xaxis": {"title": "try"}, "yaxis": {"title": measure}, "showlegend": True}
    return figure(data, layout)


def _importances(found: StudyResult) -> dict[str, Any]:
    ordered = sorted(found.importances.items(), key=lambda pair: pair[1])
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [name for name, _ in ordered],
        "x": [share for _, share in ordered],
    }
    return figure([bars], {"xaxis": {"title": "share of variance", "rangemode": "tozero"}})


def _slice(found: StudyResult, name: str, parameter: Any, measure: str) -> dict[str, Any]:
    numeric = isinstance(parameter, Range)

    def places(tries: Sequence[Try]) -> list:
        return [one.values[name] if numeric else str(one.values[name]) for one in tries]

    complete = [one for one in _of(found, "complete") if not one.own]
    pruned = _of(found, "pruned")
    data = [
        _points("finished", complete, places(complete)),
        _points("given up", pruned, places(pruned), symbol="x", opacity=0.6),
        _points("leaf's own", [found.own], places([found.own]), symbol="diamond", size=12),
    ]
    kind = {"type": "category"} if not numeric else {"type": "log"} if parameter.log else {}
    layout = {"xaxis": {"title": name, **kind}, "yaxis": {"title": measure}, "showlegend": True}
    return figure(data, layout)


def _points(
    name: str, tries: Sequence[Try], x: list, *, symbol: str = "circle", size: int = 8, opacity: float = 1.0
) -> dict:
    marker = {"size": size, "symbol": symbol, "opacity": opacity}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": x,
        "y": [one.value for one in tries],
        "text": [f"try {one.number}" for one in tries],
        "marker": marker,
    }


def _of(found: StudyResult, state: str) -> list[Try]:
    return [one for one in found.tries if one.state == state]


def _best_first(found: StudyResult) -> list[Try]:
    rank = list(STATES)
    return sorted(found.tries, key=lambda one: (rank.index(one.state), -(one.value or 0.0)))


def _row(one: Try, plan: SearchPlan) -> list[str]:
    return [
        f"{one.number}{' (own)' if one.own else ''}",
        STATES[one.state],
        number(one.value, 4),
        number(one.seconds or None, 0),
        *(_short(one.values.get(name, "–")) for name in plan.space),
        one.reason,
    ]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
