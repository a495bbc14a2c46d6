"""Who may ask:

API keys from the environment, compared in constant time and never written anywhere; without a key, loopback
only.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Sequence

from components.contracts import AlphaloopError
from serving.api.refusal import Refusal
from serving.config import LOOPBACK, Settings

BEARER, BASIC = "Bearer", 'Basic realm="alphaloop", charset="UTF-8"'


class UnsafeBinding(AlphaloopError):
    """The service would listen beyond this machine without asking for a key."""


def require_safe_binding(settings: Settings) -> None:
    """Refuse to listen on anything but a loopback address while no API key is set."""
    if not settings.api_keys() and not is_loopback(settings.host):
        raise UnsafeBinding(
            f"serving.host={settings.host} can be reached from other machines, but no API key is set. Set the"
            f" environment variable {settings.api_key_variable} to a secret, or serving.host to 127.0.0.1."
        )


def is_loopback(host: str | None) -> bool:
    """True for localhost and the loopback addresses of IPv4 and IPv6."""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address((host or "").strip("[]")).is_loopback
    except ValueError:
        return False


class Gatekeeper:
    """Decides whether a request may pass. Holds digests of the keys, not the keys."""

    def __init__(self, keys: Sequence[str], variable: str):
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]
        self._variable = variable

    def identify(
        self, headers: Sequence[tuple[bytes, bytes]], client: str | None, *, basic: bool = False
    ) -> str:
        """Name of the client for its limits: the number of its key, or its address where no key is set.

        Parameters
        ----------
        headers : as ASGI gives them, names in lower case
        basic : HTTP Basic is taken too, with the key as the password (pages that a browser opens)

        Raises
        ------
        Refusal
            401 `unauthorised`, or 403 `loopback_only`.
        """
        if not self._digests:
            return self._local(headers, client)
        given = _credential(headers, basic)
        digest = hashlib.sha256(given).digest()
        # All keys are compared, so that the time says nothing about which one came close.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if given and any(matches):
            return f"key {matches.index(True) + 1}"
        raise Refusal(
            401,
            "unauthorised",
            "This needs an API key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
            headers={"www-authenticate": f"{BEARER}, {BASIC}" if basic else BEARER},
        )

    def _local(self, headers: Sequence[tuple[bytes, bytes]], client: str | None) -> str:
        """Without a key only this machine may ask, and a page in its browser may not do so under another name
        (DNS rebinding).
        """
        host = next((value.decode("latin-1") for name, value in headers if name == b"host"), "localhost")
        name = (
            host.rsplit(":", 1)[0]
            if host.count(":") == 1 or (host.startswith("[") and "]:" in host)
            else host
        )
        if is_loopback(client) and is_loopback(name.strip("[]").lower()):
            return client or "local"
        raise Refusal(
            403,
            "loopback_only",
            f"Without an API key only clients on the same machine are answered. Set {self._variable} where"
            " the service runs, and send the key.",
        )


def _credential(headers: Sequence[tuple[bytes, bytes]], basic: bool) -> bytes:
    for name, value in headers:
        if name == b"x-api-key":
            return value
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return rest.strip()
            if basic and scheme.lower() == b"basic":
                return _basic_password(rest.strip())
    return b""


def _basic_password(encoded: bytes) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
