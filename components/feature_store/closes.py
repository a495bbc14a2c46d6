"""The closes of the bars that are online: no factor, but what an answer's future price is counted from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import polars as pl

from components.contracts import ContractError

# Where they stand in current.json.
CLOSES = "closes"
NO_BAR = (0, None)


@dataclass(frozen=True)
class Closes:
    """By symbol the close of its newest bar, in the panel's currency, and that bar's timestamp in
    microseconds since 1970, UTC; None where the panel has no close there.
    """

    by_symbol: Mapping[str, tuple[int, float | None]]

    def as_json(self) -> dict[str, list[int | float | None]]:
        """JSON types only."""
        return {symbol: list(bar) for symbol, bar in self.by_symbol.items()}

    @classmethod
    def of(cls, current: Mapping[str, Any], *, source: str) -> Self:
        """Of a store's current.json; a store that was written without prices knows none.

        Raises
        ------
        ContractError
            If what stands there is of another form.
        """
        found = current.get(CLOSES, {})
        try:
            bars = {
                symbol: (int(moment), None if close is None else float(close))
                for symbol, (moment, close) in found.items()
            }
        except (AttributeError, TypeError, ValueError) as error:
            raise ContractError(
                f"{source} holds {CLOSES!r} of another form ({error}); expected a timestamp and a close for"
                " each symbol. Run `alphaloop materialise`; it writes them anew."
            ) from error
        return cls(bars)

    def at(self, symbol: str, timestamp_us: int) -> float:
        """The close of a symbol's bar; NaN where it is not known, or known of another bar only."""
        moment, close = self.by_symbol.get(symbol, NO_BAR)
        return close if close is not None and moment == timestamp_us else float("nan")


def newest_closes(factors: pl.DataFrame, panel: pl.DataFrame) -> Closes:
    """The closes of each symbol's newest row of a FACTORS table, from the PANEL that it was made of."""
    newest = factors.group_by("symbol").agg(pl.col("timestamp").max())
    bars = newest.join(panel.select("timestamp", "symbol", "close"), on=["timestamp", "symbol"], how="left")
    known = pl.col("close").is_finite() & (pl.col("close") > 0)
    rows = bars.sort("symbol").select(
        "symbol", pl.col("timestamp").dt.epoch("us"), pl.when(known).then("close").alias("close")
    )
    return Closes({symbol: (moment, close) for symbol, moment, close in rows.rows()})
