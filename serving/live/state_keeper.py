"""Keeps the state that answers are made from: takes over a new champion or publication as a whole, or keeps
the old one and says why.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from components.contracts import AlphaloopError, file_sha256
from components.contracts.bundle import MANIFEST
from components.scoring import Model
from serving.api.answer_types import CheckAnswer, Refused
from serving.api.given_rows import Shape
from serving.faults import Faults, logged, words
from serving.live.answer_log import AnswerLog
from serving.live.checks import (
    ChampionRefused,
    age_check,
    champion_check,
    ending_check,
    look_check,
    require_same_schema,
    schema_check,
    schema_problem,
    store_check,
)
from serving.live.market_snapshot import MarketSnapshot, read_market
from serving.live.metrics import Metrics
from serving.live.online import OnlineReader, store_signature
from serving.live.reports import Reports
from serving.live.state import ServedModel, State, shape_of
from serving.live.store_reads import Probe, Reads
from serving.processes.documents import ChampionNotice
from serving.processes.plan import ServingPlan

log = logging.getLogger("alphaloop.serving")

_RETRY_S = 20.0
_FIRST_READ_S = 10.0
# What files and stores do now and then; everything else leaves its trace.
_EXPECTED = (AlphaloopError, OSError)


class StateKeeper:
    """Looks every `poll_seconds` at champion.json, the feature store and the reports; `state` and `checks`
    are what it found last.
    """

    def __init__(
        self,
        plan: ServingPlan,
        metrics: Metrics,
        reads: Reads,
        answer_log: AnswerLog | None = None,
        *,
        now: Callable[[], float] = time.time,
    ):
        self.plan, self.metrics, self.reads, self.answer_log = plan, metrics, reads, answer_log
        self.reports = Reports(plan.serving_folder)
        self.state = State()
        self.checks = (CheckAnswer(name="started", ok=False, reason="the service is starting"),)
        self.refusal: Refused | None = None
        self.problem_of_store = "the feature store was not opened yet"
        self._now = now
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="state-keeper", daemon=True)
        self._faults = Faults(logged(), _EXPECTED)
        self._probe = Probe(reads, self._faults, plan.serving.store_timeout_ms / 1000)
        self._seen_store: tuple | None = None
        self._open_reader: OnlineReader | None = None
        self._tried: tuple[bytes, str | None] | None = None
        self._tried_at = self._opened_at = 0.0
        self._dropped = 0
        self._ending = False

    @property
    def ready(self) -> bool:
        """Whether every check holds, and the end has not begun."""
        return not self._ending and all(check.ok for check in self.checks)

    def known_names(self) -> tuple[Shape | None, tuple[str, ...]]:
        """What a request may name now: the columns that the model takes, None without a model, and the
        symbols of the market.
        """
        served, market = self.state.served, self.state.market
        return shape_of(served.model) if served else None, market.symbols if market else ()

    def feature_age_s(self) -> float | None:
        """Seconds since the close of the newest bar that was read, None before the first read."""
        market = self.state.market
        return self._now() - market.newest_us / 1e6 if market else None

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        self._thread.start()

    def begin_to_end(self) -> None:
        """Not ready from now on; what is asked is answered still."""
        self._ending = True
        self.checks = self._check()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:
                # Whatever a file can hold must not end the thread: answers go on with the last state, and a
                # check says, until a look succeeds, that nobody knows whether it is still the right one.
                log.exception("A look at what is to be served failed; the next one follows")
                failed = look_check(error)
                self.checks = (*(check for check in self.checks if check.name != failed.name), failed)
                self.metrics.ready.set(self.ready)
            self._stop.wait(self.plan.serving.poll_seconds)

    def look(self) -> None:
        """Look once at everything."""
        self._look_at_store()
        self._look_at_champion()
        self._look_at_market()
        self.checks = self._check()
        self._tell()

    def _look_at_store(self) -> None:
        """Open the store again when another publication is online or the database was replaced."""
        signature = store_signature(self.plan.feature_store, self.plan.store_folder)
        changed = signature != self._seen_store
        if not changed and (self._open_reader is not None or time.monotonic() - self._opened_at < _RETRY_S):
            return
        self._seen_store, self._opened_at = signature, time.monotonic()
        try:
            self._open_reader = OnlineReader(self.plan.feature_store, self.plan.store_folder)
            self.problem_of_store = ""
        except Exception as error:
            self._open_reader, self.problem_of_store = None, words(error)
            self._faults.say(f"The feature store can't be opened: {self.problem_of_store}", error)

    def _look_at_champion(self) -> None:
        """Load, check and warm up the bundle that champion.json names, unless it is served already or was
        refused before.
        """
        try:
            written = self.plan.champion_file.read_bytes()
        except OSError:
            return
        attempt = (written, self._open_reader.current["schema"] if self._open_reader else None)
        again = attempt == self._tried
        if again and time.monotonic() - self._tried_at < _RETRY_S:
            return
        self._tried, self._tried_at = attempt, time.monotonic()
        notice = None
        try:
            notice = ChampionNotice.read(self.plan.champion_file)
            if not self._serves(notice):
                self._take_over(notice)
        except Exception as error:
            self._refuse(notice, error, counted=not again)

    def _serves(self, notice: ChampionNotice) -> bool:
        """Whether this bundle answers already; under a new version it is renamed without being loaded."""
        served = self.state.served
        if served is None or (notice != served.notice and notice.bundle_sha256 != served.model.sha256):
            return False
        if notice != served.notice:
            self.state = replace(self.state, served=ServedModel.of(notice, served.model))
        return True

    def _take_over(self, notice: ChampionNotice) -> None:
        started = time.monotonic()
        folder = Path(notice.folder)
        model = Model.load(folder, threads=self.plan.serving.threads)
        if file_sha256(folder / MANIFEST) != notice.manifest_sha256:
            raise ChampionRefused(
                f"{folder / MANIFEST} is not the one that the champion watcher checked (SHA-256 differs). It"
                " fetches the bundle again from the registry."
            )
        if model.sha256 != notice.bundle_sha256:
            raise ChampionRefused(
                f"{folder} holds bundle {model.sha256[:12]}, but champion.json names"
                f" {notice.bundle_sha256[:12]}. Promote the model again."
            )
        reader = self._open_reader
        if reader is not None:
            require_same_schema(model, reader)
        model.warm_up()
        # Without a store the champion can still score given features of one bar; with one, the market is read
        # before anybody sees the model.
        self.state = self._with_market(State(ServedModel.of(notice, model), None, reader))
        self.refusal = None
        self.metrics.swaps.labels("swapped").inc()
        self.metrics.champion_version.set(notice.version)
        log.info(
            "Serving %s version %s, bundle %s (%.1f s)",
            notice.name,
            notice.version,
            model.sha256[:12],
            time.monotonic() - started,
        )

    def _refuse(self, notice: ChampionNotice | None, error: Exception, *, counted: bool) -> None:
        version = notice.version if notice else None
        self.refusal = Refused(
            version=version,
            bundle_sha256=notice.bundle_sha256 if notice else None,
            reason=words(error),
            when=datetime.fromtimestamp(self._now(), UTC).replace(microsecond=0),
        )
        if not counted:
            return
        self.metrics.swaps.labels("refused").inc()
        kept = self.state.served
        goes_on = f"Version {kept.notice.version} goes on." if kept else "Nothing is served."
        unexpected = None if isinstance(error, _EXPECTED) else error
        log.error("Refused version %s: %s %s", version, words(error), goes_on, exc_info=unexpected)

    def _look_at_market(self) -> None:
        """Read the market again when the publication changed, and try the store where it counts as gone."""
        state, reader = self.state, self._open_reader
        if state.served is None:
            if reader is not None:
                self._probe.read(lambda: reader.read(range(1)))
            return
        if reader is not None and schema_problem(state.served.model, reader):
            reader = None
        if reader is None:
            self.state = replace(state, reader=None)
        elif reader is not state.reader:
            self.state = self._with_market(replace(state, reader=reader))
        else:
            self._probe.read(lambda: reader.read(range(1)))

    def _with_market(self, state: State) -> State:
        """The state with a market read through its reader; where the store does not answer, without reader
        and with the last market of the same model.
        """
        served, reader = state.served, state.reader
        if reader is not None:
            found = self._probe.read(
                lambda: read_market(reader, served.model, served.book), wait_s=_FIRST_READ_S
            )
            if found is not None:
                return replace(state, market=found)
        return replace(state, reader=None, market=self._market_of(served))

    def _market_of(self, served: ServedModel) -> MarketSnapshot | None:
        """The present market if this model made it."""
        present = self.state.served
        return self.state.market if present is not None and present.model is served.model else None

    def _check(self) -> tuple[CheckAnswer, ...]:
        return (
            champion_check(self.state, self.refusal),
            store_check(self.problem_of_store or self.reads.problem),
            schema_check(self.state, self._open_reader),
            age_check(self.feature_age_s(), self.plan.serving.max_feature_age_hours),
            *([ending_check()] if self._ending else []),
        )

    def _tell(self) -> None:
        """Bring the gauges up to date."""
        metrics, served, market = self.metrics, self.state.served, self.state.market
        metrics.ready.set(self.ready)
        metrics.champion_version.set(served.notice.version if served else 0)
        if market is not None:
            metrics.feature_age_seconds.set(self.feature_age_s())
            metrics.symbols_behind.set(int(market.behind.sum()))
            metrics.snapshot_age_seconds.set(time.monotonic() - market.read_at)
        if self.answer_log is not None:
            dropped = self.answer_log.dropped
            metrics.log_queued.set(self.answer_log.queued)
            metrics.log_dropped.inc(dropped - self._dropped)
            self._dropped = dropped
        self._tell_reports()

    def _tell_reports(self) -> None:
        metrics, reports = self.metrics, self.reports
        writer, _ = reports.writer(), reports.follower()
        metrics.log_writer_up.set(reports.writer_lives())
        metrics.champion_watch_up.set(reports.follower_lives())
        metrics.log_rows_written.set(writer.rows_written if writer else 0)
        if writer and writer.feature_shift:
            metrics.feature_shift_ks.labels("largest").set(writer.feature_shift.largest_ks)
            metrics.feature_shift_ks.labels("mean").set(writer.feature_shift.mean_ks)
