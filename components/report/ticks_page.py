"""The page of a run on ticks: the verdict, experts beside imbalance alone, paper beside what could be had,
the book with fills on it, parts, orders, gates, and for a simulated market what could be found at most.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from components.contracts.documents.tick_replay import PartFigures, Profit, Strategy
from components.contracts.documents.tick_truth import Attainable
from components.page import number, write_page
from components.report.picture import shown_name
from components.report.result import EVIDENCE
from components.report.sections.gates import gate_rows
from components.report.ticks_book import book_picture
from components.report.ticks_money import (
    delay_histogram,
    kept_by_latency,
    net_by_latency,
    profit_curves,
    with_orders,
)

if TYPE_CHECKING:
    from components.report.ticks import TickRun

EXPERT_HEADER = (
    "expert",
    "decisions",
    "acted on",
    "on a stale book",
    "rank correlation",
    "PR-AUC",
    "moments that pay",
    "paper",
    "net",
    "share kept",
    "bps of traded, net",
    "IR",
    "hit rate",
    "fill ratio",
)
PART_HEADER = (
    "part",
    "paper",
    "gross",
    "net",
    "share kept",
    "trades",
    "hit rate",
    "mean return, bps",
    "IR",
    "drawdown",
    "turnover",
    "cost share",
    "fill ratio",
)
ORDER_HEADER = (
    "policy",
    "latency",
    "net",
    "orders",
    "lots sent",
    "filled",
    "of them resting",
    "cancels",
    "too late",
    "missed trades",
    "left open",
)
TRUTH_HEADER = ("horizon", "attainable", "linear part alone", "non-linear part alone")
TITLES = {"symbol": "By symbol", "hour": "By hour of the day, UTC", "regime": "By regime"}


def write_ticks_page(path: Path, run: "TickRun") -> Path:
    """Write the whole page to `path`."""
    found, judged = run.found, run.judged
    own = [one for one in found.strategies if (one.policy, one.latency) == (judged.policy, judged.latency)]
    own.sort(key=lambda one: one.expert != judged.expert)
    fills = run.fills.filter(
        (run.fills["expert"] == judged.expert)
        & (run.fills["policy"] == judged.policy)
        & (run.fills["latency"] == judged.latency)
    )
    return write_page(
        path,
        "report/ticks.html",
        run=run,
        judged=f"{shown_name(judged.expert)}, {judged.policy.replace('_', ' ')}, latency {judged.latency}",
        level=f"{found.level:.0%}",
        horizon=_duration(run.horizon_ms),
        tiles=_tiles(run),
        evidence=[(f"{EVIDENCE}/{name}", Path(name).stem.replace("_", " ")) for name in run.pages],
        expert_header=EXPERT_HEADER,
        experts=[_expert(one, run) for one in own],
        pictures=[
            profit_curves(run.curve, judged, found.latencies),
            kept_by_latency(found, judged.expert),
            net_by_latency(found, judged.expert),
            delay_histogram(run.ticks),
        ],
        book=book_picture(run.ticks, fills),
        part_header=PART_HEADER,
        parts=[(TITLES[cut], [_part(one) for one in judged.by[cut]]) for cut in TITLES],
        order_header=ORDER_HEADER,
        orders=[_orders(one) for one in with_orders(found, judged.expert)],
        gates=gate_rows(run.verdict.gates),
        truth_header=TRUTH_HEADER,
        truth=[_attainable(one) for one in run.truth.attainable] if run.truth else [],
    )


def _tiles(run: "TickRun") -> list[tuple[str, str]]:
    whole, moves = run.judged.whole, run.moves.get(run.judged.expert)
    gates = run.verdict.gates
    tiles = [
        (_money(whole.net.total), f"net profit {_interval(whole.net)}"),
        (_money(whole.paper.total), f"paper profit {_interval(whole.paper)}: at once, without costs"),
        (_kept(whole), "of the paper profit is left"),
        (f"{sum(gate.passed for gate in gates)} / {len(gates)}", "gates passed"),
    ]
    if moves:
        tiles.insert(
            0, (number(moves.rank_correlation, 3), f"rank correlation over {_duration(run.horizon_ms)}")
        )
        share = _recovered(run, moves.rank_correlation)
        if share is not None:
            tiles.insert(1, (number(share, 0, percent=True), "of the attainable rank correlation (planted)"))
    return tiles


def _recovered(run: "TickRun", reached: float) -> float | None:
    """The share of what the best forecast reaches; None where it is not known, or nothing can be reached."""
    at = [one for one in run.truth.attainable if one.horizon_ms == run.horizon_ms] if run.truth else []
    return reached / at[0].rank_correlation if at and at[0].rank_correlation else None


def _expert(one: Strategy, run: "TickRun") -> list[str]:
    moves, whole = run.moves.get(one.expert), one.whole
    return [
        shown_name(one.expert),
        f"{run.found.decisions.get(one.expert, 0):,}",
        f"{run.found.acted.get(one.expert, 0):,}",
        f"{run.found.stale.get(one.expert, 0):,}",
        number(moves.rank_correlation, 3) if moves else "–",
        number(moves.precision, 4) if moves else "–",
        number(moves.base_rate, 4) if moves else "–",
        _profit(whole.paper),
        _profit(whole.net),
        _kept(whole),
        number(whole.net.bps_of_traded, 2),
        _ratio(whole.information_ratio),
        number(whole.hit_rate, 1, percent=True),
        number(whole.fill_ratio, 1, percent=True),
    ]


def _part(part: PartFigures) -> list[str]:
    return [
        part.part,
        _profit(part.paper),
        _money(part.gross.total),
        _profit(part.net),
        _kept(part),
        f"{part.trades:,}",
        number(part.hit_rate, 1, percent=True),
        number(part.average_return_bps, 2),
        _ratio(part.information_ratio),
        number(part.max_drawdown, 2, percent=True),
        number(part.turnover, 1),
        number(part.cost_share, 0, percent=True),
        number(part.fill_ratio, 1, percent=True),
    ]


def _orders(one: Strategy) -> list[str]:
    counts = one.orders
    numbers = (
        counts.orders,
        counts.sent_lots,
        counts.filled_lots,
        counts.maker_lots,
        counts.cancels,
        counts.failed_cancels,
        counts.missed_trades,
        counts.open_trades,
    )
    shown = [f"{value:,}" for value in numbers]
    return [one.policy.replace("_", " "), one.latency, _profit(one.whole.net), *shown]


def _attainable(one: Attainable) -> list[str]:
    figures = (one.rank_correlation, one.linear, one.nonlinear)
    return [_duration(one.horizon_ms), *(number(value, 3) for value in figures)]


def _profit(profit: Profit) -> str:
    """A profit with its interval, which no line breaks."""
    return f"{_money(profit.total)} {_interval(profit)}"


def _interval(profit: Profit) -> str:
    low, high = (_money(limit) for limit in profit.interval)
    return f"[{low},\N{NO-BREAK SPACE}{high}]"


def _money(value: float | None) -> str:
    """To a whole unit from a hundred on, else to three digits: what a unit is worth depends on the market."""
    if value is None or abs(value) >= 100:
        return number(value, 0)
    return f"{value or 0.0:.3g}"


def _ratio(value: float | None) -> str:
    """A ratio to one digit, from a hundred on to a whole one: minutes made annual tell no more."""
    return number(value, 0 if value is not None and abs(value) >= 100 else 1)


def _kept(part: PartFigures) -> str:
    return number(part.implementable.share, 0, percent=True, missing="undefined")


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:g} ms" if milliseconds < 1_000 else f"{milliseconds / 1_000:g} s"
