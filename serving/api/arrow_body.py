"""Reads /score bodies that are Arrow IPC streams, strictly: every refusal is a 4xx with a code of its own
that names the field.

Shapes: B rows, F inputs, L bars of a window.
"""

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from serving.api.given_rows import (
    GivenRows,
    Shape,
    checked,
    missing_window,
    read_prices,
    require_columns,
    require_cross_section,
    require_size,
    window_words,
)
from serving.api.refusal import Refusal
from serving.api.request_types import LARGEST_FLOAT32, LONGEST_SYMBOL
from serving.config import Settings

# Read when the first stream comes: the service starts sooner without.
if TYPE_CHECKING:
    import pyarrow as pa


def read_score_arrow(
    body: bytes,
    cross_section: str | None,
    shape: Shape,
    settings: Settings,
    now_us: int,
    prices: str | None = None,
) -> GivenRows:
    """The rows of a /score body as an Arrow stream: columns symbol, timestamp, one float a column, and
    `window` (binary) where the model needs it.
    """
    import pyarrow as pa

    require_cross_section(cross_section)
    asked = bool(read_prices(prices))
    try:
        table = _read_stream(body, settings)
    except (pa.ArrowException, struct.error, IndexError, OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(
            400,
            "malformed_arrow",
            "The body is not one whole Arrow IPC stream without compression and dictionaries"
            f" ({type(error).__name__}). Write one with pyarrow.ipc.new_stream.",
            field="body",
        ) from None
    return replace(rows_of_table(table, cross_section, shape, now_us), prices=asked)


def rows_of_table(table: "pa.Table", cross_section: str | None, shape: Shape, now_us: int) -> GivenRows:
    """The rows of a table with the columns that `read_score_arrow` names; a Refusal for what does not fit."""
    if table.num_rows == 0:
        raise Refusal(422, "empty_batch", "The table has no rows. Send one or more.", field="rows")
    given = set(table.column_names)
    if len(given) != table.num_columns:
        twice = next(name for name in table.column_names if table.column_names.count(name) > 1)
        raise Refusal(
            422, "said_twice", f"The column {twice[:100]!r} is there twice. Name it once.", field=twice[:200]
        )
    require_columns(given - {"symbol", "timestamp", "window"}, shape, "rows")
    for name in ("symbol", "timestamp"):
        if name not in given:
            raise Refusal(422, "missing_field", f"The table has no column {name!r}. Add it.", field=name)
    rows = GivenRows(
        symbols=_symbols(table["symbol"]),
        timestamps_us=_times(table["timestamp"]),
        values=np.stack([_floats(table[name], name) for name in shape.names], axis=1),
        window=_windows(table["window"] if "window" in given else None, table.num_rows, shape),
        cross_section=cross_section or "market",
    )
    return checked(rows, shape, now_us)


def _read_stream(body: bytes, settings: Settings) -> "pa.Table":
    """The stream's rows.

    A compressed part is refused before it is opened: a few kilobytes can unfold to more than the memory.
    """
    import pyarrow as pa

    source = pa.BufferReader(body)
    for message in pa.ipc.MessageReader.open_stream(source):
        if message.type == "dictionary" or (
            message.type == "record batch" and _is_compressed(message.metadata.to_pybytes())
        ):
            raise ValueError("compressed or with dictionaries")
    if source.tell() != len(body):
        raise ValueError("something follows the end of the stream")
    with pa.ipc.open_stream(body) as reader:
        _require_text(reader.schema)
        batches, rows = [], 0
        for batch in reader:
            rows += batch.num_rows
            require_size(rows, settings)
            batches.append(batch)
        table = pa.Table.from_batches(batches, reader.schema)
    table.validate(full=True)
    return table


def _require_text(schema: "pa.Schema") -> None:
    """Raise UnicodeDecodeError for a name or a time zone that is no text, which Arrow does only once it is
    asked.
    """
    import pyarrow as pa

    _ = schema.names, [kind.tz for kind in schema.types if pa.types.is_timestamp(kind)]


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


def _symbols(column: "pa.ChunkedArray") -> list[str]:
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
        if not symbol or len(symbol) > LONGEST_SYMBOL:
            code = "wrong_value" if symbol is not None else "wrong_type"
            raise Refusal(
                422,
                code,
                f"rows[{place}].symbol must be a text of 1 to {LONGEST_SYMBOL} characters.",
                field=f"rows[{place}].symbol",
            )
    return symbols


def _times(column: "pa.ChunkedArray") -> np.ndarray:
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
        return pc.cast(column, pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    except pa.ArrowException:
        raise Refusal(
            422,
            "wrong_value",
            "Column 'timestamp' holds a moment that is out of range, or finer than a microsecond.",
            field="timestamp",
        ) from None


def _floats(column: "pa.ChunkedArray", name: str) -> np.ndarray:
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


def _refuse_odd(values: np.ndarray, name: Callable[[int], str]) -> None:
    odd = ~(np.abs(values) <= LARGEST_FLOAT32)
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


def _windows(column: "pa.ChunkedArray | None", rows: int, shape: Shape) -> np.ndarray | None:
    """Windows as [B, L, F] from little-endian float32 bytes; NaN is unknown there, because bytes hold no
    null.
    """
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
        raise missing_window(0, shape)
    windows = np.frombuffer(b"".join(_window_bytes(column, shape)), dtype="<f4").reshape(
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


def _window_bytes(column: "pa.ChunkedArray", shape: Shape) -> list[bytes]:
    """Each row's window; refused where one is missing or of another length."""
    import pyarrow as pa

    kind = column.type
    if not (
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    ):
        raise Refusal(
            422,
            "wrong_type",
            f"Column 'window' has type {kind}, expected binary (little-endian float32).",
            field="window",
        )
    values = column.to_pylist()
    length = 4 * shape.lookback_bars * len(shape.columns)
    for place, value in enumerate(values):
        if value is None:
            raise missing_window(place, shape)
        if len(value) != length:
            raise Refusal(
                422,
                "wrong_window_shape",
                f"rows[{place}].window has {len(value):,} bytes, expected {length:,}: {window_words(shape)}.",
                field=f"rows[{place}].window",
            )
    return values
