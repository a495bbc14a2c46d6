"""What selection shows to people across folds: core and plus lists, eras, the forward comparison. No fold
ever sees it.

The page is drawn from it as it lies on disk: a figure that could not be computed is NaN here and None there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from components.contracts.documents import Document
from components.contracts.documents.fields import Figure
from components.selection.adversarial import Adversarial, adversarial
from components.selection.config import ReportEra, Settings
from components.selection.eras import Evidence
from components.selection.forward import Forward, compare, together
from components.selection.purpose import Purpose
from components.selection.rolling import hac_t
from components.selection.rows import Rows
from components.selection.walk import Walk
from components.timeline import Fold, Windows

BEST_FACTORS = 20
# Share of folds in which a factor of the overall core list is core; for people, never used by a fold.
CORE_FOLDS = 0.6


@dataclass(frozen=True)
class FoldLine:
    """A fold in a line: its first and last training day, what it predicts, the number of its inputs, and the
    window that it predicts.
    """

    name: str
    first: str
    last: str
    predicts: str
    inputs: int
    window: str


@dataclass(frozen=True)
class Appearance:
    """Share of the folds in which a factor is core, and in which it is core or plus."""

    factor: str
    core: float
    chosen: float


@dataclass(frozen=True)
class EraColumn:
    """One span of the IC table and the windows it lies in; `ic` and `t` by factor, over all bars
    of the span.
    """

    name: str
    first: str
    last: str
    windows: Mapping[str, float]
    ic: Mapping[str, Figure]
    t: Mapping[str, Figure]


class Overview(Document):
    """For people, across folds; no fold ever sees it."""

    format: Literal[1] = 1
    core: tuple[Appearance, ...]
    plus: tuple[Appearance, ...]
    forward: tuple[Forward, ...]
    adversarial: tuple[Adversarial, ...]
    eras: tuple[EraColumn, ...]
    best: tuple[str, ...]
    folds: tuple[FoldLine, ...]
    context: tuple[str, ...]
    purpose: Purpose
    mode: str
    rows: int
    symbols: int
    chance: Figure
    era_bars: int


def overview_of(
    walk: Walk,
    chosen: Mapping[str, tuple[str, ...]],
    evidence: pl.DataFrame,
    daily_ic: np.ndarray,
    found: Sequence[Evidence],
    context: tuple[str, ...],
) -> Overview:
    """Put the overview together once all is chosen.

    Parameters
    ----------
    chosen : inputs by fold
    evidence : EVIDENCE rows of all folds
    daily_ic : RankIC of each bar and input, shape (T, F)
    found : what each pair of eras said
    context : columns that experts see whatever is chosen
    """
    rows, folds, settings = walk.rows, walk.folds, walk.settings
    core, plus = core_and_plus(evidence, len(folds))
    best = strongest(evidence.filter(pl.col("fold") == folds[0].name))
    return Overview(
        core=core,
        plus=plus,
        forward=compare_forward(walk, chosen),
        adversarial=judge_newest_bars(rows, folds, settings, walk.purpose.seed),
        eras=era_columns(walk, daily_ic, best),
        best=best,
        folds=tuple(fold_line(rows, fold, walk.windows, len(chosen[fold.name])) for fold in folds),
        context=context,
        purpose=walk.purpose,
        mode=settings.mode,
        rows=len(rows.bars),
        symbols=int(rows.n_symbols),
        chance=float(np.mean([one.chance for one in found])),
        era_bars=int(found[0].pair.middle - found[0].pair.first),
    )


def fold_line(rows: Rows, fold: Fold, windows: Windows, inputs: int) -> FoldLine:
    """The fold in a line, for people."""
    first, last = (f"{rows.calendar[int(fold.train[place])]:%Y-%m-%d}" for place in (0, -1))
    if not len(fold.predict):
        return FoldLine(fold.name, first, last, "what is served", inputs, "serving")
    begin, end = (f"{rows.calendar[int(fold.predict[place])]:%Y-%m-%d}" for place in (0, -1))
    window = "validation" if _in_validation(fold, windows) else "test"
    return FoldLine(fold.name, first, last, f"{begin} to {end}", inputs, window)


def core_and_plus(
    evidence: pl.DataFrame, folds: int
) -> tuple[tuple[Appearance, ...], tuple[Appearance, ...]]:
    """Core and plus lists over all folds: appearance rate over the walk-forward."""
    is_core, is_chosen = pl.col("decision") == "core", pl.col("decision").is_in(["core", "plus"])
    shares = evidence.group_by("factor").agg(
        (is_core.sum() / folds).alias("core"),
        (is_chosen.sum() / folds).alias("chosen"),
        pl.col("appearance").mean(),
    )
    shares = shares.sort(["core", "chosen", "appearance", "factor"], descending=[True, True, True, False])
    core = shares.filter(pl.col("core") >= CORE_FOLDS)
    plus = shares.filter((pl.col("core") < CORE_FOLDS) & (pl.col("chosen") > 0))
    lists = (table.select("factor", "core", "chosen").iter_rows() for table in (core, plus))
    return tuple(tuple(Appearance(*row) for row in rows) for rows in lists)


def strongest(first_fold: pl.DataFrame) -> tuple[str, ...]:
    """The factors with the strongest IC in the first fold's training bars, copies of one another left out."""
    ranked = first_fold.filter(
        pl.col("ic_t").is_not_null() & (pl.col("decision") != "duplicate") & (pl.col("decision") != "no data")
    )
    return tuple(ranked.sort(pl.col("ic_t").abs(), descending=True)["factor"].head(BEST_FACTORS))


def compare_forward(walk: Walk, chosen: Mapping[str, tuple[str, ...]]) -> tuple[Forward, ...]:
    """Validation folds only; the last entry is all of them together."""
    compared = [
        compare(walk.rows, fold, chosen[fold.name], walk.purpose, walk.settings)
        for fold in walk.folds
        if _in_validation(fold, walk.windows)
    ]
    if not compared:
        return ()
    found = [one for one, _ in compared]
    differences = [difference for _, difference in compared]
    return (*found, together(found, differences, walk.purpose, walk.settings))


def judge_newest_bars(
    rows: Rows, folds: Sequence[Fold], settings: Settings, seed: int
) -> tuple[Adversarial, ...]:
    """Every fold in mode full; in quick the first and the served one."""
    wanted = folds if settings.mode == "full" else (folds[0], folds[-1])
    windows = [(fold.name, (int(fold.train[0]), int(fold.early_stopping[-1]) + 1)) for fold in wanted]
    return tuple(
        adversarial(
            rows, name, window, settings=settings, usual_windows=settings.effort.usual_windows, seed=seed
        )
        for name, window in windows
    )


def era_columns(walk: Walk, daily_ic: np.ndarray, names: Sequence[str]) -> tuple[EraColumn, ...]:
    """RankIC of the named factors over each span.

    Reported after everything is chosen: spans after the training window are of no account for the choice.
    """
    days = walk.rows.calendar.dt.date().to_numpy()
    columns = [walk.rows.names.index(name) for name in names]
    result = []
    for name, mask in _masks(days, walk.settings.report_eras):
        bars = np.flatnonzero(mask)
        shares = {
            window: float(((bars >= span[0]) & (bars < span[1])).mean())
            for window, span in vars(walk.windows).items()
            if window != "backtest"
        }
        series = daily_ic[mask][:, columns].astype(float)
        ic = dict(zip(names, map(_mean_of_known, series.T), strict=True))
        t = dict(zip(names, hac_t(series, walk.purpose.horizon).tolist(), strict=True))
        result.append(EraColumn(name, str(days[bars[0]]), str(days[bars[-1]]), shares, ic, t))
    return tuple(result)


def _masks(days: np.ndarray, spans: Sequence[ReportEra]) -> list[tuple[str, np.ndarray]]:
    """Name and bars (T,) of each span; thirds of the calendar where a span holds no bar or none is set."""
    masks = [
        (span.name, (days >= np.datetime64(span.start)) & (days <= np.datetime64(span.end))) for span in spans
    ]
    if masks and all(mask.any() for _, mask in masks):
        return masks
    bars = np.arange(len(days))
    return [(f"{days[part[0]]} to {days[part[-1]]}", np.isin(bars, part)) for part in np.array_split(bars, 3)]


def _mean_of_known(series: np.ndarray) -> float:
    known = series[np.isfinite(series)]
    return float(np.mean(known)) if len(known) else float("nan")


def _in_validation(fold: Fold, windows: Windows) -> bool:
    return len(fold.predict) > 0 and int(fold.predict[-1]) < windows.validation[1]
