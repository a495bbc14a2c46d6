"""Atomic writes: whole or not at all, with errors that say what to do."""

import errno
import os

import polars as pl
import pytest

from components.contracts import (
    AlphaloopError,
    ContractError,
    OutputError,
    atomic_path,
    atomic_write_text,
    read_json,
    require_json,
)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "out.txt"
    atomic_write_text(target, "old")

    def stop_half_way():
        with atomic_path(target) as temporary:
            temporary.write_text("ne")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        stop_half_way()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_a_folder_replaces_a_folder(tmp_path):
    for text in ("one", "two"):
        with atomic_path(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert os.listdir(tmp_path / "model") == ["two"]
    assert os.listdir(tmp_path) == ["model"]


def test_a_full_disk_is_explained(tmp_path):
    def fill():
        with atomic_path(tmp_path / "out") as temporary:
            temporary.write_text("part")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="The disk is full") as caught:
        fill()
    assert "run.folder" in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_explained_where_polars_met_it(tmp_path):
    def fill():
        with atomic_path(tmp_path / "out"):
            raise pl.exceptions.ComputeError(
                "parquet: underlying IO error: No space left on device (os error 28)"
            )

    with pytest.raises(OutputError, match="The disk is full"):
        fill()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_a_file_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        atomic_write_text(tmp_path / "file" / "out.txt", "text")


def test_a_json_file_is_an_object_or_nothing(tmp_path):
    path = tmp_path / "state.json"
    found = [read_json(path)]
    for text in ('{"a": 1}', "[1]", '{"a": ', "\x00"):
        path.write_text(text)
        found.append(read_json(path))
    assert found == [None, {"a": 1}, None, None, None]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, r"state\.json can't be read \(No such file or directory\)\. Mend it\."),
        ('{"a": ', r"state\.json is no JSON \(Expecting value.*\)\. Mend it\."),
        ("[1]", r"state\.json holds a list where a dict is expected\. Mend it\."),
        ("[" * 100_000, r"state\.json is no JSON"),
    ],
)
def test_a_json_file_that_must_be_there_is_named_with_reason_and_remedy(text, fault, tmp_path):
    path = tmp_path / "state.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ContractError, match=fault):
        require_json(path, remedy="Mend it.")


def test_a_json_file_that_must_be_there_is_read(tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"a": 1}')
    assert require_json(path) == {"a": 1}
    with pytest.raises(Refused, match="holds a dict where a list is expected"):
        require_json(path, list, error=Refused)


class Refused(AlphaloopError):
    pass
