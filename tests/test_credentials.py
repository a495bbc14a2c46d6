"""What looks like a password, key or token is refused where it would be kept and hidden where it is read;
what only looks like one passes.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.credentials import (
    CredentialFound,
    find_credential,
    names_a_secret,
    require_no_credential,
    without_secrets,
)
from components.processes.imports import own_modules_only
from components.progress import stage
from components.settings import ConfigError
from pipelines.config import load_config
from pipelines.runners import ir
from pipelines.runners.ir import ClusterError, compile_pipeline, read_ir

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "pipelines" / "configs" / "demo.yaml"
# Made up, and put together here so that nobody's scanner takes this file for a leak.
PLANTED = {
    "postgresql://ada:Gr3en-Apple@db:5432/mlflow": "Gr3en-Apple",
    "http://ada:gr3en@apple@127.0.0.1:9": "gr3en@apple",
    "redis://:Gr3en-Apple@cache:6379/0": "Gr3en-Apple",
    "cache:6379,db=0,password=Gr3enApple,ssl=true": "Gr3enApple",
    "cache:6379,Password = 'Gr3enApple'": "Gr3enApple",
    json.dumps({"password": "Gr3enApple"}): "Gr3enApple",
    json.dumps(json.dumps({"MLFLOW_TRACKING_PASSWORD": "Gr3enApple"})): "Gr3enApple",
    "export DB_PASSWORD=Gr3enApple": "Gr3enApple",
    "password=d": "=d",
    "AKIA" + "IOSFODNN7EXAMPLE": "IOSFODNN7EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE": "wJalrXUtnFEMI",
    "ghp_" + "a1B2" * 9: "a1B2a1B2",
    "Authorization: Bearer " + "q7w8e9r0" * 4: "q7w8e9r0",
    "https://bucket.s3.amazonaws.com/x?X-Amz-Signature=" + "0af9" * 16: "0af90af9",
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N": "dozjgNry",
    "sk-proj-" + "aB1_cD2-" * 4: "cD2-",
    "sk_live_" + "a1B2c3D4" * 3: "a1B2c3D4",
    "npm_" + "a1B2" * 9: "a1B2a1B2",
    "authorization: bearer " + "q7w8e9r0" * 4: "q7w8e9r0",
    "{'X-API-Key': 'Gr3enApple'}": "Gr3enApple",
    "https://host/x?api-key=Gr3enApple": "Gr3enApple",
    "AccountName=ada;AccountKey=" + "Gr3enApple==;": "Gr3enApple",
    "-----BEGIN PGP PRIVATE" + " KEY BLOCK-----\nlQVYBG\n-----END PGP PRIVATE KEY BLOCK-----": "lQVYBG",
    "-----BEGIN RSA PRIVATE" + " KEY-----\nMIIEpAIBAAKC\n-----END RSA PRIVATE KEY-----": "MIIEpAIBAAKC",
}
HONEST = [
    "sha256:" + "9f86d081884c7d659a2feaa0c55ad015" * 2,
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
    "",
    "http://mlflow.alphaloop:5000",
    "postgresql://ada@db/mlflow",
    "s3://bucket/prefix",
    "user@example.org",
    "git+https://github.com/a/b@v1",
    "https://example.org:8443/a?b=c@d",
    "the password: ask for it; a password is wanted",
    "such as localhost:6379,db=0,password=...",
    "redis://:${REDIS_PASSWORD}@cache:6379",
    "postgresql://ada:***@db/mlflow",
    "client(address, existing_token=os.environ.get(TOKEN), password=password)",
    "next_page_token=CAEQAA, max_tokens=512, monkey=5",
    json.dumps({"MLFLOW_TRACKING_PASSWORD": {"secret": "mlflow", "key": "password"}}),
    "SecretKey(secret='mlflow', key='password')",
    "Basic materials, and the bearer of news",
    "-----BEGIN CERTIFICATE-----",
    "risk-adjusted-return-of-the-whole-panel",
    "send the key as X-API-Key: $ALPHALOOP_API_KEY",
]


@pytest.mark.parametrize("text", PLANTED)
def test_what_is_planted_is_found_and_hidden(text):
    assert find_credential(f"before {text} after")
    assert PLANTED[text] not in (hidden := without_secrets(f"before {text} after"))
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")
    assert find_credential(hidden) is None
    with pytest.raises(CredentialFound, match=r"The manifest \(config\.0\) would hold an? ") as raised:
        require_no_credential({"config": [text], "other": 1}, "The manifest")
    assert PLANTED[text] not in str(raised.value)


@pytest.mark.parametrize("text", HONEST)
def test_what_only_looks_like_one_passes(text):
    assert find_credential(text) is None
    require_no_credential({"config": [text, 1, None, True, 0.5]}, "The manifest")


def test_texts_that_a_release_is_made_of_pass():
    """Every config and page that is shipped, and the sources that a compiled pipeline holds."""
    for pattern in ("pipelines/configs/**/*.yaml", "docs/*.md", "components/*/component.py"):
        for path in ROOT.glob(pattern):
            found = [line for line in path.read_text().splitlines() if find_credential(line)]
            assert found == [], path


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("DB_PASSWORD", True),
        ("AWS_ACCESS_KEY_ID", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("MLFLOW_TRACKING_TOKEN", True),
        ("my_api_key", True),
        ("PGPASSWORD", True),
        ("REDIS_PASS", True),
        ("AZURE_STORAGE_KEY", True),
        ("AZURE_STORAGE_CONNECTION_STRING", True),
        ("GOOGLE_APPLICATION_CREDENTIALS", False),
        ("COMPASS", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", False),
        ("PWD", False),
        ("OMP_NUM_THREADS", False),
        ("MONKEY", False),
    ],
)
def test_a_variable_tells_by_its_name_whether_it_is_a_secret(name, secret):
    assert names_a_secret(name) is secret


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (
            "registry.tracking_uri=http://ada:Gr3enApple@mlflow:5000",
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.*cluster.secrets",
        ),
        ("registry.tracking_uri=postgresql://ada:Gr3enApple@db/mlflow", "PGPASSWORD"),
        (
            "market.path=s3://key:Gr3enApple@bucket/bars.parquet",
            r"market\.path: keys don't belong into an address",
        ),
        ("cluster.environment={ALPHALOOP_REDIS: 'cache:6379,password=Gr3enApple'}", "cluster.secrets"),
        (
            "cluster.environment={DB_PASSWORD: Gr3enApple}",
            "DB_PASSWORD holds a password, key or token by its",
        ),
        ("cluster.secrets={DB_PASSWORD: Gr3enApple}", "DB_PASSWORD wants the Secret and the key"),
        ("experts.overrides={lightgbm: {tracking: 'http://ada:Gr3enApple@mlflow'}}", r"experts\.overrides"),
        ("market.period=postgresql://ada:Gr3enApple@db", r"market\.period"),
    ],
)
def test_a_config_that_holds_one_is_refused_and_not_quoted(setting, says):
    with pytest.raises(ConfigError, match=says) as raised:
        load_config(DEMO, [setting])
    assert "Gr3enApple" not in str(raised.value)


def test_a_config_that_names_them_is_taken():
    settings = [
        "registry.tracking_uri=http://mlflow.alphaloop:5000",
        "cluster.environment={MLFLOW_TRACKING_USERNAME: me, AWS_TOKEN_FILE: /t, DB_PASSWORD: ''}",
        "cluster.secrets={MLFLOW_TRACKING_PASSWORD: {secret: mlflow, key: password}}",
    ]
    assert load_config(DEMO, settings).cluster.secrets["MLFLOW_TRACKING_PASSWORD"].key == "password"


def test_a_pipeline_that_would_hold_one_is_not_written(tmp_path):
    with pytest.raises(CredentialFound, match=r"executors\..*\) would hold an AWS access key"):
        compile_pipeline(
            "materialisation",
            load_config(DEMO),
            tmp_path / "ir.yaml",
            image="host/image:AKIAGREENAPPLEGREEN1",
        )
    assert list(tmp_path.iterdir()) == []
    written = compile_pipeline("materialisation", load_config(DEMO), tmp_path / "ir.yaml")
    documents = read_ir(written)
    ir._check_credentials(documents)
    next(iter(documents[0]["deploymentSpec"]["executors"].values()))["container"]["env"].append(
        {"name": "DB_PASSWORD", "value": "Gr3enApple"}
    )
    with pytest.raises(ClusterError, match="value of DB_PASSWORD") as raised:
        ir._check_credentials(documents)
    assert "Gr3en" not in str(raised.value)
    assert yaml.safe_dump(documents).count("Gr3enApple") == 1


FAILING = """
from components.contracts import AlphaloopError
from components.progress import stage, warn
with stage("registry"):
    warn("registry", "http://ada:Gr3enApple@mlflow answers late")
    try:
        raise ValueError("cache:6379,password=Gr3enApple")
    except ValueError as error:
        raise KIND("the server did not answer") from error
"""


@pytest.mark.parametrize("kind", ["AlphaloopError", "OSError"])
def test_a_failure_leaves_none_in_log_and_events(kind, tmp_path):
    events = tmp_path / "events.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FAILING.replace("KIND", kind)],
        env={**own_modules_only(), "ALPHALOOP_EVENTS": str(events)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Gr3enApple" not in done.stderr + done.stdout + events.read_text()
    assert "password=***" in done.stderr
    assert f"{kind}: the server did not answer" in done.stderr
    assert "http://***@mlflow answers late" in events.read_text()


def test_a_failure_without_one_is_raised_as_it_is(capsys):
    planted = OSError("the disk is full")
    with pytest.raises(OSError, match="disk") as raised, stage("registry"):
        raise planted
    assert raised.value is planted
    assert "Traceback" not in capsys.readouterr().err
