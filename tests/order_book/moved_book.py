"""A book with a desk of own orders, moved by rows of messages: what tests of matching have in common."""

from dataclasses import dataclass, field

from components.contracts.tick_schemas import BUY, DEPTH
from components.order_book import desk as desks
from components.order_book import matching, state

APART_NS = 50_000_000


@dataclass
class Moved:
    """Prices in ticks, quantities in lots; every message comes a second after the one before."""

    slots: int = 4
    in_proportion: bool = False
    time: int = 0
    newest: int = 0
    fills: list[tuple[int, int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = state.new_book(4_096, 64, 64)
        self.desk = desks.new_desk(self.slots, levels=16, fills=64)

    def message(self, *rows: tuple[int, ...], after_ns: int = 1_000_000_000) -> list[tuple[int, int, int]]:
        """Rows (kind, side, price, quantity, order number); the fills that follow: price, lots, maker."""
        self.time += after_ns
        for kind, side, price, quantity, *number in rows:
            order_id = number[0] if number else 0
            self.newest = max(self.newest, order_id)
            matching.row_seen(self.desk, kind, side, price, quantity, order_id, self.time, APART_NS)
            state.apply(self.book, kind, side, price, quantity, order_id)
        matching.message_seen(self.desk, self.book, self.time, self.in_proportion, APART_NS)
        return self.fetched()

    def depth(self, bids: dict[int, int], asks: dict[int, int], **more) -> list[tuple[int, int, int]]:
        """Levels by price."""
        both = [(DEPTH, BUY, *level) for level in bids.items()]
        return self.message(*both, *((DEPTH, -BUY, *level) for level in asks.items()), **more)

    def submit(self, slot: int, side: int, price: int | None, lots: int, *, rests: bool) -> int:
        limit = side * desks.NO_LIMIT if price is None else price
        return matching.submit(self.desk, self.book, slot, side, limit, lots, rests, self.newest)

    def fetched(self) -> list[tuple[int, int, int]]:
        count = self.desk.counts[desks.FILLS]
        new = [tuple(row) for row in self.desk.fills[:count].tolist()]
        self.desk.counts[desks.FILLS] = 0
        self.fills += new
        return [fill[1:] for fill in new]

    def left(self, slot: int = 0) -> int:
        return int(self.desk.orders[slot, desks.LEFT])

    def ahead(self, slot: int = 0) -> int:
        return int(self.desk.orders[slot, desks.AHEAD])
