"""A working folder that holds packages called like our own; each says so when it is imported."""

from pathlib import Path

PACKAGES = ("components", "feature_repo", "pipelines", "serving")
SIGN = "planted package imported"


def plant(folder: Path) -> Path:
    """Fill the folder, which may be there already, and return it."""
    for name in PACKAGES:
        package = folder / name
        package.mkdir(parents=True)
        for module in ("__init__", "config", "contracts"):
            (package / f"{module}.py").write_text(f'raise RuntimeError("{SIGN}: {name}.{module}")\n')
    (folder / "kfp.py").write_text(f'raise RuntimeError("{SIGN}: kfp")\n')
    return folder
