"""A stand-in for the API of Kubeflow Pipelines 2.17 on loopback: answers the calls of submissions and
schedules, refuses what the server refuses, and checks bodies and its own answers with kfp's own models.
"""

import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines.runners.ir import LOADER

ROOT = "/apis/v2beta1"
LOGIN = b"<!doctype html><html><style>p {}</style><body><p>Log in to your account</p></body></html>"
PIPELINE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
# Codes of gRPC that the server's answers carry, by status of HTTP.
GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 413: 8, 429: 8, 500: 13, 503: 14}


class Refusal(Exception):
    """The stand-in says no, as the server would."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StandIn:
    """What the server holds, the requests that arrived, and how it is to behave.

    `token`, `cookie` : what it wants to see
    `namespaces` : those that it knows, for a server of several users; None for a server of one
    `refuse` : path beginning -> status with which such calls are refused
    `page` : "login" answers each call with the page of a login
    `delay_s` : seconds before each answer
    `pages_of` : most items on a page
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.authorisations: list[str | None] = []
        self.experiments: list[dict] = []
        self.pipelines: list[dict] = []
        self.versions: list[dict] = []
        self.runs: list[dict] = []
        self.recurring: list[dict] = []
        self.deleted: list[tuple[str, str | None]] = []
        self.token: str | None = None
        self.cookie: str | None = None
        self.namespaces: set[str] | None = None
        self.refuse: dict[str, tuple[int, bytes | None]] = {}
        self.page = ""
        self.delay_s = 0.0
        self.pages_of = 2
        self.address = ""
        self.counter = 0

    def new_id(self, kind: str) -> str:
        self.counter += 1
        return f"{kind}-{self.counter}"

    # What each call does; `given` are the parameters of its address.

    def list_experiments(self, given: dict, body: Any) -> dict:
        space = self.space(given.get("namespace"))
        found = [one for one in self.experiments if one.get("namespace", "") == space]
        return self.listed("experiments", found, given, "V2beta1ListExperimentsResponse")

    def create_experiment(self, given: dict, body: Any) -> dict:
        parse(body, "V2beta1Experiment")
        space = self.space(body.get("namespace"))
        self.only_one(self.experiments, body["display_name"], space)
        made = {"experiment_id": self.new_id("e"), "display_name": body["display_name"], "namespace": space}
        return keep(self.experiments, made, "V2beta1Experiment")

    def get_pipeline_by_name(self, given: dict, body: Any, name: str) -> dict:
        space = self.space(given.get("namespace"))
        return find(self.pipelines, "name", name, space)

    def create_pipeline(self, given: dict, body: Any) -> dict:
        parse(body, "V2beta1Pipeline")
        space = self.space(body.get("namespace"))
        name = body.get("name") or body.get("display_name") or ""
        if not PIPELINE_NAME.fullmatch(name):
            raise Refusal(400, f"invalid pipeline name {name!r}")
        self.only_one(self.pipelines, name, space)
        made = {
            "pipeline_id": self.new_id("p"),
            "name": name,
            "display_name": body.get("display_name") or name,
            "namespace": space,
        }
        return keep(self.pipelines, made, "V2beta1Pipeline")

    def list_versions(self, given: dict, body: Any, pipeline_id: str) -> dict:
        find(self.pipelines, "pipeline_id", pipeline_id)
        found = [one for one in self.versions if one["pipeline_id"] == pipeline_id]
        return self.listed("pipeline_versions", found, given, "V2beta1ListPipelineVersionsResponse")

    def upload_version(self, given: dict, body: bytes) -> dict:
        find(self.pipelines, "pipeline_id", given["pipelineid"])
        name = given["name"]
        if len(name) > 127:
            raise Refusal(400, "PipelineVersion.Name length cannot exceed 127")
        same = [one for one in self.versions if one["pipeline_id"] == given["pipelineid"]]
        if any(one["display_name"] == name for one in same):
            raise Refusal(409, "Failed to create a pipeline version")
        made = {
            "pipeline_id": given["pipelineid"],
            "pipeline_version_id": self.new_id("v"),
            "name": name,
            "display_name": name,
            "description": given.get("description", ""),
            "pipeline_spec": spec_of(body),
        }
        return keep(self.versions, made, "V2beta1PipelineVersion")

    def create_run(self, given: dict, body: Any) -> dict:
        parse(body, "V2beta1Run")
        self.check_started(body)
        return keep(self.runs, {**body, "run_id": self.new_id("run")}, "V2beta1Run")

    def list_runs(self, given: dict, body: Any) -> dict:
        found = find(self.experiments, "experiment_id", given["experiment_id"])
        runs = [one for one in self.runs if one["experiment_id"] == found["experiment_id"]]
        if given.get("sort_by") == "created_at desc":
            runs = sorted(runs, key=lambda one: one.get("created_at", ""), reverse=True)
        return self.listed("runs", runs, given, "V2beta1ListRunsResponse")

    def create_schedule(self, given: dict, body: Any) -> dict:
        parse(body, "V2beta1RecurringRun")
        for name, model in (("trigger", "V2beta1Trigger"), ("runtime_config", "V2beta1RuntimeConfig")):
            parse(body.get(name, {}), model)
        parse(body["trigger"]["cron_schedule"], "V2beta1CronSchedule")
        check_schedule(body["trigger"]["cron_schedule"]["cron"])
        self.check_started(body)
        made = {**body, "recurring_run_id": self.new_id("recurring"), "status": "ENABLED"}
        return keep(self.recurring, made, "V2beta1RecurringRun")

    def list_schedules(self, given: dict, body: Any) -> dict:
        found = find(self.experiments, "experiment_id", given["experiment_id"])
        schedules = [one for one in self.recurring if one["experiment_id"] == found["experiment_id"]]
        return self.listed("recurringRuns", schedules, given, "V2beta1ListRecurringRunsResponse")

    def delete_schedule(self, given: dict, body: Any, identifier: str) -> dict:
        self.recurring.remove(find(self.recurring, "recurring_run_id", identifier))
        self.deleted.append((identifier, given.get("propagation_policy")))
        return {}

    def healthz(self, given: dict, body: Any) -> dict:
        return {"multi_user": self.namespaces is not None}

    # What the calls share.

    def space(self, namespace: str | None) -> str:
        """The namespace of a call; a server of one user takes none, whatever is said."""
        if self.namespaces is None:
            return ""
        if not namespace:
            raise Refusal(400, "Invalid input error: Namespace cannot be empty in multi-user mode")
        if namespace not in self.namespaces:
            raise Refusal(403, f"User is not authorized with reason: namespace {namespace}")
        return namespace

    def only_one(self, kept: list[dict], name: str, space: str) -> None:
        if any(one["display_name"] == name and one["namespace"] == space for one in kept):
            raise Refusal(409, f"Already exist error: the name {name} already exists")

    def check_started(self, body: dict) -> None:
        """A run or a schedule: has a name, an experiment, and a version that is there."""
        if not body.get("display_name"):
            raise Refusal(400, "The run name is empty. Please specify a valid name")
        find(self.experiments, "experiment_id", body["experiment_id"])
        reference = body["pipeline_version_reference"]
        parse(reference, "V2beta1PipelineVersionReference")
        version = find(self.versions, "pipeline_version_id", reference["pipeline_version_id"])
        if version["pipeline_id"] != reference["pipeline_id"]:
            raise Refusal(400, "the version is of another pipeline")

    def listed(self, field: str, found: list[dict], given: dict, model: str) -> dict:
        """One page of `found`, after the filter of the call."""
        for predicate in json.loads(given.get("filter", "{}")).get("predicates", []):
            assert predicate["operation"] == "EQUALS", predicate
            found = [one for one in found if one.get(predicate["key"]) == predicate["stringValue"]]
        first = int(given.get("page_token") or 0)
        size = min(int(given.get("page_size") or 20), self.pages_of)
        answer: dict[str, Any] = {field: found[first : first + size], "total_size": len(found)}
        if first + size < len(found):
            answer["next_page_token"] = str(first + size)
        parse(answer, model)
        return answer


ROUTES = (
    ("GET", "/healthz", StandIn.healthz),
    ("GET", "/experiments", StandIn.list_experiments),
    ("POST", "/experiments", StandIn.create_experiment),
    ("GET", "/pipelines/names/([^/]+)", StandIn.get_pipeline_by_name),
    ("POST", "/pipelines", StandIn.create_pipeline),
    ("GET", "/pipelines/([^/]+)/versions", StandIn.list_versions),
    ("POST", "/pipelines/upload_version", StandIn.upload_version),
    ("POST", "/runs", StandIn.create_run),
    ("GET", "/runs", StandIn.list_runs),
    ("POST", "/recurringruns", StandIn.create_schedule),
    ("GET", "/recurringruns", StandIn.list_schedules),
    ("DELETE", "/recurringruns/([^/]+)", StandIn.delete_schedule),
)


def parse(body: dict, model: str) -> Any:
    """The body as kfp-server-api's own model; raises where a field is unknown or of a wrong kind."""
    parsed = kfp_server_api.ApiClient().deserialize(SimpleNamespace(data=json.dumps(body)), model)
    unknown = set(body) - set(parsed.attribute_map.values())
    if unknown:
        raise Refusal(400, f"{model} has no field {sorted(unknown)}")
    return parsed


def keep(kept: list[dict], made: dict, model: str) -> dict:
    parse(made, model)
    made.setdefault("created_at", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1.8e9 + len(kept))))
    kept.append(made)
    return made


def find(kept: list[dict], key: str, value: str, space: str | None = None) -> dict:
    for one in kept:
        if one[key] == value and space in (None, one.get("namespace")):
            return one
    raise Refusal(404, f"ResourceNotFound: {key} {value} not found")


def spec_of(body: bytes) -> dict:
    """The pipeline of an uploaded file, checked with kfp's own protobuf, platform spec included."""
    head, _, rest = body.partition(b"\r\n\r\n")
    assert b'name="uploadfile"' in head, head
    spec, *platform = yaml.load_all(rest[: rest.rindex(b"\r\n--")], LOADER)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    for one in platform:
        json_format.ParseDict(one, pipeline_spec_pb2.PlatformSpec())
    return {"pipeline_spec": spec, **({"platform_spec": platform[0]} if platform else {})}


def check_schedule(text: str) -> None:
    """Raise unless a schedule has the six fields, seconds first, that Kubeflow Pipelines wants."""
    fields = text.split(" ")
    if len(fields) != 6 or not all(
        field and set(field) <= set("0123456789*?/,-ABCDEFGHIJKLMNOPQRSTUVWXYZ") for field in fields
    ):
        raise Refusal(400, f"cron {text!r}: expected 6 fields")


@contextmanager
def kfp_stand_in(certificate: Path | None = None) -> Iterator[StandIn]:
    """Serve on a free loopback port until the block ends; over TLS where a file of key and certificate is
    given.
    """
    state = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            return None

        def answer(self, status: int, data: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def handle_call(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            address = urlsplit(self.path)
            state.requests.append((self.command, address.path))
            state.authorisations.append(self.headers.get("Authorization"))
            time.sleep(state.delay_s)
            if state.page == "login":
                self.answer(200, LOGIN, "text/html; charset=utf-8")
                return
            for begin, (status, page) in state.refuse.items():
                if f"{self.command} {address.path}".startswith(begin):
                    if page is not None:
                        self.answer(status, page, "text/html")
                    else:
                        self.refuse(status, "as the test wants it")
                    return
            self.answer_call(address, body)

        def answer_call(self, address: Any, body: bytes) -> None:
            if state.token and self.headers.get("Authorization") != f"Bearer {state.token}":
                self.refuse(401, "Request header error: there is no user identity header.")
                return
            if state.cookie and self.headers.get("Cookie") != state.cookie:
                self.refuse(401, "Request header error: there is no user identity header.")
                return
            given = {name: values[-1] for name, values in parse_qs(address.query).items()}
            for method, pattern, act in ROUTES:
                found = re.fullmatch(ROOT + pattern, unquote(address.path))
                if found and method == self.command:
                    upload = "multipart" in (self.headers.get("Content-Type") or "")
                    try:
                        read = body if upload else json.loads(body or b"{}")
                        self.answer(200, json.dumps(act(state, given, read, *found.groups())).encode())
                    except Refusal as refusal:
                        self.refuse(refusal.status, str(refusal))
                    except (ValueError, KeyError, AssertionError, json_format.ParseError) as error:
                        self.refuse(400, f"{type(error).__name__}: {error}")
                    return
            self.answer(404, b"404 page not found\n", "text/plain; charset=utf-8")

        def refuse(self, status: int, message: str) -> None:
            code = GRPC_CODES.get(status, 2)
            self.answer(status, json.dumps({"code": code, "message": message, "details": []}).encode())

        do_GET = do_POST = do_DELETE = handle_call

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.address = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
