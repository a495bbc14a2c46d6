"""Settings of residual mining."""

from components.settings import Section


class Settings(Section):
    """How formulas are searched and judged."""
