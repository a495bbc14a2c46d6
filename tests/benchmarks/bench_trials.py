"""How often the gates approve the best of many models on markets of pure luck, and one with skill among as
many without.

A market is made of series alone: what each model's positions gain on a bar, its net returns and coefficients
over five bars that follow from it, with fat tails and in a third of the markets each with a correlation of
models of 0, 0.5 and 0.9. Nothing costs anything, so that luck is not held down. On a market of luck the
judged model is the one with the best Sharpe ratio of the test window itself, which is the worst that a search
can do. `before` counts what would pass without the gates on luck.

    python -m tests.benchmarks.bench_trials --seeds 200
    python -m tests.benchmarks.bench_trials --seeds 200 --true-ic 0.08
"""

import argparse
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from components.contracts import TIME
from components.contracts.documents.evaluation import Daily, Evaluation, Measurement, ModelEvaluation, Ranking
from components.contracts.documents.trials import Trials
from components.contracts.documents.verdict import Verdict
from components.gates.config import Settings
from components.gates.judge import judge
from components.gates.promotion import Contest
from components.metrics import ic_summary, max_drawdown, sharpe_interval, sharpe_ratio
from components.registry.scored import MOMENT, scored_together
from tests.gates.luck_market import measured

HORIZON, YEAR = 5, 252.0
CORRELATIONS = (0.0, 0.5, 0.9)
IC_DEVIATION = 0.13  # of one bar's coefficient over 60 symbols
DAILY, SHARE = 0.005, 0.7  # deviation of a return, and its correlation with what the positions gain
LUCK = ("spa", "deflated_sharpe", "overfitting")


def series(seed: int, models: int, true_ic: float, bars: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Net returns and coefficients of each model; the first, `stack`, foresees with `true_ic`."""
    random = np.random.default_rng(seed)
    correlation = CORRELATIONS[seed % 3]
    shape = (bars + HORIZON, models)
    both = (random.standard_t(5, size) / np.sqrt(5 / 3) for size in (shape, (shape[0], 1)))
    own, shared = both
    gained = np.sqrt(1 - correlation) * own + np.sqrt(correlation) * shared
    gained[:, 0] += true_ic / (IC_DEVIATION * np.sqrt(HORIZON))
    returns = DAILY * (SHARE * gained + np.sqrt(1 - SHARE**2) * random.normal(size=shape))
    ahead = np.lib.stride_tricks.sliding_window_view(gained[1:], HORIZON, axis=0).sum(axis=-1)
    ics = IC_DEVIATION * ahead / np.sqrt(HORIZON)
    names = ["stack", *(f"other_{number:02d}" for number in range(1, models))]
    return {name: (returns[:bars, place], ics[:bars, place]) for place, name in enumerate(names)}


def days(bars: int) -> pl.Series:
    """Of trading."""
    start = datetime(2021, 1, 1, tzinfo=UTC)
    return pl.Series([start + timedelta(days=1.45 * bar) for bar in range(bars)], dtype=TIME)


def judged(like: Evaluation, contest: Contest, made: dict, candidate: str) -> Verdict:
    """The verdict on one of the models: all but its series, such as bands, is as in the evaluation `like`."""
    calendar = days(len(next(iter(made.values()))[0]))
    moments = calendar.dt.strftime(MOMENT).to_list()
    rivals = [name for name in made if name != candidate]
    others = {
        "equal_weights": np.mean([made[name][1] for name in made], axis=0),
        "best_single": max((made[name][1] for name in rivals), key=np.mean),
        "median": np.zeros(len(calendar)),
    }
    block = like.experts["stack"].test
    experts = {
        name: ModelEvaluation(validation=None, test=_daily(block, moments, ic)) for name, ic in others.items()
    }
    own = _measured(_daily(block, moments, made[candidate][1]), *made[candidate])
    experts[candidate] = ModelEvaluation(validation=None, test=own)
    span = like.windows.test.model_copy(update={"bars": len(calendar) + HORIZON + 1})
    windows = like.windows.model_copy(update={"test": span})
    evaluation = like.model_copy(update={"experts": experts, "windows": windows})
    frames = {
        name: pl.DataFrame({"timestamp": calendar, "net_return": net, "rank_ic": ic})
        for name, (net, ic) in made.items()
    }
    about = {
        "period": "1d",
        "test": (moments[0], moments[-1]),
        "bars_per_year": YEAR,
        "task": (like.target, HORIZON),
    }
    trials = Trials(scored=(scored_together(frames, dict.fromkeys(frames, "expert"), **about),), unseen=0)
    whole = Contest(evaluation, contest.predictions, contest.labels, None)
    return judge(whole, trials, Settings(candidate=candidate), code="bench")


def _daily(block: Measurement, moments: list[str], ic: np.ndarray) -> Measurement:
    daily = Daily(timestamp=moments, ic=ic.tolist(), rank_ic=ic.tolist())
    return block.model_copy(update={"daily": daily})


def _measured(block: Measurement, net: np.ndarray, ic: np.ndarray) -> Measurement:
    """The block with the figures of these series; long_only gains what long_short does."""
    ranking = Ranking(**ic_summary(ic, horizon=HORIZON))
    sharpe = float(sharpe_ratio(net, bars_per_year=YEAR))
    money = {
        "bars": len(net),
        "sharpe_net": sharpe,
        "information_ratio_net": sharpe,
        "sharpe_net_interval": sharpe_interval(net, level=0.9, bars_per_year=YEAR),
        "max_drawdown": max_drawdown(net),
    }
    portfolio = block.portfolio.model_copy(
        update={
            name: getattr(block.portfolio, name).model_copy(update=money)
            for name in ("long_short", "long_only")
        }
    )
    return block.model_copy(update={"ic": ranking, "rank_ic": ranking, "portfolio": portfolio})


def main() -> None:
    """Judge every market, then print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--bars", type=int, default=250)
    parser.add_argument("--true-ic", type=float, default=0.0)
    given = parser.parse_args()
    found = measured(3, true_ic=0.1, persistence=0.9)
    contest = Contest(found.evaluation, found.predictions, found.labels, None)
    verdicts = []
    for seed in range(given.seeds):
        made = series(seed, given.models, given.true_ic, given.bars)
        best = max(made, key=lambda name, made=made: sharpe_ratio(made[name][0], bars_per_year=1))
        verdicts.append(judged(found.evaluation, contest, made, "stack" if given.true_ic else best))
    failed = [
        {gate.name for gate in verdict.gates if gate.level == "approval" and not gate.passed}
        for verdict in verdicts
    ]
    values = {
        name: [
            gate.value
            for verdict in verdicts
            for gate in verdict.gates
            if gate.name == name and gate.value is not None
        ]
        for name in ("sharpe", *LUCK)
    }
    print(
        f"{given.seeds} markets of {given.bars} bars, {given.models} models each, true IC {given.true_ic:g}"
    )
    print(
        f"approved {sum(not names for names in failed)},"
        f" before {sum(not names - set(LUCK) for names in failed)}"
    )
    for name, numbers in values.items():
        passed = sum(name not in names for names in failed)
        low, middle, high = np.quantile(numbers, (0.1, 0.5, 0.9)) if numbers else (np.nan,) * 3
        print(f"{name:16s} passes {passed:4d}; 10 %, median, 90 %: {low:.3f} {middle:.3f} {high:.3f}")
    print(
        "fails:",
        ", ".join(f"{name} {count}" for name, count in Counter(n for f in failed for n in f).most_common()),
    )


if __name__ == "__main__":
    main()
