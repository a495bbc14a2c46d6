"""What a replay's curves and fills say: profits with intervals, what was kept of paper, trades and costs;
whole and by symbol, hour and regime.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts.documents.tick_replay import (
    CUTS,
    CutName,
    Kept,
    Orders,
    PartFigures,
    Profit,
    Strategy,
)
from components.metrics.blocks import block_length
from components.metrics.inference import block_bootstrap_sums
from components.tick_replay.arrays import AT_ONCE_POLICY

STRATEGY = ("expert", "policy", "latency")
# Columns of what is drawn together: profits of a step, and the square of the last.
PAPER, AT_MID, GROSS, NET, SQUARED = range(5)
SECONDS_AN_HOUR = 3_600
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Terms:
    """What figures are computed by. `capital` is that of one symbol."""

    capital: float
    level: float
    draws: int
    seed: int
    steps_a_year: float
    horizon_steps: int


@dataclass(frozen=True)
class Tables:
    """`curve`: CURVE with `paper` (profit of the expert's paper), `net`, `hour` and `regime` of each step.
    `trades`: a row a trade that ended flat, with `net`, `entered` (value) and the same parts. `orders`: a row
    a strategy and session.
    """

    curve: pl.DataFrame
    trades: pl.DataFrame
    orders: pl.DataFrame


def with_parts(
    curve: pl.DataFrame, fills: pl.DataFrame, orders: pl.DataFrame, regimes: pl.DataFrame
) -> Tables:
    """The tables of a replay with the parts that their rows belong to.

    Parameters
    ----------
    regimes : `timestamp`, `symbol`, `regime`, sorted by timestamp: what is known from each moment on
    """
    step = pl.col("timestamp") - pl.duration(microseconds=1)
    marked = curve.with_columns(net=pl.col("gross") - pl.col("fees"), hour=step.dt.strftime("%H:00"))
    paper = marked.filter(pl.col("policy") == AT_ONCE_POLICY)
    key = ["expert", "symbol", "timestamp"]
    paper = paper.select(*key, pl.col("gross").alias("paper"), pl.col("traded").alias("paper_traded"))
    marked = marked.join(paper, on=key, how="left", maintain_order="left")
    return Tables(_in_regimes(marked, regimes), _in_regimes(_round_trips(fills), regimes), orders)


def _round_trips(fills: pl.DataFrame) -> pl.DataFrame:
    """Trades that ended flat."""
    value, entry = pl.col("price") * pl.col("quantity"), pl.col("entry")
    moment = pl.from_epoch(pl.col("decision_ts") // 1_000, time_unit="us").dt.replace_time_zone("UTC")
    trades = fills.group_by(*STRATEGY, "symbol", "session", "trade", maintain_order=True).agg(
        net=-(pl.col("side") * value).sum() - pl.col("fee").sum(),
        entered=value.filter(entry).sum(),
        held=(pl.col("lots") * pl.when(entry).then(1).otherwise(-1)).sum(),
        timestamp=moment.first(),
    )
    return trades.filter(pl.col("held") == 0).with_columns(hour=pl.col("timestamp").dt.strftime("%H:00"))


def _in_regimes(rows: pl.DataFrame, regimes: pl.DataFrame) -> pl.DataFrame:
    if regimes.is_empty():
        return rows.with_columns(regime=pl.lit(UNKNOWN))
    rows = rows.sort("timestamp").join_asof(regimes, on="timestamp", by="symbol", check_sortedness=False)
    return rows.with_columns(pl.col("regime").fill_null(UNKNOWN))


def measure(tables: Tables, terms: Terms) -> tuple[list[Strategy], int]:
    """The figures of every strategy but paper, in order, and the steps of a block of the bootstrap."""
    curves = tables.curve.filter(pl.col("policy") != AT_ONCE_POLICY).partition_by(STRATEGY, as_dict=True)
    trades = tables.trades.partition_by(STRATEGY, as_dict=True)
    orders = tables.orders.partition_by(STRATEGY, as_dict=True)
    wholes = {name: _steps(rows) for name, rows in curves.items()}
    block = _block(wholes, terms)
    found = []
    # In the order in which they were planned, that of latencies.
    for name in (name for name in orders if name in curves):
        own = Own(curves[name], trades.get(name, tables.trades.clear()), orders[name])
        symbols = own.curve["symbol"].n_unique()
        whole = figures("all", own, symbols, block, terms)
        by = {cut: list(_parts(cut, own, symbols, block, terms)) for cut in CUTS}
        found.append(
            Strategy(
                expert=name[0],
                policy=name[1],
                latency=name[2],
                whole=whole,
                by=by,
                orders=_orders(own.orders),
            )
        )
    return found, block


@dataclass(frozen=True)
class Own:
    """The tables of one strategy, or of a part of it."""

    curve: pl.DataFrame
    trades: pl.DataFrame
    orders: pl.DataFrame


def _block(wholes: Mapping[tuple, np.ndarray], terms: Terms) -> int:
    """One length for all, as the net and paper profits of the strategies ask for together."""
    series = [steps[:, column] for steps in wholes.values() for column in (PAPER, NET)]
    if not series or len(series[0]) < 2:
        return 1
    return block_length(np.column_stack(series), horizon=terms.horizon_steps)


def _parts(cut: CutName, own: Own, symbols: int, block: int, terms: Terms) -> Iterator[PartFigures]:
    for part in own.curve[cut].unique().sort():
        here = pl.col(cut) == part
        orders = own.orders.filter(here) if cut == "symbol" else own.orders.clear()
        within = Own(own.curve.filter(here), own.trades.filter(here), orders)
        yield figures(part, within, 1 if cut == "symbol" else symbols, block, terms)


def _steps(curve: pl.DataFrame) -> np.ndarray:
    """What all symbols earned together in each step, (steps, 5): columns PAPER to SQUARED."""
    columns = [pl.col(name).sum() for name in ("paper", "at_mid", "gross", "net")]
    ordered = curve.sort("timestamp", "symbol").group_by("timestamp", maintain_order=True)
    together = ordered.agg(columns).drop("timestamp").to_numpy()
    return np.column_stack([together, together[:, -1] ** 2])


def figures(part: str, own: Own, symbols: int, block: int, terms: Terms) -> PartFigures:
    """The figures of one part of a strategy that trades so many symbols."""
    steps, (traded, on_paper) = _steps(own.curve), own.curve.select("traded", "paper_traded").sum().row(0)
    totals = steps.sum(axis=0)
    draws = block_bootstrap_sums(steps, block_bars=block, draws=terms.draws, seed=terms.seed)
    profits = [
        Profit(
            total=totals[column],
            interval=_interval(draws[:, column], terms.level),
            bps_of_traded=_over(totals[column], on_paper if column == PAPER else traded) * 1e4,
        )
        for column in (PAPER, AT_MID, GROSS, NET)
    ]
    capital = terms.capital * symbols
    ratio = _information_ratio(totals[None], len(steps), terms)[0]
    trades, orders = own.trades, own.orders
    sent = orders["sent_lots"].sum() if len(orders) else 0
    costs = totals[AT_MID] - totals[NET]
    return PartFigures(
        part=part,
        steps=len(steps),
        paper=profits[PAPER],
        at_mid=profits[AT_MID],
        gross=profits[GROSS],
        net=profits[NET],
        kept_at_mid=_kept(totals, draws, AT_MID, terms.level),
        implementable=_kept(totals, draws, NET, terms.level),
        information_ratio=ratio,
        information_ratio_interval=_interval(_information_ratio(draws, len(steps), terms), terms.level),
        trades=len(trades),
        hit_rate=_over(float((trades["net"] > 0).sum()), len(trades)),
        average_return_bps=_over(float(trades["net"].sum()), float(trades["entered"].sum())) * 1e4,
        max_drawdown=_drawdown(steps[:, NET]) / capital,
        turnover=traded / capital,
        cost_share=costs / totals[AT_MID] if totals[AT_MID] > 0 else None,
        fill_ratio=_over(float(orders["filled_lots"].sum()), sent) if sent else None,
    )


def _over(value: float, by: float) -> float:
    return value / by if by else float("nan")


def _interval(draws: np.ndarray, level: float) -> tuple[float, float]:
    """Percentile limits; NaN where there are no steps to draw from, or one draw gives no number."""
    tail = (1 - level) / 2
    if not len(draws) or not np.isfinite(draws).all():
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _kept(totals: np.ndarray, draws: np.ndarray, column: int, level: float) -> Kept:
    """A profit over that of paper; nothing where the interval of paper is not above 0."""
    if not (totals[PAPER] > 0 and _interval(draws[:, PAPER], level)[0] > 0):
        return Kept(share=None, interval=(None, None))
    paper = np.where(draws[:, PAPER] > 0, draws[:, PAPER], np.nan)
    return Kept(share=totals[column] / totals[PAPER], interval=_interval(draws[:, column] / paper, level))


def _information_ratio(sums: np.ndarray, steps: int, terms: Terms) -> np.ndarray:
    """Mean over standard deviation of a step's net profit, annual, of sums (..., 5) over so many steps."""
    mean = sums[..., NET] / max(steps, 1)
    variance = sums[..., SQUARED] / max(steps, 1) - mean**2
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = mean / np.sqrt(variance) * np.sqrt(terms.steps_a_year)
    return np.where(variance > 1e-12 * mean**2, ratio, np.nan)


def _drawdown(net: np.ndarray) -> float:
    """The deepest fall of the sum of profits from its peak, which is 0 at the start."""
    curve = np.concatenate([[0.0], np.cumsum(net)])
    return float((np.maximum.accumulate(curve) - curve).max())


def _orders(rows: pl.DataFrame) -> Orders:
    """The counts of all sessions together."""
    return Orders(**{name: int(rows[name].sum()) for name in Orders.model_fields})
