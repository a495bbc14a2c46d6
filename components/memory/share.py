"""The share of memory that work is sized for, as the config has it: `compute.memory_share`, which tasks are
told by their environment, because it changes nothing that they make and so is part of no cache's key.
"""

import os

SHARE_VARIABLE = "ALPHALOOP_MEMORY_SHARE"
# Work that can be cut is cut to TARGET of what there is; nothing is planned that takes more than CEILING.
TARGET, CEILING = 0.7, 0.8


def memory_share() -> float:
    """The share that this process was told, else the default."""
    return float(os.environ.get(SHARE_VARIABLE) or TARGET)
