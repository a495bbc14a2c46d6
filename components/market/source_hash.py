"""The content hash of the market data: the cache key under which a changed file is never answered from the
cache.
"""

import hashlib
from pathlib import Path

from components.contracts.source_files import require_file
from components.market.at_hand import at_hand
from components.market.config import FETCHED, Settings
from components.market.errors import MarketError
from components.market.fetched import kept_or_fetched
from components.market.files import SourceFiles, files_sha256, find_files
from components.market.qlib_folder import qlib_files
from components.reading.object_store import Address, StoredFile, is_address, one_stored
from components.settings import config_hash


def market_sha256(settings: Settings, data_folder: Path, seed: int) -> str:
    """SHA-256 of all input files (content and names, sectors included), or of the simulator's settings and
    seed. Files in an object store are hashed as they stream by.

    Of Yahoo, an exchange or Wind it is the hash of the file that keeps what was fetched; where there is none
    yet, it is fetched.

    Raises
    ------
    MarketError
        If a file is missing, empty or unreadable, or nothing could be fetched.
    """
    if settings.source == "simulator":
        return hashlib.sha256(f"{config_hash(settings.bars_only)}:{seed}".encode()).hexdigest()
    if settings.source == "qlib" and is_address(settings.path):  # its lists say which files count
        with at_hand(settings) as (local, _):
            return market_sha256(local, data_folder, seed)
    sectors = _sectors(settings.sectors.path, Path(data_folder)) if settings.sectors else None
    if settings.source in FETCHED:
        files = SourceFiles((kept_or_fetched(settings, Path(data_folder)),), False)
    elif settings.source == "qlib":
        files = qlib_files(settings, Path(data_folder))
    else:
        files = find_files(settings, data_folder)
    return files_sha256(files, sectors)


def _sectors(path: str, data_folder: Path) -> Path | StoredFile:
    if not is_address(path):
        return require_file(data_folder / path, "market.sectors.path", MarketError)
    return one_stored(Address(path, "market.sectors.path", MarketError))
