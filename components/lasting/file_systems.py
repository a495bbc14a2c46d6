"""Arrow's file system of an address, and what a store that is gone or refuses is called in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

from components.contracts import AlphaloopError
from components.s3 import SCHEME, open_s3, why_unreadable

if TYPE_CHECKING:
    from pyarrow import fs

_FILE = "file://"
# What is put takes servers longer than what is read: large files are put together at the end.
_ANSWER_S = 10.0


class LastingError(AlphaloopError):
    """The store of what outlasts a run does not answer, refuses, or is no address."""


def path_of(address: str) -> str:
    """The path that an s3:// or file:// address names: bucket and prefix, or a folder of this machine.

    Raises
    ------
    LastingError
        If it names no bucket or no absolute path, has another scheme, or holds a key.
    """
    if not address.startswith((SCHEME, _FILE)):
        raise LastingError(f"{address} is no address of a store. Write s3://bucket/prefix or file:///folder.")
    if address.startswith(_FILE):
        path = unquote(address.removeprefix(_FILE)).rstrip("/")
        if not path.startswith("/"):
            raise LastingError(f"{address} names no absolute path. Write file:///folder, or just the path.")
        return path
    path = address.removeprefix(SCHEME).strip("/")
    if "@" in path.partition("/")[0]:
        raise LastingError(
            f"s3://***@{path.partition('@')[2]}: an address may hold no key, since it is kept with the run."
            " Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment."
        )
    if not all(path.split("/")):
        raise LastingError(f"{address} names no bucket, or an empty folder. Write s3://bucket/prefix.")
    return path


def file_system(address: str) -> "tuple[fs.FileSystem, str]":
    """Arrow's file system of an s3:// or file:// address, and the path in it.

    Raises
    ------
    LastingError
        As `path_of`, and where AWS_ENDPOINT_URL is no address of a server.
    """
    from pyarrow import fs

    path = path_of(address)
    if address.startswith(_FILE):
        return fs.LocalFileSystem(), path
    try:
        return open_s3(_ANSWER_S), path
    except ValueError as error:
        raise LastingError(str(error)) from None


@contextmanager
def explained(address: str) -> Iterator[None]:
    """Turn what a store that is gone, refuses or is full makes Arrow raise into words for the user; a file
    that is not there stays a FileNotFoundError.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LastingError(f"{address} {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if error.errno:
        return f"can't be used: {error.strerror or error}. Check run.store, and that this disk has room."
    return why_unreadable(error)
