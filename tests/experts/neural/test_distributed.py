"""Several processes: same losses and weights as one process on the same batches, checkpoints, and failures
that end all of them.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from components.contracts import LABELS, TRAINING_SET, ContractError, write_catalog, write_table
from components.experts.errors import ExpertError
from components.experts.leaves import Leaf
from components.experts.neural import distributed
from components.experts.training import process_worker, processes, publish
from components.experts.training.inputs import Assignment, Inputs
from components.timeline import Settings as TimelineSettings
from tests.experts.market import panel, training_tables
from tests.experts.neural.torchrun_cases import CASES, trained

ROOT = Path(__file__).parents[3]
TIMELINE = TimelineSettings(train_share=0.5, validation_share=0.2, fold_bars=40, purge_bars=3, embargo_bars=2)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """The folder in which two processes left what came out of all cases."""
    folder = tmp_path_factory.mktemp("two")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "localhost:0",
    ]
    command += ["--local-addr", "127.0.0.1", "-m", "tests.experts.neural.torchrun_cases", str(folder)]
    environment = {
        **os.environ,
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "ALPHALOOP_EVENTS": os.devnull,
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_losses_of_one(of_two, name):
    steps, history, weights = trained(name)
    steps_of_two, history_of_two, _ = json.loads((of_two / f"{name}.json").read_text())
    assert len(steps) == len(steps_of_two) > 4
    assert len(history_of_two) == 3, "the monitor of the main process rises, so no epoch may be left out"
    for one, two in zip([*steps, *history], [*steps_of_two, *history_of_two], strict=True):
        assert one.keys() == two.keys()
        assert [two[key] for key in one] == pytest.approx(
            [one[key] for key in one], rel=1e-6 if one is steps[0] else 2e-5, abs=1e-7
        )
    found = load_file(of_two / f"{name}.safetensors")
    for key, value in weights.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=f"{name}: {key}")


def test_what_is_gathered_stands_in_the_order_of_the_processes(of_two):
    tree = json.loads((of_two / "days, row by row.json").read_text())[2]
    assert tree == {"rows": [[0.0, 0.0]], "flags": [True], "half": [1.5], "mean": 1.0, "none": None}


@pytest.fixture
def ranked(monkeypatch):
    """Pretend to be one of several processes, for what needs no exchange."""
    return lambda rank, size: monkeypatch.setattr(distributed, "world", lambda: distributed.World(rank, size))


@pytest.mark.parametrize(("size", "sizes"), [(1, [7]), (2, [4, 3]), (3, [2, 3, 2])])
def test_rows_are_shared_evenly_and_in_order(ranked, size, sizes):
    rows_B, parts = np.array([9, 2, 7, 1, 8, 3, 5]), []
    for rank in range(size):
        ranked(rank, size)
        parts.append(distributed.shard(rows_B, np.zeros(10, dtype=np.int64), whole_days=False))
    assert [len(part.rows_B) for part in parts] == sizes
    assert np.array_equal(np.concatenate([part.rows_B for part in parts]), rows_B)
    assert all(part.counted for part in parts)


@pytest.mark.parametrize(
    ("days", "wanted"),
    [
        ([4, 4, 4, 1, 1, 9, 9, 9], [[0, 1, 2], [3, 4, 5, 6, 7]]),
        ([4, 4, 4, 4, 4, 4, 1], [[0, 1, 2, 3, 4, 5], [6]]),
        ([2, 2, 2], [[0, 1, 2], []]),
    ],
)
def test_days_are_shared_as_wholes(ranked, days, wanted):
    day_N = np.array(days)
    rows_B = np.arange(len(days))
    parts = []
    for rank in range(2):
        ranked(rank, 2)
        parts.append(distributed.shard(rows_B, day_N, whole_days=True))
    assert sorted(([] if not part.counted else part.rows_B.tolist()) for part in parts) == sorted(wanted)
    for part in parts:
        assert set(day_N[part.rows_B].tolist()) <= set(days)
        assert len(part.rows_B), "a process without rows keeps in step on a day that does not count"


def test_one_process_is_left_alone():
    tree = {"x": torch.ones(2)}
    assert distributed.world() == distributed.World(0, 1)
    assert distributed.is_main()
    assert distributed.gathered(tree, distributed.Shard(np.arange(2))) is tree
    assert distributed.agreed(0.5) == 0.5
    distributed.wait()


def test_the_world_is_known_without_torch():
    code = (
        "import sys; from components.experts.neural.distributed import is_main, world; assert is_main() and"
        " world().size == 1; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ContractError, match="processes: 3, but this machine has 2 GPU"), distributed.setup():
        pass


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    training_set, labels, catalog = training_tables(panel(bars=100, symbols=6, seed=1))
    about = {"code_version": "v1", "config_hash": "c"}
    write_table(training_set, folder / "training_set", TRAINING_SET, **about, inputs={"panel": "p"})
    write_table(labels, folder / "labels", LABELS, **about)
    write_catalog(catalog, folder / "catalog")
    return {name: str(folder / name) for name in ("training_set", "labels", "catalog")}


def arguments(tables, folder: Path, harm: str, **changes) -> tuple[Inputs, Assignment, Path]:
    leaf = Leaf(
        expert="second_process",
        period="1d",
        module="tests.experts.neural.second_process",
        processes=2,
        settings={"harm": harm},
    )
    about = {"period": "1d", "horizon": 2, "target": "log_return", "seed": 1, "code": "v1", **changes}
    return Inputs(**tables), Assignment(leaf, TIMELINE, **about), folder


def train_here(given: tuple[Inputs, Assignment, Path], monkeypatch, told=None):
    """As the door does it after the processes, which `told` their status: the same call without them."""
    with monkeypatch.context() as patch:
        patch.setattr(publish, "train_in_processes", lambda *_: told)
        return publish.train_on_tables(*given)


def test_processes_leave_the_folds_for_a_call_without_them(tables, tmp_path, monkeypatch):
    given = arguments(tables, tmp_path / "work", "")
    told = processes.train_in_processes(*given)
    first = train_here(given, monkeypatch, told).status
    assert told.resumed_folds == first.resumed_folds == 0
    assert first.seconds >= told.seconds > 0
    assert [fit.model_dump() for fit in first.folds] == [fit.model_dump() for fit in told.folds]
    attempt = train_here(given, monkeypatch)
    trained_here, status = attempt.trained, attempt.status
    assert status.resumed_folds == len(status.folds) > 1
    assert json.loads((trained_here.model_folder / "processes.json").read_text()) == 2
    alone = train_here(arguments(tables, tmp_path / "alone", ""), monkeypatch).trained
    assert alone.predictions.equals(trained_here.predictions)
    assert isinstance(alone.predictions, pl.DataFrame)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("expert_error", r"second_process, .*: fit failed: the second one is out of luck \(process 1 of 2\)"),
        ("killed", r"A process of 2 died, or hung, without a word"),
    ],
)
def test_a_process_that_fails_ends_all_of_them(tables, tmp_path, harm, said):
    began = time.monotonic()
    with pytest.raises(ExpertError, match=said):
        processes.train_in_processes(*arguments(tables, tmp_path / "work", harm))
    assert time.monotonic() - began < 120
    assert not list((tmp_path / "work").glob("*/result.json"))


def worker_failure(given: tuple[Inputs, Assignment, Path], folder: Path, monkeypatch, **surplus) -> dict:
    """What one worker writes of its failure, in this process; `surplus` are arguments that it
    does not know.
    """
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(distributed, "setup", nullcontext)
    monkeypatch.setattr(os, "_exit", lambda code: None)
    processes.write_arguments(folder / "arguments.json", *given)
    written = json.loads((folder / "arguments.json").read_text())
    written["inputs"] |= surplus
    (folder / "arguments.json").write_text(json.dumps(written))
    process_worker.main(str(folder / "arguments.json"))
    return json.loads((folder / "failure-0.json").read_text())


def test_bad_data_is_the_users_to_mend(tables, tmp_path, monkeypatch):
    found = worker_failure(arguments(tables, tmp_path, "", period="4h"), tmp_path, monkeypatch)
    with pytest.raises(ContractError, match="The training set lacks any input column of the period 1d"):
        processes.raise_failure(found, 2)


def test_a_mistake_in_the_code_keeps_its_trace(tables, tmp_path, monkeypatch):
    found = worker_failure(arguments(tables, tmp_path, ""), tmp_path, monkeypatch, surplus=1)
    with pytest.raises(RuntimeError, match=r"TypeError: .*surplus") as caught:
        processes.raise_failure(found, 2)
    assert "Traceback" in str(caught.value.__cause__)


def test_more_processes_than_the_machine_can_hold_are_refused(tables, tmp_path):
    inputs, assignment, work = arguments(tables, tmp_path, "")
    many = replace(assignment, leaf=assignment.leaf.model_copy(update={"processes": 99}))
    with pytest.raises(ContractError, match=r"processes: 99.*Set processes to"):
        processes.train_in_processes(inputs, many, work)
