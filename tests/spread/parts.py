"""What the pieces of tests do, by name."""

import os
import signal
import time
from pathlib import Path

from components.contracts import ContractError
from components.progress import advance, warn


def square(arguments, folder: Path) -> None:
    """The square of a number, and who worked it out."""
    number = arguments["number"]
    advance("squares", 1, 2, f"number {number}")
    if number == 3:
        warn("squares", "three is odd")
    (folder / "square.txt").write_text(str(number**2))
    (folder / "inner").mkdir()
    (folder / "inner" / "again.txt").write_text(str(number**2))
    if "who" in arguments:
        Path(arguments["who"], f"{number}-{os.getpid()}").touch()


def gpus(arguments, folder: Path) -> None:
    (folder / "gpus.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    time.sleep(0.3)  # so that the other process gets one too


def die(arguments, folder: Path) -> None:
    """Killed the first `times` times, having written something."""
    (folder / "half.txt").write_text("half")
    tries = Path(arguments["tries"])
    with tries.open("a") as handle:
        handle.write("x")
    if len(tries.read_text()) <= arguments["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "half.txt").write_text("whole")


def refuse(arguments, folder: Path) -> None:
    raise ContractError(f"{arguments['number']} is not wanted.")


def stumble(arguments, folder: Path) -> None:
    raise ZeroDivisionError("by nothing")


def slow(arguments, folder: Path) -> None:
    """Waits where told to, as long as a file is there."""
    while Path(arguments["until_gone"]).exists():
        time.sleep(0.05)
    (folder / "square.txt").write_text(str(arguments["number"] ** 2))
