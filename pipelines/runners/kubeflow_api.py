"""The connection to a Kubeflow Pipelines API: address, credentials, namespace, and what its refusals mean.

Credentials come from the environment only: a token, cookies of a login, or, in a pod, the token of the pod's
service account.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.cluster_config import ClusterSettings
from pipelines.runners.ir import ClusterError

TOKEN_VARIABLE = "ALPHALOOP_KFP_TOKEN"
COOKIES_VARIABLE = "ALPHALOOP_KFP_COOKIES"
# Where Kubernetes lays the token of a pod's service account for this API, and what may name another place.
POD_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"
POD_TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
# Seconds to reach the server, and for its answer: uploading a pipeline is the longest call.
TIMEOUT_S = (10.0, 90.0)
PAGE_SIZE = 100
SHOWN_CHARACTERS = 300

NOT_FOUND, CONFLICT = 404, 409
REMEDIES = {
    400: "Where it speaks of a namespace, set cluster.namespace: a server for several users wants one.",
    401: (
        f"It does not know who asks. Set {TOKEN_VARIABLE} to a token, or {COOKIES_VARIABLE} to the cookies of"
        " a login in the browser (name=value); an old one has perhaps expired."
    ),
    403: (
        "It knows who asks and does not allow this. Check cluster.namespace (it must be a profile of yours),"
        f" and that {TOKEN_VARIABLE} or the pod's service account may create runs there."
    ),
    404: "Nothing stands there. Check the address: behind Kubeflow's gateway it ends with /pipeline.",
    409: "Something of that name was made at the same moment. Try again.",
    413: (
        "What was sent is larger than the server, or a proxy before it, takes. Raise its limit (nginx:"
        " client_max_body_size), or name fewer experts in experts.leaves."
    ),
    429: "It is asked too often. Try again later.",
    502: "A proxy before it gets no answer: is the pod ml-pipeline ready?",
    503: "It is not ready: does the pod ml-pipeline run?",
    504: "A proxy before it waited in vain: is the pod ml-pipeline overloaded?",
}
BROKEN = "The server itself failed: its log (kubectl logs deployment/ml-pipeline) says why."


class Refused(ClusterError):
    """The server's answer to a call was no; `status` is that of HTTP."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Kubeflow:
    """A server's API with the credentials of this process.

    `address`: for people, without a slash at its end. `namespace`: None where the server has one for all.
    """

    address: str
    namespace: str | None
    client: Any

    def call(self, service: str, method: str, *arguments: Any, **named: Any) -> Any:
        """What a call of kfp's generated API answers, for example `call("RunServiceApi",
        "run_service_create_run", run)`.

        Raises
        ------
        Refused
            If the server says no: 404 where there is no such thing, 409 where there is one already.
        ClusterError
            If it is silent, or what answers is no such API.
        """
        import kfp_server_api

        ask = getattr(getattr(kfp_server_api, service)(self.client), f"{method}_with_http_info")
        answer, _, headers = _explained(
            self.address, lambda: ask(*arguments, **named, _request_timeout=TIMEOUT_S)
        )
        _require_json(self.address, dict(headers))
        return answer

    def listed(self, service: str, method: str, field: str, *arguments: Any, **named: Any) -> Iterator[Any]:
        """All that a listing call holds, over all of its pages."""
        token = ""
        while True:
            page = self.call(service, method, *arguments, **named, page_size=PAGE_SIZE, page_token=token)
            yield from getattr(page, field) or []
            token = page.next_page_token
            if not token:
                return

    @property
    def scope(self) -> dict[str, str]:
        """The namespace as an argument of calls that take one; none where there is none."""
        return {"namespace": self.namespace} if self.namespace else {}


def connect(cluster: ClusterSettings, host: str | None = None) -> Kubeflow:
    """The API at `host`, or at `cluster.host`; nothing is asked yet.

    Raises
    ------
    ClusterError
        If no address is known, or it, the CA file or the proxy can't be one.
    """
    import kfp_server_api
    import urllib3

    address = _address(host or cluster.host)
    settings = kfp_server_api.Configuration(host=address)
    # A call that changes something is not sent twice: whether the first one arrived can't be known.
    settings.retries = urllib3.Retry(connect=2, read=0, redirect=5, status=0, other=0, backoff_factor=0.5)
    if cluster.ca_file:
        if not Path(cluster.ca_file).is_file():
            raise ClusterError(f"cluster.ca_file={cluster.ca_file} is no file. Name a file of certificates.")
        settings.ssl_ca_cert = cluster.ca_file
    settings.proxy = cluster.proxy or None
    _authorise(settings)
    client = kfp_server_api.ApiClient(settings, cookie=os.environ.get(COOKIES_VARIABLE) or None)
    return Kubeflow(address, cluster.namespace or None, client)


def _address(text: str) -> str:
    """The address without a slash at its end and without what a browser shows behind it."""
    if not text:
        raise ClusterError("No cluster is known. Give --host http://..., or set cluster.host in the config.")
    address = text.split("#")[0].rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClusterError(f"{text!r} is no address of a server. Write it as http://localhost:8888.")
    if parts.username or parts.password:
        raise ClusterError(
            f"The address of the cluster holds a name or a password. Take them out, and set {TOKEN_VARIABLE}"
            f" or {COOKIES_VARIABLE}."
        )
    return address


def _authorise(settings: Any) -> None:
    """Give the calls a token: that of the environment, else, in a pod, the service account's, which is read
    anew for each call since it changes.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    pod = Path(os.environ.get(POD_TOKEN_VARIABLE) or POD_TOKEN)
    if not token and not pod.exists():
        return
    settings.api_key_prefix["authorization"] = "Bearer"
    settings.api_key["authorization"] = token
    if not token:
        from kfp.client import ServiceAccountTokenVolumeCredentials

        settings.refresh_api_key_hook = ServiceAccountTokenVolumeCredentials(str(pod)).refresh_api_key_hook


def _explained(address: str, ask: Callable[[], Any]) -> Any:
    """What `ask` answers; what a server, or a silent address, makes kfp's client raise is turned into words
    for the user.
    """
    import urllib3
    from kfp_server_api import ApiException

    try:
        return ask()
    except ApiException as error:
        if not error.status:
            raise ClusterError(_of_tls(address, error.reason)) from error
        text = _refusal(address, error.status, error.reason, _of_body(error.body))
        if _of_this_api(error.headers):
            raise Refused(text, error.status) from error
        raise ClusterError(text) from error
    except urllib3.exceptions.ProxyError as error:
        raise ClusterError(
            f"The proxy before {address} does not answer: {_short(error)}. Check cluster.proxy."
        ) from error
    except urllib3.exceptions.HTTPError as error:
        raise ClusterError(_of_silence(address, error)) from error
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(
            f"{address} does not answer as a Kubeflow Pipelines API: {_short(error)}. Check the address, or"
            " forward the port: kubectl port-forward -n kubeflow service/ml-pipeline 8888"
        ) from error


def _refusal(address: str, status: int, reason: str | None, text: str) -> str:
    """What to tell the user of a refusal: status, the server's own words, and what to do."""
    remedy = REMEDIES.get(status) or (BROKEN if status >= 500 else "Check what was asked for.")
    said = f"It says: {text}. " if text else ""
    return f"{address} refused with {status} {reason or ''}".rstrip() + f". {said}{remedy}"


def _of_tls(address: str, reason: str | None) -> str:
    return (
        f"{address} can't be reached safely: {_short(reason)}. Where its certificate is of an authority of"
        " your own, name that one's file in cluster.ca_file; where it does not speak https, write http://."
    )


def _of_silence(address: str, error: Exception) -> str:
    import urllib3

    cause = getattr(error, "reason", None) or error
    if isinstance(cause, urllib3.exceptions.ProxyError):
        return f"The proxy before {address} does not answer: {_short(cause)}. Check cluster.proxy."
    if isinstance(cause, urllib3.exceptions.SSLError):
        return _of_tls(address, str(cause))
    if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
        return (
            f"{address} took the call and did not answer within {TIMEOUT_S[1]:.0f} s. Whether it did what was"
            " asked can't be known from here: look at its page of runs before you try again."
        )
    refused = isinstance(cause, urllib3.exceptions.NewConnectionError)  # to urllib3 a time-out, too
    if isinstance(cause, urllib3.exceptions.ConnectTimeoutError) and not refused:
        return (
            f"{address} does not answer: it could not be reached within {TIMEOUT_S[0]:.0f} s. Check the"
            " address, and whether a network policy, VPN or cluster.proxy stands between."
        )
    return (
        f"{address} does not answer: {_short(cause)}. Check the address, or forward the port:"
        " kubectl port-forward -n kubeflow service/ml-pipeline 8888"
    )


def _require_json(address: str, headers: dict[str, str]) -> None:
    """Refuse an answer that is no JSON, such as the page of a login: kfp's client reads it as nothing."""
    if not _of_this_api(headers):
        kind = {name.lower(): value for name, value in headers.items()}.get("content-type", "nothing")
        raise ClusterError(
            f"{address} answered with {kind.split(';')[0]} where JSON is expected: most likely the page of a"
            f" login. Set {COOKIES_VARIABLE} to the cookies of a login in the browser, or {TOKEN_VARIABLE};"
            " or forward the port of ml-pipeline, which is behind no login."
        )


def _of_this_api(headers: Any) -> bool:
    kinds = {name.lower(): value for name, value in dict(headers or {}).items()}
    return kinds.get("content-type", "").startswith("application/json")


def _of_body(body: str | bytes | None) -> str:
    """The server's own words in one line, without markup and without the rest of JSON."""
    import json

    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict):
        words = [found.get(name) for name in ("message", "error_message", "error_details", "error")]
        text = next((word for word in words if isinstance(word, str) and word), "")
    return _short(re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE))


def _short(text: object) -> str:
    line = " ".join(str(text or "").split()).rstrip(".")
    return f"{line[:SHOWN_CHARACTERS]}…" if len(line) > SHOWN_CHARACTERS else line
