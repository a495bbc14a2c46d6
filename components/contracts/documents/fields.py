"""Kinds of fields that several documents have: figures that may be unknown, and moments."""

import math
from datetime import UTC, datetime
from numbers import Real
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

__all__ = ["Figure", "Moment", "Second", "to_second"]


def to_second(moment: datetime) -> str:
    """Such as 2026-03-02T21:30:00Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _known(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return float(value) if math.isfinite(value) else None


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError("lies outside of the calendar in UTC") from error


Figure = Annotated[float | None, BeforeValidator(_known)]
"""A number, also NumPy's; None where it can't be computed, which is how NaN and infinity are kept too."""

Moment = Annotated[datetime, AfterValidator(_in_utc), PlainSerializer(datetime.isoformat, when_used="json")]
"""A moment in UTC, written with its offset: 2024-01-31T00:00:00+00:00; without a zone it is taken for UTC."""

Second = Annotated[datetime, AfterValidator(_in_utc), PlainSerializer(to_second, when_used="json")]
"""When somebody said or did something: 2024-01-31T00:00:00Z."""
