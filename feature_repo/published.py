"""The objects that `feast -c feature_repo apply` finds: those of the newest publication in
ALPHALOOP_FEATURE_STORE.

Example: ALPHALOOP_FEATURE_STORE=$PWD/runs/feature_store feast -c feature_repo feature-views list
"""

import os
from pathlib import Path

from feature_repo.definitions import published


def _store() -> Path:
    folder = os.environ.get("ALPHALOOP_FEATURE_STORE")
    if not folder:
        raise SystemExit(
            "Set ALPHALOOP_FEATURE_STORE to the folder of a feature store, the one that `alphaloop"
            " materialise` reports."
        )
    current = Path(folder) / "current.json"
    if not current.exists():
        raise SystemExit(
            f"{current} does not exist: nothing is published there. Run `alphaloop materialise` or `alphaloop"
            " run` first."
        )
    return current.parent.absolute()


globals().update(published(_store(), str(_store())))
