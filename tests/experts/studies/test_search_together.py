"""One search by several processes, as on several machines, in PostgreSQL and in SQLite: the exact number of
tries, what a killed process leaves, that all wait for each other, a server that goes away, and refusals.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState
from sqlalchemy.engine import make_url

from components.experts.studies import database, makers, search, study, tries
from components.experts.studies.database import Database, SearchError, patiently
from components.experts.studies.makers import Watch, failure, take_over
from components.experts.studies.tries import read_try
from tests.experts.studies.tables_on_disk import write_inputs
from tests.experts.studies.test_search import NOISE_SPACE, TUNABLE, plan_for, told, wait_for
from tests.stores import Relay, postgres_server

# Searches as a machine of its own, and stands still in its try number STALLS until it is let go on.
CHILD = """
import sys
from pathlib import Path
from tests.experts.studies import test_search_together

test_search_together.search_in_child(*map(Path, sys.argv[1:3]), *sys.argv[3:])
"""


@pytest.fixture(scope="module")
def server():
    with postgres_server() as running:
        yield running


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("tables"))


@pytest.fixture
def storage(request, tmp_path):
    """The address of a fresh database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.db'}"
    return request.getfixturevalue("server").address


both = pytest.mark.parametrize("storage", ["sqlite", "postgresql"], indirect=True)


def plan_of(folder: Path, tables: Path, url: str, name: str, count: int):
    return plan_for(write_inputs(tables), folder, TUNABLE, NOISE_SPACE, trials=count, storage=url, study=name)


def search_in_child(folder: Path, tables: Path, url: str, name: str, count: str, stalls: str) -> None:
    makers.machine, makers.BEAT_S, makers.SILENT_S = lambda: folder.name, 0.5, 5
    train, calls = tries.train_expert, []

    def train_and_wait(*arguments, **options):
        calls.append(1)
        trained = train(*arguments, **options)
        if len(calls) == int(stalls):
            (folder / "waiting").touch()
            while not (folder / "go").exists():
                time.sleep(0.05)
        return trained

    tries.train_expert = train_and_wait
    found = search.search(plan_of(folder, tables, url, name, int(count)))
    (folder / "found.json").write_text(json.dumps(seen(found)))


def seen(found) -> list:
    """All that is published of a study, as JSON has it."""
    return json.loads(json.dumps([told(found), found.best.number, found.gain, found.luck, found.importances]))


@contextmanager
def child(folder: Path, tables: Path, url: str, name: str, count: int, stalls: int):
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, (folder, tables, url, name, count, stalls))],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_of_three_machines_one_is_killed_and_the_others_make_the_exact_number_and_one_best(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(makers, "BEAT_S", 0.5)
    monkeypatch.setattr(makers, "SILENT_S", 5)
    tables = tmp_path / "tables"
    plan = plan_of(tmp_path / "here", tables, server.address, "killed", 9)
    with child(tmp_path / "dies", tables, server.address, "killed", 9, stalls=2) as dies:
        wait_for(tmp_path / "dies" / "waiting", dies)
        with child(tmp_path / "lives", tables, server.address, "killed", 9, stalls=0) as lives:
            dies.send_signal(signal.SIGKILL)
            here = search.search(plan)
            assert lives.wait(timeout=300) == 0
    counted = [one for one in here.tries if one.state != "stopped"]
    assert [one.state in ("complete", "pruned") for one in counted] == [True] * 9
    assert len({str(one.values) for one in counted}) == 9
    # The try that died was made again, with its settings, and by another.
    stopped = next(one for one in here.tries if one.number == 1)
    assert stopped.state == "stopped"
    assert sum(one.values == stopped.values for one in counted) == 1
    assert json.loads((tmp_path / "lives" / "found.json").read_text()) == seen(here)


@both
def test_who_has_no_try_to_make_waits_for_those_at_work(storage, tmp_path, monkeypatch):
    tables, folder = tmp_path / "tables", tmp_path / "slow"
    plan = plan_of(tmp_path / "here", tables, storage, "waits", 3)
    with child(folder, tables, storage, "waits", 3, stalls=3) as slow:
        wait_for(folder / "waiting", slow)
        with monkeypatch.context() as fault:
            draw = tries._draw
            fault.setattr(tries, "_draw", lambda *given, **options: (draw(*given, **options)[0], set()))
            hasty = search.search(plan)
        assert [one.state for one in hasty.tries] == ["complete", "complete", "at work"]
        release = threading.Timer(1.0, (folder / "go").touch)
        release.start()
        here = search.search(plan)
        assert slow.wait(timeout=300) == 0
    assert {one.state for one in here.tries} <= {"complete", "pruned"}
    assert len(here.tries) == 3
    assert json.loads((folder / "found.json").read_text()) == seen(here)


@both
def test_tries_are_drawn_one_at_a_time_wherever_they_are_drawn(storage, inputs, tmp_path, monkeypatch):
    def draw_or_stop(of, plan) -> None:
        with suppress(StopHere):
            tries._draw(of, plan, Watch(), more=True)

    def drawn_by_threads(name: str) -> int:
        plan = plan_for(inputs, tmp_path / name, TUNABLE, NOISE_SPACE, trials=3, storage=storage, study=name)
        with study.quiet():
            studies = [study.open_study(plan) for _ in range(4)]
            study.begin(studies[0], plan)
            draw = [threading.Thread(target=draw_or_stop, args=(one, plan)) for one in studies]
            for thread in draw:
                thread.start()
            for thread in draw:
                thread.join()
            return len(studies[0].get_trials(deepcopy=False))

    # All threads are of one process, whose own tries would be taken for left behind.
    monkeypatch.setattr(tries, "take_over", lambda *_: None)
    sampler = tries._sampler
    monkeypatch.setattr(tries, "_sampler", lambda *given: time.sleep(0.2) or sampler(*given))
    assert drawn_by_threads("locked") == 3
    # Planted: without the lock all four go on to draw, for none of them has drawn when they count.
    together, going_on = threading.Barrier(4), []

    def wait_for_all(*given):
        going_on.append(given)
        together.wait()
        raise StopHere

    monkeypatch.setattr(tries, "_sampler", wait_for_all)
    monkeypatch.setattr(Database, "locked", lambda *_: unlocked())
    drawn_by_threads("unlocked")
    assert len(going_on) == 4


class StopHere(Exception):
    """Ends the thread of one that was let go on."""


@contextmanager
def unlocked():
    yield lambda: None


def test_a_server_that_is_away_for_a_while_is_waited_for(server, inputs, tmp_path, monkeypatch, capsys):
    relay = Relay(server.port)
    relay.mend()
    url = make_url(server.address).set(port=relay.port).render_as_string(hide_password=False)
    calls, train = [], tries.train_expert

    def train_while_it_goes_away(*arguments, **options):
        calls.append(1)
        trained = train(*arguments, **options)
        if len(calls) == 2:
            relay.cut()
            threading.Timer(1.0, relay.mend).start()
        return trained

    monkeypatch.setattr(tries, "train_expert", train_while_it_goes_away)
    plan = plan_for(inputs, tmp_path, TUNABLE, NOISE_SPACE, trials=3, storage=url, study="away")
    found = search.search(plan)
    assert [one.number for one in found.tries] == [0, 1, 2]
    assert {one.state for one in found.tries} <= {"complete", "pruned"}
    warned = capsys.readouterr().err
    assert "does not answer" in warned
    assert "of-a-test" not in warned

    calls.clear()
    monkeypatch.setattr(database, "AWAY_S", 0.3)
    monkeypatch.setattr(relay, "mend", lambda: None)
    with pytest.raises(
        SearchError, match=r"can't be used: .*Connection refused\. Start it, correct --storage"
    ):
        search.search(plan_for(inputs, tmp_path, TUNABLE, NOISE_SPACE, trials=5, storage=url, study="away"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": "no-such-host.invalid"}, "Correct the host in compute.search_storage"),
        (
            {"password": "wrong-s3cret"},
            "Correct the user in compute.search_storage, or the password in PGPASS",
        ),
        ({"password": None}, "Give the user's password by PGPASSWORD"),
        ({"database": "lacks"}, "createdb), or correct its name in compute.search_storage"),
        ({"username": "nobody"}, "Correct the user in compute.search_storage"),
        ({"port": 1}, "Start it, correct compute.search_storage"),
        ({"drivername": "mysql"}, "studies lie in SQLite or PostgreSQL"),
    ],
)
def test_a_server_that_can_not_be_used_is_refused_on_one_screen(change, words, server, monkeypatch):
    for name in ("PGPASSWORD", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)
    url = make_url(server.address).set(**{name: value for name, value in change.items() if value})
    if "password" in change and not change["password"]:
        url = url._replace(password=None)
    with pytest.raises(SearchError) as caught:
        study.require_usable(Database(url.render_as_string(hide_password=False), "compute.search_storage"))
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not any(secret in str(caught.value) for secret in ("of-a-test", "s3cret"))


def test_the_password_comes_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "of-a-test")
    url = make_url(server.address)._replace(password=None, drivername="postgresql")
    study.require_usable(Database(url.render_as_string(), "compute.search_storage"))


def test_names_that_can_not_be_looked_up_for_a_while_are_waited_for(monkeypatch):
    from sqlalchemy.exc import OperationalError

    monkeypatch.setattr(time, "sleep", lambda _: None)
    said = 'could not translate host name "pg" to address: '

    def answer(why: str) -> str:
        errors = [OperationalError("select 1", None, Exception(said + why))]

        def step() -> str:
            if errors:
                raise errors.pop()
            return "answered"

        return patiently(Database("postgresql://u@pg/db", "compute.search_storage"), "tune", step)

    assert answer("Temporary failure in name resolution") == "answered"
    with pytest.raises(SearchError, match="Correct the host"):
        answer("Name or service not known")


# Who is at work


def left_behind(plan, **maker):
    """A study whose first try, a half-made one, belongs to a process."""
    with study.quiet():
        one = study.open_study(plan)
        if not one.get_trials():
            study.begin(one, plan)
        trial = one.ask()
        trial.suggest_float("inner.noise", 0.0, 2.0)
        trial.set_user_attr("work", "own")
        trial.set_user_attr("maker", maker)
    return one, trial


def test_a_try_that_its_processes_die_at_again_and_again_counts_as_failed(inputs, tmp_path):
    plan = plan_for(inputs, tmp_path, TUNABLE, NOISE_SPACE)
    for _ in range(makers.MOST_DEATHS):
        one, _ = left_behind(plan, machine=makers.machine(), pid=2**22 + 1, began=0.0)
        take_over(one, Watch())
    trials = one.get_trials()
    assert [read_try(each).state for each in trials] == ["stopped", "stopped", "failed"]
    assert "died at it 3 times" in failure(trials[-1])
    # Settings that a try was to have go on with it, though it was stopped before it got them.
    assert trials[-1].system_attrs["fixed_params"] == trials[0].system_attrs["fixed_params"]
    assert trials[-1].user_attrs["own"]


def test_a_child_that_died_and_was_not_asked_for_is_dead(monkeypatch):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    maker = {"pid": sleeper.pid, "began": makers._began(psutil.Process(sleeper.pid))}
    assert makers._lives(maker)
    assert not makers._lives({**maker, "began": maker["began"] + 1})
    # Whoever sets the clock changes when a process began by the time of day, and kills none.
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: time.time() + 3600)
    assert makers._lives(maker) == (sys.platform == "linux")
    monkeypatch.undo()
    sleeper.kill()
    while psutil.Process(sleeper.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not makers._lives(maker)
    sleeper.wait()
    assert not makers._lives(maker)


def test_a_try_of_another_machine_is_taken_over_when_no_beat_was_seen_for_long(inputs, tmp_path, monkeypatch):
    one, trial = left_behind(plan_for(inputs, tmp_path, TUNABLE, NOISE_SPACE), machine="another", pid=1)
    now, watch = [0.0], Watch()
    monkeypatch.setattr(makers.time, "monotonic", lambda: now[0])
    for moment, beat, states in (
        (0, 1, ["RUNNING"]),
        (makers.SILENT_S - 1, 1, ["RUNNING"]),
        (makers.SILENT_S + 1, 2, ["RUNNING"]),
        (2 * makers.SILENT_S, 2, ["RUNNING"]),
        (3 * makers.SILENT_S, 2, ["FAIL", "WAITING"]),
    ):
        now[0] = float(moment)
        if beat != one.get_trials()[0].user_attrs.get("beat"):
            trial.set_user_attr("beat", beat)
        if moment == 2 * makers.SILENT_S:
            # It was away itself: what it saw before does not count.
            watch.forget()
        take_over(one, watch)
        assert [each.state.name for each in one.get_trials()] == states
    # A folder that both may see is not shared with whoever may still be there.
    assert "work" not in one.get_trials()[1].user_attrs


def test_a_try_that_another_process_took_over_is_dropped_and_the_search_goes_on(
    inputs, tmp_path, monkeypatch, capsys
):
    plan, calls, train = plan_for(inputs, tmp_path, TUNABLE, NOISE_SPACE), [], tries.train_expert

    def train_while_taken_over(*arguments, **options):
        calls.append(1)
        trained = train(*arguments, **options)
        if len(calls) == 2:
            other = study.open_study(plan)
            other.tell(1, state=TrialState.FAIL)
        return trained

    monkeypatch.setattr(tries, "train_expert", train_while_taken_over)
    found = search.search(plan)
    assert "try 1 was taken for dead" in capsys.readouterr().err
    assert [one.state for one in found.tries if one.number == 1] == ["stopped"]
    assert sum(one.state in ("complete", "pruned") for one in found.tries) == 4
    assert len({str(one.values) for one in found.tries}) == 4


def test_what_optuna_asks_on_a_connection_that_has_ended_is_asked_again():
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import PendingRollbackError

    answers = iter([PendingRollbackError("Can't reconnect until invalid transaction is rolled back."), None])

    def step() -> str:
        if (error := next(answers)) is not None:
            raise StorageInternalError("An exception is raised during the commit.") from error
        return "answered"

    asked = Database("postgresql://me@localhost/studies", "--storage")
    assert database.patiently(asked, "tune tunable", step) == "answered"
    # A file does not come back by itself.
    answers = iter([PendingRollbackError("pending")])
    with pytest.raises(SearchError, match="can't be used: pending"):
        database.patiently(Database("sqlite:///study.db", "--storage"), "tune tunable", step)
