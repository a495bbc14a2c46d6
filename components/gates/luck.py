"""The gates on luck: what the candidate's returns are worth after every model that was ever tried on its test
window. The best of many looks good though none is.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from components.contracts import ContractError
from components.contracts.documents.trials import Scored, ScoredModel, Trials
from components.contracts.documents.verdict import Gate, Luck
from components.gates.config import Settings
from components.gates.gate import gate, too_few
from components.metrics import (
    SharpeChance,
    TrackRecord,
    expected_best,
    fewest_values,
    minimum_track_record,
    probabilistic_sharpe,
    probability_of_overfitting,
    superior_predictive_ability,
)

NOTHING = "nothing"  # holding cash, as a benchmark


@dataclass(frozen=True)
class Tried:
    """The candidate among all models that were tried on its test window.

    `returns` has its bars, `timestamp`, and a column of net returns for each model, named by the model's key;
    null in bars that a model did not see.
    """

    trials: Trials
    candidate: ScoredModel
    returns: pl.DataFrame
    level: float  # of the deflated Sharpe ratio

    @classmethod
    def of(cls, trials: Trials, settings: Settings) -> "Tried":
        """The trials, arranged for the candidate of the settings; ContractError if it is not among them."""
        candidate = _named(trials.own, settings.candidate)
        if candidate is None:
            found = ", ".join(model.name for model in trials.own.models) or "none"
            raise ContractError(
                f"The trials of the run hold no returns of {settings.candidate!r} (models: {found}). Let the"
                " backtest stage trade it, or set gates.candidate."
            )
        bars = _frame(trials.own, (candidate,)).drop_nulls().select("timestamp")
        for together in trials.scored:
            frame = _frame(together, together.models)
            bars = bars.join(frame, on="timestamp", how="left", maintain_order="left")
        return cls(trials, candidate, bars.drop("timestamp"), settings.min_deflated_sharpe)

    @property
    def models(self) -> int:
        """How many are known to have been tried."""
        return len(self.trials.models) + self.trials.unseen

    @property
    def own(self) -> np.ndarray:
        """The candidate's returns, shape (bars,)."""
        return self.returns[self.candidate.key].to_numpy()

    @cached_property
    def lucky_sharpe(self) -> float:
        """What the best of all models is expected to reach without skill, a bar; those whose returns nobody
        kept count as if they were like the others.
        """
        known = [model.sharpe for model in self.trials.models if model.sharpe is not None]
        deviation = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
        return expected_best(len(known) + self.trials.unseen, deviation)

    @cached_property
    def deflated(self) -> SharpeChance:
        """The deflated Sharpe ratio."""
        return probabilistic_sharpe(self.own, benchmark=self.lucky_sharpe)

    @cached_property
    def record(self) -> TrackRecord:
        """The bars that a Sharpe ratio like the candidate's needs."""
        return minimum_track_record(self.own, benchmark=self.lucky_sharpe, level=self.level)

    def annual(self, ratio: float) -> float:
        """A Sharpe ratio a bar as that of a year."""
        return ratio * float(np.sqrt(self.trials.own.bars_per_year))


def luck_gates(tried: Tried, settings: Settings) -> tuple[Gate, ...]:
    """Superior predictive ability over each benchmark, the deflated Sharpe ratio, and overfitting."""
    few = too_few(len(tried.returns), settings.min_test_bars, "gates.min_test_bars")
    return (
        *(_spa_gate(tried, name, limit, few) for name, limit in settings.max_spa_p.items()),
        _deflated_gate(tried, settings, few),
        _overfitting_gate(tried, settings, few),
    )


def luck_of(tried: Tried) -> Luck:
    """The few numbers that a reader sees first."""
    test = superior_predictive_ability(_excess(tried, None))
    return Luck(
        models=len(tried.trials.models),
        earlier=len(tried.trials.models) - len(tried.trials.own.models),
        unseen=tried.trials.unseen,
        chance=test.p_value,
        sharpe=tried.annual(tried.deflated.sharpe),
        lucky_sharpe=tried.annual(tried.lucky_sharpe),
        bars=len(tried.returns),
        bars_needed=tried.record.bars_needed,
    )


def _spa_gate(tried: Tried, benchmark: str, limit: float, few: str | None) -> Gate:
    name = "spa" if benchmark == NOTHING else f"spa_{benchmark}"
    than = "" if benchmark == NOTHING else f" over {benchmark}"
    what = f"chance that the best of {tried.models} models tried here does as well{than} by luck alone"
    other = None if benchmark == NOTHING else _named(tried.trials.own, benchmark)
    if benchmark != NOTHING and other is None:
        absent = f"no returns of {benchmark}, add that model or take it out of gates.max_spa_p"
        return gate(name, None, "<=", limit, what, lacking=absent)
    test = superior_predictive_ability(_excess(tried, other), level=limit)
    needed = ""
    if test.statistic > 0:
        more = test.critical / test.statistic
        needed = f"{more:.2g} times the gain{than} for the same risk, or {more**2:.2g} times the bars"
    return gate(
        name, test.p_value, "<=", limit, what, lacking=few or test.problem or None, needed=needed or "a gain"
    )


def _excess(tried: Tried, benchmark: ScoredModel | None) -> pl.DataFrame:
    """Returns over the benchmark, ready for the test of the candidate: in bars that a model did not see it did
    what the benchmark does, and none of the others has a gain of its own left.

    So the largest statistic is the candidate's, and it is held against how far luck carries the best of all
    of them. A gain that is left to a better model would let a worse candidate pass by it.
    """
    than = pl.lit(0.0) if benchmark is None else pl.col(benchmark.key)
    over = tried.returns.select(pl.all() - than)
    seen = over.select(pl.all().count() >= fewest_values(1)).row(0, named=True)
    key = tried.candidate.key
    others = [name for name in over.columns if seen[name] and name != key]
    gains = pl.max_horizontal(pl.col(others).mean(), pl.lit(0.0)) if others else None
    levelled = over.select(key, *(pl.col(name) - pl.max_horizontal(pl.col(name).mean(), 0.0) for name in others))
    del gains
    return levelled.fill_null(0.0)


def _deflated_gate(tried: Tried, settings: Settings, few: str | None) -> Gate:
    lucky = tried.annual(tried.lucky_sharpe)
    return gate(
        "deflated_sharpe",
        tried.deflated.probability,
        ">=",
        settings.min_deflated_sharpe,
        f"chance that the true Sharpe ratio is above {lucky:.2f}, which the best of {tried.models} models tried"
        " here is expected to reach by luck",
        lacking=few or tried.deflated.problem or None,
        needed=_longer(tried),
    )
