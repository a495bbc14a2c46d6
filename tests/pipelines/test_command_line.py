"""The command line without a run: help, and what a person is told of every kind of bad input."""

import fcntl
import html
import json
import random
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import polars as pl
import pytest
import typer
import yaml

from pipelines.commands.cli import app, main
from pipelines.config import Config
from tests.pipelines.small_run import alphaloop, read_events, write_config

ONE_SCREEN = 24
HEAVY = (
    "torch",
    "feast",
    "kfp",
    "mlflow",
    "bentoml",
    "evidently",
    "onnxruntime",
    "httpx",
    "great_expectations",
    "polars",
    "pandas",
    "numpy",
    "sklearn",
    "lightgbm",
    "optuna",
)
OF_SETTINGS = ("polars", "numpy")


@pytest.fixture
def call(capsys, monkeypatch):
    """Runs the command in this process:

    `call("run", "--config", path)` gives its exit code and all that it printed.
    """
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["alphaloop", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return SimpleNamespace(code=code, text=said.out + said.err)

    return run


@pytest.fixture
def config(tmp_path):
    """A config whose run folder does not exist yet."""
    return write_config(tmp_path / "small.yaml", tmp_path / "run")


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    """A small simulated panel as a file that is in order."""
    from components.market.config import Settings
    from components.market.simulator import simulate_to_files

    folder = tmp_path_factory.mktemp("simulated")
    simulate_to_files(Settings(simulator={"symbols": 12, "bars": 160, "sectors": 3}), 7, folder)
    return folder / "panel.parquet"


def commands(command: click.Command, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Every command by its path, groups included."""
    found = {path: command}
    for name, child in getattr(command, "commands", {}).items():
        found |= commands(child, (*path, name))
    return found


COMMANDS = commands(typer.main.get_command(app))


def refused(said, *words: str) -> None:
    """One screen, no traceback, an exit code that is not 0, and these words in it."""
    text = " ".join(said.text.replace("│", " ").split())
    assert said.code not in (0, None), said.text
    assert "Traceback" not in said.text
    assert len(said.text.splitlines()) <= ONE_SCREEN
    for word in words:
        assert word in text


def test_the_commands_are_those_of_the_readme():
    assert {" ".join(path) for path, command in COMMANDS.items() if not hasattr(command, "commands")} == {
        *("run", "compile", "submit", "materialise", "lookup", "report", "settings"),
        *(
            "experts list",
            "experts train",
            "experts resume",
            "experts warm",
            "experts tune",
            "experts ablate",
            "experts explain",
        ),
        *("data simulate", "data check", "data fetch", "data bars"),
        *("factors", "audit", "audit-oof", "select", "mine"),
        *("serve", "predict", "replay", "champions", "trials", "promote", "rollback"),
        *("drift", "watch", "review hold", "review force", "review approve"),
        *("schedules list", "schedules set", "schedules remove"),
        *("ticks predict", "ticks collect", "ticks exchange"),
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_an_example_that_parses(path, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    said = call(*path, "--help")
    assert said.code == 0
    lines = [line.strip(" │") for line in said.text.splitlines()]
    examples = [
        line.partition(":")[2].strip() for line in lines if line.startswith(("Example:", "Start with:"))
    ]
    assert examples
    words = shlex.split(examples[0])[1:]
    called = max((known for known in COMMANDS if tuple(words[: len(known)]) == known), key=len)
    assert called[: len(path)] == path
    COMMANDS[called].make_context(" ".join(called), words[len(called) :])


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], HEAVY),
        # What leads a run reads settings, which bring Polars along; all else is for its tasks.
        (["run", "--pipeline", "mining"], [name for name in (*HEAVY, "scipy") if name not in OF_SETTINGS]),
    ],
    ids=["help", "run"],
)
def test_a_command_imports_no_heavy_library_that_it_does_not_need(arguments, unwanted):
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('heavy:', [one for one in {unwanted!r} if one in sys.modules]))\n"
        f"sys.argv = ['alphaloop', *{arguments!r}]\nfrom pipelines.commands.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "heavy: []" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("run.sed=3", ("unknown key 'run.sed'", "Did you mean 'seed'?")),
        ("rum.seed=3", ("unknown key 'rum'", "Did you mean 'run'?")),
        ("run.seed=seven", ("--set run.seed=seven", "valid integer", "'seven'")),
        ("run.seed=-1", ("greater than or equal to 0",)),
        ("run.name=My Model", ("run.name",)),
        ("run.seed", ("not of the form section.key=value",)),
        ("=3", ("not of the form section.key=value",)),
        ("run.seed.deep=3", ("run.seed is the value 7, not a section",)),
        ("run.seed=[1", ("not a valid YAML value",)),
        ("timeline.purge_bars=2", ("purge_bars=2", "Set timeline.purge_bars to 11 or more")),
        ("labels.horizons=[1, 5, 20]", ("purge_bars=11", "Set timeline.purge_bars to 21 or more")),
        (
            "labels.entry=next_close",
            ("labels.entry=next_close but backtest.entry=next_open", "set both to the same price"),
        ),
        ("backtest.size_steps=[[0.6, 0.5], [0.5, 1.0]]", ("size_steps", "each chance above the one before")),
        ("experts.leaves=[median/1d/base]", ("at least 2",)),
        ("experts.leaves=[median/1d/base, median/1d/rich]", ("no such leaf. Write median/1d/base",)),
        ("experts.leaves=[median/1d/base, median/1d/base]", ("'median/1d/base' more than once",)),
        (
            "experts.leaves=[median/1d/base, lightgbm/1h/base]",
            ("market.period is 1d: bars of 1h can't be made from longer ones. Write lightgbm/1d/base",),
        ),
        ("experts.leaves=[median/1d/base, lightgbm/1d/rich]", ("no input is rich", "fusion.tables")),
        ("experts.leaves=[median/1d/base, lightgbm]", ("is no leaf", "lightgbm/1d/base")),
        ("experts.overrides.lightgbm.round=3", ("unknown key 'round'", "Did you mean 'rounds'?")),
        ("experts.overrides.lightgbm.ensemble=9", ("experts.overrides.lightgbm: ensemble", "less than or")),
        ("experts.overrides.lightbgm.rounds=3", ("'lightbgm', which is no expert", "lightgbm")),
        ("timeline.train_share=0.9", ("leave no bars to test on",)),
        ("gates.candidate=nosuch", ("gates.candidate=nosuch is none of the models", "stack", "z_shrunk")),
        ("gates.candidate=z_shrnk", ("did you mean 'z_shrunk'?",)),
        ("gates.candidate=z_mlp", ("gates.candidate=z_mlp is none of the models of this run",)),
        ("gates.baselines.medain=0.1", ("'medain', which is no model; did you mean 'median'?",)),
    ],
)
def test_a_wrong_setting_is_named_before_anything_runs(override, words, call, config, tmp_path):
    refused(call("run", "--config", config, "--set", override), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.yaml"]


@pytest.mark.parametrize(
    "gates",
    [
        {"candidate": "z_mlp"},
        {"candidate": "best_single"},
        {"candidate": "median"},
        {"baselines": {"tft": 0.0}},  # its gate says that it was not trained
    ],
)
def test_every_model_of_a_run_may_be_judged(gates):
    found = Config.model_validate({"gates": gates, "stacking": {"combiners": ["mlp"]}}).gates
    assert found.candidate == gates.get("candidate", "stack")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run: {name: a\nmarket: b", ("not valid YAML", "line 2")),
        ("run:\n\tname: a", ("not valid YAML", "line 2")),
        ("", ("holds nothing", "expected sections")),
        ("- 1\n- 2", ("holds a list",)),
        ("run: 3", ("line 1: run:",)),
        ("run:\n  folder: x\n  sed: 3\n", ("line 3: unknown key 'run.sed'",)),
        ("run:\n  seed: seven\n", ("line 2: run.seed",)),
        ("market:\n  source: parquet\n", ("needs a path", "market.path")),
        ("!!python/object/apply:os.system ['true']", ("not valid YAML",)),
    ],
)
def test_a_broken_config_is_named_with_its_line(text, words, call, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    refused(call("run", "--config", path), "broken.yaml", *words)
    assert list(tmp_path.iterdir()) == [path]


def test_a_config_that_is_missing_or_no_text_is_named(call, tmp_path):
    refused(
        call("run", "--config", tmp_path / "nowhere.yaml"),
        "nowhere.yaml can't be read",
        "pipelines/configs/demo.yaml",
    )
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00run")
    refused(call("run", "--config", tmp_path / "binary.yaml"), "not a text file in UTF-8")
    refused(call("run", "--config", tmp_path), "can't be read")


def spoil(panel: Path, folder: Path, how: str) -> Path:
    """A copy of the panel with one fault."""
    rows = pl.read_parquet(panel)
    path = folder / f"{how}.parquet"
    if how == "missing_column":
        rows.drop("close").write_parquet(path)
    elif how == "other_name":
        rows.rename({"close": "Close"}).write_parquet(path)
    elif how == "empty_file":
        path.write_bytes(b"")
    elif how == "no_rows":
        rows.clear().write_parquet(path)
    elif how == "half_file":
        path.write_bytes(panel.read_bytes()[: panel.stat().st_size // 2])
    elif how == "nan_column":
        rows.with_columns(close=pl.lit(float("nan"))).write_parquet(path)
    elif how == "text_column":
        rows.with_columns(close=pl.lit("n/a")).write_parquet(path)
    elif how == "half_duplicated":
        pl.concat([rows, rows.head(len(rows) // 2).with_columns(close=pl.col("low"))]).write_parquet(path)
    elif how == "upside_down":
        rows.with_columns(high=pl.col("low"), low=pl.col("high")).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing_column", ("column 'close' is missing", "market.columns.close")),
        ("other_name", ("column 'close' is missing", "market.columns.close")),
        ("empty_file", ("is empty (0 bytes)",)),
        ("no_rows", ("no rows",)),
        ("half_file", ("can't be read as Parquet", "fetch it again")),
        ("nan_column", ("column 'close' holds no number at all",)),
        ("text_column", ("column 'close'", "'n/a'")),
        ("half_duplicated", ("A run would stop here", "duplicate")),
        ("upside_down", ("A run would stop here",)),
        ("not_there", ("does not exist",)),
    ],
)
def test_a_bad_file_is_named_with_what_to_do(how, words, call, panel, tmp_path):
    path = spoil(panel, tmp_path, how)
    before = sorted(tmp_path.iterdir())
    said = call("data", "check", path)
    refused(said, *words)
    assert said.code == 2
    assert sorted(tmp_path.iterdir()) == before


def test_a_good_file_passes_the_check_and_leaves_nothing(call, panel, tmp_path):
    rows = pl.read_parquet(panel)
    rows.write_csv(tmp_path / "prices.csv")
    for path in (panel, tmp_path / "prices.csv"):
        said = call("data", "check", path)
        assert said.code == 0, said.text
        assert "verdict: passed" in said.text
    assert [path.name for path in tmp_path.iterdir()] == ["prices.csv"]


@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
def test_bytes_of_any_kind_never_give_a_traceback(name, call, tmp_path):
    noise = random.Random(7).randbytes(256)
    for number, content in enumerate(
        (b"\x00" * 64, b"PAR1", b"a,b\n1", b"timestamp,symbol\n\xff\xfe", noise, b"PAR1" + noise + b"PAR1")
    ):
        path = tmp_path / f"{number}_{name}"
        path.write_bytes(content)
        refused(call("data", "check", path), path.name)


def test_a_few_duplicates_are_quarantined_not_refused(call, panel, tmp_path):
    rows = pl.read_parquet(panel)
    pl.concat([rows, rows.head(20)]).write_parquet(tmp_path / "twice.parquet")
    said = call("data", "check", tmp_path / "twice.parquet")
    assert said.code == 0, said.text
    assert "20 in quarantine" in said.text
    assert "duplicate_identical" in said.text


def test_a_check_says_what_each_reason_means_and_what_to_do(call, panel, tmp_path):
    rows = pl.read_parquet(panel)
    pl.concat([rows, rows.head(20)]).write_parquet(tmp_path / "twice.parquet")
    said = call("data", "check", tmp_path / "twice.parquet")
    meaning = "The same bar is there more than once; the one known first is kept."
    assert f"{meaning} -> Remove the repeats at the source." in " ".join(said.text.split())


def test_one_symbol_is_refused_by_the_check_of_its_config(call, panel, tmp_path):
    rows = pl.read_parquet(panel)
    path = tmp_path / "one.parquet"
    rows.filter(pl.col("symbol") == rows["symbol"][0]).write_parquet(path)
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({"market": {"source": "parquet", "path": str(path)}}))
    said = call("data", "check", "--config", mine)
    refused(said, str(path), "1 symbol", "labels.target", "features.normalisation: zscore")
    assert said.code == 2
    few = tmp_path / "few.parquet"
    rows.filter(pl.col("symbol").is_in(rows["symbol"].unique().sort()[:3].implode())).write_parquet(few)
    mine.write_text(yaml.safe_dump({"market": {"source": "parquet", "path": str(few)}}))
    told = call("data", "check", "--config", mine)
    assert told.code == 0
    assert "With the settings of mine.yaml a run would stop" in told.text
    assert "features.normalisation: zscore" in " ".join(told.text.split())
    alone = call("data", "check", path)
    assert (alone.code, "With the settings of demo.yaml a run would stop" in alone.text) == (0, True)


def test_tables_are_not_folded_where_nobody_watches(call):
    said = call("factors")
    assert said.code == 0
    names = [line.split("│")[1].strip() for line in said.text.splitlines() if line.startswith("│")]
    assert all(names)
    assert "momentum_20" in names
    assert max(map(len, said.text.splitlines())) > 150


def test_a_folder_that_cannot_be_written_is_named(call, config, tmp_path):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "run"
    refused(
        call("run", "--config", config, "--set", f"run.folder={place}"),
        f"run.folder={place}",
        "can't be written",
        "Set run.folder",
    )
    refused(call("data", "simulate", place, "--config", config), str(place))
    refused(call("compile", "--config", config, "--output", place / "ir.yaml"), str(place))
    assert (tmp_path / "file").read_text() == ""


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("a small file system can't be mounted here (needs root and Linux)")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_explained_and_nothing_half_written_is_left(small_disk, call, config):
    refused(
        call(
            "data",
            "simulate",
            small_disk / "market",
            "--config",
            config,
            "--set",
            "market.simulator.bars=4000",
        ),
        "The disk is full",
        "Free some space",
    )
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []

    folder = small_disk / "run"
    said = alphaloop(
        "run",
        "--config",
        config,
        "--set",
        f"run.folder={folder}",
        "--set",
        "market.simulator.bars=4000",
        folder=folder,
    )
    refused(said, "The disk is full", "Free some space")
    assert [e["stage"] for e in said.events if e["event"] == "failed"] == ["ingest"]
    assert not [
        *folder.glob("artifacts/alphaloop-training-*/ingest/panel"),
        *folder.glob("artifacts/alphaloop-training-*/ingest/.*"),
    ]


def test_a_failing_stage_leaves_a_page_and_its_message_on_one_screen(config, panel, tmp_path):
    path = spoil(panel, tmp_path, "missing_column")
    folder = tmp_path / "run"
    said = alphaloop(
        "run",
        "--config",
        config,
        "--set",
        "market.source=parquet",
        "--set",
        f"market.path={path}",
        folder=folder,
    )
    refused(
        said,
        "column 'close' is missing",
        "Stage: ingest",
        str(folder / "failure.html"),
        str(folder / "kfp.log"),
    )
    assert "column 'close' is missing" in html.unescape((folder / "failure.html").read_text())
    assert said.summary is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["market.source=parquet", "market.path=nowhere.parquet"], ("nowhere.parquet does not exist",)),
    ],
)
def test_what_the_set_up_refuses_is_told_like_a_stage(overrides, words, config, tmp_path):
    folder = tmp_path / "run"
    said = alphaloop(
        "run",
        "--config",
        config,
        *(word for override in overrides for word in ("--set", override)),
        folder=folder,
    )
    refused(said, *words, "Stage: set-up")
    assert (folder / "failure.html").exists()
    assert not (folder / "artifacts").exists() or not list((folder / "artifacts").glob("alphaloop-*"))


def test_a_folder_in_use_is_left_alone(call, config, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "events.jsonl").write_text('{"event": "started", "stage": "ingest"}\n')
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused(call("run", "--config", config), f"Another run is using {folder}", "--set run.folder")
    assert read_events(folder) == [{"event": "started", "stage": "ingest"}]


def test_an_unknown_runner_pipeline_or_option_is_named(call, config, tmp_path):
    refused(
        call("run", "--config", config, "--runner", "podman"),
        "'podman' is none of subprocess, docker or pods",
    )
    refused(
        call("compile", "--config", config, "--pipeline", "trainng", "-o", tmp_path / "ir.yaml"),
        "Choose one of: training, materialisation",
    )
    refused(call("run", "--confg", config), "No such option: --confg")
    refused(call("rum"), "No such command 'rum'")
    refused(call("submit", "--config", config), "No cluster is known", "--host")
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_commands_that_need_a_run_say_so(call, config, tmp_path):
    refused(call("report", "--config", config), "no run has finished there", "alphaloop run")
    refused(call("lookup", "AAPL", "--config", config), "There is no feature store", "alphaloop materialise")
    refused(
        call("experts", "warm", "median", "--from", tmp_path / "none", "--config", config),
        "holds no fitted model",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_an_unknown_expert_is_told_which_there_are(call, config):
    for mode in ("train", "resume"):
        refused(
            call("experts", mode, "lightbgm", "--config", config),
            "'lightbgm' is none of this config's experts",
            "lightgbm/1d/base",
        )


def test_a_summary_that_is_cut_off_is_not_a_finished_run(call, config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text('{"name": "sma')
    refused(call("report", "--config", config), "summary.json can't be read")


def test_experts_lists_the_leaves_and_those_of_ones_own(call, tmp_path):
    names = call("experts", "list").text.split()
    assert names == sorted(names)
    assert {"median/1d/base", "patchtst/1h/base"} <= set(names)
    leaf = tmp_path / "leaves" / "glass" / "1d" / "base.yaml"
    leaf.parent.mkdir(parents=True)
    leaf.write_text("expert: glass\n")
    assert call("experts", "list", "--set", f"experts.folder={tmp_path / 'leaves'}").text.split() == sorted(
        [*names, "glass/1d/base"]
    )


def test_simulate_writes_a_market_with_its_truth(call, config, tmp_path):
    said = call("data", "simulate", tmp_path / "market", "--config", config)
    assert said.code == 0, said.text
    assert {path.name for path in (tmp_path / "market").iterdir()} >= {
        "panel.parquet",
        "truth.parquet",
        "faults.parquet",
    }
    assert pl.read_parquet(tmp_path / "market" / "faults.parquet")["kind"].unique().sort().to_list() == [
        "bad_print",
        "duplicates",
    ]


def test_compile_writes_ir(call, config, tmp_path):
    said = call(
        "compile",
        "--config",
        config,
        "--pipeline",
        "materialisation",
        "--image",
        "example/alphaloop:1",
        "-o",
        tmp_path / "ir.yaml",
    )
    assert said.code == 0, said.text
    document = next(yaml.safe_load_all((tmp_path / "ir.yaml").read_text()))
    assert document["pipelineInfo"]["name"] == "alphaloop-materialisation-small"
    assert "example/alphaloop:1" in json.dumps(document)


@pytest.mark.parametrize(("options", "keyless"), [([], False), (["--keyless"], True)])
def test_serving_without_a_key_is_asked_for_by_name(tmp_path, monkeypatch, options, keyless):
    from typer.testing import CliRunner

    from serving.processes import launch

    plans = []
    monkeypatch.setattr(launch, "serve", lambda plan, **_: plans.append(plan))
    config = tmp_path / "mine.yaml"
    config.write_text(f"run: {{name: mine, folder: {tmp_path}/run}}\nmarket: {{source: simulator}}\n")
    ended = CliRunner().invoke(app, ["serve", "--config", str(config), *options])
    assert ended.exit_code == 0, ended.output
    assert plans[0].serving.keyless is keyless
    assert plans[0].drift_bars == 60


def test_a_pipeline_that_another_command_runs_is_named_with_it(call):
    refused(call("run", "--pipeline", "retraining"), "alphaloop watch --once")
    refused(call("run", "--pipeline", "nightly"), "no pipeline 'nightly'", "drift", "replay")
    refused(call("submit", "--cron", "0 6 * * 1-5"), "alphaloop schedules set")
