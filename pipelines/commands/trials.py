"""Every model that was tried on a test window, and which of them are better than luck: what
`alphaloop trials` shows.
"""

from pathlib import Path

import numpy as np
import polars as pl
from rich.markup import escape
from rich.table import Table

from components.contracts.documents.trials import Scored, ScoredModel
from components.gates.luck import Tried
from components.metrics import minimum_backtest_length, probabilistic_sharpe, step_m
from components.page import number
from components.registry.client import answered
from components.registry.gathered import newest_trials
from pipelines.config import Config

LEVEL = 0.05


def trials_table(config: Config) -> Table:
    """The trials of the newest judged model's test window, the best net Sharpe ratio first; below them what
    luck alone would show.

    `p alone` is the chance of a Sharpe ratio as good by luck if the model were the only one, `beyond luck`
    what is left after all of them.

    Raises
    ------
    RegistryError
        If no judged model keeps its returns.
    ContractError
        If gates.candidate is none of the newest run's models.
    """
    with answered():
        found = newest_trials(
            config.registry, config.run.name, Path(config.run.folder).absolute() / "registry"
        )
    tried = Tried.of(found, config.gates)
    seen = tried.returns.select("timestamp", pl.exclude("timestamp").fill_null(0.0))
    superior = set(step_m(seen, level=LEVEL).superior)
    window = f"{found.own.test_start[:10]} to {found.own.test_end[:10]}"
    title = f"Trials on the test window {window} of {config.run.name}"
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("kind", "run"):
        table.add_column(name)
    for name in ("Sharpe net", "RankIC", "p alone"):
        table.add_column(name, justify="right")
    table.add_column("beyond luck")
    rows = [(together, model) for together in found.scored for model in together.models]
    for together, model in sorted(rows, key=lambda row: _sharpe(*row), reverse=True):
        cells = _cells(together, model)
        table.add_row(*cells, "yes" if model.key in superior else "", style=_style(model, tried))
    table.caption = _caption(tried)
    return table


def _cells(together: Scored, model: ScoredModel) -> tuple[str, ...]:
    names = escape(", ".join((model.name, *model.also)))
    ratio = _sharpe(together, model)
    shown = number(ratio) if np.isfinite(ratio) else number(None)
    return names, model.kind, together.run[:8], shown, number(model.mean_rank_ic, 4), number(_alone(model), 3)


def _sharpe(together: Scored, model: ScoredModel) -> float:
    """A year, net; -infinity where nothing was traded."""
    return -np.inf if model.sharpe is None else model.sharpe * float(np.sqrt(together.bars_per_year))


def _alone(model: ScoredModel) -> float | None:
    returns = np.array([value for value in model.net_return if value is not None])
    if model.sharpe is None:
        return None
    chance = 1 - probabilistic_sharpe(returns).probability
    return chance if np.isfinite(chance) else None


def _style(model: ScoredModel, tried: Tried) -> str:
    return "bold" if model.key == tried.candidate.key else ""


def _caption(tried: Tried) -> str:
    lucky = tried.annual(tried.deflated.luck)
    length = minimum_backtest_length(max(tried.models, 1))
    unseen = f" Of {tried.unseen} of them nobody knows the returns." if tried.unseen else ""
    return (
        f"{tried.models} models.{unseen} Without skill the best of so many would show a Sharpe ratio of"
        f" {lucky:.2f}. With so many tries it takes {length.years:.1f} years of bars until luck no longer"
        " shows a Sharpe ratio of 1."
    )
