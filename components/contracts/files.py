"""Writing files so that a reader sees either the whole new file or the old one, never a part; and reading
what others may be writing.
"""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from components.contracts.errors import AlphaloopError, ContractError

JsonT = TypeVar("JsonT")


class OutputError(AlphaloopError):
    """An output could not be written; whatever stood there before is untouched."""


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it over `path`, else remove it.

    The body may write a file or create a folder there. A folder replaces an older folder as a whole.

    Raises
    ------
    OutputError
        If the place cannot be written or the disk is full. The message names the path and what to do.
    """
    target = Path(path)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        temporary = holder / target.name
        yield temporary
        _sync(temporary)
        if temporary.is_dir() and target.exists():
            os.rename(target, holder / "old")
        os.replace(temporary, target)
        sync_folder(target.parent)
    except Exception as error:
        cause = _system_error(error)
        if cause is None:
            raise
        raise _explain(cause, target) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary.parent, ignore_errors=True)


def atomic_write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | os.PathLike) -> dict[str, Any] | None:
    """The object in a JSON file; None where the file is missing, unreadable or holds something else."""
    try:
        return require_json(path)
    except ContractError:
        return None


def require_json(
    path: str | os.PathLike,
    kind: type[JsonT] = dict,
    *,
    remedy: str = "Run the stage that writes it again.",
    error: type[AlphaloopError] = ContractError,
) -> JsonT:
    """What a JSON file holds that must be there: an object, or a value of another `kind`.

    Raises
    ------
    error
        If the file is missing, is no JSON, or holds something else; the message names the file and what is
        wrong with it, and ends with the `remedy`.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as fault:
        raise error(f"{path} can't be read ({fault.strerror or fault}). {remedy}") from fault
    except (ValueError, RecursionError) as fault:
        raise error(f"{path} is no JSON ({fault}). {remedy}") from fault
    if not isinstance(value, kind):
        held, wanted = type(value).__name__, kind.__name__
        raise error(f"{path} holds a {held} where a {wanted} is expected. {remedy}")
    return value


def _sync(path: Path) -> None:
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for file in files:
        # Windows syncs only what is open for writing.
        with open(file, "r+b" if os.name == "nt" else "rb") as handle:
            os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Have the operating system keep the names in a folder; Windows can't be asked to."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _system_error(error: Exception) -> OSError | None:
    """The operating system's error:

    `error` itself, or the one that a library in Rust reports in words of its own, such as Polars on a full
    disk.
    """
    if isinstance(error, OSError):
        return error
    code = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else None


def _explain(error: OSError, target: Path) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free_mib = shutil.disk_usage(_existing(target.parent)).free / 2**20
        return OutputError(
            f"The disk is full: {target} could not be written ({free_mib:.0f} MiB are free). Nothing"
            " half-written was left. Free some space or set run.folder to another disk, then run again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(
            f"{target} can't be written: {error.strerror}. Set run.folder to a folder that you may write, or"
            " change the permissions of this one."
        )
    return OutputError(
        f"{target} could not be written: {error.strerror or error}. Check the path and the disk, then run"
        " again."
    )


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
