"""What `alphaloop select` and `alphaloop mine` do: look at factors without judging a model."""

from pathlib import Path

from pipelines.config import Config
from pipelines.runners.local_run import run_locally


def run_research(pipeline: str, config: Config) -> Path:
    """Run `selection` or `mining` here; returns the folder with its pages."""
    return run_locally(pipeline, config) / "evidence"
