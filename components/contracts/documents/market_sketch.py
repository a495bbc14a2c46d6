"""A sample of what a market's prices did, by which two runs find out whether they looked at the same one."""

from itertools import pairwise
from typing import Self

from pydantic import model_validator

from components.contracts.documents import Part

__all__ = ["UNKNOWN_MARKET", "MarketSketch"]


class MarketSketch(Part):
    """The smallest hashes of price changes and the moments of their bars, seconds since 1970, by hash.

    Empty where nobody kept one, or no price changed. `whole`: all hashes that there are.
    """

    hashes: tuple[int, ...] = ()
    seconds: tuple[int, ...] = ()
    whole: bool = True

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if len(self.hashes) != len(self.seconds):
            raise ValueError(f"{len(self.hashes)} hashes, but {len(self.seconds)} seconds")
        if any(later <= earlier for earlier, later in pairwise((-1, *self.hashes))):
            raise ValueError("hashes do not rise from 0 on")
        return self


UNKNOWN_MARKET = MarketSketch()
