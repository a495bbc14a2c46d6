"""Kinds of fields that several documents have: figures that may be unknown, and moments."""

import math
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

__all__ = ["Figure", "Moment"]


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Figure = Annotated[float | None, BeforeValidator(_known)]
"""A number; None where it can't be computed, which is how NaN and infinity are kept too."""

Moment = Annotated[datetime, PlainSerializer(datetime.isoformat, when_used="json")]
"""A moment, written with its offset: 2024-01-31T00:00:00+00:00."""
