"""Whether to believe a result, for readers who know no statistics: how many models were tried, and how often
luck alone would show one as good.
"""

from dataclasses import dataclass
from typing import Literal

from components.contracts.documents.summary import RunSummary
from components.contracts.documents.verdict import Luck
from components.page import number

RAREST = 0.001
# What is called rare in the first line, whatever the gates let pass.
USUAL_LEVEL = 0.05


@dataclass(frozen=True)
class Belief:
    """`said` in a few words, `why` in one or two sentences; `kind` as a badge has it."""

    kind: Literal["good", "bad", "warn"]
    said: str
    why: str


def belief(summary: RunSummary) -> Belief | None:
    """What to think of the run's model; None for a run of before trials were kept."""
    luck = summary.luck
    if luck is None:
        return None
    if luck.chance is None:
        few = f"{luck.bars} bars are too few to tell skill from luck."
        why = "Its return is the same in each bar." if luck.sharpe is None else few
        return Belief("bad", "Nothing can be said.", why)
    if luck.sharpe is not None and luck.sharpe < 0:
        return Belief("bad", "It loses money.", _lost(luck, summary.cost_bps))
    failed = [gate.name for gate in summary.gates if gate.level == "approval" and not gate.passed]
    why = f"{_tries(luck)} {_length(luck)}"
    if "spa" in failed:
        return Belief("bad", "Luck explains this.", why)
    if "deflated_sharpe" in failed or luck.chance > USUAL_LEVEL:
        return Belief("bad", "Luck may explain this.", why)
    if failed:
        others = ", ".join(name.replace("_", " ") for name in failed)
        return Belief("warn", "Hardly luck, but not good enough.", f"{_tries(luck)} It failed: {others}.")
    return Belief("good", "Luck does not explain this.", why)


def share(chance: float) -> str:
    """A chance in percent, `< 0.1 %` where it is smaller than what can be told."""
    return f"< {RAREST:.1%}" if chance < RAREST else f"{chance:.1%}"


def _lost(luck: Luck, cost_bps: float) -> str:
    return (
        f"A net Sharpe ratio of {number(luck.sharpe)} over {luck.bars:,} bars, after costs of {cost_bps:g}"
        f" bps a side: whatever its forecasts are worth, trading on them did not pay. {_counted(luck)}."
    )


def _counted(luck: Luck) -> str:
    count = luck.models + luck.unseen
    models = "One model was" if count == 1 else f"{count:,} models were"
    earlier = f", {luck.earlier + luck.unseen:,} of them by other runs" if luck.earlier + luck.unseen else ""
    return f"{models} tried on this test window{earlier}"


def _tries(luck: Luck) -> str:
    best = "it" if luck.models + luck.unseen == 1 else "the best of them"
    if luck.unseen:
        kept = "one" if luck.models == 1 else f"best of the {luck.models:,}"
        best = f"the {kept} whose returns are kept"
    return (
        f"{_counted(luck)}. If none were any good, {best} would still look like this"
        f" {_how_often(luck.chance)}."
    )


def _how_often(chance: float) -> str:
    if chance < RAREST:
        return "in fewer than 1 of 1,000 cases"
    return f"in 1 of {1 / chance:,.0f} cases" if chance < 0.4 else f"in {chance:.0%} of cases"


def _length(luck: Luck) -> str:
    """The Sharpe ratio beside a lucky one, and how long one like it must last."""
    beside = (
        f"A net Sharpe ratio of {number(luck.sharpe)} stands against {number(luck.lucky_sharpe)}, which luck"
        " would bring"
    )
    if luck.bars_needed is None:
        return f"{beside}: more bars like these would not help."
    enough = "are enough" if luck.bars >= luck.bars_needed else "would be needed"
    return (
        f"{beside}; {luck.bars_needed:,.0f} bars as good as these {luck.bars:,} {enough} to tell them apart."
    )
