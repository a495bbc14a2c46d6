"""What goes wrong with a registry."""

from components.contracts import AlphaloopError


class RegistryError(AlphaloopError):
    """The registry can't be reached or does not hold what was asked for."""
