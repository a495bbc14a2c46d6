"""How gathered artifacts lie in one folder: `<position>_<name>`, a file or a folder each, in the order that
they were given.
"""

from pathlib import Path

from components.contracts.errors import AlphaloopError


class GatheredError(AlphaloopError):
    """Artifacts can't be gathered, or a folder holds none that were."""


def place_of(folder: Path, position: int, name: str) -> Path:
    """Where the item `name`, the `position`th of the folder (from 0), lies.

    Raises
    ------
    GatheredError
        If the name can't be that of one file.
    """
    if not name or Path(name).name != name:
        raise GatheredError(f"{name!r} can't be the name of a gathered item: it must be that of a file.")
    return folder / f"{position:02d}_{name}"


def read_gathered(folder: str | Path) -> dict[str, Path]:
    """The items of a gathered folder by name, in the order that they were given.

    Raises
    ------
    GatheredError
        If the folder holds anything that was not laid there by the gather door.
    """
    found = {}
    for path in sorted(Path(folder).iterdir()):
        position, _, name = path.name.partition("_")
        if position != f"{len(found):02d}" or not name:
            raise GatheredError(
                f"{folder} is no folder of gathered items: {path.name} is not what stands at place"
                f" {len(found)}. Run again with an empty run.folder."
            )
        found[name] = path
    return found
