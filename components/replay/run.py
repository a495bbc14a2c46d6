"""What the doors of the replay do: compare and draw, and stop the run where the two sides differ."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from components.contracts import FACTORS, LIVE_ROWS, SERVED, read_table
from components.contracts.documents.champion import ChampionRecord
from components.contracts.documents.replay import ReplayReport
from components.lasting.folder import below, opened
from components.progress import report, stage
from components.replay.compare import ReplayError, Sides, compare
from components.replay.config import Settings
from components.replay.page import write_replay_page
from components.scoring import Model

FOLDER, REPORT, PAGE = "replay", "replay.json", "index.html"


@dataclass(frozen=True)
class Replayed:
    """The artifacts of a replay: bundle and record of the champion, and the tables that are compared."""

    bundle: Path
    champion: Path
    live: Path
    factors: Path
    answered: Path


def run_replay(inputs: Replayed, found: Path, page: Path, *, settings: str, folder: str) -> ReplayReport:
    """Write the report to `found` and its page to `page`, and both into the folder `replay` of `folder`, a
    path or an address.
    """
    with stage("replay"):
        parsed = Settings.model_validate_json(settings)
        champion = ChampionRecord.read(inputs.champion / "champion.json")
        sides = Sides(
            read_table(inputs.live, LIVE_ROWS),
            read_table(inputs.factors, FACTORS),
            read_table(inputs.answered, SERVED),
        )
        made = compare(Model.load(inputs.bundle), champion.version, sides, parsed)
        made.write(found)
        write_replay_page(page, made)
        with opened(below(folder, FOLDER), [REPORT, PAGE]) as kept:
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, kept / REPORT)
            shutil.copyfile(page, kept / PAGE)
        report("replay", f"{'the same' if made.same else 'not the same'}: {made.reason}")
    return made


def run_require_same(found: Path) -> None:
    """Stop the run with ReplayError where the two sides differ; by a task of its own, so that report and page
    are handed on before.
    """
    with stage("replay verdict"):
        made = ReplayReport.read(found)
        if not made.same:
            raise ReplayError(
                f"Champion {made.version} answers otherwise than its backtest: {made.reason}. The page"
                " replay/index.html in the run's folder names the bars."
            )
