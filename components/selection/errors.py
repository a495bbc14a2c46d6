"""The error of the selection stage."""

from components.contracts import AlphaloopError


class SelectionError(AlphaloopError):
    """Nothing can be chosen from this training set with these settings."""
