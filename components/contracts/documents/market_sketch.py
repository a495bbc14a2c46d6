"""A sample of what a market's prices did, by which two runs find out whether they looked at the same one."""

from components.contracts.documents import Part

__all__ = ["UNKNOWN_MARKET", "MarketSketch"]


class MarketSketch(Part):
    """The smallest hashes of price changes and the moments of their bars, seconds since 1970, by hash.

    Empty where nobody kept one, or no price changed. `whole`: all hashes that there are.
    """

    hashes: tuple[int, ...] = ()
    seconds: tuple[int, ...] = ()
    whole: bool = True


UNKNOWN_MARKET = MarketSketch()
