"""Whether a table is made at once or in pieces, and how large these are, told from what making it holds."""

from dataclasses import dataclass

from components.memory import limits


@dataclass(frozen=True)
class Held:
    """What making a table holds at its peak, in bytes, as it was measured.

    `base` the libraries; `row` each row where all are made at once; `beside` what pieces of any size hold
    beside the libraries, `row_of_piece` each row of a piece. Pieces of less than `fewest` rows save no memory
    that matters and cost time.
    """

    base: int
    row: int
    beside: int
    row_of_piece: int
    fewest: int

    def at_once(self, rows: int) -> int:
        """What making so many rows at once holds, about."""
        return self.base + rows * self.row

    def at_least(self) -> int:
        """What the smallest pieces hold, about."""
        return self._in_pieces_of(self.fewest)

    def fits_at_once(self, rows: int) -> bool:
        """Whether so many rows are made at once: where that fits, and where the smallest pieces would hold as
        much.
        """
        free = limits.room()
        return free is None or self.at_once(rows) <= max(free, self.at_least())

    def rows_of_a_piece(self) -> int:
        """The rows of pieces that fit into what is free, as far as that is possible; where this system tells
        of no bound nothing is cut, and nobody asks.
        """
        return max(self.fewest, (limits.target() - self._in_pieces_of(0)) // self.row_of_piece)

    def _in_pieces_of(self, rows: int) -> int:
        return self.base + self.beside + rows * self.row_of_piece
