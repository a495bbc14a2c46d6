"""Which hours of the answer log go: those that are too old or too much, but none that drift looks at."""

import contextlib
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path

import polars as pl

from components.contracts import hour_folder
from components.contracts.served import HOUR_FORMAT

# A folder that is being removed; nobody reads it any more.
_GOING = ".going-"


@dataclass(frozen=True)
class Keep:
    """What stays: answers of the last `days`, at most `most_bytes` (None: no limit), and, whatever these say,
    the newest `bars` bars of each of the `bundles` and the newest hour.
    """

    days: float | None
    most_bytes: int | None
    bars: int
    bundles: Collection[str]


@dataclass(frozen=True)
class Removed:
    """The hours that went, oldest first, what they took, and how many bytes the rest is beyond its limit."""

    hours: tuple[str, ...]
    size: int
    beyond: int

    def words(self) -> list[str]:
        """What there is to say of it, for a log."""
        said = []
        if self.hours:
            said.append(
                f"removed {len(self.hours):,} hours of answers ({self.size / 2**20:,.1f} MiB),"
                f" {self.hours[0]} to {self.hours[-1]}, as serving.keep_served_days and"
                " serving.keep_served_bytes say"
            )
        if self.beyond:
            said.append(
                f"the answers take {self.beyond / 2**20:,.1f} MiB more than serving.keep_served_bytes; drift"
                " looks at them still, or they are of this hour"
            )
        return said


def remove_old(served: Path, keep: Keep, *, now: datetime) -> Removed:
    """Remove what need not stay; cut short at any moment, each hour is there whole or not at all."""
    finish_removals(served)
    sizes = {
        folder: sum(part.stat().st_size for part in folder.iterdir())
        for folder in sorted(served.glob("hour=*"))
    }
    going = _too_old(list(sizes), keep, now) | _too_much(sizes, keep)
    if going:
        going -= _needed(list(sizes), keep)
    for folder in sorted(going):
        aside = folder.with_name(_GOING + folder.name)
        folder.rename(aside)
        shutil.rmtree(aside)
    size = sum(sizes[folder] for folder in going)
    beyond = sum(sizes.values()) - size - keep.most_bytes if keep.most_bytes is not None else 0
    return Removed(tuple(folder.name for folder in sorted(going)), size, max(beyond, 0))


def finish_removals(served: Path) -> None:
    """Remove what a killed writer had begun to."""
    for folder in served.glob(f"{_GOING}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _too_old(folders: list[Path], keep: Keep, now: datetime) -> set[Path]:
    """By the clock, but never by a clock that runs ahead of all that was answered."""
    newest = _hour_of(folders[-1]) if folders else None
    if keep.days is None or newest is None:
        return set()
    limit = hour_folder("", min(now, newest) - timedelta(days=keep.days)).name
    return {folder for folder in folders if folder.name < limit}


def _too_much(sizes: dict[Path, int], keep: Keep) -> set[Path]:
    """The oldest hours without which the rest is no larger than it may be."""
    if keep.most_bytes is None:
        return set()
    beyond = sum(sizes.values()) - keep.most_bytes
    before = accumulate(sizes.values(), initial=0)
    return {folder for folder, gone in zip(sizes, before, strict=False) if gone < beyond}


def _needed(folders: list[Path], keep: Keep) -> set[Path]:
    """The newest hour, and those with an answer for one of the newest bars of a bundle that is kept."""
    held = [
        pl.scan_parquet(part)
        .filter(pl.col("bundle_sha256").is_in(list(keep.bundles)))
        .select("bundle_sha256", "timestamp")
        .unique()
        .with_columns(pl.lit(place).alias("place"))
        .collect()
        for place, folder in enumerate(folders)
        for part in sorted(folder.glob("*.parquet"))
    ]
    if not held:
        return set(folders[-1:])
    newest = pl.concat(held).filter(
        pl.col("timestamp").rank("dense", descending=True).over("bundle_sha256") <= keep.bars
    )
    return {folders[place] for place in newest["place"].unique()} | {folders[-1]}


def _hour_of(folder: Path) -> datetime | None:
    with contextlib.suppress(ValueError):
        return datetime.strptime(folder.name.removeprefix("hour="), HOUR_FORMAT).replace(tzinfo=UTC)
    return None
