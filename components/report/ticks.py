"""The report of a run on ticks: what its door reads, and what it leaves in the run folder."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts import read_gathered, read_table
from components.contracts.documents.champion import Registration
from components.contracts.documents.tick_replay import Strategy, TickReplay
from components.contracts.documents.tick_truth import TRUTH, TickTruth
from components.contracts.documents.verdict import Verdict
from components.contracts.tick_predictions import with_what_came
from components.contracts.tick_schemas import CURVE, FILLS
from components.lasting.folder import opened
from components.metrics.paying_moves import PayingMoves, paying_moves
from components.progress import report, stage
from components.report.build import REPORT, keep_pages
from components.report.result import EVIDENCE
from components.report.ticks_page import write_ticks_page
from components.timeline.periods import TICK_LENGTHS

REPLAY, VERDICT, REGISTRATION = "tick_replay.json", "verdict.json", "registration.json"


@dataclass(frozen=True)
class Inputs:
    """Folders `raw` (with the truth, where it is simulated) and `ticks` (validated); `predictions`,
    PREDICTIONS or ALL_PREDICTIONS, and LABELS; FILLS, CURVE and the TickReplay `found`; the Verdict and what
    became of it in the registry; gathered `pages`.
    """

    raw: str
    ticks: str
    predictions: str
    labels: str
    fills: str
    curve: str
    found: str
    verdict: str
    registration: str
    pages: str


@dataclass(frozen=True)
class TickRun:
    """A run on ticks, read for its page. `judged` is the strategy that the verdict is about, `moves` what
    each expert's forecasts are worth, `horizon_ms` how far they look; `truth` is None for recorded ticks.
    """

    name: str
    ticks: Path
    found: TickReplay
    judged: Strategy
    verdict: Verdict
    registration: Registration
    fills: pl.DataFrame
    curve: pl.DataFrame
    moves: dict[str, PayingMoves]
    horizon_ms: int
    truth: TickTruth | None
    pages: tuple[str, ...]


def run(inputs: Inputs, page: str, *, name: str, settings: str, folder: str) -> TickRun:
    """Write the report of a run into `folder`, a path or an address, with the replay and the verdict beside
    it, and the report to `page` too.

    `settings` is JSON of the gates' section: which policy and latency are judged.

    Raises
    ------
    ContractError
        If inputs can't be read, or the replay does not hold what was judged.
    """
    with stage("report"):
        told = _read(inputs, name, json.loads(settings))
        with opened(folder, [], last=[VERDICT]) as kept:
            write_ticks_page(kept / REPORT, told)
            shutil.copyfile(kept / REPORT, page)
            keep_pages(read_gathered(inputs.pages), kept / EVIDENCE)
            told.found.write(kept / REPLAY)
            told.registration.write(kept / REGISTRATION)
            told.verdict.write(kept / VERDICT)
        said = "approved" if told.verdict.approved else "rejected"
        report("report", f"model {said}: {told.verdict.reason}")
    return told


def _read(inputs: Inputs, name: str, settings: dict) -> TickRun:
    found, verdict = TickReplay.read(inputs.found), Verdict.read(inputs.verdict)
    wanted = (verdict.candidate, settings["policy"], settings["latency"])
    rows = with_what_came(inputs.predictions, inputs.labels, found)
    sample_ms = TICK_LENGTHS[rows["period"][0]].total_seconds() * 1_000
    truth = Path(inputs.raw) / TRUTH
    return TickRun(
        name=name,
        ticks=Path(inputs.ticks),
        found=found,
        judged=found.strategy(*wanted, where=inputs.found),
        verdict=verdict,
        registration=Registration.read(inputs.registration),
        fills=read_table(inputs.fills, FILLS),
        curve=read_table(inputs.curve, CURVE),
        moves={str(key[0]): paying_moves(part) for key, part in rows.group_by("expert")},
        horizon_ms=round(found.horizon * sample_ms),
        truth=TickTruth.read(truth) if truth.exists() else None,
        pages=tuple(read_gathered(inputs.pages)),
    )
