"""The replay as a page: what was lost, what differs, bar by bar."""

from pathlib import Path

from components.contracts.documents.replay import Held, ReplayReport
from components.page import number, write_page

COLUMNS = ("bar", "rows", "lost", "another score", "largest difference")


def write_replay_page(path: Path, found: ReplayReport) -> Path:
    """Write the page; differences are shares of the spread of scores within their bar."""
    bars = [(f"{one.bar:%Y-%m-%d %H:%M}", *_cells(one.held)) for one in reversed(found.bars)]
    wrong = [place for place, one in enumerate(reversed(found.bars)) if one.held.lost or one.held.differing]
    sides = [("live path", *_cells(found.live)), ("answers that were given", *_cells(found.answered))]
    return write_page(
        path,
        "replay/page.html",
        found=found,
        verdict=("the same", "good") if found.same else ("not the same", "bad"),
        columns=COLUMNS,
        side_columns=("side", *COLUMNS[1:]),
        sides=sides,
        bars=bars,
        wrong=wrong,
    )


def _cells(held: Held) -> tuple[str, str, str, str]:
    largest = "–" if held.largest is None else f"{held.largest:.2g}"
    return number(held.rows, 0), number(held.lost, 0), number(held.differing, 0), largest
