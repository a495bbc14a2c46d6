"""The content hash of the slow tables' files: the cache key under which a changed file is never answered from
the cache.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from components.contracts import file_sha256
from components.contracts.source_files import require_file
from components.fusion.at_hand import wanted_files
from components.fusion.config import Settings
from components.fusion.errors import FusionError
from components.reading.object_store import Address, is_address, one_stored, stored_sha256


def slow_tables_sha256(settings: Settings, data_folder: Path) -> str:
    """SHA-256 over the names and the content of all files that the slow tables read, those of identities
    included; empty where there are none.

    Raises
    ------
    FusionError
        If a file is missing or empty.
    """
    hashes = {}
    for path, owner in wanted_files(settings).items():
        if is_address(path):
            (hashes[path],) = stored_sha256([one_stored(Address(path, owner, FusionError))])
        else:
            hashes[path] = file_sha256(require_file(Path(data_folder) / path, owner, FusionError))
    return sha256_of(hashes)


def sha256_of(hashes: Mapping[str, str]) -> str:
    """The hash of all files of slow tables, from the SHA-256 of each by its path; empty where there are
    none.
    """
    said = "".join(f"{path}\0{sha256}\0" for path, sha256 in sorted(hashes.items()))
    return hashlib.sha256(said.encode()).hexdigest() if said else ""
