"""Tasks forked from the warm process are processes of their own: output, exit code, memory, end. Where a fork
would not be safe there is none.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipelines.runners.warm import server as module
from pipelines.runners.warm.tasks import WarmTasks
from tests.pipelines.small_run import wait_for

# What `run_task` returns for a task that was not forked.
COLD = 77
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


def command(tmp_path, body: str, door: str = "door") -> list[str]:
    """kfp's command of a task whose door has this body."""
    from kfp.dsl.component_factory import _get_command_and_args_for_lightweight_component as made

    def door_of_a_test():
        pass

    shell, arguments = made(door_of_a_test)
    assert shell[:2] == ["sh", "-ec"]
    source = f"import os, sys\n\ndef {door}():\n" + "".join(f"    {line}\n" for line in body.splitlines())
    told = f'{{"inputs": {{}}, "outputs": {{"outputFile": "{tmp_path}/a-task/out.json"}}}}'
    assert arguments[::2] == ["--executor_input", "--function_to_execute"]
    return [*shell[:3], source, "--executor_input", told, "--function_to_execute", door]


def run_task(warm: WarmTasks, command: list[str], env_vars=None) -> int:
    """Run a task in a fork, its output printed; its exit code."""
    forked = warm.fork(command, env_vars)
    if forked is None:
        return COLD
    for line in forked.lines():
        print(line, end="")
    return forked.code()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("warm")
    with WarmTasks.start(scratch, {"": ["kfp.dsl.executor_main", "polars", "numpy"]}) as warm:
        yield warm


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("print('all is well')", 0, "all is well"),
        ("raise ValueError('this is wrong')", 1, "ValueError: this is wrong"),
        ("sys.exit(3)", 3, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('in words')", 1, "in words"),
        (
            "import threading, time\nwait = lambda: (time.sleep(0.2), print('later'))"
            "\nthreading.Thread(target=wait).start()",
            0,
            "later",
        ),
        ("import ctypes\nctypes.CDLL(None).printf(b'of C')", 0, "of C"),
        ("import tempfile\nplace = tempfile.TemporaryDirectory()\nsys.kept = place", 0, ""),
        ("os.kill(os.getpid(), 9)", -9, ""),
        ("import atexit\natexit.register(print, 'at the end')", 0, "at the end"),
        ("os.write(2, b'an error')", 0, "an error"),
    ],
)
def test_a_task_ends_as_in_a_process_of_its_own(server, tmp_path, capsys, body, code, said):
    assert run_task(server, command(tmp_path, body)) == code
    printed = capsys.readouterr().out
    assert said in printed


def test_a_task_sees_nothing_of_the_one_before(server, tmp_path, capsys):
    body = "import json\nprint(getattr(json, 'left', 'untouched'))\njson.left = os.environ['LEFT'] = 'behind'"
    for _ in range(2):
        assert run_task(server, command(tmp_path, f"print(os.environ.get('LEFT'))\n{body}")) == 0
    printed = capsys.readouterr().out
    assert "behind" not in printed
    assert printed.count("untouched") == 2


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda house: None, True),
        (lambda house: (house / "own/used.py").write_text("STATE = 'edited'\n"), False),
        (lambda house: put_back_later(house / "own/used.py"), False),
        (lambda house: (house / "own/used.py").unlink(), False),
        (lambda house: (house / "own/unused.py").write_text("STATE = 'edited'\n"), True),
    ],
    ids=["nothing", "edited", "same bytes and time", "removed", "one that nobody imported"],
)
def test_a_task_imports_our_own_code_anew_where_a_file_of_it_changed(tmp_path, monkeypatch, change, kept):
    """A checkout may change while a run lasts: code of two states would not go together."""
    for name in ("__init__", "used", "unused"):
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / f"own/{name}.py").write_text("STATE = 'before'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "HOUSE", tmp_path)
    monkeypatch.setattr(module, "OURS", ("own",))
    before = module.own_files()
    import own.used  # noqa: F401

    change(tmp_path)
    assert module._ours_changed(before) is not kept
    module._forget_ours()
    assert not {"own", "own.used"} & {*sys.modules}


def put_back_later(path: Path) -> None:
    """Put a file in a file's place that has its bytes and its time."""
    about, other = path.stat(), path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
    other.replace(path)


def test_a_door_that_can_not_be_read_and_a_module_that_ends_python_end_one_task_alone(tmp_path, monkeypatch):
    (tmp_path / "ends_python.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with WarmTasks.start(tmp_path, {"": [], "door": ["ends_python"]}) as warm:
        assert run_task(warm, command(tmp_path, "this is no Python")) == 1
        assert run_task(warm, command(tmp_path, "pass")) == 0


def test_the_modules_of_ours_that_a_door_names_are_there_before_it_is_forked(server, tmp_path, capsys):
    body = (
        "print('there:', 'components.gather.run' in sys.modules)\n"
        "from components.gather.run import run\nprint(run)"
    )
    assert run_task(server, command(tmp_path, body)) == 0
    assert "there: True" in capsys.readouterr().out


def test_a_file_of_ours_that_is_touched_has_tasks_import_all_of_ours(tmp_path, capsys):
    ours = "[name for name in sys.modules if name.partition('.')[0] in ('components', 'pipelines')]"
    body = f"print('ours:', {ours})\nfrom components.gather.run import run"
    touched = Path(module.HOUSE / "components/contracts/errors.py")
    with WarmTasks.start(tmp_path, {"": []}) as warm:
        assert run_task(warm, command(tmp_path, body)) == 0
        assert "'components.contracts.errors'" in capsys.readouterr().out
        about = touched.stat()
        os.utime(touched, ns=(about.st_atime_ns, about.st_mtime_ns))
        assert run_task(warm, command(tmp_path, body)) == 0
        assert "ours: []" in capsys.readouterr().out


def test_numbers_drawn_at_random_differ_from_task_to_task(server, tmp_path, capsys):
    draw = "import random, numpy, uuid\nprint('values:', random.random(), numpy.random.rand(), uuid.uuid4())"
    for _ in range(2):
        assert run_task(server, command(tmp_path, draw)) == 0
    first, second = (
        line.split("values:")[1].split() for line in capsys.readouterr().out.splitlines() if "values:" in line
    )
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_pools_of_threads_work_in_every_fork(server, tmp_path):
    work = (
        "import numpy, polars\n"
        "frame = polars.DataFrame({'a': numpy.arange(100_000) % 7, 'b': numpy.ones(100_000)})\n"
        "assert frame.lazy().group_by('a').agg(polars.col('b').sum()).collect()['b'].sum() == 100_000\n"
        "assert (numpy.ones((300, 300)) @ numpy.ones((300, 300))).sum() == 300**3"
    )
    assert [run_task(server, command(tmp_path, work)) for _ in range(5)] == [0] * 5


def test_what_is_no_task_as_we_know_it_is_started_as_kfp_does(server, tmp_path):
    known = command(tmp_path, "pass")
    assert run_task(server, known, {"NAME": "value"}) == COLD
    assert run_task(server, ["sh", "-ec", "pip install x\n" + known[2], *known[3:]]) == COLD
    assert run_task(server, ["echo", "hello"]) == COLD


def test_the_end_of_a_task_is_told_while_one_that_began_later_runs(server, tmp_path):
    gates = [tmp_path / "first", tmp_path / "second"]
    # Not without end, or a failure of this test had none.
    body = (
        "import time\nend = time.monotonic() + 60\nwhile not os.path.exists({!r}) and time.monotonic() < end:"
    )
    waits = [f"{body.format(str(gate))}\n    time.sleep(0.02)" for gate in gates]
    first, second = (server.fork(command(tmp_path, wait)) for wait in waits)
    gates[0].touch()
    assert first.code() == 0
    assert Path(f"/proc/{second.number}").exists()
    gates[1].touch()
    assert second.code() == 0
    assert [*first.lines(), *second.lines()]


OF_PYTHON = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
# Python does not know of it; only its name tells it from those of OpenBLAS.
OF_A_LIBRARY = (
    "import _thread, ctypes, time\n"
    "def work():\n    ctypes.CDLL(None).prctl(15, b'planted')\n    named.release()\n    time.sleep(600)\n"
    "named = _thread.allocate_lock()\nnamed.acquire()\n_thread.start_new_thread(work, ())\nnamed.acquire()\n"
)


@pytest.mark.parametrize(
    ("planted", "code"),
    [(OF_PYTHON, COLD), (OF_A_LIBRARY, COLD), ("", 0)],
    ids=["of Python", "of a library", "none"],
)
def test_nothing_is_forked_where_a_thread_runs(tmp_path, monkeypatch, planted, code):
    (tmp_path / "planted_module.py").write_text(planted)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with WarmTasks.start(tmp_path, {"": [], "door": ["planted_module"]}) as warm:
        assert run_task(warm, command(tmp_path, "pass", door="other")) == 0
        assert run_task(warm, command(tmp_path, "pass")) == code


@pytest.mark.parametrize(
    "end",
    [lambda warm: os.kill(warm.server.pid, signal.SIGKILL), lambda warm: warm.connection.close()],
    ids=["killed", "told to end"],
)
def test_a_task_ends_with_the_warm_process_and_the_next_is_started_as_kfp_does(tmp_path, end):
    sign = tmp_path / "sign"
    with WarmTasks.start(tmp_path, {"": []}) as warm:
        body = f"open({str(sign)!r}, 'w').write(str(os.getpid()))\nimport time\ntime.sleep(600)"

        codes: list[int] = []
        asked = threading.Thread(target=lambda: codes.append(run_task(warm, command(tmp_path, body))))
        asked.start()
        wait_for(lambda: sign.exists() and sign.read_text())
        end(warm)
        asked.join()
        assert codes == [-signal.SIGKILL]
        wait_for(lambda: not Path(f"/proc/{sign.read_text()}").exists())
        assert run_task(warm, command(tmp_path, "pass")) == COLD


def test_the_warm_process_ends_with_the_one_that_started_it(tmp_path):
    script = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from pipelines.runners.warm.tasks import WarmTasks\n"
        "warm = WarmTasks.start(Path(sys.argv[1]), {'': []})\n"
        "print(warm.server.pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    started = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False
    )
    wait_for(lambda: not Path(f"/proc/{started.stdout.strip()}").exists())
