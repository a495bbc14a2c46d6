"""What would vanish with its pods is found before a run begins; what lasts passes."""

import pytest

from components.contracts import AlphaloopError
from pipelines.commands.options import DEMO
from pipelines.config import load_config
from pipelines.lasting import WouldVanish, lasting_folder, lost_by_pods, require_lasting, vanishing
from tests.pipelines.lasting_config import LASTING

SLOW = "{name: notes, path: notes.csv, observed: day, known: day, columns: [{name: quality}]}"
CLAIM = ("run.store=''", "cluster.volume_claim=alphaloop")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        CLAIM,
        (*CLAIM, "run.store=/alphaloop/kept"),
        (*CLAIM, "run.store=file:///alphaloop/kept"),
        ("cluster.secrets={}", "cluster.environment={ALPHALOOP_REDIS: 'redis:6379'}"),
        ("registry.tracking_uri=https://mlflow.example",),
        ("registry.tracking_uri=databricks",),
        ("market.source=csv", "market.path=s3://bucket/p.csv", "market.sectors.path=s3://bucket/s.csv"),
        ("market.source=csv", "market.path=p/*.csv", "cluster.data_claim=bars"),
        (*CLAIM, "market.source=csv", "market.path=p.csv", "cluster.data_path=/alphaloop/data"),
    ],
)
def test_what_lasts_passes(overrides):
    require_lasting(load_config(DEMO, [*LASTING, *overrides]))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("registry.tracking_uri=''",), r"the model: registry\.tracking_uri is empty"),
        (("registry.tracking_uri=sqlite:////alphaloop/mlflow.db",), "the model: .*names no server"),
        (("registry.tracking_uri=postgresql://postgres/mlflow",), "the model: .*names no server"),
        (("registry.tracking_uri=file:///alphaloop/mlruns",), "the model: .*names no server"),
        ((*CLAIM, "feature_store.online=sqlite"), "the online features: .*Set it to redis"),
        (("cluster.secrets={}",), "no task is told where Redis is.*ALPHALOOP_REDIS"),
        (("feature_store.redis_variable=OTHER",), "no task is told where Redis is.*OTHER"),
        (("run.store=''",), r"run\.folder is a folder of one pod.*cluster\.volume_claim"),
        (("run.store=kept",), r"run\.store is a folder of one pod"),
        (("run.store=file:///kept",), r"run\.store is a folder of one pod"),
        ((*CLAIM, "run.store=/elsewhere"), r"run\.store=/elsewhere lies outside cluster\.mount_path"),
        ((*CLAIM, "run.folder=/tmp/run"), r"run\.folder=/tmp/run lies outside cluster\.mount_path"),
        (
            ("market.source=csv", "market.path=p.csv"),
            r"the bars of .*csv, /data/p\.csv: no volume is mounted",
        ),
        ((*CLAIM, "market.source=csv", "market.path=p.csv"), r"/data/p\.csv: .*cluster\.data_claim"),
        (
            ("market.source=csv", "market.path=/b/p.csv", "cluster.data_claim=bars"),
            r"csv, /b/p\.csv: no volume",
        ),
        (
            ("market.source=csv", "market.path=s3://b/p.csv", "market.sectors.path=s.csv"),
            r"market\.sectors\.path, /data/s\.csv: no volume is mounted",
        ),
        ((f"fusion.tables=[{SLOW}]",), r"fusion table 'notes', /data/notes\.csv: no volume is mounted"),
    ],
)
def test_what_would_vanish_is_refused_with_what_to_set(overrides, says):
    with pytest.raises(WouldVanish, match=says) as raised:
        require_lasting(load_config(DEMO, [*LASTING, *overrides]))
    assert str(raised.value).count("\n- ") == 1


@pytest.mark.parametrize(
    "store", ["gs://bucket/prefix", "S3://bucket", "s3://", "file://here", "https://store/x"]
)
def test_a_store_that_is_no_address_is_refused_with_the_config(store):
    with pytest.raises(AlphaloopError, match=r"run\.store: .*(Write|file:///)"):
        load_config(DEMO, [f"run.store={store}", "feature_store.online=redis"])


def test_everything_that_would_vanish_is_said_at_once():
    assert len(vanishing(load_config(DEMO))) == 3


@pytest.mark.parametrize(
    ("store", "kept"),
    [
        ("", "/run"),
        ("s3://bucket/a", "s3://bucket/a"),
        ("file:///a", "file:///a"),
        ("/a", "/a"),
        ("a", "/run/a"),
    ],
)
def test_where_things_lie_that_last(store, kept):
    overrides = [f"run.store='{store}'", "feature_store.online=redis"]
    assert lasting_folder(load_config(DEMO, overrides), "/run") == kept


def test_compiling_warns_of_all_that_submitting_refuses():
    config = load_config(DEMO, ["market.source=csv", "market.path=bars/*.csv"])
    assert any("the bars of market.source=csv" in one for one in lost_by_pods(config))
    assert set(vanishing(config)) < set(lost_by_pods(config))
