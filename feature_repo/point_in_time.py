"""The point-in-time join in Polars: for each entity row the newest feature row that was known at
its moment.
"""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

_MOMENT = pl.Datetime("ns", "UTC")


def match_rows(
    entities: pl.DataFrame,
    features: pl.DataFrame,
    *,
    keys: Sequence[str],
    entity_time: str,
    timestamp: str,
    known_time: str | None,
    ttl: timedelta | None,
) -> pl.Series:
    """Row number in `features` that each entity row may see, null where there is none.

    A feature row may be seen at moment t when its keys match, `timestamp` <= t, `known_time` <= t and
    `timestamp` >= t - `ttl`. Of those the newest `timestamp` counts, then the newest `known_time`, then the
    last row.

    Parameters
    ----------
    entities : columns `keys` and `entity_time` (a moment; without a zone it is UTC)
    features : columns `keys`, `timestamp` and `known_time`, in any order of rows
    known_time : None joins on `timestamp` alone
    ttl : None or zero for no limit

    Returns
    -------
    UInt32, as long as `entities` and in its order.

    Notes
    -----
    A row is visible from max(timestamp, known_time) on. In order of that moment the best row so far is a
    running maximum of the rank by (timestamp, known_time), so one backward as-of join over it gives the
    answer, however late rows came.
    """
    best = _best_row_since(features, keys, timestamp, known_time)
    moment = as_moment(entity_time, entities.schema[entity_time]).alias("__moment")
    asked = entities.select(*(pl.col(key).cast(features.schema[key]) for key in keys), moment)
    rows = _newest_before(asked.with_row_index("__entity").sort("__moment"), best, keys).sort("__entity")
    matched = pl.col("__row")
    if ttl:
        matched = pl.when(pl.col("__moment") - pl.col("__time") <= pl.lit(ttl)).then(matched)
    return rows.select(matched.alias("row")).to_series()


def _newest_before(asked: pl.DataFrame, best: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Each row of `asked`, sorted by `__moment`, with the row of `best` that holds at its moment."""
    return asked.join_asof(
        best,
        left_on="__moment",
        right_on="__since",
        by=list(keys),
        strategy="backward",
        check_sortedness=False,
    )


def _best_row_since(
    features: pl.DataFrame, keys: Sequence[str], timestamp: str, known_time: str | None
) -> pl.DataFrame:
    """Columns `keys`, `__since`, `__row`, `__time`: from `__since` on, row `__row` is the best one of its
    keys.
    """
    known = as_moment(known_time, features.schema[known_time]) if known_time else pl.lit(None, dtype=_MOMENT)
    ranked = (
        features.select(
            *keys, as_moment(timestamp, features.schema[timestamp]).alias("__time"), known.alias("__known")
        )
        .with_row_index("__row")
        .drop_nulls([*keys, "__time", *(["__known"] if known_time else [])])
        .sort(*keys, "__time", "__known", "__row")
        .with_row_index("__rank")
    )
    # Keys lead both sort orders, so a rank never falls behind one of an earlier key and no grouping is
    # needed.
    visible = (
        ranked.select(*keys, "__rank", pl.max_horizontal("__time", "__known").alias("__since"))
        .sort(*keys, "__since", "__rank")
        .with_columns(pl.col("__rank").cum_max())
    )
    last_of_moment = pl.any_horizontal(
        *(pl.col(name) != pl.col(name).shift(-1) for name in (*keys, "__since"))
    ).fill_null(True)
    visible = visible.filter(last_of_moment)
    return visible.select(*keys, "__since").hstack(ranked.select("__row", "__time")[visible["__rank"]])


def as_moment(column: str, dtype: pl.DataType) -> pl.Expr:
    """The column as nanoseconds UTC; a column without a zone is taken as UTC, a text as ISO 8601."""
    expression = pl.col(column)
    if dtype == pl.String:
        return expression.str.to_datetime(time_unit="ns", time_zone="UTC")
    if dtype == pl.Date:
        expression = expression.cast(pl.Datetime("ns"))
    zone = getattr(dtype, "time_zone", None)
    return (
        expression.dt.convert_time_zone("UTC") if zone else expression.dt.replace_time_zone("UTC")
    ).dt.cast_time_unit("ns")
