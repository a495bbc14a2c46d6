"""What models did on the backtest paths of a cross-validation: a distribution instead of one history (Lopez
de Prado 2018, chapter 12).

Every path holds all bars once, predicted by models that did not learn from them, though from later ones. The
paths trade the same bars: what differs is only what was learned from.
"""

import numpy as np
import polars as pl

from components.backtest.charges import charged_prices
from components.backtest.engine import run_backtest
from components.backtest.prices import Prices
from components.backtest.sized_by import CHANCES, with_names
from components.backtest.terms import Terms
from components.contracts import tradable_rows
from components.contracts.classes import class_values
from components.contracts.documents.cross_validated import (
    CrossValidated,
    Distribution,
    GroupSpan,
    ModelPaths,
    PathFigures,
)
from components.metrics import ic_summary, information_coefficient, performance_summary
from components.progress import advance
from components.sizing.bets import implied_chances

STAGE = "paths"
STRATEGY = "long_short"
KEY = ("timestamp", "symbol")


def evaluate_paths(
    crossed: pl.DataFrame,
    universe: pl.DataFrame,
    facts: pl.DataFrame,
    panel: pl.DataFrame,
    terms: Terms,
    context: pl.DataFrame | None = None,
) -> CrossValidated:
    """Measure and trade every model on every path, in tradable rows; one without any is left out.

    Money begins with the first bar at which its costs can be told: none lie before a panel's first bars.

    Parameters
    ----------
    crossed : CROSS_VALIDATED frame
    universe : UNIVERSE table of the panel
    facts : what happened: `timestamp`, `symbol`, `label`
    panel : PANEL table; bars outside those that were predicted are not traded
    context : as in `MarketFacts`
    """
    inside = pl.col("timestamp").is_between(crossed["timestamp"].min(), crossed["timestamp"].max())
    prices, known = charged_prices(panel, panel.filter(inside), terms), facts.filter(inside)
    prices = prices if context is None else with_names(prices, context, terms)
    measured = _with_chances(tradable_rows(crossed, universe))
    names = measured["expert"].unique().sort().to_list()
    models = {}
    for number, name in enumerate(names):
        advance(STAGE, number, len(names), name)
        models[name] = _on_paths(measured.filter(pl.col("expert") == name), known, prices, terms)
    tested = crossed.group_by("split").agg(pl.col("group").n_unique())["group"].max()
    return CrossValidated(
        scheme="purged_kfold" if tested == 1 else "combinatorial",
        groups=_groups(crossed),
        test_groups=tested,
        splits=crossed["split"].n_unique(),
        paths=crossed["path"].n_unique(),
        models=models,
    )


def distribution(values: list[float]) -> Distribution:
    """Quantiles, between neighbouring values where need be, and the share below 0, of the finite ones."""
    finite = np.array(values)[np.isfinite(values)]
    if not len(finite):
        return Distribution(p10=None, p50=None, p90=None, share_below_0=None)
    low, middle, high = np.quantile(finite, [0.1, 0.5, 0.9])
    return Distribution(p10=low, p50=middle, p90=high, share_below_0=float((finite < 0).mean()))


def _on_paths(own: pl.DataFrame, facts: pl.DataFrame, prices: Prices, terms: Terms) -> ModelPaths:
    parts = own.partition_by("path", as_dict=True)
    rows = [_figures(path, part, facts, prices, terms) for (path,), part in sorted(parts.items())]
    return ModelPaths(
        paths=[PathFigures(**row) for row in rows],
        rank_ic=distribution([row["rank_ic"] for row in rows]),
        sharpe_net=distribution([row["sharpe_net"] for row in rows]),
    )


def _figures(
    path: int, predictions: pl.DataFrame, facts: pl.DataFrame, prices: Prices, terms: Terms
) -> dict[str, float]:
    """The PathFigures of one model on one path; NaN where there is none."""
    given = predictions.sort(KEY)
    ranks = ic_summary(information_coefficient(given, facts, rank=True)["ic"], horizon=terms.horizon)
    traded = run_backtest(
        prices,
        given.filter(_charged(prices, terms)).select(
            *KEY, "score", "uncertainty", *(name for name in CHANCES if name in given.columns)
        ),
        terms.settings,
        horizon=terms.horizon,
        strategy=STRATEGY,
        bars_per_year=terms.bars_per_year,
    )
    money = performance_summary(traded.returns, horizon=terms.horizon, bars_per_year=terms.bars_per_year)
    return {
        "path": path,
        "rank_ic": ranks["mean"],
        "rank_ic_t": ranks["t_hac"],
        **{
            name: money.get(name, float("nan"))
            for name in ("sharpe_net", "annual_return_net", "max_drawdown")
        },
    }


def _with_chances(crossed: pl.DataFrame) -> pl.DataFrame:
    """The rows with the chances of up and down where the target is a class: scores and uncertainties were
    kept of a cross-validation, not the chances that they came from.
    """
    classes = class_values(crossed["target"][0]) if len(crossed) else ()
    if not classes:
        return crossed
    scores, uncertainty = (crossed[name].to_numpy() for name in ("score", "uncertainty"))
    up, down = implied_chances(scores, uncertainty, classes)
    return crossed.with_columns(p_up=pl.Series(up), p_down=pl.Series(down))


def _charged(prices: Prices, terms: Terms) -> pl.Expr:
    """Whether a row is not before the first bar at which what its order costs by name is known."""
    asked = [prices.charges.spread, *([prices.charges.impact] if terms.settings.capital else [])]
    starts = [int(np.isfinite(rates).any(axis=1).argmax()) for rates in asked if len(rates)]
    return pl.col("timestamp") >= prices.calendar[max(starts, default=0)]


def _groups(crossed: pl.DataFrame) -> list[GroupSpan]:
    moment = pl.col("timestamp")
    spans = crossed.group_by("group").agg(
        moment.min().dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("start"),
        moment.max().dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("end"),
        moment.n_unique().alias("bars"),
    )
    return [GroupSpan(**row) for row in spans.sort("group").drop("group").to_dicts()]
