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
from components.gates.gate import gate, passed_unasked, too_few
from components.metrics import (
    DeflatedSharpe,
    ManyModelsTest,
    TrackRecord,
    deflated_sharpe,
    fewest_values,
    minimum_track_record,
    probability_of_overfitting,
    superior_predictive_ability,
)

NOTHING = "nothing"  # holding cash, as a benchmark


@dataclass(frozen=True)
class Tried:
    """The candidate among all models that were tried on its test window.

    `returns` has one row for each of the candidate's bars: `timestamp`, and a column of net returns for each
    model, named by the model's key; null in bars that a model did not see.
    """

    trials: Trials
    candidate: ScoredModel
    returns: pl.DataFrame
    settings: Settings

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
        return cls(trials, candidate, bars, settings)

    @property
    def models(self) -> int:
        """How many are known to have been tried."""
        return len(self.trials.models) + self.trials.unseen

    @property
    def unseen(self) -> int:
        """How many of them nobody knows the returns of: judged when none were kept, or never traded, as the
        variants of an ablation once were.
        """
        return self.trials.unseen + sum(not model.net_return for model in self.trials.models)

    @property
    def own(self) -> np.ndarray:
        """The candidate's returns, shape (bars,)."""
        return self.returns[self.candidate.key].to_numpy()

    @cached_property
    def deflated(self) -> DeflatedSharpe:
        """Its Sharpe ratio against what the best of all models reaches by luck."""
        traded = (model for model in self.trials.models if model.net_return)
        sharpes = [np.nan if model.sharpe is None else model.sharpe for model in traded]
        return deflated_sharpe(self.own, sharpes, unseen=self.unseen)

    @cached_property
    def record(self) -> TrackRecord:
        """The bars that a Sharpe ratio like the candidate's needs to be above luck."""
        level = self.settings.min_deflated_sharpe
        return minimum_track_record(self.own, benchmark=self.deflated.luck, level=level)

    @cached_property
    def over_nothing(self) -> ManyModelsTest:
        """The candidate against cash, after so many."""
        level = self.settings.max_spa_p.get(NOTHING, 0.05)
        return superior_predictive_ability(self.levelled(None), level=level)

    def levelled(self, benchmark: ScoredModel | None) -> pl.DataFrame:
        """Returns over a benchmark for a test of the candidate: none of the others has a gain left, so that
        the largest statistic is the candidate's.

        What it is held against, how far luck carries the best of all, does not depend on their means. With
        its gain left to it a good model would let a poor candidate pass. In bars that a model did not see it
        does what the benchmark does; of those that saw next to none nothing is known.
        """
        key = self.candidate.key
        than = pl.lit(0.0) if benchmark is None else pl.col(benchmark.key)
        over = self.returns.select("timestamp", pl.exclude("timestamp") - than)
        seen = over.count().row(0, named=True)
        others = [name for name in seen if name not in ("timestamp", key) and seen[name] >= fewest_values(1)]
        without_gain = (pl.col(name) - pl.col(name).mean().clip(lower_bound=0) for name in others)
        return over.select("timestamp", key, *without_gain).fill_null(0.0)

    def annual(self, ratio: float) -> float:
        """A Sharpe ratio a bar as that of a year."""
        return ratio * float(np.sqrt(self.trials.own.bars_per_year))


def luck_gates(tried: Tried) -> tuple[Gate, ...]:
    """Superior predictive ability over each benchmark, the deflated Sharpe ratio, and overfitting."""
    few = _too_few(tried)
    return (
        *(_spa_gate(tried, name, limit, few) for name, limit in tried.settings.max_spa_p.items()),
        _deflated_gate(tried, few),
        _overfitting_gate(tried, few),
    )


def luck_of(tried: Tried) -> Luck:
    """The few numbers that a reader sees first; no chance where the gates would give none."""
    told = not _too_few(tried) and tried.candidate.key not in tried.over_nothing.left_out
    return Luck(
        models=tried.models - tried.unseen,
        earlier=tried.models - tried.unseen - sum(bool(one.net_return) for one in tried.trials.own.models),
        unseen=tried.unseen,
        chance=tried.over_nothing.p_value if told else None,
        sharpe=tried.annual(tried.deflated.sharpe),
        lucky_sharpe=tried.annual(tried.deflated.luck),
        bars=len(tried.returns),
        bars_needed=tried.record.bars_needed,
    )


def _too_few(tried: Tried) -> str | None:
    return too_few(len(tried.returns), tried.settings.min_test_bars, "gates.min_test_bars")


def _spa_gate(tried: Tried, benchmark: str, limit: float, few: str | None) -> Gate:
    if benchmark == NOTHING:
        name, over, test = "spa", "", tried.over_nothing
    else:
        name, over = f"spa_{benchmark}", f" over {benchmark}"
        other = _named(tried.trials.own, benchmark)
        if other is None:
            absent = f"no returns of {benchmark}: add that model or take it out of gates.max_spa_p"
            return gate(name, None, "<=", limit, absent)
        test = superior_predictive_ability(tried.levelled(other), level=limit)
    kept = f", told by the {test.models} whose returns are kept" if tried.unseen else ""
    what = (
        f"chance that the best of {tried.models} models tried on this window does as well{over} by luck{kept}"
    )
    same = f"the same return{over} in each bar" if tried.candidate.key in test.left_out else None
    return gate(
        name,
        test.p_value,
        "<=",
        limit,
        what,
        lacking=few or test.problem or same,
        needed=_stronger(test.times_gain, over),
    )


def _stronger(times: float, over: str) -> str:
    """How much better the candidate would have to be; what it is held against falls with the root of the
    bars.
    """
    if not np.isfinite(times):
        return f"a gain{over}, there was none"
    return f"{times:.2g} times the gain{over} at the same risk, or the same on {times**2:.2g} times the bars"


def _deflated_gate(tried: Tried, few: str | None) -> Gate:
    deflated, record = tried.deflated, tried.record
    lucky = tried.annual(deflated.luck)
    longer = f"{record.bars_needed:,.0f} bars as good as these {record.bars:,}"
    return gate(
        "deflated_sharpe",
        deflated.probability,
        ">=",
        tried.settings.min_deflated_sharpe,
        f"chance that the true Sharpe ratio is above {lucky:.2f}, which the best of {deflated.trials} models"
        " without skill is expected to reach here",
        lacking=few or deflated.problem or None,
        needed=longer if np.isfinite(record.bars_needed) else f"a Sharpe ratio well above {lucky:.2f}",
    )


def _overfitting_gate(tried: Tried, few: str | None) -> Gate:
    """Not asked of few models, which the number says nothing about; else a gate as any other."""
    limit = tried.settings.max_overfitting
    whole = [name for name in tried.returns.columns if not tried.returns[name].null_count()]
    found = probability_of_overfitting(tried.returns.select(whole))
    what = (
        f"how often the best of {found.configurations} models on half of the window is below the middle on"
        " the rest"
    )
    if found.problem and not few:
        return passed_unasked("overfitting", "<=", limit, f"not asked, {found.problem}: {what}")
    return gate(
        "overfitting",
        found.probability,
        "<=",
        limit,
        what,
        lacking=few,
        needed="models whose order on one half of the window holds on the other",
    )


def _named(together: Scored, name: str) -> ScoredModel | None:
    found = (model for model in together.models if name in (model.name, *model.also) and model.net_return)
    return next(found, None)


def _frame(together: Scored, models: tuple[ScoredModel, ...]) -> pl.DataFrame:
    """Returns by moment, columns `timestamp` and the models' keys."""
    columns = {model.key: model.net_return for model in models if model.net_return}
    schema = {"timestamp": pl.String, **dict.fromkeys(columns, pl.Float64)}
    return pl.DataFrame({"timestamp": together.timestamps, **columns}, schema=schema)
