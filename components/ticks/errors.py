"""The error of the ticks stage."""

from components.contracts.errors import AlphaloopError


class TicksError(AlphaloopError):
    """Recorded events can't be found, read or understood; the message says where, what was found and what to
    do.
    """
