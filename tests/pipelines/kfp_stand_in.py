"""A stand-in for the Kubeflow Pipelines API on loopback: answers the calls of a submission and checks each
body with kfp's own models.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import urlsplit

import kfp_server_api
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2


class StandIn:
    """Requests that arrived, and how the server is to behave:

    `token` it wants, `refuse` status for new runs.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.experiments: dict[str, dict] = {}
        self.runs: list[dict] = []
        self.recurring: list[dict] = []
        self.token: str | None = None
        self.refuse: int | None = None
        self.address = ""


def parse(body: dict, model: str):
    """The body as kfp-server-api's own model; raises where a field is unknown or of a wrong kind."""
    parsed = kfp_server_api.ApiClient().deserialize(SimpleNamespace(data=json.dumps(body)), model)
    unknown = set(body) - set(parsed.attribute_map.values())
    if unknown:
        raise ValueError(f"{model} has no field {sorted(unknown)}")
    return parsed


def check_spec(body: dict) -> None:
    """Raise where the pipeline in a body is none."""
    spec = body["pipeline_spec"]
    json_format.ParseDict(spec.get("pipeline_spec", spec), pipeline_spec_pb2.PipelineSpec())


def check_schedule(text: str) -> None:
    """Raise unless a schedule has the six fields, seconds first, that Kubeflow Pipelines wants."""
    fields = text.split(" ")
    if len(fields) != 6 or not all(
        field and set(field) <= set("0123456789*?/,-ABCDEFGHIJKLMNOPQRSTUVWXYZ") for field in fields
    ):
        raise ValueError(f"cron {text!r}: expected 6 fields")


@contextmanager
def kfp_stand_in() -> Iterator[StandIn]:
    """Serve on a free loopback port until the block ends."""
    state = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            return None

        def answer(self, status: int, body: dict) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def allowed(self) -> bool:
            state.requests.append((self.command, urlsplit(self.path).path))
            if (
                state.token
                and self.headers.get("Authorization", self.headers.get("authorization"))
                != f"Bearer {state.token}"
            ):
                self.answer(401, {"error": "token is missing or wrong"})
                return False
            return True

        def do_GET(self):
            if not self.allowed():
                return
            path = urlsplit(self.path).path
            if path == "/apis/v2beta1/healthz":
                self.answer(200, {"multi_user": False})
            elif path == "/apis/v2beta1/experiments":
                self.answer(200, {"experiments": list(state.experiments.values())})
            else:
                self.answer(404, {"error": f"no such thing: {path}"})

        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length))
            if not self.allowed():
                return
            path = urlsplit(self.path).path
            try:
                if path == "/apis/v2beta1/experiments":
                    parse(body, "V2beta1Experiment")
                    made = {
                        "experiment_id": f"e{len(state.experiments) + 1}",
                        "display_name": body["display_name"],
                    }
                    state.experiments[made["experiment_id"]] = made
                    self.answer(200, made)
                elif path == "/apis/v2beta1/runs":
                    if state.refuse:
                        self.answer(state.refuse, {"error": "quota exceeded"})
                        return
                    parse(body, "V2beta1Run")
                    check_spec(body)
                    state.runs.append(body)
                    self.answer(200, {**body, "run_id": f"run-{len(state.runs)}"})
                elif path == "/apis/v2beta1/recurringruns":
                    if state.refuse:
                        self.answer(state.refuse, {"error": "quota exceeded"})
                        return
                    parse(body, "V2beta1RecurringRun")
                    for name, model in (
                        ("trigger", "V2beta1Trigger"),
                        ("runtime_config", "V2beta1RuntimeConfig"),
                    ):
                        if name in body:
                            parse(body[name], model)
                    parse(body["trigger"]["cron_schedule"], "V2beta1CronSchedule")
                    check_schedule(body["trigger"]["cron_schedule"]["cron"])
                    check_spec(body)
                    state.recurring.append(body)
                    self.answer(200, {**body, "recurring_run_id": f"recurring-{len(state.recurring)}"})
                else:
                    self.answer(404, {"error": f"no such thing: {path}"})
            except (ValueError, KeyError, json_format.ParseError) as error:
                self.answer(400, {"error": str(error)})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
