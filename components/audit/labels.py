"""Audits labels and their join with factors: entered after the signal, known at label_end, no factor that copies the label."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from components.audit.builders import Builder, checked_table
from components.audit.compare import Place, compare, in_order
from components.audit.config import Settings
from components.audit.cuts import Cut, sample_cuts, window
from components.audit.perturb import other_future, other_values
from components.audit.result import AuditError, AuditResult, Leak, merge_leaks
from components.contracts import AlphaloopError
from components.timeline import bar_index

KEY = ("timestamp", "symbol", "horizon")
JOIN_BARS = 120
MIN_SYMBOLS = 5
MIN_EFFECTIVE_ROWS = 100


def audit_labels(panel: pl.DataFrame, build: Builder, *, cuts: int = 3, seed: int = 0, labels: pl.DataFrame | None = None, settings: Settings | None = None) -> AuditResult:
    """Audit the labels that `build` makes from a panel.

    `build` takes a `PANEL` table and returns a `LABELS` table; `labels` is the table that was handed over, built here
    where left out. Checks: `label_future` and `label_truncation` (labels whose label_end is at or before the cut do not
    depend on later bars, and none exists without its future), `label_entry` (labels at or after the cut do not depend on
    prices up to the cut), `label_reach` (label_end lies after the timestamp and at most horizon + entry_lag_bars bars
    later) and `whole_history` (the table handed over against a rebuild). Raises AuditError where `build` fails.
    """
    settings = (settings or Settings()).model_copy(update={"cuts": cuts})
    panel = in_order(panel, ("timestamp", "symbol"))
    calendar, _ = bar_index(panel["timestamp"])
    rng = np.random.default_rng(seed)
    if labels is None:
        labels = _built(build, panel, "the whole panel")
    reach = int(labels["horizon"].max() or 1) + settings.entry_lag_bars
    leaks = [*_reach(labels, calendar, settings)]
    rows = 0
    sampled = sample_cuts(calendar, settings.cuts, min(4 * reach, len(calendar) // 2), rng)
    for cut in sampled:
        bars = window(panel, calendar, cut.position, 4 * reach + 20, 2 * reach + 20)
        base = _built(build, bars, f"the bars around {cut.timestamp:%Y-%m-%d %H:%M}")
        rows += 3 * len(base)
        leaks += _label_future(build, bars, base, cut, calendar, settings, rng)
        leaks += _label_entry(build, bars, base, cut, calendar, settings, rng)
    if settings.whole_history:
        past = _built(build, panel.filter(pl.col("timestamp") <= sampled[-1].timestamp), "the whole history")
        leaks += _settled(labels, past, sampled[-1], Place("whole_history", sampled[-1].timestamp, calendar), settings)
        rows += len(past)
    checked = {"label_rows_compared": rows, "label_columns": len(_targets(labels)), "horizons": sorted(labels["horizon"].unique().to_list())}
    return AuditResult(merge_leaks(leaks), checked)


def too_good(factors: pl.DataFrame, labels: pl.DataFrame, columns: list[str], settings: Settings) -> list[Leak]:
    """Factors that rank the symbols of a bar as a label does: mean rank correlation over up to 120 bars beyond the limit.

    Judged only where enough independent values stand behind the mean: 5 symbols a bar, and at least 100 of symbols times
    bars after allowing for overlapping labels.
    """
    times = labels.filter(pl.col("log_return").is_not_null())["timestamp"].unique().sort()
    if times.is_empty() or not columns:
        return []
    positions = np.unique(np.linspace(0, len(times) - 1, min(JOIN_BARS, len(times))).astype(int))
    chosen = times.gather(positions)
    spacing = len(times) / len(chosen)
    inputs = factors.filter(pl.col("timestamp").is_in(chosen.implode())).select("timestamp", "symbol", *columns)
    ranks = inputs.with_columns(pl.col(columns).fill_nan(None).rank().over("timestamp"))
    leaks = []
    for (horizon,), part in labels.filter(pl.col("timestamp").is_in(chosen.implode())).group_by("horizon", maintain_order=True):
        targets = [name for name in ("log_return", "sector_neutral_return") if name in part.columns]
        joined = ranks.join(part.select("timestamp", "symbol", *targets), on=["timestamp", "symbol"], how="inner", maintain_order="left", suffix="__label")
        for target in targets:
            source = target if target not in columns else f"{target}__label"
            label = joined.select(pl.col(source).rank().over("timestamp")).to_series().to_numpy()
            leaks += _copies(joined, label, columns, f"{target} over {horizon} bars", min(1.0, spacing / int(horizon)), settings)
    return merge_leaks(leaks)


def _copies(joined: pl.DataFrame, label: np.ndarray, columns: list[str], name: str, independent: float, settings: Settings) -> Iterator[Leak]:
    calendar, bars = bar_index(joined["timestamp"])
    for column in columns:
        found, members = _rank_correlation(joined[column].to_numpy(), label, bars, len(calendar))
        usable = np.isfinite(found) & (members >= MIN_SYMBOLS)
        if (members[usable] - 1).sum() * independent < MIN_EFFECTIVE_ROWS:
            continue
        mean = float(found[usable].mean())
        if abs(mean) > settings.too_good_rank_correlation:
            detail = f"Its rank correlation with {name} is {mean:.2f}; more than {settings.too_good_rank_correlation:g} is too good to be true"
            yield Leak("too_good", column, timestamp=calendar[int(np.flatnonzero(usable)[0])], rows=int(members[usable].sum()), absolute=abs(mean), detail=detail)


def _rank_correlation(x: np.ndarray, y: np.ndarray, bars: np.ndarray, n_bars: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of ranks within each bar (NaN where one does not vary) and the number of symbols with both."""
    both = np.isfinite(x) & np.isfinite(y)
    x, y, bars = x[both], y[both], bars[both]
    members = np.bincount(bars, minlength=n_bars)
    with np.errstate(all="ignore"):
        x = x - (np.bincount(bars, x, n_bars) / members)[bars]
        y = y - (np.bincount(bars, y, n_bars) / members)[bars]
        spread = np.sqrt(np.bincount(bars, x * x, n_bars) * np.bincount(bars, y * y, n_bars))
        return np.where(spread > 0, np.bincount(bars, x * y, n_bars) / spread, np.nan), members


def _targets(labels: pl.DataFrame) -> list[str]:
    return [name for name in labels.columns if name not in (*KEY, "label_end")]


def _label_future(build: Builder, bars: pl.DataFrame, base: pl.DataFrame, cut: Cut, calendar: pl.Series, settings: Settings, rng: np.random.Generator) -> list[Leak]:
    changed = _built(build, other_future(bars, cut.timestamp, rng), f"a changed future after {cut.timestamp:%Y-%m-%d %H:%M}")
    leaks = _settled(base, changed, cut, Place("label_future", cut.timestamp, calendar), settings)
    shorter = _built(build, bars.filter(pl.col("timestamp") <= cut.timestamp), f"the history up to {cut.timestamp:%Y-%m-%d %H:%M}")
    place = Place("label_truncation", cut.timestamp, calendar)
    leaks += _settled(base, shorter, cut, place, settings)
    for name in _targets(shorter):
        early = shorter.filter(pl.col(name).is_not_null() & (pl.col("label_end").is_null() | (pl.col("label_end") > cut.timestamp)))
        if len(early):
            first = early.row(0, named=True)
            detail = "These labels exist before their future does"
            leaks.append(Leak("label_truncation", name, first["timestamp"], first["symbol"], cut.timestamp, rows=len(early), appeared_or_vanished=len(early), detail=detail))
    return leaks


def _settled(base: pl.DataFrame, other: pl.DataFrame, cut: Cut, place: Place, settings: Settings) -> list[Leak]:
    """Compare the labels that either table holds to be known at the cut; the rest may differ."""
    base, other = (table.filter(pl.col("timestamp") <= cut.timestamp) for table in (base, other))
    if len(base) == len(other) and all(base[name].equals(other[name]) for name in KEY):
        known = ((base["label_end"] <= cut.timestamp).fill_null(False)) | ((other["label_end"] <= cut.timestamp).fill_null(False))
        base, other = base.filter(known), other.filter(known)
    else:
        known = pl.concat([table.filter(pl.col("label_end") <= cut.timestamp).select(KEY) for table in (base, other)]).unique()
        base, other = (table.join(known, on=KEY, how="semi").sort(KEY) for table in (base, other))
    return compare(base, other, KEY, [*_targets(base), "label_end"], place, settings.truncation_tolerance)


def _label_entry(build: Builder, bars: pl.DataFrame, base: pl.DataFrame, cut: Cut, calendar: pl.Series, settings: Settings, rng: np.random.Generator) -> list[Leak]:
    past = (bars["timestamp"] <= cut.timestamp).to_numpy()
    changed = _built(build, other_values(bars, past, rng), f"other prices up to {cut.timestamp:%Y-%m-%d %H:%M}")
    since = pl.col("timestamp") >= cut.timestamp
    leaks = compare(base.filter(since), changed.filter(since), KEY, _targets(base), Place("label_entry", cut.timestamp, calendar), settings.mutation_tolerance)
    return [Leak(**{**leak.__dict__, "bars_ahead": None, "bars_before_cut": None}) for leak in leaks]


def _reach(labels: pl.DataFrame, calendar: pl.Series, settings: Settings) -> Iterator[Leak]:
    """Labels that end later than purging counts on, or not after their timestamp."""
    labelled = labels.filter(pl.col("label_end").is_not_null())
    start, end = (calendar.search_sorted(labelled[name], side="left").cast(pl.Int64) for name in ("timestamp", "label_end"))
    bars = end - start
    for wrong, detail in (
        (bars > labelled["horizon"].cast(pl.Int64) + settings.entry_lag_bars, "label_end lies more than horizon + entry lag bars after the timestamp"),
        (labelled["label_end"] <= labelled["timestamp"], "label_end does not lie after the timestamp"),
    ):
        if wrong.any():
            first = labelled.filter(wrong).row(0, named=True)
            yield Leak("label_reach", "label_end", first["timestamp"], first["symbol"], rows=int(wrong.sum()), bars_ahead=int(bars.filter(wrong).max()), detail=detail)


def _built(build: Builder, panel: pl.DataFrame, what: str) -> pl.DataFrame:
    try:
        table = checked_table(build(panel), "the label builder under audit")
    except AuditError:
        raise
    except AlphaloopError as error:
        raise AuditError(f"The label builder under audit refused {what}: {error}") from error
    except Exception as error:
        raise AuditError(
            f"The label builder under audit failed on {what} ({len(panel):,} rows): {type(error).__name__}: {error}. It has to work on any stretch of the panel."
        ) from error
    missing = [name for name in ("horizon", "label_end") if name not in table.columns]
    if missing:
        raise AuditError(f"The label builder under audit gave no column {missing[0]!r} (found: {', '.join(table.columns)}). It has to return a LABELS table.")
    return in_order(table, KEY)
