"""The commands for single experts, without a run: what they take, and what a person is told."""

import sys
from types import SimpleNamespace

import pytest

from pipelines.commands import ablate, tune
from pipelines.commands.cli import main
from tests.pipelines.small_run import write_config


@pytest.fixture
def call(capsys, monkeypatch):
    """Runs `alphaloop experts` in this process."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["alphaloop", "experts", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return SimpleNamespace(code=code, text=" ".join((said.out + said.err).replace("│", " ").split()))

    return run


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path / "small.yaml", tmp_path / "run")


@pytest.mark.parametrize("command", ["tune", "ablate", "explain"])
def test_an_unknown_expert_is_told_which_there_are(command, call, config, tmp_path):
    said = call(command, "lihgtgbm", "--config", config)
    assert said.code == 2
    assert "'lihgtgbm' is none of this config's experts: median/1d/base, elasticnet/1d/base" in said.text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tune", "median"), "There is no search space"),
        (("tune", "elasticnet", "--trials", "0"), "'--trials'"),
        (("tune", "elasticnet", "--workers", "0"), "'--workers'"),
        (("ablate", "elasticnet"), "There is no file of variants"),
        (("ablate", "patchtst", "--window", "backtest"), "'backtest' is neither validation nor test"),
        (("explain", "patchtst"), "alphaloop experts train patchtst"),
        (("explain", "elasticnet"), "elasticnet explains nothing of itself"),
        (("explain", "lightgbm"), "lightgbm explains nothing of itself"),
        (("tune", "elasticnet", "--storage", "nonsense"), "--storage is no database URL"),
        (
            ("tune", "elasticnet", "--storage", "sqlite:////no/such/folder/study.db"),
            "unable to open database file",
        ),
        (("tune", "elasticnet", "--study", ".."), "can't be the name of a file"),
    ],
)
def test_what_can_not_be_done_is_told_before_anything_runs(arguments, words, call, config, tmp_path):
    said = call(*arguments, "--config", config)
    assert said.code not in (0, None)
    assert words in said.text
    assert not (tmp_path / "run").exists()


def test_tune_hands_its_options_on_and_reads_the_database_from_the_environment(call, config, monkeypatch):
    from rich.table import Table

    asked = []
    monkeypatch.setattr(
        tune, "tune", lambda name, config, request: asked.append((name, request)) or (Table(), "said")
    )
    monkeypatch.setenv("ALPHALOOP_SEARCH_STORAGE", "postgresql://me:s3cret@host/name")
    assert (
        "said"
        in call(
            "tune",
            "elasticnet",
            "--trials",
            "9",
            "--workers",
            "2",
            "--timeout-minutes",
            "1.5",
            "--study",
            "mine",
            "--config",
            config,
        ).text
    )
    assert asked == [("elasticnet", tune.Request(9, 2, "postgresql://me:s3cret@host/name", "mine", 1.5))]
    assert "s3cret" not in call("tune", "--help").text


def test_ablate_judges_on_validation_unless_told(call, config, monkeypatch):
    from rich.table import Table

    asked = []
    monkeypatch.setattr(
        ablate,
        "run_ablation",
        lambda name, config, *, seeds, window: asked.append((name, seeds, window)) or (Table(), ""),
    )
    call("ablate", "patchtst", "--config", config)
    call("ablate", "patchtst", "--window", "test", "--seeds", "1", "--config", config)
    assert asked == [("patchtst", 3, "validation"), ("patchtst", 1, "test")]
