"""The bootstrap of the package arch, imported without what makes the import of arch slow."""

import importlib.util
import sys
from types import ModuleType


def import_bootstrap() -> ModuleType:
    """`arch.bootstrap`, imported once a process.

    arch imports its models of volatility as well, and with them Matplotlib and statsmodels: most of a second
    in each task that only wants a length of blocks. So its own first module is left out here; whoever imports
    arch later gets that too (`from arch import bootstrap`).
    """
    if "arch.bootstrap" in sys.modules:
        return sys.modules["arch.bootstrap"]
    about = importlib.util.find_spec("arch")
    without_models = "arch" not in sys.modules and about is not None
    if without_models:
        sys.modules["arch"] = importlib.util.module_from_spec(about)
    try:
        from arch import bootstrap
    finally:
        if without_models:
            del sys.modules["arch"]
    return bootstrap
