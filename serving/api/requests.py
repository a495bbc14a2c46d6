"""What clients may send, checked strictly: every refusal is a 4xx with a code of its own that names the
field.

Shapes: B rows, F inputs, C context columns, L bars of a window.
"""

import difflib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from components.contracts import AlphaloopError
from serving.config import Settings

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_SYMBOL = 64
_CLOSEST = 3
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_NESTED = "nested too deeply, or a number is too long"
# pydantic gathers every error before it raises: a megabyte of wrong keys would hold the process for seconds.
_MOST_KEYS = 2000
_SYMBOL_BYTES = 8 * _LONGEST_SYMBOL
# Marks of a row's JSON besides those of its features: symbol and timestamp may hold some too. A body of few
# marks is read in no time.
_SLACK_A_ROW, _FEW_MARKS = 100, 50_000

Symbol = Annotated[
    str, Field(min_length=1, max_length=_LONGEST_SYMBOL, description="symbol as the feature store writes it")
]
Value = Annotated[float, Field(allow_inf_nan=False, ge=-_LARGEST_FLOAT32, le=_LARGEST_FLOAT32)]
CrossSection = Literal["market", "batch"]


class Refusal(AlphaloopError):
    """A request that is not answered as asked:

    `status` and `code` for machines, message and `field` for people.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        **details: Any,
    ):
        super().__init__(message)
        self.status, self.code, self.field, self.retry_s = status, code, field, retry_s
        self.headers, self.details = dict(headers or {}), details

    def body(self, request_id: str) -> dict[str, Any]:
        """The answer's JSON."""
        return {
            "error": {
                "code": self.code,
                "field": self.field,
                "message": str(self),
                "request_id": request_id,
                **self.details,
            }
        }


class _Body(BaseModel):
    # Unknown fields are kept here and refused by `_refuse_extra`, by the first of them.
    model_config = ConfigDict(extra="allow", strict=True, json_schema_extra={"additionalProperties": False})


def _bounded(given: Any) -> Any:
    if isinstance(given, dict) and len(given) > _MOST_KEYS:
        raise PydanticCustomError(
            "too_many_keys", "holds {count} names, more than any model has", {"count": len(given)}
        )
    return given


class SignalsRequest(_Body):
    """Symbols whose newest features are in the online store."""

    symbols: Annotated[list[Symbol], Field(fail_fast=True)] = Field(min_length=1, description="each once")


class ScoreRow(_Body):
    """One row of given features."""

    symbol: Symbol
    timestamp: AwareDatetime = Field(
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


class ScoreRequest(_Body):
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


@dataclass(frozen=True)
class Shape:
    """What the champion needs of a row."""

    columns: tuple[str, ...]
    context: tuple[str, ...]
    lookback_bars: int
    whole_bars: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.columns, *self.context)


@dataclass(frozen=True)
class Batch:
    """Rows to score:

    `symbols` and int64 `timestamps_us` [B], float32 `values` [B, F + C] and `window` [B, L, F] or None.
    """

    symbols: list[str]
    timestamps_us: np.ndarray
    values: np.ndarray
    window: np.ndarray | None
    cross_section: CrossSection


def read_signals(body: bytes, settings: Settings) -> list[str]:
    """The symbols of a /signals body.

    It is read by the event loop, so that its size is bounded by what `max_symbols` can take.
    """
    most = 1024 + _SYMBOL_BYTES * settings.max_symbols
    if len(body) > most:
        raise Refusal(
            413,
            "body_too_large",
            f"{settings.max_symbols:,} symbols fit into {most:,} bytes, but the body has {len(body):,}. Split"
            " the request.",
            field="body",
        )
    request = _validated(SignalsRequest, body)
    _refuse_extra(request, "")
    symbols = request.symbols
    if len(symbols) > settings.max_symbols:
        raise Refusal(
            413,
            "oversized_batch",
            f"{len(symbols):,} symbols are more than the {settings.max_symbols:,} that one request may ask"
            " for. Split them.",
            field="symbols",
        )
    _once(symbols, "symbols", lambda place: f"symbols[{place}]")
    return symbols


def require_known(symbols: Sequence[str], known: Mapping[str, int]) -> np.ndarray:
    """Places of the symbols in the market, int64 [B]; a Refusal names the first unknown one and the closest
    names.
    """
    places = [known.get(symbol, -1) for symbol in symbols]
    if -1 not in places:
        return np.array(places, dtype=np.int64)
    place = places.index(-1)
    unknown = symbols[place]
    upper = {name.upper(): name for name in known}
    closest = [
        upper[name] for name in difflib.get_close_matches(unknown.upper(), upper, n=_CLOSEST, cutoff=0.5)
    ]
    advice = (
        f"Closest: {', '.join(closest)}."
        if closest
        else f"It starts with {', '.join(sorted(known)[:_CLOSEST])}."
    )
    raise Refusal(
        422,
        "unknown_symbol",
        f"{unknown!r} is not in the feature store ({len(known)} symbols; {places.count(-1)} of the request"
        f" are unknown). {advice}",
        field=f"symbols[{place}]",
        closest=closest,
    )


def read_score_json(
    body: bytes, shape: Shape, settings: Settings, now_us: int, cross_section: str | None = None
) -> Batch:
    """The rows of a /score body in JSON; `cross_section` is what the address says of it, if anything."""
    _require_cross_section(cross_section)
    _require_plausible(body, shape, settings)
    request = _validated(ScoreRequest, body)
    rows = request.rows
    _require_size(len(rows), settings)
    _refuse_extra(request, "")
    for place, row in enumerate(rows):
        _refuse_extra(row, f"rows[{place}].")
    # A getter of one name would give a bare value, hence a name twice.
    pick = itemgetter(*shape.names, shape.names[0])
    try:
        picked = [pick(row.features) for row in rows]
    except KeyError:
        picked = []
    if not picked or any(len(row.features) != len(shape.names) for row in rows):
        for place, row in enumerate(rows):
            _refuse_columns(row.features, shape, f"rows[{place}].features")
    # NumPy turns None into NaN, which is what an unknown value is.
    values = np.array(picked, dtype=np.float64)[:, :-1].astype(np.float32)
    batch = Batch(
        symbols=[row.symbol for row in rows],
        timestamps_us=_times([row.timestamp for row in rows]),
        values=values,
        window=_windows([row.window for row in rows], shape),
        cross_section=_one_cross_section(request, cross_section),
    )
    return _checked(batch, shape, settings, now_us)


def read_score_arrow(
    body: bytes, cross_section: str | None, shape: Shape, settings: Settings, now_us: int
) -> Batch:
    """The rows of a /score body as an Arrow stream: columns symbol, timestamp, one float a column, and
    `window` (binary) where the model needs it.
    """
    import pyarrow as pa

    _require_cross_section(cross_section)
    try:
        table = _read_stream(body, settings)
    except (pa.ArrowException, struct.error, IndexError, OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(
            400,
            "malformed_arrow",
            "The body is not a whole Arrow IPC stream without compression and dictionaries"
            f" ({type(error).__name__}). Write one with pyarrow.ipc.new_stream.",
        ) from None
    if table.num_rows == 0:
        raise Refusal(422, "empty_batch", "The table has no rows. Send one or more.", field="rows")
    given = set(table.column_names)
    if len(given) != table.num_columns:
        raise Refusal(422, "extra_feature", "A column name occurs twice. Name each once.", field="rows")
    _refuse_columns(given - {"symbol", "timestamp", "window"}, shape, "rows")
    for name in ("symbol", "timestamp"):
        if name not in given:
            raise Refusal(422, "missing_field", f"The table has no column {name!r}. Add it.", field=name)
    batch = Batch(
        symbols=_arrow_symbols(table["symbol"]),
        timestamps_us=_arrow_times(table["timestamp"]),
        values=np.stack([_arrow_floats(table[name], name) for name in shape.names], axis=1),
        window=_arrow_windows(table["window"] if "window" in given else None, table.num_rows, shape),
        cross_section=cross_section or "market",
    )
    return _checked(batch, shape, settings, now_us)


def _require_cross_section(given: str | None) -> None:
    if given not in (None, "market", "batch"):
        raise Refusal(
            422,
            "wrong_value",
            f"cross_section={given[:100]!r} is neither market nor batch.",
            field="cross_section",
        )


def _one_cross_section(request: ScoreRequest, in_address: Any) -> CrossSection:
    if "cross_section" in request.model_fields_set and in_address not in (None, request.cross_section):
        raise Refusal(
            422,
            "wrong_value",
            f"cross_section is {request.cross_section} in the body and {in_address} in the address. Name it"
            " once.",
            field="cross_section",
        )
    return in_address or request.cross_section


def _validated(model: type[BaseModel], body: bytes) -> Any:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _translated(error.errors(include_url=False, include_context=True)[0], body) from None
    except (RecursionError, OverflowError):
        raise Refusal(400, "malformed_json", f"The body is not usable JSON: {_NESTED}.") from None


def _translated(problem: Mapping[str, Any], body: bytes) -> Refusal:
    """A pydantic error in the words of this API."""
    kind, found = problem["type"], problem.get("input")
    field = _field(problem["loc"])
    if kind == "json_invalid":
        return Refusal(
            400,
            "malformed_json",
            (
                f"The body is not valid JSON: {problem['ctx']['error']}."
                if body
                else "The body is empty. Send a JSON object."
            ),
        )
    if kind == "missing":
        return Refusal(422, "missing_field", f"{field} is missing. Add it.", field=field)
    if kind == "too_many_keys":
        return Refusal(
            422, "extra_feature", f"{field} {problem['msg']}. GET /model lists what it takes.", field=field
        )
    if kind == "too_short":
        return Refusal(422, "empty_batch", f"{field} is empty. Give one or more.", field=field)
    if isinstance(found, float) and found != found:
        return Refusal(422, "nan", f"{field} is NaN. Send null for an unknown value.", field=field)
    if kind == "finite_number" or (
        kind in ("less_than_equal", "greater_than_equal") and isinstance(found, int | float)
    ):
        return Refusal(
            422,
            "infinity",
            f"{field} is infinite, or too large for a 32-bit float. Send null for an unknown value.",
            field=field,
        )
    if kind in ("timezone_aware", "timezone_naive"):
        return Refusal(
            422, "wrong_type", f"{field} has no time zone. Write it as 2024-05-31T20:00:00Z.", field=field
        )
    if kind in ("literal_error", "string_too_short", "string_too_long"):
        return Refusal(422, "wrong_value", f"{field}: {problem['msg']}.", field=field)
    return Refusal(
        422, "wrong_type", f"{field}: {problem['msg']} (found {type(found).__name__}).", field=field
    )


def _refuse_extra(part: _Body, where: str) -> None:
    if part.model_extra:
        field = f"{where}{next(iter(part.model_extra))}"[:200]
        raise Refusal(422, "extra_field", f"{field} is not a field of this request. Remove it.", field=field)


def _field(location: Sequence[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text[:200] or "body"


def _require_plausible(body: bytes, shape: Shape, settings: Settings) -> None:
    """Refuse a JSON body with more names and values than the largest request has, before it is parsed: that
    would hold the process for seconds.
    """
    row = 2 * len(shape.names) + _SLACK_A_ROW + shape.lookback_bars * (len(shape.columns) + 2)
    if sum(body.count(mark) for mark in (b",", b":", b"[", b"{")) > max(row * settings.max_rows, _FEW_MARKS):
        raise Refusal(
            413,
            "oversized_batch",
            f"The body holds more than {settings.max_rows:,} rows of this model can. Split it.",
            field="rows",
        )


def _require_size(rows: int, settings: Settings) -> None:
    if rows > settings.max_rows:
        raise Refusal(
            413,
            "oversized_batch",
            f"{rows:,} rows are more than the {settings.max_rows:,} that one request may hold. Split them.",
            field="rows",
        )


def _once(values: Sequence[Any], what: str, name: Any) -> None:
    if len(set(values)) == len(values):
        return
    seen: set[Any] = set()
    for place, value in enumerate(values):
        if value in seen:
            raise Refusal(
                422,
                "duplicate_symbol",
                f"{value!r} occurs twice in {what}. Name each once.",
                field=name(place),
            )
        seen.add(value)


def _refuse_columns(given: Any, shape: Shape, where: str) -> None:
    names = set(shape.names)
    missing = [name for name in shape.names if name not in given]
    if missing:
        raise Refusal(
            422,
            "missing_feature",
            f"{where} lacks {missing[0]!r} ({len(missing)} of {len(names)} are missing). GET /model lists"
            " all; send null for an unknown value.",
            field=f"{where}.{missing[0]}",
        )
    extra = sorted(name for name in given if name not in names)
    if extra:
        raise Refusal(
            422,
            "extra_feature",
            f"{where} holds {extra[0][:100]!r}, which the model does not take ({len(extra)} are surplus)."
            " Remove it.",
            field=f"{where}.{extra[0]}"[:200],
        )


def _times(moments: Sequence[datetime]) -> np.ndarray:
    return np.array([(moment - _EPOCH) // _MICROSECOND for moment in moments], dtype=np.int64)


_MICROSECOND = datetime.resolution


def _checked(batch: Batch, shape: Shape, settings: Settings, now_us: int) -> Batch:
    """Refuse a part of a bar where the model needs the whole, moments of the future or before 1970, and a
    symbol that occurs twice at one moment.
    """
    if shape.whole_bars and batch.cross_section == "market":
        raise Refusal(
            422,
            "whole_bars_needed",
            "The model that is served looks across the symbols of a bar, so rows can't be scored one by one"
            " against the market. Send whole bars (all symbols of a timestamp) with cross_section batch; POST"
            " /signals gives the scores of the market's newest bar.",
            field="cross_section",
        )
    late = batch.timestamps_us > now_us + settings.future_tolerance_s * 1e6
    if late.any():
        place = int(late.argmax())
        raise Refusal(
            422,
            "future_timestamp",
            f"rows[{place}].timestamp lies in the future. A bar is scored once it is complete.",
            field=f"rows[{place}].timestamp",
        )
    if (batch.timestamps_us < 0).any():
        place = int((batch.timestamps_us < 0).argmax())
        raise Refusal(
            422, "wrong_value", f"rows[{place}].timestamp lies before 1970.", field=f"rows[{place}].timestamp"
        )
    _once(
        list(zip(batch.symbols, batch.timestamps_us.tolist(), strict=True)),
        "rows",
        lambda place: f"rows[{place}].symbol",
    )
    return batch


def _windows(windows: Sequence[list[list[float | None]] | None], shape: Shape) -> np.ndarray | None:
    """Windows as [B, L, F]; refused where the model needs one and a row has none, or of another shape."""
    if not shape.lookback_bars:
        given = [place for place, window in enumerate(windows) if window is not None]
        if given:
            raise Refusal(
                422,
                "extra_field",
                f"rows[{given[0]}].window is given, but the model that is served needs none. Remove it.",
                field=f"rows[{given[0]}].window",
            )
        return None
    for place, window in enumerate(windows):
        if window is None:
            raise _missing_window(place, shape)
        if len(window) != shape.lookback_bars or any(len(bar) != len(shape.columns) for bar in window):
            raise Refusal(
                422,
                "wrong_window_shape",
                f"rows[{place}].window is not {_window_words(shape)}.",
                field=f"rows[{place}].window",
            )
    return np.array(windows, dtype=np.float64).astype(np.float32)


def _missing_window(place: int, shape: Shape) -> Refusal:
    return Refusal(
        422,
        "missing_window",
        f"rows[{place}] has no window, but the model that is served needs {_window_words(shape)}.",
        field=f"rows[{place}].window",
    )


def _window_words(shape: Shape) -> str:
    return (
        f"{shape.lookback_bars} bars of {len(shape.columns)} inputs each, oldest first, the newest bar last"
    )


def _read_stream(body: bytes, settings: Settings) -> Any:
    """The stream's rows.

    A compressed part is refused before it is opened: a few kilobytes can unfold to more than the memory.
    """
    import pyarrow as pa

    for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(body)):
        if message.type == "dictionary" or (
            message.type == "record batch" and _is_compressed(message.metadata.to_pybytes())
        ):
            raise ValueError("compressed or with dictionaries")
    with pa.ipc.open_stream(body) as reader:
        batches, rows = [], 0
        for batch in reader:
            rows += batch.num_rows
            _require_size(rows, settings)
            batches.append(batch)
        table = pa.Table.from_batches(batches, reader.schema)
    table.validate(full=True)
    return table


def _is_compressed(metadata: bytes) -> bool:
    """Whether the flatbuffer of a record batch names a codec:

    Message.header (third field) is a RecordBatch, whose fourth field is the compression.
    """

    def place(table: int, number: int) -> int:
        start = table - struct.unpack_from("<i", metadata, table)[0]
        size = struct.unpack_from("<H", metadata, start)[0]
        return struct.unpack_from("<H", metadata, start + 4 + 2 * number)[0] if 4 + 2 * number < size else 0

    message = struct.unpack_from("<I", metadata, 0)[0]
    at = message + place(message, 2)
    return place(at + struct.unpack_from("<I", metadata, at)[0], 3) != 0


def _arrow_symbols(column: Any) -> list[str]:
    import pyarrow as pa

    if not (
        pa.types.is_string(column.type)
        or pa.types.is_large_string(column.type)
        or pa.types.is_string_view(column.type)
    ):
        raise Refusal(
            422, "wrong_type", f"Column 'symbol' has type {column.type}, expected string.", field="symbol"
        )
    symbols = column.to_pylist()
    for place, symbol in enumerate(symbols):
        if not symbol or len(symbol) > _LONGEST_SYMBOL:
            code = "wrong_value" if symbol is not None else "wrong_type"
            raise Refusal(
                422,
                code,
                f"rows[{place}].symbol must be a text of 1 to {_LONGEST_SYMBOL} characters.",
                field=f"rows[{place}].symbol",
            )
    return symbols


def _arrow_times(column: Any) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_timestamp(column.type) or column.type.tz is None:
        raise Refusal(
            422,
            "wrong_type",
            f"Column 'timestamp' has type {column.type}, expected timestamp[us, tz=UTC].",
            field="timestamp",
        )
    if column.null_count:
        raise Refusal(
            422,
            "wrong_type",
            "Column 'timestamp' holds nulls. Give every row the close of its bar.",
            field="timestamp",
        )
    try:
        microseconds = pc.CastOptions(pa.timestamp("us", "UTC"), allow_time_truncate=True)
        return pc.cast(column, options=microseconds).cast(pa.int64()).to_numpy()
    except pa.ArrowException:
        raise Refusal(
            422, "wrong_value", "Column 'timestamp' holds a moment out of range.", field="timestamp"
        ) from None


def _arrow_floats(column: Any, name: str) -> np.ndarray:
    """The column as float32 with NaN for null; NaN and infinity themselves are refused."""
    import pyarrow as pa

    if not (pa.types.is_float32(column.type) or pa.types.is_float64(column.type)):
        raise Refusal(
            422,
            "wrong_type",
            f"Column {name!r} has type {column.type}, expected float (32 bits).",
            field=name,
        )
    valid = column.is_valid().to_numpy()
    values = column.to_numpy().astype(np.float64)
    _refuse_odd(np.where(valid, values, 0.0), lambda place: f"rows[{place}].{name}")
    return np.where(valid, values, np.nan).astype(np.float32)


def _refuse_odd(values: np.ndarray, name: Any) -> None:
    odd = ~(np.abs(values) <= _LARGEST_FLOAT32)
    if odd.any():
        place = int(odd.argmax())
        code = "nan" if np.isnan(values[place]) else "infinity"
        raise Refusal(
            422,
            code,
            f"{name(place)} is {'NaN' if code == 'nan' else 'infinite, or too large for a 32-bit float'}."
            " Send null for an unknown value.",
            field=name(place),
        )


def _arrow_windows(column: Any, rows: int, shape: Shape) -> np.ndarray | None:
    """Windows as [B, L, F] from little-endian float32 bytes; NaN is unknown there, because bytes hold no
    null.
    """
    import pyarrow as pa

    if not shape.lookback_bars:
        if column is not None:
            raise Refusal(
                422,
                "extra_field",
                "The table has a column 'window', but the model that is served needs none. Remove it.",
                field="window",
            )
        return None
    if column is None:
        raise _missing_window(0, shape)
    if not (
        pa.types.is_binary(column.type)
        or pa.types.is_large_binary(column.type)
        or pa.types.is_fixed_size_binary(column.type)
    ):
        raise Refusal(
            422,
            "wrong_type",
            f"Column 'window' has type {column.type}, expected binary (little-endian float32).",
            field="window",
        )
    values = column.to_pylist()
    length = 4 * shape.lookback_bars * len(shape.columns)
    for place, value in enumerate(values):
        if value is None:
            raise _missing_window(place, shape)
        if len(value) != length:
            raise Refusal(
                422,
                "wrong_window_shape",
                f"rows[{place}].window has {len(value):,} bytes, expected {length:,}:"
                f" {_window_words(shape)}.",
                field=f"rows[{place}].window",
            )
    windows = np.frombuffer(b"".join(values), dtype="<f4").reshape(
        rows, shape.lookback_bars, len(shape.columns)
    )
    infinite = np.isinf(windows).any(axis=(1, 2))
    if infinite.any():
        place = int(infinite.argmax())
        raise Refusal(
            422,
            "infinity",
            f"rows[{place}].window holds an infinite value. NaN means unknown there.",
            field=f"rows[{place}].window",
        )
    return windows
