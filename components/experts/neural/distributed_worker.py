"""One of the processes that torchrun starts for `distributed.train_in_processes`: trains on tables and
reports its failure to a file.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from components.contracts import AlphaloopError
from components.progress import EVENTS_VARIABLE


def main(arguments_file: str) -> None:
    """Train with the arguments in a JSON file.

    A failure is written beside it, and ends the process at once: the others may wait for it.
    """
    folder, rank = Path(arguments_file).parent, int(os.environ["RANK"])
    if rank:
        os.environ[EVENTS_VARIABLE] = os.devnull
    from components.experts.neural.distributed import setup

    try:
        arguments = json.loads(Path(arguments_file).read_text(encoding="utf-8"))
        with setup():
            status = _trained(arguments)
            if status["status"] == "failed":
                _fail(
                    folder,
                    rank,
                    "ExpertError",
                    status["reason"],
                    Path(status["trace_file"]).read_text(encoding="utf-8"),
                )
    except Exception as error:
        kind = "AlphaloopError" if isinstance(error, AlphaloopError) else type(error).__name__
        _fail(folder, rank, kind, str(error), traceback.format_exc())


def _trained(arguments: dict[str, Any]) -> dict[str, Any]:
    from components.experts.leaves import Leaf
    from components.experts.training.publish import train_on_tables
    from components.timeline import Settings as TimelineSettings

    given = dict(arguments)
    tables = [given.pop(name) for name in ("training_set", "labels", "catalog")]
    leaf, timeline = (
        Leaf.model_validate(given.pop("leaf")),
        TimelineSettings.model_validate(given.pop("timeline")),
    )
    paths = {
        name: Path(given.pop(name)) if given.get(name) else given.pop(name, None)
        for name in ("work_folder", "warm_from")
    }
    _, status, _ = train_on_tables(*tables, leaf=leaf, timeline=timeline, **paths, **given)
    return status


def _fail(folder: Path, rank: int, kind: str, message: str, trace: str) -> None:
    text = json.dumps({"time": time.time(), "rank": rank, "kind": kind, "message": message, "trace": trace})
    part = folder / f".failure-{rank}.json"
    part.write_text(text, encoding="utf-8")
    part.replace(folder / f"failure-{rank}.json")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
