"""The label audit: wrong entries, labels that look too far and factors that copy a label are caught; the
product's labels pass.
"""

from functools import partial

import numpy as np
import polars as pl
import pytest

from components.audit.labels import audit_labels
from components.audit.result import AuditError
from components.audit.too_good import too_good
from components.labels.build import build_labels
from components.labels.config import Settings as LabelSettings

CLOSE = pl.col("close")


def labels_by(entry: pl.Expr, leave: pl.Expr, end_bars: int = 6, horizon: int = 5):
    """A builder of log(leave / entry), each an expression over one symbol's bars, known `end_bars` later."""

    def build(panel: pl.DataFrame) -> pl.DataFrame:
        value = (leave / entry).log().over("symbol")
        end = pl.col("timestamp").shift(-end_bars).over("symbol")
        table = panel.select(
            "timestamp",
            "symbol",
            pl.lit(horizon, pl.Int32).alias("horizon"),
            end.alias("label_end"),
            value.alias("log_return"),
        )
        return table.with_columns(
            pl.when(pl.col("log_return").is_not_null()).then("label_end").alias("label_end")
        )

    return build


def everywhere(market, seed: int) -> pl.DataFrame:
    """A market in which every symbol has every bar, so that shifts by symbol count calendar bars."""
    panel = market(seed)
    return panel.filter(pl.len().over("symbol") == panel["timestamp"].n_unique())


RIGHT = labels_by(CLOSE.shift(-1), CLOSE.shift(-6))
WRONG = {
    "entered at the signal's own close": (labels_by(CLOSE, CLOSE.shift(-6)), "label_entry"),
    "entered at the signal's own open": (labels_by(pl.col("open"), CLOSE.shift(-6)), "label_entry"),
    "looks further than its label_end": (labels_by(CLOSE.shift(-1), CLOSE.shift(-8)), "label_future"),
    "ends later than purging counts on": (
        labels_by(CLOSE.shift(-1), CLOSE.shift(-9), end_bars=9),
        "label_reach",
    ),
    "ends before it begins": (labels_by(CLOSE.shift(-1), CLOSE.shift(-6), end_bars=0), "label_reach"),
    "fills the missing future": (
        labels_by(CLOSE.shift(-1), CLOSE.shift(-6).fill_null(CLOSE.last())),
        "label_truncation",
    ),
    "scaled by the whole history": (
        labels_by(CLOSE.shift(-1), CLOSE.shift(-6) * CLOSE.mean()),
        "label_future",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_wrong_label_is_caught_by_its_check(kind, seed, market):
    build, check = WRONG[kind]
    result = audit_labels(everywhere(market, seed), build, seed=seed)
    assert check in {leak.check for leak in result.leaks}
    assert {leak.factor for leak in result.leaks} <= {"log_return", "label_end"}


@pytest.mark.parametrize("seed", range(4))
def test_right_labels_raise_no_alarm(seed, market):
    assert audit_labels(everywhere(market, seed), RIGHT, seed=seed).leaks == []
    for entry in ("next_open", "next_close"):
        result = audit_labels(
            market(seed), partial(build_labels, settings=LabelSettings(entry=entry)), seed=seed
        )
        assert [leak.sentence() for leak in result.leaks] == []
        assert result.checked["horizons"] == [1, 5, 10]
        assert result.checked["label_rows_compared"] > 10_000


def with_flags(panel: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The panel with the columns that validation adds where bars could not be traded, or a step in price is
    not believed.
    """
    rng = np.random.default_rng(seed)
    shares = {"unbuyable": 0.01, "unsellable": 0.01, "level_step": 0.002}
    return panel.with_columns(
        pl.Series(name, rng.random(len(panel)) < share) for name, share in shares.items()
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_bars_without_orders_and_steps_raise_no_alarm(seed, market):
    panel = with_flags(market(seed), seed)
    result = audit_labels(panel, partial(build_labels, settings=LabelSettings()), seed=seed)
    assert [leak.sentence() for leak in result.leaks] == []


@pytest.mark.parametrize("kind", ["looks further than its label_end", "scaled by the whole history"])
def test_wrong_labels_are_caught_beside_these_columns(kind, market):
    build, check = WRONG[kind]
    result = audit_labels(with_flags(everywhere(market, 0), 0), build, seed=0)
    assert check in {leak.check for leak in result.leaks}


def test_a_table_that_its_builder_does_not_give_is_caught(market):
    panel, build = market(0), partial(build_labels, settings=LabelSettings())
    other = build_labels(panel, LabelSettings(entry="next_close"))
    leaks = audit_labels(panel, build, seed=0, labels=other).leaks
    assert {(leak.check, leak.factor) for leak in leaks} >= {
        ("whole_history", "log_return"),
        ("whole_history", "sector_neutral_return"),
    }


def test_a_factor_that_copies_a_label_is_too_good(market):
    panel = market(0)
    labels = build_labels(panel, LabelSettings())
    rng = np.random.default_rng(0)
    copied = labels.filter(pl.col("horizon") == 5).select(
        "timestamp", "symbol", copy=pl.col("log_return") + pl.Series(rng.normal(0, 0.01, len(panel)))
    )
    factors = panel.select(
        "timestamp", "symbol", honest=CLOSE / pl.col("open"), noise=pl.Series(rng.normal(size=len(panel)))
    ).join(copied, on=["timestamp", "symbol"], how="left", maintain_order="left")
    leaks = too_good(factors, labels, ["honest", "noise", "copy"])
    assert {leak.factor for leak in leaks} == {"copy"}
    assert "too good to be true" in leaks[0].sentence()


@pytest.mark.parametrize("seed", range(5))
def test_persistent_factors_of_small_panels_are_not_too_good(seed, market):
    panel = market(seed, n_bars=120, n_symbols=8)
    labels = build_labels(panel, LabelSettings())
    factors = panel.select(
        "timestamp",
        "symbol",
        volume_level=pl.col("volume").mean().over("symbol"),
        weekday=pl.col("timestamp").dt.weekday(),
        price=CLOSE,
    )
    assert too_good(factors, labels, ["volume_level", "weekday", "price"]) == []


def test_a_label_builder_without_the_contract_columns_is_refused(market):
    with pytest.raises(AuditError, match="no column 'horizon'"):
        audit_labels(market(0), lambda panel: panel.select("timestamp", "symbol"), seed=0)
