"""Checkpoints: a training that was killed goes on to the same bits, and a damaged checkpoint is
never used.
"""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from components.experts.neural import checkpoint
from tests.experts.neural.training_parts import run

ROOT = Path(__file__).parents[3]


class Enough(Exception):
    pass


def stopped_at(step: int, folder: Path, **settings) -> None:
    def log(number: int, values: dict) -> None:
        if number == step and "epoch" not in values:
            raise Enough

    with pytest.raises(Enough):
        run(folder, log=log, **settings)


def same(one, other) -> bool:
    (weights, history), (weights_2, history_2) = one, other
    return (
        history == history_2
        and weights.keys() == weights_2.keys()
        and all(torch.equal(weights[name], weights_2[name]) for name in weights)
    )


def steps_of(folder: Path | None, **settings) -> tuple[list[int], tuple]:
    """Steps that a training did, and its result."""
    done: list[int] = []
    result = run(
        folder, log=lambda step, values: done.append(step) if "epoch" not in values else None, **settings
    )
    return done, result


@pytest.fixture
def said(monkeypatch, tmp_path):
    """Events of the training, read as they are when called."""
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("ALPHALOOP_EVENTS", str(path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def warnings(events: list[dict]) -> list[str]:
    return [event["message"] for event in events if event["event"] == "warned"]


@pytest.mark.parametrize(
    ("settings", "place", "number"),
    [
        # 5 batches, so 3 steps an epoch: the 9th batch is the second of a group of two, between two
        # checkpoints.
        ({"checkpoint_steps": 2}, "batch", 8),
        ({"checkpoint_steps": 0, "optimiser": "shampoo", "average": 0.8}, "batch", 9),
        # The old checkpoint has been moved away, and the new one is not yet in its place.
        ({"checkpoint_steps": 1, "optimiser": "adabelief"}, "rename", 4),
    ],
)
def test_a_killed_training_ends_with_the_bytes_of_an_unbroken_one(tmp_path, settings, place, number):
    command = [
        sys.executable,
        "-m",
        "tests.experts.neural.training_parts",
        str(tmp_path / "kept"),
        json.dumps(settings),
        place,
        str(number),
    ]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    unbroken_steps, unbroken = steps_of(None, **settings)
    steps, resumed = steps_of(tmp_path / "kept", **settings)
    assert 0 < len(steps) < len(unbroken_steps)
    assert steps == unbroken_steps[-len(steps) :]
    assert same(unbroken, resumed)
    assert not [path for path in (tmp_path / "kept").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "settings",
    [
        {"checkpoint_steps": 2},
        {"optimiser": "adabelief", "average": 0.7, "checkpoint_steps": 1, "monitored": False},
        {"checkpoint_steps": 2, "average": 0.7, "worth": 1.0},
    ],
)
def test_a_training_stopped_at_any_step_goes_on_to_the_same_bits(tmp_path, settings):
    unbroken_steps, unbroken = steps_of(None, **settings)
    assert unbroken_steps == list(range(1, 10))
    if "worth" in settings:
        assert unbroken[1][0]["monitor"] == max(entry["monitor"] for entry in unbroken[1])
    for step in unbroken_steps:
        folder = tmp_path / str(step)
        stopped_at(step, folder, **settings)
        steps, resumed = steps_of(folder, **settings)
        assert same(unbroken, resumed), step
        written = [
            done for done in range(1, step) if done % settings["checkpoint_steps"] == 0 or done % 3 == 0
        ]
        assert steps[0] == max(written, default=0) + 1


def test_checkpoints_change_nothing_and_a_finished_training_is_not_repeated(tmp_path):
    unbroken = run(None)
    assert same(unbroken, run(tmp_path / "kept"))
    steps, again = steps_of(tmp_path / "kept")
    assert steps == []
    assert same(unbroken, again)


def test_last_and_the_best_epochs_are_kept(tmp_path):
    _, history = run(tmp_path / "kept", epochs=4)
    worth = [entry["monitor"] for entry in history]
    best = sorted(range(4), key=lambda epoch: -worth[epoch])[:2]
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "last",
        *(f"best-{epoch + 1:04d}" for epoch in best),
    }
    assert {path.suffix for path in (tmp_path / "kept").rglob("*") if path.is_file()} == {
        ".json",
        ".safetensors",
    }


DAMAGE = {
    "a flipped byte of the tensors": (
        "tensors.safetensors",
        lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    ),
    "half of the tensors": ("tensors.safetensors", lambda content: content[: len(content) // 2]),
    "another position": ("state.json", lambda content: content.replace(b'"step": 8', b'"step": 7')),
    "half of the manifest": ("manifest.json", lambda content: content[: len(content) // 2]),
    "an empty manifest": ("manifest.json", lambda content: b""),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Checkpoints `last` (step 8), `best-0001` and `best-0002` (step 6) of a training that was stopped, and
    what an unbroken one gives.
    """
    folder = tmp_path_factory.mktemp("stopped") / "kept"
    stopped_at(9, folder, checkpoint_steps=2)
    assert sorted(path.name for path in folder.iterdir()) == ["best-0001", "best-0002", "last"]
    return folder, run(None, checkpoint_steps=2)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_found_and_the_next_older_one_used(kept, tmp_path, said, damage):
    folder, unbroken = kept
    shutil.copytree(folder, tmp_path / "kept")
    name, harm = DAMAGE[damage]
    path = tmp_path / "kept" / "last" / name
    content = path.read_bytes()
    assert harm(content) != content
    path.write_bytes(harm(content))
    steps, resumed = steps_of(tmp_path / "kept", checkpoint_steps=2)
    assert steps == [7, 8, 9]
    assert same(unbroken, resumed)
    assert ["kept/last is damaged" in warning for warning in warnings(said())] == [True]


def test_where_all_checkpoints_are_damaged_the_training_starts_again(kept, tmp_path, said):
    folder, unbroken = kept
    shutil.copytree(folder, tmp_path / "kept")
    for path in (tmp_path / "kept").glob("*/tensors.safetensors"):
        path.unlink()
    steps, resumed = steps_of(tmp_path / "kept", checkpoint_steps=2)
    assert steps == list(range(1, 10))
    assert same(unbroken, resumed)
    assert len(warnings(said())) == 3


def test_a_whole_checkpoint_is_used_without_a_warning(kept, tmp_path, said):
    folder, unbroken = kept
    shutil.copytree(folder, tmp_path / "kept")
    steps, resumed = steps_of(tmp_path / "kept", checkpoint_steps=2)
    assert steps == [9]
    assert same(unbroken, resumed)
    assert warnings(said()) == []


@pytest.mark.parametrize(
    "other",
    [
        {"key": "other data"},
        {"left_out": 12},
        {"seed": 12},
        {"epochs": 4},
        {"accumulate": 1},
        {"optimiser": "adabelief"},
    ],
)
def test_a_checkpoint_of_another_training_is_ignored(kept, tmp_path, said, other):
    folder, _ = kept
    shutil.copytree(folder, tmp_path / "kept")
    steps, result = steps_of(tmp_path / "kept", checkpoint_steps=2, **other)
    assert steps[0] == 1
    assert same(result, run(None, checkpoint_steps=2, **other))
    assert warnings(said()) == []


def test_how_often_checkpoints_are_written_may_change_between_a_kill_and_the_rest(kept, tmp_path):
    folder, unbroken = kept
    shutil.copytree(folder, tmp_path / "kept")
    steps, resumed = steps_of(tmp_path / "kept", checkpoint_steps=0, keep_best=1)
    assert steps == [9]
    assert same(unbroken, resumed)


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {
        "weights": {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3)},
        "none": None,
        "nested": [{3: 0.1 + 0.2, "flag": True}, [torch.ones(2, dtype=torch.bool)]],
    }
    checkpoint.write(tmp_path, ["last"], state, key="k", step=1)
    assert checkpoint.newest(tmp_path, "k") == "last"
    found = checkpoint.read(tmp_path, "last")
    assert torch.equal(found["weights"]["a"], state["weights"]["a"])
    assert found["weights"]["b"].dtype == torch.int64
    assert found["none"] is None
    assert found["nested"][0] == state["nested"][0]
    assert torch.equal(found["nested"][1][0], torch.ones(2, dtype=torch.bool))


def test_a_state_of_unknown_kind_is_refused(tmp_path):
    with pytest.raises(TypeError, match="can't hold set"):
        checkpoint.write(tmp_path, ["last"], {"odd": {1, 2}}, key="k", step=1)
    assert not (tmp_path / "last").exists()


def test_the_parts_draw_at_random():
    """Were the training without chance, the tests above would not see a lost generator."""
    assert not same(run(None), run(None, dropout=0.0))
    assert not same(run(None), run(None, seed=12))
