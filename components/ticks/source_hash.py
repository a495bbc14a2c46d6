"""The content hash of events where they lie: the cache key under which a changed file is never answered from
the cache.
"""

import hashlib
import os
from pathlib import Path

from components.contracts import file_sha256
from components.progress import report, stage
from components.reading.object_store import StoredFile, stored_sha256
from components.settings import config_hash
from components.ticks.at_hand import found_files
from components.ticks.config import Settings


def ticks_sha256(settings: Settings, data_folder: Path, seed: int) -> str:
    """SHA-256 of all input files (content and names, wherever they lie), or of the simulator's settings and
    seed.

    Raises
    ------
    TicksError
        If a file is missing, empty or unreadable, or a store does not answer or refuses.
    """
    if settings.source == "simulator":
        return _hash(config_hash(settings), str(seed))
    files = found_files(settings, data_folder)
    stored = [file for file in files if isinstance(file, StoredFile)]
    hashes = dict(zip(stored, stored_sha256(stored), strict=True)) if stored else {}
    named = ((file.name, hashes[file] if file in hashes else file_sha256(file)) for file in files)
    return _hash(*(part for pair in named for part in pair))


def run_tick_source(*, settings: str, seed: int) -> str:
    """The hash of the events of the configured source, whose files lie in the folder of ALPHALOOP_DATA."""
    with stage("source"):
        folder = Path(os.environ.get("ALPHALOOP_DATA", "data"))
        found = ticks_sha256(Settings.model_validate_json(settings), folder, seed)
        report("source", f"content {found[:12]}")
    return found


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
