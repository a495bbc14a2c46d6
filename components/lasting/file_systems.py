"""Arrow's file system of an address, and what a store that is gone or refuses is called in words."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from components.contracts import AlphaloopError
from components.credentials import without_secrets

if TYPE_CHECKING:
    from pyarrow import fs

_S3, _FILE = "s3://", "file://"
# A server that is silent is given up within half a minute, three tries in all.
_CONNECT_S, _ANSWER_S = 3.0, 10.0
# What S3 and its likes call a key that is wrong, or may not do what was asked.
_REFUSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "HTTP status 403")


class LastingError(AlphaloopError):
    """The store of what outlasts a run does not answer, refuses, or is no address."""


def path_of(address: str) -> str:
    """The path that an s3:// or file:// address names: bucket and prefix, or a folder of this machine.

    Raises
    ------
    LastingError
        If it names no bucket or no absolute path, has another scheme, or holds a key.
    """
    if not address.startswith((_S3, _FILE)):
        raise LastingError(f"{address} is no address of a store. Write s3://bucket/prefix or file:///folder.")
    if address.startswith(_FILE):
        path = unquote(address.removeprefix(_FILE)).rstrip("/")
        if not path.startswith("/"):
            raise LastingError(f"{address} names no absolute path. Write file:///folder, or just the path.")
        return path
    path = address.removeprefix(_S3).strip("/")
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
    # Arrow takes keys and region from the environment by itself, but no endpoint.
    endpoint = urlsplit(_endpoint())
    if _endpoint() and (endpoint.scheme not in ("http", "https") or not endpoint.netloc):
        raise LastingError(
            f"AWS_ENDPOINT_URL is {without_secrets(_endpoint())}, which is no address of an S3 server. Write"
            " it with its scheme, such as http://localhost:8333."
        )
    files = fs.S3FileSystem(
        endpoint_override=f"{endpoint.netloc}{endpoint.path}" or None,
        scheme=endpoint.scheme or "https",
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        connect_timeout=_CONNECT_S,
        request_timeout=_ANSWER_S,
        tls_ca_file_path=os.environ.get("AWS_CA_BUNDLE"),
    )
    return files, path


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
    said = re.sub(r"^.*(?=AWS Error)", "", str(error), flags=re.DOTALL).strip().removesuffix(".")[:200]
    server = _endpoint() or "AWS (AWS_ENDPOINT_URL is not set)"
    if any(word in said for word in _REFUSED):
        return (
            f"is refused by {server}: {said}. Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that"
            " this key may list, read, write and delete there."
        )
    if "NETWORK_CONNECTION" in said or "TIMEOUT" in said.upper():
        return (
            f"can't be reached, because no S3 server answers at {server}: {said}. Start it, or set"
            " AWS_ENDPOINT_URL to its address, such as http://localhost:8333, then try again."
        )
    return f"can't be used at {server}: {said}. Check run.store, AWS_ENDPOINT_URL and AWS_REGION."


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
