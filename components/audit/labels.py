"""Audits labels and their join with factors: entered after the signal, known at label_end, no factor that
copies the label.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from components.audit.builders import Builder, checked_table
from components.audit.compare import Place, compare, in_order
from components.audit.config import Settings
from components.audit.cuts import Cut, sample_cuts, window
from components.audit.perturb import PRICES, other_future, other_values
from components.audit.result import AuditError, AuditResult, Leak, merge_leaks
from components.contracts import AlphaloopError
from components.timeline import bar_index

KEY = ("timestamp", "symbol", "horizon")
JOIN_BARS = 120
MIN_SYMBOLS = 5
MIN_EFFECTIVE_ROWS = 100
# Bars before a cut that are rebuilt at least, so that betas and volatilities at the cut are known.
LOOKBACK_BARS = 100
BARRIER = ("barrier", "barrier_return", "barrier_end")
# What may know returns up to its own timestamp: barriers are as wide as volatility was, betas and costs are
# estimates at the signal.
OF_THE_PAST = ("beta_neutral_return", *BARRIER, "trade_class", "cost")
# What depends on the prices at entry and exit, besides the past, but on no bar between them.
OF_THE_ENDS = (
    "log_return",
    "direction",
    "trend",
    "return_quantile",
    "sector_neutral_return",
    "beta_neutral_return",
    "trade_class",
    "cost",
)


def audit_labels(
    panel: pl.DataFrame,
    build: Builder,
    *,
    cuts: int = 3,
    seed: int = 0,
    labels: pl.DataFrame | None = None,
    settings: Settings | None = None,
) -> AuditResult:
    """Audit the labels that `build` makes from a panel.

    `build` takes a `PANEL` table and returns a `LABELS` table; `labels` is the table that was handed over,
    built here where left out. Checks: `label_future` and `label_truncation` (labels whose label_end is at or
    before the cut do not depend on later bars, and none exists without its future; a barrier is settled at
    its `barrier_end`, a `cost` at its timestamp, and no beta or cost is taken from the bars between entry and
    exit), `label_entry` (labels at or after the cut do not depend on prices up to the cut; the columns of
    `OF_THE_PAST` may, but only on returns and ranges: at the cut itself they do not move when all prices up
    to it are multiplied by one number), `label_reach` (label_end lies after the timestamp and at most horizon
    + entry_lag_bars bars later, barrier_end between both) and `whole_history` (the table handed over against
      a rebuild). Raises AuditError where `build` fails.
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
        bars = window(panel, calendar, cut.position, max(4 * reach + 20, LOOKBACK_BARS), 2 * reach + 20)
        base = _built(build, bars, f"the bars around {cut.timestamp:%Y-%m-%d %H:%M}")
        rows += 3 * len(base)
        leaks += _label_future(build, bars, base, cut, calendar, settings, rng)
        leaks += _label_entry(build, bars, base, cut, calendar, settings, rng)
        if set(OF_THE_PAST) & set(base.columns):
            rows += len(base.filter(pl.col("timestamp") == cut.timestamp)) * (1 + base["horizon"].n_unique())
            leaks += _label_level(build, bars, base, cut, calendar, settings, rng)
            leaks += _label_between(build, bars, base, cut, calendar, settings, rng)
    if settings.whole_history:
        past = _built(build, panel.filter(pl.col("timestamp") <= sampled[-1].timestamp), "the whole history")
        leaks += _settled(
            labels, past, sampled[-1], Place("whole_history", sampled[-1].timestamp, calendar), settings
        )
        rows += len(past)
    checked = {
        "label_rows_compared": rows,
        "label_columns": len(_targets(labels)),
        "horizons": sorted(labels["horizon"].unique().to_list()),
    }
    return AuditResult(merge_leaks(leaks), checked)


def too_good(
    factors: pl.DataFrame, labels: pl.DataFrame, columns: list[str], settings: Settings
) -> list[Leak]:
    """Factors that rank the symbols of a bar as a label does: mean rank correlation over up to 120 bars
    beyond the limit.

    Judged only where enough independent values stand behind the mean: 5 symbols a bar, and at least 100 of
    symbols times bars after allowing for overlapping labels.
    """
    times = labels.filter(pl.col("log_return").is_not_null())["timestamp"].unique().sort()
    if times.is_empty() or not columns:
        return []
    positions = np.unique(np.linspace(0, len(times) - 1, min(JOIN_BARS, len(times))).astype(int))
    chosen = times.gather(positions)
    spacing = len(times) / len(chosen)
    inputs = factors.filter(pl.col("timestamp").is_in(chosen.implode())).select(
        "timestamp", "symbol", *columns
    )
    ranks = inputs.with_columns(pl.col(columns).fill_nan(None).rank().over("timestamp"))
    leaks = []
    for (horizon,), part in labels.filter(pl.col("timestamp").is_in(chosen.implode())).group_by(
        "horizon", maintain_order=True
    ):
        targets = [name for name in ("log_return", "sector_neutral_return") if name in part.columns]
        joined = ranks.join(
            part.select("timestamp", "symbol", *targets),
            on=["timestamp", "symbol"],
            how="inner",
            maintain_order="left",
            suffix="__label",
        )
        for target in targets:
            source = target if target not in columns else f"{target}__label"
            label = joined.select(pl.col(source).rank().over("timestamp")).to_series().to_numpy()
            leaks += _copies(
                joined,
                label,
                columns,
                f"{target} over {horizon} bars",
                min(1.0, spacing / int(horizon)),
                settings,
            )
    return merge_leaks(leaks)


def _copies(
    joined: pl.DataFrame,
    label: np.ndarray,
    columns: list[str],
    name: str,
    independent: float,
    settings: Settings,
) -> Iterator[Leak]:
    calendar, bars = bar_index(joined["timestamp"])
    for column in columns:
        found, members = _rank_correlation(joined[column].to_numpy(), label, bars, len(calendar))
        usable = np.isfinite(found) & (members >= MIN_SYMBOLS)
        if (members[usable] - 1).sum() * independent < MIN_EFFECTIVE_ROWS:
            continue
        mean = float(found[usable].mean())
        if abs(mean) > settings.too_good_rank_correlation:
            detail = (
                f"Its rank correlation with {name} is {mean:.2f}; more than"
                f" {settings.too_good_rank_correlation:g} is too good to be true"
            )
            yield Leak(
                "too_good",
                column,
                timestamp=calendar[int(np.flatnonzero(usable)[0])],
                rows=int(members[usable].sum()),
                absolute=abs(mean),
                detail=detail,
            )


def _rank_correlation(
    x: np.ndarray, y: np.ndarray, bars: np.ndarray, n_bars: int
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of ranks within each bar (NaN where one does not vary) and the number of
    symbols with both.
    """
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


def _label_future(
    build: Builder,
    bars: pl.DataFrame,
    base: pl.DataFrame,
    cut: Cut,
    calendar: pl.Series,
    settings: Settings,
    rng: np.random.Generator,
) -> list[Leak]:
    changed = _built(
        build,
        other_future(bars, cut.timestamp, rng),
        f"a changed future after {cut.timestamp:%Y-%m-%d %H:%M}",
    )
    leaks = _settled(base, changed, cut, Place("label_future", cut.timestamp, calendar), settings)
    leaks += _settled_before_their_end(
        base, changed, cut, Place("label_future", cut.timestamp, calendar), settings
    )
    shorter = _built(
        build,
        bars.filter(pl.col("timestamp") <= cut.timestamp),
        f"the history up to {cut.timestamp:%Y-%m-%d %H:%M}",
    )
    place = Place("label_truncation", cut.timestamp, calendar)
    leaks += _settled(base, shorter, cut, place, settings)
    for name in _targets(shorter):
        early = shorter.filter(
            pl.col(name).is_not_null()
            & (pl.col("label_end").is_null() | (pl.col("label_end") > cut.timestamp))
        )
        if len(early):
            first = early.row(0, named=True)
            detail = "These labels exist before their future does"
            leaks.append(
                Leak(
                    "label_truncation",
                    name,
                    first["timestamp"],
                    first["symbol"],
                    cut.timestamp,
                    rows=len(early),
                    appeared_or_vanished=len(early),
                    detail=detail,
                )
            )
    return leaks


def _settled(
    base: pl.DataFrame, other: pl.DataFrame, cut: Cut, place: Place, settings: Settings
) -> list[Leak]:
    """Compare the labels that either table holds to be known at the cut; the rest may differ."""
    base, other = (table.filter(pl.col("timestamp") <= cut.timestamp) for table in (base, other))
    if len(base) == len(other) and all(base[name].equals(other[name]) for name in KEY):
        known = ((base["label_end"] <= cut.timestamp).fill_null(False)) | (
            (other["label_end"] <= cut.timestamp).fill_null(False)
        )
        base, other = base.filter(known), other.filter(known)
    else:
        known = pl.concat(
            [table.filter(pl.col("label_end") <= cut.timestamp).select(KEY) for table in (base, other)]
        ).unique()
        base, other = (table.join(known, on=KEY, how="semi").sort(KEY) for table in (base, other))
    return compare(base, other, KEY, [*_targets(base), "label_end"], place, settings.truncation_tolerance)


def _settled_before_their_end(
    base: pl.DataFrame, changed: pl.DataFrame, cut: Cut, place: Place, settings: Settings
) -> list[Leak]:
    """Compare what is settled before label_end, where both tables hold it: barriers that were touched by the
    cut, costs of signals up to it.
    """
    leaks = []
    for columns, settled in ((BARRIER, "barrier_end"), (("cost",), "timestamp")):
        if not set(columns) <= set(base.columns) & set(changed.columns):
            continue
        tables = [
            table.filter(pl.col("timestamp") <= cut.timestamp, pl.col(columns[0]).is_not_null()).select(
                *KEY, *columns
            )
            for table in (base, changed)
        ]
        known = pl.concat(
            [table.filter(pl.col(settled) <= cut.timestamp).select(KEY) for table in tables]
        ).unique()
        both = [
            table.join(known, on=KEY, how="semi").join(other, on=KEY, how="semi").sort(KEY)
            for table, other in (tables, tables[::-1])
        ]
        leaks += compare(*both, KEY, columns, place, settings.mutation_tolerance)
    return leaks


def _label_level(
    build: Builder,
    bars: pl.DataFrame,
    base: pl.DataFrame,
    cut: Cut,
    calendar: pl.Series,
    settings: Settings,
    rng: np.random.Generator,
) -> list[Leak]:
    """Labels at the cut when all prices up to it stood at another level: returns of the past stay as they
    were, and so must the labels.
    """
    past = (bars["timestamp"] <= cut.timestamp).to_numpy()
    changed = _built(
        build, _other_level(bars, past, rng), f"another level of prices up to {cut.timestamp:%Y-%m-%d %H:%M}"
    )
    detail = (
        "It moved when all prices up to its timestamp were multiplied by one number: it compares a price of"
        " the past with a later one"
    )
    return _at_the_cut(
        base, changed, _targets(base), Place("label_entry", cut.timestamp, calendar), detail, settings
    )


def _other_level(panel: pl.DataFrame, chosen: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """Multiply all prices of the chosen rows by a power of two that is the symbol's own (never 1) and divide
    volume by it.

    Returns and ranges within the chosen rows, and traded values, keep every bit; only their level against
    other rows changes.
    """
    symbols = panel["symbol"].unique().sort()
    powers = rng.integers(1, 6, len(symbols)) * rng.choice([-1, 1], len(symbols))
    factor = panel["symbol"].replace_strict(symbols, pl.Series(2.0**powers), return_dtype=pl.Float64)
    factor = pl.Series(np.where(chosen, factor.to_numpy(), 1.0))
    scaled = [
        (pl.col(name) * factor).cast(panel.schema[name])
        for name in (*PRICES, "vwap")
        if name in panel.columns
    ]
    return panel.with_columns(
        *scaled,
        *((pl.col(name) / factor).cast(panel.schema[name]) for name in ("volume",) if name in panel.columns),
    )


def _label_between(
    build: Builder,
    bars: pl.DataFrame,
    base: pl.DataFrame,
    cut: Cut,
    calendar: pl.Series,
    settings: Settings,
    rng: np.random.Generator,
) -> list[Leak]:
    """Labels at the cut, of each horizon, when only the bars between its entry and its exit change."""
    columns = [name for name in OF_THE_ENDS if name in base.columns]
    position = (
        calendar.search_sorted(bars["timestamp"]).cast(pl.Int64).to_numpy()
        - cut.position
        - settings.entry_lag_bars
    )
    detail = (
        "It moved when only bars between its entry and its exit changed: a beta, a scale or a cost is taken"
        " from the horizon itself"
    )
    leaks = []
    for horizon in base["horizon"].unique().sort():
        between = (position > 0) & (position < horizon)
        if between.any():
            changed = _built(
                build, other_values(bars, between, rng), f"other prices after {cut.timestamp:%Y-%m-%d %H:%M}"
            )
            tables = (table.filter(pl.col("horizon") == horizon) for table in (base, changed))
            leaks += _at_the_cut(
                *tables, columns, Place("label_future", cut.timestamp, calendar), detail, settings
            )
    return leaks


def _at_the_cut(
    base: pl.DataFrame,
    changed: pl.DataFrame,
    columns: list[str],
    place: Place,
    detail: str,
    settings: Settings,
) -> list[Leak]:
    tables = (
        table.filter(pl.col("timestamp") == place.cut).select(
            *KEY, *(name for name in columns if name in table.columns)
        )
        for table in (base, changed)
    )
    leaks = compare(*tables, KEY, columns, place, settings.mutation_tolerance)
    return [
        Leak(**{**leak.__dict__, "bars_ahead": None, "bars_before_cut": None, "detail": detail})
        for leak in leaks
    ]


def _label_entry(
    build: Builder,
    bars: pl.DataFrame,
    base: pl.DataFrame,
    cut: Cut,
    calendar: pl.Series,
    settings: Settings,
    rng: np.random.Generator,
) -> list[Leak]:
    past = (bars["timestamp"] <= cut.timestamp).to_numpy()
    changed = _built(
        build, other_values(bars, past, rng), f"other prices up to {cut.timestamp:%Y-%m-%d %H:%M}"
    )
    since = pl.col("timestamp") >= cut.timestamp
    strict = [name for name in _targets(base) if name not in OF_THE_PAST]
    tables = (table.filter(since).drop(OF_THE_PAST, strict=False) for table in (base, changed))
    leaks = compare(
        *tables, KEY, strict, Place("label_entry", cut.timestamp, calendar), settings.mutation_tolerance
    )
    return [Leak(**{**leak.__dict__, "bars_ahead": None, "bars_before_cut": None}) for leak in leaks]


def _reach(labels: pl.DataFrame, calendar: pl.Series, settings: Settings) -> Iterator[Leak]:
    """Labels that end later than purging counts on, or not after their timestamp."""
    labelled = labels.filter(pl.col("label_end").is_not_null())
    start, end = (
        calendar.search_sorted(labelled[name], side="left").cast(pl.Int64)
        for name in ("timestamp", "label_end")
    )
    bars = end - start
    for wrong, detail in (
        (
            bars > labelled["horizon"].cast(pl.Int64) + settings.entry_lag_bars,
            "label_end lies more than horizon + entry lag bars after the timestamp",
        ),
        (labelled["label_end"] <= labelled["timestamp"], "label_end does not lie after the timestamp"),
    ):
        if wrong.any():
            first = labelled.filter(wrong).row(0, named=True)
            yield Leak(
                "label_reach",
                "label_end",
                first["timestamp"],
                first["symbol"],
                rows=int(wrong.sum()),
                bars_ahead=int(bars.filter(wrong).max()),
                detail=detail,
            )
    if {"barrier", "barrier_end"} <= set(labels.columns):
        end = pl.col("barrier_end")
        inside = (end > pl.col("timestamp")) & (end <= pl.col("label_end"))
        wrong = labels.filter(pl.col("barrier").is_not_null() & ~inside.fill_null(False))
        if len(wrong):
            first = wrong.row(0, named=True)
            yield Leak(
                "label_reach",
                "barrier_end",
                first["timestamp"],
                first["symbol"],
                rows=len(wrong),
                detail="barrier_end does not lie between the timestamp and label_end",
            )


def _built(build: Builder, panel: pl.DataFrame, what: str) -> pl.DataFrame:
    try:
        table = checked_table(build(panel), "the label builder under audit")
    except AuditError:
        raise
    except AlphaloopError as error:
        raise AuditError(f"The label builder under audit refused {what}: {error}") from error
    except Exception as error:
        raise AuditError(
            f"The label builder under audit failed on {what} ({len(panel):,} rows): {type(error).__name__}:"
            f" {error}. It has to work on any stretch of the panel."
        ) from error
    missing = [name for name in ("horizon", "label_end") if name not in table.columns]
    if missing:
        raise AuditError(
            f"The label builder under audit gave no column {missing[0]!r} (found:"
            f" {', '.join(table.columns)}). It has to return a LABELS table."
        )
    return in_order(table, KEY)
