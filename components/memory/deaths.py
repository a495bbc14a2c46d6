"""How a stage ends that ran out of memory, and the words for it: what it held, what it may have, and what to
lower.

Python and most libraries raise; C++ and Rust end their process with a line on its output; the kernel kills
without a word.
"""

import os
import re
import signal
from pathlib import Path

from components.memory.amounts import readable
from components.memory.held import most_held
from components.memory.limits import ROOT, end
from components.memory.lowered import what_to_lower
from components.processes.endings import KILL

# What is said where memory was refused: by Python and NumPy, C++, Rust (Polars), Arrow, torch, the C library,
# LLVM. Not `CUDA out of memory`, which is that of a GPU.
REFUSED = re.compile(
    r"\bMemoryError\b|std::bad_alloc|memory allocation of \d+ bytes failed|malloc of size \d+ failed"
    r"|[Cc]an(?:not|'t) allocate memory|Unable to allocate .*\bfor an array\b|LLVM ERROR: out of memory"
    r"|Thread creation failed: Resource temporarily unavailable|can't start new thread"
)
# A shell says 128 and the number where a signal ended what it ran.
OF_SHELL = 128


def ran_out(error: BaseException) -> bool:
    """Whether an exception, or what it came from, is that memory was refused."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if isinstance(one, MemoryError) or REFUSED.search(str(one)):
            return True
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    return False


def out_of_memory(stage: str, peak: int | None) -> str:
    """What a stage says whose process was refused memory; `peak` is what it held, None where not known."""
    return f"{stage} ran out of memory. {_figures(peak)} {what_to_lower(stage)}"


def how_it_ended(stage: str, code: int, said: str, *, peak: int | None, kernel_kills: int) -> str:
    """What to say of a task whose process ended without saying itself why.

    Parameters
    ----------
    code : its exit code, as of `subprocess` or of a shell
    said : the end of its output
    peak : the most that one of its processes held, None where not known
    kernel_kills : how many processes the kernel killed for want of memory meanwhile, see `kernel_kills`
    """
    number = -code if code < 0 else code - OF_SHELL
    if number == KILL:
        by = (
            "the kernel, which had no memory left for it"
            if kernel_kills
            else "a signal that can't be refused (SIGKILL), most often the kernel's for want of memory (its"
            " log, dmesg, says so)"
        )
        return f"{stage} was killed by {by}. {_figures(peak)} {what_to_lower(stage)}"
    if REFUSED.search(said):
        return out_of_memory(stage, peak)
    return (
        f"{stage} ended with {_exit(number, code)} and said nothing of why. {_figures(peak)} Its last"
        f" words:\n{_last_lines(said)}"
    )


def peak_here() -> int | None:
    """The most that this process has held; None where the system does not say."""
    return most_held([os.getpid()]) or None


def kernel_kills(root: Path = ROOT) -> int:
    """How many processes this machine's kernel has killed for want of memory; 0 where it does not say."""
    try:
        lines = (root / "proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _figures(peak: int | None) -> str:
    held = f"It held {readable(peak)} at its peak" if peak else "What it held at its peak is not known"
    bound = end()
    if bound is None:
        return f"{held}."
    return f"{held}; it may have {readable(bound.bytes)} ({bound.where})."


def _exit(number: int, code: int) -> str:
    try:
        return f"signal {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {code}"


def _last_lines(text: str, count: int = 8) -> str:
    return os.linesep.join(line for line in text.splitlines()[-count:] if line.strip())
