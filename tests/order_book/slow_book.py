"""The slow book that the compiled one is measured by: dictionaries, read from the words of the contract."""

from dataclasses import dataclass, field

from components.contracts.tick_schemas import (
    ADD,
    BUY,
    DELETE,
    DEPTH,
    EXECUTE,
    HALT,
    QUOTE,
    REDUCE,
    RESUME,
    SELL,
    SNAPSHOT,
)


@dataclass
class SlowBook:
    """Levels by side and price, orders by number in the order in which they came."""

    lots: dict[int, dict[int, int]] = field(default_factory=lambda: {BUY: {}, SELL: {}})
    quotes: dict[int, tuple[int, int]] = field(default_factory=dict)
    orders: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    whole: bool = False
    unknown: bool = False
    halted: bool = False
    snapshot: int | None = None

    def apply(self, kind: int, side: int, price: int, quantity: int, number: int, message: int) -> None:
        """Let one row change the book."""
        if kind == SNAPSHOT and self.snapshot != message:
            self.lots, self.orders, self.whole, self.unknown = {BUY: {}, SELL: {}}, {}, False, True
        if kind == SNAPSHOT and quantity > 0:
            self.whole, self.unknown = True, False
        self.snapshot = message if kind == SNAPSHOT else None
        if self.unknown and kind in (DEPTH, ADD, REDUCE, DELETE, EXECUTE):
            return
        if kind == DEPTH or (kind == SNAPSHOT and quantity > 0):
            self._put(side, price, quantity)
        elif kind == QUOTE:
            self.quotes[side] = price, quantity
        elif kind == ADD:
            self._leave(number, None)
            if quantity:
                self.orders[number] = side, price, quantity
                self._put(side, price, self.lots[side].get(price, 0) + quantity)
        elif kind in (REDUCE, DELETE, EXECUTE):
            if number in self.orders:
                self._leave(number, None if kind == DELETE else quantity)
            else:
                self._take_unnumbered(side, price, quantity)
        elif kind in (HALT, RESUME):
            self.halted = kind == HALT

    def _put(self, side: int, price: int, quantity: int) -> None:
        self.lots[side].pop(price, None)
        if quantity > 0:
            self.lots[side][price] = quantity

    def _leave(self, number: int, quantity: int | None) -> None:
        if number not in self.orders:
            return
        side, price, left = self.orders[number]
        gone = left if quantity is None else min(quantity, left)
        self._put(side, price, self.lots[side].get(price, 0) - gone)
        if gone == left:
            del self.orders[number]
        else:
            self.orders[number] = side, price, left - gone

    def _numbered(self, side: int, price: int) -> int:
        return sum(left for *at, left in self.orders.values() if at == [side, price])

    def _take_unnumbered(self, side: int, price: int, quantity: int) -> None:
        rests = self.lots[side].get(price, 0)
        taken = min(quantity, rests - (0 if self.whole else self._numbered(side, price)))
        if taken > 0:
            self._put(side, price, rests - taken)

    def depth(self, side: int) -> list[tuple[int, int]]:
        """All levels of depth, the best first."""
        return sorted(self.lots[side].items(), key=lambda level: -level[0] * side)

    def levels(self, side: int) -> list[tuple[int, int]]:
        """All levels that are known, the best first: a quote's touch, then the depth behind it."""
        if side not in self.quotes:
            return self.depth(side)
        price, quantity = self.quotes[side]
        if quantity == 0:
            return []
        behind = [level for level in self.depth(side) if (price - level[0]) * side > 0]
        return [(price, quantity), *(behind if self.whole else [])]

    def queue_ahead(self, number: int) -> int:
        """Lots before an order, -1 where it is unknown."""
        if number not in self.orders:
            return -1
        side, price, own = self.orders[number]
        rests = self.lots[side].get(price, 0)
        if self.quotes.get(side, (None,))[0] == price:
            rests = self.quotes[side][1]
        numbers = list(self.orders)
        earlier = [self.orders[other] for other in numbers[: numbers.index(number)]]
        before = sum(left for *at, left in earlier if at == [side, price])
        return max(min(max(rests - self._numbered(side, price), 0) + before, rests - own), 0)
