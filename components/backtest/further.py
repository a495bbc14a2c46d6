"""Measures what is predicted beside the judged task: each further target and horizon against its own labels,
held for its own horizon, after the same costs.

Only the test window, and never into the table of returns: gates and trials judge one task.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from components.backtest.class_forecasts import measure_classes
from components.backtest.forecasts import band_shares, coefficients, ranking
from components.backtest.market_facts import MarketFacts, what_happened
from components.backtest.portfolios import trade_long_short
from components.backtest.predictions import Task
from components.backtest.prices import Prices
from components.backtest.terms import Terms
from components.contracts import tradable_rows
from components.contracts.documents.evaluation import FurtherModel, FurtherTask
from components.contracts.targets import NO_ORDERING, NO_STAKE
from components.metrics import half_width
from components.progress import advance

STAGE = "further tasks"
STACK = "stack"


def evaluate_further(
    further: Mapping[Task, Mapping[str, pl.DataFrame]], market: MarketFacts, terms: Terms
) -> list[FurtherTask]:
    """Every model of every further task, in tradable rows; one without any in the test window is left out.

    Parameters
    ----------
    further : tables with MEASURED_COLUMNS by task and model
    terms : those of the judged task; the holding time is each task's horizon whatever its settings say
    """
    if not further:
        return []
    prices = market.prices("backtest", terms)
    found = []
    for number, (task, models) in enumerate(sorted(further.items())):
        advance(STAGE, number, len(further), f"{task.target} over {task.horizon}")
        own = replace(
            terms,
            horizon=task.horizon,
            settings=terms.settings.model_copy(update={"holding_bars": None, **_sizing(task, terms)}),
        )
        found.append(_task(task, models, market, prices, own))
    return found


def _task(
    task: Task, models: Mapping[str, pl.DataFrame], market: MarketFacts, prices: Prices, terms: Terms
) -> FurtherTask:
    facts = market.inside(what_happened(market, target=task.target, horizon=task.horizon), "test")
    inside = {
        name: tradable_rows(market.inside(frame, "test"), market.universe) for name, frame in models.items()
    }
    names = sorted(
        (name for name, frame in inside.items() if len(frame)), key=lambda name: (name != STACK, name)
    )
    traded = prices if task.target not in NO_ORDERING else None
    return FurtherTask(
        target=task.target,
        horizon=task.horizon,
        models=[_model(name, inside[name], facts, traded, terms) for name in names],
    )


def _sizing(task: Task, terms: Terms) -> dict[str, str]:
    """Names are sized equally where Kelly's share can't be told from what is predicted."""
    return {"sizing": "equal"} if terms.settings.sizing == "kelly" and task.target in NO_STAKE else {}


def _model(
    name: str, predictions: pl.DataFrame, facts: pl.DataFrame, prices: Prices | None, terms: Terms
) -> FurtherModel:
    key = ["timestamp", "symbol"]
    daily = coefficients(predictions, facts)
    pairs = predictions.join(facts.select(*key, "label"), on=key, how="inner", maintain_order="left")
    return FurtherModel(
        model=name,
        rows=len(predictions),
        labelled_rows=int(pairs["label"].is_finite().fill_null(False).sum()),
        ic=ranking(daily["ic"], terms.horizon),
        rank_ic=ranking(daily["rank_ic"], terms.horizon),
        rank_ic_interval=_interval(daily["rank_ic"], terms),
        calibration=band_shares(pairs),
        classes=measure_classes(pairs),
        long_short=None if prices is None else trade_long_short(predictions, prices, terms),
    )


def _interval(ic: pl.Series, terms: Terms) -> tuple[float, float]:
    """What holds the true mean with the chance `interval_level`; NaN where the bars are too few."""
    values = ic.drop_nulls().drop_nans().to_numpy()
    mean = values.mean() if len(values) else np.nan
    reach = half_width(values, horizon=terms.horizon, level=terms.settings.interval_level)
    return float(mean - reach), float(mean + reach)
