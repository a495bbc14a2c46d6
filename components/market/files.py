"""Finds the files that a source is made of, and hashes their content."""

import glob
import hashlib
from dataclasses import dataclass
from pathlib import Path

from components.contracts import file_sha256
from components.contracts.source_files import require_file
from components.market.config import Settings
from components.market.errors import MarketError

SUFFIXES = {"csv": (".csv", ".csv.gz", ".csv.zst"), "parquet": (".parquet", ".pq")}


@dataclass(frozen=True)
class SourceFiles:
    """Files in the order of their names.

    `many` is true where the path is a folder or a glob, so that a file may stand for one symbol.
    """

    paths: tuple[Path, ...]
    many: bool


def find_files(settings: Settings, data_folder: Path) -> SourceFiles:
    """The files that `settings.path` names: itself, all files of the source's kind below a folder, or the
    matches of a glob.

    Raises
    ------
    MarketError
        If nothing is there, or a file is empty or cannot be read.
    """
    place = Path(data_folder) / settings.path
    if glob.has_magic(settings.path):
        paths = sorted(path for path in map(Path, glob.glob(str(place), recursive=True)) if path.is_file())
        if not paths:
            raise MarketError(
                f"No file matches market.path {settings.path!r} (looked for {place}). Mend the pattern, or"
                " set ALPHALOOP_DATA to the folder that holds the data."
            )
        many = True
    elif place.is_dir():
        suffixes = SUFFIXES[settings.source]
        paths = sorted(
            path for path in place.rglob("*") if path.is_file() and path.name.lower().endswith(suffixes)
        )
        if not paths:
            raise MarketError(
                f"The folder {place} holds no {settings.source} file ({', '.join(suffixes)}). Put the data"
                " there, or mend market.path or market.source."
            )
        many = True
    else:
        require_file(place, "market.path", MarketError)
        paths, many = [place], False
    for path in paths:
        require_file(path, "market.path", MarketError)
    return SourceFiles(tuple(paths), many)


def files_sha256(files: SourceFiles, extra: Path | None) -> str:
    """SHA-256 over the names and the content of all files, and of `extra` (the sectors)."""
    digest = hashlib.sha256()
    for path in (*files.paths, *([extra] if extra else [])):
        digest.update(f"{path.name}\0{file_sha256(path)}\0".encode())
    return digest.hexdigest()
