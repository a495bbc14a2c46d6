"""How often methods call luck skill, how often they find what is there, and how near a Sharpe ratio of
overlapping returns comes to the truth, over simulated series.

A series is the mean over `horizon` bars of independent or autoregressive draws, normal or with the tails of
Student's t with 4 degrees of freedom, one value a bar: what a daily information coefficient of overlapping
labels or a spread over a horizon looks like. `ours` is `components.metrics.t_value`; Newey-West has as many
lags as two horizons and the normal distribution's limits, or those of Kiefer and Vogelsang (2005, fixed b);
the bootstrap draws blocks of two horizons.

    python -m tests.benchmarks.bench_significance --runs 2000
"""

import argparse
from collections.abc import Callable, Iterable

import numpy as np

from components.metrics import (
    block_bootstrap_interval,
    fewest_values,
    overlap_corrected_sharpe,
    sharpe_interval,
    sharpe_ratio,
    t_value,
)

SIZES, HORIZONS = (20, 40, 60, 120, 250, 500, 1000), (1, 5, 10, 21)
# Autoregression of a bar's draws, and whether their tails are fat.
KINDS = ((0.0, False), (0.0, True), (0.3, False), (0.6, False))
BURN_IN = 100
NORMAL_LIMIT = 1.96
DAYS = 252
DRAWS = 200


def overlapping(
    runs: int, size: int, horizon: int, *, autoregression: float, fat: bool, seed: int
) -> np.ndarray:
    """Series with mean 0 and a long-run standard deviation of 1, shape (runs, size)."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    shape = (runs, size + horizon - 1 + BURN_IN)
    draws = rng.standard_t(4, shape) / np.sqrt(2) if fat else rng.normal(size=shape)
    bars = (1 - autoregression) * lfilter([1.0], [1.0, -autoregression], draws, axis=1)[:, BURN_IN:]
    return np.lib.stride_tricks.sliding_window_view(bars, horizon, axis=1).mean(axis=-1)


def newey_west_t(values: np.ndarray, lags: int) -> np.ndarray:
    """t of each row's mean (runs,), Bartlett's weights."""
    size = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1)
    for lag in range(1, min(lags, size - 1) + 1):
        product = (centred[:, lag:] * centred[:, :-lag]).sum(axis=1) / size
        variance = variance + 2 * (1 - lag / (lags + 1)) * product
    return values.mean(axis=1) / np.sqrt(variance / (size - 1))


def newey_west_lags(size: int, horizon: int) -> int:
    """Twice the horizon, and at least the rule of thumb."""
    return min(max(2 * horizon, int(4 * (size / 100) ** (2 / 9))), size - 2)


def found_by_newey_west(values: np.ndarray, horizon: int) -> np.ndarray:
    """Whether each row's mean (runs,) lies beyond the normal limits."""
    return np.abs(newey_west_t(values, newey_west_lags(values.shape[1], horizon))) > NORMAL_LIMIT


def found_by_fixed_b(values: np.ndarray, horizon: int) -> np.ndarray:
    """The same against the limits for lags that are a share of the series."""
    lags = newey_west_lags(values.shape[1], horizon)
    share = (lags + 1) / values.shape[1]
    limit = 1.96 + 2.9694 * share + 0.416 * share**2 - 0.5324 * share**3
    return np.abs(newey_west_t(values, lags)) > limit


def found_by_bootstrap(values: np.ndarray, horizon: int) -> np.ndarray:
    """Whether 0 lies outside the percentile interval."""
    limits = [
        block_bootstrap_interval(
            row,
            lambda drawn: drawn.mean(axis=-1),
            block_bars=2 * horizon,
            draws=DRAWS,
            level=0.95,
            seed=run,
        )
        for run, row in enumerate(values)
    ]
    return np.array([low > 0 or high < 0 for low, high in limits])


def found_by_us(values: np.ndarray, horizon: int) -> np.ndarray:
    """Whether `t_value` lies beyond the normal limits; never where it is NaN."""
    return np.abs([t_value(row, horizon=horizon) for row in values]) > NORMAL_LIMIT


METHODS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "Newey-West": found_by_newey_west,
    "fixed b": found_by_fixed_b,
    "bootstrap": found_by_bootstrap,
    "ours": found_by_us,
}


def share_found(
    method: str,
    size: int,
    horizon: int,
    *,
    deviates: float = 0.0,
    autoregression: float = 0.0,
    fat: bool = False,
    runs: int = 1000,
    seed: int = 1,
) -> float:
    """Share of the series whose mean is called other than 0 at 5 %, two-sided; the true mean lies `deviates`
    of its own standard errors from 0.
    """
    values = overlapping(runs, size, horizon, autoregression=autoregression, fat=fat, seed=seed)
    return float(METHODS[method](values + deviates / np.sqrt(size), horizon).mean())


def bartlett_sharpe(values: np.ndarray, lags: int) -> np.ndarray:
    """Annual Sharpe ratio of each row (runs,), by autocorrelations with Bartlett's weights."""
    size = values.shape[1]
    return newey_west_t(values, lags) / np.sqrt(size - 1) * np.sqrt(DAYS)


SHARPES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "plain": lambda values, horizon: sharpe_ratio(values, bars_per_year=DAYS),
    "lags h": bartlett_sharpe,
    "lags 2 h": lambda values, horizon: bartlett_sharpe(values, 2 * horizon),
    "lags 4 h": lambda values, horizon: bartlett_sharpe(values, 4 * horizon),
    "ours": lambda values, horizon: np.array(
        [overlap_corrected_sharpe(row, horizon=horizon, bars_per_year=DAYS) for row in values]
    ),
}


def sharpe_errors(
    size: int,
    horizon: int,
    *,
    true: float = 0.8,
    autoregression: float = 0.0,
    overlap: bool = True,
    runs: int = 1000,
    seed: int = 1,
) -> dict[str, tuple[float, float]]:
    """Mean and root mean square of what each estimator lies from the true annual Sharpe ratio.

    Without `overlap` returns are those of single bars, though the horizon is long: a portfolio that holds for
    so long.
    """
    values = overlapping(
        runs, size, horizon if overlap else 1, autoregression=autoregression, fat=True, seed=seed
    )
    values = values + true / np.sqrt(DAYS)
    errors = {name: estimate(values, horizon) - true for name, estimate in SHARPES.items()}
    return {name: (float(one.mean()), float(np.sqrt((one**2).mean()))) for name, one in errors.items()}


def misses(
    size: int, horizon: int, *, true: float, autoregression: float, runs: int, seed: int = 1
) -> dict[str, float]:
    """Share of 90 % intervals of a portfolio's Sharpe ratio that lie wholly above the truth; wanted 0.05."""
    values = overlapping(runs, size, 1, autoregression=autoregression, fat=True, seed=seed)
    values = values + true / np.sqrt(DAYS)
    ours = [sharpe_interval(row, level=0.9, bars_per_year=DAYS)[0] for row in values]
    drawn = [
        block_bootstrap_interval(
            row,
            lambda some: sharpe_ratio(some, bars_per_year=DAYS),
            block_bars=max(2 * horizon, round(size ** (1 / 3))),
            draws=DRAWS,
            seed=run,
        )[0]
        for run, row in enumerate(values)
    ]
    return {
        "bootstrap": float(np.mean(np.array(drawn) > true)),
        "ours": float(np.mean(np.array(ours) > true)),
    }


def _cases() -> Iterable[tuple[int, int, float, bool]]:
    for autoregression, fat in KINDS:
        for horizon in HORIZONS:
            for size in SIZES:
                yield size, horizon, autoregression, fat


def _print_levels(runs: int) -> None:
    print("share of series without a mean that are called other than 0 at 5 %, two-sided")
    print(f"{'bars':>5} {'h':>3} {'AR':>4} {'tails':>6} | " + " ".join(f"{name:>10}" for name in METHODS))
    worst = dict.fromkeys(METHODS, 0.0)
    for size, horizon, autoregression, fat in _cases():
        row = {
            name: share_found(
                name,
                size,
                horizon,
                autoregression=autoregression,
                fat=fat,
                runs=runs // 10 if name == "bootstrap" else runs,
            )
            for name in METHODS
        }
        said = size >= fewest_values(horizon)
        worst = {name: max(worst[name], row[name]) for name in METHODS} if said else worst
        shown = " ".join(
            f"{row[name]:10.3f}" if name != "ours" or said else f"{'no t':>10}" for name in METHODS
        )
        print(
            f"{size:5d} {horizon:3d} {autoregression:4.1f} {'fat' if fat else 'normal':>6} | {shown}",
            flush=True,
        )
    print("largest where ours gives a t: " + ", ".join(f"{name} {most:.3f}" for name, most in worst.items()))


def _print_power(runs: int) -> None:
    print(
        "\nshare found where the true mean lies 3 of its standard errors from 0 (0.85 with that error known)"
    )
    for horizon in HORIZONS:
        for size in SIZES:
            if size >= fewest_values(horizon):
                found = share_found("ours", size, horizon, deviates=3.0, runs=runs)
                print(f"{size:5d} bars, horizon {horizon:2d}: {found:.2f}")


def _print_sharpes(runs: int) -> None:
    print("\nannual Sharpe ratio, truth 0.8: mean and root mean square error")
    collected: dict[bool, list[dict[str, tuple[float, float]]]] = {True: [], False: []}
    for overlap in collected:
        for autoregression in (-0.2, 0.0, 0.2, 0.4):
            for horizon in HORIZONS:
                for size in (250, 500, 1000):
                    row = sharpe_errors(
                        size, horizon, autoregression=autoregression, overlap=overlap, runs=runs
                    )
                    collected[overlap].append(row)
                    shown = " ".join(f"{name} {mean:+.2f}/{rms:.2f}" for name, (mean, rms) in row.items())
                    kind = "overlapping" if overlap else "single bars"
                    print(
                        f"{kind} AR {autoregression:+.1f} h {horizon:2d} bars {size:4d}: {shown}", flush=True
                    )
    for overlap, rows in collected.items():
        for name in SHARPES:
            means, squares = zip(*(row[name] for row in rows), strict=True)
            kind = "overlapping" if overlap else "single bars"
            print(
                f"{kind} {name:9s} mean |bias| {np.abs(means).mean():.3f}"
                f" largest {np.abs(means).max():.3f} rms error {np.mean(squares):.3f}"
            )


def _print_intervals(runs: int) -> None:
    print("\nshare of 90 % intervals of a portfolio's Sharpe ratio that lie above the truth; wanted 0.05")
    for size in (60, 120, 250):
        for horizon in (5, 21):
            for autoregression in (0.0, 0.2):
                for true in (0.0, 2.0):
                    row = misses(size, horizon, true=true, autoregression=autoregression, runs=runs // 5)
                    shown = ", ".join(f"{name} {share:.3f}" for name, share in row.items())
                    print(
                        f"{size:4d} bars h {horizon:2d} AR {autoregression:.1f} truth {true}: {shown}",
                        flush=True,
                    )


def main() -> None:
    """All tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    _print_levels(runs)
    _print_power(runs)
    _print_sharpes(runs)
    _print_intervals(runs)


if __name__ == "__main__":
    main()
