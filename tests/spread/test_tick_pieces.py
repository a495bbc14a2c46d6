"""Symbol-sessions of ticks as pieces: the same bytes by one process and by two, and a build that is killed
goes on with the sessions that were not finished.
"""

import pytest

from components.spread import local, piece
from tests.spread.test_spread import files
from tests.spread.tick_stages import ingest, make_all, stages

STAGES = ("validate ticks", "tick features", "tick labels")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return ingest(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory):
    """All stages, by this process."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "slots", lambda needs: 1)
        make_all(raw, folder)
    return folder


def test_two_processes_make_what_one_makes(raw, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "slots", lambda needs: 2)
    make_all(raw, tmp_path)
    assert files(tmp_path) == files(whole)


def test_a_build_that_is_killed_keeps_its_sessions(raw, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "slots", lambda needs: 1)
    honest, made = piece._named, []

    def killed_at_the_second(function):
        made.append(function)
        if len(made) == 2:
            raise KeyboardInterrupt
        return honest(function)

    monkeypatch.setattr(piece, "_named", killed_at_the_second)
    for name in STAGES:
        made.clear()
        with pytest.raises(KeyboardInterrupt):
            stages(raw, tmp_path)[name]()
        stages(raw, tmp_path)[name]()
        assert len(made) == 3, "the first session was made once, the second twice"
    assert files(tmp_path) == files(whole)
