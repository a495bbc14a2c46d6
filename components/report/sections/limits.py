"""How large new books were, and how often each of their limits took something away."""

from dataclasses import dataclass

import polars as pl

from components.contracts.documents.evaluation import BookLimits, Evaluation
from components.page import Picture, number
from components.report.picture import line, picture, thinned

HEADER = ["portfolio", "gross asked for", "cut by sector", "cut by beta", "cut by volatility"]
PORTFOLIOS = {"long_short": "long-short", "long_only": "long only"}


@dataclass(frozen=True)
class Limits:
    """The table of the stack's portfolios, and the gross exposure of its long-short over time."""

    header: list[str]
    rows: list[list[str]]
    exposure: Picture


def limits_of(evaluation: Evaluation, long_short: pl.DataFrame) -> Limits | None:
    """Those of the stack; None where names are sized equally and without limits.

    Parameters
    ----------
    long_short : returns of the stack's portfolio, with `timestamp` and `exposure`
    """
    tested = evaluation.tested("stack")
    found = {} if tested is None else {name: getattr(tested.portfolio, name).limits for name in PORTFOLIOS}
    rows = [_row(PORTFOLIOS[name], limits) for name, limits in found.items() if limits is not None]
    if not rows:
        return None
    held = thinned(long_short.select("timestamp", "exposure"))
    layout = {"yaxis": {"rangemode": "tozero"}}
    return Limits(
        HEADER,
        rows,
        picture(
            "Gross exposure of the stack, long-short", [line(held, "exposure", "held")], layout, wide=True
        ),
    )


def _row(name: str, limits: BookLimits) -> list[str]:
    shares = (limits.sector, limits.beta, limits.volatility)
    return [
        name,
        number(limits.gross, 2),
        *("no limit" if share is None else f"{number(share, 0, percent=True)} of bars" for share in shares),
    ]
