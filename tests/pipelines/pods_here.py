"""Whether pods can run on this machine, asked once for all tests that need to know."""

import functools

from pipelines.runners.pods.declared import PodError
from pipelines.runners.pods.machine import require_namespaces


@functools.cache
def refused() -> str:
    """Why this machine has no pods; empty where it has."""
    try:
        require_namespaces()
    except PodError as error:
        return str(error).partition(" Allow")[0]
    return ""
