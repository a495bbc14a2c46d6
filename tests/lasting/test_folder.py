"""A folder by address: what is fetched, what is put back, who wins; on files and on a real S3 server."""

import os
import time

import pytest
from pyarrow import fs

from components.contracts import AlphaloopError
from components.lasting.file_systems import LastingError
from components.lasting.folder import LastingFolder, below, fetched, opened


@pytest.fixture(scope="module")
def server(led_s3):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in led_s3.environment.items():
            patch.setenv(name, value)
        yield led_s3


@pytest.fixture(params=["file", "s3"])
def address(request, tmp_path):
    if request.param == "file":
        return f"file://{tmp_path}/kept in here"
    server = request.getfixturevalue("server")
    return f"{server.address}/{tmp_path.name}"


def write(address, **files):
    with opened(address, lambda name: False) as folder:
        for name, text in files.items():
            path = folder / name.replace("__", "/").replace("_json", ".json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def read(address):
    with opened(address) as folder:
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def test_what_was_put_is_there_for_others_and_what_is_gone_is_removed(address):
    assert read(address) == {}
    write(address, data__first="1", data__second="2", current_json="first")
    assert read(address) == {"data/first": "1", "data/second": "2", "current.json": "first"}
    with opened(address, lambda name: name == "current.json") as folder:
        assert (folder / "data/first").stat().st_size == 0
        assert (folder / "current.json").read_text() == "first"
        (folder / "data/first").unlink()
        (folder / "data/third").write_text("3")
        (folder / ".lock").write_text("")
    assert read(address) == {"data/second": "2", "data/third": "3", "current.json": "first"}


def test_only_what_changed_is_put_and_pointers_come_last(address, monkeypatch):
    write(address, a="1", b="2", z="3")
    put, original = [], LastingFolder.put_file
    monkeypatch.setattr(
        LastingFolder, "put_file", lambda self, path, name: (put.append(name), original(self, path, name))
    )
    with opened(address, last=["a"]) as folder:
        (folder / "a").write_text("new")
        (folder / "b").write_text("2")
        (folder / "y").write_text("4")
    assert put == ["y", "a"]


def test_a_body_that_fails_changes_nothing_and_its_error_names_the_address(address):
    write(address, a="1")

    def fail():
        with opened(address) as folder:
            (folder / "a").write_text("half")
            raise AlphaloopError(f"{folder / 'a'} is damaged")

    with pytest.raises(AlphaloopError) as raised:
        fail()
    assert str(raised.value) == f"{address}/a is damaged"
    assert read(address) == {"a": "1"}


def test_a_file_whose_putting_breaks_off_stays_as_it_was(address, monkeypatch, tmp_path):
    write(address, a="whole")
    (tmp_path / "new").write_text("new content")

    def break_off(source, stream, length):
        stream.write(source.read(3))
        raise KeyboardInterrupt

    place = LastingFolder.at(address)
    with monkeypatch.context() as patch:
        patch.setattr("components.lasting.folder.shutil.copyfileobj", break_off)
        for name in ("a", "b"):
            with pytest.raises(KeyboardInterrupt):
                place.put_file(tmp_path / "new", name)
    assert read(address) == {"a": "whole"}
    found = place.files.get_file_info(fs.FileSelector(place.root, recursive=True))
    assert [one.base_name for one in found if one.is_file] == ["a"]


def test_of_two_writers_each_keeps_its_own_files_and_the_last_pointer_wins(address):
    with opened(address, last=["current.json"]) as one, opened(address, last=["current.json"]) as other:
        for folder, name in ((one, "one"), (other, "other")):
            (folder / name).write_text(name)
            (folder / "current.json").write_text(name)
    assert read(address) == {"one": "one", "other": "other", "current.json": "one"}


def test_files_and_folders_are_as_old_as_at_the_address(address):
    write(address, data__old__a="1")
    time.sleep(1.1)
    write(address, data__new__a="1")
    with opened(address, lambda name: False) as folder:
        assert (folder / "data/old").stat().st_mtime < (folder / "data/new").stat().st_mtime


def test_what_vanishes_after_it_was_listed_is_looked_for_again(address, monkeypatch):
    write(address, part="1", other="2")
    original, removed = LastingFolder.names, []

    def names(self, only=None):
        found = original(self, only)
        if not removed:
            removed.append(True)
            self.remove("part")
            write(address, merged="1")
        return found

    monkeypatch.setattr(LastingFolder, "names", names)
    with opened(address) as folder:
        assert sorted(os.listdir(folder)) == ["merged", "other"]


def test_of_a_few_files_by_name_the_others_stay_as_they_are(address):
    write(address, a="1", b="2", sub__c="3")
    with opened(address, ["a", "sub/c", "absent"], last=["b"]) as folder:
        assert sorted(path.name for path in folder.rglob("*")) == ["a", "c", "sub"]
        (folder / "a").unlink()
        (folder / "d").write_text("4")
    assert read(address) == {"b": "2", "sub/c": "3", "d": "4"}


@pytest.mark.parametrize("name", ["../evil", "sub/../../evil", "/etc/evil"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name):
    class Listing:
        def get_file_info(self, asked):
            return [fs.FileInfo(f"bucket/prefix/{name}", fs.FileType.File, mtime_ns=0)]

    with pytest.raises(LastingError, match="leads out of its folder"):
        LastingFolder("s3://bucket/prefix", Listing(), "bucket/prefix").names()


def test_a_path_is_its_own_folder(tmp_path):
    with opened(below(str(tmp_path), "served")) as folder:
        assert folder == tmp_path / "served"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://", "names no bucket"),
        ("s3://bucket//prefix", "names no bucket, or an empty folder"),
        ("file://relative", "names no absolute path"),
        ("s3://key:secret@bucket/prefix", "may hold no key"),
    ],
)
def test_what_is_no_address_is_refused_without_its_secret(address, says):
    with pytest.raises(LastingError, match=says) as raised, opened(address):
        pass
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("endpoint", ["localhost:8333", "ftp://localhost:8333", "http://"])
def test_an_endpoint_that_is_no_address_is_told(endpoint, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(LastingError, match=r"AWS_ENDPOINT_URL is .*no address of an S3 server"):
        LastingFolder.at("s3://bucket/prefix")


def test_a_server_that_is_gone_or_refuses_is_one_sentence_within_seconds(server, monkeypatch, tmp_path):
    address = f"{server.address}/{tmp_path.name}"
    write(address, a="1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with (
        pytest.raises(LastingError, match=r"is refused by http://127.*AWS_SECRET_ACCESS_KEY"),
        opened(address),
    ):
        pass
    monkeypatch.undo()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)

    def write_while_it_ends():
        with opened(address) as folder:
            (folder / "b").write_text("2")
            server.way.cut()

    began = time.monotonic()
    with pytest.raises(LastingError, match="no S3 server answers at http://127"):
        write_while_it_ends()
    assert time.monotonic() - began < 20
    server.way.mend()
    assert read(address) == {"a": "1"}


def test_a_reader_changes_nothing_whatever_becomes_of_its_copy(address):
    write(address, a="1", b="2")
    with fetched(address) as folder:
        assert {path.name for path in folder.iterdir()} == {"a", "b"}
        (folder / "a").write_text("other")
        (folder / "b").unlink()
        (folder / "c").write_text("new")
    assert read(address) == {"a": "1", "b": "2"}


def test_a_bucket_that_is_not_there_is_no_empty_folder(server):
    with (
        pytest.raises(LastingError, match="there is no bucket 'elsewhere' at http"),
        opened("s3://elsewhere/x"),
    ):
        pass
    assert LastingFolder.at(f"{server.address}/empty").names() == {}
