"""The methods that fit a model: each learns from the rows of one era and gives its votes and figures on the
next.

A method gets the inputs that stand for their clusters, K of them; all arrays of votes and figures are (K,).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from components.selection.chance import beats
from components.selection.config import Effort, Settings
from components.selection.models import Forest, Ridge, moments, prepare, standardised
from components.selection.permutation import VOTE_ERRORS, permutation_loss
from components.selection.purpose import Purpose
from components.selection.samples import Sample
from components.selection.wrapper import eliminate, gene_frequency

PATH_STEPS = 40


@dataclass(frozen=True)
class Trial:
    """What the methods learn from (`learned`, N rows) and are judged on (`held`, M rows), both with K inputs.

    `flipped` are the targets of the learned rows under redrawn directions, each (N,).
    """

    learned: Sample
    held: Sample
    flipped: list[np.ndarray]
    settings: Settings
    purpose: Purpose

    @property
    def effort(self) -> Effort:
        """How much work the mode does."""
        return self.settings.effort

    @property
    def most_votes(self) -> int:
        """Inputs that may get a vote where the best are taken: the share that chance gives elsewhere."""
        return max(round(self.learned.values.shape[1] / (len(self.flipped) + 1)), 1)


@dataclass
class Findings:
    """Votes and figures by name."""

    votes: dict[str, np.ndarray] = field(default_factory=dict)
    figures: dict[str, np.ndarray] = field(default_factory=dict)


def ask_fitted_methods(trial: Trial, rng: np.random.Generator, advance: Callable[[str], None]) -> Findings:
    """The votes and figures of all methods of the mode; `advance` is told which one is at work."""
    found = Findings()
    advance("model")
    model = _ask_model(trial, rng, found)
    advance("linear path")
    scored = _Scored.of(trial)
    _ask_linear_path(trial, scored, found)
    advance("permutation")
    _ask_permutation(trial, model, rng, found)
    if trial.effort.boruta_rows:
        advance("boruta")
        found.votes["boruta"] = _boruta(scored.values, trial)
    if trial.effort.recursive_elimination:
        advance("elimination")
        _ask_elimination(trial, found)
    if trial.effort.genetic_seeds:
        advance("genetic search")
        _ask_genes(trial, scored, found)
    return found


@dataclass(frozen=True)
class _Scored:
    """The learned values standardised (N, K), their scale (K,), Gram matrix (K, K), and products with the
    target a row (K,).
    """

    values: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    gram: np.ndarray
    response: np.ndarray

    @classmethod
    def of(cls, trial: Trial) -> "_Scored":
        mean, spread = moments(trial.learned.values)
        values = standardised(trial.learned.values, mean, spread)
        rows = len(values)
        return cls(values, mean, spread, values.T @ values / rows, values.T @ trial.learned.target / rows)


def _ask_model(trial: Trial, rng: np.random.Generator, found: Findings) -> Forest | Ridge:
    """Importance and SHAP values of the family's model, and of those that learn redrawn labels."""
    effort, judged = trial.effort, trial.held.values
    learnt = prepare(
        trial.purpose.family,
        trial.learned.values,
        rounds=effort.rounds,
        threads=trial.settings.threads,
        seed=trial.purpose.seed,
    )
    model = learnt.fit(trial.learned.target)
    some = np.sort(rng.choice(len(judged), min(effort.shap_rows, len(judged)), replace=False))
    gain, weight = model.importance, np.abs(model.contributions(judged[some])).mean(axis=0)
    others = [learnt.fit(target) for target in trial.flipped]
    gains = np.stack([other.importance for other in others])
    weights = np.stack([np.abs(other.contributions(judged[some])).mean(axis=0) for other in others])
    found.votes |= {"importance": beats(gain, gains), "shap": beats(weight, weights)}
    found.figures |= {
        "importance_share": gain / (gain.sum() or 1.0),
        "shap_share": weight / (weight.sum() or 1.0),
    }
    return model


def _ask_linear_path(trial: Trial, scored: _Scored, found: Findings) -> None:
    """How early each input enters the Lasso's path."""
    entry = _entry_penalty(scored.gram, scored.response)
    rows = len(scored.values)
    nulls = [_entry_penalty(scored.gram, scored.values.T @ target / rows) for target in trial.flipped]
    place = 1 + (entry[None, :] > entry[:, None]).sum(axis=1)
    found.votes["linear_path"] = beats(entry, np.stack(nulls))
    found.figures["path_order"] = np.where(entry > 0, place, np.nan)


def _ask_permutation(trial: Trial, model: Forest | Ridge, rng: np.random.Generator, found: Findings) -> None:
    """What the model loses where an input loses its place in time; the heaviest inputs are asked."""
    gain, effort = model.importance, trial.effort
    asked = np.argsort(-gain, kind="stable")[: effort.permutation_inputs]
    loss = permutation_loss(
        model,
        trial.held,
        inputs=asked[gain[asked] > 0],
        repeats=effort.permutation_repeats,
        block_bars=max(trial.settings.block_bars // trial.purpose.horizon, 1),
        lags=1,
        rng=rng,
    )
    sure = (loss.mean - VOTE_ERRORS * loss.error > 0) & (loss.error > 0)
    found.votes["permutation"] = sure.astype(float)
    found.figures |= {
        "permutation_loss": loss.mean,
        "permutation_std": loss.deviation,
        "permutation_low": loss.low,
        "permutation_high": loss.high,
    }


def _ask_elimination(trial: Trial, found: Findings) -> None:
    """Which inputs are among the survivors, at most `most_votes`, that did best on the held-out bars."""
    from components.selection.kernels import rank_correlations

    held, target, values = trial.held, trial.learned.target, trial.learned.values
    starts = held.bar_starts()

    def measure(left: np.ndarray) -> tuple[np.ndarray, float]:
        learnt = prepare(
            trial.purpose.family,
            np.ascontiguousarray(values[:, left]),
            rounds=trial.effort.rounds,
            threads=trial.settings.threads,
            seed=trial.purpose.seed,
        )
        model = learnt.fit(target)
        outputs = model.outputs(np.ascontiguousarray(held.values[:, left]))
        daily = rank_correlations(outputs[:, None], held.target, starts)
        return model.importance, float(np.nanmean(daily))

    rank, steps = eliminate(measure, values.shape[1], min(3, trial.most_votes))
    _, best = max((score, left) for left, score in steps if left <= trial.most_votes)
    found.votes["elimination"] = (rank <= best).astype(float)
    found.figures["elimination_rank"] = rank


def _ask_genes(trial: Trial, scored: _Scored, found: Findings) -> None:
    """How often each input is in the best set of a genetic search."""
    outside = standardised(trial.held.values, scored.mean, scored.spread)
    frequency = gene_frequency(
        scored.gram,
        scored.response,
        outside.T @ outside / len(outside),
        outside.T @ trial.held.target / len(outside),
        trial.settings.genetic,
        seeds=trial.effort.genetic_seeds,
        seed=trial.purpose.seed,
    )
    # Few seeds give equal frequencies; among them the stronger input goes first.
    strength = np.abs(scored.values.T @ trial.learned.target)
    first = np.lexsort((-strength, -frequency))[: trial.most_votes]
    taken = np.isin(np.arange(len(frequency)), first) & (frequency >= 0.5)
    found.votes["genetic"] = taken.astype(float)
    found.figures["gene_frequency"] = frequency


def _entry_penalty(gram: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Penalty at which each input enters the Lasso's path (Efron et al. 2004), 0 for those that don't within
    PATH_STEPS steps.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lars_path_gram

    with warnings.catch_warnings():
        # Near-collinear inputs stop the path early; those that have not entered by then count as not entered.
        warnings.simplefilter("ignore", ConvergenceWarning)
        penalties, _, path = lars_path_gram(
            response,
            gram,
            n_samples=1,
            method="lasso",
            max_iter=min(PATH_STEPS, len(gram)),
            copy_Gram=True,
            copy_X=True,
        )
    entered = path != 0
    first = entered.argmax(axis=1)
    return np.where(entered.any(axis=1), penalties[np.maximum(first - 1, 0)], 0.0)


def _boruta(scored: np.ndarray, trial: Trial) -> np.ndarray:
    """1 for inputs that Boruta (Kursa and Rudnicki 2010) confirms.

    It sees bars a horizon apart, so that labels don't overlap.
    """
    import lightgbm
    from boruta import BorutaPy

    learned, effort = trial.learned, trial.effort
    apart = np.flatnonzero((learned.bars - learned.bars[0]) % trial.purpose.horizon == 0)
    place = apart[:: max(-(-len(apart) // effort.boruta_rows), 1)]
    estimator = lightgbm.LGBMRegressor(
        n_estimators=40,
        num_leaves=15,
        min_child_samples=max(20, len(place) // 100),
        colsample_bytree=0.5,
        n_jobs=trial.settings.threads,
        verbosity=-1,
        deterministic=True,
        force_row_wise=True,
        importance_type="gain",
    )
    finder = BorutaPy(
        estimator, n_estimators=40, max_iter=effort.boruta_rounds, random_state=trial.purpose.seed, verbose=0
    )
    finder.fit(scored[place].astype(np.float32), learned.target[place])
    return finder.support_.astype(float)
