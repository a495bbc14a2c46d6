"""What clients may send, as types: the bodies of /signals and /score as JSON, and the media types."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"
LONGEST_SYMBOL = 64
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
# pydantic gathers every error before it raises: a megabyte of wrong keys would hold the process for seconds.
_MOST_KEYS = 2000
Symbol = Annotated[
    str, Field(min_length=1, max_length=LONGEST_SYMBOL, description="symbol as the feature store writes it")
]
# RFC 3339 as far as it is exact: whole seconds or up to microseconds, and a zone.
MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"
EXAMPLE_MOMENT = "2024-05-31T20:00:00Z"
Moment = Annotated[
    str, Field(pattern=MOMENT, json_schema_extra={"format": "date-time", "examples": [EXAMPLE_MOMENT]})
]
Value = Annotated[
    float,
    Field(
        allow_inf_nan=False,
        ge=-LARGEST_FLOAT32,
        le=LARGEST_FLOAT32,
        json_schema_extra={"format": "float"},
    ),
]
CrossSection = Literal["market", "batch"]
_PRICES = (
    "whether each signal carries `prices`: its score and band as a plain return, and as the price to come"
)


class RequestBody(BaseModel):
    # Unknown fields are kept here and refused by `_refuse_extra`, by the first of them.
    model_config = ConfigDict(extra="allow", strict=True, json_schema_extra={"additionalProperties": False})


def _bounded(given: Any) -> Any:
    if isinstance(given, dict) and len(given) > _MOST_KEYS:
        raise PydanticCustomError(
            "too_many_keys", "holds {count} names, more than any model has", {"count": len(given)}
        )
    return given


class SignalsRequest(RequestBody):
    """Symbols whose newest features are in the online store."""

    symbols: Annotated[list[Symbol], Field(fail_fast=True)] = Field(min_length=1, description="each once")
    prices: bool = Field(False, description=_PRICES)


class ScoreRow(RequestBody):
    """One row of given features."""

    symbol: Symbol
    timestamp: Moment = Field(
        description="close of the bar that the features belong to, ISO 8601 with a zone; not in the future"
    )
    features: Annotated[dict[str, Value | None], BeforeValidator(_bounded)] = Field(
        description=(
            "every input and context column of the model (GET /model names them), as the feature store gives"
            " them; null: unknown"
        )
    )
    window: (
        Annotated[list[Annotated[list[Value | None], Field(fail_fast=True)]], Field(fail_fast=True)] | None
    ) = Field(
        None,
        description=(
            "inputs of the model's last `lookback_bars` bars, oldest first, the newest bar last; only for"
            " models that need it (GET /model: needs_window)"
        ),
    )


class ScoreRequest(RequestBody):
    """Rows of given features."""

    cross_section: CrossSection = Field(
        "market",
        description=(
            "what a row is compared with. market: all symbols in the online store; batch: the rows of this"
            " request with the same timestamp, which must be that bar's whole universe. A model that needs"
            " whole bars (GET /model: needs_whole_bars) takes batch only"
        ),
    )
    rows: Annotated[list[ScoreRow], Field(fail_fast=True)] = Field(
        min_length=1, description="each (symbol, timestamp) once"
    )
    prices: bool = Field(False, description=_PRICES)
