"""The whole loop on real stores, with each server killed in the middle: training in pods, PostgreSQL and S3
behind an MLflow server, Feast on S3 and Redis, the service on a machine with nothing but addresses, drift of
what it answered, retraining in pods, the new champion answered.

No two commands share a run folder, and no task sees more than its pod has.
"""

import copy
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx
import polars as pl
import pytest
import yaml

from components.contracts.documents.summary import RunSummary
from components.lasting.folder import LastingFolder, opened
from components.market.config import Settings as MarketSettings
from components.market.simulator import simulate
from components.registry.aliases import champion_history, champion_of
from components.registry.client import open_existing
from components.retraining.review_folder import read_review
from pipelines.commands.serve import replay_store
from pipelines.config import Config, load_config
from serving.client import Client
from tests.pipelines.pods_here import refused
from tests.pipelines.retraining_run import BARS, SYMBOLS
from tests.pipelines.small_run import (
    COMMAND,
    FEW_FACTORS,
    RUNS_S,
    SETTINGS,
    alphaloop,
    read_events,
    wait_for,
)
from tests.serving.live_service import free_port, until
from tests.stores import Server, mlflow_server, postgres_server, redis_server, s3_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(RUNS_S),
    pytest.mark.skipif(bool(refused()), reason=f"pods: {refused()}"),
]
TRAINED_BARS, GROWN_BARS = 320, 385
RUNNER = ("--runner", "pods")


@dataclass
class Team:
    """The servers, and a market whose prices go on."""

    place: Path
    s3: Server
    redis: Server
    mlflow: Server
    port: int
    prices: pl.DataFrame
    machines: int = 0

    def advance(self, bars: int) -> None:
        """Let the price file end with bar number `bars`."""
        days = self.prices["timestamp"].unique().sort()
        columns = ("symbol", "timestamp", "open", "high", "low", "close", "volume", "sector")
        known = self.prices.filter(pl.col("timestamp") <= days[bars - 1])
        known.select(columns).write_parquet(self.place / "prices.parquet")

    def machine(self) -> Path:
        """A config on a machine that nothing else has ever run on: its run folder is a new one."""
        self.machines += 1
        own = self.place / f"machine-{self.machines}"
        own.mkdir()
        settings = copy.deepcopy(SETTINGS)
        settings["run"] = {"name": "small", "seed": 7, "folder": str(own / "run"), "store": self.store}
        settings["market"] = {
            "source": "parquet",
            "path": str(self.place / "prices.parquet"),
            "stamp": "bar_close",
            "period": "1d",
        }
        settings["features"] = FEW_FACTORS
        settings["experts"] = {"leaves": ["median/1d/base", "elasticnet/1d/base"]}
        settings["gates"] |= {"min_champion_bars": 30, "min_champion_t": -100}
        settings["drift"] = {"min_rows": 200, "auc_windows": 4}
        settings["registry"] = {"tracking_uri": self.mlflow.address}
        settings["feature_store"] = {"online": "redis"}
        settings["serving"] = {
            "port": self.port,
            "log_segment_seconds": 0.5,
            "drain_seconds": 0,
            "max_feature_age_hours": None,
        }
        settings["cluster"] = {
            "environment": {name: self.s3.environment[name] for name in ("AWS_ENDPOINT_URL", "AWS_REGION")},
            "secrets": {
                "AWS_ACCESS_KEY_ID": {"secret": "s3", "key": "access-key"},
                "AWS_SECRET_ACCESS_KEY": {"secret": "s3", "key": "secret-key"},
                "ALPHALOOP_REDIS": {"secret": "redis", "key": "address"},
            },
        }
        config = own / "small.yaml"
        config.write_text(yaml.safe_dump(settings))
        return config

    @property
    def store(self) -> str:
        """Where all lies that lasts."""
        return f"{self.s3.address}/small"

    def config(self) -> Config:
        return load_config(self.machine())

    def run(self, config: Path, kill: Server, until_true) -> tuple[int, str]:
        """A training whose server is killed as soon as `until_true`; its exit code and all that it said."""
        log = config.with_suffix(".log")
        with log.open("w") as output:
            command = subprocess.Popen(
                [*COMMAND, "run", "--config", str(config), *RUNNER], stdout=output, stderr=output
            )
            try:
                wait_for(until_true, command)
                kill.kill()
                command.wait(300)
            finally:
                command.kill()
                command.wait()
        return command.returncode, log.read_text()


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    simulator = {"symbols": SYMBOLS, "bars": BARS, "sectors": 4, "late_share": 0.0, "delisted_share": 0.0}
    market = MarketSettings.model_validate({"planted_ic": 0.4, "simulator": simulator})
    with (
        s3_server() as s3,
        redis_server() as redis,
        postgres_server() as postgres,
        mlflow_server(postgres, s3) as mlflow,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {**s3.environment, "ALPHALOOP_REDIS": redis.address}.items():
            patch.setenv(name, value)
        place = tmp_path_factory.mktemp("team")
        team = Team(place, s3, redis, mlflow, free_port(), simulate(market, 7).panel)
        team.advance(TRAINED_BARS)
        yield team


def started(config: Path, stage: str):
    """Whether a stage of the run of this config has begun."""
    folder = Path(yaml.safe_load(config.read_text())["run"]["folder"])
    return lambda: any(
        event["stage"] == stage and event["event"] == "started" for event in read_events(folder)
    )


def one_sentence(text: str) -> bool:
    return "Traceback" not in text


@pytest.fixture(scope="module")
def trained(team):
    """The first model: the run is begun again after each of the servers was killed while it was used."""
    config = team.machine()
    code, text = team.run(config, team.s3, started(config, "audit"))
    assert code == 1
    assert "no S3 server answers" in text
    assert one_sentence(text)
    team.s3.start()

    code, text = team.run(config, team.redis, started(config, "materialise"))
    assert code == 1
    assert "ALPHALOOP_REDIS" in text
    assert "did not answer" in text
    assert one_sentence(text)
    team.redis.start()

    registry = open_existing(load_config(config).registry, team.place)
    code, text = team.run(config, team.mlflow, started(config, "register"))
    assert code == 1
    assert "registry.tracking_uri" in text or "MLflow" in text
    assert one_sentence(text)
    team.mlflow.start()
    assert champion_of(registry, "small") is None

    done = alphaloop("run", "--config", config, *RUNNER, folder=Path(load_config(config).run.folder))
    assert done.code == 0, done.text
    return done


@pytest.fixture(scope="module")
def service(trained, team):
    """`alphaloop serve` on a machine of its own, ready."""
    config = team.machine()
    log = config.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--config", str(config), "--set", "serving.keyless=true"],
            stdout=output,
            stderr=output,
            cwd=config.parent,
        )
    url = f"http://127.0.0.1:{team.port}"
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            until(
                lambda: process.poll() is not None or client.get("/readyz").status_code == 200,
                seconds=240,
                what=f"the service ({log})",
            )
            assert process.poll() is None, log.read_text()
        with Client(url, timeout_s=60) as client:
            yield client
    finally:
        process.terminate()
        process.wait(120)
    assert one_sentence(log.read_text()), log.read_text()


def test_a_run_that_lost_each_server_ends_with_one_whole_model(trained, team):
    assert trained.stages("cached") >= {"ingest", "features", "audit"}
    registry = open_existing(load_config(team.machine()).registry, team.place)
    assert [reign.version for reign in champion_history(registry, "small")] == [1]
    assert champion_of(registry, "small").version == "1"
    assert len(registry.search_model_versions("name = 'small'")) == 1
    with opened(team.store, ["summary.json"]) as folder:
        summary = RunSummary.read(folder / "summary.json")
    assert summary.registration.trials == 1
    names = LastingFolder.at(team.store).names()
    assert {"report.html", "summary.json", "feature_store/current.json"} <= {*names}
    assert "failure.html" not in names
    assert not any(name.endswith((".db-wal", "mlflow.db", "online.db")) for name in names)


def test_every_command_works_with_nothing_but_addresses(trained, team):
    for command, says in {
        ("lookup", "S01"): "Newest values",
        ("champions",): "Champions of small",
        ("report",): f"{team.store}/report.html",
        ("review", "hold", "--reason", "wait", "--who", "ann"): "ann said hold",
        ("review", "approve", "--reason", "go on", "--who", "ann"): "ann said approve",
        ("review",): "2 words",
    }.items():
        done = alphaloop(*command, "--config", team.machine())
        assert (done.code, says in done.text) == (0, True), done.text


def test_answers_reach_the_store_though_it_was_gone_and_lead_to_a_new_champion(service, team, monkeypatch):
    assert service.model()["version"] == 1
    team.advance(GROWN_BARS)
    done = alphaloop("materialise", "--config", team.machine(), *RUNNER)
    assert done.code == 0, done.text
    days = team.prices["timestamp"].unique().sort()
    newest = days[GROWN_BARS - 1]
    until(
        lambda: str(service.signals(["S01"])["signals"][0]["feature_time"])[:10] == newest.date().isoformat(),
        what="the new bars in the service",
    )

    class Shifted(Client):
        """Sends ten inputs moved by one and a half standard deviations: planted drift."""

        def score(self, frame, **options):
            moved = (pl.col(self.model()["inputs"][:10]) + 1.5).cast(pl.Float32)
            return super().score(frame.with_columns(moved), **options)

    monkeypatch.setattr("serving.replay.Client", Shifted)
    config = team.config()
    team.s3.kill()
    team.s3.start()
    first, last = (days[place].date().isoformat() for place in (TRAINED_BARS + 5, GROWN_BARS - 1))
    said = replay_store(config, service.url, first, last)
    assert "answered by version 1" in said
    until(lambda: service.status()["store_mirror"]["waiting"] == 0, what="the answers at the store")

    done = alphaloop("watch", "--once", "--config", team.machine(), *RUNNER)
    assert done.code == 0, done.text
    assert "promoted" in done.text
    with opened(f"{team.store}/review", lambda name: name.endswith(".json")) as folder:
        review = read_review(folder)
    assert review.decisions[0].outcome.champion_after == 2
    assert review.problems == []
    until(lambda: service.signals(["S01"])["model"]["version"] == 2, what="the new champion in the service")
    assert service.status()["ready"]
