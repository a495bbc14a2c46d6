"""Which engine the pieces of this run go to, as the config has it: `compute.engine` and `compute.address`,
which tasks are told by their environment, because they change nothing that a task makes and so are part of no
cache's key.
"""

import os
from typing import Literal, get_args

from components.settings import ConfigError

ENGINE_VARIABLE, ADDRESS_VARIABLE = "ALPHALOOP_ENGINE", "ALPHALOOP_RAY_ADDRESS"
ENGINE_VARIABLES = (ENGINE_VARIABLE, ADDRESS_VARIABLE)
Engine = Literal["local", "ray"]


def engine() -> Engine:
    """The engine that this process was told, else `local`.

    Raises
    ------
    ConfigError
        If it was told one that there is not.
    """
    told = os.environ.get(ENGINE_VARIABLE) or "local"
    if told not in get_args(Engine):
        raise ConfigError(f"{ENGINE_VARIABLE}={told}: there is no such engine. Set it to local or ray.")
    return told


def ray_address() -> str:
    """Where Ray is, as this process was told; empty: started here."""
    return os.environ.get(ADDRESS_VARIABLE, "")
