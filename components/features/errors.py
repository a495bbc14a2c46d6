"""What can go wrong when factors are built."""

from components.contracts import AlphaloopError


class FeatureError(AlphaloopError):
    """The panel cannot be turned into factors."""
