"""Arrow's S3 file system as the standard environment describes it, and what a server that is gone or refuses
is called in words.

Endpoint and keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and the
like.
"""

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.credentials import without_secrets

if TYPE_CHECKING:
    from pyarrow import fs

SCHEME = "s3://"
CONNECT_S = 3.0
# What S3 and its likes call a key that is wrong, or may not do what was asked.
REFUSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "HTTP status 403")


def open_s3(answer_s: float) -> "fs.S3FileSystem":
    """The S3 store of the environment; a server that is silent is given up after three tries of `answer_s`
    seconds.

    Raises
    ------
    ValueError
        If AWS_ENDPOINT_URL is no address of a server.
    """
    from pyarrow import fs

    # Arrow takes keys from the environment by itself, but no endpoint.
    given = _endpoint()
    endpoint = urlsplit(given)
    if given and (endpoint.scheme not in ("http", "https") or not endpoint.netloc):
        raise ValueError(
            f"AWS_ENDPOINT_URL is {without_secrets(given)}, which is no address of an S3 server: it does not"
            " begin with http:// or https:// and a host, such as http://localhost:8333."
        )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return fs.S3FileSystem(
        endpoint_override=f"{endpoint.netloc}{endpoint.path}" or None,
        scheme=endpoint.scheme or "https",
        # A server of one's own has no regions, AWS is asked for that of the bucket.
        region=region or ("us-east-1" if given else None),
        connect_timeout=CONNECT_S,
        request_timeout=answer_s,
        tls_ca_file_path=os.environ.get("AWS_CA_BUNDLE"),
    )


def server() -> str:
    """The S3 server that is asked, as a person knows it."""
    return without_secrets(_endpoint()) or "AWS (AWS_ENDPOINT_URL is not set)"


def missing_bucket(store: "fs.FileSystem", key: str) -> str:
    """The bucket of a key where the server has none of that name, else an empty text."""
    from pyarrow import fs

    bucket = key.partition("/")[0]
    return bucket if store.get_file_info(bucket).type == fs.FileType.NotFound else ""


def why_unreadable(error: Exception) -> str:
    """What is wrong with a server that made Arrow raise `error`, and what to do; it follows on an address."""
    said = re.sub(r"^.*(?=AWS Error)", "", str(error), flags=re.DOTALL).strip().removesuffix(".")[:300]
    if any(word in said for word in REFUSED):
        return (
            f"is refused by {server()}: {said}. Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what"
            " this key may do there."
        )
    if "NETWORK_CONNECTION" in said or "TIMEOUT" in said.upper():
        return (
            f"can't be reached, because no S3 server answers at {server()}: {said}. Start the server, or set"
            " AWS_ENDPOINT_URL to its address, such as http://localhost:8333."
        )
    return f"can't be used at {server()}: {said}. Check the address, AWS_ENDPOINT_URL and AWS_REGION."


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
