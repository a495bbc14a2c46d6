"""Where the processes that we start find modules: our own packages and what is installed, never what happens
to lie in the working folder. Only a module that the user names is looked for there, and there last.
"""

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

# The folder that holds our packages: the checkout, or site-packages.
HOUSE = Path(__file__).resolve().parents[2]
SAFE_PATH_VARIABLE = "PYTHONSAFEPATH"
# Where the working folder of a process is not that of the run that asked for it, as on a node of Ray.
WORKING_FOLDER_VARIABLE = "ALPHALOOP_WORKING_FOLDER"


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules, or a library's, with this Python."""
    return [sys.executable, "-P", "-m", module, *arguments]


def own_modules_only(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment, this process's where none is given, in which Python, and every Python that it starts in
    turn, leaves the working folder out of its imports.
    """
    return {**(os.environ if environment is None else environment), SAFE_PATH_VARIABLE: "1"}


def users_module(name: str) -> ModuleType:
    """Import a module that the user named: an expert, or a builder of factors.

    It is found where it is installed, on PYTHONPATH, or in the working folder.

    Raises
    ------
    ImportError
        Also where it ends Python, as a script does that was not meant to be imported. What else it raises is
        raised on.
    """
    look_in_working_folder()
    try:
        return importlib.import_module(name)
    except SystemExit as stop:
        raise ImportError(f"{name} ends Python while it is imported: SystemExit({stop.code!r})") from stop


def working_folder() -> str:
    """The run's, wherever its processes are."""
    return os.environ.get(WORKING_FOLDER_VARIABLE) or os.getcwd()


def look_in_working_folder() -> None:
    """Let imports find what lies in the working folder, after our own packages and all that is installed."""
    importlib.invalidate_caches()
    for folder in (str(HOUSE), working_folder()):
        if folder not in sys.path:
            sys.path.append(folder)
