"""The two wrappers: recursive feature elimination, and a genetic search whose fitness needs no rows, only
moments of the fit and of the held-out bars.
"""

from collections.abc import Callable

import numpy as np

from components.selection.config import Genetic
from components.selection.models import ridge

DROPPED_SHARE = 0.25
# Chance of a gene to flip.
MUTATION_RATE = 0.03
# Held-out correlation that an input must add.
GENE_PRICE = 0.0002


def eliminate(
    importance_and_score: Callable[[np.ndarray], tuple[np.ndarray, float]], inputs: int, fewest: int
) -> tuple[np.ndarray, list[tuple[int, float]]]:
    """Drop the lightest quarter of the inputs, refit, and so on (Guyon et al. 2002).

    Parameters
    ----------
    importance_and_score : fits on the inputs at the given positions and gives their importance (K,) and the
        score on held-out bars

    Returns
    -------
    Rank of each input, shape (inputs,), 1 for those that last longest; and (inputs left, held-out score) of
    each step.
    """
    left, rank, steps = np.arange(inputs), np.ones(inputs), []
    while True:
        importance, score = importance_and_score(left)
        steps.append((len(left), score))
        dropped = min(int(np.ceil(len(left) * DROPPED_SHARE)), len(left) - fewest)
        if dropped <= 0:
            return rank, steps
        order = np.argsort(importance, kind="stable")
        rank[left[order[:dropped]]] = len(left) - dropped + 1
        left = np.sort(left[order[dropped:]])


def gene_frequency(
    fit_gram: np.ndarray,
    fit_response: np.ndarray,
    held_gram: np.ndarray,
    held_response: np.ndarray,
    settings: Genetic,
    *,
    seeds: int,
    seed: int,
) -> np.ndarray:
    """Share of seeds in whose best set an input is; shape (inputs,).

    Fitness of a set: correlation of a ridge regression, fitted with the moments of the fit bars, with the
    target on the held-out bars, less `GENE_PRICE` an input. Tournaments of three, uniform crossover, the best
    one survives.
    """
    size = len(fit_gram)

    def fitness(genes: np.ndarray) -> float:
        chosen = np.flatnonzero(genes)
        if not len(chosen):
            return -1.0
        weights = ridge(fit_gram[np.ix_(chosen, chosen)], fit_response[chosen])
        variance = weights @ held_gram[np.ix_(chosen, chosen)] @ weights
        return (
            float(weights @ held_response[chosen] / np.sqrt(variance) - GENE_PRICE * len(chosen))
            if variance > 1e-18
            else -1.0
        )

    total = np.zeros(size)
    for number in range(seeds):
        rng = np.random.default_rng([seed, number])
        people = rng.random((settings.population, size)) < min(0.5, 12 / size)
        scores = np.array([fitness(genes) for genes in people])
        for _ in range(settings.generations):
            winners = rng.integers(0, len(people), (2 * (len(people) - 1), 3))
            parents = people[winners[np.arange(len(winners)), scores[winners].argmax(axis=1)]]
            children = np.where(rng.random((len(people) - 1, size)) < 0.5, parents[::2], parents[1::2])
            children ^= rng.random(children.shape) < MUTATION_RATE
            best = int(scores.argmax())
            people, scores = (
                np.concatenate([people[best : best + 1], children]),
                np.concatenate([scores[best : best + 1], [fitness(genes) for genes in children]]),
            )
        total += people[int(scores.argmax())]
    return total / max(seeds, 1)
