"""A feature store at an address: what readers of online values need of it, brought to this machine."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.contracts import atomic_path
from components.feature_store.publication import CURRENT, FeatureStoreError, read_current
from components.feature_store.store import REGISTRY
from components.lasting.folder import fetched, is_address


@contextmanager
def online_view(folder: str) -> Iterator[Path]:
    """What readers of online values need of a store's folder, a path or an address: at a path the folder
    itself, else a scratch folder as `bring_current` fills it.
    """
    if not is_address(folder):
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="alphaloop-store-") as scratch:
        bring_current(folder, Path(scratch))
        yield Path(scratch)


def bring_current(address: str, target: Path) -> None:
    """Bring the description and the registry of the publication that is current at an address into the folder
    `target`, where they replace those of another.

    Raises
    ------
    FeatureStoreError
        If nothing was ever materialised there.
    LastingError
        If the store does not answer.
    """
    with fetched(address, lambda name: name == CURRENT or name.endswith(f"/{REGISTRY}")) as folder:
        registry = folder / "data" / read_current(folder)["publication"] / REGISTRY
        if not registry.is_file():
            raise FeatureStoreError(f"{registry} is missing. Run `alphaloop materialise`; it writes it anew.")
        # The pointer comes last, as it went there.
        for source, there in ((registry, target / REGISTRY), (folder / CURRENT, target / CURRENT)):
            if not there.is_file() or there.read_bytes() != source.read_bytes():
                with atomic_path(there) as temporary:
                    shutil.copyfile(source, temporary)
