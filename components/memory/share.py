"""The share of memory that work is sized for, as the config has it: `compute.memory_share`, which tasks are
told by their environment, because it changes nothing that they make and so is part of no cache's key.
"""

import os

SHARE_VARIABLE = "ALPHALOOP_MEMORY_SHARE"
# Work that can be cut is cut to TARGET of what there is; nothing is planned that takes more than CEILING.
TARGET, CEILING = 0.7, 0.8


def memory_share() -> float:
    """The share that this process was told, else the default.

    Raises
    ------
    ContractError
        If it was told none that the config would take.
    """
    told = os.environ.get(SHARE_VARIABLE) or str(TARGET)
    try:
        share = float(told)
    except ValueError:
        share = 0.0
    if not 0 < share <= CEILING:
        # Tables, which this brings along, are of no use to whoever asks how much memory there is.
        from components.contracts.errors import ContractError

        raise ContractError(f"{SHARE_VARIABLE}={told}: set it to a share above 0, at most {CEILING}.")
    return share
