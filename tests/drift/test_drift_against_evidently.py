"""Our numbers are Evidently's where both mean the same, and where they differ the difference is the one that
is documented.
"""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from components.drift.detect import detect
from components.metrics import ks_p_value, ks_to_sketch, psi_to_sketch, stability_index
from tests.metrics.sketches import quantile_sketch

ROWS, NEW = 2000, 12_000


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    reference = {
        "same": rng.normal(size=ROWS),
        "shifted": rng.normal(size=ROWS),
        "wider": rng.normal(size=ROWS),
        "counts": rng.poisson(20, ROWS),
    }
    current = {
        "same": rng.normal(size=NEW),
        "shifted": rng.normal(0.06, 1, size=NEW),
        "wider": rng.normal(0, 1.1, size=NEW),
        "counts": rng.poisson(20.3, NEW),
    }
    return tuple(
        pd.DataFrame({name: np.asarray(values, dtype=np.float32) for name, values in columns.items()})
        for columns in (reference, current)
    )


def evidently(tables, method: str) -> dict[str, float]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    reference, current = tables
    definition = DataDefinition(numerical_columns=list(reference.columns))
    datasets = [Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference)]
    found = (
        Report([ValueDrift(column=name, method=method) for name in reference.columns]).run(*datasets).dict()
    )
    return {
        name: float(metric["value"]) for name, metric in zip(reference.columns, found["metrics"], strict=True)
    }


def test_ks_p_values_are_evidentlys(tables):
    theirs = evidently(tables, "ks")
    reference, current = tables
    for name, p_value in theirs.items():
        distance = ks_to_sketch(current[name].to_numpy(), quantile_sketch(reference[name].to_numpy()), ROWS)
        assert ks_p_value(distance, ROWS, NEW) == pytest.approx(p_value, rel=1e-6)
    assert min(theirs.values()) < 0.01 < max(theirs.values())


def test_a_whole_check_of_independent_rows_gives_evidentlys_p_values(made, drift_settings):
    # A table without timestamps; the reference's rows count by their effective number, so a column whose
    # ranks are worth all of them is compared.
    current = made.current.drop("timestamp", "symbol", "score").with_columns(pl.col("rank_a") + 0.02)
    found = next(
        entry
        for entry in detect(made.folder, current, None, drift_settings).columns
        if entry.column == "rank_a"
    )
    assert found.effective_rows_in_reference == pytest.approx(len(made.past))
    past = made.past["rank_a"].to_pandas()
    theirs = evidently(
        (pd.DataFrame({"rank_a": past}), pd.DataFrame({"rank_a": current["rank_a"].to_pandas()})), "ks"
    )["rank_a"]
    # Under 10,000 rows SciPy, and so Evidently, computes the p-value exactly where it can.
    assert found.ks_p == pytest.approx(theirs, rel=0.1)


def test_psi_is_evidentlys_in_evidentlys_bins(tables):
    theirs = evidently(tables, "psi")
    reference, current = tables
    for name in ("same", "wider"):
        bins = np.histogram_bin_edges(np.concatenate([reference[name], current[name]]), bins="sturges")
        counts = [np.histogram(frame[name], bins)[0].astype(float) for frame in (reference, current)]
        # An empty bin gets a share of 0.0001 there.
        filled = [np.where(count == 0, 0.0001 * count.sum(), count) for count in counts]
        shares = [count / side.sum() for count, side in zip(filled, counts, strict=True)]
        expected = float(((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum())
        assert theirs[name] == pytest.approx(expected, rel=1e-6)
        if all((count > 0).all() for count in counts):
            assert stability_index(*counts, smoothing=0) == pytest.approx(theirs[name], rel=1e-6)


def test_psi_is_evidentlys_where_no_bin_is_empty():
    rng = np.random.default_rng(1)
    reference, current = (
        pd.DataFrame({"even": rng.uniform(size=size).astype(np.float32)}) for size in (ROWS, NEW)
    )
    bins = np.histogram_bin_edges(np.concatenate([reference["even"], current["even"]]), bins="sturges")
    counts = [np.histogram(frame["even"], bins)[0] for frame in (reference, current)]
    assert stability_index(*counts, smoothing=0) == pytest.approx(
        evidently((reference, current), "psi")["even"], rel=1e-6
    )


def test_evidently_still_ignores_the_number_of_bins():
    """evidentlyai/evidently issue 1400.

    When this fails, the tests that are registered with Evidently may go.
    """
    from evidently.legacy.calculations.stattests.psi import _psi
    from evidently.legacy.core import ColumnType

    rng = np.random.default_rng(2)
    reference, current = pd.Series(rng.normal(size=3000)), pd.Series(rng.normal(0.3, 1, size=3000))
    few, many = (_psi(reference, current, ColumnType.Numerical, 0.1, n_bins=bins)[0] for bins in (3, 60))
    assert few == many
    sketch = quantile_sketch(reference.to_numpy())
    assert psi_to_sketch(current.to_numpy(), sketch, bins=3, rows=3000) != psi_to_sketch(
        current.to_numpy(), sketch, bins=60, rows=3000
    )
