"""Pictures of what a strategy on ticks earned: paper beside what could be had, by latency; and how long
messages took.
"""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.documents.tick_replay import Strategy, TickReplay
from components.contracts.tick_days import tick_days
from components.page import Picture
from components.report.picture import dotted_line, line, picture, thinned

PAPER = "paper"
MOMENT = "%Y-%m-%d %H:%M:%S"
# A session's steps are minutes at most.
LEFT_OUT = timedelta(hours=1)
HISTOGRAM_BINS = 60
# Delays are shown from here on, in milliseconds: what is shorter stands in the first bin.
SHORTEST_MS = 0.01


def profit_curves(curve: pl.DataFrame, judged: Strategy, latencies: list[str]) -> Picture:
    """What the judged expert and policy earned over time, net at each latency, beside paper."""
    own = curve.filter(pl.col("expert") == judged.expert)
    drawn = [_summed(own.filter(pl.col("policy") == PAPER), pl.col("gross"))]
    traces = [line(drawn[0], "profit", "paper", dash="dot")]
    for latency in latencies:
        rows = own.filter((pl.col("policy") == judged.policy) & (pl.col("latency") == latency))
        if len(rows):
            drawn.append(_summed(rows, pl.col("gross") - pl.col("fees")))
            traces.append(line(drawn[-1], "profit", f"net, {latency}"))
    return picture(
        "Profit over time",
        traces,
        {"yaxis": {"title": "quote currency"}, "xaxis": {"rangebreaks": _between_sessions(own["timestamp"])}},
        note=f"All symbols together, policy {judged.policy.replace('_', ' ')}. Paper: filled at once, without"
        " costs.",
        wide=True,
    )


def _between_sessions(moments: pl.Series) -> list[dict[str, list[str]]]:
    """The stretches without a step that a curve leaves out, so that recordings weeks apart stand side by
    side.
    """
    steps = moments.unique().sort()
    texts, closed = steps.dt.strftime(MOMENT), (steps.diff() > LEFT_OUT).fill_null(False).arg_true()
    return [{"bounds": [texts[int(place) - 1], texts[int(place)]]} for place in closed]


def _summed(rows: pl.DataFrame, profit: pl.Expr) -> pl.DataFrame:
    steps = rows.group_by("timestamp").agg(profit.sum().alias("profit")).sort("timestamp")
    moments = pl.col("timestamp").dt.strftime(MOMENT)
    return thinned(steps.select(moments, pl.col("profit").cum_sum()))


def kept_by_latency(found: TickReplay, expert: str) -> Picture:
    """The share of the paper profit that each policy keeps, after costs, with its interval."""
    traces = []
    for policy, strategies in _by_policy(found, expert).items():
        kept = [one.whole.implementable for one in strategies]
        trace = dotted_line(
            policy.replace("_", " "), [one.latency for one in strategies], [one.share for one in kept]
        )
        traces.append(trace | _whiskers([one.share for one in kept], [one.interval for one in kept]))
    return picture(
        "Share of the paper profit that is left, net",
        traces,
        {"yaxis": {"tickformat": ".0%"}, "xaxis": {"title": "latency", "type": "category"}},
        note=f"Whiskers hold the share with a chance of {found.level:.0%}. No point: the interval of paper"
        " is not above 0, so that there is no share.",
    )


def net_by_latency(found: TickReplay, expert: str) -> Picture:
    """The net profit of each policy, with its interval, and the paper profit."""
    traces = []
    for policy, strategies in _by_policy(found, expert).items():
        net = [one.whole.net for one in strategies]
        trace = dotted_line(
            policy.replace("_", " "), [one.latency for one in strategies], [one.total for one in net]
        )
        traces.append(trace | _whiskers([one.total for one in net], [one.interval for one in net]))
    return picture(
        "Net profit by latency",
        traces,
        {"yaxis": {"title": "quote currency"}, "xaxis": {"title": "latency", "type": "category"}},
        note=f"Whiskers hold the profit with a chance of {found.level:.0%}.",
    )


def with_orders(found: TickReplay, expert: str) -> list[Strategy]:
    """An expert's strategies that send orders, by policy and latency."""
    own = [one for one in found.strategies if one.expert == expert and one.policy != "none"]
    return sorted(own, key=lambda one: (one.policy, found.latencies.index(one.latency)))


def _by_policy(found: TickReplay, expert: str) -> dict[str, list[Strategy]]:
    """The same, each policy's in the order of their latencies."""
    own = with_orders(found, expert)
    return {one.policy: [other for other in own if other.policy == one.policy] for one in own}


def _whiskers(values: list, intervals: list) -> dict:
    both = list(zip(values, intervals, strict=True))
    up = [None if value is None or high is None else high - value for value, (_, high) in both]
    down = [None if value is None or low is None else value - low for value, (low, _) in both]
    return {"error_y": {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "width": 3}}


def delay_histogram(folder: Path) -> Picture:
    """How long messages took beyond the fastest, by symbol."""
    found = {symbol: _delays(paths) for symbol, paths in _files(folder).items()}
    # One clock alone gives no delay but 0, which is no measurement.
    delays = {symbol: own for symbol, own in found.items() if own.any()}
    untimed = ", ".join(sorted(found.keys() - delays.keys()))
    longest = max((float(own.max()) for own in delays.values() if len(own)), default=1.0)
    edges = np.geomspace(SHORTEST_MS, max(longest, 1.0), HISTOGRAM_BINS + 1)
    traces = []
    for symbol, own in delays.items():
        counts, _ = np.histogram(np.clip(own, SHORTEST_MS, None), edges)
        share = counts / max(counts.sum(), 1)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": symbol,
                "x": np.round(edges[:-1], 5).tolist(),
                "y": share.tolist(),
                "line": {"shape": "hv", "width": 1.4},
            }
        )
    unknown = f" Unknown for {untimed}: one clock only, so that the latency `measured` is 0 there."
    ticks = {"type": "log", "title": "milliseconds", "dtick": 1}
    return picture(
        "How long messages took, beyond the fastest",
        traces,
        {"xaxis": ticks, "yaxis": {"tickformat": ".0%", "title": "share of messages"}},
        note="Excess over the floor, after offset and drift of the collector's clock."
        + (unknown if untimed else ""),
    )


def _files(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for day in tick_days(folder):
        files.setdefault(day.symbol, []).append(day.path)
    return files


def _delays(paths: list[Path]) -> np.ndarray:
    """Milliseconds of each message."""
    parts = [
        pl.scan_parquet(path).select("message", "delay_ns").unique("message").select("delay_ns").collect()
        for path in paths
    ]
    return pl.concat(parts)["delay_ns"].drop_nulls().to_numpy() / 1e6
