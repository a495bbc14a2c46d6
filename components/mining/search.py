"""Symbolic regression (gplearn; Koza 1992) on the residual: each search leaves one mining fold out, in which
its formulas must hold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.mining.config import Settings
from components.mining.functions import FUNCTIONS
from components.mining.ranks import by_bar, rank_ic, unit_ranks
from components.mining.sample import Part, Sample, residual, stack_slope
from components.progress import advance
from components.timeline import purged_kfold

if TYPE_CHECKING:
    from gplearn.genetic import SymbolicTransformer

DECIMALS = 3  # of the numbers in gplearn's text
KEPT = 100  # formulas of a search's last generation
# Formulas among which a parent is chosen.
TOURNAMENT = 12
# Information coefficient that a further function, column or number must be worth.
PARSIMONY = 0.002
# Numbers are drawn from minus this to this; 0: formulas without numbers.
LARGEST_CONSTANT = 1.0
# Inputs that a search sees: those with the strongest single or pairwise relation to the residual in its
# bars.
MAX_INPUTS = 30


@dataclass(frozen=True)
class Found:
    """One formula.

    `values(inputs)` gives its values, shape (rows,), from an array of all the sample's columns; `sign` makes
    it point up.

    Information coefficients are with the residual, in bars that the search saw and in those of the fold that
    it did not see.
    """

    formula: str
    length: int
    fold: int
    sign: float
    ic_searched: float
    ic_left_out: float
    values: Callable[[np.ndarray], np.ndarray]


def search_formulas(
    sample: Sample, settings: Settings, embargo_bars: int, seed: int
) -> tuple[list[Found], int]:
    """The best formulas of every search, each once, and how many formulas were evaluated."""
    mining = sample.mining
    folds = list(
        purged_kfold(
            mining.bars, n_folds=settings.folds, purge_bars=sample.reach_bars, embargo_bars=embargo_bars
        )
    )
    runs = [(number, repeat) for number in range(settings.folds) for repeat in range(settings.seeds_per_fold)]
    found: dict[str, Found] = {}
    for done, (number, repeat) in enumerate(runs, start=1):
        generator = np.random.default_rng([seed, number, repeat])
        train, left_out = folds[number]
        for one in _one_search(
            mining.of_bars(_bounded(mining, train, settings.max_rows, generator)),
            mining.of_bars(left_out),
            sample.columns,
            settings,
            number,
            generator,
        ):
            if one.formula not in found or one.ic_left_out < found[one.formula].ic_left_out:
                found[one.formula] = one
        advance("mining", done, len(runs), f"search {done} of {len(runs)}")
    return list(found.values()), len(runs) * settings.population * settings.generations


def strongest_inputs(part: Part, target: np.ndarray, count: int) -> np.ndarray:
    """Positions of the inputs whose ranks, or products of two of them, go most with `target` over the bars;
    sorted, shape (count,) or fewer.

    All pairs at once: with ranks V (rows, inputs) of variance 1 in each bar, V' diag(target) V holds every
    product's covariance.
    """
    sizes = np.repeat(np.diff(part.starts), np.diff(part.starts))
    ranks = input_ranks(part) * np.sqrt(sizes)[:, None]
    single = np.abs(target @ ranks)
    pairs = np.abs((ranks * target[:, None]).T @ ranks)
    return np.sort(np.argsort(-np.maximum(single, pairs.max(axis=1)), kind="stable")[:count])


def input_ranks(part: Part) -> np.ndarray:
    """The inputs ranked within each bar, length 1; shape (rows, columns), Float32."""
    return np.stack(
        [unit_ranks(column.astype(np.float64), part.starts).astype(np.float32) for column in part.inputs.T],
        axis=1,
    )


def _one_search(
    seen: Part,
    unseen: Part,
    columns: Sequence[str],
    settings: Settings,
    fold: int,
    generator: np.random.Generator,
) -> list[Found]:
    slope = stack_slope(seen)
    target = residual(seen, slope)
    chosen = strongest_inputs(seen, target, MAX_INPUTS)
    programs = _evolve(
        seen.inputs[:, chosen].astype(np.float64),
        target,
        seen.starts,
        [columns[k] for k in chosen],
        settings,
        int(generator.integers(2**31)),
    )
    unseen_target = residual(unseen, slope)
    found = []
    for program in programs:
        text, values = _as_printed(program, chosen)
        inside = rank_ic(values(seen.inputs), target, seen.starts)
        outside = rank_ic(values(unseen.inputs), unseen_target, unseen.starts)
        sign = 1.0 if inside >= 0 else -1.0
        found.append(Found(text, program.length_, fold, sign, sign * inside, sign * outside, values))
    return found


def _as_printed(program, chosen: np.ndarray) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """The program's text, and what that text computes from an array of all the sample's columns: gplearn
    prints rounded numbers.
    """
    text = str(program)
    used = sorted({node for node in program.program if isinstance(node, int)})
    place = {node: k for k, node in enumerate(used)}
    program.program = [
        place[node] if isinstance(node, int) else round(node, DECIMALS) if isinstance(node, float) else node
        for node in program.program
    ]

    def values(inputs: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return program.execute(inputs[:, chosen[used]].astype(np.float64))

    return text, values


def _evolve(
    inputs: np.ndarray,
    target: np.ndarray,
    starts: np.ndarray,
    names: list[str],
    settings: Settings,
    seed: int,
) -> list:
    """gplearn's best programs of the last generation that read an input, each once; its own list of the best
    repeats them.
    """
    import sklearn

    def fitness(y, values, w):
        # gplearn tries a fitness on two numbers before it uses it.
        return abs(rank_ic(values, target, starts)) if len(values) == len(target) else 0.0

    transformer = _transformer(names, settings, fitness, seed)
    # Missing inputs are NaN on purpose; scikit-learn would refuse them.
    with sklearn.config_context(assume_finite=True), np.errstate(all="ignore"):
        transformer.fit(inputs, target)
    distinct = {
        str(program): program
        for program in transformer._programs[-1]
        if any(isinstance(node, int) for node in program.program)
    }
    return sorted(distinct.values(), key=lambda program: (-program.fitness_, str(program)))[:KEPT]


def _transformer(
    names: list[str], settings: Settings, fitness: Callable[..., float], seed: int
) -> "SymbolicTransformer":
    """gplearn's search as the settings have it; `fitness` takes (target, values, weights)."""
    from gplearn.fitness import make_fitness
    from gplearn.functions import _Function
    from gplearn.genetic import SymbolicTransformer

    constants = (-LARGEST_CONSTANT, LARGEST_CONSTANT) if LARGEST_CONSTANT else None
    return SymbolicTransformer(
        population_size=settings.population,
        generations=settings.generations,
        tournament_size=min(TOURNAMENT, settings.population),
        hall_of_fame=2,
        n_components=2,
        stopping_criteria=2.0,
        const_range=constants,
        init_depth=(1, 3),
        # Not `make_function`: it refuses functions that have no value somewhere, and a division by zero has
        # none here.
        function_set=[_Function(FUNCTIONS[name][1], name, FUNCTIONS[name][0]) for name in settings.functions],
        metric=make_fitness(function=fitness, greater_is_better=True, wrap=False),
        parsimony_coefficient=PARSIMONY,
        p_crossover=0.6,
        p_subtree_mutation=0.15,
        p_hoist_mutation=0.05,
        p_point_mutation=0.15,
        feature_names=names,
        low_memory=True,
        n_jobs=1,
        random_state=seed,
    )


def mean_correlation(left: np.ndarray, right: np.ndarray, starts: np.ndarray) -> float:
    """Mean over bars of the correlation of two arrays that are standardised in each bar."""
    return float(by_bar(left * right, starts).mean())


def _bounded(part: Part, bars: np.ndarray, max_rows: int, generator: np.random.Generator) -> np.ndarray:
    """`bars`, or as many of them, drawn at random, as hold `max_rows` rows. Sorted."""
    drawn = generator.permutation(bars)
    inside = np.cumsum(np.diff(part.starts)[drawn]) <= max_rows
    return np.sort(drawn[inside]) if inside.sum() >= 2 else np.sort(drawn[:2])
