"""How long after a sample an order that it causes arrives."""

import polars as pl

from components.contracts.errors import ContractError
from components.tick_labels.config import Settings

NS_A_MS = 1_000_000


def entry_latency_ns(delays: pl.DataFrame, symbol: str, settings: Settings) -> int:
    """Nanoseconds from a sample of the symbol to the arrival of its order.

    Parameters
    ----------
    delays : DELAYS frame; its quantile is that of the symbol's slowest hour

    Raises
    ------
    ContractError
        If the quantile is asked for and the symbol has no delays.
    """
    if settings.entry_latency_ms is not None:
        return round(settings.entry_latency_ms * NS_A_MS)
    own = delays.filter(
        (pl.col("symbol") == symbol) & (pl.col("quantile") >= settings.entry_latency_quantile)
    )
    if own.is_empty():
        raise ContractError(
            f"There are no measured delays of {symbol} (the table has"
            f" {', '.join(delays['symbol'].unique().sort()) or 'none'}). Set tick_labels.entry_latency_ms to"
            " the milliseconds after which an order arrives."
        )
    return int(own.filter(pl.col("quantile") == pl.col("quantile").min().over("hour"))["delay_ns"].max())
