"""What whole ticks and lots of each symbol are worth."""

from typing import Literal

from components.contracts.documents import Document, Part

__all__ = ["Instrument", "Instruments"]


class Instrument(Part):
    """`tick_size` in quote currency a tick, `lot_size` in units of what is traded a lot."""

    tick_size: float
    lot_size: float


class Instruments(Document):
    """The instruments of a source, by symbol."""

    format: Literal[1] = 1
    symbols: dict[str, Instrument]
