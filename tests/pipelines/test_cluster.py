"""Submitting pipelines and setting schedules, against a stand-in of a cluster's API."""

import io
import json
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.settings import ConfigError
from pipelines.commands.schedules import newest_run, schedules_table
from pipelines.config import load_config
from pipelines.lasting import WouldVanish
from pipelines.runners import cluster, kubeflow_api
from pipelines.runners.cluster import code_name, submit_pipeline
from pipelines.runners.cron import cron_schedule
from pipelines.runners.ir import ClusterError, compile_pipeline
from pipelines.runners.schedules import list_schedules, remove_schedule, set_schedule
from tests.pipelines.kfp_stand_in import kfp_stand_in
from tests.pipelines.lasting_config import LASTING

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "pipelines" / "configs" / "demo.yaml"
CLAIM = "cluster.volume_claim=shared"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compiles like `compile_pipeline`, the same pipeline once: `compiled("training", config, None)`."""
    folder, known = tmp_path_factory.mktemp("compiled"), {}

    def compiled_once(name, config, image):
        key = (name, config.run.name, config.run.seed, config.cluster.volume_claim, image)
        if key not in known:
            known[key] = compile_pipeline(name, config, folder / f"{len(known)}.yaml", image=image)
        return known[key]

    return compiled_once


@pytest.fixture(autouse=True)
def compiled_before(compiled, monkeypatch):
    """Has submissions take what another test has compiled already; nothing of the tester's own environment
    speaks for us.
    """
    for variable in ("ALPHALOOP_KFP_TOKEN", "ALPHALOOP_KFP_COOKIES", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(
        cluster,
        "compile_pipeline",
        lambda name, config, output, *, image: Path(shutil.copy(compiled(name, config, image), output)),
    )


@pytest.fixture
def server():
    with kfp_stand_in() as stand_in:
        yield stand_in


def demo(server, *overrides):
    return load_config(DEMO, [*LASTING, f"cluster.host={server.address}", *overrides])


def submit(server, *overrides):
    return submit_pipeline("materialisation", demo(server, *overrides))


def test_a_run_is_started_from_an_uploaded_version_and_says_when_and_of_which_code(server):
    said = submit(server, "cluster.experiment=nightly")
    version = server.versions[0]
    assert re.fullmatch(r"alphaloop-materialisation-demo-[0-9a-f]{12}", version["name"])
    run = server.runs[0]
    assert run["pipeline_version_reference"] == {
        "pipeline_id": version["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    title = r"demo materialisation \d{4}-\d\d-\d\d \d\d:\d\d UTC ([0-9a-f]{7}(-dirty)?|\d+\.\d+\S*)"
    assert re.fullmatch(title, run["display_name"])
    assert [one["display_name"] for one in server.experiments] == ["nightly"]
    assert said == (
        f"Started {run['display_name']!r} from version {version['name']} as run {run['run_id']}:"
        f" {server.address}/#/runs/details/{run['run_id']}"
    )


def test_the_same_content_is_uploaded_once_and_another_one_as_a_new_version(server):
    server.pages_of = 1
    for seed in (7, 7, 8, 7):
        submit(server, f"run.seed={seed}")
    assert len(server.pipelines) == len(server.experiments) == 1
    assert len(server.versions) == 2
    used = [run["pipeline_version_reference"]["pipeline_version_id"] for run in server.runs]
    first, second = (version["pipeline_version_id"] for version in server.versions)
    assert used == [first, first, second, first]


def test_what_another_makes_at_the_same_moment_is_taken(server, monkeypatch):
    submit(server)
    whole = type(server).listed
    unseen = {"experiments": 1, "pipeline_versions": 1}

    def listed_late(self, field, found, given, model):
        if unseen.pop(field, 0):
            return {field: [], "total_size": 0}
        return whole(self, field, found, given, model)

    monkeypatch.setattr(type(server), "listed", listed_late)
    submit(server)
    assert unseen == {}
    assert (len(server.experiments), len(server.versions), len(server.runs)) == (1, 1, 2)


def test_a_whole_pipeline_with_a_volume_passes_the_servers_own_models(server):
    submit_pipeline("training", demo(server, CLAIM), image="registry.example/alphaloop:1")
    spec = server.versions[0]["pipeline_spec"]
    assert spec["pipeline_spec"]["pipelineInfo"]["name"] == "alphaloop-training-demo"
    assert "platform_spec" in spec


def test_service_account_and_root_of_a_run_are_those_of_the_config(server):
    root = "cluster.pipeline_root=s3://bucket/prefix"
    submit(server, "cluster.service_account=alphaloop-runner", root)
    submit(server)
    given, plain = server.runs
    assert given["service_account"] == "alphaloop-runner"
    assert given["runtime_config"]["pipeline_root"] == "s3://bucket/prefix"
    assert "service_account" not in plain
    assert "pipeline_root" not in plain["runtime_config"]


def test_a_server_of_several_users_is_told_the_namespace_with_every_call(server):
    server.namespaces = {"quants", "others"}
    with pytest.raises(ClusterError, match=r"400.*Namespace cannot be empty.*Set|set cluster\.namespace"):
        submit(server)
    with pytest.raises(ClusterError, match=r"403.*not authorized.*profile of yours"):
        submit(server, "cluster.namespace=nobodys")
    submit(server, "cluster.namespace=others")
    submit(server, "cluster.namespace=quants")
    config = demo(server, "cluster.namespace=quants", CLAIM)
    set_schedule("retraining", config, "0 6 * * 1-5")
    assert len(list_schedules(config)) == 1
    assert list_schedules(demo(server, "cluster.namespace=others")) == []
    kept = [(one["display_name"], one["namespace"]) for one in server.experiments]
    assert kept == [("alphaloop", "others"), ("alphaloop", "quants")]
    assert [run["experiment_id"] for run in server.runs] == [
        one["experiment_id"] for one in server.experiments
    ]


def test_a_token_and_cookies_of_the_environment_are_shown_and_go_nowhere_else(server, monkeypatch):
    server.token = "s3cret-token"
    with pytest.raises(ClusterError, match=r"401.*Set ALPHALOOP_KFP_TOKEN"):
        submit(server)
    monkeypatch.setenv("ALPHALOOP_KFP_TOKEN", " s3cret-token\n")
    said = submit(server)
    server.token, server.cookie = None, "oauth2_proxy=s3cret-token"
    monkeypatch.delenv("ALPHALOOP_KFP_TOKEN")
    monkeypatch.setenv("ALPHALOOP_KFP_COOKIES", "oauth2_proxy=s3cret-token")
    submit(server)
    assert "s3cret" not in said + json.dumps([server.runs, server.versions])


def test_in_a_pod_the_service_accounts_token_is_read_anew_for_each_call(server, monkeypatch, tmp_path):
    token = tmp_path / "token"
    token.write_text("first")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    config = demo(server)
    api = kubeflow_api.connect(config.cluster)
    cluster.find_experiment(api, "one")
    token.write_text("second")
    cluster.find_experiment(api, "one")
    assert server.authorisations == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, "cluster.namespace"),
        (401, "ALPHALOOP_KFP_TOKEN"),
        (403, "service account may create runs"),
        (404, "ends with /pipeline"),
        (409, "Try again"),
        (413, "client_max_body_size"),
        (418, "Check what was asked for"),
        (429, "Try again later"),
        (500, "its log"),
        (502, "is the pod ml-pipeline ready"),
        (503, "does the pod ml-pipeline run"),
        (504, "overloaded"),
    ],
)
def test_each_refusal_is_told_with_what_to_do(server, status, told):
    server.refuse = {"POST /apis/v2beta1/runs": (status, None)}
    with pytest.raises(ClusterError, match=rf"refused with {status}") as error:
        submit(server)
    assert told in str(error.value)
    assert "as the test wants it" in str(error.value)


def test_a_refusal_in_html_is_told_without_its_markup(server):
    page = b"<html><head><style>p {}</style></head><body><h1>413 Request Entity Too Large</h1></body></html>"
    server.refuse = {"POST /apis/v2beta1/pipelines/upload_version": (413, page)}
    with pytest.raises(ClusterError, match="413 Request Entity Too Large") as error:
        submit(server)
    assert "<" not in str(error.value)


def test_the_page_of_a_login_is_no_answer(server):
    server.page = "login"
    with pytest.raises(ClusterError, match=r"text/html.*page of a login.*ALPHALOOP_KFP_COOKIES"):
        submit(server)


def test_an_address_without_the_api_is_told(server):
    with pytest.raises(ClusterError, match=r"404.*Nothing stands there.*/pipeline"):
        submit(server, f"cluster.host={server.address}/elsewhere")


def test_silence_is_told(server, monkeypatch):
    server.delay_s = 1.0
    monkeypatch.setattr(kubeflow_api, "TIMEOUT_S", (0.5, 0.2))
    begun = time.monotonic()
    with pytest.raises(ClusterError, match=r"did not answer within 0 s.*look at its page of runs"):
        submit(server)
    assert time.monotonic() - begun < 0.9


def test_an_address_at_which_nobody_listens_is_told(server):
    with kfp_stand_in() as gone:
        address = gone.address
    with pytest.raises(ClusterError, match=r"does not answer.*port-forward"):
        submit(server, f"cluster.host={address}")
    with pytest.raises(ClusterError, match=r"proxy .* does not answer.*cluster\.proxy"):
        submit(server, f"cluster.proxy={address}")


def test_a_proxy_is_used(server):
    host = "cluster.host=http://ml-pipeline.nowhere.example:8888"
    submit(server, host, f"cluster.proxy={server.address}")
    assert len(server.runs) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "No cluster is known"),
        ("localhost:8888", "no address of a server"),
        ("ftp://host", "no address of a server"),
        ("http://", "no address of a server"),
    ],
)
def test_an_address_that_is_none_is_refused(text, told):
    with pytest.raises(ClusterError, match=told) as error:
        submit_pipeline("training", load_config(DEMO, [*LASTING, f"cluster.host='{text}'"]))
    assert "s3cret" not in str(error.value)


def test_an_address_with_a_password_is_refused_and_not_repeated(server):
    with pytest.raises(ClusterError, match="holds a name or a password") as error:
        submit_pipeline("training", demo(server), host="http://me:s3cret@host")
    assert "s3cret" not in str(error.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of this machine's own, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    both = folder / "both.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -keyout {folder}/key.pem"
        f" -addext subjectAltName=IP:127.0.0.1 -out {folder}/ca.pem".split(),
        check=True,
        capture_output=True,
    )
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "ca.pem").read_bytes())
    return both


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_a_certificate_is_checked_with_the_authorities_of_ca_file(certificate):
    with kfp_stand_in(certificate) as server:
        with pytest.raises(ClusterError, match=r"can't be reached safely.*cluster\.ca_file"):
            submit(server)
        with pytest.raises(ClusterError, match="is no file"):
            submit(server, "cluster.ca_file=missing.pem")
        submit(server, f"cluster.ca_file={certificate.parent / 'ca.pem'}")
        assert len(server.runs) == 1


def test_names_that_a_server_refuses_are_refused_before(server):
    submit(server, f"run.name={'n' * 100}")
    assert max(len(version["name"]) for version in server.versions) <= 127
    namespaces, experiment = (f"cluster.namespace={'n' * 64}", "cluster.namespace=A"), "n" * 129
    for setting in (*namespaces, f"cluster.experiment={experiment}", f"run.name={'n' * 101}"):
        with pytest.raises(ConfigError, match=setting.partition("=")[0]):
            demo(server, setting)


def test_of_an_installed_copy_the_version_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "ROOT", tmp_path)
    assert re.fullmatch(r"\d+\.\d+.*", code_name())
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)  # somebody else's repository around it
    assert re.fullmatch(r"\d+\.\d+.*", code_name())


def test_a_schedule_is_set_from_a_version_and_never_overlaps(server):
    config = demo(server, CLAIM, "cluster.service_account=alphaloop-runner")
    said = set_schedule("retraining", config, "0 6 * * 1-5")
    (body,) = server.recurring
    assert "'demo retraining' recurs at '0 0 6 * * 1-5'" in said
    assert said.endswith(f"{server.address}/#/recurringrun/details/{body['recurring_run_id']}")
    assert server.runs == []
    assert body["trigger"] == {"cron_schedule": {"cron": "0 0 6 * * 1-5"}}
    assert (str(body["max_concurrency"]), body["no_catchup"], body["mode"]) == ("1", True, "ENABLE")
    assert body["service_account"] == "alphaloop-runner"
    version = server.versions[0]["pipeline_version_id"]
    assert body["pipeline_version_reference"]["pipeline_version_id"] == version


def test_setting_a_schedule_twice_gives_one_and_leaves_the_others(server):
    server.pages_of = 1
    config = demo(server, CLAIM)
    set_schedule("materialisation", config, "0 5 * * *")
    set_schedule("retraining", config, "0 6 * * *")
    set_schedule("retraining", demo(server, CLAIM, "run.name=other"), "0 7 * * *")
    (first,) = (one for one in server.recurring if one["display_name"] == "demo retraining")
    said = set_schedule("retraining", config, "30 6 * * *")
    assert f"in place of {first['recurring_run_id']}" in said
    kept = {one["display_name"]: one["trigger"]["cron_schedule"]["cron"] for one in server.recurring}
    assert kept == {
        "demo materialisation": "0 0 5 * * *",
        "demo retraining": "0 30 6 * * *",
        "other retraining": "0 0 7 * * *",
    }
    # A run that the old one has begun is its child: deleting it must not end that run.
    assert server.deleted == [(first["recurring_run_id"], "ORPHAN")]


def test_a_schedule_that_can_not_be_set_leaves_the_old_one(server):
    config = demo(server, CLAIM)
    set_schedule("retraining", config, "0 6 * * *")
    before = list(server.recurring)
    server.refuse = {"POST /apis/v2beta1/recurringruns": (500, None)}
    with pytest.raises(ClusterError, match="500"):
        set_schedule("retraining", config, "0 7 * * *")
    assert server.recurring == before
    server.refuse = {"DELETE": (503, None)}
    with pytest.raises(ClusterError, match="503"):
        set_schedule("retraining", config, "0 7 * * *")
    server.refuse = {}
    set_schedule("retraining", config, "0 8 * * *")
    assert [one["trigger"]["cron_schedule"]["cron"] for one in server.recurring] == ["0 0 8 * * *"]


def test_a_schedule_is_removed_by_its_pipeline(server):
    config = demo(server, CLAIM)
    with pytest.raises(ClusterError, match=r"no schedule 'demo retraining'.*alphaloop schedules list"):
        remove_schedule("retraining", config)
    assert server.experiments == []
    set_schedule("retraining", config, "0 6 * * *")
    assert remove_schedule("retraining", config).startswith("Removed 'demo retraining'")
    assert server.recurring == []


def test_the_table_shows_each_schedule_with_its_newest_run(server):
    from rich.console import Console

    def shown():
        console = Console(width=220, record=True, file=io.StringIO())
        console.print(schedules_table(demo(server)))
        return console.export_text()

    assert "alphaloop schedules set" in shown()
    set_schedule("retraining", demo(server, CLAIM), "0 6 * * *")
    assert "none yet" in shown()
    (schedule,) = server.recurring
    run = {"experiment_id": schedule["experiment_id"], "recurring_run_id": schedule["recurring_run_id"]}
    server.runs += [
        {**run, "run_id": "old", "state": "FAILED", "created_at": "2026-01-01T06:00:00Z"},
        {**run, "run_id": "new", "state": "SUCCEEDED", "created_at": "2026-01-02T06:00:00Z"},
    ]
    assert "demo retraining" in shown()
    assert "SUCCEEDED since 2026-01-02 06:00 UTC" in shown()
    assert "FAILED" not in shown()


def test_a_run_that_hangs_is_said_to_block_its_schedule():
    now = datetime(2026, 3, 4, tzinfo=UTC)
    run = SimpleNamespace(state="RUNNING", created_at=now - timedelta(hours=2), run_id="r-1")
    assert newest_run(SimpleNamespace(newest=run), now) == "RUNNING since 2026-03-03 22:00 UTC"
    run.created_at = now - timedelta(days=3)
    assert "none of this schedule begins before it ends" in newest_run(SimpleNamespace(newest=run), now)
    run.state = "SUCCEEDED"
    assert "begins" not in newest_run(SimpleNamespace(newest=run), now)


def test_what_would_vanish_with_its_pods_is_neither_started_nor_scheduled(server):
    with pytest.raises(WouldVanish, match=r"registry\.tracking_uri is empty"):
        set_schedule("retraining", demo(server, "registry.tracking_uri=''"), "0 6 * * 1-5")
    with pytest.raises(WouldVanish, match=r"run\.folder is a folder of one pod"):
        submit(server, "run.store=''")
    assert server.requests == []


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("0 6 * * 1-5", "0 0 6 * * 1-5"),
        ("*/15 * * * *", "0 */15 * * * *"),
        (" 30 6,18  1-7/2 jan-mar MON,wed ", "0 30 6,18 1-7/2 jan-mar MON,wed"),
        ("10 0 6 ? * 2", "10 0 6 ? * 2"),
    ],
)
def test_five_fields_get_the_second_in_front(text, schedule):
    assert cron_schedule(text) == schedule


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "has 0 fields"),
        ("0 6 * *", "has 4 fields"),
        ("0 0 6 * * 1 2024", "has 7 fields"),
        ("@daily", "has 1 fields"),
        ("60 6 * * *", "'60' is no minute"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 6 0 * *", "'0' is no day of month"),
        ("0 6 * 13 *", "'13' is no month"),
        ("0 6 * * 7", "'7' is no day of week"),
        ("0 6 * * FRI-MON", "'FRI-MON' is no day of week"),
        ("*/0 6 * * *", r"'\*/0' is no minute"),
        ("1,,2 6 * * *", "'1,,2' is no minute"),
        ("0 6-5-4 * * *", "'6-5-4' is no hour"),
        ("0 -6 * * *", "'-6' is no hour"),
        ("? 6 * * *", r"'\?' is no minute"),
        ("² 6 * * *", "'²' is no minute"),
    ],
)
def test_a_broken_schedule_is_refused_by_field(text, named):
    with pytest.raises(ClusterError, match=named):
        cron_schedule(text)
