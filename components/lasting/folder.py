"""A folder by its address, s3://bucket/prefix, file:///path or a path: brought to this machine while it is
used, and what changed put back by content.

Endpoint and keys of an S3 store come from the standard environment: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from components.contracts import AlphaloopError, file_sha256
from components.lasting.file_systems import LastingError, explained, file_system
from components.s3 import SCHEME, missing_bucket, server

if TYPE_CHECKING:
    from pyarrow import fs

Wanted = Callable[[str], bool] | Sequence[str]
SCHEMES = ("s3://", "file://")
_CHUNK_BYTES = 8 * 2**20
# Files under way at a time: small ones would otherwise spend their time waiting one after the other.
_AT_A_TIME = 8
# A file that others replace or merge while it is read is read again, so often.
_TRIES = 5


def is_address(folder: str) -> bool:
    """Whether a folder is given by address, so that it is no path of this machine."""
    return folder.startswith(SCHEMES)


def below(folder: str, name: str) -> str:
    """The folder `name` inside a folder, which is a path or an address."""
    return f"{folder.rstrip('/')}/{name}"


@contextmanager
def fetched(folder: str, fetch: Wanted = lambda name: True) -> Iterator[Path]:
    """The folder as one of this machine, to be read: parameters and errors as of `opened`. Nothing is put to
    an address afterwards, nor removed there, whatever becomes of the copy.
    """
    if not is_address(folder):
        yield Path(folder).absolute()
        return
    with _copied(LastingFolder.at(folder), fetch) as (root, _):
        yield root


@contextmanager
def opened(folder: str, fetch: Wanted = lambda name: True, *, last: Sequence[str] = ()) -> Iterator[Path]:
    """The folder as one of this machine, to be written; what the body changes in it lies at the address
    afterwards.

    A path is its own folder. From an address the files whose names `fetch` wants are copied to a scratch
    folder; the others are there by name only, empty. When the body has ended well, files whose content is new
    are put to the address, those in `last` at the very end, and those that the body removed are removed
    there. A file is put whole or not at all; what others put meanwhile stays, but for files of the same name:
    the last one wins.

    Parameters
    ----------
    folder : a path or an address; it may not be there yet
    fetch : whether a file is wanted, by its name relative to the folder, with slashes; or the names of
        the few that are wanted, and then nothing is known of the others

    Raises
    ------
    LastingError
        If the store does not answer or refuses. Errors of the body name the address in place of the scratch
        folder.
    """
    if not is_address(folder):
        yield Path(folder).absolute()
        return
    place = LastingFolder.at(folder)
    with _copied(place, fetch) as (root, before):
        yield root
        place.put(root, before, last=last)


@contextmanager
def _copied(place: "LastingFolder", fetch: Wanted) -> Iterator[tuple[Path, dict[str, str]]]:
    """A scratch folder with the wanted files of a place, and the SHA-256 of each; errors that pass name the
    place.
    """
    with tempfile.TemporaryDirectory(prefix="alphaloop-lasting-") as scratch:
        try:
            yield Path(scratch), place.fetch(Path(scratch), fetch)
        except AlphaloopError as error:
            error.args = (str(error).replace(scratch, place.address.rstrip("/")),)
            raise


@dataclass(frozen=True)
class LastingFolder:
    """A folder at an address; `root` is its path in the file system."""

    address: str
    files: "fs.FileSystem"
    root: str

    @classmethod
    def at(cls, address: str) -> "LastingFolder":
        """The folder at an s3:// or file:// address; LastingError where it is none."""
        files, root = file_system(address)
        return cls(address, files, root)

    def names(self, only: Sequence[str] | None = None) -> dict[str, datetime]:
        """When each file below the folder, or of these alone, was put there, by its name relative to it;
        hidden ones are none.

        Raises
        ------
        LastingError
            If the store does not answer or refuses, or a name leads out of the folder.
        """
        from pyarrow import fs

        everything = fs.FileSelector(self.root, allow_not_found=True, recursive=True)
        with explained(self.address):
            found = self.files.get_file_info(
                everything if only is None else [f"{self.root}/{name}" for name in only]
            )
            if not any(one.is_file for one in found):
                self._require_bucket()
        named = {one.path.removeprefix(f"{self.root}/"): one.mtime for one in found if one.is_file}
        for name in named:
            # Keys of S3 are any text, and these would be written as they say.
            if name.startswith("/") or ".." in name.split("/"):
                raise LastingError(
                    f"{below(self.address, name)} has a name that leads out of its folder. Remove it."
                )
        return {name: at for name, at in named.items() if not _hidden(name)}

    def fetch(self, target: Path, wanted: Wanted) -> dict[str, str]:
        """Copy the wanted files into `target` and lay out the names of the others; returns the SHA-256 of
        each, empty for those that are there by name only.
        """
        for attempt in range(_TRIES):
            named = self.names(None if callable(wanted) else wanted)
            try:
                with ThreadPoolExecutor(_AT_A_TIME) as pool:
                    bring = partial(self._bring, target, wanted if callable(wanted) else named.__contains__)
                    hashes = list(pool.map(bring, named))
            except FileNotFoundError as error:
                # Somebody merged or removed files since they were listed.
                if attempt + 1 == _TRIES:
                    raise self._changes_without_end() from error
                shutil.rmtree(target)
                target.mkdir()
                continue
            _set_times(target, named)
            return dict(zip(named, hashes, strict=True))
        raise self._changes_without_end()

    def put(self, source: Path, before: dict[str, str], *, last: Sequence[str] = ()) -> list[str]:
        """Put the files of `source` that are not as `before` says, and remove those of `before` that are
        gone; returns the names of those put.
        """
        here = {_name(path, source): path for path in source.rglob("*") if path.is_file()}
        here = {name: path for name, path in here.items() if not _hidden(name)}
        changed = [name for name, path in here.items() if _content(path) != before.get(name)]
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            list(pool.map(lambda name: self.put_file(here[name], name), sorted({*changed} - {*last})))
        for name in last:
            if name in changed:
                self.put_file(here[name], name)
        for name in sorted({*before} - {*here}):
            self.remove(name)
        return changed

    def put_file(self, path: Path, name: str) -> None:
        """Put one file, whole or not at all."""
        from pyarrow import fs

        target = f"{self.root}/{name}"
        # Arrow finishes a stream that is left by an error, on S3 as well. Process numbers are no names: each
        # pod counts its own.
        unfinished = f"{os.path.dirname(target)}/.{os.path.basename(name)}.{uuid4().hex}"
        with explained(below(self.address, name)):
            if isinstance(self.files, fs.LocalFileSystem):
                self.files.create_dir(os.path.dirname(target))
            try:
                with open(path, "rb") as source, self.files.open_output_stream(unfinished) as stream:
                    shutil.copyfileobj(source, stream, _CHUNK_BYTES)
                self.files.move(unfinished, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    self.files.delete_file(unfinished)
                raise

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is no fault."""
        with explained(below(self.address, name)):
            try:
                self.files.delete_file(f"{self.root}/{name}")
            except FileNotFoundError:
                return

    def _bring(self, target: Path, wanted: Callable[[str], bool], name: str) -> str:
        """Copy a file, or lay out its name; returns its SHA-256, empty for a mere name."""
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not wanted(name):
            path.touch()
            return ""
        self.copy(name, path)
        return _content(path)

    def copy(self, name: str, target: Path) -> None:
        """Copy one file to `target`: as it was at one moment, whatever others put meanwhile."""
        for _ in range(_TRIES):
            with explained(below(self.address, name)):
                with (
                    self.files.open_input_stream(f"{self.root}/{name}") as stream,
                    open(target, "wb") as copy,
                ):
                    tag = stream.metadata()
                    shutil.copyfileobj(stream, copy, _CHUNK_BYTES)
                with self.files.open_input_stream(f"{self.root}/{name}") as stream:
                    if stream.metadata() == tag:
                        return
        raise self._changes_without_end()

    def _require_bucket(self) -> None:
        """LastingError where an S3 server knows no such bucket: else a wrong name would read as an empty
        folder.
        """
        bucket = self.address.startswith(SCHEME) and missing_bucket(self.files, self.root)
        if bucket:
            raise LastingError(
                f"{self.address}: there is no bucket {bucket!r} at {server()}. Make it, or check run.store"
                " and AWS_ENDPOINT_URL."
            )

    def _changes_without_end(self) -> LastingError:
        return LastingError(
            f"{self.address} changed at each of {_TRIES} tries to read it. Let the programs that write there"
            " come to rest, or give each its own run.store, then try again."
        )


def _content(path: Path) -> str:
    """SHA-256 of a file, empty where it is, as one is that is there by name only."""
    return file_sha256(path) if path.stat().st_size else ""


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _hidden(name: str) -> bool:
    """Locks, and what is being written."""
    return any(part.startswith(".") for part in name.split("/"))


def _set_times(folder: Path, named: dict[str, datetime]) -> None:
    """Let files and the folders they lie in be as old as they are at the address."""
    newest: dict[Path, float] = {}
    for name, moment in named.items():
        path = folder / name
        os.utime(path, (moment.timestamp(), moment.timestamp()))
        for above in path.relative_to(folder).parents:
            newest[folder / above] = max(moment.timestamp(), newest.get(folder / above, 0.0))
    for path, moment in newest.items():
        os.utime(path, (moment, moment))
