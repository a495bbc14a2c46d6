"""The running service: its numbers are the model's, its errors are its own, its description holds, and
nothing gets past its limits.
"""

import json
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import bentoml
import httpx
import jsonschema
import numpy as np
import polars as pl
import psutil
import pyarrow as pa
import pytest

from components.scoring import Model
from serving.live.book_sizing import BookSizing
from tests.serving.conftest import MOST_BYTES, MOST_ROWS, MOST_SYMBOLS, copy_run
from tests.serving.live_service import Live, live_service
from tests.serving.small_champion import LOOKING_BACK, SmallRun, crown, make_bundle
from tests.sizing.weights import long_short_weights

KEY = "s3cret-key"
VARIABLE = "ALPHALOOP_TEST_KEY"
FIELDS = ("score", "p10", "p50", "p90", "uncertainty")


@pytest.fixture(scope="module")
def run(shared) -> SmallRun:
    return shared.run


@pytest.fixture(scope="module")
def live(shared) -> Live:
    shared.crown(shared.run.bundles[0], 3, why="first")
    return shared.live


@pytest.fixture(scope="module")
def model(run) -> Model:
    return Model.load(run.bundles[0])


@pytest.fixture(scope="module")
def bar(run) -> pl.DataFrame:
    """The newest factors of each symbol, with `behind`."""
    newest = run.market.factors.sort("timestamp").unique("symbol", keep="last").sort("symbol")
    return newest.with_columns((pl.col("timestamp") < pl.col("timestamp").max()).alias("behind"))


def arrays(rows: pl.DataFrame, model: Model) -> tuple[np.ndarray, np.ndarray]:
    def part(names):
        return (
            rows.select(pl.col(name).fill_null(float("nan")) for name in names).to_numpy().astype(np.float32)
        )

    return part(model.columns), part(model.context)


@pytest.fixture(scope="module")
def expected(model, bar) -> dict[str, dict[str, float]]:
    """What the model says of each symbol offline, with the market's book."""
    current = ~bar["behind"].to_numpy()
    inputs, context = arrays(bar, model)
    outputs = model.expert_outputs(inputs, context)
    scores = model.combine(
        outputs,
        context,
        model.cross_section(model.expert_outputs(inputs[current], context[current]), context[current]),
    )
    book = np.where(current, scores.score, np.nan)[None]
    weights = long_short_weights(book, scores.uncertainty[None], BookSizing.of(model.manifest))[0]
    values = {**{name: getattr(scores, name) for name in FIELDS}, "position": weights}
    return {
        symbol: {name: array[place] for name, array in values.items()}
        for place, symbol in enumerate(bar["symbol"])
    }


def score_rows(bar: pl.DataFrame, model: Model, places=range(3)) -> list[dict]:
    names = [*model.columns, *model.context]
    return [
        {
            "symbol": row["symbol"],
            "timestamp": row["timestamp"].isoformat(),
            "features": {name: row[name] if row[name] == row[name] else None for name in names},
        }
        for row in bar.select("symbol", "timestamp", *(pl.col(name) for name in names)).to_dicts()
        for row in [row]
        if row["symbol"] in set(bar["symbol"][list(places)])
    ]


def post(live: Live, path: str, body, **headers) -> httpx.Response:
    return live.client.post(
        path,
        content=body if isinstance(body, bytes) else json.dumps(body).encode(),
        headers={"content-type": "application/json", **headers},
    )


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    found = answer.json()["error"]
    assert found["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return answer.status_code, found["code"], found["field"]


def test_prices_are_there_where_they_are_asked_for(live, run, bar, model):
    """The closes are those of the features' own bars; a row that is given has none. The target is no log
    return of the symbol, so that no form of it is a price.
    """
    closes = bar.join(run.market.panel, on=["timestamp", "symbol"], how="left", maintain_order="left")[
        "close"
    ]
    answer = post(live, "/signals", {"symbols": bar["symbol"].to_list(), "prices": True}).json()
    assert [signal["prices"]["close"] for signal in answer["signals"]] == closes.to_list()
    content = arrow_body(bar.filter(~pl.col("behind")), model)
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    given = live.client.post("/score?prices=true", content=content, headers=headers).json()
    for signal in (*answer["signals"], *given["signals"]):
        assert signal["prices"]["future_price"] is None
        assert "sector_neutral_return is not" in signal["prices"]["missing"]
    assert {signal["prices"]["close"] for signal in given["signals"]} == {None}
    refused = live.client.post("/score?prices=maybe", content=content, headers=headers)
    assert error(refused) == (422, "wrong_value", "prices")


def test_signals_are_what_the_model_says_offline(live, run, bar, expected):
    answer = live.signals(*bar["symbol"]).json()
    assert [signal["symbol"] for signal in answer["signals"]] == bar["symbol"].to_list()
    for signal in answer["signals"]:
        for name, value in expected[signal["symbol"]].items():
            assert signal[name] == pytest.approx(value, abs=1e-7), (signal["symbol"], name)
    assert any(signal["position"] > 0 for signal in answer["signals"])
    assert sum(signal["position"] for signal in answer["signals"]) == pytest.approx(0, abs=1e-9)
    assert answer["model"]["version"] == 3
    assert answer["model"]["bundle_sha256"] == run.bundles[0].name
    assert answer["model"]["train_window"].startswith("20")
    assert answer["features"] == {
        "publication": run.publication["publication"],
        "newest": answer["features"]["newest"],
        "source": "store",
    }
    assert (answer["period"], answer["horizon_bars"], answer["target"]) == ("1d", 5, "sector_neutral_return")


def test_an_answer_does_not_depend_on_who_else_is_asked_for(live, bar):
    together = {signal["symbol"]: signal for signal in live.signals(*bar["symbol"]).json()["signals"]}
    for symbol in bar["symbol"][:4]:
        alone = live.signals(symbol).json()["signals"][0]
        for name in (*FIELDS, "position"):
            assert alone[name] == pytest.approx(together[symbol][name], abs=1e-7)


def test_a_symbol_that_is_behind_says_so_and_gets_no_position(live, bar):
    assert bar["behind"].sum() >= 1
    signals = {signal["symbol"]: signal for signal in live.signals(*bar["symbol"]).json()["signals"]}
    for symbol, moment, behind in bar.select("symbol", "timestamp", "behind").rows():
        assert signals[symbol]["behind"] is behind
        assert (
            datetime.fromisoformat(signals[symbol]["feature_time"])
            == datetime.fromisoformat(signals[symbol]["known_time"])
            == moment
        )
        assert not (behind and signals[symbol]["position"])


def test_the_order_of_the_request_is_the_order_of_the_answer(live, bar):
    turned = bar["symbol"].to_list()[::-1][:7]
    assert [signal["symbol"] for signal in live.signals(*turned).json()["signals"]] == turned


def test_given_features_get_the_same_scores_as_the_stores(live, model, bar, expected):
    current = bar.filter(~pl.col("behind"))
    rows = score_rows(current, model, range(5))
    answer = post(live, "/score", {"rows": rows}).json()
    assert answer["features"]["source"] == "request"
    for signal in answer["signals"]:
        for name, value in expected[signal["symbol"]].items():
            assert signal[name] == pytest.approx(value, abs=1e-7), name
        assert signal["known_time"] is None
    whole = {"cross_section": "batch", "rows": score_rows(current, model, range(len(current)))}
    for signal in post(live, "/score", whole).json()["signals"]:
        for name, value in expected[signal["symbol"]].items():
            assert signal[name] == pytest.approx(value, abs=1e-7), name


def test_a_batch_of_several_bars_is_scored_bar_by_bar(live, run, model):
    moments = run.market.factors["timestamp"].unique().sort()[-3:-1]
    rows = run.market.factors.filter(pl.col("timestamp").is_in(moments.implode()))
    answer = post(
        live, "/score", {"cross_section": "batch", "rows": score_rows(rows, model, range(len(rows)))}
    ).json()
    found = {
        (signal["symbol"], datetime.fromisoformat(signal["feature_time"])): signal["score"]
        for signal in answer["signals"]
    }
    for moment in moments:
        mine = rows.filter(pl.col("timestamp") == moment)
        for symbol, value in zip(mine["symbol"], model.score_bar(*arrays(mine, model)).score, strict=True):
            assert found[symbol, moment] == pytest.approx(value, abs=1e-7)


def arrow_body(rows: pl.DataFrame, model: Model) -> bytes:
    names = [*model.columns, *model.context]
    content = rows.select("symbol", "timestamp", *(pl.col(name).fill_nan(None) for name in names)).to_arrow(
        compat_level=pl.CompatLevel.oldest()
    )
    content = content.set_column(0, "symbol", content["symbol"].cast(pa.string()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, content.schema) as writer:
        writer.write_table(content)
    return sink.getvalue().to_pybytes()


def test_arrow_and_json_answer_alike(live, model, bar):
    current = bar.filter(~pl.col("behind"))
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    for choice in ("market", "batch"):
        given = live.client.post(
            f"/score?cross_section={choice}", content=arrow_body(current, model), headers=headers
        ).json()["signals"]
        assert (
            given
            == post(
                live,
                "/score",
                {"cross_section": choice, "rows": score_rows(current, model, range(len(current)))},
            ).json()["signals"]
        )


def test_unknown_values_are_scored_and_unknown_symbols_are_not_looked_up(live, model, bar):
    row = {**score_rows(bar, model, [0])[0], "symbol": "NEW-NAME"}
    row["features"] = dict.fromkeys(row["features"])
    signal = post(live, "/score", {"rows": [row]}).json()["signals"][0]
    assert np.isfinite(signal["score"])


def test_each_refusal_over_http(live, model, bar):
    before = live.metric("requests_total", endpoint="signals", result="unknown_symbol")
    good = score_rows(bar, model, [0])
    names = [*model.columns, *model.context]
    first = f"rows[0].features.{names[0]}"

    def changed(**values):
        return {"rows": [{**good[0], "features": {**good[0]["features"], **values}}]}

    assert error(live.signals("S00x")) == (422, "unknown_symbol", "symbols[0]")
    assert error(live.signals("S01", "S01")) == (422, "duplicate_symbol", "symbols[1]")
    assert error(live.signals()) == (422, "empty_batch", "symbols")
    assert error(live.signals(*(f"S{number}" for number in range(MOST_SYMBOLS + 1)))) == (
        413,
        "oversized_batch",
        "symbols",
    )
    assert error(post(live, "/signals", b"{")) == (400, "malformed_json", "body")
    assert error(post(live, "/signals", b"{}")) == (422, "missing_field", "symbols")
    assert error(post(live, "/signals", {"symbols": ["S01"], "x": 1})) == (422, "extra_field", "x")
    assert error(post(live, "/score", changed(**{names[0]: float("nan")}))) == (422, "nan", first)
    assert error(post(live, "/score", changed(**{names[0]: float("inf")}))) == (422, "infinity", first)
    assert error(post(live, "/score", changed(**{names[0]: "1"}))) == (422, "wrong_type", first)
    assert error(post(live, "/score", changed(surplus=1.0))) == (
        422,
        "extra_feature",
        "rows[0].features.surplus",
    )
    without = {key: value for key, value in good[0]["features"].items() if key != names[0]}
    assert error(post(live, "/score", {"rows": [{**good[0], "features": without}]})) == (
        422,
        "missing_feature",
        first,
    )
    assert error(post(live, "/score", {"rows": [{**good[0], "timestamp": "2999-01-01T00:00:00Z"}]})) == (
        422,
        "future_timestamp",
        "rows[0].timestamp",
    )
    assert error(post(live, "/score", {"rows": good * 2})) == (422, "duplicate_symbol", "rows[1].symbol")
    assert error(post(live, "/score", {"rows": [{**good[0], "window": [[1.0]]}]})) == (
        422,
        "extra_field",
        "rows[0].window",
    )
    many = [{**good[0], "symbol": f"N{number}"} for number in range(MOST_ROWS + 1)]
    assert error(post(live, "/score", {"rows": many})) == (413, "oversized_batch", "rows")
    assert error(post(live, "/score", good, **{"content-type": "text/csv"})) == (
        415,
        "unsupported_media_type",
        "content-type",
    )
    assert error(live.client.post("/signals", content=b"")) == (415, "unsupported_media_type", "content-type")
    assert error(
        live.client.post(
            "/score", content=b"no arrow", headers={"content-type": "application/vnd.apache.arrow.stream"}
        )
    ) == (400, "malformed_arrow", "body")
    assert error(live.client.get("/signals")) == (405, "method_not_allowed", None)
    assert error(live.client.get("/docs")) == (404, "not_found", None)
    assert live.metric("requests_total", endpoint="signals", result="unknown_symbol") == before + 1
    assert live.ready()


def test_a_body_beyond_the_limit_is_refused_announced_or_not(live):
    large = b'{"symbols": ["' + b"x" * MOST_BYTES + b'"]}'
    assert error(post(live, "/signals", large)) == (413, "body_too_large", "body")

    def pieces():
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    with httpx.Client(base_url=live.url, timeout=120) as client:
        assert error(
            client.post("/signals", content=pieces(), headers={"content-type": "application/json"})
        ) == (413, "body_too_large", "body")


def test_broken_http_and_a_client_that_goes_away_leave_the_service_as_it_was(live):
    address = ("127.0.0.1", int(live.url.rpartition(":")[2]))
    for raw in (
        b"\x00\x01\x02\r\n\r\n",
        (
            b"POST /signals HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length:"
            b" 400\r\n\r\n{"
        ),
        b"GET / HTTP/9.9\r\n\r\n",
    ):
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(raw)
    assert live.signals("S01").status_code == 200


def test_the_model_and_the_status_are_described(live, run, model):
    about = live.client.get("/model").json()
    assert (about["version"], about["who"], about["why"], about["bundle_sha256"]) == (
        3,
        "tests",
        "first",
        run.bundles[0].name,
    )
    assert about["inputs"] == list(model.columns)
    assert (about["needs_window"], about["verdict"]["approved"], about["last_refusal"]) == (False, True, None)
    status = live.status()
    assert status["ready"] is True
    assert {check["name"] for check in status["checks"]} == {"champion", "store", "schema", "features_fresh"}
    assert status["features"]["symbols"] == 20
    assert (status["log_writer"]["up"], status["champion_watch"]["up"]) == (False, False)


def test_the_answers_have_the_form_that_the_description_gives(live, bar, model):
    document = live.client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"].keys() == {"bearer", "api_key"}
    answers = {
        ("/signals", "post"): live.signals("S01", "S02"),
        ("/score", "post"): post(live, "/score", {"rows": score_rows(bar, model, [0])}),
        ("/model", "get"): live.client.get("/model"),
        ("/status", "get"): live.client.get("/status"),
        ("/", "get"): live.client.get("/"),
    }
    refused = {("/signals", "post"): live.signals("nobody"), ("/score", "post"): post(live, "/score", {})}
    for found in (answers, refused):
        for (path, method), answer in found.items():
            schema = document["paths"][path][method]["responses"][str(answer.status_code)]["content"][
                "application/json"
            ]["schema"]
            jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
    body = document["paths"]["/score"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "application/vnd.apache.arrow.stream"}
    jsonschema.validate({"rows": score_rows(bar, model, [0])}, body["application/json"]["schema"])
    for content in (
        body["application/json"],
        document["paths"]["/signals"]["post"]["requestBody"]["content"]["application/json"],
    ):
        for example in content["examples"].values():
            jsonschema.validate(example["value"], content["schema"])


def test_the_review_is_served_and_nothing_beside_it(live):
    page = live.client.get("/review/")
    assert (page.status_code, page.text) == (200, "<h1>review</h1>")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in (
        "/review/../secret.txt",
        "/review/%2e%2e/secret.txt",
        "/review/..%2fsecret.txt",
        "/review//etc/passwd",
        "/review/link.html",
        "/review/nothing.html",
    ):
        with socket.create_connection(
            ("127.0.0.1", int(live.url.rpartition(":")[2])), timeout=5
        ) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
            )
            raw = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        assert raw.startswith("HTTP/1.1 404"), path
        assert "not for clients" not in raw


def test_metrics_count_what_happened(shared, run, live):
    before = live.metric("requests_total", endpoint="signals", result="ok")
    live.signals("S01")
    live.signals("S02")
    assert live.metric("requests_total", endpoint="signals", result="ok") == before + 2
    assert live.metric("infer_seconds_count", endpoint="signals") >= 2
    assert live.metric("request_seconds_count", endpoint="signals") >= 2
    assert live.metric("store_reads_total", result="ok") >= 2
    assert live.metric("champion_version") == 3
    assert live.metric("ready") == 1
    swapped = live.metric("swaps_total", result="swapped")
    shared.crown(run.bundles[1], 4)
    shared.crown(run.bundles[0], 3, why="first")
    assert live.metric("swaps_total", result="swapped") == swapped + 2
    assert live.metric("symbols_behind") >= 1
    assert live.metric("feature_age_seconds") > 0


def test_a_foreign_host_name_is_refused_without_a_key(live):
    assert error(live.client.get("/model", headers={"host": "evil.example"})) == (403, "loopback_only", None)


def test_with_a_key_nothing_is_answered_without_it_and_it_is_never_written(small_run, tmp_path):
    run = copy_run(small_run, tmp_path / "run")
    crown(run.folder, run.bundles[0], 3)
    (run.folder / "review").mkdir()
    (run.folder / "review" / "index.html").write_text("<h1>review</h1>")
    plan = run.plan(
        {"api_key_variable": VARIABLE, "requests_per_second": 0.01, "burst": 6, "max_feature_age_hours": 24.0}
    )
    with live_service(plan, environment={VARIABLE: f"old-key,{KEY}"}, ready=False) as live:
        assert error(live.client.get("/model")) == (401, "unauthorised", None)
        assert error(
            live.client.post("/signals", json={"symbols": ["S01"]}, headers={"authorization": "Bearer wrong"})
        ) == (401, "unauthorised", None)
        keyed = {"authorization": f"Bearer {KEY}"}
        # Given by hand, because readiness needs no key while /status does.
        answers = [
            live.client.get("/review/", auth=("reviewer", KEY)),
            live.client.post("/signals", json={"symbols": ["S01"]}, headers={"x-api-key": "old-key"}),
        ]
        assert answers[0].status_code == 200
        with pytest.raises(bentoml.exceptions.BentoMLException, match="Failed to fetch schema"):
            bentoml.SyncHTTPClient(live.url, server_ready_timeout=0)
        with bentoml.SyncHTTPClient(live.url, token=KEY, server_ready_timeout=0) as client:
            assert set(client.endpoints) == {"signals", "score"}
        limited = [live.client.get("/", headers=keyed) for _ in range(8)]
        assert [answer.status_code for answer in limited[:4]] == [200] * 4
        assert error(limited[-1]) == (429, "too_many_requests", None)
        assert int(limited[-1].headers["retry-after"]) >= 1
        assert live.client.get("/livez").status_code == live.client.get("/metrics").status_code == 200
        # The market of the test ended long ago, and the limit is a day.
        assert live.client.get("/readyz").status_code == 503
        log = live.log.read_text()
    for secret in (KEY, "old-key"):
        assert secret not in log


def test_no_training_library_is_loaded_in_the_service(live):
    """Each process's mapped files: compiled libraries show there, however they were imported."""
    workers = psutil.Process(live.process.pid).children(recursive=True)
    assert workers
    maps = "".join(Path(f"/proc/{process.pid}/maps").read_text() for process in workers)
    assert "/onnxruntime/" in maps
    for library in ("/torch/", "/lightgbm/", "/xgboost/", "/sklearn/"):
        assert library not in maps, library


@pytest.fixture
def looking_back(shared, run, live, tmp_path) -> Iterator[Path]:
    """The champion's bundle while a test runs."""
    bundle = make_bundle(
        run.market, run.publication, tmp_path / "looking_back", experts=LOOKING_BACK, equal_weights=True
    )
    shared.crown(bundle, 5)
    yield bundle
    shared.crown(run.bundles[0], 3, why="first")


def test_a_model_that_looks_back_gets_its_windows_in_the_same_read(run, live, looking_back):
    model = Model.load(looking_back)
    assert model.lookback_bars == 16
    newest = run.market.factors["timestamp"].max()
    history = run.market.factors.join(
        run.market.factors.filter(pl.col("timestamp") == newest).select("symbol"), on="symbol"
    ).sort("symbol", "timestamp")
    windows = arrays(history.group_by("symbol", maintain_order=True).tail(16), model)[0].reshape(
        -1, 16, len(model.columns)
    )
    current = history.filter(pl.col("timestamp") == newest)
    inputs, context = arrays(current, model)
    scores = model.score_bar(inputs, context, windows).score
    assert live.client.get("/model").json()["needs_window"] is True
    found = live.signals(*current["symbol"]).json()
    assert found["features"]["source"] == "store"
    np.testing.assert_allclose([signal["score"] for signal in found["signals"]], scores, atol=1e-6)
    rows = score_rows(current, model, range(len(current)))
    given = [
        {**row, "window": [[None if value != value else float(value) for value in bar] for bar in window]}
        for row, window in zip(rows, windows, strict=True)
    ]
    batch = post(live, "/score", {"cross_section": "batch", "rows": given}).json()
    np.testing.assert_allclose([signal["score"] for signal in batch["signals"]], scores, atol=1e-6)
    assert error(post(live, "/score", {"rows": rows})) == (422, "missing_window", "rows[0].window")
    assert error(post(live, "/score", {"rows": [{**given[0], "window": given[0]["window"][1:]}]})) == (
        422,
        "wrong_window_shape",
        "rows[0].window",
    )
