"""How far what was served of late lies from the champion's training window."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import SERVED
from serving.faults import Faults, words
from serving.processes.documents import ChampionNotice, FeatureShift

# Fewer rows say nothing about a shift.
FEWEST_ROWS = 200
_MOST_PARTS_AT_START = 200


class ServedShift:
    """Keeps the newest served rows, at most `most_rows`, and measures them against a champion's reference
    sketch.
    """

    def __init__(self, most_rows: int, faults: Faults) -> None:
        self._most_rows, self._faults = most_rows, faults
        self._recent = pl.DataFrame(schema=SERVED.columns)
        self._sketch: tuple[str, pl.DataFrame] | None = None
        self._shift: FeatureShift | None = None
        self._fresh = True

    def load(self, parts: Sequence[Path]) -> None:
        """Begin with the newest rows of the log's parts, which are in the order of time; what can't be read
        is left out.
        """
        try:
            for part in reversed(parts[-_MOST_PARTS_AT_START:]):
                frame = pl.read_parquet(part)
                if self._recent.is_empty():
                    self._recent = frame.clear()
                if frame.columns == self._recent.columns:
                    self._recent = self._newest(pl.concat([frame, self._recent]))
                if len(self._recent) >= self._most_rows:
                    return
        except Exception as error:  # the log goes on without a shift of earlier rows
            self._faults.say(f"Rows served earlier can't be read: {words(error)}", error)

    def remember(self, frame: pl.DataFrame) -> None:
        """Add rows that were served now; of other columns, they replace the earlier ones."""
        same = frame.columns == self._recent.columns
        self._recent = self._newest(pl.concat([self._recent, frame]) if same else frame)
        self._fresh = True

    def measure(self, champion: ChampionNotice | None) -> FeatureShift | None:
        """Kolmogorov-Smirnov distance of the rows to the champion's training window; None where nothing can
        be said.
        """
        if champion is None:
            return None
        if self._sketch is None or self._sketch[0] != champion.bundle_sha256:
            self._sketch = (champion.bundle_sha256, self._read_sketch(Path(champion.folder)))
            self._fresh = True
        if self._fresh:
            self._fresh = False
            try:
                self._shift = shift_of(self._recent, self._sketch[1])
            except Exception as error:  # the log is worth more than a figure about it
                self._shift = None
                self._faults.say(f"The feature shift can't be measured: {words(error)}", error)
        return self._shift

    def _read_sketch(self, bundle: Path) -> pl.DataFrame:
        """The bundle's reference sketch; empty where it has none, or none that can be read."""
        path = bundle / "reference" / "sketch.parquet"
        try:
            return pl.read_parquet(path)
        except FileNotFoundError:
            return pl.DataFrame()
        except Exception as error:  # the log is worth more than a figure about it
            self._faults.say(f"{path} can't be read, so there is no feature shift: {words(error)}", error)
            return pl.DataFrame()

    def _newest(self, frame: pl.DataFrame) -> pl.DataFrame:
        newest = frame.sort("answered_at", maintain_order=True).unique(
            ["timestamp", "symbol"], keep="last", maintain_order=True
        )
        return newest.tail(self._most_rows)


def shift_of(rows: pl.DataFrame, sketch: pl.DataFrame) -> FeatureShift | None:
    """How far served rows lie from a reference sketch; None below 200 rows or where no common column
    has as many values. What is missing has no part in it.
    """
    columns = [name for name in rows.columns if name in sketch.columns and name not in SERVED.columns]
    if len(rows) < FEWEST_ROWS or not columns:
        return None
    from components.metrics.shift import ks_to_sketch

    current = rows.select(pl.col(columns).fill_null(float("nan"))).to_numpy()
    distances = np.asarray(
        ks_to_sketch(current, sketch.select(pl.col(columns).fill_null(float("nan"))).to_numpy())
    )
    # A handful of values lies far from any distribution by chance.
    distances[np.isfinite(current).sum(axis=0) < FEWEST_ROWS] = np.nan
    if not np.isfinite(distances).any():
        return None
    return FeatureShift(
        rows=len(rows),
        largest_ks=float(np.nanmax(distances)),
        largest_column=columns[int(np.nanargmax(distances))],
        mean_ks=float(np.nanmean(distances)),
        share_above_0_1=float((distances[np.isfinite(distances)] > 0.1).mean()),
    )
