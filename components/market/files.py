"""Finds the files that a source is made of, and hashes their content."""

import glob
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from components.contracts import file_sha256
from components.contracts.source_files import require_file
from components.market.config import Settings
from components.market.errors import MarketError
from components.reading.object_store import Address, StoredFile, find_stored, is_address, stored_sha256
from components.reading.table import stem

# A name that ends with a year, a month or a day, such as BTCUSDT-1h-2024-01.
DATED = re.compile(r"(.+?)[-_.](?:19|20)\d{2}(?:[-_.]?\d{2}){0,2}")
SPLIT_PATTERN = r"^(.+?)[-_.]20\d\d"
SUFFIXES = {"csv": (".csv", ".csv.gz", ".csv.zst"), "parquet": (".parquet", ".pq")}


@dataclass(frozen=True)
class SourceFiles:
    """Files in the order of their names, on this disk or in an object store.

    `many` is true where the path is a folder or a glob, so that a file may stand for one symbol.
    """

    paths: tuple[Path | StoredFile, ...]
    many: bool


def find_files(settings: Settings, data_folder: Path) -> SourceFiles:
    """The files that `settings.path` names: itself, all files of the source's kind below a folder, or the
    matches of a glob.

    Raises
    ------
    MarketError
        If nothing is there, or a file is empty or cannot be read.
    """
    if is_address(settings.path):
        stored = find_stored(Address(settings.path, "market.path", MarketError), SUFFIXES[settings.source])
        return SourceFiles(stored, [str(file) for file in stored] != [settings.path])
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


def files_sha256(files: SourceFiles, extra: Path | StoredFile | None) -> str:
    """SHA-256 over the names and the content of all files, and of `extra` (the sectors)."""
    places = (*files.paths, *([extra] if extra else []))
    stored = [place for place in places if isinstance(place, StoredFile)]
    known = dict(zip(stored, stored_sha256(stored), strict=True))
    digest = hashlib.sha256()
    for place in places:
        content = known[place] if isinstance(place, StoredFile) else file_sha256(place)
        digest.update(f"{place.name}\0{content}\0".encode())
    return digest.hexdigest()


def symbols_of_files(files: SourceFiles, settings: Settings) -> dict[Path, str]:
    """The symbol that each of many files is named after: its name without .csv, .csv.gz, .parquet, or what
    `market.symbol_pattern` finds in that. Empty for a single file.

    Raises
    ------
    MarketError
        If the pattern does not fit a name, or without one two files are called the same.
    """
    if not files.many:
        return {}
    names = {path: stem(path) for path in files.paths}
    if settings.symbol_pattern is None:
        return names
    found = {path: re.search(settings.symbol_pattern, name) for path, name in names.items()}
    if without := next((path for path, match in found.items() if match is None or not match[1]), None):
        raise MarketError(
            f"{without}: market.symbol_pattern {settings.symbol_pattern!r} finds no symbol in"
            f" {names[without]!r}. Mend"
            " the pattern, or let market.path leave the file out."
        )
    return {path: match[1] for path, match in found.items()}


def refuse_twins(symbols: dict[Path, str], settings: Settings) -> None:
    """Refuse two files that would give one symbol by their name alone."""
    if settings.symbol_pattern is not None:
        return
    owners: dict[str, Path] = {}
    for path, symbol in symbols.items():
        if symbol in owners:
            raise MarketError(
                f"{owners[symbol]} and {path} have no column of symbols, and both are named after the symbol"
                f" {symbol!r}."
                " Rename or remove one, or narrow market.path; where they are parts of one history, say so"
                " with"
                " market.symbol_pattern: '(.+)'."
            )
        owners[symbol] = path


def split_notes(symbols: dict[str, tuple[datetime, datetime]]) -> tuple[str, ...]:
    """A note where names of files that differ in their last date alone follow each other in time, as the
    years of one symbol do.

    `symbols`: first and last bar by the name of the file.
    """
    parts: dict[str, list[str]] = {}
    for name in symbols:
        if (match := DATED.fullmatch(name)) is not None:
            parts.setdefault(match[1], []).append(name)
    for names in parts.values():
        spans = sorted(symbols[name] for name in names)
        if len(names) > 1 and all(before[1] < after[0] for before, after in pairwise(spans)):
            return (
                f"Files such as {' and '.join(sorted(names)[:2])} look like parts of one symbol, and are"
                " read as"
                " symbols of their own: the symbol is the whole name. To join them set"
                " market.symbol_pattern, for"
                f" example '{SPLIT_PATTERN}'.",
            )
    return ()
