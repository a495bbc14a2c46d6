"""The content hash of the slow tables' files: the cache key under which a changed file is never answered from
the cache.
"""

import hashlib
from pathlib import Path

from components.contracts import file_sha256
from components.contracts.source_files import require_file
from components.fusion.config import Settings
from components.fusion.errors import FusionError


def slow_tables_sha256(settings: Settings, data_folder: Path) -> str:
    """SHA-256 over the names and the content of all files that the slow tables read, those of identities
    included; empty where there are none.

    Raises
    ------
    FusionError
        If a file is missing or empty.
    """
    wanted = {table.path: table.name for table in settings.tables} | {
        table.identity.path: table.name for table in settings.tables if table.identity
    }
    if not wanted:
        return ""
    digest = hashlib.sha256()
    for path, name in sorted(wanted.items()):
        file = require_file(Path(data_folder) / path, f"fusion table {name!r}", FusionError)
        digest.update(f"{path}\0{file_sha256(file)}\0".encode())
    return digest.hexdigest()
