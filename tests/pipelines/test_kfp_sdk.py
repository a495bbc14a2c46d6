"""Kubeflow's own SDK on our compiled files: loaded as components, run by kfp.local, uploaded and started by
its client.
"""

import json
from pathlib import Path

import kfp
import kfp_server_api
import pytest
import yaml
from kfp import compiler, components, local
from kfp.local.config import LocalExecutionConfig

from pipelines.config import load_config
from pipelines.runners.cluster import submit_pipeline
from pipelines.runners.ir import compile_pipeline
from tests.pipelines.kfp_stand_in import kfp_stand_in

CONFIG = {
    "run": {"name": "small", "seed": 7},
    "market": {"source": "simulator", "simulator": {"symbols": 6, "bars": 200, "sectors": 2}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sdk")
    # Under kfp.local nothing is mounted: the claim is this folder.
    claim = {"volume_claim": "shared", "mount_path": str(folder)}
    settings = CONFIG | {"run": {**CONFIG["run"], "folder": "run"}, "cluster": claim}
    (folder / "small.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture(scope="module")
def compiled(folder) -> Path:
    return compile_pipeline("materialisation", load_config(folder / "small.yaml"), folder / "compiled.yaml")


def spoiled(compiled: Path, folder: Path) -> Path:
    """A compiled file with a field that no pipeline has."""
    first, *more = yaml.safe_load_all(compiled.read_text())
    first["root"]["dag"]["taskz"] = first["root"]["dag"].pop("tasks")
    (folder / "spoiled.yaml").write_text(yaml.safe_dump_all([first, *more]))
    return folder / "spoiled.yaml"


def test_a_compiled_file_is_a_component_to_kfp_and_compiles_to_itself(compiled, tmp_path):
    component = components.load_component_from_file(str(compiled))
    assert component.name == "alphaloop-materialisation-small"
    compiler.Compiler().compile(component, str(tmp_path / "again.yaml"))
    again = list(yaml.safe_load_all((tmp_path / "again.yaml").read_text()))
    assert again == list(yaml.safe_load_all(compiled.read_text()))
    with pytest.raises(Exception, match="taskz"):
        components.load_component_from_file(str(spoiled(compiled, tmp_path)))


def test_kfp_local_runs_a_compiled_file(compiled, folder, monkeypatch):
    component = components.load_component_from_file(str(compiled))
    # The SDK keeps what `init` says for the whole process.
    monkeypatch.setattr(LocalExecutionConfig, "instance", None)
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "root"))
    component()
    store = folder / "run" / "feature_store"
    current = json.loads((store / "current.json").read_text())
    assert len(current["symbols"]) >= 5
    assert (store / "feature_store.yaml").is_file()


def test_kfps_own_client_uploads_and_starts_a_compiled_file(compiled, folder, tmp_path):
    lasting = ["feature_store.online=redis", "cluster.environment={ALPHALOOP_REDIS: 'redis:6379'}"]
    config = load_config(folder / "small.yaml", ["registry.tracking_uri=http://mlflow:5000", *lasting])
    with kfp_stand_in() as server:
        submit_pipeline("materialisation", config, host=server.address)
        (pipeline,), (experiment,) = server.pipelines, server.experiments
        client = kfp.Client(host=server.address)
        about = {"pipeline_id": pipeline["pipeline_id"], "pipeline_version_name": "by hand"}
        version = client.upload_pipeline_version(str(compiled), **about)
        assert version.display_name == "by hand"
        version_id = server.versions[-1]["pipeline_version_id"]
        run = client.run_pipeline(
            experiment["experiment_id"], "by hand", pipeline_id=about["pipeline_id"], version_id=version_id
        )
        assert run.run_id
        assert len(server.runs) == 2
        wrong = about | {"pipeline_version_name": "spoiled"}
        with pytest.raises(kfp_server_api.ApiException, match="taskz"):
            client.upload_pipeline_version(str(spoiled(compiled, tmp_path)), **wrong)
        assert len(server.versions) == 2
