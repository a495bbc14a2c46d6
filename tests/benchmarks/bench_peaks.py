"""Peak memory and CPU time of each data stage on simulated markets, each in a process of its own:
`python -m tests.benchmarks.bench_peaks 500x1000 1000x1000`.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

STAGES = ("nothing", "ingest", "validation", "features", "labels", "materialise", "training_set", "audit")


def main(*arguments: str) -> None:
    """Print one line a size and stage. A size is symbols x bars; names of stages choose among them."""
    sizes = [name for name in arguments if name[0].isdigit()] or ["500x1000"]
    stages = [name for name in arguments if name in STAGES] or list(STAGES)
    print(f"{'size':>12s} {'stage':14s} {'CPU s':>8s} {'wall s':>8s} {'peak GiB':>9s}", flush=True)
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for name in STAGES[: max(map(STAGES.index, stages)) + 1]:
                code = f"from tests.benchmarks.bench_peaks import one; one({name!r}, {size!r}, {folder!r})"
                wall = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", code], capture_output=True, text=True, check=False
                )
                wall = time.perf_counter() - wall
                if done.returncode:
                    print(f"{size:>12s} {name:14s} ended with {done.returncode}: {done.stderr[-600:]}")
                    break
                found = json.loads(done.stdout.splitlines()[-1])
                print(
                    f"{size:>12s} {name:14s} {found['cpu']:8.1f} {wall:8.1f} {found['peak']:9.2f}", flush=True
                )


def one(name: str, size: str, folder: str) -> None:
    """Run one stage on the files of those before it, and print its figures as JSON."""
    symbols, bars = map(int, size.split("x"))
    _run(symbols, bars, Path(folder))[name]()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 2**20}))


def _run(symbols: int, bars: int, at: Path) -> dict[str, Callable[[], object]]:
    return {
        "nothing": lambda: None,
        "ingest": lambda: _ingest(symbols, bars, at),
        "validation": lambda: _validate(at),
        "features": lambda: _features(at),
        "labels": lambda: _labels(at),
        "materialise": lambda: _materialise(at),
        "training_set": lambda: _training_set(at),
        "audit": lambda: _audit(at),
    }


def _ingest(symbols: int, bars: int, at: Path) -> None:
    from components.market.config import Settings
    from components.market.run import Inputs, Outputs, run

    settings = Settings.model_validate({"simulator": {"symbols": symbols, "bars": bars}})
    run(Inputs(7), Outputs(at / "raw", at / "truth"), settings=settings.model_dump_json(), code="bench")


def _validate(at: Path) -> None:
    from components.market.config import Settings as MarketSettings
    from components.market.make_universe import run_make_universe
    from components.validation.config import Settings
    from components.validation.run import Inputs, Outputs, run_validate

    outputs = Outputs(at / "panel", at / "quarantine", at / "health", at / "judgements")
    run_validate(Inputs(at / "raw"), outputs, settings=Settings().model_dump_json(), code="bench")
    universe = MarketSettings().universe.model_dump_json()
    run_make_universe(at / "panel", at / "universe", settings=universe, code="bench")


def _features(at: Path) -> None:
    from components.features.config import Settings
    from components.features.run import Inputs, Outputs, run

    outputs = Outputs(at / "factors", at / "catalog")
    run(Inputs(at / "panel"), outputs, settings=Settings().model_dump_json(), code="bench")


def _labels(at: Path) -> None:
    from components.labels.config import Settings
    from components.labels.run import Inputs, Outputs, run

    settings = Settings().model_dump_json()
    run(Inputs(at / "panel"), Outputs(at / "labels"), settings=settings, code="bench")


def _materialise(at: Path) -> None:
    from components.feature_store.config import Settings
    from components.feature_store.run import Described, Factors, run_materialise

    published = Factors(at / "factors", at / "catalog", at / "panel", at / "universe")
    described = Described(at / "registry", at / "online_universe")
    settings = Settings().model_dump_json()
    name = run_materialise(
        published, described, folder=str(at / "store"), period="1d", settings=settings, code="bench"
    )
    (at / "publication").write_text(name)


def _training_set(at: Path) -> None:
    from components.feature_store.config import Settings
    from components.feature_store.run import TrainingInputs, run_make_training_set

    name = (at / "publication").read_text()
    inputs = TrainingInputs(at / "factors", at / "catalog", at / "panel", name, "1d")
    settings = Settings().model_dump_json()
    run_make_training_set(
        inputs, at / "training_set", folder=str(at / "store"), settings=settings, code="bench"
    )


def _audit(at: Path) -> None:
    from components.audit.config import Settings
    from components.audit.run import Builders, Inputs, Outputs, run
    from components.features.config import Settings as FeatureSettings
    from components.labels.config import Settings as LabelSettings

    builders = Builders(
        "components.features.build:build_factors",
        FeatureSettings().model_dump_json(),
        "components.labels.build:build_labels",
        LabelSettings().model_dump_json(),
    )
    inputs = Inputs(at / "panel", at / "factors", at / "labels", at / "catalog")
    settings = Settings().model_dump_json()
    run(inputs, Outputs(at / "audit", at / "page"), builders, settings=settings, seed=7)


if __name__ == "__main__":
    main(*sys.argv[1:])
