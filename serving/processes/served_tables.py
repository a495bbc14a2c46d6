"""Tables of served answers from the entries of the answer log."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from components.contracts import SERVED, TIME, AlphaloopError, check_table
from components.contracts.classes import CLASS_COLUMNS
from serving.faults import trace
from serving.live.segments import OUTPUTS, Answer


def served_frames(answers: Sequence[Answer]) -> tuple[list[tuple[tuple[str, ...], pl.DataFrame]], str | None]:
    """A SERVED table for each set of columns among the answers, and what is wrong with those that make none.

    A row that occurs twice in one request is kept once.
    """
    by_columns: dict[tuple[str, ...], list[Answer]] = {}
    for answer in answers:
        by_columns.setdefault(answer.columns, []).append(answer)
    frames, problem = [], None
    for columns, group in by_columns.items():
        try:
            frames.append((columns, check_table(_served_frame(columns, group), SERVED)))
        except (AlphaloopError, pl.exceptions.PolarsError) as error:
            problem = f"{len(group):,} answers make no table ({error})"
        except (ValueError, TypeError, OverflowError) as error:
            problem = f"{len(group):,} answers make no table ({error})\n{trace(error)}\n"
    return frames, problem


def _served_frame(columns: tuple[str, ...], answers: Sequence[Answer]) -> pl.DataFrame:
    lengths = [len(answer.symbols) for answer in answers]
    one_each = {
        "answered_at": (np.array([answer.answered_at_us for answer in answers], dtype=np.int64), TIME),
        "request_id": ([answer.request_id for answer in answers], pl.String()),
        "endpoint": ([answer.endpoint for answer in answers], pl.String()),
        "model_version": ([answer.model_version for answer in answers], pl.Int64()),
        "bundle_sha256": ([answer.bundle_sha256 for answer in answers], pl.String()),
        "publication": ([answer.publication for answer in answers], pl.String()),
    }
    requests = pl.DataFrame(
        {name: pl.Series(values).cast(dtype) for name, (values, dtype) in one_each.items()}
    )
    outputs = np.concatenate([answer.outputs for answer in answers])
    features = np.concatenate([answer.features for answer in answers])
    rows = requests[np.repeat(np.arange(len(answers)), lengths)].with_columns(
        pl.Series("symbol", [symbol for answer in answers for symbol in answer.symbols], dtype=pl.String),
        _moments("timestamp", [answer.timestamps_us for answer in answers]),
        _moments("known_time", [answer.known_times_us for answer in answers]),
        pl.Series("stale", np.concatenate([answer.stale for answer in answers]), dtype=pl.Boolean),
        *(pl.Series(name, outputs[:, k]).fill_nan(None) for k, name in enumerate(OUTPUTS)),
    )
    values = pl.from_numpy(
        features.astype(np.float32, copy=False), schema=dict.fromkeys(columns, pl.Float32)
    ).fill_nan(None)
    told = [answer.chances for answer in answers]
    kept = [*SERVED.columns]
    if any(chances is not None for chances in told):
        unknown = (np.full((rows, len(CLASS_COLUMNS)), np.nan) for rows in lengths)
        chances = np.concatenate(
            [own if own is not None else none for own, none in zip(told, unknown, strict=True)]
        )
        rows = rows.with_columns(
            pl.Series(name, chances[:, k]).fill_nan(None) for k, name in enumerate(CLASS_COLUMNS)
        )
        kept += CLASS_COLUMNS
    # A column that is called like one of the log's own is refused here.
    return rows.select(kept).hstack(values).unique(SERVED.key, keep="last").sort(SERVED.key)


def _moments(name: str, microseconds: Sequence[np.ndarray]) -> pl.Series:
    """Moments in UTC; NumPy's NaT, an unknown time, becomes null."""
    return pl.Series(
        name, np.concatenate(microseconds).astype(np.int64, copy=False).view("datetime64[us]")
    ).dt.replace_time_zone("UTC")
