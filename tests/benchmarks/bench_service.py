"""The running service on one machine with its client: the model's own time, answers over HTTP beside a
trivial endpoint, start, and swaps under load.

A market of 500 symbols, served by elastic net, XGBoost and LightGBM with equal weights; and the same with
PatchTST as a fourth. Latencies are those of one client that asks one thing after the other; measured and
trivial requests take turns, so that whatever else the machine does slows both. Of three rounds the best p95
counts; all are printed.

python -m tests.benchmarks.bench_service [--run FOLDER]
"""

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from components.feature_store.config import Settings as FeatureStoreSettings
from components.registry.client import open_registry
from components.registry.config import Settings as RegistrySettings
from components.scoring import Model
from serving.api.request_types import JSON
from serving.client import ARROW, arrow_stream
from serving.config import Settings as ServingSettings
from tests.serving.live_service import (
    Live,
    Served,
    free_port,
    listens,
    live_service,
    redis_server,
    register,
    until,
)
from tests.serving.small_champion import (
    MARKET,
    SmallRun,
    crown,
    make_bundle,
    make_market,
    make_run,
    put_online,
)

SYMBOLS, ROUNDS, SWAPS, CLIENTS = 500, 3, 20, 3
TREES = {"elasticnet": {}, "xgboost": {}, "lightgbm": {}}
WINDOWED = {
    **TREES,
    "patchtst": {"training": {"epochs": 1, "max_train_windows": 4000, "max_monitor_windows": 2000}},
}
REDIS_VARIABLE = "ALPHALOOP_BENCH_REDIS"
# The client here asks without a pause; the default limit of 500 requests a second would answer some of them.
FAST = {"requests_per_second": 1e6, "burst": 1_000_000}
TRIVIAL = """
import bentoml

async def app(scope, receive, send):
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})

@bentoml.service(name="trivial", workers=1, logging={"access": {"enabled": False}})
@bentoml.asgi_app(app, path="/", name="api")
class Trivial:
    pass
"""
Ask = Callable[[], bytes]


def main() -> None:
    """Print every figure of the service."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--run",
        type=Path,
        help="folder to make the run in and to take it from where it is there; a temporary one by default",
    )
    arguments = parser.parse_args()
    # What `alphaloop serve` sets.
    os.environ.update(
        {"OMP_WAIT_POLICY": "PASSIVE", "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    )
    with contextlib.ExitStack() as stack:
        folder = arguments.run or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        run, windowed = champions(folder.absolute())
        print(
            f"{SYMBOLS} symbols, {len(Model.load(run.bundles[0]).columns)} inputs, {trees_of(run.bundles[0])}"
            f" trees; CPU {processor()}"
        )
        for name, bundle in (
            ("elastic net, XGBoost, LightGBM", run.bundles[0]),
            ("the same and PatchTST", windowed),
        ):
            model_part(name, Model.load(bundle), run)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trivial = stack.enter_context(trivial_endpoint(scratch))
        _, port = stack.enter_context(redis_server(scratch))
        os.environ[REDIS_VARIABLE] = f"127.0.0.1:{port}"
        redis = FeatureStoreSettings(online="redis", redis_variable=REDIS_VARIABLE)
        in_redis = replace(run, folder=scratch / "redis")
        put_online(run.market, in_redis.folder, redis)
        over_http("Redis", in_redis, run.bundles[0], in_redis.plan(FAST, redis), trivial)
        over_http("SQLite", run, run.bundles[0], run.plan(FAST, FeatureStoreSettings()), trivial)
        over_http("Redis, with PatchTST", in_redis, windowed, in_redis.plan(FAST, redis), trivial)
        swaps(in_redis, in_redis.plan(FAST, redis))
        start(run)


def champions(folder: Path) -> tuple[SmallRun, Path]:
    """A run with two bundles of trees, and a bundle with PatchTST; made in `folder`, or taken from it."""
    # The signal of the demo: a stronger one, as in the tests, makes the experts grow several times as many
    # trees.
    settings = MARKET.model_copy(
        update={
            "planted_ic": 0.15,
            "simulator": MARKET.simulator.model_copy(update={"symbols": SYMBOLS, "sectors": 6}),
        }
    )
    if (folder / "bundles").is_dir() and (folder / "windowed").is_dir():
        publication = json.loads((folder / "feature_store" / "current.json").read_text())
        return SmallRun(
            folder, make_market(settings=settings), publication, sorted((folder / "bundles").iterdir())
        ), next((folder / "windowed").iterdir())
    began = time.perf_counter()
    run = make_run(folder, experts=TREES, settings=settings, store=FeatureStoreSettings(), equal_weights=True)
    windowed = make_bundle(
        run.market, run.publication, folder / "windowed", experts=WINDOWED, equal_weights=True
    )
    print(f"market, store and three bundles made in {time.perf_counter() - began:.0f} s")
    return run, windowed


def model_part(name: str, model: Model, run: SmallRun) -> None:
    """Time of expert outputs and combination for rows that lie ready, in this process."""
    inputs, context, window = ready_rows(run, model)
    cross_section = model.cross_section(model.expert_outputs(inputs, context, window), context)
    model.warm_up()
    for rows in (1, SYMBOLS):
        part = inputs[:rows], context[:rows], None if window is None else window[:rows]

        def infer(part=part):
            outputs = model.expert_outputs(*part)
            return model.combine(outputs, part[1], cross_section)

        used = time.process_time()
        rounds = [[timed(infer) for _ in range(200)] for _ in range(ROUNDS)]
        used = (time.process_time() - used) / (200 * ROUNDS) * 1000
        show(f"model part, {name}, {rows} rows", rounds, f"CPU {used:.2f} ms; wanted: p95 at most 3")


def trees_of(bundle: Path) -> int:
    """Trees of all experts of a bundle."""
    from onnx import load

    nodes = [
        node
        for path in bundle.glob("experts/*/model.onnx")
        for node in load(path).graph.node
        if node.op_type == "TreeEnsemble"
    ]
    return sum(
        len(attribute.ints)
        for node in nodes
        for attribute in node.attribute
        if attribute.name == "tree_roots"
    )


def ready_rows(run: SmallRun, model: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Newest rows of all symbols as the model takes them; windows are the newest bars of the symbols."""
    newest = (
        run.market.factors.sort("timestamp")
        .group_by("symbol", maintain_order=True)
        .tail(max(model.lookback_bars, 1))
        .sort("symbol", "timestamp")
    )
    full = newest.filter(pl.len().over("symbol") == max(model.lookback_bars, 1))
    values = (
        full.select(pl.col(model.columns).fill_null(float("nan")))
        .to_numpy()
        .astype(np.float32)
        .reshape(-1, max(model.lookback_bars, 1), len(model.columns))
    )
    context = (
        full.select(pl.col(model.context).fill_null(float("nan")))
        .to_numpy()
        .astype(np.float32)
        .reshape(len(values), -1, len(model.context))[:, -1]
    )
    repeat = np.arange(SYMBOLS) % len(values)
    return (
        np.ascontiguousarray(values[repeat, -1]),
        context[repeat],
        np.ascontiguousarray(values[repeat]) if model.lookback_bars else None,
    )


def over_http(store: str, run: SmallRun, bundle: Path, plan: Path, trivial: int) -> None:
    """/signals and /score of one service beside the trivial endpoint."""
    crown(run.folder, bundle, 1)
    model = Model.load(bundle)
    with live_service(plan) as live, connected(trivial) as other:
        port = int(live.url.rpartition(":")[2])
        symbols = run.market.symbols
        nothing = asking(other, "/signals", JSON, json.dumps({"symbols": symbols[:50]}).encode())
        with connected(port) as own:
            for count in (1, 50):
                ask = asking(own, "/signals", JSON, json.dumps({"symbols": symbols[:count]}).encode())
                beside(
                    f"/signals {count} symbols, {store}",
                    ask,
                    nothing,
                    300,
                    "wanted: p95 at most 5 above the trivial one's",
                )
            before = infer_buckets(live)
            for rows in (1, SYMBOLS):
                for kind, body in (
                    ("JSON", json_rows(run, model, rows)),
                    ("Arrow", arrow_rows(run, model, rows)),
                ):
                    if len(body) > ServingSettings().max_body_bytes:
                        print(
                            f"/score {rows} rows, {kind}, {store}: {len(body) / 1e6:.0f} MB are more than the"
                            " service takes; windows of many rows go as Arrow"
                        )
                        continue
                    ask = asking(own, "/score", JSON if kind == "JSON" else ARROW, body)
                    beside(
                        f"/score {rows} rows, {kind}, {store}",
                        ask,
                        nothing,
                        100 if rows > 1 else 200,
                        f"body {len(body) / 1000:,.0f} kB",
                    )
                now = infer_buckets(live)
                print(
                    f"    model part in the service, {rows} rows: p50 {in_bucket(before, now, 0.5)}, p95"
                    f" {in_bucket(before, now, 0.95)} ms (buckets of alphaloop_infer_seconds)"
                )
                before = now


def beside(what: str, ask: Ask, nothing: Ask, count: int, words: str) -> None:
    """Both requests in turn."""
    rounds, trivial = [], []
    for _ in range(20):
        ask(), nothing()
    for _ in range(ROUNDS):
        pairs = [(timed(ask), timed(nothing)) for _ in range(count)]
        rounds.append([own for own, _ in pairs])
        trivial.append([other for _, other in pairs])
    best = min(range(ROUNDS), key=lambda k: np.quantile(rounds[k], 0.95) - np.quantile(trivial[k], 0.95))
    over = np.quantile(rounds[best], 0.95) - np.quantile(trivial[best], 0.95)
    show(
        what,
        rounds,
        f"p95 {over:.2f} above the trivial endpoint's {np.quantile(trivial[best], 0.95):.2f}; {words}",
    )


def swaps(run: SmallRun, plan: Path) -> None:
    """Twenty changes of the champion while clients ask; an answer is mixed where its stamp and its scores are
    of two bundles.
    """
    crown(run.folder, run.bundles[0], 1)
    body = json.dumps({"symbols": run.market.symbols[:50]}).encode()
    with live_service(plan) as live:
        port = int(live.url.rpartition(":")[2])
        calm, stop, found = {}, threading.Event(), []
        for version, bundle in enumerate(run.bundles, start=1):
            crown(run.folder, bundle, version)
            until(lambda v=version: live.client.get("/model").json()["version"] == v, what="the bundle")
            calm[bundle.name] = scores_of(json.loads(live.signals(*run.market.symbols[:50]).content))

        def hammer() -> None:
            with connected(port) as connection:
                ask = asking(connection, "/signals", JSON, body)
                while not stop.is_set():
                    try:
                        took = timed(lambda: found.append([0.0, ask()]))
                        found[-1][0] = took
                    except (OSError, http.client.HTTPException, AssertionError) as error:
                        found.append([0.0, repr(error).encode()])
                        connection.close()

        threads = [threading.Thread(target=hammer) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        began = time.perf_counter()
        for number in range(SWAPS):
            crown(run.folder, run.bundles[number % 2], 10 + number)
            until(
                lambda v=10 + number: live.client.get("/model").json()["version"] == v,
                what="the swap",
                seconds=60,
            )
        seconds = time.perf_counter() - began
        stop.set()
        for thread in threads:
            thread.join()
    failed = mixed = 0
    for _, text in found:
        try:
            answer = json.loads(text)
            mixed += not np.allclose(scores_of(answer), calm[answer["model"]["bundle_sha256"]], atol=1e-7)
        except (ValueError, KeyError):
            failed += 1
    slow = np.quantile([took for took, _ in found], [0.5, 0.95, 1.0])
    print(
        f"{SWAPS} swaps in {seconds:.1f} s, {CLIENTS} clients, {len(found):,} answers: {failed} failed,"
        f" {mixed} mixed (wanted: 0 and 0)"
    )
    print(
        f"    /signals 50 symbols meanwhile: p50 {slow[0]:.1f}, p95 {slow[1]:.1f}, longest {slow[2]:.0f} ms;"
        f" {load()}"
    )


def scores_of(answer: dict) -> list[float]:
    """Scores and bands of an answer, one after the other."""
    return [signal[name] for signal in answer["signals"] for name in ("score", "p10", "p90")]


def start(run: SmallRun) -> None:
    """Seconds until `alphaloop serve` says that it is ready: with a champion known from before, and with none
    but in the registry.
    """
    open_registry(RegistrySettings(), run.folder / "registry")
    register(run, run.bundles[0])
    for what in ("a champion known from before", "the champion in the registry only"):
        seconds = []
        for _ in range(ROUNDS):
            if "only" in what:
                (run.folder / "serving" / "champion.json").unlink()
            plan = run.plan({"port": free_port()}, FeatureStoreSettings())
            began = time.perf_counter()
            served = Served(plan)
            try:
                served.wait_for("^Ready: ")
                seconds.append(time.perf_counter() - began)
            finally:
                served.stop()
        print(
            f"start to ready, {what}: {', '.join(f'{value:.1f}' for value in seconds)} s (wanted: at most 15;"
            f" files in the page cache); {load()}"
        )


def json_rows(run: SmallRun, model: Model, rows: int) -> bytes:
    """A /score body of the newest rows."""
    inputs, context, window = ready_rows(run, model)
    values = np.concatenate([inputs, context], axis=1)[:rows]
    names = [*model.columns, *model.context]
    body = [
        {
            "symbol": f"S{number:04d}",
            "timestamp": "2023-11-01T21:00:00Z",
            "features": {
                name: None if value != value else value for name, value in zip(names, line, strict=True)
            },
            **(
                {}
                if window is None
                else {
                    "window": [
                        [None if value != value else value for value in bar]
                        for bar in window[number].tolist()
                    ]
                }
            ),
        }
        for number, line in enumerate(values.tolist())
    ]
    return json.dumps({"rows": body}).encode()


def arrow_rows(run: SmallRun, model: Model, rows: int) -> bytes:
    """The same rows as an Arrow stream."""
    inputs, context, window = ready_rows(run, model)
    values = pl.from_numpy(
        np.concatenate([inputs, context], axis=1)[:rows],
        schema=dict.fromkeys((*model.columns, *model.context), pl.Float32),
    )
    frame = values.with_columns(
        pl.Series("symbol", [f"S{number:04d}" for number in range(rows)]),
        pl.lit("2023-11-01T21:00:00").str.to_datetime(time_unit="us", time_zone="UTC").alias("timestamp"),
        *(
            []
            if window is None
            else [pl.Series("window", [bars.astype("<f4").tobytes() for bars in window[:rows]])]
        ),
    )
    return arrow_stream(frame)


@contextlib.contextmanager
def trivial_endpoint(folder: Path) -> Iterator[int]:
    """A BentoML service that answers `{}` to everything, mounted as ours is; yields its port."""
    (folder / "trivial.py").write_text(TRIVIAL)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        "trivial:Trivial",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--working-dir",
        str(folder),
    ]
    variables = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "bentoml")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=variables)
    try:
        until(lambda: listens(port), seconds=60, what="the trivial endpoint")
        time.sleep(2)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def connected(port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection that is kept open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        yield connection
    finally:
        connection.close()


def asking(connection: http.client.HTTPConnection, path: str, kind: str, body: bytes) -> Ask:
    """A call that posts the body and returns the answer."""

    def ask() -> bytes:
        connection.request("POST", path, body=body, headers={"Content-Type": kind})
        response = connection.getresponse()
        text = response.read()
        assert response.status == 200, text
        return text

    return ask


def infer_buckets(live: Live) -> dict[float, float]:
    """Observations of alphaloop_infer_seconds for /score at or below each bound in milliseconds."""
    found: dict[float, float] = {}
    for line in live.client.get("/metrics").text.splitlines():
        if line.startswith("alphaloop_infer_seconds_bucket") and 'endpoint="score"' in line:
            bound = 1000 * float(line.split('le="')[1].split('"')[0])
            found[bound] = found.get(bound, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


def in_bucket(before: dict[float, float], now: dict[float, float], share: float) -> str:
    """The bounds between which a quantile of the observations since `before` lies."""
    counts = {bound: now[bound] - before.get(bound, 0.0) for bound in sorted(now)}
    total, low = max(counts.values(), default=0.0), 0.0
    for bound, count in counts.items():
        if count >= share * total:
            return f"{low:g} to {bound:g}"
        low = bound
    return "unknown"


def show(what: str, rounds: list[list[float]], words: str) -> None:
    """One line: the best round, and the p95 of all."""
    best = min(rounds, key=lambda values: np.quantile(values, 0.95))
    every = ", ".join(f"{np.quantile(values, 0.95):.2f}" for values in rounds)
    print(
        f"{what:<56} p50 {np.quantile(best, 0.5):7.2f}  p95 {np.quantile(best, 0.95):7.2f} ms  (p95 of the"
        f" rounds: {every}; {words}; {load()})",
        flush=True,
    )


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of wall clock."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def load() -> str:
    """How busy the machine is."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def processor() -> str:
    """The CPU's name, as Linux says it."""
    with contextlib.suppress(OSError, IndexError):
        return next(
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
        ).split(": ")[1]
    return "unknown"


if __name__ == "__main__":
    main()
