"""Fits of one training side by side in other processes: the same bytes, what is finished stays, who fails is
told as if it had failed here.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from components.contracts.files import read_json
from components.experts.leaves import Leaf
from components.experts.run import Outputs, run
from components.experts.training import copies, folds, processes
from components.experts.training import elsewhere as module
from components.experts.training.inputs import Assignment, Inputs
from components.experts.training.publish import only_training
from components.spread import engines, local
from components.spread.attempts import LOGS, read_attempts
from components.spread.choice import ADDRESS_VARIABLE, ENGINE_VARIABLE
from components.spread.piece import make
from components.timeline import Settings as TimelineSettings
from tests.experts.studies.tables_on_disk import HORIZON, TIMELINE, write_inputs

CROSSED = TimelineSettings(
    **{**TIMELINE.model_dump(), "scheme": "combinatorial", "groups": 4, "test_groups": 2}
)
ELASTICNET = Leaf(expert="elasticnet", period="1d", threads=1)
LIGHTGBM = Leaf(expert="lightgbm", period="1d", threads=1, settings={"rounds": 20})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    found = write_inputs(tmp_path_factory.mktemp("tables"))
    return Inputs(found.training_set, found.labels, found.catalog)


@pytest.fixture
def two(monkeypatch):
    """Two processes from the first fit on, whatever this machine has."""
    monkeypatch.setattr(module, "slots", lambda needs: 2)
    monkeypatch.setattr(local, "slots", lambda needs: 2)
    monkeypatch.setattr(module, "PAYS_FROM_S", 0.0)


def assignment(leaf: Leaf, timeline: TimelineSettings = CROSSED, **more) -> Assignment:
    return Assignment(leaf, timeline, "1d", HORIZON, "log_return", 3, **{"code": "v1", **more})


def train(inputs: Inputs, folder: Path, one: Assignment):
    return run(inputs, Outputs(folder / "expert", folder / "work"), one)


def made(folder: Path) -> dict[str, bytes]:
    """What a training hands on, but for what its status says of seconds and of being resumed."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    status = json.loads(found.pop("status.json"))
    for fit in (status, *status["folds"], *status["cross_validation"]):
        fit.pop("seconds")
    return {**found, "status": json.dumps(status).encode()}


@pytest.mark.parametrize("leaf", [ELASTICNET, LIGHTGBM], ids=lambda leaf: leaf.expert)
def test_side_by_side_gives_the_same_bytes(inputs, tmp_path, leaf, request, monkeypatch):
    train(inputs, tmp_path / "here", assignment(leaf))
    assert not (tmp_path / "here" / "work" / LOGS).exists()
    request.getfixturevalue("two")
    # What was made elsewhere is taken: nothing is fitted again here.
    monkeypatch.setattr(folds, "fit_into", None)
    status = train(inputs, tmp_path / "there", assignment(leaf))
    assert made(tmp_path / "here" / "expert") == made(tmp_path / "there" / "expert")
    names = [fit.fold for fit in (*status.folds, *status.cross_validation)]
    assert len(names) > 6
    tried = {name: read_attempts(tmp_path / "there" / "work" / name) for name in names}
    assert {len(lines) for lines in tried.values()} == {2}
    assert os.getpid() not in {lines[0]["process"] for lines in tried.values()}
    assert status.resumed_folds == 0


def test_what_is_finished_stays_and_other_settings_are_fitted_anew(inputs, tmp_path, two):
    one = assignment(ELASTICNET, TIMELINE)
    first = train(inputs, tmp_path, one)
    fold = first.folds[1].fold
    (tmp_path / "work" / fold / "predictions.parquet").unlink()
    again = train(inputs, tmp_path, one)
    assert [fit.fold for fit in again.folds if not fit.resumed] == [fold]
    assert train(inputs, tmp_path, replace(one, code="v2")).resumed_folds == 0


def test_a_warm_model_goes_along_and_progress_counts_what_is_finished(inputs, tmp_path, two, monkeypatch):
    one = assignment(ELASTICNET, TIMELINE)
    count = len(train(inputs, tmp_path, one).folds)
    for name in ("fold_01", "fold_02"):
        (tmp_path / "work" / name / "predictions.parquet").unlink()
    heard, asked = [], []

    def listen(stage, done, total, what):
        heard.append((done, total))

    def play(function, pieces, *, hear, **about):
        asked.extend(pieces)
        hear(pieces[0], {"event": "advanced", "done": 0.5, "what": "half of it"})

    monkeypatch.setattr(engines, "map", play)
    monkeypatch.setattr(module, "report_progress", listen)
    train(inputs, tmp_path, one)
    assert heard == [(count - 2 + 0.5, count)]
    monkeypatch.setattr(module, "fit_into", lambda work, *_: heard.append(work.key))
    warm = replace(inputs, warm_from=tmp_path / "expert" / "model")
    train(warm, tmp_path / "warm", one)
    module.fit_fold(asked[-1].arguments, tmp_path / "anywhere")
    assert heard[-1] == asked[-1].key


def test_nodes_of_a_cluster_get_what_only_the_driver_sees(inputs, tmp_path, two, monkeypatch):
    """As in a pod, whose artifacts lie on its own disk, and its work folder on one that all nodes see."""
    assert copies.on_other_disk(Path("/proc/self/status"), tmp_path)
    assert not copies.on_other_disk(Path(inputs.labels), Path(inputs.training_set).parent)
    one = assignment(ELASTICNET, TIMELINE)
    train(inputs, tmp_path / "here", one)
    monkeypatch.setenv(ENGINE_VARIABLE, "ray")
    monkeypatch.setenv(ADDRESS_VARIABLE, "ray://head:10001")
    monkeypatch.setattr(copies, "on_other_disk", lambda path, folder: path == Path(inputs.labels))
    work, read = tmp_path / "there" / "work", []

    def nodes(function, pieces, **about):
        for piece in pieces:
            read.append(piece.arguments["inputs"])
            make(function, piece)

    monkeypatch.setattr(engines, "map", nodes)
    train(inputs, tmp_path / "there", one)
    assert made(tmp_path / "here" / "expert") == made(tmp_path / "there" / "expert")
    assert {paths["labels"] for paths in read} == {str(work / copies.COPIES / "labels")}
    assert {paths["training_set"] for paths in read} == {str(inputs.training_set)}
    assert not (work / copies.COPIES).exists()

    seen = []
    monkeypatch.setattr(processes, "_trained", lambda inputs, *_, **__: seen.append(inputs))
    processes.train_in_processes(inputs, one, work)
    assert (seen[0].labels, seen[0].training_set) == (work / copies.COPIES / "labels", inputs.training_set)


def test_what_a_killed_training_left_for_nodes_goes_with_the_next_one(tmp_path):
    work = tmp_path / "work"
    for name in ("..inputs.abc", ".processes-x", ".inputs", "fold_00"):
        (work / name).mkdir(parents=True)
    with only_training(work):
        assert [path.name for path in work.iterdir()] == ["fold_00"]


def test_fits_that_are_short_stay_in_this_process(inputs, tmp_path, two, monkeypatch):
    monkeypatch.setattr(module, "PAYS_FROM_S", 60.0)
    monkeypatch.setattr(engines, "map", None)
    assert train(inputs, tmp_path, assignment(ELASTICNET, TIMELINE)).status == "trained"


def test_without_room_for_two_fits_stay_in_this_process(inputs, tmp_path, two, monkeypatch):
    """Also where that is known only when the first fit has shown what it takes."""
    monkeypatch.setattr(engines, "map", None)
    asked = iter([2, 1])
    monkeypatch.setattr(module, "slots", lambda needs: next(asked))
    assert train(inputs, tmp_path, assignment(ELASTICNET, TIMELINE)).status == "trained"
    monkeypatch.setattr(module, "slots", lambda needs: 1)
    assert module.elsewhere(inputs, assignment(ELASTICNET)) is None


def test_a_fit_needs_the_threads_of_its_leaf_and_what_this_process_took(inputs):
    leaf = ELASTICNET.model_copy(update={"threads": 3})
    needs = module.FitsElsewhere(inputs, assignment(leaf), 0.0).needs()
    assert (needs.cpus, needs.gpus) == (3, 0)
    assert 0.05 < needs.memory_gib < 50


def test_an_expert_that_fails_in_another_process_is_left_out_with_its_words(inputs, tmp_path, two):
    leaf = Leaf(expert="odd", period="1d", module="tests.experts.training.odd")
    status = train(inputs, tmp_path, assignment(leaf, TIMELINE))
    assert status.status == "failed"
    assert "Expert odd, fold_01: fit failed: ValueError: odd fold" in status.reason
    assert "odd.py" in Path(status.trace_file).read_text()
    assert read_json(tmp_path / "expert" / "status.json")["status"] == "failed"


def test_an_expert_whose_processes_die_is_left_out_with_a_sentence(inputs, tmp_path, two):
    leaf = Leaf(expert="odd", period="1d", module="tests.experts.training.odd", settings={"die": True})
    status = train(inputs, tmp_path, assignment(leaf, TIMELINE))
    assert "3 attempts died without a word, the last one with exit code -9" in status.reason
