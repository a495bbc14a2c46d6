"""Keeps the run folder in step with what lasts at an address (run.store): brings the feature store's current
publication and the review pages, and puts the answers that were served there. A process of its own.

A store that is gone or slow touches no answer: the service goes on with what is in the run folder, and
answers wait there until they can be put. What stands in the way is told in `store_mirror.json`.
"""

import contextlib
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from components.contracts import (
    AlphaloopError,
    OutputError,
    atomic_path,
    atomic_write_text,
    read_json,
    served_parts,
)
from components.feature_store.by_address import bring_current
from components.lasting.folder import LastingFolder, below
from components.processes.endings import end_with_parent
from serving.faults import Faults, words
from serving.processes.documents import MIRROR_FILE, MirrorReport
from serving.processes.plan import ServingPlan, read_plan

_LOOK_S = 3.0
# Pages are for people: they may be a minute old.
_PAGES_S = 60.0
_EXPECTED = (AlphaloopError, OSError)


class StoreMirror:
    """What of the run folder is at the address already, and how to bring both in step."""

    def __init__(self, plan: ServingPlan) -> None:
        self.plan = plan
        self.problem: str | None = None
        self.faults = Faults(_say, _EXPECTED)
        self._served = LastingFolder.at(below(plan.store, "served"))
        self._review = LastingFolder.at(below(plan.store, "review"))
        self._record = plan.serving_folder / "put.json"
        put = read_json(self._record) or {}
        # What was put to another address is not at this one.
        self._put: dict[str, list[int]] = put["put"] if put.get("store") == plan.store else {}
        self._pages: dict[str, datetime] = {}
        self._pages_at = -_PAGES_S

    def look(self) -> None:
        """Bring everything in step once; what stands in the way ends up in `problem` and is tried again."""
        problem = None
        for step in (self.bring_store, self.put_answers, self.bring_pages):
            try:
                step()
            except Exception as error:  # this process must outlive whatever a store answers
                problem = problem or words(error)
                self.faults.say(f"{step.__name__}: {words(error)}", error)
        if problem is None and self.problem is not None:
            self.faults.clear()
            _say("the store answers again")
        self.problem = problem

    def bring_store(self) -> None:
        """The publication that is current at the address becomes that of the run folder."""
        bring_current(below(self.plan.store, "feature_store"), self.plan.store_folder)

    def waiting(self) -> dict[str, Path]:
        """The parts of the answer log that are not at the address as they are here, by their names there."""
        here = {part.relative_to(self.plan.served_folder).as_posix(): part for part in self._parts()}
        return {name: part for name, part in here.items() if self._put.get(name) != _state(part)}

    def put_answers(self) -> None:
        """Put the parts that are new, then remove those that were put from here and are merged or gone by
        now; parts of other services stay.
        """
        for name, part in self.waiting().items():
            state = _state(part)
            # The log writer may merge a part at any moment: its rows then lie in another one.
            with contextlib.suppress(FileNotFoundError):
                self._served.put_file(part, name)
                self._remember({**self._put, name: state})
        here = {part.relative_to(self.plan.served_folder).as_posix() for part in self._parts()}
        for name in sorted({*self._put} - here):
            self._served.remove(name)
            self._remember({key: state for key, state in self._put.items() if key != name})

    def bring_pages(self) -> None:
        """The review pages, as far as they have changed since the last time."""
        if time.monotonic() - self._pages_at < _PAGES_S:
            return
        found = self._review.names()
        for name in found:
            if self._pages.get(name) != found[name]:
                with (
                    contextlib.suppress(FileNotFoundError),
                    atomic_path(self.plan.review_folder / name) as there,
                ):
                    self._review.copy(name, there)
                self._pages[name] = found[name]
        for name in {*self._pages} - {*found}:
            (self.plan.review_folder / name).unlink(missing_ok=True)
            del self._pages[name]
        self._pages_at = time.monotonic()

    def report(self) -> None:
        """Write `store_mirror.json`."""
        found = MirrorReport(at=datetime.now(UTC), waiting=len(self.waiting()), problem=self.problem)
        # The disk may be full, which others say.
        with contextlib.suppress(OutputError):
            found.write(self.plan.serving_folder / MIRROR_FILE)

    def _parts(self) -> list[Path]:
        return served_parts(self.plan.served_folder)

    def _remember(self, put: dict[str, list[int]]) -> None:
        self._put = put
        atomic_write_text(self._record, json.dumps({"store": self.plan.store, "put": put}))


def _state(part: Path) -> list[int] | None:
    """Size and time of a file; None where it is gone."""
    try:
        found = part.stat()
    except FileNotFoundError:
        return None
    return [found.st_size, found.st_mtime_ns]


def run(plan: ServingPlan, *, every_s: float = _LOOK_S) -> None:
    """Work until told to stop; then put what was served a last time."""
    stop = end_with_parent()
    mirror = StoreMirror(plan)
    while not stop.is_set():
        mirror.look()
        mirror.report()
        stop.wait(every_s)
    mirror.look()
    mirror.report()


def _say(message: str) -> None:
    print(f"[store mirror] {message}", file=sys.stderr, flush=True)


def main() -> None:
    """`python -m serving.processes.store_mirror PLAN`."""
    try:
        run(read_plan(sys.argv[1] if len(sys.argv) > 1 else None))
    except AlphaloopError as error:
        _say(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
