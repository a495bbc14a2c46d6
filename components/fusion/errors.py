"""The error of the fusion stage."""

from components.contracts import AlphaloopError


class FusionError(AlphaloopError):
    """A slow table cannot be used, or what was joined does not hold; the message says where, what was found
    and what to do.
    """
