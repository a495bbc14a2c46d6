"""Two clocks on one record: how far the receiver's clock is off the exchange's, and how long each record
really took.

Only the difference of receive and send stamps is seen: offset plus delay. The fastest of the recent records
are taken to have had the least possible delay, so the lower envelope of the differences is the offset (plus
that least delay, which one-way stamps can't tell from it).
"""

import polars as pl

from components.contracts import TIME
from components.market.errors import MarketError

FAST_SHARE = 0.05


def estimate_clock_offset(
    exchange_ts: pl.Series, ingest_ts: pl.Series, half_life: str = "60s", *, least_delay_ms: float = 0.0
) -> pl.DataFrame:
    """Offset of the two clocks and delay of each record, from this record and earlier ones only.

    The offset is an exponentially weighted mean, by time, of a robust lower envelope (the 5 % quantile over
    one half-life of the differences `ingest_ts - exchange_ts`): single records with a wild stamp do not move
    it, and a drift of d ms/s is followed with a lag of about 2 half-lives, so an error of about 2 * d *
    half_life. It begins at the first record's difference, so the first half-lives still carry what those
    records were delayed by.

    Parameters
    ----------
    exchange_ts, ingest_ts : Datetime(us, UTC) of equal length, in the order in which the records came in
    half_life : a duration in Polars' form, such as `60s` or `5m`
    least_delay_ms : smallest delay that the way can have, where it is known from elsewhere

    Returns
    -------
    Columns `offset_ms` (receiver minus exchange; positive: the receiver's clock is ahead) and `delay_ms`;
    null where a stamp is null. A delay may come out slightly negative, by as much as the fastest records
    differ among themselves.

    Raises
    ------
    MarketError
        For lengths or types that differ from the above, or records that are not in the order in which they
        came in.
    """
    frame = _stamps(exchange_ts, ingest_ts)
    difference = (pl.col("ingest_ts") - pl.col("exchange_ts")).dt.total_microseconds() / 1000
    envelope = pl.col("difference").rolling_quantile_by(
        "ingest_ts", window_size=half_life, quantile=FAST_SHARE, interpolation="lower"
    )
    offset = pl.col("envelope").ewm_mean_by("ingest_ts", half_life=half_life) - least_delay_ms
    both = frame.drop_nulls().with_columns(difference.alias("difference"))
    both = both.with_columns(envelope.alias("envelope")).with_columns(offset.alias("offset_ms"))
    delay = pl.col("difference") - pl.col("offset_ms")
    found = both.select("row", "offset_ms", delay.alias("delay_ms"))
    return frame.join(found, on="row", how="left", maintain_order="left").select("offset_ms", "delay_ms")


def _stamps(exchange_ts: pl.Series, ingest_ts: pl.Series) -> pl.DataFrame:
    """Both stamps with the number of their `row`; MarketError where they can't be compared."""
    for name, stamps in (("exchange_ts", exchange_ts), ("ingest_ts", ingest_ts)):
        if stamps.dtype != TIME:
            raise MarketError(f"{name} has type {stamps.dtype}, expected {TIME}. Cast it first.")
    if len(exchange_ts) != len(ingest_ts):
        raise MarketError(
            f"exchange_ts has {len(exchange_ts):,} values, ingest_ts {len(ingest_ts):,}. Give both stamps of"
            " the same records."
        )
    frame = pl.DataFrame({"exchange_ts": exchange_ts, "ingest_ts": ingest_ts}).with_row_index("row")
    if not frame.drop_nulls()["ingest_ts"].is_sorted():
        raise MarketError(
            "ingest_ts runs backwards. Sort the records by ingest_ts: an offset may only use what came in"
            " before."
        )
    return frame


def bar_delays(panel: pl.DataFrame, half_life: str, *, least_delay_ms: float = 0.0) -> pl.DataFrame:
    """Delay of each bar of a panel that carries `exchange_ts` and `ingest_ts`: columns `timestamp`, `symbol`,
    `offset_ms`, `delay_ms`, in the panel's order.

    Raises
    ------
    MarketError
        If the panel lacks one of the two columns.
    """
    if missing := [name for name in ("exchange_ts", "ingest_ts") if name not in panel.columns]:
        raise MarketError(
            f"The panel has no {' and '.join(missing)}: the delay of its bars is unknown. Map the columns"
            " with market.columns, where the source has them."
        )
    ordered = (
        panel.select("timestamp", "symbol", "exchange_ts", "ingest_ts")
        .with_row_index("place")
        .sort("ingest_ts", "place")
    )
    found = estimate_clock_offset(
        ordered["exchange_ts"], ordered["ingest_ts"], half_life, least_delay_ms=least_delay_ms
    )
    return ordered.hstack(found).sort("place").select("timestamp", "symbol", "offset_ms", "delay_ms")
