"""Clients that others wrote or generate: BentoML's own, and one that a generator makes of the OpenAPI
document. They find what there is, get the service's figures, and read its refusals.
"""

import importlib
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import bentoml
import numpy as np
import pytest

from serving.client import Client
from tests.serving.conftest import PREFIX, Shared

NUMBERS = ("score", "p10", "p50", "p90", "uncertainty", "position")
# The generator knows JSON and plain bytes; this says that Arrow goes as bytes.
ARROW_AS_BYTES = "content_type_overrides:\n  application/vnd.apache.arrow.stream: application/octet-stream\n"


@pytest.fixture(scope="module", autouse=True)
def champion(shared: Shared) -> None:
    shared.crown(shared.run.bundles[0], 1)


@pytest.fixture(scope="module")
def rows(shared: Shared) -> list[dict[str, Any]]:
    """The last bar as POST /score takes it in JSON."""
    model = shared.live.client.get("/model").json()
    table = shared.run.market.training_set.sort("timestamp", "symbol")
    names = [*model["inputs"], *model["context"]]
    return [
        {
            "symbol": row["symbol"],
            "timestamp": row["timestamp"].isoformat(),
            "features": {name: row[name] if row[name] == row[name] else None for name in names},
        }
        for row in table.tail(10).to_dicts()
    ]


@pytest.fixture(scope="module")
def answered(shared: Shared, rows: list[dict[str, Any]]) -> np.ndarray:
    """What our own client is told of these rows, symbols by NUMBERS."""
    with Client(shared.live.url) as client:
        return figures(client.score(rows, cross_section="batch")["signals"])


def figures(signals: list[dict[str, Any]]) -> np.ndarray:
    return np.array([[signal[name] for name in NUMBERS] for signal in signals])


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_bentomls_own_client_finds_the_endpoints_and_calls_them(shared, rows, answered, prefix):
    with bentoml.SyncHTTPClient(shared.live.url + prefix) as client:
        assert set(client.endpoints) == {"signals", "score"}
        found = client.signals(symbols=["S01", "S02"])
        assert found["signals"] == shared.live.signals("S01", "S02").json()["signals"]
        scored = client.score(rows=rows, cross_section="batch")
        np.testing.assert_array_equal(figures(scored["signals"]), answered)
        with pytest.raises(bentoml.exceptions.UnprocessableEntity, match="unknown_symbol"):
            client.signals(symbols=["S01", "nobody"])
        with pytest.raises(TypeError, match="Arguments not found"):
            client.signals(names=["S01"])


def test_bentoml_itself_describes_nothing_of_the_service(shared):
    """Its own description of no endpoints stands at another path than ours."""
    assert shared.live.client.get("/docs.json").status_code == 404
    assert shared.live.client.post("/schema.json").status_code == 405
    assert "/schema.json" not in shared.live.client.get("/openapi.json").json()["paths"]


def generate(shared: Shared, folder: Path, config: str = "") -> subprocess.CompletedProcess:
    """Run the generator on the service's document; warnings fail it."""
    (folder / "openapi.json").write_text(shared.live.client.get("/openapi.json").text)
    # What it would run afterwards to make the code pretty.
    (folder / "config.yaml").write_text(f"{config}post_hooks: []\n")
    command = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--fail-on-warning"]
    places = ["--path", "openapi.json", "--output-path", "made_client", "--config", "config.yaml"]
    return subprocess.run(
        [*command, *places, "--meta", "none"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def made(shared: Shared, tmp_path_factory) -> ModuleType:
    """The generated package, imported."""
    folder = tmp_path_factory.mktemp("generated")
    done = generate(shared, folder, ARROW_AS_BYTES)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    sys.path.insert(0, str(folder))
    try:
        importlib.import_module("made_client.api.signals.score")
        importlib.import_module("made_client.api.signals.signals")
        return importlib.import_module("made_client")
    finally:
        sys.path.remove(str(folder))


def test_the_only_warning_of_the_generator_is_that_it_does_not_know_arrow(shared, tmp_path):
    done = generate(shared, tmp_path)
    said = done.stdout + done.stderr
    assert said.count("WARNING") == 1
    assert "Unsupported content type application/vnd.apache.arrow.stream" in said


def test_a_generated_client_asks_for_signals_and_reads_refusals(shared, made):
    client, models = made.Client(base_url=shared.live.url), made.models
    ask = made.api.signals.signals.sync
    found = ask(client=client, body=models.SignalsSignalsRequest(symbols=["S01", "S02"]))
    expected = shared.live.signals("S01", "S02").json()["signals"]
    np.testing.assert_array_equal(figures([signal.to_dict() for signal in found.signals]), figures(expected))
    # A symbol of tomorrow can be asked for; today the service refuses it.
    refused = ask(client=client, body=models.SignalsSignalsRequest(symbols=["LISTED-TOMORROW"]))
    assert isinstance(refused, models.ErrorAnswer)
    assert (refused.error.code, refused.error.field) == ("unknown_symbol", "symbols[0]")


def test_a_generated_client_scores_rows(shared, made, rows, answered):
    client, models = made.Client(base_url=shared.live.url), made.models
    ask, body = made.api.signals.score.sync, models.ScoreJsonScoreRequest
    found = ask(client=client, body=body.from_dict({"cross_section": "batch", "rows": rows}))
    np.testing.assert_array_equal(figures([signal.to_dict() for signal in found.signals]), answered)
    assert isinstance(found.signals[0].feature_time, datetime)
    spoiled = [{**rows[0], "timestamp": "2999-01-01T00:00:00+00:00"}]
    refused = ask(client=client, body=body.from_dict({"rows": spoiled}))
    assert (refused.error.code, refused.error.field) == ("future_timestamp", "rows[0].timestamp")


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian package prometheus)"
)
def test_promtool_has_nothing_to_say_of_the_metrics(shared):
    """Planted fault: a metric in milliseconds, by the name that it once had."""
    shared.live.signals("S01")
    text = shared.live.client.get("/metrics").text
    assert "alphaloop_request_seconds_bucket" in text

    def said(metrics: str) -> str:
        command = ["promtool", "check", "metrics"]
        done = subprocess.run(command, input=metrics, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert said(text) == ""
    assert "alphaloop_request_ms" in said(text.replace("alphaloop_request_seconds", "alphaloop_request_ms"))


def test_metrics_come_as_openmetrics_to_whoever_asks(shared):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    given = shared.live.client.get("/metrics", headers={"accept": asked})
    assert given.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in text_string_to_metric_families(given.text)}
    assert {"alphaloop_requests", "alphaloop_request_seconds", "alphaloop_ready"} <= names
    plain = shared.live.client.get("/metrics", headers={"accept": "*/*"})
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
