"""The error of stores of ticks."""

from components.contracts.errors import AlphaloopError


class TickStoreError(AlphaloopError):
    """A store can't be reached, lacks what is asked, or holds what can't be; the message says which store,
    what was found and what to do.
    """
