"""The content hash of the market data: the cache key under which a changed file is never answered from the cache."""

import hashlib
from pathlib import Path

from components.market.config import Settings
from components.market.files import files_sha256, find_files, require_file
from components.settings import config_hash


def source_sha256(settings: Settings, data_folder: Path, seed: int) -> str:
    """SHA-256 of all input files (content and names, sectors included), or of the simulator's settings and seed.

    Raises
    ------
    MarketError
        If a file is missing, empty or unreadable.
    """
    if settings.source == "simulator":
        return hashlib.sha256(f"{config_hash(settings)}:{seed}".encode()).hexdigest()
    sectors = Path(data_folder) / settings.sectors.path if settings.sectors else None
    if sectors:
        require_file(sectors, "market.sectors.path")
    return files_sha256(find_files(settings, data_folder), sectors)
