"""One of the processes that torchrun starts for `processes.train_in_processes`: trains on tables and reports
its failure to a file; the main one also how the training went.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from components.contracts import AlphaloopError
from components.contracts.documents.experts import STATUS
from components.progress import EVENTS_VARIABLE

if TYPE_CHECKING:
    from components.contracts.documents.experts import ExpertStatus


def main(arguments_file: str) -> None:
    """Train with the arguments in a JSON file.

    A failure is written beside it, and ends the process at once: the others may wait for it.
    """
    folder, rank = Path(arguments_file).parent, int(os.environ["RANK"])
    if rank:
        os.environ[EVENTS_VARIABLE] = os.devnull
    from components.experts.neural.distributed import setup

    try:
        status = _trained(Path(arguments_file), setup)
        if status.status == "failed":
            trace = Path(status.trace_file).read_text(encoding="utf-8")
            _fail(folder, rank, "ExpertError", status.reason, trace)
        elif not rank:
            status.write(folder / STATUS)
    except Exception as error:
        kind = "AlphaloopError" if isinstance(error, AlphaloopError) else type(error).__name__
        _fail(folder, rank, kind, str(error), traceback.format_exc())


def _trained(arguments_file: Path, setup: Callable[[], AbstractContextManager]) -> "ExpertStatus":
    from components.experts.training.processes import read_arguments
    from components.experts.training.publish import train_on_tables

    inputs, assignment, work_folder = read_arguments(arguments_file)
    with setup():
        return train_on_tables(inputs, assignment, work_folder).status


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
