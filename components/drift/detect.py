"""Decides whether what is served now still looks like what the model learned from: columns, predictions,
labels, a classifier, and what the scores were worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.documents.champion import ChampionRecord
from components.contracts.documents.drift import (
    ColumnDrift,
    Correlation,
    CurrentRows,
    DriftReport,
    Gain,
    PredictionDrift,
    ReferenceRows,
    Separation,
)
from components.contracts.documents.drift_reference import UsualDispersion
from components.drift.adversarial import ComparedRows, halves_of, separation, usual_limit
from components.drift.columns import judge_columns
from components.drift.config import Settings
from components.drift.information import information_ratio
from components.drift.measure import Current, Kept
from components.drift.outcomes import label_shift, labels_of
from components.drift.reference import Reference, read_reference, to_rows
from components.drift.rules import Found, all_rules
from components.drift.tables import SCORE, SYMBOL, TIMESTAMP, check_current, newest_bars
from components.drift.warm_up import OWN_BARS, own_bars

# Fewer symbols are told apart from the market by which they are.
FEWEST_SYMBOLS = 20
MOST_GAINS = 10
# Spread of the scores within a bar, as a multiple or fraction of the reference's.
DISPERSION_RATIO = 2.0


@dataclass(frozen=True)
class Judged:
    """The rows that are judged, checked and cut to the newest bars, with their symbols' own bars."""

    table: pl.DataFrame

    @property
    def timed(self) -> bool:
        """Whether rows have a timestamp; without, they count as independent."""
        return TIMESTAMP in self.table.columns

    @property
    def named(self) -> bool:
        """Whether rows have a symbol."""
        return SYMBOL in self.table.columns

    @cached_property
    def moments(self) -> list[datetime]:
        """The bars' timestamps in order; none without timestamps."""
        return self.table[TIMESTAMP].unique().sort().to_list() if self.timed else []


def detect(
    reference: Path,
    current: pl.DataFrame,
    labels: pl.DataFrame | None,
    settings: Settings,
    *,
    source: str = "table",
    sha256: str | None = None,
    champion: ChampionRecord | None = None,
) -> DriftReport:
    """Everything that drift.json holds.

    Parameters
    ----------
    reference : folder of `make_reference`
    current : the reference's columns, `timestamp` and `symbol` and `score` where known; the newest
        `window_bars` bars are judged. Without timestamps rows count as independent, and the report says so.
    labels : LABELS frame, or None where no outcome is known yet
    champion : the model that the reference belongs to, where it is known

    Raises
    ------
    DriftError
        If the reference is not whole or the table does not fit it.
    """
    kept = read_reference(reference)
    checked = check_current(current, kept.columns)
    checked = checked.with_columns(pl.Series(OWN_BARS, own_bars(checked, kept.about)))
    judged = Judged(newest_bars(checked, settings.window_bars))
    whose = _reference_rows(kept, champion)
    about = _current_rows(judged, kept, source, sha256)
    lacking = _too_little(judged, settings)
    if lacking:
        return DriftReport.nothing_measured(lacking, whose, about)
    found = _found(judged, labels, kept, settings)
    rules = all_rules(found, settings)
    fired = [rule for rule in rules if rule.fired]
    quiet = f"no rule fired; {len(found.columns)} columns looked at"
    return DriftReport(
        verdict="drift" if fired else "no_drift",
        reason="; ".join(map(str, fired)) if fired else quiet,
        reference=whose,
        current=about,
        **vars(found),
        rules=rules,
        stamp=None,
    )


def _reference_rows(kept: Reference, champion: ChampionRecord | None) -> ReferenceRows:
    return ReferenceRows(
        bundle_sha256=champion.bundle_sha256 if champion else None,
        version=champion.version if champion else None,
        train_window=kept.about.train_window,
        rows=kept.about.rows,
        bars=kept.about.bars,
        window_bars=kept.about.window_bars,
        usual_flagged=kept.about.usual_flagged,
    )


def _current_rows(judged: Judged, kept: Reference, source: str, sha256: str | None) -> CurrentRows:
    moments = judged.moments
    return CurrentRows(
        rows=len(judged.table),
        bars=len(moments) if judged.timed else None,
        symbols=judged.table[SYMBOL].n_unique() if judged.named else None,
        rows_per_bar_in_reference=kept.about.rows_per_bar,
        first=moments[0] if judged.timed else None,
        last=moments[-1] if judged.timed else None,
        source=source,
        sha256=sha256,
    )


def _too_little(judged: Judged, settings: Settings) -> str | None:
    rows, bars = len(judged.table), len(judged.moments)
    needed = "are needed before anything is decided"
    if rows < settings.min_rows:
        return f"{rows:,} rows; drift.min_rows={settings.min_rows:,} {needed}"
    if judged.timed and bars < settings.min_bars:
        return f"{bars} bars; drift.min_bars={settings.min_bars} {needed}"
    return None


def _found(judged: Judged, labels: pl.DataFrame | None, kept: Reference, settings: Settings) -> Found:
    columns, score = _columns_and_score(judged, kept, settings)
    horizon, known = kept.about.horizon, None
    if labels is not None and judged.timed and judged.named:
        known = labels_of(labels, horizon, kept.about.target)
    worth = None
    if known is not None and score is not None:
        scores = judged.table.select(TIMESTAMP, SYMBOL, SCORE)
        worth = information_ratio(kept.about.information, scores, known, horizon)
    return Found(
        columns=columns,
        predictions=score,
        label_shift=label_shift(kept.about.labels, judged.table, known, settings, horizon),
        adversarial=_separation(judged, kept, settings),
        information_ratio=worth,
    )


def _columns_and_score(
    judged: Judged, kept: Reference, settings: Settings
) -> tuple[tuple[ColumnDrift, ...], PredictionDrift | None]:
    """Every column, and the score where the table and the reference have one; corrected for all at once."""
    names, table = list(kept.columns), judged.table
    scored = SCORE in table.columns and kept.about.columns[SCORE].rows > 0
    if scored:
        names.append(SCORE)
    columns = {
        name: Kept(kept.about.columns[name], kept.sketch[name].to_numpy(), kept.about.psi_bins)
        for name in names
    }
    entries = judge_columns(columns, _arrays(judged, names, kept), settings)
    if not scored:
        return tuple(entries), None
    *entries, score = entries
    within_bar = _dispersion(table, kept.about.dispersion)
    along = _goes_along(entries, table, kept, settings)
    return tuple(entries), PredictionDrift(**dict(score), **vars(within_bar), goes_along=along)


def _arrays(judged: Judged, names: Sequence[str], kept: Reference) -> Current:
    table = judged.table
    bars = np.zeros(len(table), dtype=np.int64)
    if judged.timed:
        bars = table[TIMESTAMP].rank("dense").to_numpy().astype(np.int64) - 1
    symbols = None
    if judged.named:
        symbols = table[SYMBOL].rank("dense").fill_null(0).to_numpy().astype(np.int64)
    values = table.select(pl.col(names).fill_null(float("nan"))).to_numpy()
    own = table[OWN_BARS].to_numpy()
    return Current(values, bars, judged.moments, symbols, kept.about.rows_per_bar, own)


@dataclass(frozen=True)
class WithinBar:
    """Mean spread of the scores within a bar, beside the reference's and what its windows had."""

    dispersion: float | None
    reference_dispersion: float | None
    usual_dispersion: tuple[float | None, float | None] | None
    dispersion_moved: bool


def _dispersion(table: pl.DataFrame, usual: UsualDispersion) -> WithinBar:
    now = low_high = None
    moved = False
    if TIMESTAMP in table.columns and usual.mean:
        now = table.group_by(TIMESTAMP).agg(pl.col(SCORE).std().alias("std"))["std"].drop_nulls().mean()
        low_high, ratio = (usual.low, usual.high), DISPERSION_RATIO
        outside = now is not None and not usual.low <= now <= usual.high
        moved = bool(outside and not usual.mean / ratio <= now <= usual.mean * ratio)
    return WithinBar(now, usual.mean, low_high, moved)


def _goes_along(
    columns: Sequence[ColumnDrift], table: pl.DataFrame, kept: Reference, settings: Settings
) -> tuple[Correlation, ...]:
    """Rank correlation of the score with each column that moved, in the reference's sample and now."""
    moved = [entry.column for entry in columns if entry.drifted][: settings.page_columns]
    now = table.sample(min(settings.sample_rows, len(table)), seed=settings.seed) if len(table) else table
    return tuple(
        Correlation(
            column=name,
            reference=_rank_correlation(kept.sample, name),
            current=_rank_correlation(now, name),
        )
        for name in moved
    )


def _rank_correlation(frame: pl.DataFrame, name: str) -> float | None:
    both = frame.select(name, SCORE).drop_nulls()
    if len(both) < 3 or both[name].n_unique() < 2 or both[SCORE].n_unique() < 2:
        return None
    return both.select(pl.corr(name, SCORE, method="spearman")).item()


def _separation(judged: Judged, kept: Reference, settings: Settings) -> Separation | None:
    """AUC now, in windows of the reference, and the columns that tell the two apart; None where it is off or
    rows can't be cut into bars.
    """
    usual, names, table = kept.about.adversarial.usual, kept.about.adversarial.columns, judged.table
    few = judged.named and table[SYMBOL].n_unique() < min(FEWEST_SYMBOLS, kept.about.symbols)
    if not settings.auc_windows or not names or not judged.moments or few:
        return None
    area, gains = separation(*_both_sides(judged, kept, settings), settings)
    if not np.isfinite(area):
        return None
    order = np.argsort(-gains, kind="stable")[:MOST_GAINS]
    return Separation(
        auc=area,
        usual_auc=max(usual) if usual else None,
        usual_limit=usual_limit(usual, settings.ks_p),
        windows=len(usual),
        factors=tuple(Gain(column=names[k], importance=float(gains[k])) for k in order if gains[k] > 0),
    )


def _both_sides(judged: Judged, kept: Reference, settings: Settings) -> tuple[ComparedRows, ComparedRows]:
    """A sample of the reference and one of the current rows, as the classifier takes them."""
    names, table = list(kept.about.adversarial.columns), judged.table
    sketches = kept.sketch.select(names).to_numpy()
    sample = kept.sample.filter(pl.col("bar") >= kept.about.adversarial.first_bar)
    own_halves = sample["half"].to_numpy() if judged.named else np.zeros(len(sample))
    reference = to_rows(sample, names, sample["bar"].to_numpy(), own_halves, sketches, settings)
    now = table.sample(min(settings.sample_rows, len(table)), seed=settings.seed)
    calendar = pl.Series(judged.moments, dtype=table.schema[TIMESTAMP])
    bars = calendar.search_sorted(now[TIMESTAMP]).to_numpy().astype(np.int64)
    symbols = now[SYMBOL].fill_null("") if judged.named else pl.Series([""] * len(now))
    halves = symbols.replace_strict(halves_of(symbols.unique().to_list()), return_dtype=pl.Int8).to_numpy()
    return reference, to_rows(now, names, bars, halves, sketches, settings)
