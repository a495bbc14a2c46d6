"""Settings of the fusion stage."""

from components.settings import Section


class Settings(Section):
    """Slow tables and how they join; none: the stage is left out of the pipelines."""
