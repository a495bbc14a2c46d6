"""The file of mined formulas: the accepted ones as `features.formulas` takes them, and the figures of every
one that was tried.
"""

import os
from dataclasses import asdict
from typing import Any

import yaml

from components.contracts import atomic_write_text
from components.mining.mine import Mined, factor_name, signed

TOP = """# The entries of `formulas` can be put under features.formulas of a config as they are.
# They were chosen with labels of the validation window: only what lies after it judges them.
"""


def write_formulas(mined: Mined, path: str | os.PathLike) -> None:
    """Write `declared` and `figures` as YAML, atomically."""
    text = yaml.safe_dump(
        {"formulas": declared(mined), "figures": figures(mined)},
        sort_keys=False,
        allow_unicode=True,
        width=200,
    )
    atomic_write_text(path, TOP + text)


def declared(mined: Mined) -> list[dict[str, str]]:
    """The accepted formulas as entries of `features.formulas`."""
    return [
        {
            "name": factor_name(signed(one)),
            "formula": signed(one),
            "group": "mined",
            "normalisation": "rank",
            "source": _source(mined, one),
        }
        for one in mined.accepted
    ]


def figures(mined: Mined) -> dict[str, Any]:
    """What was searched and tried, JSON-able."""
    sample = mined.sample
    parts = {
        name: _span(part)
        for name, part in (("mining", sample.mining), ("holdout", sample.holdout))
        if part is not None
    }
    return {
        "note": sample.note,
        "windows": parts,
        "stack_weights": sample.weights,
        "stack_rank_ic": mined.stack_ic,
        "inputs": len(sample.columns),
        "evaluated_in_mining": mined.evaluated,
        "tried_on_holdout": mined.tries,
        "accepted": len(mined.accepted),
        "tried": [asdict(one) for one in mined.judged if one.tried],
    }


def _source(mined: Mined, one) -> str:
    held = mined.sample.holdout.timestamps
    return (
        f"symbolic regression on the residual of {', '.join(mined.sample.weights)}; RankIC over them"
        f" {one.gain_holdout:+.4f} (at least {one.lower:+.4f}) from {held[0]:%Y-%m-%d} to"
        f" {held[-1]:%Y-%m-%d}, {mined.tries} formulas tried"
    )


def _span(part) -> dict[str, Any]:
    return {
        "first": str(part.timestamps[0]),
        "last": str(part.timestamps[-1]),
        "bars": part.bars,
        "rows": len(part.returns),
    }
