"""Gathering: what lies in the folder, in which order, and that the items stay what they were."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.contracts import GatheredError, atomic_write_text, read_gathered
from components.gather import run as module
from components.gather.component import gather
from components.gather.run import run


@dataclass(frozen=True)
class Place:
    path: str


@pytest.fixture
def items(tmp_path) -> list[Path]:
    """A folder with a folder in it, and two files."""
    trained = tmp_path / "run-1" / "train-expert" / "expert"
    (trained / "model").mkdir(parents=True)
    (trained / "status.json").write_text('{"status": "trained"}')
    (trained / "model" / "trees.txt").write_text("tree")
    pages = [tmp_path / name for name in ("z.html", "a.html")]
    for page in pages:
        page.write_text(page.name)
    return [trained, *pages]


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_items_lie_side_by_side_in_the_order_given(items, tmp_path):
    run(["lightgbm", "z.html", "a.html"], items, tmp_path / "out", what="things")
    assert content(tmp_path / "out") == {
        "00_lightgbm/status.json": '{"status": "trained"}',
        "00_lightgbm/model/trees.txt": "tree",
        "01_z.html": "z.html",
        "02_a.html": "a.html",
    }
    assert list(read_gathered(tmp_path / "out")) == ["lightgbm", "z.html", "a.html"]
    assert (read_gathered(tmp_path / "out")["lightgbm"] / "model" / "trees.txt").read_text() == "tree"


def test_the_door_leaves_out_empty_slots_and_serves_nine(items, tmp_path):
    slots = {f"item_{number}": Place(str(items[1])) for number in range(1, 10)}
    names = [f"page-{number}.html" for number in slots]
    gather.python_func(what="pages", names=names, code="c", gathered=Place(str(tmp_path / "all")), **slots)
    assert list(read_gathered(tmp_path / "all")) == names
    gather.python_func(
        what="pages",
        names=["one", "two"],
        code="c",
        gathered=Place(str(tmp_path / "two")),
        item_1=slots["item_1"],
        item_2=slots["item_2"],
    )
    assert list(read_gathered(tmp_path / "two")) == ["one", "two"]


def test_more_than_fit_into_one_task_come_behind_those_before(items, tmp_path):
    run(["lightgbm", "z.html"], items[:2], tmp_path / "first", what="things")
    slots = {"item_1": Place(str(items[2])), "before": Place(str(tmp_path / "first"))}
    door = {"what": "things", "names": ["a.html"], "code": "c", "gathered": Place(str(tmp_path / "all"))}
    gather.python_func(**door, **slots)
    run(["lightgbm", "z.html", "a.html"], items, tmp_path / "at once", what="things")
    assert content(tmp_path / "all") == content(tmp_path / "at once")
    with pytest.raises(GatheredError, match="told apart"):
        run(["z.html"], items[2:], tmp_path / "twice", what="things", before=tmp_path / "first")


def test_links_where_they_can_be_and_copies_else(items, tmp_path, monkeypatch):
    run(["a"], items[1:2], tmp_path / "linked", what="pages")
    assert os.path.samefile(items[1], tmp_path / "linked" / "00_a")

    def refused(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(module.os, "link", refused)
    run(["a"], items[1:2], tmp_path / "copied", what="pages")
    assert not os.path.samefile(items[1], tmp_path / "copied" / "00_a")
    assert content(tmp_path / "copied") == content(tmp_path / "linked")


def test_a_link_is_followed_to_its_file(items, tmp_path):
    link = tmp_path / "link.html"
    link.symlink_to(items[1])
    run(["a"], [link], tmp_path / "out", what="pages")
    assert not (tmp_path / "out" / "00_a").is_symlink()
    assert (tmp_path / "out" / "00_a").read_text() == "z.html"


def test_neither_a_later_write_nor_removing_one_side_changes_the_other(items, tmp_path):
    run(["lightgbm", "z.html", "a.html"], items, tmp_path / "out", what="things")
    before = content(tmp_path / "out")
    atomic_write_text(items[1], "written anew")
    shutil.rmtree(items[0])
    assert content(tmp_path / "out") == before
    atomic_write_text(tmp_path / "out" / "02_a.html", "written anew")
    assert items[2].read_text() == "a.html"


@pytest.mark.parametrize("names", [["a"], ["a", "a", "b"], ["a", "b", "c/d"], ["a", "b", ""]])
def test_names_that_do_not_fit_are_refused_and_nothing_is_left(names, items, tmp_path):
    with pytest.raises(GatheredError):
        run(names, items, tmp_path / "out", what="things")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["status.json", "02_b", "01_"])
def test_a_folder_that_was_not_gathered_is_refused(name, items, tmp_path):
    run(["a"], items[1:2], tmp_path / "out", what="pages")
    (tmp_path / "out" / name).write_text("")
    with pytest.raises(GatheredError, match="is no folder of gathered items"):
        read_gathered(tmp_path / "out")
