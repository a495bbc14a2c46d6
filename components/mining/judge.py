"""Which formulas become factors: those that are new in the mining part and add RankIC over the stack in the
hold-out.

Weights and signs come from the mining part. A formula's gain in a bar of the hold-out is RankIC(stack +
weight * formula) - RankIC(stack), the stack with what was accepted before it. Its limit is mean - t * error:
the error is that of the block bootstrap (Politis and Romano 1992) over blocks of twice the horizon, t the
quantile of Student's t with as many degrees of freedom as there are blocks less one, at a level that all
tries share (Bonferroni). The plain percentile limit is not used: over a hundred bars with overlapping labels
it lies above 0 by chance three to five times as often as it should.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from components.metrics import block_bootstrap_interval
from components.mining.config import Settings
from components.mining.ranks import by_bar, unit_ranks, unit_values
from components.mining.sample import Part, Sample
from components.mining.search import PARSIMONY, Found, input_ranks, mean_correlation

ONE_SIGMA = 0.6826894921370859
# Functions, columns and numbers in a formula; longer ones are not candidates.
MAX_LENGTH = 10
# Formulas tried on the hold-out; each makes the bar higher for all.
MAX_CANDIDATES = 6
# Mean correlation within a bar with an input from which on a formula counts as that input again.
MAX_INPUT_CORRELATION = 0.7
# The same between two candidates; the weaker one goes.
MAX_CANDIDATE_CORRELATION = 0.6
# RankIC that a candidate must add in the mining part to the stack and the stronger candidates; spares
# tries.
MIN_MINING_GAIN = 0.005


@dataclass(frozen=True)
class Judged:
    """One formula and why it was accepted or refused.

    `ic_mining`, `ic_holdout`: mean RankIC with the label, sign applied. `gain_*`: RankIC over the stack;
    `lower` its limit in the hold-out, one-sided and corrected for all tries, `upper` the same distance above.
    `weight`: of the formula beside the stack's 1. None where it was refused before that was measured; `tried`
    says whether the hold-out was looked at.
    """

    formula: str
    sign: float
    length: int
    fold: int
    ic_searched: float
    ic_left_out: float
    resembles: str = ""
    input_correlation: float | None = None
    ic_mining: float | None = None
    gain_mining: float | None = None
    weight: float | None = None
    tried: bool = False
    ic_holdout: float | None = None
    gain_holdout: float | None = None
    lower: float | None = None
    upper: float | None = None
    accepted: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Curves:
    """Of one tried formula, in the hold-out:

    RankIC gain a bar, shape (bars,), and mean return by decile of the formula, shape (10,), in the label's
    unit.
    """

    gains: np.ndarray
    deciles: np.ndarray


@dataclass(frozen=True)
class _Candidate:
    judged: Judged
    found: Found
    ranks: np.ndarray  # (rows of the mining part,), sign applied


def judge_formulas(
    found: Sequence[Found], sample: Sample, settings: Settings, horizon: int, seed: int
) -> tuple[list[Judged], dict[str, Curves]]:
    """Every formula with its verdict, the tried ones first, best mining result first; and the curves of the
    tried ones by formula.
    """
    candidates, refused = _candidates(found, sample, settings)
    tries = len(candidates) + settings.earlier_tries
    mined, held = sample.mining, sample.holdout
    stack_mined, stack_held = mined.stack, held.stack
    tried, curves = [], {}
    for candidate in candidates:
        ranks = candidate.found.sign * unit_ranks(candidate.found.values(held.inputs), held.starts)
        weight = _weight(mined, stack_mined, candidate.ranks, settings.max_weight)
        gains = _gains(held, stack_held, ranks, weight)
        lower, upper = corrected_limits(gains, tries=tries, settings=settings, horizon=horizon, seed=seed)
        accepted = bool(lower > 0)
        tried.append(
            replace(
                candidate.judged,
                tried=True,
                weight=weight,
                gain_mining=float(_gains(mined, stack_mined, candidate.ranks, weight).mean()),
                ic_holdout=mean_correlation(ranks, held.label, held.starts),
                gain_holdout=float(gains.mean()),
                lower=lower,
                upper=upper,
                accepted=accepted,
                reason=(
                    f"adds {gains.mean():.4f} RankIC out of sample, at least {lower:.4f}"
                    if accepted
                    else f"the lower limit of its gain, {lower:.4f}, is not above 0"
                ),
            )
        )
        curves[candidate.found.formula] = Curves(gains, _deciles(held, ranks))
        if accepted:
            stack_mined = unit_values(stack_mined + weight * candidate.ranks, mined.starts)
            stack_held = unit_values(stack_held + weight * ranks, held.starts)
    return [*tried, *refused], curves


def corrected_limits(
    gains: np.ndarray, *, tries: int, settings: Settings, horizon: int, seed: int
) -> tuple[float, float]:
    """Limits of the mean of `gains` (one a bar, in order), each one-sided at `significance / tries`."""
    from scipy.stats import t

    block = 2 * horizon
    blocks = len(gains) / block
    if blocks < 2:
        return float("-inf"), float("inf")
    low, high = block_bootstrap_interval(
        gains,
        lambda draws: draws.mean(axis=1),
        block_bars=block,
        draws=settings.bootstrap_draws,
        level=ONE_SIGMA,
        seed=seed,
    )
    error = (high - low) / 2 * np.sqrt(blocks / (blocks - 1))
    reach = float(t.ppf(1 - settings.significance / max(tries, 1), blocks - 1)) * error
    return float(gains.mean() - reach), float(gains.mean() + reach)


def _candidates(
    found: Sequence[Found], sample: Sample, settings: Settings
) -> tuple[list[_Candidate], list[Judged]]:
    """The formulas to try, best mining result first, and those refused without a look at the hold-out."""
    part, stack, inputs = sample.mining, sample.mining.stack, input_ranks(sample.mining)
    kept, refused = [], []
    for one in sorted(
        found,
        key=lambda one: (
            PARSIMONY * one.length - (one.ic_searched + one.ic_left_out) / 2,
            one.formula,
        ),
    ):
        judged = Judged(one.formula, one.sign, one.length, one.fold, one.ic_searched, one.ic_left_out)
        reason = _refused_unseen(one, len(kept))
        if reason:
            refused.append(replace(judged, reason=reason))
            continue
        ranks = one.sign * unit_ranks(one.values(part.inputs), part.starts)
        alike = ranks.astype(np.float32) @ inputs / part.bars
        most = int(np.argmax(np.abs(alike)))
        judged = replace(
            judged,
            resembles=sample.columns[most],
            input_correlation=float(alike[most]),
            ic_mining=mean_correlation(ranks, part.label, part.starts),
        )
        weight = _weight(part, stack, ranks, settings.max_weight)
        reason = _refused_in_mining(
            judged, ranks, kept, float(_gains(part, stack, ranks, weight).mean()), part
        )
        if reason:
            refused.append(replace(judged, reason=reason))
            continue
        stack = unit_values(stack + weight * ranks, part.starts)
        kept.append(_Candidate(judged, one, ranks))
    return kept, refused


def _refused_unseen(one: Found, kept: int) -> str:
    """Why a formula is refused by what its search said of it; empty where it is not."""
    if one.length > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} functions, columns and numbers"
    if not one.ic_left_out > 0:
        return "does not hold in the mining fold that its search did not see"
    return f"not among the best {MAX_CANDIDATES} of the mining part" if kept >= MAX_CANDIDATES else ""


def _refused_in_mining(
    judged: Judged, ranks: np.ndarray, kept: Sequence[_Candidate], gain: float, part: Part
) -> str:
    """Why a formula is nothing new beside inputs, stack and the stronger candidates; empty where it is."""
    if abs(judged.input_correlation) > MAX_INPUT_CORRELATION:
        return f"is the input {judged.resembles} again (correlation {judged.input_correlation:.2f})"
    for other in kept:
        if abs(mean_correlation(ranks, other.ranks, part.starts)) > MAX_CANDIDATE_CORRELATION:
            return f"resembles the stronger candidate {other.found.formula}"
    if gain < MIN_MINING_GAIN:
        return (
            f"adds {gain:.4f} to stack and stronger candidates in the mining part, less than"
            f" {MIN_MINING_GAIN:g}"
        )
    return ""


def _weight(part: Part, stack: np.ndarray, ranks: np.ndarray, largest: float) -> float:
    """Of the formula beside the stack's 1, by least squares of the label on both; `largest` where the stack
    itself doesn't help.
    """
    together = mean_correlation(stack, ranks, part.starts)
    on_stack, on_formula = (
        mean_correlation(stack, part.label, part.starts),
        mean_correlation(ranks, part.label, part.starts),
    )
    of_stack, of_formula = on_stack - together * on_formula, on_formula - together * on_stack
    if of_formula <= 0:
        return 0.0
    return largest if of_stack <= of_formula / largest else float(of_formula / of_stack)


def _gains(part: Part, stack: np.ndarray, ranks: np.ndarray, weight: float) -> np.ndarray:
    """RankIC(stack + weight * formula) - RankIC(stack) of each bar; shape (bars,)."""
    return by_bar(unit_ranks(stack + weight * ranks, part.starts) * part.label, part.starts) - by_bar(
        unit_ranks(stack, part.starts) * part.label, part.starts
    )


def _deciles(part: Part, ranks: np.ndarray) -> np.ndarray:
    """Mean over bars of the mean return, less that of the bar, in each tenth of the formula."""
    sizes = np.diff(part.starts)
    excess = part.returns - np.repeat(by_bar(part.returns, part.starts) / sizes, sizes)
    places = np.concatenate(
        [
            np.argsort(np.argsort(ranks[a:b], kind="stable"), kind="stable") * 10 // (b - a)
            for a, b in zip(part.starts[:-1], part.starts[1:], strict=True)
        ]
    )
    return np.bincount(places, weights=excess, minlength=10) / np.maximum(
        np.bincount(places, minlength=10), 1
    )
