"""Holds a model against thresholds, luck, baselines and the champion; every gate gives its number, threshold
and reason.

A number that is missing or not finite never passes. Thresholds on IC and Sharpe alone would let luck pass now
and then, so significance, the Sharpe ratio's interval and sub-periods are asked for as well, and all of it
after every model that was ever tried on the test window; tests/gates measures how often noise is approved.
"""

from components.contracts import ContractError
from components.contracts.documents.trials import Trials
from components.contracts.documents.verdict import Verdict, VerdictStamp
from components.gates.approval import baseline_gate, forecast_gates, portfolio_gates
from components.gates.config import Settings
from components.gates.luck import Tried, luck_gates, luck_of
from components.gates.promotion import Contest, champion_gate
from components.gates.tradable import tradability_gates
from components.settings import config_hash


def judge(contest: Contest, trials: Trials, settings: Settings, *, code: str) -> Verdict:
    """Put the candidate through every gate; `code` is the code version, for the stamp.

    `trials` are all models that were ever scored on the candidate's test window, its own run's first.

    Raises
    ------
    ContractError
        If evaluation or trials do not hold the candidate.
    """
    evaluation = contest.evaluation
    block = evaluation.tested(settings.candidate)
    if block is None:
        found = ", ".join(evaluation.experts) or "none"
        raise ContractError(
            f"The evaluation has no test results of {settings.candidate!r} (experts: {found}). Let the"
            " stacking stage write it, or set gates.candidate."
        )
    tried = Tried.of(trials, settings)
    own = (
        *forecast_gates(block, evaluation, settings),
        *portfolio_gates(block, settings),
        *tradability_gates(block, settings),
        *(baseline_gate(evaluation, block, name, settings) for name in settings.baselines),
        *luck_gates(tried),
    )
    versus = champion_gate(contest, settings)
    failed = [gate.name for gate in own if not gate.passed]
    approved = not failed
    asked = sum(gate.asked for gate in own)
    unasked = f", {len(own) - asked} were not asked" if asked < len(own) else ""
    reason = (
        f"all {asked} gates passed{unasked}; {versus.reason}"
        if approved
        else f"{len(failed)} of {asked} gates failed{unasked}: {', '.join(failed)}"
    )
    return Verdict(
        candidate=settings.candidate,
        champion_version=contest.champion.version if contest.champion else None,
        approved=approved,
        beats_champion=versus.passed,
        reason=reason,
        gates=(*own, versus),
        stamp=VerdictStamp(code_version=code, config_hash=config_hash(settings)),
        luck=luck_of(tried),
    )
