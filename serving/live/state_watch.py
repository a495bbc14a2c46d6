"""Watches what is to be served: takes over a new champion or publication as one immutable state, or keeps the
old one and says why.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.contracts import AlphaloopError, file_sha256, read_json
from components.contracts.bundle import MANIFEST
from components.scoring import Model
from serving.api.requests import Shape
from serving.live.answer_log import AnswerLog
from serving.live.metrics import Metrics
from serving.live.online import Book, Market, OnlineReader, Reads, read_market, store_signature
from serving.processes.plan import Plan

log = logging.getLogger("alphaloop.serving")

_RETRY_S = 20.0
_STATUS_AGE_S = 30.0
_FIRST_READ_S = 10.0


class ChampionRefused(AlphaloopError):
    """A bundle that must not be served; what was served before goes on."""


@dataclass(frozen=True)
class Champion:
    """A model that answers: `about` is champion.json, `stamp` what every answer says of the model."""

    about: Mapping[str, Any]
    model: Model
    book: Book
    stamp: Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """All that one answer is made from.

    A request takes it once, so that no answer mixes two models or two publications.

    `reader` and `market` are of one publication. `reader` is None while the store can't be opened or is of
    another schema than the champion; `market` is then the last one that the champion read.
    """

    champion: Champion | None = None
    market: Market | None = None
    reader: OnlineReader | None = None


@dataclass(frozen=True)
class Check:
    """One condition of readiness."""

    name: str
    ok: bool
    reason: str


class Watch:
    """Looks every `poll_seconds` at champion.json, the feature store and the status files; `state` and
    `checks` are what it found last.
    """

    def __init__(
        self,
        plan: Plan,
        metrics: Metrics,
        reads: Reads,
        answer_log: AnswerLog | None = None,
        *,
        now: Callable[[], float] = time.time,
    ):
        self.plan, self.metrics, self.reads, self.answer_log = plan, metrics, reads, answer_log
        self.state = State()
        self.checks: tuple[Check, ...] = (Check("started", False, "the service is starting"),)
        self.refusal: dict[str, Any] | None = None
        self.problem_of_store = "the feature store was not opened yet"
        self._now = now
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._seen_store: tuple | None = None
        self._open_reader: OnlineReader | None = None
        self._tried: tuple | None = None
        self._tried_at = self._opened_at = 0.0
        self._said: set[str] = set()
        self._probe: Any = None
        self._dropped = 0

    @property
    def ready(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def served(self) -> tuple[Shape | None, tuple[str, ...]]:
        """What a request may name now: the columns that the model takes, None without a model, and the
        symbols of the market.
        """
        state = self.state
        return shape_of(state.champion.model) if state.champion else None, (
            state.market.symbols if state.market else ()
        )

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:
                # The watch must outlive whatever a file can hold; the answers go on with the last state.
                log.exception("The watch failed and goes on")
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
            self._open_reader, self.problem_of_store = (
                OnlineReader(self.plan.feature_store, self.plan.store_folder),
                "",
            )
        except Exception as error:
            self._open_reader, self.problem_of_store = None, _words(error)
            self._say_once(f"The feature store can't be opened: {self.problem_of_store}")

    def _look_at_champion(self) -> None:
        """Load, check and warm up the bundle that champion.json names, unless it is served already or was
        refused before.
        """
        about = read_json(self.plan.champion_file)
        if about is None:
            return
        served = self.state.champion
        if served is not None and about == served.about:
            return
        if served is not None and about.get("bundle_sha256") == served.model.sha256:
            self.state = replace(
                self.state, champion=replace(served, about=about, stamp=_stamp(about, served.model))
            )
            return
        attempt = (
            json.dumps(about, sort_keys=True),
            self._open_reader.current["schema"] if self._open_reader else None,
        )
        if attempt == self._tried and time.monotonic() - self._tried_at < _RETRY_S:
            return
        again = attempt == self._tried
        self._tried, self._tried_at = attempt, time.monotonic()
        try:
            self._take_over(about)
        except Exception as error:
            self._refuse(about, _words(error), counted=not again)

    def _take_over(self, about: Mapping[str, Any]) -> None:
        started = time.monotonic()
        folder = Path(str(about.get("folder", "")))
        model = Model.load(folder, threads=self.plan.serving.threads)
        if file_sha256(folder / MANIFEST) != about.get("manifest_sha256"):
            raise ChampionRefused(
                f"{folder / MANIFEST} is not the one that the champion watcher checked (SHA-256 differs). It"
                " fetches the bundle again from the registry."
            )
        if model.sha256 != about.get("bundle_sha256"):
            raise ChampionRefused(
                f"{folder} holds bundle {model.sha256[:12]}, but champion.json names"
                f" {str(about.get('bundle_sha256'))[:12]}. Promote the model again."
            )
        reader = self._open_reader
        if reader is not None:
            require_same_schema(model, reader)
        model.warm_up()
        champion = Champion(dict(about), model, Book.of(model.manifest), _stamp(about, model))
        # Without a store the champion can still score given features of one bar; with one, the market is read
        # before anybody sees the model.
        self.state = self._with_market(State(champion, None, reader))
        self.refusal = None
        self.metrics.swaps.labels("swapped").inc()
        self.metrics.champion_version.set(about["version"])
        log.info(
            "Serving %s version %s, bundle %s (%.1f s)",
            about.get("name"),
            about["version"],
            model.sha256[:12],
            time.monotonic() - started,
        )

    def _refuse(self, about: Mapping[str, Any], reason: str, *, counted: bool) -> None:
        self.refusal = {
            "version": about.get("version"),
            "bundle_sha256": about.get("bundle_sha256"),
            "reason": reason,
            "when": _iso(self._now()),
        }
        if counted:
            self.metrics.swaps.labels("refused").inc()
            kept = self.state.champion
            log.error(
                "Refused version %s: %s %s",
                about.get("version"),
                reason,
                f"Version {kept.about['version']} goes on." if kept else "Nothing is served.",
            )

    def _look_at_market(self) -> None:
        """Read the market again when the publication changed, and try the store where it counts as gone."""
        state, reader = self.state, self._open_reader
        if state.champion is None:
            if reader is not None:
                self._try_store(lambda: reader.read(range(1)))
            return
        if reader is not None and _schema_problem(state.champion.model, reader):
            reader = None
        if reader is None:
            self.state = replace(state, reader=None)
        elif reader is not state.reader:
            self.state = self._with_market(replace(state, reader=reader))
        else:
            self._try_store(lambda: reader.read(range(1)))

    def _with_market(self, state: State) -> State:
        """The state with a market read through its reader; where the store does not answer, without reader
        and with the last market of the same model.
        """
        if state.reader is not None:
            found = self._try_store(
                lambda: read_market(state.reader, state.champion.model, state.champion.book),
                wait_s=_FIRST_READ_S,
            )
            if found is not None:
                return replace(state, market=found)
        return replace(state, reader=None, market=self._market_of(state.champion))

    def _market_of(self, champion: Champion) -> Market | None:
        """The present market if this champion's model made it."""
        served = self.state.champion
        return self.state.market if served is not None and served.model is champion.model else None

    def _try_store(self, work: Callable[[], Any], *, wait_s: float = 0.0) -> Any:
        """Run a read in the store's threads; a good one opens the store for requests again, a bad or slow one
        closes it.
        """
        if self._probe is not None and not self._probe.done():
            return None
        self._probe = self.reads.submit(work)
        if self._probe is None:
            self.reads.give_up("every thread waits for the online store")
            return None
        try:
            found = self._probe.result(timeout=max(wait_s, self.plan.serving.store_timeout_ms / 1000))
        except TimeoutError:
            self.reads.give_up(
                "the online store did not answer within"
                f" {max(wait_s * 1000, self.plan.serving.store_timeout_ms):.0f} ms"
            )
            return None
        except Exception as error:
            self.reads.give_up(_words(error))
            self._say_once(f"The online store can't be read: {_words(error)}")
            return None
        if self.reads.problem is not None:
            self._said.clear()
        self.reads.reopen()
        return found

    def _check(self) -> tuple[Check, ...]:
        state, limit = self.state, self.plan.serving.max_feature_age_hours
        reader = self._open_reader
        refused = f" Last refusal: {self.refusal['reason']}" if self.refusal else ""
        schema = _schema_problem(state.champion.model, reader) if state.champion and reader else None
        store = self.problem_of_store or self.reads.problem
        age = self.feature_age_s()
        hours = age / 3600 if age is not None else None
        fresh = hours is not None and (limit is None or hours <= limit)
        return (
            Check(
                "champion",
                state.champion is not None,
                (
                    f"version {state.champion.about['version']}"
                    if state.champion
                    else f"there is no champion.{refused}"
                ),
            ),
            Check("store", not store, store or "answers"),
            Check("schema", not schema, schema or "model and store agree"),
            Check(
                "features_fresh",
                fresh,
                (
                    "no features were read yet"
                    if hours is None
                    else (
                        f"the newest bar closed {hours:.1f} h ago (limit"
                        f" {'none' if limit is None else f'{limit:g} h'})"
                    )
                ),
            ),
        )

    def feature_age_s(self) -> float | None:
        """Seconds since the close of the newest bar that was read, None before the first read."""
        market = self.state.market
        return self._now() - market.newest_us / 1e6 if market else None

    def _tell(self) -> None:
        """Bring the gauges up to date."""
        metrics, market = self.metrics, self.state.market
        metrics.ready.set(self.ready)
        metrics.champion_version.set(self.state.champion.about["version"] if self.state.champion else 0)
        if market is not None:
            metrics.feature_age_seconds.set(self.feature_age_s())
            metrics.symbols_behind.set(int(market.behind.sum()))
            metrics.snapshot_age_seconds.set(self._now() - market.read_at)
        if self.answer_log is not None:
            dropped = self.answer_log.dropped
            metrics.log_queued.set(self.answer_log.queued)
            metrics.log_dropped.inc(dropped - self._dropped)
            self._dropped = dropped
        writer, watcher = self.status_file("log_writer.json"), self.status_file("champion_watch.json")
        metrics.log_writer_up.set(self.is_recent(writer, "at"))
        metrics.champion_watch_up.set(self.is_recent(watcher, "checked_at"))
        metrics.log_rows_written.set(_number(writer.get("rows_written")))
        shift = writer.get("feature_shift")
        if isinstance(shift, dict):
            metrics.feature_shift_ks.labels("largest").set(_number(shift.get("largest_ks")))
            metrics.feature_shift_ks.labels("mean").set(_number(shift.get("mean_ks")))

    def status_file(self, name: str) -> dict[str, Any]:
        """A status file that another process of the service writes; empty where there is none."""
        return read_json(self.plan.serving_folder / name) or {}

    def is_recent(self, status: Mapping[str, Any], key: str) -> bool:
        """Whether the time under `key` is at most half a minute old."""
        try:
            return self._now() - datetime.fromisoformat(status[key]).timestamp() <= _STATUS_AGE_S
        except (KeyError, TypeError, ValueError):
            return False

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.error("%s", text)


def shape_of(model: Model) -> Shape:
    """What the model needs of a given row."""
    return Shape(model.columns, model.context, model.lookback_bars, model.whole_bars)


def require_same_schema(model: Model, reader: OnlineReader) -> None:
    """Refuse a model whose inputs are not those that are online."""
    problem = _schema_problem(model, reader)
    if problem:
        raise ChampionRefused(problem)


def _schema_problem(model: Model, reader: OnlineReader) -> str | None:
    current = reader.current
    if model.columns != reader.columns or model.schema != current["schema"]:
        return (
            f"The model takes inputs of schema {model.schema}, but schema {current['schema']} is online."
            " Materialise the model's features, or promote a model that fits."
        )
    missing = [name for name in model.context if name not in reader.context]
    if missing:
        return (
            f"The model needs the context column {missing[0]!r}, which is not online. Run `alphaloop"
            " materialise`."
        )
    if model.period != current["period"]:
        return (
            f"The model is for bars of {model.period}, but bars of {current['period']} are online. Promote a"
            " model of that period."
        )
    if model.lookback_bars > current["lookback_bars"]:
        return (
            f"The model looks back {model.lookback_bars} bars, but {current['lookback_bars']} are online. Set"
            f" feature_store.lookback_bars to {model.lookback_bars} or more and run `alphaloop materialise`."
        )
    return None


def _stamp(about: Mapping[str, Any], model: Model) -> dict[str, Any]:
    return {
        "name": about.get("name"),
        "version": about["version"],
        "bundle_sha256": model.sha256,
        "schema": model.schema,
        "code_version": model.manifest.get("code_version", ""),
        "train_window": _train_window(Path(str(about.get("folder", ""))), model),
    }


def _train_window(folder: Path, model: Model) -> str:
    """Days from which the served experts learned, as their manifests say."""
    manifests = [
        read_json(folder / "experts" / expert.name / "manifest.json") or {} for expert in model.experts
    ]
    windows = [
        manifest["train_window"].partition("..") for manifest in manifests if manifest.get("train_window")
    ]
    return (
        f"{min(first for first, _, _ in windows)}..{max(last for _, _, last in windows)}"
        if windows
        else str(model.manifest.get("train_window", ""))
    )


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, AlphaloopError) else f"{type(error).__name__}: {error}"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
