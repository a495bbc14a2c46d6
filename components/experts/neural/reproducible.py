"""Torch with a seed, a number of threads and deterministic algorithms, for a while."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from components.experts.neural import distributed


@contextmanager
def reproducible(seed: int, threads: int, deterministic: bool = True) -> Iterator[torch.device]:
    """Seeded torch with `threads` threads, by default with deterministic algorithms; the caller's own state
    is put back. Yields the device to use.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    device = (
        torch.device("cuda", distributed.local_gpu()) if torch.cuda.is_available() else torch.device("cpu")
    )
    threads_before, strict_before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only_before = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        try:
            yield device
        finally:
            torch.use_deterministic_algorithms(strict_before, warn_only=warn_only_before)
            torch.set_num_threads(threads_before)
