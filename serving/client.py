"""A small client of the service: signals by symbols, scores of given features, what is served, and how it is.

Standard library only until a frame is sent.
"""

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit

from components.contracts.errors import AlphaloopError

if TYPE_CHECKING:
    import polars as pl

ARROW = "application/vnd.apache.arrow.stream"
_TRIES = 4
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_COME_BACK = (429, 503)


class ServiceError(AlphaloopError):
    """The service refused a request, or could not be reached: its own message, with `status` (None without an
    answer), `code` and `field`.
    """

    def __init__(
        self, message: str, *, status: int | None = None, code: str | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.field = status, code, field


class Client:
    """Asks one service; one connection, so one client a thread.

    Parameters
    ----------
    url : such as http://127.0.0.1:3000
    key : API key, where the service wants one
    timeout_s : longest wait for one answer. A refused connection, 429 and 503 are tried again, at most three
        times, after the time that the service names (at most five seconds each)

    Raises
    ------
    ServiceError
        By every method, if the service refuses, answers something else than JSON, or can't be reached.
    """

    def __init__(self, url: str, key: str | None = None, timeout_s: float = 5.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServiceError(f"{url!r} is not the address of a service. Give it as http://127.0.0.1:3000.")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.url = url.rstrip("/")
        self._path = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next question opens it again."""
        self._connection.close()

    def signals(self, symbols: Sequence[str], *, prices: bool = False) -> dict[str, Any]:
        """Signals of the symbols from the newest features in the online store; with `prices` each carries its
        score and band as a plain return and as the price to come.
        """
        body = {"symbols": list(symbols), **({"prices": True} if prices else {})}
        return self._ask("POST", "/signals", json.dumps(body).encode(), "application/json")

    def score(
        self,
        rows: "pl.DataFrame | Sequence[Mapping[str, Any]]",
        *,
        cross_section: str = "market",
        prices: bool = False,
    ) -> dict[str, Any]:
        """Scores of given features.

        Parameters
        ----------
        rows : a frame (`symbol`, `timestamp` in UTC, a float column for each of the model's inputs and
            contexts, null or NaN for unknown, and `window` where the model needs it), sent as Arrow; or rows
            as POST /score takes them, sent as JSON
        cross_section : `market` or `batch`; see POST /score
        prices : as in `signals`
        """
        asked = {"prices": prices} if prices else {}
        if isinstance(rows, Sequence):
            return self._ask(
                "POST",
                "/score",
                json.dumps(
                    {"cross_section": cross_section, "rows": list(rows), **asked}, default=_iso
                ).encode(),
                "application/json",
            )
        said = urlencode({"cross_section": cross_section, **dict.fromkeys(asked, "true")})
        return self._ask("POST", f"/score?{said}", arrow_stream(rows), ARROW)

    def model(self) -> dict[str, Any]:
        """What is served: version, since when and why, its columns and gates."""
        return self._ask("GET", "/model")

    def status(self) -> dict[str, Any]:
        """Readiness in detail; also where the service is not ready."""
        return self._ask("GET", "/status", come_back=False)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str | None = None,
        *,
        come_back: bool = True,
    ) -> dict[str, Any]:
        pause = _FIRST_PAUSE_S
        for tries_left in range(_TRIES - 1, -1, -1):
            try:
                status, headers, text = self._exchange(method, path, body, kind)
            except ConnectionRefusedError as error:
                if not tries_left:
                    raise ServiceError(
                        f"Nothing listens at {self.url} ({error.strerror}). Start the service with `alphaloop"
                        " serve`, or correct the URL."
                    ) from None
                wait = pause
            except TimeoutError:
                raise ServiceError(
                    f"{self.url}{path} did not answer within {self._connection.timeout:g} s. Ask for less at"
                    " once, or allow more time."
                ) from None
            except (OSError, http.client.HTTPException) as error:
                raise ServiceError(
                    f"{self.url}{path} could not be asked: {str(error) or type(error).__name__}. Check the"
                    " URL and that the service runs."
                ) from None
            else:
                if status not in _COME_BACK or not come_back or not tries_left:
                    return self._read(status, path, text)
                wait = _seconds(headers.get("Retry-After"), pause)
            time.sleep(min(wait, _LONGEST_PAUSE_S))
            pause *= 2
        raise AssertionError("unreachable")

    def _exchange(
        self, method: str, path: str, body: bytes | None, kind: str | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = {**self._headers, **({"Content-Type": kind} if kind else {})}
        kept = self._connection.sock is not None
        try:
            try:
                self._connection.request(method, self._path + path, body=body, headers=headers)
                response = self._connection.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                if not kept:
                    raise
                # The service closed a connection that had been idle, or was started again: ask once more on a
                # new one.
                self._connection.close()
                self._connection.request(method, self._path + path, body=body, headers=headers)
                response = self._connection.getresponse()
            return response.status, response.headers, response.read()
        except BaseException:
            self._connection.close()
            raise

    def _read(self, status: int, path: str, text: bytes) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ServiceError(
                f"{self.url}{path} answered {status} with something else than a JSON object. Check that the"
                " URL is that of an Alphaloop service.",
                status=status,
            )
        error = value.get("error")
        if isinstance(error, dict):
            raise ServiceError(
                f"{error.get('message') or error.get('code')} (HTTP {status})",
                status=status,
                code=error.get("code"),
                field=error.get("field"),
            )
        if status >= 400 and status not in _COME_BACK:
            raise ServiceError(
                f"{self.url}{path} answered {status}: {text[:300].decode(errors='replace')}", status=status
            )
        return value


def arrow_stream(frame: "pl.DataFrame") -> bytes:
    """The frame as the Arrow stream that POST /score takes: no compression, no dictionaries, Float32, null
    for unknown.
    """
    import io

    import polars as pl
    import polars.selectors as cs

    ready = frame.with_columns(
        cs.float().cast(pl.Float32).fill_nan(None),
        pl.col("timestamp").dt.convert_time_zone("UTC").dt.cast_time_unit("us"),
    )
    stream = io.BytesIO()
    ready.write_ipc_stream(stream, compression="uncompressed", compat_level=pl.CompatLevel.oldest())
    return stream.getvalue()


def _seconds(text: str | None, otherwise: float) -> float:
    try:
        return max(float(text), 0.0) if text else otherwise
    except ValueError:
        return otherwise


def _iso(value: Any) -> str:
    return value.isoformat()
