"""The page of residual mining: what was searched, what was tried on the hold-out, what was
accepted and why.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.mining.judge import Curves, Judged
from components.mining.mine import Mined, factor_name, signed
from components.mining.result import figures
from components.page import figure, number, write_page

PAGE = "mining/page.html"
REFUSED_SHOWN = 60
PICTURES = 4
# Formulas longer than this are cut in titles and legends.
LONGEST_TITLE = 60


def write_mining_page(
    mined: Mined, path: str | os.PathLike, *, target: str, horizon: int, significance: float
) -> Path:
    """Write the page, atomically, and return its path."""
    values = page_values(mined, target=target, horizon=horizon, significance=significance)
    return write_page(path, PAGE, **values)


def page_values(mined: Mined, *, target: str, horizon: int, significance: float) -> dict[str, object]:
    """What the template shows, in words and figures."""
    note = mined.sample.note
    if note:
        return {"note": note[:1].upper() + note[1:], "plots": False}
    tried = [one for one in mined.judged if one.tried]
    refused = [one for one in mined.judged if not one.tried]
    shown = sorted(tried, key=lambda one: (not one.accepted, -one.gain_holdout))[:PICTURES]
    stack = mined.stack_ic
    return {
        "note": "",
        "accepted": len(mined.accepted),
        "experts": ", ".join(mined.sample.weights),
        "target": target,
        "horizon": horizon,
        "spans": _spans(mined),
        "stack": [number(stack[part]["mean"], 4) for part in ("mining", "holdout")],
        "tiles": _tiles(mined, tried),
        "significance": f"{significance:g}",
        "tries": mined.tries,
        "tried": [_tried(one) for one in tried],
        "gains": _mining_against_holdout(tried) if tried else None,
        "cumulative": _cumulative(mined, shown) if shown else None,
        "deciles": [_deciles(one, mined.curves[one.formula]) for one in shown],
        "refused": [_refused(one) for one in refused[:REFUSED_SHOWN]],
        "refused_in_all": len(refused),
        "weights": ", ".join(f"{name} {weight:.2f}" for name, weight in mined.sample.weights.items()),
        "inputs": len(mined.sample.columns),
    }


def _spans(mined: Mined) -> str:
    spans = figures(mined)["windows"]
    return ", ".join(
        f"{name} {spans[key]['first'][:10]} to {spans[key]['last'][:10]} ({spans[key]['bars']} bars)"
        for key, name in (("mining", "searched in"), ("holdout", "judged on"))
    )


def _tiles(mined: Mined, tried: Sequence[Judged]) -> list[tuple[str, str]]:
    best = max((one.gain_holdout for one in tried), default=None)
    return [
        (f"{mined.evaluated:,}", "formulas scored in the mining part"),
        (str(mined.tries), "tried on the hold-out"),
        (str(len(mined.accepted)), "accepted"),
        (number(best, 4), "largest RankIC gain over the stack, hold-out"),
    ]


def _tried(one: Judged) -> dict[str, object]:
    return {
        "formula": signed(one),
        "accepted": one.accepted,
        "name": factor_name(signed(one)),
        "figures": [
            number(one.ic_mining, 4),
            number(one.ic_holdout, 4),
            number(one.gain_mining, 4),
            number(one.gain_holdout, 4),
            f"{number(one.lower, 4)} to {number(one.upper, 4)}",
            number(one.weight),
        ],
        "resembles": f"{one.resembles} {number(one.input_correlation)}",
        "reason": one.reason,
    }


def _refused(one: Judged) -> dict[str, str]:
    return {
        "formula": signed(one),
        "searched": number(one.ic_searched, 4),
        "left_out": number(one.ic_left_out, 4),
        "reason": one.reason,
    }


def _mining_against_holdout(tried: Sequence[Judged]) -> dict[str, object]:
    parts = {
        "accepted": [one for one in tried if one.accepted],
        "refused": [one for one in tried if not one.accepted],
    }
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [one.gain_mining for one in part],
            "y": [one.gain_holdout for one in part],
            "text": [signed(one) for one in part],
            "error_y": {
                "type": "data",
                "array": [one.upper - one.gain_holdout for one in part],
                "thickness": 1,
            },
            "marker": {"size": 9},
        }
        for name, part in parts.items()
        if part
    ]
    layout = {
        "xaxis": {"title": "RankIC gain, mining part"},
        "yaxis": {"title": "RankIC gain, hold-out"},
        "showlegend": True,
    }
    return figure(data, layout)


def _cumulative(mined: Mined, shown: Sequence[Judged]) -> dict[str, object]:
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
    return figure(data, {"yaxis": {"title": "sum of daily gains"}, "showlegend": True})


def _deciles(one: Judged, curves: Curves) -> dict[str, object]:
    data = [{"type": "bar", "x": list(range(1, 11)), "y": (1e4 * curves.deciles).tolist()}]
    layout = {
        "xaxis": {"title": "decile of the formula", "dtick": 1},
        "yaxis": {"title": "mean label less the bar's mean, 1/10,000"},
    }
    verdict = "Accepted" if one.accepted else "Refused"
    return {
        "title": _short(signed(one)),
        "figure": figure(data, layout),
        "note": f"{verdict}; hold-out, RankIC {number(one.ic_holdout, 4)}.",
    }


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TITLE else f"{text[: LONGEST_TITLE - 3]}..."
