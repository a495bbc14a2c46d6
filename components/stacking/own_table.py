"""The audit of anybody's own table of out-of-fold predictions: what a combiner must not be trained on."""

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from components.contracts import SECTOR_COLUMN
from components.stacking.oof import MAX_GAP_BARS, MIN_ROW_SHARE

SCORE, UNCERTAINTY = "score_", "uncertainty_"
TASK = ["target", "horizon"]
KNOWN = (
    "timestamp",
    "symbol",
    "period",
    "horizon",
    "target",
    "fold",
    "label",
    "label_end",
    "log_return",
    "regime",
    SECTOR_COLUMN,
)
# A bar with a smaller share of the usual number of rows lacks rows that others have.
THIN_BAR_SHARE = 0.5
# A step is odd beyond so many times the longest step that is usual (nights, weekends), and only where bars
# enough for a lost fold would have fit.
USUAL_STEP_QUANTILE, ODD_STEPS = 0.99, 2.0


@dataclass(frozen=True)
class OwnTableAudit:
    """`faults` forbid to learn from the table, a sentence each; `notes` are worth a look."""

    rows: int
    bars: int
    symbols: int
    experts: list[str]
    first: str
    last: str
    faults: list[str]
    notes: list[str]


def audit_own_table(table: pl.DataFrame) -> OwnTableAudit:
    """Columns, duplicates, time going back, missing scores and rows, odd gaps, labels known too early.

    Parameters
    ----------
    table : long, with `timestamp` (a date or datetime), `symbol` and a column `score_<expert>` each; where it
        has them `target` and `horizon` (a task; each is audited by itself), `label`, `label_end`,
        `uncertainty_<expert>`, `regime`
    """
    if odd := _odd_tasks(table):
        return _told(table, odd, [])
    if all(name in table.columns for name in TASK) and table.select(TASK).n_unique() > 1:
        return _by_task(table)
    scores = [name for name in table.columns if name.startswith(SCORE)]
    numeric = [name for name in scores if table.schema[name].is_numeric()]
    checks = (
        _columns(table, scores, numeric),
        _duplicates(table),
        _backwards(table),
        _missing_scores(table, numeric),
        _thin_bars(table),
        _holes(table),
        _gaps(table),
        _odd_labels(table),
        _labels(table),
    )
    return _told(table, [fault for found in checks for fault in found], _notes(table, numeric))


def _by_task(table: pl.DataFrame) -> OwnTableAudit:
    """A table of several tasks: each by itself, without the scores that it has none of."""
    found = {
        f"{target} over {horizon} bars": audit_own_table(_without_empty_scores(rows))
        for (target, horizon), rows in table.group_by(TASK, maintain_order=True)
    }
    empty = set(table.columns) - set(_without_empty_scores(table).columns)
    nowhere = [f"{name} has no value in any task" for name in table.columns if name in empty]
    return _told(
        table,
        [*nowhere, *(f"{task}: {fault}" for task, one in found.items() for fault in one.faults)],
        [f"{task}: {note}" for task, one in found.items() for note in one.notes],
    )


def _told(table: pl.DataFrame, faults: list[str], notes: list[str]) -> OwnTableAudit:
    moments = table["timestamp"]
    return OwnTableAudit(
        rows=len(table),
        bars=moments.n_unique(),
        symbols=table["symbol"].n_unique(),
        experts=[name.removeprefix(SCORE) for name in table.columns if name.startswith(SCORE)],
        first=str(moments.min()),
        last=str(moments.max()),
        faults=faults,
        notes=notes,
    )


def _odd_tasks(table: pl.DataFrame) -> list[str]:
    """Rows of which nobody can tell what they predict: nothing else can be looked at before."""
    if "target" in table.columns and table.schema["target"] not in (pl.String, pl.Categorical, pl.Enum):
        return [f"column target has type {table.schema['target']}, expected the names of labels"]
    if "horizon" in table.columns and not table.schema["horizon"].is_numeric():
        return [f"column horizon has type {table.schema['horizon']}, expected a number of bars"]
    odd = {name: pl.col(name).is_null() for name in TASK if name in table.columns}
    if "horizon" in odd:
        odd["horizon"] |= ~(pl.col("horizon").cast(pl.Float64).is_finite() & (pl.col("horizon") >= 1))
    rows = {name: table.filter(wrong) for name, wrong in odd.items()}
    words = {"target": "name a label", "horizon": "give a number of bars, 1 or more"}
    return [
        f"{name}: {len(found):,} values are none, first {_at(found)}: {words[name]}"
        for name, found in rows.items()
        if len(found)
    ]


def _without_empty_scores(rows: pl.DataFrame) -> pl.DataFrame:
    names = [name for name in rows.columns if name.startswith((SCORE, UNCERTAINTY))]
    return rows.drop([name for name in names if rows[name].null_count() == len(rows)])


def _columns(table: pl.DataFrame, scores: list[str], numeric: list[str]) -> list[str]:
    found = []
    if not len(table):
        found.append("the table has no rows")
    if not scores:
        found.append(
            f"no column {SCORE}<expert> (found: {', '.join(table.columns[:12])}): name each expert's"
            f" predictions {SCORE} and its name"
        )
    if SCORE in scores:
        found.append(f"column {SCORE} has no expert's name after {SCORE}")
    for name in sorted(set(scores) - set(numeric)):
        found.append(f"column {name} has type {table.schema[name]}, expected numbers")
    for name in ("label", SECTOR_COLUMN, *(f"{UNCERTAINTY}{one.removeprefix(SCORE)}" for one in scores)):
        if name in table.columns and not table.schema[name].is_numeric():
            found.append(f"column {name} has type {table.schema[name]}, expected numbers")
    return found


def _key(table: pl.DataFrame) -> list[str]:
    return [name for name in ("timestamp", "symbol", "horizon") if name in table.columns]


def _duplicates(table: pl.DataFrame) -> list[str]:
    key = _key(table)
    repeated = table.filter(pl.struct(key).is_duplicated())
    if repeated.is_empty():
        return []
    return [f"{len(repeated):,} rows repeat a ({', '.join(key)}), first {_at(repeated)}"]


def _backwards(table: pl.DataFrame) -> list[str]:
    back = table.filter(pl.col("timestamp") < pl.col("timestamp").shift(1))
    return (
        [] if back.is_empty() else [f"time goes back at {len(back):,} rows, first {_at(back)}: sort by time"]
    )


def _missing_scores(table: pl.DataFrame, numeric: list[str]) -> list[str]:
    found = []
    for name in numeric:
        absent = table.filter(~pl.col(name).cast(pl.Float64).is_finite().fill_null(False))
        if len(absent):
            found.append(f"{name}: {len(absent):,} values are missing or not finite, first {_at(absent)}")
    return found


def _thin_bars(table: pl.DataFrame) -> list[str]:
    sizes = table.group_by("timestamp").len().sort("timestamp")
    usual = sizes["len"].median() or 0
    thin = sizes.filter(pl.col("len") < THIN_BAR_SHARE * usual)
    if thin.is_empty():
        return []
    return [
        f"{len(thin):,} bars have fewer than half of the usual {usual:.0f} rows, first"
        f" {thin['timestamp'][0]} with {thin['len'][0]}"
    ]


def _holes(table: pl.DataFrame) -> list[str]:
    """Rows that a symbol lacks between its first and its last one."""
    places = table.select("symbol", place=pl.col("timestamp").rank("dense")).unique()
    spans = places.group_by("symbol").agg(
        rows=pl.len(), span=pl.col("place").max() - pl.col("place").min() + 1
    )
    rows, span = int(spans["rows"].sum()), int(spans["span"].sum())
    if not span or rows >= MIN_ROW_SHARE * span:
        return []
    worst = spans.sort(pl.col("rows") / pl.col("span"), "symbol").row(0, named=True)
    return [
        f"{1 - rows / span:.0%} of the rows between symbols' first and last ones are missing,"
        f" {1 - MIN_ROW_SHARE:.0%} may be; most in {worst['symbol']}: {worst['rows']} of {worst['span']} bars"
    ]


def _gaps(table: pl.DataFrame) -> list[str]:
    moments = table.select(pl.col("timestamp").unique().sort().cast(pl.Datetime("us")))["timestamp"]
    steps = moments.diff().drop_nulls()
    if len(steps) < 2:
        return []
    usual = steps.dt.total_microseconds().quantile(USUAL_STEP_QUANTILE, "lower")
    rate = len(steps) / steps.sum().total_seconds() / 1e6
    odd = pl.DataFrame({"before": moments[:-1], "after": moments[1:], "step": steps.dt.total_microseconds()})
    odd = odd.with_columns(lost=pl.col("step") * rate - 1).filter(
        (pl.col("step") > ODD_STEPS * usual) & (pl.col("lost") > MAX_GAP_BARS)
    )
    if odd.is_empty():
        return []
    before, after, _, lost = odd.row(0)
    return [
        f"{len(odd)} odd gap{'s' if len(odd) > 1 else ''} in time, first from {before} to {after}, where"
        f" about {lost:.0f} bars would fit and steps are seldom longer than {timedelta(microseconds=usual)}:"
        " look for a fold that is missing"
    ]


def _odd_labels(table: pl.DataFrame) -> list[str]:
    if "label" not in table.columns or not table.schema["label"].is_numeric():
        return []
    odd = table.filter(~pl.col("label").cast(pl.Float64).is_finite())
    if odd.is_empty():
        return []
    return [
        f"label: {len(odd):,} values are NaN or infinite, first {_at(odd)}: a label not known yet is null"
    ]


def _labels(table: pl.DataFrame) -> list[str]:
    if "label_end" not in table.columns:
        return []
    if not table.schema["label_end"].is_temporal():
        return [f"column label_end has type {table.schema['label_end']}, expected a date or datetime"]
    early = table.filter(
        pl.col("label_end").cast(pl.Datetime("us")) <= pl.col("timestamp").cast(pl.Datetime("us"))
    )
    if early.is_empty():
        return []
    return [f"{len(early):,} labels were known at their own bar or before it, first {_at(early)}"]


def _notes(table: pl.DataFrame, numeric: list[str]) -> list[str]:
    notes = [
        f"{name}: the same for all symbols of every bar, no combiner can use it"
        for name in numeric
        if len(table) and (table.group_by("timestamp").agg(pl.col(name).n_unique())[name] <= 1).all()
    ]
    if "label" not in table.columns:
        notes.append(
            "no column label: the predictions can be looked at, but nothing can be learned from them"
        )
    elif table["label"].null_count():
        notes.append(f"{table['label'].null_count():,} rows have no label yet")
    if "label" in table.columns and "label_end" not in table.columns:
        notes.append("no column label_end: nobody can tell when a label was known")
    odd = [name for name in table.columns if name not in KNOWN and not name.startswith((SCORE, UNCERTAINTY))]
    return [*notes, *([f"not looked at: {', '.join(odd[:8])}"] if odd else [])]


def _at(rows: pl.DataFrame) -> str:
    """Where the first of the rows lies."""
    return f"{rows['timestamp'][0]} {rows['symbol'][0]}"
