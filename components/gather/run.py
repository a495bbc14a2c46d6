"""What the gather door calls: named files and folders into one folder, without copying where links serve."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from components.contracts import atomic_path
from components.contracts.gathered import GatheredError, place_of, read_gathered
from components.progress import stage


def run(
    names: Sequence[str],
    items: Sequence[str | Path],
    gathered: str | Path,
    *,
    what: str,
    before: str | Path | None = None,
) -> None:
    """Lay `items`, files or folders, into the new folder `gathered`, as `read_gathered` finds them there;
    those of the gathered folder `before` come first.

    Files are hard links to the items' own where the file system allows it, else copies. Artifacts are never
    changed in place, so a link is as good as a copy.

    Raises
    ------
    GatheredError
        If there is not one name for each item, or a name occurs twice or can't be a file's.
    OutputError
        If the folder can't be written.
    """
    with stage(f"gather {what}"):
        earlier = read_gathered(before) if before else {}
        names, items = [*earlier, *names], [*earlier.values(), *items]
        if len(names) != len(items) or len(set(names)) != len(names):
            raise GatheredError(f"{len(items)} items can't be told apart by the names {', '.join(names)}.")
        with atomic_path(gathered) as folder:
            folder.mkdir()
            for position, (name, item) in enumerate(zip(names, items, strict=True)):
                _lay(Path(item), place_of(folder, position, name))


def _lay(item: Path, place: Path) -> None:
    if item.is_dir():
        shutil.copytree(item, place, copy_function=_link)
    else:
        _link(item, place)


def _link(source: str | Path, target: str | Path) -> None:
    """A hard link to the file, or a copy where there can be none: another disk, a file of somebody else."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
