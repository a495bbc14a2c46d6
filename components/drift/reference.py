"""What drift is measured against: sketches of the columns that the served model learned from and of what it
said, with what is usual between windows of them.

Made once after training; comparing later costs nothing that grows with the reference.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.contracts import INDUSTRY_COLUMN, SECTOR_COLUMN, CatalogEntry, atomic_write_text
from components.drift.adversarial import Rows, fill_missing, halves_of, told_apart_by, usual_separation
from components.drift.config import Settings
from components.drift.outcomes import describe_labels, labels_of, rank_ic
from components.drift.tables import SCORE, DriftError
from components.drift.windows import Sample, describe_column, nearest_length, window_lengths
from components.metrics import adjusted_p_values, ks_p_value
from components.timeline import Settings as TimelineSettings
from components.timeline import bar_index, resolve_windows

FORMAT = 2
ABOUT, SKETCH, SAMPLE = "reference.json", "sketch.parquet", "sample.parquet"
FEWEST_BARS = 30
WINDOWS_LEFT = 4
SERVED_EXPERT = "stack"


@dataclass(frozen=True)
class Reference:
    """A reference as it was kept:

    `about` (reference.json), sketches (Q rows) and sample, with one Float32 column each.
    """

    about: Mapping[str, Any]
    sketch: pl.DataFrame
    sample: pl.DataFrame

    @property
    def columns(self) -> list[str]:
        """Inputs and context, without the score."""
        return [name for name, about in self.about["columns"].items() if about["kind"] != "score"]


def make_reference(
    training_set: pl.DataFrame,
    labels: pl.DataFrame,
    predictions: pl.DataFrame,
    catalog: Sequence[CatalogEntry],
    settings: Settings,
    timeline: TimelineSettings,
    folder: Path,
    *,
    stamp: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write `sketch.parquet`, `sample.parquet` and `reference.json` into `folder`; returns what the last of
    them holds.

    Parameters
    ----------
    training_set : TRAINING_SET frame; the rows from the start of the train window to the end of the test
        window are the reference
    labels : LABELS frame
    predictions : ALL_PREDICTIONS frame; the rows of expert `stack`: all for what they were worth, those of
        the test window for how they are distributed, or all where it is shorter than two windows
    catalog : of the factors; inputs and context are covered, and the score

    Raises
    ------
    DriftError
        If the window holds fewer than 30 bars or the stack predicted nothing in it.
    """
    calendar = training_set["timestamp"].unique().sort()
    windows = resolve_windows(calendar, timeline)
    first, last = calendar[windows.train[0]], calendar[windows.test[1] - 1]
    rows = training_set.filter(pl.col("timestamp").is_between(first, last)).sort("timestamp", "symbol")
    stack = predictions.filter(
        (pl.col("expert") == SERVED_EXPERT) & pl.col("timestamp").is_between(first, last)
    )
    bars = rows["timestamp"].n_unique()
    if bars < FEWEST_BARS:
        raise DriftError(
            f"The train to test windows hold {bars} bars; {FEWEST_BARS} are needed to say what is usual."
            " Lengthen timeline.train or the panel."
        )
    if stack.is_empty():
        raise DriftError(
            f"No prediction of {SERVED_EXPERT!r} lies between {first:%Y-%m-%d} and {last:%Y-%m-%d}, so what"
            " the model says can't be watched. Run the stacking stage."
        )
    kind = stack.row(0, named=True)
    known = labels_of(labels, kind["horizon"], kind["target"])
    daily = rank_ic(stack.select("timestamp", "symbol", SCORE), known)
    # The combiner has seen the validation window, and its early folds learned from little: the test window is
    # what the served model resembles.
    tested = stack.filter(pl.col("timestamp") >= calendar[windows.test[0]])
    if tested["timestamp"].n_unique() >= 2 * settings.window_bars:
        stack = tested
    # Codes of names are no quantities: their distribution shifts with every listing and says nothing that a
    # test of numbers could judge.
    roles = {
        entry.column: entry
        for entry in catalog
        if entry.role in ("input", "context")
        and entry.column in rows.columns
        and entry.column not in (SECTOR_COLUMN, INDUSTRY_COLUMN)
    }
    rows = rows.select("timestamp", "symbol", *roles).join(
        stack.select("timestamp", "symbol", pl.col(SCORE).cast(pl.Float32)),
        on=["timestamp", "symbol"],
        how="left",
    )
    columns = {name: {"group": entry.group, "kind": entry.role} for name, entry in roles.items()} | {
        SCORE: {"group": "predictions", "kind": "score"}
    }
    sketches, described, usual_flagged = describe_columns(rows, columns, settings)
    sample = _sample(rows, settings)
    about = {
        "format": FORMAT,
        "rows": len(rows),
        "bars": bars,
        "symbols": rows["symbol"].n_unique(),
        "rows_per_bar": float(
            rows.filter(pl.col("timestamp") >= calendar[max(windows.test[1] - settings.window_bars, 0)])
            .group_by("timestamp")
            .len()["len"]
            .mean()
        ),
        "first": first.isoformat(),
        "last": last.isoformat(),
        "train_window": f"{first.isoformat()}/{last.isoformat()}",
        "period": kind["period"],
        "horizon": kind["horizon"],
        "target": kind["target"],
        "psi_bins": settings.psi_bins,
        "window_bars": settings.window_bars,
        "columns": described,
        "usual_flagged": usual_flagged,
        "dispersion": _dispersion(rows, settings),
        "labels": describe_labels(rows, known, settings.window_bars),
        "information": (
            {
                "rank_ic": daily["rank_ic"].to_list(),
                "first": _moment(daily["timestamp"].min()),
                "last": _moment(daily["timestamp"].max()),
            }
            if len(daily) > 2
            else None
        ),
        "adversarial": _usual_separation(sample, described, sketches, settings),
        "stamp": dict(stamp or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(sketches).write_parquet(folder / SKETCH, compression="zstd")
    sample.write_parquet(folder / SAMPLE, compression="zstd")
    atomic_write_text(folder / ABOUT, json.dumps(_plain(about), indent=1, allow_nan=False))
    return about


def read_reference(folder: Path) -> Reference:
    """A reference that `make_reference` wrote.

    Raises
    ------
    DriftError
        If a file is missing, cut off, of another format, or disagrees with the others.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        sketch, sample = pl.read_parquet(folder / SKETCH), pl.read_parquet(folder / SAMPLE)
        if about["format"] != FORMAT or list(about["columns"]) != sketch.columns:
            raise ValueError(f"it is of format {about['format']}, or its files do not belong together")
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise DriftError(
            f"{folder} holds no whole drift reference ({str(error).splitlines()[0]}). Models registered"
            " before references were kept, or with an older version, have none that fits: run the training"
            " pipeline again, or give the folder `reference` of a bundle."
        ) from error
    return Reference(about, sketch, sample)


def describe_columns(
    rows: pl.DataFrame, columns: Mapping[str, Mapping[str, str]], settings: Settings
) -> tuple[dict, dict, dict]:
    """Sketches and descriptions by column, and how many columns would be called moved in a window of the
    reference.
    """
    bars = bar_index(rows["timestamp"])[1]
    total = int(bars.max()) + 1
    symbols = rows["symbol"].rank("dense").to_numpy().astype(np.int64) - 1

    def describe(name: str):
        values = rows[name].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        return describe_column(Sample(values, bars, symbols, total), settings.psi_bins, settings.window_bars)

    with ThreadPoolExecutor(max_workers=settings.threads) as pool:
        found = dict(zip(columns, pool.map(describe, columns), strict=True))
    described = {name: {**columns[name], **about} for name, (_, about, _) in found.items()}
    return (
        {name: sketch for name, (sketch, _, _) in found.items()},
        described,
        _usual_flagged(found, total, settings),
    )


def _usual_flagged(found: Mapping[str, tuple], total: int, settings: Settings) -> dict[str, Any]:
    """Columns whose Kolmogorov-Smirnov test, corrected, would reject in a window of the reference: the most
    and the mean over windows.
    """
    length = int(
        nearest_length([str(n) for n in window_lengths(total, settings.window_bars)], settings.window_bars)
    )
    p_values = []
    for _, about, statistics in found.values():
        if length in statistics:
            own = about["by_window"][str(length)]["effective_rows"]
            p_values.append(
                np.pad(
                    ks_p_value(statistics[length], about["effective_rows"], own),
                    (total - len(statistics[length]), 0),
                    constant_values=np.nan,
                )
            )
    if not p_values:
        return {"most": 0, "mean": 0.0, "windows": 0}
    # Columns with a warm-up have fewer windows; all end with the reference.
    table = np.array(p_values)
    table = table[:, np.isfinite(table).any(axis=0)]
    flagged = np.array([(adjusted_p_values(window) < settings.ks_p).sum() for window in table.T])
    return {
        "most": int(flagged.max(initial=0)),
        "mean": float(flagged.mean()) if len(flagged) else 0.0,
        "windows": len(flagged),
    }


def _dispersion(rows: pl.DataFrame, settings: Settings) -> dict[str, Any]:
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
        return {"mean": None, "low": None, "high": None}
    length = min(settings.window_bars, len(spread))
    means = np.convolve(spread, np.ones(length) / length, "valid")
    return {"mean": float(spread.mean()), "low": float(means.min()), "high": float(means.max())}


def _sample(rows: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """At most `sample_rows` rows, as many of each bar, with the number of their bar in `bar` and their half
    of the symbols in `half`.
    """
    bars = bar_index(rows["timestamp"])[1]
    each = settings.sample_rows / (int(bars.max()) + 1)
    draw = np.random.default_rng(settings.seed).random(len(rows))
    half = (
        pl.col("symbol")
        .replace_strict(halves_of(rows["symbol"].unique().to_list()), return_dtype=pl.Int8)
        .alias("half")
    )
    numbered = rows.with_columns(pl.Series("bar", bars.astype(np.int32)), pl.Series("_draw", draw), half)
    if each < 1:
        kept = np.linspace(0, int(bars.max()), settings.sample_rows).astype(int)
        numbered = numbered.filter(pl.col("bar").is_in(kept.tolist()))
    chosen = numbered.filter(pl.col("_draw").rank("ordinal").over("bar") <= max(int(each), 1))
    return chosen.drop("_draw", "symbol", "timestamp").select("bar", "half", pl.exclude("bar", "half"))


def _usual_separation(
    sample: pl.DataFrame,
    described: Mapping[str, Mapping[str, Any]],
    sketches: Mapping[str, np.ndarray],
    settings: Settings,
) -> dict[str, Any]:
    columns = told_apart_by(described)
    if not settings.auc_windows or not columns:
        return {"columns": columns, "first_bar": 0, "usual": []}
    # Within a column's warm-up its draws go along with no other column, which would tell the first windows
    # apart; enough bars for windows stay.
    total = int(sample["bar"].max()) + 1
    first = min(
        max(described[name]["first_bar"] for name in columns),
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
    return {
        "columns": columns,
        "first_bar": first,
        "usual": usual_separation(rows, settings.window_bars, settings),
    }


def to_rows(
    frame: pl.DataFrame,
    columns: Sequence[str],
    bars: np.ndarray,
    halves: np.ndarray,
    sketches: np.ndarray,
    settings: Settings,
) -> Rows:
    """Rows for the classifier; what is missing is drawn from the reference."""
    values = frame.select(pl.col(columns).fill_null(float("nan"))).to_numpy()
    return Rows(fill_missing(values, sketches, settings.seed), bars, halves)


def _moment(value: Any) -> str | None:
    return value.isoformat() if value is not None else None


def _plain(value: Any) -> Any:
    """The same with None for numbers that JSON does not know, and NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
