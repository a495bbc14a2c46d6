"""Reads of the online store in threads of their own, so that a store that hangs never holds up an answer."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from serving.faults import Faults, words


class Reads:
    """Runs reads of the store in threads of their own and gives each only so long: one that is stuck can't
    hold up an answer.

    After a read that failed or took too long the store counts as gone: further requests do not try it until
    `reopen` is called, which the watcher does after a read that went well.
    """

    def __init__(self, threads: int):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._places = threading.BoundedSemaphore(threads)
        self.problem: str | None = "the online store was not read yet"

    def submit(self, work: Callable[[], Any]) -> Future | None:
        """Start `work`; None where every thread is taken by reads that hang."""
        if not self._places.acquire(blocking=False):
            return None
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: self._places.release())
        return future

    def give_up(self, problem: str) -> None:
        """Stop trying the store until `reopen`."""
        self.problem = problem

    def reopen(self) -> None:
        """The store answers again."""
        self.problem = None

    def close(self) -> None:
        """Let go of the threads; reads that hang are left behind."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Probe:
    """Tries the store, one read at a time: a good one opens the store for requests again, a bad or slow one
    closes it.
    """

    def __init__(self, reads: Reads, faults: Faults, least_wait_s: float):
        self._reads, self._faults, self._least_wait_s = reads, faults, least_wait_s
        self._under_way: Future | None = None

    def read(self, work: Callable[[], Any], *, wait_s: float = 0.0) -> Any:
        """What `work` reads; None where an earlier read still hangs, or this one failed or took longer than
        `wait_s` (at least what a request may wait).
        """
        if self._under_way is not None and not self._under_way.done():
            return None
        self._under_way = self._reads.submit(work)
        if self._under_way is None:
            self._reads.give_up("every thread waits for the online store")
            return None
        longest_s = max(wait_s, self._least_wait_s)
        try:
            found = self._under_way.result(timeout=longest_s)
        except TimeoutError:
            self._reads.give_up(f"the online store did not answer within {longest_s * 1000:.0f} ms")
            return None
        except Exception as error:
            self._reads.give_up(words(error))
            self._faults.say(f"The online store can't be read: {words(error)}", error)
            return None
        if self._reads.problem is not None:
            self._faults.clear()
        self._reads.reopen()
        return found
