"""Missing values are judged by how many there are, and by nothing else: a training window held against itself
is no drift whatever it lacks, and a rise of what is missing is found and called that.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import CatalogEntry
from components.drift.config import Settings
from components.drift.detect import detect
from components.drift.reference import make_reference, read_reference
from components.drift.warm_up import own_bars
from components.timeline import Settings as TimelineSettings

SYMBOLS, BARS, WINDOW = 40, 400, 60
SETTINGS = Settings(auc_windows=0, sample_rows=500)
WARM_UP = {"quick": 1, "slow": 120, "sparse": 1, "patchy": 1}


def market(seed: int, *, listed_late: int = 0) -> pl.DataFrame:
    """Bars, symbols and factors: `quick` always there, `slow` after 120 bars of the symbol, `sparse` for a
    random three quarters of the symbols alone, `patchy` with gaps that cluster and grow more frequent.

    `listed_late` symbols begin somewhere in the newest 100 bars.
    """
    rng = np.random.default_rng(seed)
    start = datetime(2021, 1, 4, 21, tzinfo=UTC)
    moments = [start + timedelta(days=k) for k in range(BARS)]
    begins = np.zeros(SYMBOLS, dtype=int)
    if listed_late:
        begins[-listed_late:] = rng.integers(BARS - 100, BARS - 10, listed_late)
    bar, symbol = (grid.ravel() for grid in np.meshgrid(np.arange(BARS), np.arange(SYMBOLS), indexing="ij"))
    age = bar - begins[symbol] + 1
    covered = rng.permutation(SYMBOLS) < 3 * SYMBOLS // 4
    gap = rng.random((BARS // 5, SYMBOLS)) < np.linspace(0.02, 0.12, BARS // 5)[:, None]
    there = {
        "quick": np.ones(len(bar), bool),
        "slow": age > WARM_UP["slow"],
        "sparse": covered[symbol],
        "patchy": ~gap[bar // 5, symbol],
    }
    noise = rng.normal(size=(len(there), BARS, SYMBOLS)).astype(np.float32)
    values = {
        name: np.where(known, noise[k].ravel(), np.nan) for k, (name, known) in enumerate(there.items())
    }
    rows = pl.DataFrame(
        {
            "timestamp": pl.Series(moments, dtype=pl.Datetime("us", "UTC"))[bar],
            "symbol": [f"S{k:02d}" for k in symbol],
            **values,
            "regime_state": (bar // 20 % 3).astype(np.float32),
            "score": 0.01 * noise[0].ravel().astype(float),
        }
    )
    return rows.filter(pl.Series(age > 0)).with_columns(pl.col(list(WARM_UP)).fill_nan(None))


def reference_of(rows: pl.DataFrame, folder):
    """The reference of all rows; the stack is said to have scored the newest third."""
    entries = [
        *(CatalogEntry(name, name, "style", "input", "none", bars, "", "") for name, bars in WARM_UP.items()),
        CatalogEntry("regime_state", "regime_state", "regime", "context", "none", 1, "", ""),
    ]
    about = {"expert": "stack", "period": "1d", "target": "log_return"}
    said = rows.filter(pl.col("timestamp") >= rows["timestamp"].unique().sort()[2 * BARS // 3]).select(
        "timestamp",
        "symbol",
        "score",
        *(pl.lit(value).alias(name) for name, value in about.items()),
        horizon=pl.lit(2, dtype=pl.Int32),
    )
    labels = rows.select(
        "timestamp", "symbol", horizon=pl.lit(2, dtype=pl.Int32), log_return=pl.col("score") * 2
    )
    make_reference(rows.drop("score"), labels, said, entries, SETTINGS, TimelineSettings(), folder)
    return folder


def newest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("timestamp") >= rows["timestamp"].unique().sort()[-WINDOW])


def fired(folder, rows: pl.DataFrame) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What is said of each column that moved, and by which rules."""
    result = detect(folder, rows, None, SETTINGS)
    return {entry.column: (entry.what, entry.rules) for entry in result.columns if entry.drifted}


@pytest.mark.parametrize("seed", range(20))
def test_the_training_windows_own_newest_bars_are_no_drift(seed, tmp_path):
    rows = market(seed, listed_late=seed % 3 * 6)
    folder = reference_of(rows, tmp_path)
    result = detect(folder, newest(rows), None, SETTINGS)
    assert result.verdict == "no_drift", result.reason


def lost(share: float, column: str, seed: int):
    """Values that go in so large a share of the rows, at random."""
    return lambda rows: rows.with_columns(
        pl.when(pl.Series(np.random.default_rng(seed).random(len(rows)) >= share))
        .then(pl.col(column))
        .alias(column)
    )


@pytest.mark.parametrize("column", list(WARM_UP))
@pytest.mark.parametrize("share", [0.35, 1.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_rise_of_what_is_missing_is_found_and_called_that(column, share, seed, tmp_path):
    rows = market(seed, listed_late=6)
    folder = reference_of(rows, tmp_path)
    assert fired(folder, lost(share, column, seed)(newest(rows))) == {column: ("missing", ("missing",))}


def test_a_shift_of_what_is_there_is_no_rise_of_what_is_missing(tmp_path):
    rows = market(5)
    folder = reference_of(rows, tmp_path)
    moved = newest(rows).with_columns((pl.col("patchy") + 1).cast(pl.Float32))
    found = fired(folder, moved)
    assert list(found) == ["patchy"]
    assert found["patchy"][0] == "mean"
    assert "missing" not in found["patchy"][1]


def test_both_at_once_are_both_said(tmp_path):
    rows = market(6)
    folder = reference_of(rows, tmp_path)
    moved = newest(rows).with_columns((pl.col("quick") + 1).cast(pl.Float32))
    _, rules = fired(folder, lost(0.4, "quick", 1)(moved))["quick"]
    assert {"ks", "psi", "missing"} <= set(rules)


def test_a_young_symbol_lacks_nothing(tmp_path):
    """New symbols after the training, half of the market: what they can't have yet is not missing, the rest
    is."""
    rows = market(7)
    late = newest(rows)
    folder = reference_of(rows.join(late, on=["timestamp", "symbol"], how="anti"), tmp_path)
    young = late.filter(pl.col("symbol") < "S20").with_columns(
        ("N" + pl.col("symbol")).alias("symbol"), pl.lit(None, pl.Float32).alias("slow")
    )
    both = pl.concat([late, young])
    assert fired(folder, both) == {}
    without = pl.concat([late, young.with_columns(pl.lit(None, pl.Float32).alias("quick"))])
    assert fired(folder, without) == {"quick": ("missing", ("missing",))}


def test_bars_of_a_symbol_go_on_counting_after_the_training(tmp_path):
    rows = market(8, listed_late=2).sort("timestamp", "symbol")
    calendar = rows["timestamp"].unique().sort()
    about = read_reference(reference_of(rows.filter(pl.col("timestamp") <= calendar[-11]), tmp_path)).about
    whole = rows.select(pl.int_range(1, pl.len() + 1).over("symbol")).to_series()
    for first, last in ((-30, -5), (-10, -1), (-4, -1)):
        part = pl.col("timestamp").is_between(calendar[first], calendar[last])
        known = rows.with_columns(whole.alias("own")).filter(part)
        assert own_bars(known.drop("own"), about).tolist() == known["own"].to_list()
    nameless = rows.drop("symbol")
    assert (own_bars(nameless, about) > BARS).all()
