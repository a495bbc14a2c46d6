"""The BentoML service: one class that starts what answers need and stops it again; routes and rules are in
`serving.api.app`.

Started by `alphaloop serve` as `bentoml serve serving.service:SignalService`, with the plan that
ALPHALOOP_SERVING_PLAN names.
"""

import importlib.metadata
import logging
import os
import sys

import bentoml

from components.processes.endings import KILL, die_with_parent
from serving.api.app import make_app
from serving.api.auth import require_safe_binding
from serving.api.front import layers
from serving.api.guard import Guard
from serving.api.wire import drain_first, speak_plain_http
from serving.processes.plan import LAUNCHER_VARIABLE, read_plan

plan = read_plan()
require_safe_binding(plan.serving)
speak_plain_http()
app = make_app(
    plan.review_folder,
    title=f"Alphaloop signals: {plan.name}",
    version=importlib.metadata.version("alphaloop"),
    prefix=plan.serving.prefix,
)
guard = Guard(app, plan.serving)
# Reads of the online store that may be under way at a time.
STORE_THREADS = 8


# BentoML's own time limit lies above ours, so that a client always gets our answer; its access log would cost
# every request its time, and its metrics keep every path that anybody ever asked for.
@bentoml.service(
    name="signals",
    workers=plan.serving.workers,
    traffic={"timeout": plan.serving.request_timeout_ms / 1000 + 5},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
@bentoml.asgi_app(guard, path="/", name="api")
class SignalService:
    """Answers for the champion of the plan's run."""

    def __init__(self) -> None:
        _log_to_standard_error(plan.serving.log_level)
        _end_with_bentoml()
        # Feast imports torch where it finds it; the service has no use for it and would wait a second.
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
        # Prometheus must be imported in the worker, where BentoML has said in which folder its processes
        # meet.
        from serving.live.answer_log import AnswerLog
        from serving.live.answers import Answers
        from serving.live.metrics import make_metrics
        from serving.live.state_keeper import StateKeeper
        from serving.live.store_reads import Reads

        settings = plan.serving
        metrics = make_metrics()
        self.reads = Reads(STORE_THREADS)
        self.answer_log = AnswerLog(plan.serving_folder / "spool", settings) if settings.log_answers else None
        if self.answer_log is not None:
            self.answer_log.start()
        self.keeper = StateKeeper(plan, metrics, self.reads, self.answer_log)
        self.answers = Answers(settings, self.keeper, self.reads, metrics, self.answer_log)
        app.state.keeper, app.state.answers, guard.metrics = self.keeper, self.answers, metrics
        self.keeper.start()
        drain_first(settings.drain_seconds, self.keeper.begin_to_end)

    async def __is_ready__(self) -> bool:
        return self.keeper.ready

    @bentoml.on_shutdown
    def stop(self) -> None:
        """End the threads and hand the last answers to the log."""
        self.keeper.close()
        self.answers.close()
        self.reads.close()
        if self.answer_log is not None:
            self.answer_log.close()


for layer, arguments in layers(plan.serving, guard):
    SignalService.add_asgi_middleware(layer, **arguments)


def _end_with_bentoml() -> None:
    """A worker whose BentoML was killed would go on to hold the port, and nobody would start it again or stop
    it.
    """
    import psutil

    die_with_parent(KILL)
    launcher = os.environ.get(LAUNCHER_VARIABLE)
    # BentoML may have been killed before: then our parent is somebody else's child.
    if launcher and psutil.Process(os.getppid()).ppid() != int(launcher):
        logging.getLogger("alphaloop.serving").error("BentoML ended while this worker started; it ends too")
        os._exit(1)


def _log_to_standard_error(level: str) -> None:
    log = logging.getLogger("alphaloop.serving")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
