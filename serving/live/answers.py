"""Answers: from symbols or given rows to scores, bands and positions, made from one state of the service,
logged, and written as JSON.

Shapes: B rows, E served experts.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydantic_core import to_json

from components.scoring import CrossSection, ExpertOutputs, Model, Scores
from components.scoring.model import cross_section_by_bar
from serving.api.requests import (
    Batch,
    Refusal,
    read_score_arrow,
    read_score_json,
    read_signals,
    require_known,
)
from serving.config import Settings
from serving.live.answer_log import UNKNOWN_TIME_US, Answer, AnswerLog
from serving.live.metrics import Metrics
from serving.live.online import Market, Reads, StoreUnavailable, split
from serving.live.positions import batch_weights, inserted_weights
from serving.live.state_watch import State, Watch, shape_of

_NO_TIME = np.datetime64("NaT", "us")


@dataclass(frozen=True)
class Signals:
    """What an answer says about its symbols; arrays are [B], times int64 microseconds since 1970, `values`
    float32 [B, F + C] in the model's order.
    """

    symbols: Sequence[str]
    timestamps_us: np.ndarray
    known_us: np.ndarray
    values: np.ndarray
    scores: Scores
    position: np.ndarray
    stale: np.ndarray
    behind: np.ndarray
    source: str
    publication: str
    newest_us: int


class Answers:
    """Gives answers.

    Reads of the store and all heavy work run in threads, so that the event loop stays free.
    """

    def __init__(
        self, settings: Settings, watch: Watch, reads: Reads, metrics: Metrics, answer_log: AnswerLog | None
    ):
        self.settings, self.watch, self.reads, self.metrics, self.answer_log = (
            settings,
            watch,
            reads,
            metrics,
            answer_log,
        )
        self._pool = ThreadPoolExecutor(max(settings.threads, 2), thread_name_prefix="compute")

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def read_symbols(self, body: bytes) -> list[str]:
        """The symbols that a /signals body asks for."""
        return read_signals(body, self.settings)

    async def signals(self, symbols: list[str], request_id: str) -> bytes:
        """Answer of /signals: from the online store, or from the last snapshot where the store is slow or
        gone.
        """
        state = _served(self.watch.state)
        market = state.market
        if market is None:
            raise _unavailable(self.reads.problem or self.watch.problem_of_store)
        places = require_known(symbols, market.places)
        found = await self._from_store(state, symbols, places)
        if found is None:
            found = await self._in_thread(
                lambda: self._finished(self._snapshot(market, symbols, places), state, request_id, "signals")
            )
        else:
            found = self._finished(found, state, request_id, "signals")
        return await self._logged(*found)

    async def score(
        self, body: bytes, request_id: str, *, arrow: bool, cross_section: str | None = None
    ) -> bytes:
        """Answer of /score."""
        state = _served(self.watch.state)
        now_us = time.time_ns() // 1000

        def work() -> tuple[bytes, Answer]:
            shape = shape_of(state.champion.model)
            if arrow:
                batch = read_score_arrow(body, cross_section, shape, self.settings, now_us)
            else:
                batch = read_score_json(body, shape, self.settings, now_us, cross_section)
            return self._finished(self._scored(state, batch, now_us), state, request_id, "score")

        return await self._logged(*await self._in_thread(work))

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _from_store(self, state: State, symbols: list[str], places: np.ndarray) -> Signals | None:
        """Signals from what the store holds now, None where it did not answer in time."""
        if state.reader is None or self.reads.problem is not None:
            self.metrics.store_reads.labels("skipped").inc()
            return None
        future = self.reads.submit(lambda: self._read_and_score(state, symbols, places))
        if future is None:
            self.metrics.store_reads.labels("skipped").inc()
            return None
        try:
            found = await asyncio.wait_for(asyncio.wrap_future(future), self.settings.store_timeout_ms / 1000)
        except TimeoutError:
            self.metrics.store_reads.labels("timeout").inc()
            self.reads.give_up(
                f"the online store did not answer within {self.settings.store_timeout_ms:g} ms"
            )
            return None
        except StoreUnavailable as error:
            self.metrics.store_reads.labels("error").inc()
            self.reads.give_up(str(error))
            return None
        self.metrics.store_reads.labels("ok").inc()
        return found

    def _read_and_score(self, state: State, symbols: list[str], places: np.ndarray) -> Signals:
        champion, market, reader = state.champion, state.market, state.reader
        if champion.model.whole_bars:
            return self._of_whole_market(state, symbols, places)
        rows = reader.read(places.tolist(), lookback_bars=champion.model.lookback_bars)
        inputs, context = split(rows.values, reader, champion.model)
        values = np.concatenate([inputs, context], axis=1)
        scores = self._infer(
            champion.model, inputs, context, rows.window, lambda _: market.cross_section, "signals"
        )
        behind = rows.timestamps_us < market.newest_us
        position = market.weights[places].copy()
        # A publication is being written: these rows are newer than the market that was read, and get the
        # weight that they would have in it.
        newer = np.flatnonzero(
            ~_same(values, market.rows.values[places])
            | (rows.timestamps_us != market.rows.timestamps_us[places])
        )
        if len(newer):
            position[newer] = inserted_weights(
                scores.score[newer], scores.uncertainty[newer], places[newer], market, champion.book
            )
        stale = self._stale(rows.timestamps_us)
        position[stale | behind] = 0.0
        newest_us = max(market.newest_us, int(rows.timestamps_us.max()))
        return Signals(
            symbols,
            rows.timestamps_us,
            rows.known_us,
            values,
            scores,
            position,
            stale,
            behind,
            "store",
            market.publication,
            newest_us,
        )

    def _of_whole_market(self, state: State, symbols: list[str], places: np.ndarray) -> Signals:
        """The market's own scores, for a model that looks across symbols: some of a bar's rows, or rows of
        another publication, would get other scores.

        The store is read to see whether it holds these rows still; where a newer publication is being
        written, the answer is the snapshot until the watch has read it whole.
        """
        champion, market, reader = state.champion, state.market, state.reader
        rows = reader.read(places.tolist())
        values = np.concatenate(split(rows.values, reader, champion.model), axis=1)
        same = _same(values, market.rows.values[places]) & (
            rows.timestamps_us == market.rows.timestamps_us[places]
        )
        return self._snapshot(market, symbols, places, source="store" if same.all() else "snapshot")

    def _snapshot(
        self, market: Market, symbols: list[str], places: np.ndarray, *, source: str = "snapshot"
    ) -> Signals:
        rows, behind = market.rows, market.behind[places]
        scores = Scores(**{name: values[places] for name, values in vars(market.scores).items()})
        times = rows.timestamps_us[places]
        stale = self._stale(times)
        position = np.where(stale | behind, 0.0, market.weights[places])
        return Signals(
            symbols,
            times,
            rows.known_us[places],
            rows.values[places],
            scores,
            position,
            stale,
            behind,
            source,
            market.publication,
            market.newest_us,
        )

    def _scored(self, state: State, batch: Batch, now_us: int) -> Signals:
        champion, market = state.champion, state.market
        inputs, context = (
            batch.values[:, : len(champion.model.columns)],
            batch.values[:, len(champion.model.columns) :],
        )
        newest_us = int(batch.timestamps_us.max())
        if batch.cross_section == "market":
            if market is None:
                raise _unavailable(
                    f"{self.reads.problem or self.watch.problem_of_store}; a batch that is a whole bar can be"
                    " scored with cross_section batch"
                )
            scores = self._infer(
                champion.model, inputs, context, batch.window, lambda _: market.cross_section, "score"
            )
            places = np.array([market.places.get(symbol, -1) for symbol in batch.symbols], dtype=np.int64)
            position = inserted_weights(scores.score, scores.uncertainty, places, market, champion.book)
            behind = batch.timestamps_us < market.newest_us
        else:
            bar = np.unique(batch.timestamps_us, return_inverse=True)[1]
            scores = self._infer(
                champion.model,
                inputs,
                context,
                batch.window,
                lambda outputs: cross_section_by_bar(outputs, bar),
                "score",
                bar,
            )
            position = batch_weights(scores.score, scores.uncertainty, bar, champion.book)
            behind = batch.timestamps_us < newest_us
        stale = self._stale(batch.timestamps_us, now_us)
        position = np.where(stale, 0.0, position)
        known = np.full(len(position), UNKNOWN_TIME_US, dtype=np.int64)
        publication = market.publication if market is not None and batch.cross_section == "market" else ""
        return Signals(
            batch.symbols,
            batch.timestamps_us,
            known,
            batch.values,
            scores,
            position,
            stale,
            behind,
            "request",
            publication,
            newest_us,
        )

    def _infer(
        self,
        model: Model,
        inputs: np.ndarray,
        context: np.ndarray,
        window: np.ndarray | None,
        moments: Callable[[ExpertOutputs], CrossSection],
        endpoint: str,
        bar: np.ndarray | None = None,
    ) -> Scores:
        started = time.perf_counter()
        outputs = model.expert_outputs(inputs, context, window, bar)
        scores = model.combine(outputs, context, moments(outputs))
        self.metrics.infer_ms.labels(endpoint).observe((time.perf_counter() - started) * 1000)
        return scores

    def _stale(self, timestamps_us: np.ndarray, now_us: int | None = None) -> np.ndarray:
        limit = self.settings.max_feature_age_hours
        if limit is None:
            return np.zeros(len(timestamps_us), dtype=bool)
        return timestamps_us < (now_us or time.time_ns() // 1000) - limit * 3.6e9

    def _finished(
        self, signals: Signals, state: State, request_id: str, endpoint: str
    ) -> tuple[bytes, Answer | None]:
        """The answer's bytes and its entry in the answer log."""
        answered_us = time.time_ns() // 1000
        champion, scores = state.champion, signals.scores
        body = {
            "request_id": request_id,
            "answered_at": datetime.fromtimestamp(answered_us / 1e6, UTC).isoformat(timespec="microseconds"),
            "model": champion.stamp,
            "features": {
                "publication": signals.publication,
                "newest": _iso(signals.newest_us),
                "source": signals.source,
            },
            "period": champion.model.period,
            "horizon_bars": champion.model.horizon,
            "target": champion.model.target,
            "signals": _entries(signals),
        }
        if self.answer_log is None:
            return to_json(body, inf_nan_mode="null"), None
        outputs = np.column_stack(
            [scores.score, scores.uncertainty, scores.p10, scores.p50, scores.p90, signals.position]
        )
        answer = Answer(
            request_id=request_id,
            endpoint=endpoint,
            answered_at_us=answered_us,
            model_version=champion.about["version"],
            bundle_sha256=champion.model.sha256,
            publication=signals.publication,
            symbols=signals.symbols,
            timestamps_us=signals.timestamps_us,
            known_times_us=signals.known_us,
            stale=signals.stale,
            outputs=outputs,
            columns=(*champion.model.columns, *champion.model.context),
            features=signals.values,
        )
        return to_json(body, inf_nan_mode="null"), answer

    async def _logged(self, body: bytes, answer: Answer | None) -> bytes:
        """Hand the answer to the log and wait a little for it, unless the log is behind already."""
        if answer is None:
            return body
        written = self.answer_log.append(answer)
        if written is None or written.done() or not self.settings.log_wait_ms:
            return body
        if self.answer_log.behind:
            self.metrics.log_late.inc()
            return body
        done, _ = await asyncio.wait({asyncio.wrap_future(written)}, timeout=self.settings.log_wait_ms / 1000)
        if not done:
            self.metrics.log_late.inc()
        return body


def _served(state: State) -> State:
    if state.champion is None:
        raise Refusal(503, "no_champion", "No model is served yet. GET /status says why.", retry_s=5)
    return state


def _unavailable(problem: str) -> Refusal:
    return Refusal(
        503, "store_unavailable", f"The features can't be read: {problem}. GET /status says more.", retry_s=5
    )


def _same(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rows [B] whose float32 values are the same bits, NaN included."""
    return (np.ascontiguousarray(left).view(np.uint32) == np.ascontiguousarray(right).view(np.uint32)).all(
        axis=1
    )


def _entries(signals: Signals) -> list[dict[str, Any]]:
    scores = signals.scores
    known = np.where(signals.known_us == UNKNOWN_TIME_US, _NO_TIME, signals.known_us.astype("datetime64[us]"))
    columns: Mapping[str, Sequence[Any]] = {
        "symbol": signals.symbols,
        "score": scores.score.tolist(),
        "p10": scores.p10.tolist(),
        "p50": scores.p50.tolist(),
        "p90": scores.p90.tolist(),
        "uncertainty": scores.uncertainty.tolist(),
        "position": signals.position.tolist(),
        "feature_time": _texts(signals.timestamps_us.astype("datetime64[us]")),
        "known_time": _texts(known),
        "stale": signals.stale.tolist(),
        "behind": signals.behind.tolist(),
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _texts(moments: np.ndarray) -> list[str | None]:
    """ISO 8601 in UTC; None for no time."""
    texts = np.datetime_as_string(moments, unit="us").tolist()
    return [None if text == "NaT" else f"{text}Z" for text in texts]


def _iso(moment_us: int) -> str:
    return f"{np.datetime_as_string(np.datetime64(moment_us, 'us'), unit='us')}Z"
