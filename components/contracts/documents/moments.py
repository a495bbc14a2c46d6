"""Moments in documents: any ISO time comes in, UTC goes out; one without a zone is taken for UTC."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

__all__ = ["Moment", "Second", "to_second"]

SECOND_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def to_second(moment: datetime) -> str:
    """Such as 2026-03-02T21:30:00Z."""
    return moment.strftime(SECOND_FORMAT)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError("lies outside of the calendar in UTC") from error


# As exact as it is known, with its offset: 2026-03-02T21:30:00.5+00:00.
Moment = Annotated[
    datetime, AfterValidator(_in_utc), PlainSerializer(lambda moment: moment.isoformat(), when_used="json")
]
# When somebody said or did something.
Second = Annotated[datetime, AfterValidator(_in_utc), PlainSerializer(to_second, when_used="json")]
