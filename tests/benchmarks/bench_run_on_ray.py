"""A whole run of a simulated market with `compute.engine=local`, the same on three raylets of this machine,
and the SHA-256 of all that both left, which must be the same but for what says of itself when it was made.

    python -m tests.benchmarks.bench_run_on_ray --symbols 500 --bars 1000
"""

import argparse
import hashlib
import os
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from components.spread.attempts import read_attempts
from tests.benchmarks.bench_growth import tree
from tests.pipelines.small_run import SETTINGS, alphaloop
from tests.spread.raylets import Raylets

LEAVES = ("elasticnet/1d/base", "lightgbm/1d/base")
# Of each leaf, as they come; so one fit goes to a raylet at a time.
THREADS = 2
# What must be the same, by what it is: places below the run folder, without what names this one run.
PARTS = {
    "factors": r"artifacts/build-features\S*/factors",
    "labels": r"artifacts/make-labels\S*/labels",
    "training set": r"artifacts/make-training-set\S*/training_set",
    "folds: predictions": r"experts/\w+/\w+/predictions.parquet",
    "folds: models": r"experts/\w+/\w+/model/.*",
    "experts": r"artifacts/train-expert\S*/expert/(predictions.parquet|model/.*)",
    "out-of-fold table": r"artifacts/build-oof\S*/(oof|predictions)",
    "stack": r"artifacts/stack\S*/(model/.*|all_predictions)",
    "reference": r"artifacts/make-reference\S*/reference/.*",
    "bundle": r"registry/artifacts/artifacts/bundle/.*",
}


def config(path: Path, folder: Path, symbols: int, bars: int) -> Path:
    market = {"source": "simulator", "planted_ic": 0.05, "simulator": {"symbols": symbols, "bars": bars}}
    run = {"name": "on-ray", "seed": 7, "folder": str(folder)}
    timeline = {"train_share": 0.5, "validation_share": 0.2, "fold_bars": max(bars // 8, 40)}
    experts = {"leaves": list(LEAVES)}
    asked = {**SETTINGS, "run": run, "market": market, "timeline": timeline, "experts": experts}
    path.write_text(yaml.safe_dump(asked))
    return path


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a run by its place, in which nothing names this one run."""
    found = {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder).as_posix()
        place = re.sub(r"^artifacts/alphaloop-[^/]*/", "artifacts/", place)
        place = re.sub(r"^registry/artifacts/[0-9a-f]{32}/", "registry/artifacts/", place)
        if path.is_file() and "/.kfp_cache/" not in place:
            with path.open("rb") as handle:
                found[place] = hashlib.file_digest(handle, "sha256").hexdigest()
    return found


def ran(asked: Path, folder: Path, *more: str) -> dict[str, str]:
    cpu, wall = tree(os.getpid())[0], time.monotonic()
    given = [argument for text in more for argument in ("--set", text)]
    done = alphaloop("run", "--config", asked, "--set", f"run.folder={folder}", *given, folder=folder)
    assert done.code == 0, done.text
    taken = tree(os.getpid())[0] - cpu, time.monotonic() - wall
    print(f"{folder.name:10} {taken[0]:8.1f} CPU s {taken[1]:8.1f} s", flush=True)
    return hashes(folder)


def compare(here: dict[str, str], there: dict[str, str]) -> bool:
    """Print each part's files and a hash over them all; whether all of them are the same."""
    print(f"\n{'part':22} {'files':>6}  {'local':16}  {'ray':16}")
    same = True
    for part, pattern in PARTS.items():
        one, other = (
            {name: sha for name, sha in found.items() if re.fullmatch(pattern, name)}
            for found in (here, there)
        )
        said = [hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest() for found in (one, other)]
        same &= bool(one) and said[0] == said[1]
        print(f"{part:22} {len(one):6}  {said[0][:16]}  {said[1][:16]}  {'' if said[0] == said[1] else 'NO'}")
    others = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    print("\ndiffer, all in all:", *others, sep="\n  ")
    return same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=40)
    parser.add_argument("--bars", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="a new one, kept; else one that is removed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch, "runs")
        folder.mkdir(parents=True)
        asked = config(folder / "run.yaml", folder / "run", given.symbols, given.bars)
        print(f"{given.symbols} symbols x {given.bars} bars, {', '.join(LEAVES)}", flush=True)
        here = ran(asked, folder / "local", "compute.engine=local")
        with Raylets(folder / "token", os.environ.__setitem__, cores=THREADS) as raylets:
            on_ray = ("compute.engine=ray", f"compute.address={raylets.address}")
            there = ran(asked, folder / "ray", *on_ray)
        same = compare(here, there)
        fits = list((folder / "ray" / "experts").glob("*/.attempts/*.jsonl"))
        events = Counter(line["event"] for log in fits for line in read_attempts(log.parents[1] / log.stem))
        print(f"\n{len(fits)} fits went to raylets: {dict(events)}")
        print(f"the same bytes: {'yes' if same else 'NO'}")


if __name__ == "__main__":
    main()
