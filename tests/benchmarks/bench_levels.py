"""How often changes of level of prices and volume are found, and how often honest events are taken for them.

Each of so many simulated markets is judged with every fault in a symbol of its own, with every honest event
that looks like one, and as it is. `alone` plants the small bonus issues one a market: a panel that shows no
other unadjusted action.

    python -m tests.benchmarks.bench_levels --markets 200
"""

import argparse
from collections import Counter

from components.validation.config import Settings
from components.validation.examine import examine
from components.validation.rules import NOTICES
from tests.validation.level_cases import FAULTS, HONEST, found_by_symbol, market, planted, table

SYMBOLS, BARS, SEED = 26, 400, 20_000
OF_LEVELS = {"bonus_issue", "unexplained_step", "volume_unit"}


def judged(seed: int) -> Counter:
    """(name, outcome) of every case in one market; outcome is named, other, told, cut or none."""
    counts = Counter()
    names = list(FAULTS)
    raw, _ = planted(seed, [FAULTS[name][0] for name in names], SYMBOLS, BARS)
    reasons = found_by_symbol(examine(raw, Settings(max_quarantine_share=1)).findings, raw)
    for number, name in enumerate(names):
        counts[name, _outcome(reasons.get(f"S{number:02}", set()), FAULTS[name][1])] += 1
    for number in range(len(names), SYMBOLS):
        counts["untouched beside faults", _outcome(reasons.get(f"S{number:02}", set()), ())] += 1
    for name in ("bonus 10 for 2", "bonus 10 for 3", "bonus 10 for 4"):
        raw, _ = planted(seed, [FAULTS[name][0]], SYMBOLS, BARS)
        reasons = found_by_symbol(examine(raw, Settings()).findings, raw)
        counts[f"{name}, alone", _outcome(reasons.get("S00", set()), FAULTS[name][1])] += 1
    raw, _ = planted(seed, list(HONEST.values()), SYMBOLS, BARS)
    reasons = found_by_symbol(examine(raw, Settings()).findings, raw)
    for number, name in enumerate(HONEST):
        counts[name, _outcome(reasons.get(f"S{number:02}", set()), ())] += 1
    for wild, name in ((0.0, "calm market"), (0.01, "market with news")):
        raw = table(market(seed, SYMBOLS, BARS, wild=wild))
        reasons = found_by_symbol(examine(raw, Settings()).findings, raw)
        for number in range(SYMBOLS):
            counts[name, _outcome(reasons.get(f"S{number:02}", set()), ())] += 1
    return counts


def _outcome(found: set[str], wanted: tuple[str, ...]) -> str:
    if found & set(wanted):
        return "named"
    if found - set(NOTICES):
        return "other" if wanted else "cut"
    return "told" if found & OF_LEVELS else "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markets", type=int, default=200)
    markets = parser.parse_args().markets
    counts = sum((judged(SEED + seed) for seed in range(markets)), Counter())
    print(f"{markets} markets of {SYMBOLS} symbols x {BARS} bars, seeds from {SEED}\n")
    outcomes = ("named", "other", "cut", "told", "none")
    print(f"{'% of the symbols':<36}" + "".join(f"{outcome:>8}" for outcome in outcomes))
    for name in dict.fromkeys(name for name, _ in counts):
        total = sum(counts[name, outcome] for outcome in outcomes)
        shares = (100 * counts[name, outcome] / total for outcome in outcomes)
        print(f"{name:<36}" + "".join(f"{share:>8.1f}" for share in shares))
    print(
        "\nnamed: found, by a reason that fits; other: rows set aside for another reason; cut: rows of an"
        "\nhonest symbol set aside; told: a notice only, such as unexplained_step; none: nothing found."
    )


if __name__ == "__main__":
    main()
