"""Files of a user that lie in an S3 object store: found, hashed where they lie, and brought to this disk
while they are read.
"""

import difflib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from components.contracts.errors import AlphaloopError
from components.s3 import SCHEME, missing_bucket, open_s3, server, why_unreadable

if TYPE_CHECKING:
    from pyarrow import fs

Result = TypeVar("Result")

CHUNK_BYTES = 8 * 2**20
# Objects that are read at a time: many small ones would spend their time waiting, one after the other.
AT_A_TIME = 8
ANSWER_S = 5.0


@dataclass(frozen=True)
class Address:
    """An s3:// address as a setting gives it: an object, a folder or a glob. `error` is what the stage raises
    where it can't be used.
    """

    text: str
    setting: str
    error: type[AlphaloopError]

    @property
    def key(self) -> str:
        """Bucket and key, without the slash that a folder may end with."""
        return self.text.removeprefix(SCHEME).rstrip("/")

    def refusal(self, said: str) -> AlphaloopError:
        """The stage's error, beginning with the address."""
        return self.error(f"{self.text} ({self.setting}) {said}")


@dataclass(frozen=True)
class StoredFile:
    """A file in an object store; `key` begins with the bucket, `asked` is the address that led to it."""

    key: str
    asked: Address

    @property
    def name(self) -> str:
        """Its name without folders, as a path has it."""
        return PurePosixPath(self.key).name

    def __str__(self) -> str:
        return f"{SCHEME}{self.key}"


def is_address(path: str) -> bool:
    """Whether a path of the config is an address in an object store."""
    return path.startswith(SCHEME)


def find_stored(asked: Address, ends: tuple[str, ...] = ()) -> tuple[StoredFile, ...]:
    """The files that an address names, in the order of paths: itself, all below a folder whose lower-case
    names end with one of `ends`, or the matches of a glob.

    Raises
    ------
    AlphaloopError (the address's)
        If there is none, one is empty, or the store does not answer or refuses.
    """
    from pyarrow import fs

    key = asked.key
    with _explained(asked):
        store = open_s3(ANSWER_S)
        if has_magic(key):
            found = _matches(store, key)
        elif (one := store.get_file_info(key)).type == fs.FileType.File:
            found = [one]
        elif one.type == fs.FileType.Directory:
            below = store.get_file_info(fs.FileSelector(key, recursive=True))
            found = [each for each in below if each.is_file and each.path.lower().endswith(ends or "")]
        else:
            found = []
        if not found:
            raise asked.refusal(_absent(store, key, ends))
    for each in found:
        if not each.size:
            raise asked.error(f"{SCHEME}{each.path} ({asked.setting}) is empty (0 bytes). Export it again.")
    paths = sorted(PurePosixPath(each.path) for each in found)
    return tuple(StoredFile(str(path), asked) for path in paths)


def one_stored(asked: Address) -> StoredFile:
    """The one file that an address names; the address's error where it names a folder or several."""
    found = find_stored(asked)
    if [str(file) for file in found] != [asked.text]:
        raise asked.refusal(f"names {len(found)} files, such as {found[0]}. Give the address of one.")
    return found[0]


def stored_sha256(files: Iterable[StoredFile]) -> list[str]:
    """SHA-256 of the content of each file, streamed: nothing is kept."""
    return _with_each(files, lambda file, stream: hashlib.file_digest(stream, "sha256").hexdigest())


@dataclass(frozen=True)
class Desk:
    """A folder of this disk in which stored files lie while they are read."""

    folder: Path

    def bring(self, files: Iterable[StoredFile]) -> None:
        """Copy files here, each to its key."""

        def copy(file: StoredFile, stream: BinaryIO) -> None:
            place = self.place_of(file)
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(place, "wb") as target:
                shutil.copyfileobj(stream, target, CHUNK_BYTES)

        _with_each(files, copy)

    def place_of(self, file: StoredFile) -> Path:
        """Where a file lies here."""
        if ".." in PurePosixPath(file.key).parts:
            raise file.asked.error(f"{file} has a name that leads out of its folder. Rename it.")
        return self.folder / file.key

    def place(self, asked: Address) -> str:
        """Where what an address names lies here: a path, folder or glob as the address is one."""
        return str(self.folder / asked.key)

    def shown(self, text: str) -> str:
        """A text on files here as the user knows them: by their addresses."""
        return text.replace(f"{self.folder}{os.sep}", SCHEME)


@contextmanager
def desk() -> Iterator[Desk]:
    """A place for stored files while they are read; errors name them by their addresses."""
    with tempfile.TemporaryDirectory(prefix="alphaloop-s3-") as folder:
        own = Desk(Path(folder))
        try:
            yield own
        except AlphaloopError as error:
            error.args = (own.shown(str(error)),)
            raise


def _with_each(files: Iterable[StoredFile], work: Callable[[StoredFile, BinaryIO], Result]) -> list[Result]:
    """What `work` makes of each file and its open stream, in their order."""
    store = open_s3(ANSWER_S)

    def one(file: StoredFile) -> Result:
        with _explained(file.asked, file.key), store.open_input_stream(file.key) as stream:
            return work(file, stream)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(one, files))


@contextmanager
def _explained(asked: Address, key: str | None = None) -> Iterator[None]:
    """Turn what a store that is gone, refuses or lacks a file makes Arrow raise into words for the user."""
    try:
        yield
    except (OSError, ValueError) as error:
        where = Address(f"{SCHEME}{key or asked.key}", asked.setting, asked.error)
        raise where.refusal(_reason(error)) from error


def _reason(error: Exception) -> str:
    """What is wrong, and what to do about it."""
    if isinstance(error, FileNotFoundError):
        return "is gone: it was there a moment ago. Run again when nobody replaces the data."
    if getattr(error, "errno", None):
        return f"can't be brought to this disk: {error}. Make room, or set TMPDIR to another disk."
    return why_unreadable(error)


def _absent(store: "fs.S3FileSystem", key: str, ends: tuple[str, ...]) -> str:
    """What is said of an address at which no file lies."""
    from pyarrow import fs

    bucket = not has_magic(key.partition("/")[0]) and missing_bucket(store, key)
    if bucket:
        return f"does not exist: there is no bucket {bucket!r} at {server()}. Check the address."
    if has_magic(key):
        return "matches no file. Mend the pattern (the bucket's name can't be one), or put the data there."
    if store.get_file_info(key).type == fs.FileType.Directory:
        return f"is a folder without such files ({', '.join(ends)}). Put the data there, or mend the address."
    beside = fs.FileSelector(str(PurePosixPath(key).parent), allow_not_found=True)
    names = [each.base_name for each in store.get_file_info(beside)]
    close = difflib.get_close_matches(PurePosixPath(key).name, names, n=1)
    return "does not exist. " + (f"Did you mean {close[0]!r}?" if close else "Check the address.")


def _matches(store: "fs.S3FileSystem", pattern: str) -> list["fs.FileInfo"]:
    """The files that a glob names; ** stands for any folders, as in a glob of paths."""
    from pyarrow import fs

    parts = pattern.split("/")
    fixed = next(number for number, part in enumerate(parts) if has_magic(part))
    base, wanted = "/".join(parts[:fixed]), parts[fixed:]
    if not base:
        return []
    below = store.get_file_info(
        fs.FileSelector(base, recursive=len(wanted) > 1 or "**" in wanted, allow_not_found=True)
    )
    return [
        each
        for each in below
        if each.is_file and _fits(each.path.removeprefix(f"{base}/").split("/"), wanted)
    ]


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the parts of a path are those of a glob; hidden names fit only what begins with a dot."""
    if not wanted or not parts:
        return not parts and all(part == "**" for part in wanted)
    hidden = parts[0].startswith(".") and not wanted[0].startswith(".")
    if wanted[0] == "**":
        return _fits(parts, wanted[1:]) or (not hidden and _fits(parts[1:], wanted))
    return not hidden and fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])
