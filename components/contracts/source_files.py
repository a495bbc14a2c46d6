"""Files that a user points to: told at once, and in full, where one can't be used."""

import difflib
from pathlib import Path

from components.contracts.errors import AlphaloopError


def require_file(path: Path, setting: str, error: type[AlphaloopError]) -> Path:
    """`path`, or an `error` that names `setting` where it is no readable file with something in it."""
    try:
        if path.is_dir():
            raise error(f"{path} ({setting}) is a folder. Name the file in it that is meant.")
        if not path.is_file():
            siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
            close = difflib.get_close_matches(path.name, siblings, n=1)
            advice = (
                f"Did you mean {close[0]!r}?"
                if close
                else "Check the path, or set ALPHALOOP_DATA to the folder that holds the data."
            )
            raise error(f"{path} does not exist ({setting}). {advice}")
        if path.stat().st_size == 0:
            raise error(f"{path} ({setting}) is empty (0 bytes). Fetch or export it again.")
        with open(path, "rb"):
            pass
    except OSError as failure:
        raise error(f"{path} can't be read: {failure.strerror}. Check its permissions.") from failure
    return path
