"""Experts side by side: ranking, how it adds up and decays, what the stack chose, the table of figures."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts.documents.comparison import Comparison
from components.contracts.documents.evaluation import Measurement
from components.contracts.documents.experts import TrainedExpert
from components.metrics import half_width
from components.page import Picture, number
from components.report.picture import dotted_line, line, picture, shown_name, thinned, upright_bars
from components.report.result import RunResult
from components.report.sections.networks import network_pictures
from components.report.summary import CANDIDATES, models_in_test

SHOWN_AT_FIRST = ("stack", "equal_weights", "lightgbm", "patchtst")
MOST_WEIGHTS = 16
HEADER = [
    "model",
    "IC",
    "RankIC",
    "ICIR",
    "t",
    "IC of log return",
    "Sharpe gross",
    "Sharpe net",
    "drawdown",
    "turnover a year",
    "fit s",
]


@dataclass(frozen=True)
class ExpertsSection:
    """`failed`: why by expert. `stack_row`: which row of the table is the stack's."""

    failed: Mapping[str, str]
    pictures: list[Picture]
    header: list[str]
    rows: list[list[str]]
    stack_row: int


def experts_section(run: RunResult) -> ExpertsSection:
    """All models on the test window."""
    models = models_in_test(run.evaluation)
    seconds = {one.expert: one.seconds for one in run.experts if isinstance(one, TrainedExpert)}
    pictures = [
        _ranking(models, run.evaluation.horizon),
        _added_up(models),
        _decay(models),
        *_choice(run.comparison),
        *network_pictures(run.explanations),
    ]
    return ExpertsSection(
        failed=run.oof_audit.failed_experts,
        pictures=pictures,
        header=HEADER,
        rows=[_row(name, block, seconds.get(name)) for name, block in models.items()],
        stack_row=list(models).index("stack"),
    )


def _ranking(models: Mapping[str, Measurement], horizon: int) -> Picture:
    means = [block.rank_ic.mean for block in models.values()]
    errors = [_error(block, horizon) for block in models.values()]
    bars = upright_bars([shown_name(name) for name in models], means)
    whiskers = {"error_y": {"type": "data", "array": errors, "thickness": 1.2}}
    return picture("RankIC", [bars | whiskers], {"yaxis": {"title": "mean RankIC"}})


def _added_up(models: Mapping[str, Measurement]) -> Picture:
    curves = []
    for name, block in models.items():
        values = np.array([value if value is not None else 0.0 for value in block.daily.rank_ic])
        totals = pl.DataFrame({"timestamp": block.daily.timestamp, "total": np.cumsum(values)})
        visible = True if name in SHOWN_AT_FIRST else "legendonly"
        curves.append(line(thinned(totals), "total", shown_name(name), visible=visible))
    layout = {"yaxis": {"title": "sum of RankIC"}}
    return picture("RankIC added up over time", curves, layout, note="click a name to show or hide it")


def _decay(models: Mapping[str, Measurement]) -> Picture:
    curves = [
        dotted_line(shown_name(name), [row.lag for row in block.decay], [row.rank_ic for row in block.decay])
        for name, block in models.items()
        if name != "median"
    ]
    layout = {"xaxis": {"title": "bars after the signal"}, "yaxis": {"title": "RankIC"}}
    return picture("How long a signal lives", curves, layout)


def _choice(comparison: Comparison) -> list[Picture]:
    names = [_candidate_name(one.name) for one in comparison.candidates]
    bars = upright_bars(names, [one.difference for one in comparison.candidates])
    layout = {"yaxis": {"title": "RankIC over equal weights"}}
    failed = (f"{_candidate_name(name)} is left out, {why}" for name, why in comparison.left_out.items())
    note = "; ".join([comparison.reason, *failed])
    pictures = [picture("What the stack chose on validation", [bars], layout, note=note)]
    weights = sorted(comparison.weights.items(), key=lambda item: -abs(item[1]))[:MOST_WEIGHTS]
    if weights:
        shares = upright_bars([name for name, _ in weights], [value for _, value in weights])
        note = "share of gain for trees; coefficient for linear and fixed weights"
        pictures.append(picture("Weights of the chosen combiner", [shares], note=note))
    return pictures


def _candidate_name(method: str) -> str:
    """A combiner's name, which an expert may have too."""
    return shown_name(f"z_{method}" if f"z_{method}" in CANDIDATES else method)


def _row(name: str, block: Measurement, seconds: float | None) -> list[str]:
    portfolio = block.portfolio.long_short
    return [
        shown_name(name),
        number(block.ic.mean, 4),
        number(block.rank_ic.mean, 4),
        number(block.ic.icir),
        number(block.rank_ic.t_hac, 1),
        number(block.ic_log_return.mean, 4),
        number(portfolio.sharpe_gross),
        number(portfolio.sharpe_net),
        number(portfolio.max_drawdown, 1, percent=True),
        number(portfolio.annual_turnover, 1),
        number(seconds, 0),
    ]


def _error(block: Measurement, horizon: int) -> float | None:
    """Half of the 95 % interval about the mean RankIC; None where the bars are too few for one."""
    daily = np.array([value for value in block.daily.rank_ic if value is not None])
    width = half_width(daily, horizon=horizon)
    return width if np.isfinite(width) else None
