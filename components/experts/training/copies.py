"""What a training leaves in its work folder for nodes of Ray only while they work on it: copies of inputs
that they would not see, and the arguments of processes that share a fit.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from components.contracts import atomic_path
from components.experts.training.inputs import Inputs
from components.spread.choice import ray_address

COPIES, PROCESSES = ".inputs", ".processes-"


@contextmanager
def seen_by_nodes(inputs: Inputs, work_folder: Path) -> Iterator[Inputs]:
    """The inputs where a cluster's nodes see them as they see the work folder: what lies on another disk, as
    a pod's own copies of artifacts do, is copied into it for this while.
    """
    paths = {name: Path(place) for name, place in asdict(inputs).items() if place}
    work_folder.mkdir(parents=True, exist_ok=True)
    unseen = {name for name, place in paths.items() if ray_address() and on_other_disk(place, work_folder)}
    if not unseen:
        yield inputs
        return
    copies = work_folder / COPIES
    try:
        with atomic_path(copies) as temporary:
            temporary.mkdir()
            for name in unseen:
                copy = shutil.copytree if paths[name].is_dir() else shutil.copyfile
                copy(paths[name], temporary / name)
        yield replace(inputs, **{name: copies / name for name in unseen})
    finally:
        shutil.rmtree(copies, ignore_errors=True)


def on_other_disk(path: Path, folder: Path) -> bool:
    """Whether a path lies on another file system than a folder."""
    return path.stat().st_dev != folder.stat().st_dev


def sweep(work_folder: Path) -> None:
    """Remove what a training that was killed left of it; nobody else may work in the folder."""
    for pattern in (f"{PROCESSES}*", f".{COPIES}.*", COPIES):
        for left in work_folder.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)
