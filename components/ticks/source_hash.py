"""The content hash of events where they lie: the cache key under which a changed file is never answered from
the cache.
"""

import hashlib
import os
from pathlib import Path

from components.contracts import file_sha256
from components.contracts.source_files import require_file
from components.progress import report, stage
from components.settings import config_hash
from components.ticks.config import Settings
from components.ticks.errors import TicksError


def ticks_sha256(settings: Settings, data_folder: Path, seed: int) -> str:
    """SHA-256 of all input files (content and names), or of the simulator's settings and seed.

    Raises
    ------
    TicksError
        If a file is missing, empty or unreadable.
    """
    if settings.source == "simulator":
        return _hash(config_hash(settings), str(seed))
    named = files_of(settings).items()
    files = [require_file(Path(data_folder) / path, key, TicksError) for path, key in named]
    beside = [path.with_name(path.name.replace("message", "orderbook")) for path in files]
    files += [path for path in beside if path not in files and path.is_file()]
    return _hash(*(part for path in files for part in (path.name, file_sha256(path))))


def files_of(settings: Settings) -> dict[str, str]:
    """The key that names each file of the source, by its path; none of a simulator."""
    messages = settings.depth_messages
    return {
        "simulator": {},
        "lobster": {settings.lobster.path: "ticks.lobster.path"},
        "depth_messages": {
            messages.events: "ticks.depth_messages.events",
            messages.levels: "ticks.depth_messages.levels",
        },
    }[settings.source]


def run_tick_source(*, settings: str, seed: int) -> str:
    """The hash of the events of the configured source, whose files lie in the folder of ALPHALOOP_DATA."""
    with stage("source"):
        folder = Path(os.environ.get("ALPHALOOP_DATA", "data"))
        found = ticks_sha256(Settings.model_validate_json(settings), folder, seed)
        report("source", f"content {found[:12]}")
    return found


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
