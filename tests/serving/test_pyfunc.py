"""MLflow's own tools on a registered bundle: loaded and served by its name in the registry, with the figures
of POST /score and the same refusals, and never after a file was changed.
"""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pytest

from components.contracts import BundleError
from components.registry.client import open_registry
from components.registry.config import Settings as RegistrySettings
from components.registry.mlmodel import LOADER
from components.registry.versions import fetch_bundle
from serving.client import Client
from tests.scoring.small_bundle import resealed
from tests.serving.conftest import Shared
from tests.serving.live_service import register
from tests.serving.small_champion import ACROSS, make_bundle
from tests.stores import Server, free_port

NUMBERS = ["score", "p10", "p50", "p90", "uncertainty", "position"]
BARS = 2
# `mlflow models serve` calls uvicorn by its name.
PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="module")
def across(shared, tmp_path_factory) -> Path:
    """A bundle that takes windows, whole bars and the sector."""
    run, folder = shared.run, tmp_path_factory.mktemp("across")
    return make_bundle(run.market, run.publication, folder, experts=ACROSS, equal_weights=True)


@pytest.fixture(scope="module")
def registry(shared, empty_database, tmp_path_factory) -> Path:
    """A run's registry whose champion is the first bundle."""
    folder = tmp_path_factory.mktemp("registered")
    (folder / "registry").mkdir()
    shutil.copyfile(empty_database, folder / "registry" / "mlflow.db")
    register(replace(shared.run, folder=folder), shared.run.bundles[0])
    return folder / "registry"


def load(uri: str, tracking: str):
    """The model as MLflow loads it."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking)
    try:
        return mlflow.pyfunc.load_model(uri)
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def loaded(registry):
    return load("models:/small@champion", f"sqlite:///{registry / 'mlflow.db'}")


@pytest.fixture(scope="module")
def rows(shared, loaded) -> pl.DataFrame:
    """All symbols of the last bars, with the columns that the model names."""
    return of_last_bars(shared, loaded.metadata.get_input_schema().input_names())


def of_last_bars(shared: Shared, columns: list[str], lookback: int = 0) -> pl.DataFrame:
    table = shared.run.market.training_set.sort("symbol", "timestamp")
    names = [name for name in columns if lookback or name != "window"]
    bars = table["timestamp"].unique().sort()[-BARS:]
    if lookback:
        inputs = pl.concat_list(pl.col(shared.run.publication["columns"]))
        table = table.with_columns(
            pl.Series("window", windows(table.select("symbol", inputs.alias("inputs")), lookback))
        )
    return table.filter(pl.col("timestamp").is_in(bars.implode())).select(names)


def windows(table: pl.DataFrame, lookback: int) -> list[bytes]:
    """The inputs of each row's symbol up to this row, oldest first, as little-endian float32."""
    found = []
    for part in table.partition_by("symbol", maintain_order=True):
        values = np.array(part["inputs"].to_list(), dtype="<f4")
        padded = np.concatenate([np.full((lookback - 1, values.shape[1]), np.nan, dtype="<f4"), values])
        found += [padded[place : place + lookback].tobytes() for place in range(len(values))]
    return found


def moments(rows: pl.DataFrame) -> pl.Series:
    return rows["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")


def answered(shared: Shared, rows: pl.DataFrame) -> pd.DataFrame:
    """What POST /score says of the rows."""
    with Client(shared.live.url) as client:
        return pd.DataFrame(client.score(rows, cross_section="batch")["signals"])


def test_the_champion_loaded_by_its_name_says_what_the_service_says(shared, loaded, rows):
    shared.crown(shared.run.bundles[0], 1)
    frame = rows.to_pandas().set_index(np.arange(len(rows)) + 7)
    found, expected = loaded.predict(frame), answered(shared, rows)
    assert found.index.equals(frame.index)
    assert found["symbol"].tolist() == expected["symbol"].tolist()
    np.testing.assert_array_equal(found[NUMBERS].to_numpy(), expected[NUMBERS].to_numpy())
    assert expected["position"].abs().sum() > 0


def test_a_model_of_windows_and_whole_bars_says_what_the_service_says(shared, across):
    shared.crown(across, 2)
    loaded = load(str(across), "file:unused")
    rows = of_last_bars(shared, loaded.metadata.get_input_schema().input_names(), lookback=4)
    found, expected = loaded.predict(rows.to_pandas()), answered(shared, rows)
    np.testing.assert_array_equal(found[NUMBERS].to_numpy(), expected[NUMBERS].to_numpy())
    with pytest.raises(Exception, match="window"):
        loaded.predict(rows.drop("window").to_pandas())
    with pytest.raises(Exception, match=r"rows\[0\]\.window has 4 bytes"):
        loaded.predict(rows.to_pandas().assign(window=[b"1234"] * len(rows)))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda frame: frame.assign(timestamp="2024-01-02T20:00:00"), "no time zone"),
        (lambda frame: frame.assign(timestamp="2024-13-02T20:00:00Z"), "is no moment"),
        (lambda frame: frame.assign(timestamp=frame.timestamp.dt.tz_localize(None)), "'timestamp' has type"),
        (lambda frame: frame.assign(timestamp=frame.timestamp + pd.Timedelta("20000d")), "in the future"),
        (lambda frame: frame.assign(rsi_14_rank=np.inf), r"rows\[0\]\.rsi_14_rank is infinite"),
        (lambda frame: frame.assign(rsi_14_rank="high"), "rsi_14_rank"),
        (lambda frame: frame.assign(symbol=""), r"rows\[0\]\.symbol"),
        (lambda frame: frame.drop(columns="rsi_14_rank"), "rsi_14_rank"),
        (lambda frame: pd.concat([frame, frame]), "occurs twice"),
        (lambda frame: frame.head(0), "no rows"),
    ],
)
def test_a_frame_that_the_service_would_refuse_is_refused(loaded, rows, spoil, says):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=says):
        loaded.predict(spoil(rows.to_pandas()))


def test_texts_and_missing_values_are_read_as_in_a_json_body(loaded, rows):
    frame = rows.to_pandas()
    texts = frame.assign(timestamp=moments(rows).to_list())
    pd.testing.assert_frame_equal(loaded.predict(texts), loaded.predict(frame))
    unknown = loaded.predict(frame.assign(rsi_14_rank=None))
    assert np.isfinite(unknown[NUMBERS].to_numpy()).all()


def test_after_it_was_loaded_the_registry_still_holds_what_was_registered(loaded, registry, tmp_path):
    """MLflow leaves a note among the files that it loads by name."""
    assert list(registry.rglob("registered_model_meta"))
    fetch_bundle(open_registry(RegistrySettings(), registry), "small", 1, tmp_path / "fetched")


def test_a_bundle_that_was_changed_is_not_loaded(registry, shared, tmp_path):
    folder = tmp_path / "registered"
    shutil.copytree(shared.run.bundles[0], folder)
    assert load(str(folder), "file:unused").metadata.flavors["python_function"]["loader_module"] == LOADER
    for name in ("stacker/stacker.json", "MLmodel", "experts/elasticnet/served.json"):
        before = (folder / name).read_text()
        (folder / name).write_text(f"{before}\n")
        with pytest.raises(BundleError, match="was changed"):
            load(str(folder), "file:unused")
        (folder / name).write_text(before)
    (folder / "more.pkl").write_bytes(b"\x80\x05.")
    with pytest.raises(BundleError, match=r"more\.pkl is not in the manifest"):
        load(str(folder), "file:unused")


def test_the_same_bundle_makes_the_same_file_and_one_of_before_is_taken_still(shared, tmp_path):
    """Bundles that were registered before MLmodel was written."""
    from components.registry.mlmodel import write_mlmodel
    from components.scoring import Model

    folder = tmp_path / "bundle"
    shutil.copytree(shared.run.bundles[0], folder)
    written = (folder / "MLmodel").read_bytes()
    (folder / "MLmodel").unlink()
    old = resealed(folder)
    assert Model.load(old).experts
    assert write_mlmodel(old)
    assert (old / "MLmodel").read_bytes() == written
    (old / "MLmodel").unlink()
    (old / "stacker" / "stacker.json").write_text("{}")
    assert not write_mlmodel(resealed(old))


def test_mlflow_models_serve_answers_for_the_champion_of_a_server(shared, mlflow_by_address, rows, tmp_path):
    tracking = mlflow_by_address.address
    register(replace(shared.run, folder=tmp_path), shared.run.bundles[0], server=tracking)
    shared.crown(shared.run.bundles[0], 1)
    port = free_port()
    model = ["-m", "models:/small@champion", "--env-manager", "local", "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    served = Server(
        "serve", [sys.executable, "-m", "mlflow", "models", "serve", *model], port, address, tmp_path
    )
    served.own_environment = {"MLFLOW_TRACKING_URI": tracking, "PATH": PROGRAMS}
    served.answers = lambda: httpx.get(f"{address}/ping").status_code == 200
    served.start()
    try:
        given = rows.with_columns(moments(rows).alias("timestamp")).fill_nan(None)
        body = {"columns": given.columns, "data": [list(row) for row in given.rows()]}
        answer = httpx.post(f"{address}/invocations", json={"dataframe_split": body}, timeout=60)
        assert answer.status_code == 200, answer.text
        found, expected = pd.DataFrame(answer.json()["predictions"]), answered(shared, rows)
        np.testing.assert_array_equal(found[NUMBERS].to_numpy(), expected[NUMBERS].to_numpy())
        body["data"][0][1] = "2024-05-31"
        refused = httpx.post(f"{address}/invocations", json={"dataframe_split": body}, timeout=60)
        assert refused.status_code == 400
        assert "rows[0].timestamp is no moment" in refused.json()["message"]
        assert "stack_trace" not in refused.text
    finally:
        served.kill()
