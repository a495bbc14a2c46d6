"""Kill -9 of each process of a served run while clients ask: what failed, how long no answer came, and what
of the acknowledged answers is missing from the answer log or in it twice.

python -m tests.benchmarks.bench_kill
"""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
import polars as pl
import psutil

from components.contracts import served_parts
from components.feature_store.config import Settings as FeatureStoreSettings
from components.registry.client import open_registry
from components.registry.config import Settings as RegistrySettings
from tests.serving.live_service import Served, free_port, pid_of, redis_server, register, until
from tests.serving.small_champion import SmallRun, make_run, put_online

REDIS_VARIABLE = "ALPHALOOP_BENCH_REDIS"
# Two clients of /signals and one of /score, each with so many requests a second at most.
PER_SECOND, BEFORE_S, AFTER_S = 50, 3.0, 4.0
ROUNDS = 2
Kill = Callable[[], float]


@dataclass
class Seen:
    """What the clients of one kill saw: moment and request number of each acknowledged answer, moments of
    failures, and where features came from.
    """

    acknowledged: list[tuple[float, str]] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)
    snapshots: int = 0


def main() -> None:
    """Print the table."""
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; clients ask {3 * PER_SECOND} times a second"
        " at most and give up after 5 s"
    )
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(redis_server(scratch))
        os.environ[REDIS_VARIABLE] = f"127.0.0.1:{server[1]}"
        store = FeatureStoreSettings(online="redis", redis_variable=REDIS_VARIABLE)
        run = make_run(scratch / "run", seeds=(1,), store=store)
        open_registry(RegistrySettings(), run.folder / "registry")
        register(run, run.bundles[0])
        port = free_port()
        served = Served(run.plan({"port": port, "log_segment_seconds": 1.0}, store))
        seen: list[tuple[str, Seen, float]] = []
        try:
            served.wait_for("^Ready: ")
            for what, kill in kills(run, store, server, stack, scratch).items():
                for _ in range(ROUNDS):
                    seen.append((what, *under_load(run, port, served, kill)))
        finally:
            served.stop()
        report(run.folder, seen, served.lines)


def kills(
    run: SmallRun,
    store: FeatureStoreSettings,
    server: tuple[subprocess.Popen, int],
    stack: ExitStack,
    scratch: Path,
) -> dict[str, Kill]:
    """Each kill by what it hits; it returns its moment."""
    present = {"redis": server[0]}

    def one(word: str) -> Kill:
        def kill() -> float:
            os.kill(pid_of(run.folder, word), signal.SIGKILL)
            return time.monotonic()

        return kill

    def worker() -> float:
        psutil.Process(pid_of(run.folder, "bentoml serve")).children(recursive=True)[-1].kill()
        return time.monotonic()

    def service() -> float:
        parent = psutil.Process(pid_of(run.folder, "bentoml serve"))
        for process in (parent, *parent.children(recursive=True)):
            process.kill()
        return time.monotonic()

    def redis() -> float:
        present["redis"].kill()
        began = time.monotonic()
        time.sleep(2)
        # It comes back empty, as one without persistence does, and is filled by the next materialisation.
        present["redis"] = stack.enter_context(redis_server(scratch, server[1]))[0]
        put_online(run.market, run.folder, store)
        return began

    return {
        "worker of the service": worker,
        "service and workers": service,
        "log writer": one("serving.processes.log_writer"),
        "champion watcher": one("serving.processes.registry_follower"),
        "redis-server, 2 s away": redis,
    }


def under_load(run: SmallRun, port: int, served: Served, kill: Kill) -> tuple[Seen, float]:
    """What the clients saw, and the moment of the kill."""
    seen, stop = Seen(), threading.Event()
    newest = run.market.factors.filter(pl.col("timestamp") == pl.col("timestamp").max())
    names = [*run.publication["columns"], *run.publication["context"]]
    rows = [
        {
            "symbol": row["symbol"],
            "timestamp": row["timestamp"].isoformat(),
            "features": {
                name: None if row[name] is None or row[name] != row[name] else row[name] for name in names
            },
        }
        for row in newest.head(5).to_dicts()
    ]
    bodies = {"/signals": {"symbols": run.market.symbols[:5]}, "/score": {"rows": rows}}
    clients = [
        threading.Thread(target=ask, args=(port, path, json.dumps(bodies[path]).encode(), seen, stop))
        for path in ("/signals", "/signals", "/score")
    ]
    for client in clients:
        client.start()
    try:
        time.sleep(BEFORE_S)
        moment = kill()
        until(
            lambda: any(at > moment + 0.5 for at, _ in seen.acknowledged),
            seconds=90,
            what="an answer after the kill",
        )
        time.sleep(AFTER_S)
        until(
            lambda: httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200,
            seconds=90,
            what="readiness after the kill",
        )
    finally:
        stop.set()
        for client in clients:
            client.join()
    return seen, moment


def ask(port: int, path: str, body: bytes, seen: Seen, stop: threading.Event) -> None:
    """One client: an answer counts as acknowledged once all of it was read."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:
        while not stop.is_set():
            began = time.monotonic()
            try:
                answer = client.post(path, content=body, headers={"content-type": "application/json"})
                answer.raise_for_status()
                value = answer.json()
                seen.acknowledged.append((time.monotonic(), value["request_id"]))
                seen.snapshots += value["features"]["source"] == "snapshot"
            except (httpx.HTTPError, ValueError):
                seen.failed.append(time.monotonic())
            time.sleep(max(began + 1 / PER_SECOND - time.monotonic(), 0))


def report(folder: Path, seen: list[tuple[str, Seen, float]], lines: list[str]) -> None:
    """Hold what was acknowledged against the answer log, and print both."""
    rows = pl.concat(
        [
            pl.read_parquet(part, columns=["request_id", "symbol", "timestamp"])
            for part in served_parts(folder / "served")
        ]
    )
    logged, twice = set(rows["request_id"]), set(rows.filter(rows.is_duplicated())["request_id"])
    print(
        f"{'killed':<24} {'acknowledged':>12} {'from snapshot':>13} {'failed':>6}"
        f" {'longest without answer':>22} {'missing':>7} {'twice':>5}"
    )
    lost = 0
    for what, found, moment in seen:
        numbers = {number for _, number in found.acknowledged}
        moments = sorted(at for at, _ in found.acknowledged if at > moment - 1)
        longest = max((after - before for before, after in pairwise(moments)), default=float("nan"))
        missing, doubled = len(numbers - logged), len(numbers & twice)
        lost += missing + doubled
        print(
            f"{what:<24} {len(found.acknowledged):>12,} {found.snapshots:>13,} {len(found.failed):>6,}"
            f" {longest:>20.1f} s {missing:>7} {doubled:>5}"
        )
    left = len(list((folder / "serving" / "spool").glob("*.segment")))
    print(
        f"{len(rows):,} rows in the answer log, {left} segments left in the spool, said at the end:"
        f" {lines[-1].strip()}; load {os.getloadavg()[0]:.1f}"
    )
    print("wanted: 0 missing, 0 twice" + ("" if not lost else f"; NOT REACHED: {lost}"))


if __name__ == "__main__":
    main()
