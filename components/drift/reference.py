"""What drift is measured against: sketches of the columns that the served model learned from and of what it
said, with what is usual between windows of them.

Made once after training; comparing later costs nothing that grows with the reference.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import REGIME_COLUMN, CatalogEntry, ContractError
from components.contracts.documents.drift import UsualFlagged
from components.contracts.documents.drift_reference import (
    ColumnReference,
    DriftReference,
    InformationReference,
    UsualDispersion,
    UsualSeparation,
)
from components.drift.adversarial import (
    ComparedRows,
    fill_missing,
    halves_of,
    told_apart_by,
    usual_separation,
)
from components.drift.config import Settings
from components.drift.information import rank_ic
from components.drift.learned import Learned, learned_from
from components.drift.outcomes import describe_labels
from components.drift.tables import SCORE, DriftError
from components.drift.warm_up import OWN_BARS, bars_by_symbol
from components.drift.windows import (
    PSI_BINS,
    Described,
    Sample,
    describe_column,
    nearest_length,
    window_lengths,
)
from components.metrics import adjusted_p_values, ks_p_value
from components.timeline import Settings as TimelineSettings
from components.timeline import bar_index

ABOUT, SKETCH, SAMPLE = "reference.json", "sketch.parquet", "sample.parquet"
WINDOWS_LEFT = 4


@dataclass(frozen=True)
class Reference:
    """A reference as it was kept:

    `about` (reference.json), sketches (Q rows) and sample, with one Float32 column each.
    """

    about: DriftReference
    sketch: pl.DataFrame
    sample: pl.DataFrame

    @property
    def columns(self) -> list[str]:
        """Inputs and context, without the score."""
        return [name for name, about in self.about.columns.items() if about.kind != "score"]


def make_reference(
    training_set: pl.DataFrame | pl.LazyFrame,
    labels: pl.DataFrame | pl.LazyFrame,
    predictions: pl.DataFrame,
    catalog: Sequence[CatalogEntry],
    settings: Settings,
    timeline: TimelineSettings,
    folder: Path,
    *,
    stamp: Mapping[str, str] | None = None,
) -> DriftReference:
    """Write `sketch.parquet`, `sample.parquet` and `reference.json` into `folder`; returns the last of them.

    Parameters
    ----------
    training_set : TRAINING_SET frame, or a scan of it, of which some columns at a time are held; the rows
        from the start of the train window to the end of the test window are the reference
    labels : LABELS frame or scan
    predictions : ALL_PREDICTIONS frame of one task; the rows of expert `stack`: all for what they were worth,
        those of the test window for how they are distributed, or all where it is shorter than two windows
    catalog : of the factors; inputs and context are covered, and the score

    Raises
    ------
    DriftError
        If the window holds fewer than 30 bars or the stack predicted nothing in it.
    """
    learned = learned_from(training_set, labels, predictions, catalog, settings, timeline)
    about, sketches, sample = _describe(learned, settings, dict(stamp or {}))
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(sketches).write_parquet(folder / SKETCH, compression="zstd")
    sample.write_parquet(folder / SAMPLE, compression="zstd")
    about.write(folder / ABOUT)
    return about


def _describe(
    learned: Learned, settings: Settings, stamp: dict[str, str]
) -> tuple[DriftReference, dict[str, np.ndarray], pl.DataFrame]:
    """The reference's numbers, sketches and sample."""
    rows, kind = learned.rows, learned.said.row(0, named=True)
    drawn = drawn_rows(rows, settings)
    sketches, described, usual_flagged, values = describe_columns(learned, drawn, settings)
    sample = drawn.select("bar", "half").hstack(values)
    about = DriftReference(
        rows=len(rows),
        bars=rows["timestamp"].n_unique(),
        symbols=rows["symbol"].n_unique(),
        rows_per_bar=_rows_per_bar(rows, learned.newest),
        first=learned.first,
        last=learned.last,
        train_window=f"{learned.first.isoformat()}/{learned.last.isoformat()}",
        **{name: kind[name] for name in ("period", "horizon", "target")},
        psi_bins=PSI_BINS,
        window_bars=settings.window_bars,
        symbol_bars=bars_by_symbol(rows),
        columns=described,
        usual_flagged=usual_flagged,
        dispersion=_dispersion(rows, settings),
        labels=describe_labels(
            rows.hstack(learned.read([REGIME_COLUMN])), learned.known, settings.window_bars
        ),
        information=_information(learned.said, learned.known),
        adversarial=_usual_separation(sample, described, sketches, settings),
        stamp=stamp,
    )
    return about, sketches, sample


def _rows_per_bar(rows: pl.DataFrame, since: datetime) -> float:
    """Of the newest bars of the window, which are as many as drift looks at."""
    return float(rows.filter(pl.col("timestamp") >= since).group_by("timestamp").len()["len"].mean())


def _information(said: pl.DataFrame, known: pl.DataFrame) -> InformationReference | None:
    """What all of the stack's predictions were worth, bar by bar; None with fewer than three bars."""
    daily = rank_ic(said.select("timestamp", "symbol", SCORE), known)
    if len(daily) <= 2:
        return None
    return InformationReference(
        rank_ic=tuple(daily["rank_ic"].to_list()),
        first=daily["timestamp"].min(),
        last=daily["timestamp"].max(),
    )


def read_reference(folder: Path) -> Reference:
    """A reference that `make_reference` wrote.

    Raises
    ------
    DriftError
        If a file is missing, cut off, of another format, or disagrees with the others.
    """
    try:
        about = DriftReference.read(folder / ABOUT)
        sketch, sample = pl.read_parquet(folder / SKETCH), pl.read_parquet(folder / SAMPLE)
        if list(about.columns) != sketch.columns:
            raise ValueError("its files do not belong together")
    except (OSError, ValueError, ContractError, pl.exceptions.PolarsError) as error:
        raise DriftError(
            f"{folder} holds no whole drift reference ({str(error).splitlines()[0]}). Models registered"
            " before references were kept, or with an older version, have none that fits: run the training"
            " pipeline again, or give the folder `reference` of a bundle."
        ) from error
    return Reference(about, sketch, sample)


def describe_columns(
    learned: Learned, drawn: pl.DataFrame, settings: Settings
) -> tuple[dict[str, np.ndarray], dict[str, ColumnReference], UsualFlagged, pl.DataFrame]:
    """Sketches and descriptions by column, how many columns would be called moved in a window of the
    reference, and the values of the `drawn` rows.
    """
    rows = learned.rows
    bars = bar_index(rows["timestamp"])[1]
    total = int(bars.max()) + 1
    shared = {
        "bars": bars,
        "symbols": rows["symbol"].rank("dense").to_numpy().astype(np.int64) - 1,
        "total": total,
        "own_bars": rows[OWN_BARS].to_numpy(),
    }

    def describe(column: pl.Series) -> Described:
        values = column.fill_null(float("nan")).to_numpy()
        sample = Sample(**vars(learned.columns[column.name]), **shared, values=values)
        return describe_column(sample, PSI_BINS, settings.window_bars)

    found, kept = [], []
    with ThreadPoolExecutor(max_workers=settings.threads) as pool:
        for block in learned.blocks():
            found += pool.map(describe, block.get_columns())
            kept.append(block[drawn["row"]])
    named = dict(zip(learned.columns, found, strict=True))
    return (
        {name: one.sketch for name, one in named.items()},
        {name: one.about for name, one in named.items()},
        _usual_flagged(found, total, settings),
        pl.concat(kept, how="horizontal"),
    )


def _usual_flagged(found: Sequence[Described], total: int, settings: Settings) -> UsualFlagged:
    """Columns whose Kolmogorov-Smirnov test, corrected, would reject in a window of the reference: the most
    and the mean over windows.
    """
    measured = [str(length) for length in window_lengths(total, settings.window_bars)]
    length = int(nearest_length(measured, settings.window_bars))
    p_values = []
    for one in found:
        if length in one.distances:
            distances = one.distances[length]
            own = one.about.by_window[str(length)].effective_rows
            p_value = _as_far_as_it_counts(
                distances,
                partial(ks_p_value, reference_rows=one.about.effective_rows, current_rows=own),
                settings.ks_p,
                len(found),
            )
            p_values.append(np.pad(p_value, (total - len(distances), 0), constant_values=np.nan))
    if not p_values:
        return UsualFlagged(most=0, mean=0.0, windows=0)
    # Columns with a warm-up have fewer windows; all end with the reference.
    table = np.array(p_values)
    table = table[:, np.isfinite(table).any(axis=0)]
    flagged = np.array([(adjusted_p_values(window) < settings.ks_p).sum() for window in table.T])
    return UsualFlagged(
        most=int(flagged.max(initial=0)),
        mean=float(flagged.mean()) if len(flagged) else 0.0,
        windows=len(flagged),
    )


def _as_far_as_it_counts(
    statistics: np.ndarray, p_value: Callable[[np.ndarray], np.ndarray], level: float, tests: int
) -> np.ndarray:
    """p-values of which Benjamini and Hochberg's correction for at most so many `tests` rejects the same ones
    as of `p_value` itself, which takes 0.1 ms each: 1 where they are above `level`, so that no correction
    rejects them, and 0 where they are so small that none holds them up.

    Parameters
    ----------
    p_value : falls as the statistic rises
    """
    ordered = np.unique(statistics[np.isfinite(statistics)])
    doubtful = bisect_left(ordered, True, key=lambda one: bool(p_value(one) <= level))
    sure = bisect_left(ordered, True, lo=doubtful, key=lambda one: bool(p_value(one) < level / tests))
    steps = np.concatenate(
        [np.ones(doubtful), p_value(ordered[doubtful:sure]), np.zeros(len(ordered) - sure)]
    )
    known = np.isfinite(statistics)
    found = np.full(len(statistics), np.nan)
    found[known] = steps[np.searchsorted(ordered, statistics[known])]
    return found


def _dispersion(rows: pl.DataFrame, settings: Settings) -> UsualDispersion:
    """Spread of the scores within a bar: its mean, and the smallest and largest mean over windows."""
    spread = (
        rows.filter(pl.col(SCORE).is_finite())
        .group_by("timestamp")
        .agg(pl.col(SCORE).std().alias("std"))
        .sort("timestamp")["std"]
        .drop_nulls()
        .to_numpy()
    )
    if not len(spread):
        return UsualDispersion(mean=None, low=None, high=None)
    length = min(settings.window_bars, len(spread))
    means = np.convolve(spread, np.ones(length) / length, "valid")
    return UsualDispersion(mean=spread.mean(), low=means.min(), high=means.max())


def drawn_rows(rows: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """At most `sample_rows` rows, as many of each bar: their place in `row`, the number of their bar in `bar`
    and their half of the symbols in `half`.
    """
    bars = bar_index(rows["timestamp"])[1]
    each = settings.sample_rows / (int(bars.max()) + 1)
    draw = np.random.default_rng(settings.seed).random(len(rows))
    half = (
        pl.col("symbol")
        .replace_strict(halves_of(rows["symbol"].unique().to_list()), return_dtype=pl.Int8)
        .alias("half")
    )
    numbered = rows.select(pl.Series("bar", bars.astype(np.int32)), half, pl.Series("_draw", draw))
    numbered = numbered.with_row_index("row")
    if each < 1:
        kept = np.linspace(0, int(bars.max()), settings.sample_rows).astype(int)
        numbered = numbered.filter(pl.col("bar").is_in(kept.tolist()))
    return numbered.filter(pl.col("_draw").rank("ordinal").over("bar") <= max(int(each), 1))


def _usual_separation(
    sample: pl.DataFrame,
    described: Mapping[str, ColumnReference],
    sketches: Mapping[str, np.ndarray],
    settings: Settings,
) -> UsualSeparation:
    columns = told_apart_by(described)
    if not settings.auc_windows or not columns:
        return UsualSeparation(columns=tuple(columns), first_bar=0, usual=())
    # Within a column's warm-up its draws go along with no other column, which would tell the first windows
    # apart; enough bars for windows stay.
    total = int(sample["bar"].max()) + 1
    first = min(
        max(described[name].first_bar for name in columns),
        max(total - WINDOWS_LEFT * settings.window_bars, 0),
    )
    sample = sample.filter(pl.col("bar") >= first).with_columns(pl.col("bar") - first)
    rows = to_rows(
        sample,
        columns,
        sample["bar"].to_numpy(),
        sample["half"].to_numpy(),
        np.stack([sketches[name] for name in columns], axis=1),
        settings,
    )
    return UsualSeparation(
        columns=tuple(columns),
        first_bar=first,
        usual=tuple(usual_separation(rows, settings.window_bars, settings)),
    )


def to_rows(
    frame: pl.DataFrame,
    columns: Sequence[str],
    bars: np.ndarray,
    halves: np.ndarray,
    sketches: np.ndarray,
    settings: Settings,
) -> ComparedRows:
    """Rows for the classifier; what is missing is drawn from the reference."""
    values = frame.select(pl.col(columns).fill_null(float("nan"))).to_numpy()
    return ComparedRows(fill_missing(values, sketches, settings.seed), bars, halves)
