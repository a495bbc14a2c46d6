"""What the audit found: leaks, what was checked, and the error that stops a run."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from typing import Any

from components.contracts import AlphaloopError
from components.contracts.documents.leak_audit import LeakAudit

SHOWN = 8


class AuditError(AlphaloopError):
    """The audit could not be made: a builder is unknown, fails, or returns no table."""


class LeakFound(AlphaloopError):
    """A factor or a label uses what was not known at its timestamp."""


ADVICE = {
    "future_mutation": (
        "values at or before the cut moved when bars after it were changed: use only shifts and windows that"
        " look back"
    ),
    "shuffled_future": (
        "values at or before the cut moved when the bars after it were dealt out in another order: use only"
        " shifts and windows that look back"
    ),
    "truncation": (
        "values at or before the cut differ when history ends there: no full-sample statistic, centred window"
        " or back-fill"
    ),
    "gap_truncation": (
        "values beside a hole in the data are filled from after it: no backward fill and no interpolation"
    ),
    "known_time": (
        "bars that became known later were used before that: mask them, or let the row's known_time be the"
        " latest of its inputs"
    ),
    "whole_history": "the table handed over differs from what its builder makes of the history up to the cut",
    "label_future": (
        "the label moved when bars after its label_end were changed: it looks too far, or its label_end is"
        " too early"
    ),
    "label_truncation": "the label differs, or exists, although history ends before its label_end",
    "label_entry": (
        "the label moved when prices at or before its timestamp were changed: enter at the first price after"
        " the signal"
    ),
    "label_reach": "the label ends later than its horizon plus the entry lag: purging counts on no more",
    "price_level": (
        "values moved when a symbol's whole price history was multiplied by a constant: on adjusted prices"
        " that constant holds splits and dividends to come; use returns, ratios of prices, or traded value"
    ),
    "warm_up": "the declared warm-up is too short: declare more bars, or use windows of fixed length",
    "placebo": (
        "the factor foretells the next return, and no longer when it is delayed by one bar: it holds that"
        " return"
    ),
    "too_good": "the factor ranks like the label: it holds the future, or is a copy of the label",
}


@dataclass(frozen=True)
class Leak:
    """One finding about one column, the worst over all cuts.

    `timestamp` and `symbol` are those of the earliest row that moved, `bars_before_cut` counts from there to
    the cut, and `bars_ahead` is how far the row looks ahead at least. `absolute` is the largest change,
    `relative` the same as a share of the column's median size (null where values only appeared or vanished,
    `appeared_or_vanished` of them).
    """

    check: str
    factor: str
    timestamp: datetime | None = None
    symbol: str | None = None
    cut: datetime | None = None
    bars_before_cut: int | None = None
    bars_ahead: int | None = None
    rows: int = 0
    absolute: float | None = None
    relative: float | None = None
    appeared_or_vanished: int = 0
    detail: str = ""

    def sentence(self) -> str:
        """The leak in one line: what, where, when and how much."""
        parts = [f"{self.factor}: {self.check}"]
        if self.timestamp is not None:
            parts.append(f"first row {self.timestamp:%Y-%m-%d %H:%M} {self.symbol or ''}".rstrip())
        if self.bars_ahead is not None:
            parts.append(
                f"{self.bars_ahead} or more bars ahead"
                + (f" at the cut of {self.cut:%Y-%m-%d %H:%M}" if self.cut else "")
            )
        if self.absolute is not None:
            parts.append(
                f"size {self.absolute:.3g}"
                + (f" ({self.relative:.3g} x its usual size)" if self.relative is not None else "")
            )
        if self.appeared_or_vanished:
            parts.append(f"{self.appeared_or_vanished:,} values appeared or vanished")
        if self.rows:
            parts.append(f"{self.rows:,} rows")
        return ", ".join(parts) + (f". {self.detail}" if self.detail else "")


@dataclass(frozen=True)
class AuditResult:
    """Leaks found and counts of what was looked at; `passed` only where there are none.

    `unstable` lists columns that two builds of the same panel make differently: not a leak by itself, but
    leaks smaller than that difference can't be seen. `warm_up` and `placebo` hold a dict a factor, for the
    reader.
    """

    leaks: Sequence[Leak] = ()
    checked: dict[str, Any] = field(default_factory=dict)
    unstable: Sequence[dict] = ()
    warm_up: Sequence[dict] = ()
    placebo: Sequence[dict] = ()

    @property
    def passed(self) -> bool:
        return not self.leaks

    def to_json(self) -> str:
        """`{"passed", "leaks", "unstable", "warm_up", "placebo", "checked"}`; moments as ISO 8601.

        A leak's `size` is its largest change, null where values only came or went.
        """
        leaks = [{**asdict(leak), "size": leak.absolute} for leak in self.leaks]
        said = {
            "passed": self.passed,
            "leaks": leaks,
            "unstable": self.unstable,
            "warm_up": self.warm_up,
            "placebo": self.placebo,
            "checked": self.checked,
        }
        return json.dumps(said, indent=1, default=_encode, allow_nan=False)

    def write_json(self, path: str | os.PathLike) -> None:
        """Write the document that other stages read."""
        LeakAudit.model_validate_json(self.to_json()).write(path)

    def raise_if_leaking(self, page: str | os.PathLike = "") -> None:
        """Raise LeakFound, naming each leaking column, its check, time and size, where there is a leak."""
        if self.passed:
            return
        by_factor: dict[str, list[Leak]] = {}
        for leak in self.leaks:
            by_factor.setdefault(leak.factor, []).append(leak)
        lines = [_line(leaks) for leaks in list(by_factor.values())[:SHOWN]]
        if len(by_factor) > SHOWN:
            lines.append(f"- and {len(by_factor) - SHOWN} more columns")
        checks = dict.fromkeys(leak.check for leak in self.leaks)
        advice = [f"{check}: {ADVICE[check]}." for check in checks if check in ADVICE]
        where = f" The whole list is in {page}." if page else ""
        shown = "\n".join([*lines, *advice])
        count = f"{len(by_factor)} column{'s' if len(by_factor) > 1 else ''}"
        raise LeakFound(
            f"The leak audit stopped the run: {count} failed.\n{shown}\nMend or remove what is named above,"
            f" then run again.{where}"
        )


def _line(leaks: Sequence[Leak]) -> str:
    """One column's leaks in one line: the first with its numbers, the other checks by name."""
    others = ", ".join(leak.check for leak in leaks[1:])
    return f"- {leaks[0].sentence()}" + (f" (also {others})" if others else "")


def merge_leaks(leaks: Iterable[Leak]) -> list[Leak]:
    """One leak a (check, factor): the row that looks furthest ahead, the largest change, all rows together; a
    factor's leaks stand together.
    """
    merged: dict[tuple[str, str], Leak] = {}
    for leak in leaks:
        key = (leak.check, leak.factor)
        merged[key] = _worse(merged[key], leak) if key in merged else leak
    factors = list(dict.fromkeys(leak.factor for leak in merged.values()))
    checks = list(ADVICE)
    return sorted(
        merged.values(),
        key=lambda leak: (
            factors.index(leak.factor),
            checks.index(leak.check) if leak.check in checks else len(checks),
        ),
    )


def _worse(one: Leak, other: Leak) -> Leak:
    base = other if (other.bars_ahead or 0) > (one.bars_ahead or 0) else one
    return replace(
        base,
        rows=one.rows + other.rows,
        absolute=_largest(one.absolute, other.absolute),
        relative=_largest(one.relative, other.relative),
        appeared_or_vanished=one.appeared_or_vanished + other.appeared_or_vanished,
    )


def _largest(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _encode(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in an audit")
