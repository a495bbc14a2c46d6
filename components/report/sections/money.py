"""Money: what the portfolios earned after costs, bar by bar."""

from dataclasses import dataclass

import polars as pl

from components.page import Picture
from components.report.picture import line, picture, shown_name, thinned
from components.report.result import RunResult
from components.report.sections.capacity import Capacity, capacity_of
from components.report.sections.limits import Limits, limits_of

COMPARED = ("stack", "equal_weights", "best_single")
SMOOTHED_BARS = 20


@dataclass(frozen=True)
class MoneySection:
    """`cost` in basis points a side, as it is written. `capacity` is None where no volume is known, `limits`
    where names are sized equally and without any.
    """

    cost: str
    capacity: Capacity | None
    limits: Limits | None
    growth: Picture
    drawdown: Picture
    long_only: Picture
    turnover: Picture


def money_section(run: RunResult) -> MoneySection:
    """The portfolios of the stack and of its baselines in the backtest window."""
    traded = run.returns.filter(pl.col("window") == "backtest").sort("timestamp")
    growth, drawdown = _long_short(traded)
    return MoneySection(
        cost=f"{run.evaluation.cost_bps_per_side:g}",
        capacity=capacity_of(run.evaluation, COMPARED),
        limits=limits_of(run.evaluation, _of(traded, "stack", "long_short")),
        growth=growth,
        drawdown=drawdown,
        long_only=_long_only(_of(traded, "stack", "long_only")),
        turnover=_turnover(_of(traded, "stack", "long_short")),
    )


def _of(traded: pl.DataFrame, expert: str, strategy: str) -> pl.DataFrame:
    return traded.filter((pl.col("expert") == expert) & (pl.col("strategy") == strategy))


def _grown(column: str) -> pl.Expr:
    return (1 + pl.col(column)).cum_prod()


def _long_short(traded: pl.DataFrame) -> tuple[Picture, Picture]:
    curves, drawdowns = [], []
    for name in COMPARED:
        part = _of(traded, name, "long_short")
        if part.is_empty():
            continue
        both = part.select("timestamp", net=_grown("net_return"), gross=_grown("gross_return"))
        falls = thinned(both.select("timestamp", fall=pl.col("net") / pl.col("net").cum_max() - 1))
        both = thinned(both)
        curves.append(line(both, "net", f"{shown_name(name)} net"))
        if name == "stack":
            curves.append(line(both, "gross", "Stack gross", dash="dot"))
        drawdowns.append(line(falls, "fall", shown_name(name), fill="tozeroy" if name == "stack" else None))
    return (
        picture("Long-short quantiles: growth of 1", curves, wide=True),
        picture("Drawdown, net", drawdowns, {"yaxis": {"tickformat": ".0%"}}),
    )


def _long_only(part: pl.DataFrame) -> Picture:
    held = thinned(part.select("timestamp", net=_grown("net_return"), market=_grown("benchmark_return")))
    own, others = (
        line(held, "net", "Stack, long only, net"),
        line(held, "market", "Every name alike", dash="dot"),
    )
    return picture("Long only against every name alike", [own, others])


def _turnover(part: pl.DataFrame) -> Picture:
    smoothed = thinned(part.select("timestamp", turnover=pl.col("turnover").rolling_mean(SMOOTHED_BARS)))
    curve = line(smoothed, "turnover", "stack")
    layout = {"yaxis": {"rangemode": "tozero"}}
    return picture("Turnover a bar, mean of 20 bars", [curve], layout, wide=True)
