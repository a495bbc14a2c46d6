"""One attempt at a piece in a process that is not the driver's. Imports nothing of weight before it has set
the threads of libraries as the driver has them.
"""

import os
import traceback
from collections.abc import Mapping

# How many threads a library uses may change the last digits of what it computes, so an attempt has as many
# as the driver would have.
THREADS = ("OMP_", "OPENBLAS_", "MKL_", "POLARS_", "NUMBA_")


def environment_of_attempts() -> dict[str, str]:
    """What an attempt must find of this process's environment. Named one by one: keys, tokens and addresses
    with passwords are none of a node's business.
    """
    from components.memory.share import SHARE_VARIABLE
    from components.processes.imports import WORKING_FOLDER_VARIABLE, working_folder
    from components.processes.sources import IMAGE_NAME_VARIABLE, MODULES_VARIABLE, SOURCES_VARIABLE
    from components.spread.choice import ENGINE_VARIABLES

    compiled_with = (SOURCES_VARIABLE, MODULES_VARIABLE, IMAGE_NAME_VARIABLE)
    ours = (SHARE_VARIABLE, *ENGINE_VARIABLES, *compiled_with, "ALPHALOOP_DATA")
    told = {name: value for name, value in os.environ.items() if name.startswith(THREADS) or name in ours}
    return {**told, WORKING_FOLDER_VARIABLE: working_folder()}


def attempt(
    function: str, piece_json: str, environment: Mapping[str, str], sources: str = ""
) -> dict[str, str] | None:
    """Make a piece; returns what went wrong as `kind`, `message` and `trace`, None where nothing did.

    sources : hash of the driver's code; an attempt that runs other code is refused. Empty: not asked
    """
    os.environ.update(environment)
    from components.processes.sources import OtherCode, task_sources
    from components.spread.piece import Piece, make

    piece = Piece.from_json(piece_json)
    try:
        if sources and sources != task_sources():
            raise OtherCode(
                f"A node of Ray holds other code than the run that asks it: {task_sources()} there, {sources}"
                " here. Start the cluster from the run's own image, by digest."
            )
        make(function, piece, elsewhere=True)
    except Exception as error:
        kind = f"{type(error).__module__}:{type(error).__qualname__}"
        return {"kind": kind, "message": str(error), "trace": traceback.format_exc()}
    return None
