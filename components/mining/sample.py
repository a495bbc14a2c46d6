"""The rows that mining may use: validation bars whose label was known before the test window, split in time
into a mining part and a hold-out.

The current stack at a row is a weighted mean of the single experts' out-of-fold scores, each ranked within
the bar. The stacker's own scores are not used: which combiner it uses was decided with the labels of the
whole validation window. The weights are not negative and are fitted in the mining part alone.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import AlphaloopError, inputs_of, of_task
from components.mining.config import Settings
from components.mining.ranks import by_bar, unit_ranks, unit_values
from components.mining.tables import RunTables
from components.timeline import Settings as TimelineSettings
from components.timeline import bar_index, resolve_windows
from components.timeline.entry import label_reach

COMBINERS = ("equal_weights", "best_single", "performance_weights", "stack")
KEY = ["timestamp", "symbol"]
# Symbols with label and scores below which a bar does not count.
MIN_SYMBOLS = 8


class MiningError(AlphaloopError):
    """Tables, experts or windows do not allow mining."""


@dataclass(frozen=True)
class Part:
    """Rows sorted by bar; arrays of shape (rows,) unless marked.

    `starts` (bars + 1,) are the bars' first rows. `label` and `stack` are ranked or standardised within the
    bar, length 1. `returns` is the label as it is. `inputs` (rows, columns) Float32, NaN where missing.
    """

    timestamps: pl.Series  # (bars,)
    symbols: pl.Series
    starts: np.ndarray
    returns: np.ndarray
    label: np.ndarray
    stack: np.ndarray
    inputs: np.ndarray

    @property
    def bars(self) -> int:
        return len(self.starts) - 1

    def of_bars(self, chosen: np.ndarray) -> "Part":
        """The part that holds only the bars at these positions (sorted)."""
        sizes = np.diff(self.starts)
        rows = np.repeat(np.isin(np.arange(self.bars), chosen), sizes)
        starts = np.concatenate([[0], np.cumsum(sizes[chosen])])
        return Part(
            self.timestamps[chosen],
            self.symbols.filter(pl.Series(rows)),
            starts,
            self.returns[rows],
            self.label[rows],
            self.stack[rows],
            self.inputs[rows],
        )


@dataclass(frozen=True)
class Sample:
    """What is mined in and judged on.

    `columns` name `inputs`; `weights` are the stack's, by expert; `note` says why there is nothing to mine,
    or is empty.
    """

    mining: Part | None
    holdout: Part | None
    columns: tuple[str, ...]
    weights: dict[str, float]
    reach_bars: int
    note: str = ""


def draw_sample(
    tables: RunTables, settings: Settings, timeline: TimelineSettings, *, horizon: int, target: str
) -> Sample:
    """The mining part and the hold-out of the validation window.

    A row counts where it has a label that was known before the test window and a score of every expert; a bar
    where it has `MIN_SYMBOLS` of them. Inputs that are equal for all symbols of every bar are left out: they
    order nothing, and a few months hold too few of their values to learn what depends on them.

    Raises
    ------
    MiningError
        If the target or an expert does not exist, or no expert is left.
    """
    calendar = tables.training_set["timestamp"].unique().sort()
    windows = resolve_windows(calendar, timeline)
    first, first_test = calendar[windows.validation[0]], calendar[windows.test[0]]
    inside = pl.col("timestamp").is_between(first, calendar[windows.validation[1] - 1])
    known = _known_labels(tables.labels.filter(inside), horizon, target, first_test)
    scores = _scores(of_task(tables.predictions, target, horizon).filter(inside), settings)
    experts = [name for name in scores.columns if name not in KEY]
    rows = tables.training_set.filter(inside).join(known, on=KEY).join(scores, on=KEY).sort(KEY)
    rows = rows.filter(pl.len().over("timestamp") >= MIN_SYMBOLS)
    columns = _varying([entry.column for entry in inputs_of(tables.catalog, "rich")], rows)
    reach = label_reach(horizon)
    bars = rows["timestamp"].unique().sort()
    held = int(len(bars) * settings.holdout_share)
    embargo_bars = timeline.embargo(int(tables.labels["horizon"].max()))
    mined = len(bars) - held - max(timeline.purge_bars, reach) - embargo_bars
    note = _too_little(held, mined, columns, settings, reach)
    if note:
        return Sample(None, None, tuple(columns), {}, reach, note)
    older = rows.filter(
        (pl.col("timestamp") <= bars[mined - 1]) & (pl.col("label_end") < bars[len(bars) - held])
    )
    newer = rows.filter(pl.col("timestamp") >= bars[len(bars) - held])
    weights = _stack_weights(older, experts)
    parts = [_part(frame, columns, weights) for frame in (older, newer)]
    return Sample(*parts, tuple(columns), weights, reach)


def _too_little(held: int, mined: int, columns: list[str], settings: Settings, reach: int) -> str:
    if held < settings.min_holdout_bars:
        return (
            f"the hold-out has {held} bars, fewer than mining.min_holdout_bars={settings.min_holdout_bars};"
            " lengthen the validation window"
        )
    needed = settings.folds * 4 * reach
    if mined < needed:
        return (
            f"the mining part has {max(mined, 0)} bars, fewer than the {needed} that {settings.folds} folds"
            " need; lengthen the validation window or lower mining.folds"
        )
    return "" if len(columns) > 1 else f"{len(columns)} inputs differ between symbols, two are needed"


def _scores(predictions: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One column an expert, rows that all of them predicted."""
    found = sorted(predictions["expert"].unique())
    wanted = list(settings.experts) or [
        name for name in found if name not in COMBINERS and not name.startswith("z_")
    ]
    missing = [name for name in wanted if name not in found]
    if missing or not wanted:
        what = f"mining.experts names {missing[0]!r}, which has" if missing else "No single expert has"
        raise MiningError(
            f"{what} no predictions in the validation window (found: {', '.join(found) or 'none'}). Train it"
            " first, or name others in mining.experts."
        )
    wide = predictions.filter(pl.col("expert").is_in(wanted) & pl.col("score").is_finite()).pivot(
        on="expert", index=KEY, values="score"
    )
    return wide.select(*KEY, *wanted).drop_nulls()


def _known_labels(labels: pl.DataFrame, horizon: int, target: str, first_test) -> pl.DataFrame:
    if target not in labels.columns:
        raise MiningError(
            f"The labels have no column {target!r} (found: {', '.join(labels.columns)}). Set labels.target to"
            " one of them."
        )
    chosen = labels.filter((pl.col("horizon") == horizon) & (pl.col("label_end") < first_test))
    return chosen.select(*KEY, "label_end", pl.col(target).cast(pl.Float64).alias("label")).filter(
        pl.col("label").is_finite()
    )


def _varying(columns: list[str], rows: pl.DataFrame) -> list[str]:
    if rows.is_empty():
        return []
    spread = (
        rows.group_by("timestamp")
        .agg((pl.col(columns).max() > pl.col(columns).min()).fill_null(False))
        .select(pl.col(columns).mean())
    )
    return [name for name in columns if spread[name].item() > 0.5]


def _stack_weights(rows: pl.DataFrame, experts: list[str]) -> dict[str, float]:
    """Non-negative least squares of the ranked label on the ranked scores; equal weights where none helps."""
    from scipy.optimize import nnls

    starts = _starts(rows)
    design = np.stack([unit_ranks(rows[name].to_numpy(), starts) for name in experts], axis=1)
    weights = nnls(design, unit_ranks(rows["label"].to_numpy(), starts))[0]
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(experts), 1 / len(experts))
    return dict(zip(experts, (float(weight) for weight in weights), strict=True))


def _part(rows: pl.DataFrame, columns: list[str], weights: dict[str, float]) -> Part:
    starts = _starts(rows)
    score = sum(weight * unit_ranks(rows[name].to_numpy(), starts) for name, weight in weights.items())
    returns = rows["label"].to_numpy()
    inputs = (
        rows.select(pl.when(pl.col(columns).is_finite()).then(pl.col(columns)).otherwise(float("nan")))
        .to_numpy(order="fortran")
        .astype(np.float32, copy=False)
    )
    return Part(
        rows["timestamp"].unique().sort(),
        rows["symbol"],
        starts,
        returns,
        unit_ranks(returns, starts),
        unit_values(score, starts),
        inputs,
    )


def _starts(rows: pl.DataFrame) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(bar_index(rows["timestamp"])[1]))])


def residual(part: Part, slope: float) -> np.ndarray:
    """What the stack leaves of the label's ranks, length 1 in each bar; shape (rows,)."""
    return unit_values(part.label - slope * part.stack, part.starts)


def stack_slope(part: Part) -> float:
    """Slope of the label's ranks on the stack over all bars, at least 0."""
    return max(float(by_bar(part.label * part.stack, part.starts).mean()), 0.0)
