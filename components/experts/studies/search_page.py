"""The page of a hyper-parameter search: what it gained over the leaf, how much of that luck alone would give,
and which settings matter.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from components.experts.studies.search import PRUNE_AT_T, SearchPlan, StudyResult, Try
from components.experts.studies.search_space import Range
from components.page import card, escape, number, page, plot, section, table, tile

FEW_TRIES = 15


def search_page(found: StudyResult, plan: SearchPlan) -> str:
    """The whole page as HTML."""
    name = f"{plan.leaf.expert}/{plan.leaf.period}/{plan.leaf.modality}"
    parts = [
        (
            "history",
            "History",
            section("history", "History", "Each try's value, in the order of their begin.", _history(found)),
        ),
        ("importances", "Importances", _importances(found)),
        ("slices", "Slices", _slices(found, plan)),
        ("tries", "Tries", _tries(found, plan)),
        ("how", "How", _how(found, plan)),
    ]
    return page(f"Search of {name}", _head(found, plan, name), parts)


def verdict(found: StudyResult) -> str:
    """In one sentence, whether the search found more than luck gives."""
    if found.best.own:
        return "No try beat the leaf's own settings."
    tries = len(judged(found))
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


def _head(found: StudyResult, plan: SearchPlan, name: str) -> str:
    beyond = found.gain > found.luck
    badge = "no gain" if found.best.own else "gain beyond luck" if beyond else "gain within luck"
    tiles = [
        tile(number(found.best.value, 4), "RankIC of the best try, validation"),
        tile(number(found.own.value, 4), "RankIC of the leaf's own settings"),
        tile(number(found.gain, 4), f"gain on the same days, standard error {number(found.gain_error, 4)}"),
        tile(number(found.luck, 4), f"gain to expect by luck alone, {len(judged(found))} tries"),
        tile(str(sum(one.state == "pruned" for one in found.tries)), "given up early"),
    ]
    return (
        f'<h1>Search of {escape(name)}<span class="badge'
        f' {"good" if beyond and not found.best.own else "warn"}">{badge}</span></h1><p class="soft">Mean'
        f" daily RankIC of out-of-fold predictions of {escape(plan.inputs.target)} over {plan.inputs.horizon}"
        f" bars, {len(found.own.daily):,} days of the validation window. The test window was not touched:"
        " nothing of it but times and symbols reached a model or a"
        f' figure.</p><p>{escape(verdict(found))}</p><div class="tiles">{"".join(tiles)}</div>'
    )


def _history(found: StudyResult) -> str:
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
    note = (
        "A try that was given up shows its mean over the folds it had done: other days than those of finished"
        " ones."
    )
    return plot(
        "Value by try",
        data,
        {"xaxis": {"title": "try"}, "yaxis": {"title": "RankIC"}, "showlegend": True},
        note=note,
        wide=True,
    )


def _importances(found: StudyResult) -> str:
    if not found.importances:
        return section(
            "importances",
            "Importances",
            "Too few finished tries, or all of the same value.",
            card("<p>Nothing can be said about which settings matter.</p>"),
        )
    ordered = sorted(found.importances.items(), key=lambda pair: pair[1])
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [name for name, _ in ordered],
            "x": [share for _, share in ordered],
        }
    ]
    finished = len(_of(found, "complete"))
    unsure = f" With {finished} finished tries these shares are rough." if finished < FEW_TRIES else ""
    intro = (
        "Share of the variance of the value that each setting explains (fANOVA, Hutter et al. 2014), over"
        f" {finished} finished tries.{unsure}"
    )
    return section(
        "importances",
        "Importances",
        intro,
        plot("Importance", data, {"xaxis": {"title": "share of variance", "rangemode": "tozero"}}, wide=True),
    )


def _slices(found: StudyResult, plan: SearchPlan) -> str:
    cards = [_slice(found, name, parameter) for name, parameter in plan.space.items()]
    return section("slices", "Slices", "The value against each setting, whatever the others were.", *cards)


def _slice(found: StudyResult, name: str, parameter: Any) -> str:
    def places(tries: Sequence[Try]) -> list:
        return [one.values[name] if isinstance(parameter, Range) else str(one.values[name]) for one in tries]

    complete = [one for one in _of(found, "complete") if not one.own]
    pruned = _of(found, "pruned")
    data = [
        _points("finished", complete, places(complete)),
        _points("given up", pruned, places(pruned), symbol="x", opacity=0.6),
        _points("leaf's own", [found.own], places([found.own]), symbol="diamond", size=12),
    ]
    axis = (
        {"title": name, "type": "log"}
        if isinstance(parameter, Range) and parameter.log
        else {"title": name}
        if isinstance(parameter, Range)
        else {"title": name, "type": "category"}
    )
    return plot(name, data, {"xaxis": axis, "yaxis": {"title": "RankIC"}, "showlegend": True})


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


def _tries(found: StudyResult, plan: SearchPlan) -> str:
    rank = {"complete": 0, "pruned": 1, "failed": 2, "at work": 3, "stopped": 4}
    ordered = sorted(found.tries, key=lambda one: (rank[one.state], -(one.value or 0.0)))
    rows = [
        [
            f"{one.number}{' (own)' if one.own else ''}",
            {"complete": "finished", "pruned": "given up", "stopped": "killed, tried again"}.get(
                one.state, one.state
            ),
            number(one.value, 4),
            number(one.seconds or None, 0),
            *(escape(_short(one.values.get(name, "–"))) for name in plan.space),
            escape(one.reason),
        ]
        for one in ordered
    ]
    chosen = [place for place, one in enumerate(ordered) if one.number == found.best.number]
    header = ["try", "", "RankIC", "seconds", *plan.space, ""]
    return section(
        "tries", "Tries", "Best first.", card(table(header, rows, chosen=chosen, text=[1, len(header) - 1]))
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _how(found: StudyResult, plan: SearchPlan) -> str:
    text = (
        f"<p>Study {escape(found.name)} in {escape(found.storage)}. Every try is trained anew in the"
        " walk-forward folds that predict the validation window, each on its own past with purge and"
        " embargo, and judged on labels that were known before the test window began. Settings are drawn by"
        " a tree-structured Parzen estimator (Bergstra et al. 2011).</p><p>A try is given up after a fold"
        " where its daily RankIC lies behind that of the best try on the same days with a t-statistic below"
        f" {PRUNE_AT_T} (Newey and West). A median rule would give up half of all tries whatever the noise of"
        " a fold.</p><p>Luck: the median standard error of the daily difference between a try and the leaf's"
        " own, by the root of 2 because both sides carry chance, times the expected largest of as many"
        " independent standard normal draws as there are tries (Bailey and Lopez de Prado 2014). Tries that"
        " resemble each other leave less to luck; a search that is repeated on the same window leaves"
        " more.</p><p>The best settings were chosen with the labels of the validation window, so their value"
        " there is too good; only what lies after it judges them.</p>"
    )
    return section("how", "How it was done", "", card(text))
