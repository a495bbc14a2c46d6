"""How often the statistics of many trials call luck skill (level), and how often they find a planted good one
(power), over seeded markets.

A market holds the net returns of `models` strategies over `bars` bars: part common to all, part their own,
autoregressive, or averaged over a horizon as labels that overlap make them, with normal or fat tails. In the
second table one of them earns SKILL long-run standard errors of its mean on top.

    python -m tests.benchmarks.bench_statistics --markets 400 --draws 500
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

from components.metrics import (
    chance_above,
    deflated_sharpe,
    probabilistic_sharpe,
    probability_of_overfitting,
    reality_check,
    sharpe_moments,
    sharpe_ratio,
    step_m,
    superior_predictive_ability,
)
from tests.benchmarks.bench_significance import overlapping

LEVEL = 0.05
COMMON_SHARE = 0.3
# Standard errors of its mean that the good one earns: with the error known, one model tried alone would be
# found in 0.99 of the cases, one of 100 in 0.77.
SKILL = 4.0
# Bars, horizon, autoregression, fat tails.
KINDS = (
    (250, 1, 0.0, False),
    (250, 5, 0.0, False),
    (875, 1, 0.0, True),
    (875, 21, 0.0, False),
    (875, 1, 0.9, False),
    (250, 1, 0.5, False),
    (875, 1, 0.0, False),
    (2500, 1, 0.9, False),
)
MODELS = (1, 20, 100)


def market(
    bars: int, models: int, *, horizon: int, autoregression: float, fat: bool, skill: float, seed: int
) -> np.ndarray:
    """Returns of shape (bars, models), each with a long-run deviation of about 1; the first has the skill."""
    draws = overlapping(models + 1, bars, horizon, autoregression=autoregression, fat=fat, seed=seed).T
    returns = np.sqrt(1 - COMMON_SHARE) * draws[:, 1:] + np.sqrt(COMMON_SHARE) * draws[:, :1]
    returns[:, 0] += skill / np.sqrt(bars)
    return returns


def skill_by_test(test: Callable, returns: np.ndarray, horizon: int, draws: int, seed: int) -> float:
    found = test(returns, horizon=horizon, draws=draws, seed=seed)
    return float("nan") if found.problem else float(found.p_value < LEVEL)


def skill_by_steps(returns: np.ndarray, horizon: int, draws: int, seed: int) -> float:
    found = step_m(returns, level=LEVEL, horizon=horizon, draws=draws, seed=seed)
    return float("nan") if found.problem else float(bool(found.superior))


def skill_by_sharpe(kind: str, returns: np.ndarray, horizon: int, draws: int, seed: int) -> float:
    """Deflated that of the best of all, else that of the first alone, which was chosen without a look."""
    if kind == "published":
        return float(chance_above(sharpe_moments(returns[:, 0]), 0.0) > 1 - LEVEL)
    if kind == "deflated":
        sharpes = sharpe_ratio(returns.T, bars_per_year=1)
        judged = deflated_sharpe(returns[:, sharpes.argmax()], sharpes, horizon=horizon)
    else:
        judged = probabilistic_sharpe(returns[:, 0], horizon=horizon)
    return float("nan") if judged.problem else float(judged.probability > 1 - LEVEL)


def skill_by_overfitting(returns: np.ndarray, horizon: int, draws: int, seed: int) -> float:
    """Below 5 %."""
    found = probability_of_overfitting(returns, horizon=horizon)
    return float("nan") if found.problem else float(found.probability < LEVEL)


METHODS: dict[str, Callable[[np.ndarray, int, int, int], float]] = {
    "SPA": partial(skill_by_test, superior_predictive_ability),
    "RealityCheck": partial(skill_by_test, reality_check),
    "StepM": skill_by_steps,
    "PSR published": partial(skill_by_sharpe, "published"),
    "PSR": partial(skill_by_sharpe, "ours"),
    "deflated": partial(skill_by_sharpe, "deflated"),
    "PBO": skill_by_overfitting,
}


def share_called_skill(
    method: str,
    *,
    bars: int,
    models: int,
    horizon: int = 1,
    autoregression: float = 0.0,
    fat: bool = False,
    skill: float = 0.0,
    markets: int = 400,
    draws: int = 500,
    seed: int = 1,
) -> float:
    """Share of the markets in which the method says that there is skill, of those where it gives a number;
    NaN where it never does.
    """
    found = [
        METHODS[method](
            market(
                bars,
                models,
                horizon=horizon,
                autoregression=autoregression,
                fat=fat,
                skill=skill,
                seed=seed * 100_000 + number,
            ),
            horizon,
            draws,
            number,
        )
        for number in range(markets)
    ]
    said = np.array(found)[np.isfinite(found)]
    return float(said.mean()) if len(said) else float("nan")


def main() -> None:
    """One table of levels, one of power."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markets", type=int, default=400)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--models", type=int, nargs="*", default=MODELS)
    parser.add_argument("--kinds", type=int, default=len(KINDS), help="how many of the kinds, the first ones")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--only", choices=["level", "power"])
    arguments = parser.parse_args()
    for title, skill in (("level: share of luck called skill at 5 %", 0.0), ("power: share found", SKILL)):
        if arguments.only and not title.startswith(arguments.only):
            continue
        print(f"\n{title}; {arguments.markets} markets, {arguments.draws} draws")
        print(
            f"{'bars':>5} {'h':>3} {'AR':>4} {'tails':>6} {'models':>6} | "
            + " ".join(f"{m:>13}" for m in METHODS)
        )
        for bars, horizon, autoregression, fat in KINDS[: arguments.kinds]:
            for models in arguments.models:
                row = [
                    share_called_skill(
                        method,
                        bars=bars,
                        models=models,
                        horizon=horizon,
                        autoregression=autoregression,
                        fat=fat,
                        skill=skill,
                        markets=arguments.markets,
                        draws=arguments.draws,
                    )
                    for method in arguments.methods
                ]
                print(
                    f"{bars:5d} {horizon:3d} {autoregression:4.1f} {'fat' if fat else 'normal':>6}"
                    f" {models:6d} | " + " ".join(f"{share:13.3f}" for share in row),
                    flush=True,
                )


if __name__ == "__main__":
    main()
