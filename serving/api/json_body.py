"""Reads bodies in JSON, strictly: every refusal is a 4xx with a code of its own that names the field."""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from serving.api.given_rows import (
    GivenRows,
    Shape,
    checked,
    missing_window,
    read_prices,
    require_columns,
    require_cross_section,
    require_once,
    require_size,
    window_words,
)
from serving.api.refusal import Refusal
from serving.api.request_types import (
    EXAMPLE_MOMENT,
    LONGEST_SYMBOL,
    RequestBody,
    ScoreRequest,
    SignalsRequest,
)
from serving.config import Settings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = datetime.resolution
_CLOSEST = 3
_NESTED = "nested too deeply, or a number is too long"
_SYMBOL_BYTES = 8 * LONGEST_SYMBOL
# Marks of a row's JSON besides those of its features: symbol and timestamp may hold some too. A body of few
# marks is read in no time.
_SLACK_A_ROW, _FEW_MARKS = 100, 50_000


def read_signals(body: bytes, settings: Settings) -> SignalsRequest:
    """A /signals body.

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
    _require_said_once(body, len(request.model_fields_set) + _colons(symbols))
    if len(symbols) > settings.max_symbols:
        raise Refusal(
            413,
            "oversized_batch",
            f"{len(symbols):,} symbols are more than the {settings.max_symbols:,} that one request may ask"
            " for. Split them.",
            field="symbols",
        )
    require_once(symbols, "symbols", lambda place: f"symbols[{place}]")
    return request


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
    body: bytes,
    shape: Shape,
    settings: Settings,
    now_us: int,
    cross_section: str | None = None,
    prices: str | None = None,
) -> GivenRows:
    """The rows of a /score body in JSON; `cross_section` and `prices` are what the address says of them, if
    anything.
    """
    require_cross_section(cross_section)
    asked = read_prices(prices)
    _require_plausible(body, shape, settings)
    request = _validated(ScoreRequest, body)
    rows = request.rows
    require_size(len(rows), settings)
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
            require_columns(row.features, shape, f"rows[{place}].features")
    names = len(request.model_fields_set) + sum(len(row.model_fields_set) + len(row.features) for row in rows)
    in_texts = _colons(text for row in rows for text in (row.symbol, row.timestamp))
    _require_said_once(body, names + in_texts + len(rows) * _colons(shape.names))
    # NumPy turns None into NaN, which is what an unknown value is.
    values = np.array(picked, dtype=np.float64)[:, :-1].astype(np.float32)
    batch = GivenRows(
        symbols=[row.symbol for row in rows],
        timestamps_us=moments_us([row.timestamp for row in rows]),
        values=values,
        window=_windows([row.window for row in rows], shape),
        cross_section=_said_once(request, "cross_section", cross_section),
        prices=_said_once(request, "prices", asked),
    )
    return checked(batch, shape, now_us)


def _said_once(request: ScoreRequest, name: str, in_address: Any) -> Any:
    """What the body and the address say of a field, which may be in both if they agree."""
    in_body = getattr(request, name)
    if name in request.model_fields_set and in_address not in (None, in_body):
        raise Refusal(
            422,
            "wrong_value",
            f"{name} is {in_body} in the body and {in_address} in the address. Name it once.",
            field=name,
        )
    return in_body if in_address is None else in_address


def _validated(model: type[BaseModel], body: bytes) -> Any:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _translated(error.errors(include_url=False, include_context=True)[0], body) from None
    except (RecursionError, OverflowError):
        raise Refusal(
            400, "malformed_json", f"The body is not usable JSON: {_NESTED}.", field="body"
        ) from None


def _translated(problem: Mapping[str, Any], body: bytes) -> Refusal:
    """A pydantic error in the words of this API."""
    kind, found = problem["type"], problem.get("input")
    field = _field(problem["loc"])
    if kind == "json_invalid":
        return Refusal(
            400,
            "malformed_json",
            (
                f"The body is not valid JSON: {_encoding(body) or problem['ctx']['error']}."
                if body
                else "The body is empty. Send a JSON object."
            ),
            field="body",
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
    too_large = kind in ("less_than_equal", "greater_than_equal") and isinstance(found, int | float)
    # An integer that is too long for a float.
    too_long = kind == "float_type" and isinstance(found, int) and not isinstance(found, bool)
    if kind == "finite_number" or too_large or too_long:
        return Refusal(
            422,
            "infinity",
            f"{field} is infinite, or too large for a 32-bit float. Send null for an unknown value.",
            field=field,
        )
    if kind == "string_pattern_mismatch":
        return no_moment(field, found)
    if kind in ("literal_error", "string_too_short", "string_too_long"):
        return Refusal(422, "wrong_value", f"{field}: {problem['msg']}.", field=field)
    return Refusal(
        422, "wrong_type", f"{field}: {problem['msg']} (found {type(found).__name__}).", field=field
    )


def _encoding(body: bytes) -> str | None:
    """What stands in the way of a body in another encoding than UTF-8 without a mark."""
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return "it begins with a byte order mark. Send UTF-8 without one"
    return "it holds zero bytes, as UTF-16 does. Send UTF-8" if b"\0" in body[:4] else None


def no_moment(field: str, found: str) -> Refusal:
    """What a text that is no moment, or one without a zone, is answered."""
    try:
        naive = datetime.fromisoformat(found).tzinfo is None
    except ValueError:
        naive = False
    problem = "has no time zone" if naive and "T" in found else f"is no moment as expected: {found[:40]!r}"
    return Refusal(422, "wrong_type", f"{field} {problem}. Write it as {EXAMPLE_MOMENT}.", field=field)


@dataclass(frozen=True)
class _Twice:
    """Stands for an object of a JSON body in which a name occurs twice."""

    name: str


def _colons(texts: Iterable[str]) -> int:
    return sum(text.count(":") for text in texts)


def _require_said_once(body: bytes, colons: int) -> None:
    """Refuse a name that occurs twice in one JSON object: parsers take the last, or the first.

    `colons`: one for each name that was read, and those within texts. A body without repetitions holds as
    many, unless it writes some with a backslash; only others are looked through.
    """
    if body.count(b":") == colons and b"\\" not in body:
        return
    twice = _twice(json.loads(body, object_pairs_hook=_held), "")
    if twice is not None:
        raise Refusal(422, "said_twice", f"{twice} is there twice. Name it once.", field=twice[:200])


def _held(pairs: list[tuple[str, Any]]) -> "dict[str, Any] | _Twice":
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    return _Twice(next(name for name in names if names.count(name) > 1))


def _twice(value: Any, where: str) -> str | None:
    """The place of the first name that occurs twice."""
    if isinstance(value, _Twice):
        return f"{where}.{value.name}".lstrip(".")
    if isinstance(value, dict):
        inner = [(item, f"{where}.{name}") for name, item in value.items()]
    elif isinstance(value, list):
        inner = [(item, f"{where}[{place}]") for place, item in enumerate(value)]
    else:
        return None
    return next((found for item, place in inner if (found := _twice(item, place)) is not None), None)


def _refuse_extra(part: RequestBody, where: str) -> None:
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


def moments_us(texts: Sequence[str]) -> np.ndarray:
    """Microseconds since 1970, int64 [B]; refused where a text has the form of a moment but is none."""
    return np.array([_microseconds(text, place) for place, text in enumerate(texts)], dtype=np.int64)


def _microseconds(text: str, place: int) -> int:
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        field = f"rows[{place}].timestamp"
        raise Refusal(422, "wrong_value", f"{field}: {text!r} is no moment.", field=field) from None


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
            raise missing_window(place, shape)
        if len(window) != shape.lookback_bars or any(len(bar) != len(shape.columns) for bar in window):
            raise Refusal(
                422,
                "wrong_window_shape",
                f"rows[{place}].window is not {window_words(shape)}.",
                field=f"rows[{place}].window",
            )
    return np.array(windows, dtype=np.float64).astype(np.float32)
