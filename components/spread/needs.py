"""What one piece of work needs while it is worked on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """Cores, whole GPUs, and GiB of memory; 0 GiB: not known."""

    cpus: int = 1
    gpus: int = 0
    memory_gib: float = 0.0
