"""Request bodies: each fault gets its own code and names its field, in JSON and in Arrow; whatever the bytes,
nothing but a Refusal comes out.
"""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from serving.api.arrow_body import read_score_arrow
from serving.api.given_rows import Shape
from serving.api.json_body import read_score_json, read_signals, require_known
from serving.api.refusal import Refusal
from serving.config import Settings

SHAPE = Shape(("a", "b", "c"), ("regime_state", "volatility_20"), 0)
WINDOWED = Shape(("a", "b", "c"), ("regime_state", "volatility_20"), 2)
SETTINGS = Settings(max_symbols=5, max_rows=4)
NOW = datetime(2024, 6, 3, tzinfo=UTC)
NOW_US = int(NOW.timestamp() * 1e6)
BAR = NOW - timedelta(days=1)
VALUES = {"a": 0.5, "b": None, "c": -1, "regime_state": 2.0, "volatility_20": 0.01}


def row(**changes):
    return {"symbol": "AAPL", "timestamp": BAR.isoformat(), "features": VALUES, **changes}


def body(*rows, **changes):
    return json.dumps({"rows": list(rows), **changes}).encode()


def refusal(work, *arguments):
    with pytest.raises(Refusal) as caught:
        work(*arguments)
    return caught.value


def score(raw, shape=SHAPE):
    return read_score_json(raw, shape, SETTINGS, NOW_US)


def outcome(work, *arguments):
    """What `work` returned, or its Refusal; anything else that it raises is passed on."""
    try:
        return work(*arguments)
    except Refusal as error:
        return error


def is_orderly(found):
    """A result, or a Refusal that blames the client."""
    return not isinstance(found, Refusal) or 400 <= found.status < 500


def test_a_good_body_becomes_arrays():
    batch = score(
        body(row(), row(symbol="MSFT", timestamp="2024-06-02T02:00:00+02:00"), cross_section="batch")
    )
    assert batch.symbols == ["AAPL", "MSFT"]
    assert batch.timestamps_us.tolist() == [int(BAR.timestamp() * 1e6)] * 2
    np.testing.assert_array_equal(batch.values, np.array([[0.5, np.nan, -1, 2, 0.01]] * 2, dtype=np.float32))
    assert (batch.values.dtype, batch.window, batch.cross_section) == (np.float32, None, "batch")


def test_one_request_takes_five_thousand_symbols_by_default():
    names, usual = [f"S{number:04d}" for number in range(5001)], Settings()
    assert len(read_signals(json.dumps({"symbols": names[:5000]}).encode(), usual).symbols) == 5000
    assert refusal(read_signals, json.dumps({"symbols": names}).encode(), usual).status == 413


def test_the_order_of_the_features_in_the_body_does_not_matter():
    turned = dict(reversed(list(VALUES.items())))
    np.testing.assert_array_equal(score(body(row(features=turned))).values, score(body(row())).values)


@pytest.mark.parametrize(
    "raw",
    [
        body(row(), row(symbol="BTC:USDT")),
        body(row(symbol='a"b\\:"')),
        body(row(symbol="é:日"), cross_section="market"),
        json.dumps({"rows": [row(symbol="é")]}, ensure_ascii=False).encode(),
        body(row(timestamp="2024-05-31T20:00:00.5+00:00")),
    ],
)
def test_names_that_occur_once_are_no_repetition_whatever_texts_hold(raw):
    assert len(score(raw).symbols) == raw.count(b'"symbol"')


def changed(**values):
    return row(features={**VALUES, **values})


def without(name):
    return row(features={key: value for key, value in VALUES.items() if key != name})


FAULTS = [
    ("malformed_json", "body", b'{"rows": ['),
    ("malformed_json", "body", b""),
    ("malformed_json", "body", b"\xff\xfe"),
    ("malformed_json", "body", b"[" * 20_000),
    ("wrong_type", "body", b"[1, 2]"),
    ("missing_field", "rows", b"{}"),
    ("empty_batch", "rows", body()),
    ("wrong_type", "rows", b'{"rows": {"0": 1}}'),
    ("extra_field", "row", body(row(), row=1)),
    ("extra_field", "rows[0].feature", body(row(feature=1))),
    (
        "missing_field",
        "rows[0].symbol",
        body({key: value for key, value in row().items() if key != "symbol"}),
    ),
    ("wrong_type", "rows[0].symbol", body(row(symbol=7))),
    ("wrong_value", "rows[0].symbol", body(row(symbol=""))),
    ("wrong_value", "rows[0].symbol", body(row(symbol="x" * 65))),
    ("wrong_value", "cross_section", body(row(), cross_section="sector")),
    ("wrong_type", "rows[0].timestamp", body(row(timestamp="yesterday"))),
    ("wrong_type", "rows[0].timestamp", body(row(timestamp=1_700_000_000))),
    ("wrong_type", "rows[0].timestamp", body(row(timestamp="2024-05-31T20:00:00"))),
    (
        "future_timestamp",
        "rows[1].timestamp",
        body(row(), row(symbol="B", timestamp=(NOW + timedelta(hours=1)).isoformat())),
    ),
    *(
        ("wrong_type", "rows[0].timestamp", body(row(timestamp=text)))
        for text in (
            "1717185600",
            "1717185600000",
            "2024-05-31 20:00:00Z",
            "2024-05-31T20:00Z",
            "2024-05-31T20:00:00.123456789Z",
            "2024-05-31T20:00:00+0530",
            "2024-05-31T20:00:00\N{MINUS SIGN}05:00",
            "2024-05-31T20:00:00z",
            "٢٠٢٤-05-31T20:00:00Z",
        )
    ),
    ("wrong_value", "rows[0].timestamp", body(row(timestamp="2024-02-30T20:00:00Z"))),
    ("wrong_value", "rows[0].timestamp", body(row(timestamp="2024-05-31T20:00:60Z"))),
    ("malformed_json", "body", b"\xef\xbb\xbf" + body(row())),
    ("malformed_json", "body", body(row()).decode().encode("utf-16")),
    ("malformed_json", "body", body(row()).decode().encode("utf-16-le")),
    ("said_twice", "rows", body(row())[:-1] + b', "rows": []}'.replace(b"[]", body(row())[9:-1])),
    ("said_twice", "rows[0].symbol", body(row()).replace(b'"symbol"', b'"symbol": "OLD", "symbol"', 1)),
    ("said_twice", "rows[0].features.a", body(row()).replace(b'"a"', b'"a": 3, "a"', 1)),
    # An escape is the same name; a colon that is escaped makes up for the one of the second name.
    ("said_twice", "rows[0].features.a", body(row()).replace(b'"a"', b'"\\u0061": 3, "a"', 1)),
    (
        "said_twice",
        "rows[0].features.a",
        body(row()).replace(b'"a"', b'"a": 3, "a"', 1).replace(b"20:00:00", b"20\\u003a00:00", 1),
    ),
    ("infinity", "rows[0].features.b", body(changed(b=10**400))),
    ("future_timestamp", "rows[0].timestamp", body(row(timestamp="9999-12-31T23:59:59-23:59"))),
    ("wrong_value", "rows[0].timestamp", body(row(timestamp="0001-01-01T00:00:00+23:59"))),
    ("nan", "rows[0].features.a", body(changed(a=float("nan")))),
    ("infinity", "rows[0].features.a", body(changed(a=float("inf")))),
    ("infinity", "rows[0].features.b", body(changed(b=float("-inf")))),
    ("infinity", "rows[0].features.b", body(changed(b=1e39))),
    (
        "infinity",
        "rows[0].features.b",
        body(row())
        .replace(b"0.5", b"1e999")
        .replace(b'"a"', b'"b_"')
        .replace(b'"b"', b'"a"')
        .replace(b'"b_"', b'"b"'),
    ),
    ("missing_feature", "rows[0].features.c", body(without("c"))),
    ("missing_feature", "rows[0].features.volatility_20", body(without("volatility_20"))),
    ("extra_feature", "rows[0].features.d", body(changed(d=1.0))),
    ("wrong_type", "rows[0].features.a", body(changed(a="0.5"))),
    ("wrong_type", "rows[0].features.a", body(changed(a=True))),
    ("wrong_type", "rows[0].features.a", body(changed(a=[1.0]))),
    ("wrong_type", "rows[0].features", body(row(features=[1.0]))),
    ("duplicate_symbol", "rows[1].symbol", body(row(), row())),
    ("oversized_batch", "rows", body(*(row(symbol=f"S{number}") for number in range(5)))),
    ("extra_field", "rows[0].window", body(row(window=[[1, 2, 3], [1, 2, 3]]))),
]


@pytest.mark.parametrize(
    ("code", "field", "raw"), FAULTS, ids=[f"{number}-{code}" for number, (code, _, _) in enumerate(FAULTS)]
)
def test_each_fault_of_a_score_body_has_its_code_and_field(code, field, raw):
    error = refusal(score, raw)
    assert (error.code, error.field) == (code, field)
    assert 400 <= error.status < 500
    assert len(str(error)) < 500


def test_windows_are_read_and_checked():
    window = [[1, None, 3], [4, 5, 6]]
    batch = score(body(row(window=window)), WINDOWED)
    np.testing.assert_array_equal(batch.window, np.array([[[1, np.nan, 3], [4, 5, 6]]], dtype=np.float32))
    assert refusal(score, body(row()), WINDOWED).code == "missing_window"
    for wrong in ([], [[1, 2, 3]], [[1, 2, 3], [1, 2]], [[1, 2, 3]] * 3):
        error = refusal(score, body(row(window=wrong)), WINDOWED)
        assert (error.code, error.field) == ("wrong_window_shape", "rows[0].window")
    assert refusal(score, body(row(window=[[1, 2, float("nan")], [1, 2, 3]])), WINDOWED).code == "nan"


@pytest.mark.parametrize(
    ("code", "field", "raw"),
    [
        ("empty_batch", "symbols", b'{"symbols": []}'),
        ("duplicate_symbol", "symbols[2]", b'{"symbols": ["A", "B", "A"]}'),
        ("oversized_batch", "symbols", json.dumps({"symbols": list("ABCDEF")}).encode()),
        ("wrong_type", "symbols[1]", b'{"symbols": ["A", null]}'),
        ("wrong_type", "symbols", b'{"symbols": "A"}'),
        ("extra_field", "limit", b'{"symbols": ["A"], "limit": 3}'),
        ("malformed_json", "body", b"symbols=A"),
    ],
)
def test_each_fault_of_a_signals_body_has_its_code_and_field(code, field, raw):
    error = refusal(read_signals, raw, SETTINGS)
    assert (error.code, error.field) == (code, field)


def test_unknown_symbols_are_refused_with_the_closest_names():
    known = {"AAPL": 0, "MSFT": 1, "NVDA": 2}
    assert require_known(["NVDA", "AAPL"], known).tolist() == [2, 0]
    error = refusal(require_known, ["MSFT", "APPL"], known)
    assert (error.status, error.code, error.field, error.details) == (
        422,
        "unknown_symbol",
        "symbols[1]",
        {"closest": ["AAPL"]},
    )
    assert "starts with AAPL" in str(refusal(require_known, ["§"], known))


def table(rows=2, **changes):
    columns = {
        "symbol": pa.array([f"S{number}" for number in range(rows)]),
        "timestamp": pa.array([BAR] * rows, pa.timestamp("us", "UTC")),
        **{name: pa.array([value] * rows, pa.float32()) for name, value in VALUES.items()},
        **changes,
    }
    return pa.table({name: values for name, values in columns.items() if values is not None})


def stream(content, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, content.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(content)
    return sink.getvalue().to_pybytes()


def arrow(raw, shape=SHAPE, cross_section=None):
    return read_score_arrow(raw, cross_section, shape, SETTINGS, NOW_US)


def test_arrow_and_json_give_the_same_arrays():
    found, expected = arrow(stream(table())), score(body(row(symbol="S0"), row(symbol="S1")))
    assert found.symbols == expected.symbols
    np.testing.assert_array_equal(found.timestamps_us, expected.timestamps_us)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.cross_section == "market"


def floats(*values):
    return pa.array(values, pa.float32())


BAR_NS = int(BAR.timestamp()) * 10**9
ARROW_FAULTS = [
    ("missing_feature", "rows.c", table(c=None)),
    ("extra_feature", "rows.d", table(d=floats(1, 2))),
    ("missing_field", "symbol", table(symbol=None)),
    ("missing_field", "timestamp", table(timestamp=None)),
    ("nan", "rows[1].a", table(a=floats(1, float("nan")))),
    ("infinity", "rows[0].a", table(a=floats(float("inf"), 1))),
    ("infinity", "rows[1].a", table(a=pa.array([1.0, 1e39]))),
    ("wrong_type", "a", table(a=pa.array(["1", "2"]))),
    ("wrong_type", "a", table(a=pa.array([1, 2]))),
    ("wrong_type", "symbol", table(symbol=pa.array([1, 2]))),
    ("wrong_type", "rows[1].symbol", table(symbol=pa.array(["A", None]))),
    ("wrong_value", "rows[1].symbol", table(symbol=pa.array(["A", ""]))),
    (
        "wrong_type",
        "timestamp",
        table(timestamp=pa.array([BAR.replace(tzinfo=None)] * 2, pa.timestamp("us"))),
    ),
    ("wrong_type", "timestamp", table(timestamp=pa.array([BAR, None], pa.timestamp("us", "UTC")))),
    (
        "future_timestamp",
        "rows[1].timestamp",
        table(timestamp=pa.array([BAR, NOW + timedelta(days=1)], pa.timestamp("us", "UTC"))),
    ),
    ("wrong_value", "timestamp", table(timestamp=pa.array([2**62] * 2, pa.timestamp("s", "UTC")))),
    ("wrong_value", "timestamp", table(timestamp=pa.array([BAR_NS + 1] * 2, pa.timestamp("ns", "UTC")))),
    ("wrong_type", "timestamp", table(timestamp=pa.array(["2024-05-31T20:00:00Z"] * 2))),
    ("wrong_type", "timestamp", table(timestamp=pa.array([BAR_NS] * 2))),
    ("wrong_type", "timestamp", table(timestamp=pa.array([BAR.date()] * 2))),
    ("said_twice", "a", table().append_column("a", floats(1, 2))),
    ("said_twice", "symbol", table().append_column("symbol", pa.array(["A", "B"]))),
    ("duplicate_symbol", "rows[1].symbol", table(symbol=pa.array(["A", "A"]))),
    ("oversized_batch", "rows", table(5)),
    ("empty_batch", "rows", table(0)),
    ("extra_field", "window", table(window=pa.array([b"1", b"2"]))),
]


@pytest.mark.parametrize(
    ("code", "field", "content"),
    ARROW_FAULTS,
    ids=[f"{number}-{code}" for number, (code, _, _) in enumerate(ARROW_FAULTS)],
)
def test_each_fault_of_an_arrow_body_has_its_code_and_field(code, field, content):
    error = refusal(arrow, stream(content))
    assert (error.code, error.field) == (code, field)


def test_arrow_windows_are_read_and_checked():
    windows = np.arange(12, dtype="<f4").reshape(2, 2, 3)
    content = table(window=pa.array([window.tobytes() for window in windows]))
    np.testing.assert_array_equal(arrow(stream(content), WINDOWED).window, windows)
    assert refusal(arrow, stream(table()), WINDOWED).code == "missing_window"
    assert (
        refusal(arrow, stream(table(window=pa.array([b"1234", b"5678"]))), WINDOWED).code
        == "wrong_window_shape"
    )
    assert (
        refusal(arrow, stream(table(window=pa.array([windows[0].tobytes(), None]))), WINDOWED).field
        == "rows[1].window"
    )
    assert refusal(arrow, stream(table(window=floats(1, 2))), WINDOWED).code == "wrong_type"


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_compressed_arrow_body_is_refused_unopened(codec):
    """A few kilobytes can unfold to gigabytes."""
    assert refusal(arrow, stream(table(), compression=codec)).code == "malformed_arrow"


@pytest.mark.parametrize(
    "moments",
    [
        pa.array([BAR_NS] * 2, pa.timestamp("ns", "UTC")),
        pa.array([BAR_NS // 10**9] * 2, pa.timestamp("s", "Asia/Tokyo")),
    ],
)
def test_an_arrow_moment_in_another_unit_or_zone_is_the_same_moment(moments):
    assert arrow(stream(table(timestamp=moments))).timestamps_us.tolist() == [BAR_NS // 1000] * 2


def test_arrow_with_dictionaries_cut_off_or_of_another_format_is_refused():
    whole = stream(table())
    file = pa.BufferOutputStream()
    with pa.ipc.new_file(file, table().schema) as writer:
        writer.write_table(table())
    for raw in (
        b"",
        b"{}",
        whole[:-200],
        whole[: len(whole) // 2],
        whole[:11],
        stream(table(symbol=pa.array(["A", "B"]).dictionary_encode())),
        file.getvalue().to_pybytes()[:300],
        whole + whole,
        whole + b"\0",
    ):
        assert refusal(arrow, raw).code == "malformed_arrow"
    assert refusal(arrow, whole, SHAPE, "sector").field == "cross_section"


def test_arrow_with_a_time_zone_that_is_no_text_is_refused():
    whole = stream(table())
    place = whole.index(b"UTC")
    assert refusal(arrow, whole[:place] + b"\x80" + whole[place + 1 :]).code == "malformed_arrow"


@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_change_of_an_arrow_body_raises_anything_but_a_refusal(data):
    raw = bytearray(stream(table()))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert is_orderly(outcome(arrow, bytes(raw)))


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["symbol", "timestamp", "features", "window", "a"]) | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@hypothesis_settings(max_examples=400, deadline=None)
@given(
    value=_JSON,
    place=st.sampled_from(["body", "rows", "row", "symbol", "timestamp", "features", "a", "window"]),
)
def test_no_json_raises_anything_but_a_refusal(value, place):
    whole = {
        "body": value,
        "rows": {"rows": value},
        "row": {"rows": [value]},
        "a": {"rows": [changed(a=value)]},
    }.get(place) or {"rows": [row(**{place: value})]}
    for shape in (SHAPE, WINDOWED):
        assert is_orderly(outcome(score, json.dumps(whole).encode(), shape))


@hypothesis_settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(raw):
    for work in (score, arrow, lambda body: read_signals(body, SETTINGS)):
        assert is_orderly(outcome(work, raw))


def test_the_cross_section_is_named_once():
    def named(in_body, in_address):
        extra = {} if in_body is None else {"cross_section": in_body}
        return read_score_json(
            json.dumps({"rows": [row()], **extra}).encode(), SHAPE, SETTINGS, NOW_US, in_address
        ).cross_section

    assert named(None, None) == "market"
    assert named(None, "batch") == named("batch", None) == named("batch", "batch") == "batch"
    for pair in (("market", "batch"), ("batch", "market"), (None, "neither")):
        with pytest.raises(Refusal) as error:
            named(*pair)
        assert (error.value.code, error.value.field) == ("wrong_value", "cross_section")


def test_prices_are_asked_for_in_the_body_or_in_the_address():
    def asked(in_body, in_address):
        extra = {} if in_body is None else {"prices": in_body}
        raw = json.dumps({"rows": [row()], **extra}).encode()
        return read_score_json(raw, SHAPE, SETTINGS, NOW_US, None, in_address).prices

    assert not asked(None, None)
    assert asked(True, None)
    assert asked(None, "true")
    assert asked(True, "true")
    assert not asked(False, "false")
    for pair in ((True, "false"), (False, "true"), (None, "yes")):
        error = refusal(asked, *pair)
        assert (error.code, error.field) == ("wrong_value", "prices")
    assert refusal(asked, "yes", None).code == "wrong_type"
    assert read_signals(b'{"symbols": ["A"], "prices": true}', SETTINGS).prices
    assert not read_signals(b'{"symbols": ["A"]}', SETTINGS).prices
    assert read_score_arrow(stream(table()), None, SHAPE, SETTINGS, NOW_US, "true").prices
    assert refusal(read_score_arrow, stream(table()), None, SHAPE, SETTINGS, NOW_US, "1").field == "prices"


def test_a_model_across_symbols_takes_whole_bars_alone():
    across = Shape(SHAPE.columns, SHAPE.context, 0, whole_bars=True)
    assert score(body(row(), cross_section="batch"), across).cross_section == "batch"
    assert arrow(stream(table()), across, "batch").cross_section == "batch"
    for found in (refusal(score, body(row()), across), refusal(arrow, stream(table()), across)):
        assert (found.status, found.code, found.field) == (422, "whole_bars_needed", "cross_section")
        assert "with cross_section batch" in str(found)
