"""The evidence of one pair of neighbouring eras: what each method says of each input when it learns from the
first and is judged on the second.

Eras lie on one grid for all folds, so a pair is looked at once and then counts in every fold whose training
bars hold both eras. A vote is always against chance of the same kind: the labels' direction is redrawn by
block of bars (a wild block bootstrap, Liu 1988; permutation importance against such nulls: Altmann et al.
2010), everything else stays, persistence and common moves of the symbols included. An input that beats its
own value under all `flips` redrawn labels gets the vote: under pure chance 1 in flips + 1 do. Permutation,
elimination and the genetic search are held to the same share.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.selection.config import Effort, Settings
from components.selection.models import Family, Learnt, moments, prepare, standardised
from components.selection.permutation import VOTE_ERRORS, permutation_loss
from components.selection.rows import Rows
from components.selection.wrapper import eliminate, gene_frequency

METHODS = (
    "rolling_ic",
    "mutual_information",
    "importance",
    "shap",
    "linear_path",
    "permutation",
    "boruta",
    "elimination",
    "genetic",
)
BINS, TARGET_EDGES = 8, (-0.84, -0.25, 0.25, 0.84)
PATH_STEPS = 40
FEWEST_BLOCKS = 4
COMMON_SAMPLE_ROWS = 4_000


@dataclass(frozen=True)
class Pair:
    """Two neighbouring eras: learned from are the bars [first, middle), judged on [middle + gap, end)."""

    first: int
    middle: int
    end: int


@dataclass(frozen=True)
class Evidence:
    """What a pair of eras says; arrays over all F inputs. NaN where an input was not looked at.

    `votes` and `figures` are by method and by name; `stands_for` is the position of the input that stood for
    the input's cluster; `correlation` (F, F). `chance`: share of useless inputs that get a vote.
    """

    pair: Pair
    usable: np.ndarray
    stands_for: np.ndarray
    correlation: np.ndarray
    votes: dict[str, np.ndarray]
    figures: dict[str, np.ndarray]
    chance: float


@dataclass(frozen=True)
class _Sample:
    """Labelled rows of some bars: values (n, F), target, bars and symbols (n,)."""

    values: np.ndarray
    target: np.ndarray
    bars: np.ndarray
    symbols: np.ndarray


@dataclass(frozen=True)
class _Context:
    rows: Rows
    settings: Settings
    effort: Effort
    family: Family
    horizon: int
    seed: int


def evidence_of(
    rows: Rows,
    daily_ic: np.ndarray,
    pair: Pair,
    *,
    gap_bars: int,
    settings: Settings,
    family: Family,
    horizon: int,
    seed: int,
    advance: Callable[[str], None],
) -> Evidence:
    """All methods of the mode on one pair of eras.

    Parameters
    ----------
    daily_ic : RankIC of each bar and input, shape (T, F)
    gap_bars : bars left out between the two eras, so that no label of the first reaches into the second
    """
    about = _Context(rows, settings, settings.effort, family, horizon, seed)
    rng = np.random.default_rng([seed, pair.first])
    learned = _sample(rows, pair.first, pair.middle, settings.most_rows, 1, rng)
    held = _sample(rows, pair.middle + gap_bars, pair.end, settings.most_rows // 2, horizon, rng)
    usable, correlation, stands_for = _filter(learned, settings)
    columns = np.unique(stands_for[usable])
    block = block_of(settings, horizon, pair.middle - pair.first)
    signs = _signs(-(-(pair.middle - pair.first) // block), about.effort.flips, rng)
    block_of_row = (learned.bars - pair.first) // block
    flipped = [learned.target * sign[block_of_row] for sign in signs]
    votes, figures = _empty(rows), {}
    ic, nulls = _flipped_ic(daily_ic[pair.first : pair.middle], block, signs)
    figures["era_ic"] = ic
    votes["rolling_ic"] = _beats(np.abs(ic), np.abs(nulls))
    information, nulls = _mutual_information(learned, block_of_row, signs, usable)
    figures["mutual_information"] = information
    votes["mutual_information"] = _beats(information, nulls)
    if len(columns):
        advance("model")
        _fitted(about, learned, held, columns, flipped, votes, figures, rng, advance)
    for found in (votes, figures):
        for name, values in found.items():
            own = name in ("rolling_ic", "mutual_information", "era_ic")
            values[:] = np.where(usable, values if own else values[stands_for], np.nan)
    return Evidence(
        pair,
        usable,
        stands_for,
        correlation.astype(np.float32),
        {k: v for k, v in votes.items() if np.isfinite(v).any()},
        figures,
        1 / (len(signs) + 1),
    )


def block_of(settings: Settings, horizon: int, era_bars: int) -> int:
    """Bars of a block: those of the settings, shorter where an era would hold fewer than six, never under
    twice the horizon.
    """
    return max(2 * horizon, min(settings.block_bars, era_bars // 6))


def clusters(correlation: np.ndarray, largest: float) -> np.ndarray:
    """Cluster number of each input: complete linkage, so that all members of a cluster correlate by more than
    `largest` in absolute value with each other.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(correlation) < 2:
        return np.zeros(len(correlation), dtype=np.int64)
    distance = np.clip(1 - np.abs(correlation), 0, 1)
    condensed = ((distance + distance.T) / 2)[np.triu_indices(len(distance), 1)]
    return fcluster(linkage(condensed, "complete"), 1 - largest, "distance")


def _empty(rows: Rows) -> dict[str, np.ndarray]:
    return {name: np.full(len(rows.names), np.nan) for name in METHODS}


def _sample(
    rows: Rows, first: int, end: int, most_rows: int, stride: int, rng: np.random.Generator
) -> _Sample:
    """Labelled rows of every `stride`-th bar, and of fewer where they would be more than `most_rows`; the
    first bar taken is drawn.
    """
    part = rows.slice(first, end)
    stride = max(stride, -(-(part.stop - part.start) // most_rows))
    kept = ((rows.bars[part] - first) % stride == int(rng.integers(stride))) & np.isfinite(rows.target[part])
    place = part.start + np.flatnonzero(kept)
    return _Sample(rows.values[place], rows.target[place], rows.bars[place], rows.symbols[place])


def _filter(sample: _Sample, settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Usable inputs by coverage and variance, their correlations, and for each input the position of the one
    that stands for its cluster.
    """
    values, chosen = sample.values, settings.filter
    known = np.isfinite(values)
    _, spread = moments(values)
    usable = (
        (known.mean(axis=0) >= chosen.least_coverage) & (spread != 1.0)
        if len(values)
        else np.zeros(values.shape[1], dtype=bool)
    )
    step = max(len(values) // COMMON_SAMPLE_ROWS, 1)
    for column in np.flatnonzero(usable):
        some = values[::step, column]
        some = some[np.isfinite(some)]
        usable[column] = len(some) > 0 and np.unique(some, return_counts=True)[
            1
        ].max() <= chosen.most_common_share * len(some)
    correlation = np.full((values.shape[1],) * 2, np.nan)
    stands_for = np.arange(values.shape[1])
    places = np.flatnonzero(usable)
    if len(places):
        scored = standardised(values[:, places], *moments(values[:, places])).astype(np.float32)
        scored /= np.maximum(np.sqrt((scored**2).sum(axis=0)), 1e-12)
        among = np.clip(scored.T @ scored, -1, 1).astype(float)
        correlation[np.ix_(places, places)] = among
        coverage = known.mean(axis=0)[places]
        number = clusters(among, chosen.largest_correlation)
        for cluster in np.unique(number):
            members = np.flatnonzero(number == cluster)
            central = np.abs(among[np.ix_(members, members)]).mean(axis=1).round(6)
            stands_for[places[members]] = places[members[np.lexsort((-central, -coverage[members]))[0]]]
    return usable, correlation, stands_for


def _signs(blocks: int, flips: int, rng: np.random.Generator) -> np.ndarray:
    """Distinct patterns of -1 and 1 a block, none of them all equal, none another's mirror; shape (flips or
    as many as there are, blocks).
    """
    patterns: dict[bytes, np.ndarray] = {}
    for _ in range(50 * flips):
        drawn = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), blocks)
        drawn *= drawn[0]
        if (drawn < 0).any():
            patterns.setdefault(drawn.tobytes(), drawn)
        if len(patterns) == flips:
            break
    return np.stack(list(patterns.values()))


def _beats(value: np.ndarray, nulls: np.ndarray) -> np.ndarray:
    """1 where the value is above all its nulls (R, F), 0 where not, NaN where there is none."""
    best = np.where(np.isfinite(nulls), nulls, -np.inf).max(axis=0)
    return np.where(np.isfinite(value), (value > best) & (value > 0), np.nan)


def _flipped_ic(daily: np.ndarray, block: int, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean RankIC of the era, and under each redrawn direction (R, F)."""
    known = np.isfinite(daily)
    filled, count = np.where(known, daily, 0.0), known.sum(axis=0).astype(float)
    count[count == 0] = np.nan
    by_block = np.stack([filled[first : first + block].sum(axis=0) for first in range(0, len(daily), block)])
    return by_block.sum(axis=0) / count, signs @ by_block / count


def _mutual_information(
    sample: _Sample, block_of_row: np.ndarray, signs: np.ndarray, usable: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mutual information (nats) of each input in eight bins, missing apart, with the target in five, and
    under each redrawn direction.

    A turned direction only mirrors the target's bins, so counts by block are taken once.
    """
    size, blocks, wide = sample.values.shape[1], signs.shape[1], len(TARGET_EDGES) + 1
    target = np.searchsorted(TARGET_EDGES, sample.target)
    found, nulls = np.full(size, np.nan), np.full((len(signs), size), np.nan)
    for column in np.flatnonzero(usable):
        values = sample.values[:, column]
        known = np.isfinite(values)
        edges = np.unique(np.quantile(values[known], np.arange(1, BINS) / BINS))
        code = np.where(known, np.searchsorted(edges, values), BINS)
        counts = (
            np.bincount(
                (block_of_row * (BINS + 1) + code) * wide + target, minlength=blocks * (BINS + 1) * wide
            )
            .reshape(blocks, BINS + 1, wide)
            .astype(float)
        )
        found[column] = _information(counts.sum(axis=0))
        both = np.stack([counts, counts[:, :, ::-1]])
        nulls[:, column] = [
            _information(both[(sign < 0).astype(int), np.arange(blocks)].sum(axis=0)) for sign in signs
        ]
    return found, nulls


def _information(counts: np.ndarray) -> float:
    joint = counts / counts.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    full = joint > 0
    return float((joint[full] * np.log(joint[full] / apart[full])).sum())


def _fitted(
    about: _Context,
    learned: _Sample,
    held: _Sample,
    columns: np.ndarray,
    flipped: list[np.ndarray],
    votes: dict[str, np.ndarray],
    figures: dict[str, np.ndarray],
    rng: np.random.Generator,
    advance: Callable[[str], None],
) -> None:
    """Fill in the votes and figures of all methods that fit a model, for the inputs at `columns`."""
    effort, settings = about.effort, about.settings
    values, judged = (
        np.ascontiguousarray(learned.values[:, columns]),
        np.ascontiguousarray(held.values[:, columns]),
    )
    size = len(about.rows.names)

    def put(name: str, found: np.ndarray, where: dict[str, np.ndarray]) -> None:
        where.setdefault(name, np.full(size, np.nan))[columns] = found

    learnt = prepare(about.family, values, rounds=effort.rounds, threads=settings.threads, seed=about.seed)
    model = learnt.fit(learned.target)
    some = np.sort(rng.choice(len(judged), min(effort.shap_rows, len(judged)), replace=False))
    gain, weight = model.importance, np.abs(model.contributions(judged[some])).mean(axis=0)
    others = [learnt.fit(target) for target in flipped]
    put("importance", _beats(gain, np.stack([other.importance for other in others])), votes)
    put(
        "shap",
        _beats(
            weight, np.stack([np.abs(other.contributions(judged[some])).mean(axis=0) for other in others])
        ),
        votes,
    )
    put("importance_share", gain / (gain.sum() or 1.0), figures)
    put("shap_share", weight / (weight.sum() or 1.0), figures)

    advance("linear path")
    mean, spread = moments(values)
    scored = standardised(values, mean, spread)
    gram = scored.T @ scored / len(scored)
    entry = _entry_penalty(gram, scored.T @ learned.target / len(scored))
    put(
        "linear_path",
        _beats(
            entry, np.stack([_entry_penalty(gram, scored.T @ target / len(scored)) for target in flipped])
        ),
        votes,
    )
    put("path_order", np.where(entry > 0, 1 + (entry[None, :] > entry[:, None]).sum(axis=1), np.nan), figures)

    advance("permutation")
    asked = np.argsort(-gain, kind="stable")[: effort.permutation_inputs]
    loss = permutation_loss(
        model,
        judged,
        held.target,
        held.bars,
        held.symbols,
        inputs=asked[gain[asked] > 0],
        repeats=effort.permutation_repeats,
        block_bars=max(settings.block_bars // about.horizon, 1),
        lags=1,
        rng=rng,
    )
    put("permutation", ((loss.mean - VOTE_ERRORS * loss.error > 0) & (loss.error > 0)).astype(float), votes)
    for name, found in (
        ("permutation_loss", loss.mean),
        ("permutation_std", loss.deviation),
        ("permutation_low", loss.low),
        ("permutation_high", loss.high),
    ):
        put(name, found, figures)

    most = max(round(len(columns) / (len(flipped) + 1)), 1)
    if effort.boruta_rows:
        advance("boruta")
        put("boruta", _boruta(scored, learned, about), votes)
    if effort.recursive_elimination:
        advance("elimination")
        rank, best = _eliminated(about, values, learned.target, judged, held, most)
        put("elimination", (rank <= best).astype(float), votes)
        put("elimination_rank", rank, figures)
    if effort.genetic_seeds:
        advance("genetic search")
        outside = standardised(judged, mean, spread)
        moment = outside.T @ held.target / len(outside)
        frequency = gene_frequency(
            gram,
            scored.T @ learned.target / len(scored),
            outside.T @ outside / len(outside),
            moment,
            settings.genetic,
            seeds=effort.genetic_seeds,
            seed=about.seed,
        )
        # Few seeds give equal frequencies; among them the stronger input goes first.
        first = np.lexsort((-np.abs(scored.T @ learned.target), -frequency))[:most]
        put("genetic", (np.isin(np.arange(len(columns)), first) & (frequency >= 0.5)).astype(float), votes)
        put("gene_frequency", frequency, figures)


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


def _boruta(scored: np.ndarray, learned: _Sample, about: _Context) -> np.ndarray:
    """1 for inputs that Boruta (Kursa and Rudnicki 2010) confirms.

    It sees bars a horizon apart, so that labels don't overlap.
    """
    import lightgbm
    from boruta import BorutaPy

    apart = np.flatnonzero((learned.bars - learned.bars[0]) % about.horizon == 0)
    place = apart[:: max(-(-len(apart) // about.effort.boruta_rows), 1)]
    estimator = lightgbm.LGBMRegressor(
        n_estimators=40, num_leaves=15, min_child_samples=max(20, len(place) // 100), colsample_bytree=0.5, n_jobs=about.settings.threads, verbosity=-1, deterministic=True, force_row_wise=True,
        importance_type="gain",
    )  # fmt: skip
    finder = BorutaPy(
        estimator, n_estimators=40, max_iter=about.effort.boruta_rounds, random_state=about.seed, verbose=0
    )
    finder.fit(scored[place].astype(np.float32), learned.target[place])
    return finder.support_.astype(float)


def _eliminated(
    about: _Context, values: np.ndarray, target: np.ndarray, judged: np.ndarray, held: _Sample, most: int
) -> tuple[np.ndarray, int]:
    """Rank of each input, and the number of survivors, at most `most`, that did best on the held-out bars."""
    from components.selection.kernels import rank_correlations

    starts = np.searchsorted(held.bars, np.append(np.unique(held.bars), held.bars[-1] + 1)).astype(np.int64)

    def measure(left: np.ndarray) -> tuple[np.ndarray, float]:
        learnt: Learnt = prepare(
            about.family,
            np.ascontiguousarray(values[:, left]),
            rounds=about.effort.rounds,
            threads=about.settings.threads,
            seed=about.seed,
        )
        model: Any = learnt.fit(target)
        return model.importance, float(
            np.nanmean(
                rank_correlations(
                    model.outputs(np.ascontiguousarray(judged[:, left]))[:, None], held.target, starts
                )
            )
        )

    rank, steps = eliminate(measure, values.shape[1], min(3, most))
    small = [(score, left) for left, score in steps if left <= most]
    return rank, max(small)[1]
