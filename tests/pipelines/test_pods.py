"""Pods of `--runner pods`: what a task finds in one, what it loses with it, and what is refused. Most faults
are planted in a shell; the way of artifacts is that of kfp.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from kfp import dsl, kubernetes, local
from kfp.dsl import Artifact, Input, Output
from kfp.local import subprocess_task_handler

from components.memory.held import memory_held
from components.progress.notes import NOTES_VARIABLE
from pipelines.config import Config
from pipelines.runners.pods.content import ArtifactError, copy_content, is_content, take_content
from pipelines.runners.pods.declared import Claim, EmptyFolder, PodError, read_declared
from pipelines.runners.pods.machine import INSIDE, image_mounts, mount, pod_user, require_namespaces
from pipelines.runners.pods.memory import in_bytes
from pipelines.runners.pods.play import Played, find_secrets, pipeline_in_pods, play, play_pods
from pipelines.runners.pods.pod import Lost, Pod
from pipelines.runners.pods.volumes import Volumes
from tests.pipelines.pods_here import refused
from tests.pipelines.small_run import processes_of, wait_for

pytestmark = pytest.mark.timeout(300)
in_pods = pytest.mark.skipif(bool(refused()), reason=f"pods: {refused()}")
IMAGE = "python:3.11"


class Said:
    """What ran in a pod: how it ended, its log, its events."""

    def __init__(self, pod: Pod, command: list[str], limit: int | None = None) -> None:
        self.lines: list[str] = []
        self.events: list[str] = []
        self.ended = pod.run(command, limit=limit, on_output=self.lines.append, on_event=self.events.append)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def pod(tmp_path):
    place = tmp_path / "pod"
    place.mkdir()
    one = Pod(place, "task", {"GIVEN": "1"})
    for target in ("/tmp", "/home/task"):
        one.add_scratch(target)
    return one


def shell(pod: Pod, script: str, limit: int | None = None) -> Said:
    return Said(pod, ["sh", "-c", script], limit)


def python(pod: Pod, script: str, limit: int | None = None) -> Said:
    return Said(pod, [sys.executable, "-c", script], limit)


@in_pods
class TestWhatATaskFinds:
    def test_it_is_a_user_without_account_name_or_power(self, pod):
        said = shell(pod, "id -u; hostname; grep -E '^Cap|^NoNewPrivs' /proc/self/status; id -un")
        assert said.lines[0] == str(pod_user())
        assert pod_user() not in (0, os.geteuid())
        assert said.lines[1] == "task"
        assert [line.split()[1] for line in said.lines[2:8]] == ["0000000000000000"] * 5 + ["1"]
        assert "cannot find name" in said.lines[8]

    def test_its_environment_is_what_it_was_given(self, pod, monkeypatch):
        monkeypatch.setenv("SUBMITTERS_SECRET", "1")
        said = python(pod, "import os; print(sorted(os.environ))")
        assert said.text == str(["GIVEN", "HOME", "LANG", "PATH"]), said.text

    def test_the_submitters_files_are_not_there(self, pod, tmp_path):
        (tmp_path / "secret.txt").write_text("s")
        tests = Path(__file__).parents[1]
        for place in (
            tmp_path / "secret.txt",
            tests,
            Path.home() / ".bashrc",
            Path(__file__).parents[2] / "Makefile",
        ):
            assert shell(Pod(new(tmp_path), "t", {}, mounts=pod.mounts), f"cat {place}").ended.code == 1, (
                place
            )
        here = shell(pod, "pwd; ls -A; ls -A /tmp; ls /proc | grep -c '^[0-9]'; echo $HOME")
        # The first process, the shell, ls and grep.
        assert here.lines == ["/home/task", "4", "/tmp"]

    def test_the_image_can_be_read_and_not_written(self, pod):
        house = Path(__file__).parents[2]
        said = python(
            pod,
            "import numpy, components, pathlib, os\n"
            f"assert components.__file__.startswith({str(house)!r})\n"
            "for place in ('/x', '/etc/x', components.__path__[0] + '/x', numpy.__path__[0] + '/x'):\n"
            "    try: open(place, 'w')\n"
            "    except OSError as error: print(error.errno)\n",
        )
        assert said.lines == ["30"] * 4, said.text

    def test_shared_memory_has_64_mib_unless_the_ir_says_other(self, pod, tmp_path):
        fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count={} 2>&1 | tail -1"
        assert "No space" in shell(pod, "dd if=/dev/zero of=/dev/shm/x bs=1M count=65 2>&1").text
        larger = Pod(new(tmp_path), "task", {})
        larger.add_scratch("/home/task")
        larger.add_memory("/dev/shm", 128 * 1024**2)
        assert "No space" not in shell(larger, fill.format(65)).text

    def test_its_events_come_through_a_pipe(self, pod):
        said = python(
            pod,
            "import os; os.environ['ALPHALOOP_EVENTS'] = '/dev/alphaloop-events'\n"
            "from components.progress import report\n"
            "report('stage', 'a' * 5000); report('stage', 'b')\nprint('log')",
        )
        assert [len(line) > 5000 for line in said.events] == [True, False]
        assert said.lines == ["log"]

    def test_an_event_without_an_end_of_line_counts(self, pod):
        assert shell(pod, "printf event > /dev/alphaloop-events").events == ["event"]


@in_pods
class TestWhatIsLost:
    def test_what_a_task_writes_elsewhere_is_listed(self, pod):
        shell(pod, "echo abc > left; mkdir -p /tmp/a/b /tmp/c; echo x > /tmp/a/b/d; ln -s /tmp/a /tmp/link")
        assert set(pod.lost()) == {
            Lost("/home/task/left", 4),
            Lost("/tmp/a/b/d", 2),
            Lost("/tmp/c/", 0),
            Lost("/tmp/link", 6),
        }

    def test_names_that_are_no_text_can_be_printed(self, pod):
        shell(pod, "touch \"/tmp/$(printf 'a\\377')\"; mkdir \"/tmp/$(printf 'b\\377')\"")
        assert {one.path.encode().decode() for one in pod.lost()} == {"/tmp/a\ufffd", "/tmp/b\ufffd/"}

    def test_what_is_mounted_there_is_not(self, pod, tmp_path):
        given = tmp_path / "given"
        given.mkdir()
        (given / "prices.parquet").write_text("p")
        pod.mounts.append(mount(given, "/tmp/some/folder"))
        pod.mounts.append(mount(given / "prices.parquet", "/tmp/prices.parquet"))
        said = shell(pod, "cat /tmp/prices.parquet /tmp/some/folder/prices.parquet")
        assert (said.text, pod.lost()) == ("pp", [])

    def test_what_kfp_itself_leaves_is_not(self, pod):
        shell(
            pod,
            "mkdir -p /tmp/kfp/outputs; echo 1 > /tmp/kfp/outputs/x;"
            " echo 1 > $(mktemp -d)/ephemeral_component.py",
        )
        assert pod.lost() == []


@in_pods
class TestItsEnd:
    def test_the_exit_code_is_the_tasks(self, pod, tmp_path):
        assert shell(pod, "exit 7").ended.code == 7
        again = Pod(new(tmp_path), "task", {})
        again.add_scratch("/home/task")
        assert shell(again, "kill -9 $$").ended.code == 137

    def test_over_its_memory_limit_it_is_killed(self, pod):
        said = python(pod, "x = bytearray(400_000_000); import time; time.sleep(60)", limit=200_000_000)
        assert said.ended.code == 137
        assert 200_000_000 < said.ended.killed_at < 900_000_000

    def test_memory_shared_by_forked_processes_counts_once(self, pod):
        forks = (
            "import os, time; x = bytearray(120_000_000)\nfor _ in range(4):\n    if not os.fork(): break\n"
            "time.sleep(1)"
        )
        said = python(pod, forks, limit=250_000_000)
        assert (said.ended.code, said.ended.killed_at) == (0, None)

    def test_what_it_started_ends_with_it(self, pod):
        mark = f"sleep 3{os.getpid()}"
        shell(pod, f"setsid {mark} & sleep 0.1")
        assert mark.encode() not in b"".join(
            place.read_bytes().replace(b"\0", b" ")
            for place in Path("/proc").glob("[0-9]*/cmdline")
            if place.exists()
        )

    def test_kill_9_of_the_runner_leaves_no_process_and_no_mount(self, tmp_path):
        place = new(tmp_path)
        script = (
            "import pathlib, sys; from pipelines.runners.pods.pod import Pod\n"
            f"pod = Pod(pathlib.Path({str(place)!r}), 'task', {{}})\n"
            "pod.add_scratch('/home/task')\n"
            "pod.run(['sh', '-c', 'echo up; sleep 600'], limit=None, "
            "on_output=lambda x: print(x, flush=True), on_event=print)"
        )
        runner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        try:
            assert runner.stdout.readline() == "up\n"
            assert len(processes_of(place)) >= 3
        finally:
            runner.send_signal(signal.SIGKILL)
            runner.wait()
            runner.stdout.close()
        wait_for(lambda: not processes_of(place))
        assert str(place) not in Path("/proc/self/mountinfo").read_text()

    @pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/usr/bin/python3").exists(),
        reason="pods of another user: needs root and the system's Python",
    )
    def test_it_needs_no_root(self, tmp_path):
        """The program alone, copied to where anybody may read it."""
        program = Path(tempfile.mkdtemp()) / "inside.py"
        shutil.copyfile(INSIDE, program)
        program.parent.chmod(0o755)
        anybody = {"user": 65534, "group": 65534, "extra_groups": []}
        done = subprocess.run(["/usr/bin/python3", "-I", "-S", str(program)], check=False, **anybody)
        shutil.rmtree(program.parent)
        assert done.returncode == 0

    def test_a_pod_costs_well_under_a_third_of_a_second(self, tmp_path):
        """Of processor time, which a loaded machine does not stretch."""
        before = os.times()
        for _ in range(5):
            one = Pod(new(tmp_path), "task", {})
            one.add_scratch("/home/task")
            assert shell(one, "true").ended.code == 0
        after = os.times()
        spent = sum(after[:4]) - sum(before[:4])
        assert spent / 5 < 0.3


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make(folder: Output[Artifact], file: Output[Artifact], missing: Output[Artifact]) -> int:
    """Writes what S3 does not keep."""
    import os
    from pathlib import Path

    place = Path(folder.path)
    (place / "inside").mkdir(parents=True)
    (place / "empty").mkdir()
    (place / "inside" / "tool.sh").write_text("tool")
    (place / "inside" / "tool.sh").chmod(0o755)
    os.link(place / "inside" / "tool.sh", place / "twin.sh")
    (place / "link").symlink_to("inside/tool.sh")
    os.utime(place / "twin.sh", (1, 1))
    Path(file.path).write_text("file")
    file.metadata["rows"] = 3
    Path("forgotten.txt").write_text("forgotten")
    return 5


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def look(folder: Input[Artifact], file: Input[Artifact], number: int) -> str:
    """Tells what it finds."""
    import os
    from pathlib import Path

    place = Path(folder.path)
    found = [
        f"{path.relative_to(place)} {path.stat().st_mode:o} {path.stat().st_nlink} {path.is_symlink()}"
        for path in sorted(place.rglob("*"))
    ]
    rows = file.metadata["rows"]
    said = [folder.uri[:5], os.environ["PLAIN"], os.environ["TOKEN"], str("PWD_OF_ME" in os.environ)]
    return "\n".join([*found, Path(file.path).read_text(), f"{rows:g} {number}", *said])


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def hand_on_a_folder_link(folder: Output[Artifact]):
    """Writes what Kubeflow's launcher can't upload."""
    from pathlib import Path

    Path(folder.path).mkdir(parents=True)
    (Path(folder.path) / "link").symlink_to("/tmp")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plant_links() -> str:
    """Leaves a link in place of its result, and nonsense in place of an event."""
    import atexit
    import os
    from pathlib import Path

    Path(os.environ["ALPHALOOP_EVENTS"]).write_text("no event\n[1]\n")

    def plant():
        os.remove("/tmp/kfp_outputs/output_metadata.json")
        os.symlink("/tmp/of_the_submitter", "/tmp/kfp_outputs/output_metadata.json")

    atexit.register(plant)
    return "result"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def grow(begun: Output[Artifact]):
    """Takes more memory than it may, with an output half made."""
    import time
    from pathlib import Path

    Path(begun.path).write_text("beg")
    held = bytearray(500_000_000)
    time.sleep(60 + len(held))


def run_in_pods(pipeline, folder: Path, monkeypatch) -> list[dict]:
    """Run a kfp pipeline in pods with `folder` as run folder; returns the runner's events."""
    events = []
    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", None)
    folder.mkdir(exist_ok=True)
    played = Played(Config(), "/alphaloop", Volumes(folder, {"alphaloop": folder}, {}), "")
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "artifacts"),
        enable_caching=True,
    )
    play_pods(pipeline, played, folder, folder / "tmp", events.append)
    pipeline()
    return events


@in_pods
@pytest.mark.filterwarnings("ignore")
class TestArtifacts:
    def test_they_come_and_go_by_content(self, tmp_path, monkeypatch):
        @dsl.pipeline(name="two")
        def two():
            made = make()
            seen = look(
                folder=made.outputs["folder"], file=made.outputs["file"], number=made.outputs["Output"]
            )
            seen.set_env_variable("PLAIN", "plain")
            kubernetes.use_secret_as_env(seen, secret_name="s", secret_key_to_env={"k": "TOKEN"})

        monkeypatch.setenv("TOKEN", "of the secret")
        monkeypatch.setenv("PWD_OF_ME", "x")
        events = run_in_pods(two, tmp_path / "run", monkeypatch)
        (said,) = (tmp_path / "run").glob("artifacts/two-*/look/executor_output.json")
        assert json.loads(said.read_text())["parameterValues"]["Output"].splitlines() == [
            "inside 40755 2 False",
            "inside/tool.sh 100644 1 False",
            "link 100644 1 False",
            "twin.sh 100644 1 False",
            "file",
            "3 5",
            "s3://",
            "plain",
            "of the secret",
            "False",
        ]
        lost = [event for event in events if event["event"] == "lost"]
        assert [(one["stage"], one["files"]) for one in lost] == [
            ("make", [{"path": "/home/task/forgotten.txt", "bytes": 9}])
        ]
        again = run_in_pods(two, tmp_path / "run", monkeypatch)
        assert [one["stage"] for one in again] == ["make"], "an output that was not made is never a hit"

    def test_what_the_launcher_cannot_hand_on_fails_the_task(self, tmp_path, monkeypatch):
        @dsl.pipeline(name="link")
        def link():
            hand_on_a_folder_link()

        with pytest.raises(RuntimeError):
            run_in_pods(link, tmp_path / "run", monkeypatch)
        assert not list((tmp_path / "run").glob("artifacts/*/*/folder"))

    def test_a_task_reaches_no_file_of_this_machine_through_its_results(self, tmp_path, monkeypatch):
        @dsl.pipeline(name="link")
        def link():
            plant_links()

        secret = Path(tempfile.gettempdir(), "of_the_submitter")
        secret.write_text('{"parameterValues": {"Output": "of the submitter"}}')
        try:
            assert run_in_pods(link, tmp_path / "run", monkeypatch) == []
        finally:
            secret.unlink()
        assert not list((tmp_path / "run").glob("artifacts/*/*/executor_output.json"))

    def test_a_task_over_its_limit_is_explained(self, tmp_path, monkeypatch):
        @dsl.pipeline(name="grow")
        def growing():
            grow().set_memory_limit("300M")

        events = []
        monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", None)
        folder = tmp_path / "run"
        folder.mkdir()
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "artifacts"))
        play_pods(
            growing, Played(Config(), "", Volumes(folder, {}, {}), ""), folder, folder / "tmp", events.append
        )
        with pytest.raises(RuntimeError):
            growing()
        (lost,) = [one for event in events if event["event"] == "lost" for one in event["files"]]
        assert lost["path"].startswith("/s3/alphaloop-pods/grow-")
        assert (lost["path"].endswith("/grow/begun"), lost["bytes"]) == (True, 3)
        (failed,) = [event for event in events if event["event"] == "failed"]
        assert failed["stage"] == "grow"
        assert "its limit is 300M" in failed["message"]


class TestContent:
    def test_only_plain_files_are_content(self, tmp_path):
        folder = tmp_path / "a"
        folder.mkdir()
        assert not is_content(folder)
        (folder / "x").write_text("x")
        (folder / "x").chmod(0o644)
        folder.chmod(0o755)
        assert is_content(folder)
        (folder / "x").chmod(0o755)
        assert not is_content(folder)
        (folder / "x").chmod(0o644)
        os.link(folder / "x", folder / "y")
        assert not is_content(folder)
        (folder / "y").unlink()
        (folder / "y").symlink_to("x")
        assert not is_content(folder)

    @pytest.mark.parametrize("hand", [copy_content, take_content])
    def test_a_pipe_or_a_broken_link_is_refused(self, tmp_path, hand):
        for name, plant in (("pipe", os.mkfifo), ("link", lambda path: path.symlink_to("nowhere"))):
            folder = tmp_path / name
            folder.mkdir()
            plant(folder / name)
            with pytest.raises(ArtifactError, match=f"{name} in an output artifact"):
                hand(folder, tmp_path / "out")

    @pytest.mark.parametrize("whole", [True, False])
    @pytest.mark.parametrize("of", ["folder", "file"])
    def test_what_a_link_of_a_pod_leads_to_here_is_neither_moved_nor_handed_on(self, tmp_path, whole, of):
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "precious").write_text("p")
        made = tmp_path / "out" / "made"
        link = made if whole else made / "inside" / "link"
        link.parent.mkdir(parents=True)
        link.symlink_to(mine if of == "folder" else mine / "precious")
        (made.parent if whole else made).joinpath("file").write_text("f")
        with pytest.raises(ArtifactError, match="in an output artifact is a link"):
            take_content(made, tmp_path / "kept")
        assert (mine / "precious").read_text() == "p"
        assert not (tmp_path / "kept").exists()

    def test_a_link_and_what_it_leads_to_come_both_whatever_their_order(self, tmp_path):
        made = tmp_path / "made"
        made.mkdir()
        for name in ("a", "b", "c"):
            (made / name).write_text(name)
            (made / f"{name}0").symlink_to(name)
            (made / f"0{name}").symlink_to(name)
        take_content(made, tmp_path / "kept")
        assert {path.name: path.read_text() for path in (tmp_path / "kept").iterdir()} == {
            name: letter for letter in "abc" for name in (letter, f"{letter}0", f"0{letter}")
        }

    def test_an_empty_folder_is_nothing(self, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        take_content(tmp_path / "a", tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestDeclared:
    def build(self, arrange):
        @dsl.pipeline(name="one")
        def one():
            arrange(grow())

        return read_declared(one)["grow"]

    def test_claims_secrets_and_memory_are_read(self):
        def arrange(task):
            task.set_memory_limit("2Gi")
            kubernetes.mount_pvc(task, pvc_name="data", mount_path="/data")
            kubernetes.use_secret_as_env(task, secret_name="s", secret_key_to_env={"k": "A"})
            kubernetes.use_secret_as_env(task, secret_name="s", secret_key_to_env={"k": "B"}, optional=True)
            kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit="1Gi")
            kubernetes.add_node_selector(task, "a", "b")

        given = self.build(arrange)
        assert given.memory_bytes == 2 * 1024**3
        assert given.claims == (Claim("data", "/data"),)
        assert given.empty_folders == (EmptyFolder("/dev/shm", True, 1024**3),)
        assert find_secrets({"grow": given}, {"A": "1", "C": "2"}) == {"A": "1"}
        with pytest.raises(PodError, match="export A="):
            find_secrets({"grow": given}, {})

    def test_what_cannot_be_played_is_refused(self):
        with pytest.raises(PodError, match="configMapAsEnv"):
            self.build(
                lambda task: kubernetes.use_config_map_as_env(
                    task, config_map_name="m", config_map_key_to_env={"k": "A"}
                )
            )
        with pytest.raises(PodError, match="claim other"):
            Volumes(Path("/run"), {"alphaloop": Path("/run")}, {}).mounts([Claim("other", "/x")])


def test_the_run_folder_plays_the_claim_without_what_the_runner_keeps_there(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path / "data"))
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "kfp.log").touch()
    played = play(Config(), tmp_path)
    claims = [Claim("alphaloop", "/alphaloop"), Claim(played.config.cluster.data_claim, "/data")]
    mounts = {one["target"]: one for one in played.volumes.mounts(claims)}
    assert mounts["/alphaloop"] == mount(tmp_path, "/alphaloop", writable=True)
    assert mounts["/alphaloop/artifacts"]["kind"] == "empty"
    assert mounts["/alphaloop/kfp.log"]["source"] == "/dev/null"
    assert not mounts["/data"]["writable"]
    assert played.config.cluster.volume_claim == "alphaloop"
    assert str(tmp_path) in played.note


def test_each_pod_leaves_its_note_in_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", None)
    run = tmp_path / "run"
    run.mkdir()
    built = pipeline_in_pods("materialisation", Config(), run, scratch=tmp_path, on_event=print)
    executors = built.pipeline_spec.deployment_spec["executors"].values()
    places = {
        one["value"]
        for given in executors
        for one in given["container"]["env"]
        if one["name"] == NOTES_VARIABLE
    }
    assert places == {"/alphaloop/notes"}
    assert {task.run_names for task in read_declared(built).values()} == {("ALPHALOOP_RUN",)}


@pytest.mark.parametrize("address", ["file://{}", "{}", "file://{}/"])
def test_a_store_that_is_a_folder_is_one_more_volume(tmp_path, address):
    store = tmp_path / "kept here"
    settings = {"run": {"store": address.format(store)}, "feature_store": {"online": "redis"}}
    played = play(Config.model_validate(settings), tmp_path / "run")
    assert played.volumes.mounts([]) == [mount(store, str(store), writable=True)]
    assert store.is_dir()
    assert str(store) in played.note
    inside = {**settings, "run": {"store": "/alphaloop/kept"}}
    assert play(Config.model_validate(inside), tmp_path / "run").volumes.store is None


def test_the_image_is_there_wherever_a_run_begins(monkeypatch):
    monkeypatch.chdir(sys.prefix)
    assert any(Path(sys.prefix).is_relative_to(one["source"]) for one in image_mounts())


def test_amounts_of_memory():
    assert [in_bytes(text) for text in ("8G", "256Mi", "1000", "1.5Gi", "4k")] == [
        8 * 10**9,
        256 * 1024**2,
        1000,
        3 * 1024**3 // 2,
        4000,
    ]
    with pytest.raises(ValueError, match="no amount of memory"):
        in_bytes("8 gigs")


def test_memory_of_what_a_process_started_is_found():
    script = "x = bytearray(50_000_000); print(1, flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        assert memory_held(os.getpid(), 10**12) >= 50_000_000
    finally:
        child.communicate(b"\n")


def test_refused_namespaces_are_told_with_what_to_do(monkeypatch, tmp_path):
    broken = tmp_path / "inside.py"
    broken.write_text("raise SystemExit('unshare: Operation not permitted')")
    monkeypatch.setattr("pipelines.runners.pods.machine.INSIDE", broken)
    with pytest.raises(
        PodError, match=r"refuses .*\(unshare: Operation not permitted\).*user\.max_user_namespaces"
    ):
        require_namespaces()


def new(tmp_path: Path) -> Path:
    place = tmp_path / f"pod_{time.monotonic_ns()}"
    place.mkdir()
    return place
