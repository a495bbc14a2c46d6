"""What an exception leaves behind: words for a status, one line in a log where it was to be expected, and its
trace where it was not.
"""

import logging
import traceback
from collections.abc import Callable

from components.contracts import AlphaloopError

# Texts that one log remembers; beyond them it begins anew, so that changing texts never fill the memory.
_MOST_TEXTS = 100


def words(error: BaseException) -> str:
    """The exception for a status: our own say all themselves, others get their kind."""
    return str(error) if isinstance(error, AlphaloopError) else f"{type(error).__name__}: {error}"


def trace(error: BaseException) -> str:
    """The exception's trace, as Python prints it."""
    return "".join(traceback.format_exception(error)).rstrip()


class Faults:
    """Logs each fault once, until it is told that all is well again.

    Parameters
    ----------
    log : takes one text at a time, of several lines where there is a trace
    expected : kinds of exceptions that say enough with one line
    """

    def __init__(
        self, log: Callable[[str], None], expected: tuple[type[BaseException], ...] = (AlphaloopError,)
    ):
        self._log, self._expected = log, expected
        self._said: set[str] = set()

    def say(self, text: str, error: BaseException | None = None) -> None:
        """Log the text unless it was said already; with the trace of an `error` that was not expected."""
        if text in self._said:
            return
        if len(self._said) >= _MOST_TEXTS:
            self._said.clear()
        self._said.add(text)
        unexpected = error is not None and not isinstance(error, self._expected)
        self._log(f"{text}\n{trace(error)}" if unexpected else text)

    def clear(self) -> None:
        """All is well: the next fault is said again."""
        self._said.clear()


def logged() -> Callable[[str], None]:
    """A `log` that writes errors into the service's own log."""
    log = logging.getLogger("alphaloop.serving")
    return lambda text: log.error("%s", text)
