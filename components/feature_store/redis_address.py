"""The address of a Redis server as Feast wants it: `host:port`, then settings such as `db=0`, with commas."""

from components.contracts import AlphaloopError

FORM = "host:port,db=0,password=..."


class RedisAddressError(AlphaloopError):
    """The environment variable with the Redis connection does not hold an address in Feast's form."""


def parse_redis_address(address: str, variable: str) -> tuple[str, int, dict[str, str]]:
    """Host, port and settings of the server that the environment variable `variable` names.

    Raises
    ------
    RedisAddressError
        Where it is a URL, lacks the port, or a setting has no value; the message hides what may be secret.
    """
    if "://" in address:
        scheme = address.partition("://")[0]
        raise RedisAddressError(
            f"{variable} holds a {scheme}:// address. Feast wants {FORM}: the host, a colon, the port, then"
            " settings with commas; ssl=true for rediss."
        )
    server, *parts = address.split(",")
    host, _, port = server.rpartition(":")
    if not host or ":" in host or not port.isdigit() or not 0 < int(port) < 65536 or "=" in server:
        raise RedisAddressError(
            f"{variable} does not begin with host:port (found {_shown(server)!r}). Write {FORM}, for example"
            " localhost:6379,db=0."
        )
    unset = [part for part in parts if not all(part.partition("=")[::2])]
    if unset:
        raise RedisAddressError(
            f"{variable}: {_shown(unset[0])!r} is no setting. After host:port come name=value pairs with"
            f" commas: {FORM}. Several nodes are for a Redis cluster, which is not supported."
        )
    return host, int(port), dict(part.split("=", 1) for part in parts)


def _shown(text: str) -> str:
    """As much of a wrong address as holds no password."""
    return text.rpartition("@")[2].partition("=")[0]
