"""Feeds made-up ticks to the product's features."""

import numpy as np
import polars as pl

from components.tick_features.day import Span, features_of_parts
from components.tick_features.streaming import StreamingFeatures, rows_of

STEP = 50_000_000


def span_of(ticks: pl.DataFrame) -> Span:
    return Span(int(ticks["ingest_ts"].min()), int(ticks["ingest_ts"].max()))


def built(ticks, settings, span=None, parts=None) -> pl.DataFrame:
    """The samples of ticks, whole or cut into `parts`."""
    frames = [ticks] if parts is None else parts
    return pl.concat(features_of_parts(frames, span or span_of(ticks), settings))


def moments_of(samples: pl.DataFrame) -> list[int]:
    return [moment * 1_000 for moment in samples["timestamp"].cast(pl.Int64)]


def exact_features(ticks: pl.DataFrame, settings, first: int, last: int) -> dict[int, np.ndarray]:
    """The features as Float64, by moment, of which each is fed up to by itself."""
    features, found = StreamingFeatures(settings, first), {}
    for moment in range(first, last + 1, STEP):
        part = ticks.filter(
            (pl.col("ingest_ts") <= moment) & (pl.col("ingest_ts") > moment - STEP if found else pl.lit(True))
        )
        for _ in features.take(rows_of(part)):
            raise AssertionError("nothing was due yet")
        for _ in features.until(moment):
            found[moment] = features._state.features.copy()
        found.setdefault(moment, np.full(len(features._state.features), np.nan))
    return found
