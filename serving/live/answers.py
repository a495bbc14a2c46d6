"""Answers: from a request to its bytes, logged. Reads of the store and all heavy work run in threads."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.api.arrow_body import read_score_arrow
from serving.api.json_body import read_score_json, read_signals, require_known
from serving.api.refusal import Refusal
from serving.api.request_types import SignalsRequest
from serving.config import Settings
from serving.live.answer_body import answer_body, log_entry
from serving.live.answer_log import LOG_WAIT_MS, AnswerLog
from serving.live.metrics import Metrics
from serving.live.online import StoreUnavailable
from serving.live.segments import Answer
from serving.live.signals import Scorer, Signals
from serving.live.state import State, shape_of
from serving.live.state_keeper import StateKeeper
from serving.live.store_reads import Reads


@dataclass(frozen=True)
class _About:
    """A request beside what it asks to be scored."""

    request_id: str
    endpoint: str
    prices: bool


class Answers:
    """Gives answers."""

    def __init__(
        self,
        settings: Settings,
        keeper: StateKeeper,
        reads: Reads,
        metrics: Metrics,
        answer_log: AnswerLog | None,
    ):
        self.settings, self.keeper, self.reads = settings, keeper, reads
        self.metrics, self.answer_log = metrics, answer_log
        self._scorer = Scorer(settings, metrics)
        self._pool = ThreadPoolExecutor(max(settings.threads, 2), thread_name_prefix="compute")

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def read_signals(self, body: bytes) -> SignalsRequest:
        """What a /signals body asks for."""
        return read_signals(body, self.settings)

    async def signals(self, asked: SignalsRequest, request_id: str) -> bytes:
        """Answer of /signals: from the online store, or from the last snapshot where the store is slow or
        gone.
        """
        state = _with_model(self.keeper.state)
        market = state.market
        if market is None:
            raise self._unavailable()
        symbols = asked.symbols
        places = require_known(symbols, market.places)
        found = await self._from_store(state, symbols, places)
        about = _About(request_id, "signals", asked.prices)
        if found is None:
            finished = await self._in_thread(
                lambda: self._finished(self._scorer.snapshot(market, symbols, places), state, about)
            )
        else:
            finished = self._finished(found, state, about)
        return await self._logged(*finished)

    async def score(
        self,
        body: bytes,
        request_id: str,
        *,
        arrow: bool,
        cross_section: str | None = None,
        prices: str | None = None,
    ) -> bytes:
        """Answer of /score."""
        state = _with_model(self.keeper.state)
        now_us = time.time_ns() // 1000

        def work() -> tuple[bytes, Answer | None]:
            shape = shape_of(state.served.model)
            if arrow:
                rows = read_score_arrow(body, cross_section, shape, self.settings, now_us, prices)
            else:
                rows = read_score_json(body, shape, self.settings, now_us, cross_section, prices)
            if rows.cross_section == "market" and state.market is None:
                raise self._unavailable(
                    "; a batch that is a whole bar can be scored with cross_section batch"
                )
            found = self._scorer.given(state, rows, now_us)
            return self._finished(found, state, _About(request_id, "score", rows.prices))

        return await self._logged(*await self._in_thread(work))

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _from_store(self, state: State, symbols: list[str], places: np.ndarray) -> Signals | None:
        """Signals from what the store holds now, None where it did not answer in time."""
        if state.reader is None or self.reads.problem is not None:
            self.metrics.store_reads.labels("skipped").inc()
            return None
        future = self.reads.submit(lambda: self._scorer.stored(state, symbols, places))
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

    def _finished(self, signals: Signals, state: State, about: "_About") -> tuple[bytes, Answer | None]:
        """The answer's bytes and its entry in the answer log."""
        answered_us = time.time_ns() // 1000
        body = answer_body(signals, state.served, about.request_id, answered_us, prices=about.prices)
        if self.answer_log is None:
            return body, None
        return body, log_entry(signals, state.served, about.request_id, answered_us, endpoint=about.endpoint)

    async def _logged(self, body: bytes, answer: Answer | None) -> bytes:
        """Hand the answer to the log and wait a little for it, unless the log is behind already."""
        if answer is None:
            return body
        written = self.answer_log.append(answer)
        if written is None or written.done():
            return body
        if self.answer_log.behind:
            self.metrics.log_late.inc()
            return body
        done, _ = await asyncio.wait({asyncio.wrap_future(written)}, timeout=LOG_WAIT_MS / 1000)
        if not done:
            self.metrics.log_late.inc()
        return body

    def _unavailable(self, advice: str = "") -> Refusal:
        problem = self.reads.problem or self.keeper.problem_of_store
        return Refusal(
            503,
            "store_unavailable",
            f"The features can't be read: {problem}{advice}. GET /status says more.",
            retry_s=5,
        )


def _with_model(state: State) -> State:
    if state.served is None:
        raise Refusal(503, "no_champion", "No model is served yet. GET /status says why.", retry_s=5)
    return state
