"""The memory of a pod: how often it is looked at, and how much a limit of Kubernetes is in bytes.

A limit is kept by looking, some twenty times a second, and killing as the kernel would: that needs no control
groups, which are out of reach in most containers and for most users.
"""

import re

LOOK_EVERY_S = 0.05
SUFFIXES = {"": 1} | {
    f"{letter}{binary}": (1024 if binary else 1000) ** power
    for power, letter in enumerate("KMGTPE", start=1)
    for binary in ("", "i")
}
# Kubernetes writes a thousand with a small letter.
SUFFIXES["k"] = 1000


def in_bytes(quantity: str) -> int:
    """A quantity of Kubernetes, such as 8G, 256Mi or a number of bytes.

    Raises
    ------
    ValueError
        If it is none.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", quantity)
    if not found or found[2] not in SUFFIXES:
        raise ValueError(
            f"{quantity!r} is no amount of memory: write bytes, or a number with K, M, G, Ki, Mi, Gi"
        )
    return int(float(found[1]) * SUFFIXES[found[2]])
