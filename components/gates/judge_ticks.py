"""Judges a model of ticks: what its door calls, from a replay and predictions to the verdict."""

from dataclasses import dataclass

import polars as pl

from components.contracts import ContractError, read_table
from components.contracts.documents.tick_replay import Strategy, TickReplay
from components.contracts.documents.verdict import Verdict, VerdictStamp
from components.contracts.tick_predictions import with_what_came
from components.contracts.tick_schemas import CURVE
from components.gates.tick_config import Settings
from components.gates.tick_gates import BOOTSTRAP_SEED, Replayed, tick_gates
from components.metrics.paying_moves import lucky_lift, paying_moves
from components.progress import report, stage
from components.settings import config_hash


@dataclass(frozen=True)
class Inputs:
    """`found`: a TickReplay, and `curve`: its CURVE table; `predictions`: PREDICTIONS of one expert or
    ALL_PREDICTIONS, and `labels`: LABELS that they are held against.
    """

    found: str
    curve: str
    predictions: str
    labels: str


def run(inputs: Inputs, verdict: str, *, settings: str, code: str) -> Verdict:
    """Judge the candidate and write the Verdict; a rejection is a normal ending.

    Raises
    ------
    ContractError
        If the replay or the predictions do not hold the candidate, its policy or its latency.
    """
    with stage("gates"):
        parsed = Settings.model_validate_json(settings)
        found = TickReplay.read(inputs.found)
        strategy = _strategy(found, parsed, inputs.found)
        rows = _judged_rows(inputs, found, parsed)
        moves = paying_moves(rows)
        luck = lucky_lift(rows, level=(1 + found.level) / 2, seed=BOOTSTRAP_SEED)
        curve = read_table(inputs.curve, CURVE)
        made = _verdict(Replayed(found, strategy, curve, moves, luck), parsed, code)
        made.write(verdict)
        report("gates", f"{'approved' if made.approved else 'rejected'}: {made.reason}")
    return made


def _strategy(found: TickReplay, settings: Settings, where: str) -> Strategy:
    return found.strategy(settings.candidate, settings.policy, settings.latency, where=where)


def _judged_rows(inputs: Inputs, found: TickReplay, settings: Settings) -> pl.DataFrame:
    """The candidate's predictions of the judged task, with what came of them."""
    of_all = with_what_came(inputs.predictions, inputs.labels, found)
    rows = of_all.filter(pl.col("expert") == settings.candidate)
    if rows.is_empty():
        raise ContractError(
            f"{inputs.predictions} holds no predictions of {settings.candidate} for {found.target} over"
            f" {found.horizon} samples. Set tick_gates.candidate to an expert of the run."
        )
    return rows


def _verdict(replayed: Replayed, settings: Settings, code: str) -> Verdict:
    gates = tick_gates(replayed, settings)
    failed = [one.name for one in gates if not one.passed]
    reason = (
        f"{len(failed)} of {len(gates)} gates failed: {', '.join(failed)}"
        if failed
        else f"all {len(gates)} gates passed"
    )
    return Verdict(
        candidate=settings.candidate,
        champion_version=None,
        approved=not failed,
        beats_champion=True,
        reason=reason,
        gates=gates,
        stamp=VerdictStamp(code_version=code, config_hash=config_hash(settings)),
    )
