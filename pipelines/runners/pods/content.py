"""Artifacts by content only, as Kubeflow's launcher hands them through S3: the bytes of files under their
names. Links become what they point to; modes, owners, times, empty folders and all else is lost.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from components.contracts import AlphaloopError

FILE_MODE, FOLDER_MODE = 0o644, 0o755


class ArtifactError(AlphaloopError):
    """An artifact holds what can't be handed on."""


def is_content(path: Path) -> bool:
    """Whether a file or folder is just as S3 would give it back: plain files with one name each."""
    about = path.lstat()
    if stat.S_ISREG(about.st_mode):
        return stat.S_IMODE(about.st_mode) == FILE_MODE and about.st_nlink == 1
    if not stat.S_ISDIR(about.st_mode) or stat.S_IMODE(about.st_mode) != FOLDER_MODE:
        return False
    inside = list(path.iterdir())
    return bool(inside) and all(is_content(one) for one in inside)


def copy_content(source: Path, target: Path) -> None:
    """Copy the content of `source` to `target`; nothing where it holds no file.

    Raises
    ------
    ArtifactError
        If there is a link to a folder, or what is neither file nor folder: the launcher fails on these.
    """
    for name, file in files_of(source):
        place = target / name if name else target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def take_content(source: Path, target: Path) -> None:
    """As `copy_content`, but the files are moved where nobody can tell the difference; for what a pod has
    written and no process writes any more.

    Raises
    ------
    ArtifactError
        As `copy_content`, and for links that lead out of the artifact: what they mean in the pod is not what
        lies there on this machine, which is not to be handed on, let alone moved.
    """
    home = source.parent.resolve() / source.name
    found = list(files_of(source))
    for name, file in found:
        if not file.resolve().is_relative_to(home):
            raise ArtifactError(
                f"{name or source.name} in an output artifact is a link to what is not in it, which pods of"
                " this machine don't hand on. Write files, or copies of them."
            )
    # Links first, while what they lead to has not been moved.
    for name, file in sorted(found, key=lambda one: not one[1].is_symlink()):
        place = target / name if name else target
        place.parent.mkdir(parents=True, exist_ok=True)
        about = file.lstat()
        if stat.S_ISREG(about.st_mode) and about.st_nlink == 1 and not os.listxattr(file):
            os.rename(file, place)
            os.chmod(place, FILE_MODE)
            os.utime(place)
        else:
            shutil.copyfile(file, place)


def files_of(source: Path) -> Iterator[tuple[str, Path]]:
    """The files of an artifact that is a folder, with their names in it; the artifact itself, under the name
    "", where it is a file.
    """
    if not source.is_dir():
        _require_file(source)
        yield "", source
        return
    for folder, folders, files in os.walk(source):
        for name in (*files, *(one for one in folders if (Path(folder) / one).is_symlink())):
            file = Path(folder) / name
            _require_file(file)
            yield str(file.relative_to(source)), file


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise ArtifactError(
            f"{path.name} in an output artifact is a link to a folder, a broken link or no file at all:"
            " Kubeflow's launcher can't hand that on. Write files, or copies of them."
        )
