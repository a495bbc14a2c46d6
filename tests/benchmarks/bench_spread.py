"""Folds of experts in one process, in two, and on three raylets of this machine: processor seconds, wall
seconds, and the SHA-256 of all that the training hands on, which must be the same. Then a raylet that is
killed while it works.

    python -m tests.benchmarks.bench_spread --symbols 60 --bars 500
"""

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from components.experts.leaves import Leaf
from components.experts.training import elsewhere
from components.experts.training.inputs import Inputs
from components.spread import engines, local
from components.spread.attempts import read_attempts
from components.spread.choice import ADDRESS_VARIABLE, ENGINE_VARIABLE
from tests.benchmarks.bench_growth import tree
from tests.experts.studies.tables_on_disk import write_inputs
from tests.experts.training.test_folds_elsewhere import assignment, made, train
from tests.spread.raylets import Raylets
from tests.spread.test_spread import PARTS, pieces

LEAVES = (
    Leaf(expert="elasticnet", period="1d", threads=1),
    Leaf(expert="lightgbm", period="1d", threads=1),
    Leaf(expert="lightgbm", period="1d", threads=1, ensemble=3),
)


def sha256(folder: Path) -> str:
    """Of all files of an expert's artifact; of its status without seconds."""
    digest = hashlib.sha256()
    for name, content in made(folder / "expert").items():
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


@contextmanager
def slots(count: int) -> Iterator[None]:
    """This many processes from the first fit on, whatever the machine has."""
    before = local.slots, elsewhere.slots, elsewhere.PAYS_FROM_S
    local.slots = elsewhere.slots = lambda needs: count
    elsewhere.PAYS_FROM_S = 0.0
    try:
        yield
    finally:
        local.slots, elsewhere.slots, elsewhere.PAYS_FROM_S = before


def measured(what: str, work: Callable[[], str]) -> str:
    """Print what it took this process and all below it; returns what came out."""
    cpu, wall = tree(os.getpid())[0], time.monotonic()
    found = work()
    taken = tree(os.getpid())[0] - cpu, time.monotonic() - wall
    print(f"{what:34} {taken[0]:8.1f} {taken[1]:8.1f}  {found[:16]}", flush=True)
    return found


def trained(inputs: Inputs, leaf: Leaf, folder: Path) -> str:
    train(inputs, folder, assignment(leaf))
    return sha256(folder)


def killed_raylet(raylets: Raylets, folder: Path) -> None:
    """Six pieces on three raylets, of which one is killed -9 while its attempt is under way."""
    gate, out = folder / "gate", folder / "out"
    gate.touch()
    six = pieces(out, 6, until_gone=str(gate))
    with raylets.killing_one_at_work(out, gate) as killed:
        engines.map(f"{PARTS}:slow", six)
    print(f"\nkilled while at work on {killed.piece}:")
    for line in read_attempts(out / killed.piece):
        print("   ", line)
    once = [piece.folder.name for piece in six if len(read_attempts(piece.folder)) == 2]
    print(f"    made at once: {', '.join(once)}; left in the folder: {sorted(p.name for p in out.iterdir())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=60)
    parser.add_argument("--bars", type=int, default=500)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = write_inputs(folder / "tables", bars=asked.bars, symbols=asked.symbols)
        inputs = Inputs(found.training_set, found.labels, found.catalog)
        print(f"{'expert, how':34} {'CPU s':>8} {'wall s':>8}  SHA-256", flush=True)
        shas = {}
        for number, leaf in enumerate(LEAVES):
            name = f"{leaf.expert} x {leaf.ensemble}"
            for count in (1, 2):
                place = folder / f"{number}-{count}"
                with slots(count):
                    shas[number, count] = measured(
                        f"{name}, processes: {count}",
                        lambda leaf=leaf, place=place: trained(inputs, leaf, place),
                    )
        if find_spec("ray") is None:
            print("Ray is not installed: pip install 'alphaloop[ray]'")
        else:
            with Raylets(folder / "token", os.environ.__setitem__) as raylets:
                os.environ.update({ENGINE_VARIABLE: "ray", ADDRESS_VARIABLE: raylets.address})
                for number, leaf in enumerate(LEAVES):
                    shas[number, 3] = measured(
                        f"{leaf.expert} x {leaf.ensemble}, raylets: 3",
                        lambda leaf=leaf, number=number: trained(inputs, leaf, folder / f"{number}-3"),
                    )
                killed_raylet(raylets, folder)
        same = [
            len({sha for (one, _), sha in shas.items() if one == number}) for number in range(len(LEAVES))
        ]
        print(f"\nthe same bytes each way: {'yes' if set(same) == {1} else 'NO'}")


if __name__ == "__main__":
    main()
