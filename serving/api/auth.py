"""Who may ask:

API keys from the environment, compared in constant time and never written anywhere; without a key, where that
was asked for, this machine only.
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


# What a proxy says of those for whom it asks; one of them, and the request is not of this machine.
_FORWARDED = (b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip")
_FORWARDED_PREFIX = b"x-forwarded"


class UnsafeBinding(AlphaloopError):
    """The service would answer without asking for a key where that was not asked for, or not safe."""


def require_safe_binding(settings: Settings) -> None:
    """Refuse to serve without an API key unless `keyless` asks for it, and then beyond this machine."""
    if settings.api_keys():
        return
    variable = settings.api_key_variable
    if not settings.keyless:
        raise UnsafeBinding(
            f"No API key is set, so nobody could ask. Set the environment variable {variable} to a secret,"
            f" such as: export {variable}=$(openssl rand -hex 16). For a trial on this machine alone serve"
            " with --keyless (serving.keyless: true)."
        )
    if not is_loopback(settings.host):
        raise UnsafeBinding(
            f"serving.host={settings.host} can be reached from other machines, but no API key is set. Set the"
            f" environment variable {variable} to a secret, or serving.host to 127.0.0.1."
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
    """Decides whether a request may pass. Holds digests of the keys, not the keys.

    Parameters
    ----------
    keyless : where there are no keys, this machine is answered
    own_name : besides the loopback ones the Host that such a request may name
    """

    def __init__(self, keys: Sequence[str], variable: str, *, keyless: bool = False, own_name: str = ""):
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]
        self._variable, self._keyless, self._own_name = variable, keyless, own_name.lower()

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
            401 `unauthorised`, also for two keys that differ, or 403 `loopback_only`.
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
        """Without a key only this machine may ask: no proxy for somebody else, and no page in its browser
        under another name (DNS rebinding).
        """
        host = next((value.decode("latin-1") for name, value in headers if name == b"host"), "")
        name = (
            host.rsplit(":", 1)[0]
            if host.count(":") == 1 or (host.startswith("[") and "]:" in host)
            else host
        )
        named = name.strip("[]").lower()
        ours = bool(named) and (is_loopback(named) or named == self._own_name)
        if self._keyless and ours and is_loopback(client) and not _forwarded(headers):
            return client or "local"
        raise Refusal(
            403,
            "loopback_only",
            "Without an API key only clients on the same machine are answered, and none through a proxy. Set"
            f" {self._variable} where the service runs, and send the key.",
        )


def _forwarded(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    return any(name in _FORWARDED or name.startswith(_FORWARDED_PREFIX) for name, _ in headers)


def _credential(headers: Sequence[tuple[bytes, bytes]], basic: bool) -> bytes:
    given = {found for name, value in headers if (found := _key_of(name, value, basic)) is not None}
    if len(given) > 1:
        raise Refusal(
            401,
            "unauthorised",
            "Authorization and X-API-Key hold different keys. Send one of them.",
            field="x-api-key",
            headers={"www-authenticate": BEARER},
        )
    return next(iter(given), b"")


def _key_of(name: bytes, value: bytes, basic: bool) -> bytes | None:
    if name == b"x-api-key":
        return value
    scheme, _, rest = value.partition(b" ") if name == b"authorization" else (b"", b"", b"")
    if scheme.lower() == b"bearer":
        return rest.strip()
    return _basic_password(rest.strip()) if basic and scheme.lower() == b"basic" else None


def _basic_password(encoded: bytes) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
