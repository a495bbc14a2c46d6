"""Where a process on a node finds modules: by itself a process of a group, `found` for pieces too."""

import json
import sys
from pathlib import Path


def found(arguments, folder: Path) -> None:
    """Files of what is installed, of ours, and of a module that the user named."""
    from components.processes.imports import users_module

    users = users_module("users_own")

    import kfp
    import polars

    import components

    files = {module.__name__: module.__file__ for module in (polars, kfp, components, users)}
    (folder / "found.json").write_text(json.dumps(files))


if __name__ == "__main__":
    found({}, Path(sys.argv[1]).parent)
