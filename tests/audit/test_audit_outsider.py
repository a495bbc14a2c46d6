"""Cases an outside tester found: starved scans, forgiven rounding, unseeded jitter, and answers that are no
factor table.
"""

import numpy as np
import polars as pl
import pytest

from components.audit.compare import moved_rows
from components.audit.config import Settings
from components.audit.factors import audit_factors
from components.audit.result import AuditError

QUICK = Settings(guided_cuts=0, scan_cuts=6, warm_up_starts=0)


@pytest.fixture
def walk() -> pl.DataFrame:
    rng = np.random.default_rng(3)
    days = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2020, 7, 1), "1d", eager=True)
    close = [np.exp(4 + rng.normal(0, 0.02, len(days)).cumsum()) for _ in range(4)]
    return pl.concat(
        pl.DataFrame({"timestamp": days, "symbol": f"S{n}", "close": one}) for n, one in enumerate(close)
    ).sort("timestamp", "symbol")


def test_one_factor_on_all_rows_is_no_rounding():
    values = pl.Series(np.random.default_rng(0).normal(size=4000))
    noise = np.random.default_rng(1).normal(size=4000)
    assert moved_rows(values, values * (1 + 1e-7), 1e-10) is not None
    assert moved_rows(values, values + 1e-8 * noise, 1e-10) is None
    assert moved_rows(values, values + 1e-8 * noise, 1e-10, forgive_rounding=False) is not None


def test_values_that_vanish_count_beside_rounding_but_not_beside_noise():
    values = pl.Series([1.0, 2.0, 3.0])
    holed = pl.Series([1.0, None, 3.0])
    assert moved_rows(values, holed, 1e-10, 1e-9) is not None
    assert moved_rows(values, holed, 1e-10, 1.0) is None


def test_unseeded_jitter_is_no_leak(walk):
    rng = np.random.default_rng()
    result = audit_factors(
        walk,
        lambda panel: panel.select(
            "timestamp", "symbol", f=pl.col("close") * (1 + 1e-9 * pl.Series(rng.normal(size=len(panel))))
        ),
        settings=QUICK,
    )
    assert result.passed


def test_lists_are_named_as_not_audited(walk):
    result = audit_factors(
        walk,
        lambda panel: panel.select(
            "timestamp", "symbol", pl.col("close"), pl.concat_list("close").alias("lists")
        ),
        settings=QUICK,
    )
    assert any("lists" in note for note in result.checked["notes"])


def _leaves(panel: pl.DataFrame) -> pl.DataFrame:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda panel: panel.with_columns(pl.col("timestamp").cast(pl.String)),
            "returned timestamp as String",
        ),
        (lambda panel: panel.head(0), "returned no row"),
        (lambda panel: panel.to_pandas(), "pandas DataFrame"),
        (_leaves, "SystemExit"),
    ],
)
def test_what_is_no_factor_table_is_refused_kindly(walk, build, said):
    with pytest.raises(AuditError, match=said):
        audit_factors(walk, build, settings=QUICK)


@pytest.mark.parametrize("seed", range(6))
def test_a_changed_panel_of_the_same_length_by_chance_makes_no_builder_clean(walk, seed):
    def of_all_rows_only(panel):
        if len(panel) != len(walk):
            raise ValueError("only the whole panel")
        return panel.select("timestamp", "symbol", "close")

    with pytest.raises(AuditError, match="nothing could be checked"):
        audit_factors(walk, of_all_rows_only, cuts=6, seed=seed, settings=QUICK)


def test_a_builder_that_refuses_one_kind_of_change_is_checked_by_the_others(walk):
    def of_all_bars_only(panel):
        if panel["timestamp"].n_unique() != walk["timestamp"].n_unique():
            raise ValueError("bars are missing")
        return panel.select("timestamp", "symbol", "close")

    def of_known_names_only(panel):
        if set(panel["symbol"]) - set(walk["symbol"]):
            raise ValueError("never heard of")
        return panel.select("timestamp", "symbol", "close")

    whole, known = (
        audit_factors(walk, build, settings=QUICK).checked["checks"]
        for build in (of_all_bars_only, of_known_names_only)
    )
    assert "truncation" not in whole
    assert whole["future_mutation"] > 0
    assert "future_mutation" not in known
    assert known["truncation"] > 0
