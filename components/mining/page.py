"""The page of residual mining: what was searched, what was tried on the hold-out, what was
accepted and why.
"""

import numpy as np

from components.mining.judge import Curves, Judged
from components.mining.result import figures
from components.mining.run import Mined, factor_name, signed
from components.page import card, escape, number, page, plot, section, table, tile

REFUSED_SHOWN = 60
PICTURES = 4


def page_html(mined: Mined, *, target: str, horizon: int, significance: float) -> str:
    """The whole page as HTML."""
    head = _head(mined, target, horizon)
    if mined.sample.note:
        return page("Mined formulas", head, [], plots=False)
    parts = [
        ("tried", "Tried", _tried(mined, significance)),
        ("pictures", "Pictures", _pictures(mined)),
        ("refused", "Refused before", _refused(mined)),
        ("how", "How", _how(mined, significance)),
    ]
    return page(
        "Mined formulas",
        head,
        parts,
        style="td code{display:inline-block;min-width:13rem}td:last-child{min-width:9rem}",
    )


def _head(mined: Mined, target: str, horizon: int) -> str:
    sample, count = mined.sample, len(mined.accepted)
    if sample.note:
        return (
            '<h1>Mined formulas<span class="badge warn">not'
            f" mined</span></h1><p>{escape(sample.note[:1].upper() + sample.note[1:])}.</p>"
        )
    spans = figures(mined)["windows"]
    said = ", ".join(
        f"{name} {spans[key]['first'][:10]} to {spans[key]['last'][:10]} ({spans[key]['bars']} bars)"
        for key, name in (("mining", "searched in"), ("holdout", "judged on"))
    )
    best = max((one for one in mined.judged if one.tried), key=lambda one: one.gain_holdout, default=None)
    tiles = [
        tile(f"{mined.evaluated:,}", "formulas scored in the mining part"),
        tile(f"{mined.tries}", "tried on the hold-out"),
        tile(f"{count}", "accepted"),
        tile(number(best and best.gain_holdout, 4), "largest RankIC gain over the stack, hold-out"),
    ]
    badge = f'<span class="badge {"good" if count else "warn"}">{count or "nothing"} accepted</span>'
    stack = mined.stack_ic
    return (
        f'<h1>Mined formulas{badge}</h1><p class="soft">What {escape(", ".join(sample.weights))} leave'
        f" unexplained of {escape(target)} over {horizon} bars; {escape(said)}. RankIC of the stack alone:"
        f" {number(stack['mining']['mean'], 4)} and {number(stack['holdout']['mean'], 4)}.</p><div"
        f' class="tiles">{"".join(tiles)}</div>'
    )


def _tried(mined: Mined, significance: float) -> str:
    rows = [
        [
            f"<code>{escape(signed(one))}</code>",
            (
                f"<b class=good>accepted</b> as {escape(factor_name(signed(one)))}"
                if one.accepted
                else "refused"
            ),
            number(one.ic_mining, 4),
            number(one.ic_holdout, 4),
            number(one.gain_mining, 4),
            number(one.gain_holdout, 4),
            f"{number(one.lower, 4)} to {number(one.upper, 4)}",
            number(one.weight),
            f"{escape(one.resembles)} {number(one.input_correlation)}",
            escape(one.reason),
        ]
        for one in mined.judged
        if one.tried
    ]
    header = [
        "formula",
        "",
        "RankIC mining",
        "RankIC hold-out",
        "gain mining",
        "gain hold-out",
        "interval of the gain",
        "weight",
        "most like the input",
        "why",
    ]
    chosen = [k for k, one in enumerate(one for one in mined.judged if one.tried) if one.accepted]
    shown = (
        table(header, rows, chosen=chosen, text=[0, 1, 8, 9])
        if rows
        else (
            "<p>No formula of the search was new and held in the mining fold that its search did not see.</p>"
        )
    )
    intro = (
        "A formula is accepted where the lower limit of its gain over the stack is above 0, at"
        f" {significance:g} shared by all tries ({mined.tries})."
    )
    return section("tried", "Tried on the hold-out", intro, card(shown))


def _pictures(mined: Mined) -> str:
    tried = [one for one in mined.judged if one.tried]
    shown = sorted(tried, key=lambda one: (not one.accepted, -one.gain_holdout))[:PICTURES]
    cards = [_mining_against_holdout(tried)] if tried else []
    if shown:
        cards.append(_cumulative(mined, shown))
    cards += [_deciles(one, mined.curves[one.formula]) for one in shown]
    return section(
        "pictures",
        "Pictures",
        "A formula that was fitted to noise is strong on the left scale and near 0 on the hold-out.",
        *cards,
    )


def _mining_against_holdout(tried: list[Judged]) -> str:
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [one.gain_mining for one in tried if one.accepted == accepted],
            "y": [one.gain_holdout for one in tried if one.accepted == accepted],
            "text": [signed(one) for one in tried if one.accepted == accepted],
            "error_y": {
                "type": "data",
                "array": [one.upper - one.gain_holdout for one in tried if one.accepted == accepted],
                "thickness": 1,
            },
            "marker": {"size": 9},
        }
        for name, accepted in (("accepted", True), ("refused", False))
        if any(one.accepted == accepted for one in tried)
    ]
    layout = {
        "xaxis": {"title": "RankIC gain, mining part"},
        "yaxis": {"title": "RankIC gain, hold-out"},
        "showlegend": True,
    }
    return plot(
        "Gain over the stack, searched against judged",
        data,
        layout,
        note="Bars: the interval of the gain, corrected for all tries.",
    )


def _cumulative(mined: Mined, shown: list[Judged]) -> str:
    times = [str(moment)[:10] for moment in mined.sample.holdout.timestamps]
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": _short(signed(one)),
            "x": times,
            "y": np.cumsum(mined.curves[one.formula].gains).tolist(),
            "text": signed(one),
        }
        for one in shown
    ]
    return plot(
        "Gain in RankIC, added up over the hold-out",
        data,
        {"yaxis": {"title": "sum of daily gains"}, "showlegend": True},
    )


def _deciles(one: Judged, curves: Curves) -> str:
    data = [{"type": "bar", "x": list(range(1, 11)), "y": (1e4 * curves.deciles).tolist()}]
    layout = {
        "xaxis": {"title": "decile of the formula", "dtick": 1},
        "yaxis": {"title": "mean label less the bar's mean, 1/10,000"},
    }
    return plot(
        _short(signed(one)),
        data,
        layout,
        note=f"{'Accepted' if one.accepted else 'Refused'}; hold-out, RankIC {number(one.ic_holdout, 4)}.",
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refused(mined: Mined) -> str:
    others = [one for one in mined.judged if not one.tried]
    rows = [
        [
            f"<code>{escape(signed(one))}</code>",
            number(one.ic_searched, 4),
            number(one.ic_left_out, 4),
            escape(one.reason),
        ]
        for one in others[:REFUSED_SHOWN]
    ]
    more = (
        f"<p class=soft>and {len(others) - REFUSED_SHOWN:,} more</p>" if len(others) > REFUSED_SHOWN else ""
    )
    intro = f"{len(others):,} formulas of the searches' last generations never saw the hold-out."
    return section(
        "refused",
        "Refused before the hold-out",
        intro,
        card(table(["formula", "IC searched bars", "IC fold left out", "why"], rows, text=[0, 3]) + more),
    )


def _how(mined: Mined, significance: float) -> str:
    sample = mined.sample
    weights = ", ".join(f"{escape(name)} {weight:.2f}" for name, weight in sample.weights.items())
    text = (
        "<p>Only validation bars whose label was known before the test window are used; the test window is"
        " not read. Purge and embargo lie between the two parts. The experts' scores are out of fold. The"
        f" stack is their ranked mean with weights fitted in the mining part alone ({weights}); the stacker's"
        " own scores are not used, because its combiner was chosen with the labels of the whole validation"
        f" window.</p><p>{len(sample.columns):,} inputs that differ between symbols were searched. Each"
        " search leaves out one mining fold, where a formula must hold. Weight and sign of a formula come"
        " from the mining part. Its gain in the hold-out is judged by a block bootstrap with Student's t,"
        f" each try at {significance:g} divided by the number of tries.</p><p>An accepted formula was chosen"
        " with validation labels: in a later run only what lies after this window judges it. Each further"
        " mining on the same window is another try; count it in mining.earlier_tries.</p>"
    )
    return section("how", "How it was done", "", card(text))
