"""The error of the market stage."""

from components.contracts import AlphaloopError


class MarketError(AlphaloopError):
    """The market data cannot be found, read or understood; the message says where, what was found and what to
    do.
    """
