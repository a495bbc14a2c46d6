"""Chooses the inputs of every fold on that fold's training bars alone, and gathers the evidence
for people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from components.contracts import CatalogEntry, ChosenInputs, content_sha256
from components.progress import advance
from components.selection.adversarial import Adversarial, adversarial
from components.selection.choose import EVIDENCE, choose
from components.selection.config import ReportEra, Settings
from components.selection.eras import FEWEST_BLOCKS, Pair, block_of, evidence_of
from components.selection.errors import SelectionError
from components.selection.forward import Forward, compare, together
from components.selection.models import Family
from components.selection.rolling import daily_rank_ic, hac_t, ordered_lags, rolling
from components.selection.rows import Rows, always_seen, read_rows
from components.timeline import Fold, TimelineError, Windows, resolve_windows, walk_forward
from components.timeline import Settings as TimelineSettings

STAGE = "selection"
BEST_FACTORS = 20


@dataclass(frozen=True)
class EraColumn:
    """One span of the IC table and the windows it lies in; `ic` and `t` by factor, over all bars
    of the span.
    """

    name: str
    first: str
    last: str
    windows: Mapping[str, float]
    ic: Mapping[str, float]
    t: Mapping[str, float]


@dataclass(frozen=True)
class Overview:
    """For people, across folds; no fold ever sees it.

    `core` and `plus` hold (factor, share of folds in which it is core; in which it is core or plus).
    """

    core: tuple[tuple[str, float, float], ...]
    plus: tuple[tuple[str, float, float], ...]
    forward: tuple[Forward, ...]
    adversarial: tuple[Adversarial, ...]
    eras: tuple[EraColumn, ...]
    best: tuple[str, ...]
    folds: tuple[tuple[str, str, str, str, int, str], ...]
    context: tuple[str, ...]
    family: str
    mode: str
    horizon: int
    target: str
    rows: int
    symbols: int
    chance: float
    era_bars: int


@dataclass(frozen=True)
class Selection:
    """What came out: inputs by fold, EVIDENCE rows of all folds, and the overview."""

    chosen: ChosenInputs
    evidence: pl.DataFrame
    overview: Overview


def select_factors(
    training_set: pl.DataFrame,
    labels: pl.DataFrame,
    catalog: Sequence[CatalogEntry],
    *,
    settings: Settings,
    timeline: TimelineSettings,
    family: Family,
    horizon: int,
    target: str,
    seed: int,
    modality: str = "base",
    gate_weights: Mapping[str, Mapping[str, float]] | None = None,
    training_set_sha256: str | None = None,
) -> Selection:
    """Choose inputs for every fold of the walk-forward.

    Each fold is decided on its `train` bars, with labels known before its early-stopping bars begin; those
    stay out, because bands and stopping are judged on them.

    Parameters
    ----------
    training_set : TRAINING_SET frame; its distinct timestamps are the calendar
    labels : LABELS frame
    family : `tree` judges with LightGBM, `linear` with a ridge regression
    gate_weights : by fold name, the weight of each input in an expert's gate, learned in that fold's training
        bars
    training_set_sha256 : content hash of the training set where the caller knows it

    Raises
    ------
    ContractError, TimelineError
        If tables and timeline do not fit together, or a training label became known too late.
    SelectionError
        If symbols, bars or inputs are too few to choose from, or selection is off.
    """
    if settings.mode == "off":
        raise SelectionError("selection.mode is off, so there is nothing to choose. Set it to quick or full.")
    from components.selection.kernels import use_threads

    use_threads(settings.threads)
    rows = read_rows(training_set, labels, catalog, modality=modality, horizon=horizon, target=target)
    windows = resolve_windows(rows.calendar, timeline)
    folds = walk_forward(windows, timeline, longest_horizon=int(labels["horizon"].max()))
    for fold in folds:
        _refuse_late(rows, fold)
    gap = timeline.purge_bars + timeline.embargo_bars
    era_bars = _era_bars(folds, settings, horizon, gap)
    pairs = _pairs(folds, era_bars)
    steps = len(pairs) + len(folds) + 2
    advance(STAGE, 0, steps, "rank correlations of every bar")
    lags = ordered_lags(settings.filter.lags_bars)
    daily = daily_rank_ic(rows, lags)
    found = []
    for number, pair in enumerate(pairs):
        era = f"{rows.calendar[pair.first]:%Y-%m}..{rows.calendar[pair.end - 1]:%Y-%m}"

        def said(what: str, era: str = era, number: int = number) -> None:
            advance(STAGE, number + 1, steps, f"era {era}: {what}")

        found.append(
            evidence_of(
                rows,
                daily[0],
                pair,
                gap_bars=gap,
                settings=settings,
                family=family,
                horizon=horizon,
                seed=seed,
                advance=said,
            )
        )
    chosen, tables, abouts = {}, [], []
    for number, fold in enumerate(folds):
        advance(STAGE, len(pairs) + 1 + number, steps, fold.name)
        window = int(fold.train[0]), int(fold.train[-1]) + 1
        inside = [
            evidence
            for evidence in found
            if evidence.pair.first >= window[0] and evidence.pair.end <= window[1]
        ]
        measured = rolling(
            daily[:, window[0] : window[1]],
            lags,
            settings.filter.half_lives_bars,
            horizon=horizon,
            rate=settings.false_discovery_rate,
        )
        choice = choose(
            rows, fold.name, window, inside, measured, settings, (gate_weights or {}).get(fold.name)
        )
        if not choice.inputs:
            raise SelectionError(
                f"{fold.name}: none of the {len(rows.names)} inputs varies and holds values in its training"
                f" bars ({rows.calendar[window[0]]:%Y-%m-%d} to {rows.calendar[window[1] - 1]:%Y-%m-%d})."
                " Check the features' warm-up, lengthen timeline.train, or lower"
                " selection.filter.least_coverage."
            )
        chosen[fold.name] = choice.inputs
        tables.append(choice.evidence)
        abouts.append(_about(rows, fold, windows, len(choice.inputs)))
    advance(STAGE, steps - 1, steps, "forward comparison and adversarial validation")
    evidence = pl.concat(tables).sort("fold", "factor").select(*EVIDENCE.columns)
    best = _best(tables[0])
    overview = Overview(
        *_across(evidence, len(folds), settings),
        forward=_forward(rows, folds, windows, chosen, settings, family, horizon, seed),
        adversarial=_adversarial(rows, folds, settings, seed),
        eras=_era_columns(rows, daily[0], windows, settings.report_eras, best, horizon),
        best=best,
        folds=tuple(abouts),
        context=always_seen(training_set),
        family=family,
        mode=settings.mode,
        horizon=horizon,
        target=target,
        rows=len(rows.bars),
        symbols=rows.n_symbols,
        chance=float(np.mean([one.chance for one in found])),
        era_bars=era_bars,
    )
    advance(STAGE, steps, steps, "done")
    return Selection(
        ChosenInputs(training_set_sha256 or content_sha256(training_set), chosen), evidence, overview
    )


def _refuse_late(rows: Rows, fold: Fold) -> None:
    """TimelineError where a training label became known only after early stopping began."""
    part = rows.slice(int(fold.train[0]), int(fold.train[-1]) + 1)
    late = rows.label_end[part] > int(fold.early_stopping[0])
    if late.any():
        place = part.start + int(np.flatnonzero(late)[0])
        raise TimelineError(
            f"{fold.name}: {int(late.sum()):,} labels became known after"
            f" {rows.calendar[int(fold.early_stopping[0])]} (early stopping begins), first of the bar"
            f" {rows.calendar[int(rows.bars[place])]}: they would carry the future into the choice. Raise"
            " timeline.purge_bars to the longest horizon plus the entry bar."
        )


def _era_bars(folds: Sequence[Fold], settings: Settings, horizon: int, gap: int) -> int:
    """Length of an era: the setting, or less where the shortest training window would hold too
    few of them.
    """
    shortest = min(len(fold.train) for fold in folds)
    era = min(settings.era_bars, shortest // settings.fewest_eras)
    needed = max(FEWEST_BLOCKS * 2 * horizon, gap + 3 * horizon, 15)
    if era < needed or -(-era // block_of(settings, horizon, era)) < FEWEST_BLOCKS:
        raise SelectionError(
            f"The shortest training window holds {shortest} bars, so {settings.fewest_eras} eras have {era}"
            f" bars each; horizon {horizon} and a gap of {gap} bars need {needed}. Lengthen timeline.train to"
            f" about {needed * settings.fewest_eras} training bars or more, raise selection.era_bars, or set"
            " selection.mode to off."
        )
    return era


def _pairs(folds: Sequence[Fold], era_bars: int) -> list[Pair]:
    """Pairs of neighbouring eras on one grid from the first training bar on that lie in the training bars of
    at least one fold.
    """
    first, last = min(int(fold.train[0]) for fold in folds), max(int(fold.train[-1]) for fold in folds)
    pairs = [
        Pair(start, start + era_bars, start + 2 * era_bars)
        for start in range(first, last + 2 - 2 * era_bars, era_bars)
    ]
    return [
        pair
        for pair in pairs
        if any(pair.first >= fold.train[0] and pair.end <= fold.train[-1] + 1 for fold in folds)
    ]


def _about(rows: Rows, fold: Fold, windows: Windows, inputs: int) -> tuple[str, str, str, str, int, str]:
    """Name, first and last training day, predicted days, number of inputs, and the window that it
    predicts.
    """
    first, last = (f"{rows.calendar[int(fold.train[place])]:%Y-%m-%d}" for place in (0, -1))
    if not len(fold.predict):
        return fold.name, first, last, "what is served", inputs, "serving"
    span = (
        f"{rows.calendar[int(fold.predict[0])]:%Y-%m-%d} to {rows.calendar[int(fold.predict[-1])]:%Y-%m-%d}"
    )
    return fold.name, first, last, span, inputs, "validation" if _in_validation(fold, windows) else "test"


def _in_validation(fold: Fold, windows: Windows) -> bool:
    return len(fold.predict) > 0 and int(fold.predict[-1]) < windows.validation[1]


def _across(evidence: pl.DataFrame, folds: int, settings: Settings) -> tuple[tuple, tuple]:
    """Core and plus lists over all folds: appearance rate over the walk-forward."""
    is_core, is_chosen = pl.col("decision") == "core", pl.col("decision").is_in(["core", "plus"])
    shares = evidence.group_by("factor").agg(
        (is_core.sum() / folds).alias("core"),
        (is_chosen.sum() / folds).alias("chosen"),
        pl.col("appearance").mean(),
    )
    shares = shares.sort(["core", "chosen", "appearance", "factor"], descending=[True, True, True, False])
    core = shares.filter(pl.col("core") >= settings.core_folds)
    plus = shares.filter((pl.col("core") < settings.core_folds) & (pl.col("chosen") > 0))
    return tuple(tuple(table.select("factor", "core", "chosen").rows()) for table in (core, plus))


def _best(first_fold: pl.DataFrame) -> tuple[str, ...]:
    """The factors with the strongest IC in the first fold's training bars, copies of one another left out."""
    ranked = first_fold.filter(
        pl.col("ic_t").is_not_null() & (pl.col("decision") != "duplicate") & (pl.col("decision") != "no data")
    )
    return tuple(ranked.sort(pl.col("ic_t").abs(), descending=True)["factor"].head(BEST_FACTORS))


def _forward(
    rows: Rows,
    folds: Sequence[Fold],
    windows: Windows,
    chosen: Mapping,
    settings: Settings,
    family: Family,
    horizon: int,
    seed: int,
) -> tuple[Forward, ...]:
    """Validation folds only; the last entry is all of them together."""
    compared = [
        compare(rows, fold, chosen[fold.name], settings=settings, family=family, horizon=horizon, seed=seed)
        for fold in folds
        if _in_validation(fold, windows)
    ]
    if not compared:
        return ()
    found = [one for one, _ in compared]
    return (*found, together(found, [difference for _, difference in compared], settings, horizon, seed))


def _adversarial(rows: Rows, folds: Sequence[Fold], settings: Settings, seed: int) -> tuple[Adversarial, ...]:
    """Every fold in mode full; in quick the first and the served one."""
    wanted = folds if settings.mode == "full" else (folds[0], folds[-1])
    windows = [(fold.name, (int(fold.train[0]), int(fold.early_stopping[-1]) + 1)) for fold in wanted]
    return tuple(
        adversarial(
            rows, name, window, settings=settings, usual_windows=settings.effort.usual_windows, seed=seed
        )
        for name, window in windows
    )


def _era_columns(
    rows: Rows,
    daily: np.ndarray,
    windows: Windows,
    spans: Sequence[ReportEra],
    names: Sequence[str],
    horizon: int,
) -> tuple[EraColumn, ...]:
    """RankIC of the named factors over each span.

    Reported after everything is chosen: spans after the training window are of no account for the choice.
    """
    days = rows.calendar.dt.date().to_numpy()
    masks = [
        (span.name, (days >= np.datetime64(span.start)) & (days <= np.datetime64(span.end))) for span in spans
    ]
    if not masks or not all(mask.any() for _, mask in masks):
        bars = np.arange(len(days))
        masks = [
            (f"{days[part[0]]} to {days[part[-1]]}", np.isin(bars, part)) for part in np.array_split(bars, 3)
        ]
    columns = [rows.names.index(name) for name in names]
    result = []
    for name, mask in masks:
        bars = np.flatnonzero(mask)
        shares = {
            window: float(((bars >= span[0]) & (bars < span[1])).mean())
            for window, span in vars(replace(windows)).items()
            if window != "backtest"
        }
        series = daily[mask][:, columns].astype(float)
        t = hac_t(series, horizon)
        mean = [
            float(np.mean(column[np.isfinite(column)])) if np.isfinite(column).any() else float("nan")
            for column in series.T
        ]
        result.append(
            EraColumn(
                name,
                str(days[bars[0]]),
                str(days[bars[-1]]),
                shares,
                dict(zip(names, mean, strict=True)),
                dict(zip(names, t.tolist(), strict=True)),
            )
        )
    return tuple(result)
