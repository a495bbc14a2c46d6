"""Which rows an expert may learn from: shares of missing inputs, common spans, and counts of what each rule
dropped.
"""

from datetime import timedelta

import polars as pl
import pytest
from pydantic import ValidationError
from small_tables import START

from components.contracts import TIME, CatalogEntry
from components.fusion.config import DatasetSettings
from components.fusion.datasets import bar_period, learnable_rows
from components.fusion.errors import FusionError


def entry(column, group="trend", modality="base", role="input"):
    return CatalogEntry(column, f"factor_{column}", group, role, "none", 0, "", "", modality)


CATALOG = [
    entry("a"),
    entry("b"),
    entry("c", "onchain", "rich"),
    entry("d", "onchain", "rich"),
    entry("r", role="raw"),
]
NAN = float("nan")


def training_set(columns: dict[str, list], symbols=("A",)):
    length = len(next(iter(columns.values()))) // len(symbols)
    times = [START + timedelta(days=k) for k in range(length) for _ in symbols]
    return pl.DataFrame(
        {"timestamp": times, "symbol": list(symbols) * length, "sector": ["s"] * len(times), **columns},
        schema_overrides={"timestamp": TIME},
    )


FOUR = {
    "a": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    "b": [1.0, None, 1.0, 1.0, 1.0, 1.0],
    "c": [None, None, 1.0, NAN, 1.0, 1.0],
    "d": [None, 1.0, 1.0, 1.0, 1.0, None],
    "r": [None] * 6,
}


def kept_days(data) -> list[int]:
    return [(moment - START).days for moment in data.learnable["timestamp"]]


def test_without_rules_all_rows_are_kept():
    for modality, columns in (("base", ["a", "b"]), ("rich", ["a", "b", "c", "d"])):
        data = learnable_rows(training_set(FOUR), CATALOG, DatasetSettings(), modality)
        assert kept_days(data) == [0, 1, 2, 3, 4, 5]
        assert data.report["columns"] == columns
        assert data.report["dropped"] == []


def test_rows_with_too_large_a_share_missing_are_dropped():
    base = learnable_rows(training_set(FOUR), CATALOG, DatasetSettings(max_missing_ratio=0.49), "base")
    assert kept_days(base) == [0, 2, 3, 4, 5], "columns of rich and raw columns do not count for base"
    rich = learnable_rows(training_set(FOUR), CATALOG, DatasetSettings(max_missing_ratio=0.25), "rich")
    assert kept_days(rich) == [2, 3, 4, 5], "NaN and null are both missing; the limit itself is allowed"
    assert rich.report["dropped"] == [{"rule": "max_missing_ratio", "symbol": "A", "rows": 2, "period": "1d"}]
    assert rich.report["by_rule"] == {
        "max_missing_ratio": 2,
        "outside_common_span": 0,
        "missing_inside_span": 0,
    }


def test_the_policy_trims_to_the_common_span():
    policy = {"enabled": True, "scope": "onchain"}
    data = learnable_rows(training_set(FOUR), CATALOG, DatasetSettings(no_nan_policy=policy), "rich")
    assert kept_days(data) == [2, 4]
    assert data.report["by_rule"] == {
        "max_missing_ratio": 0,
        "outside_common_span": 3,
        "missing_inside_span": 1,
    }
    custom = {"enabled": True, "scope": "custom", "columns": ["factor_d"]}
    assert kept_days(
        learnable_rows(training_set(FOUR), CATALOG, DatasetSettings(no_nan_policy=custom), "rich")
    ) == [1, 2, 3, 4]


def test_spans_are_those_of_each_symbol_and_rows_count_once():
    columns = {"a": [1.0] * 6, "b": [1.0] * 6, "c": [1.0, None, 1.0, None, None, None], "d": [1.0] * 6}
    settings = DatasetSettings(
        max_missing_ratio=0.2, no_nan_policy={"enabled": True, "scope": "custom", "columns": ["c"]}
    )
    data = learnable_rows(training_set(columns, ("A", "B")), CATALOG, settings, "rich")
    assert data.learnable.select("symbol").to_series().to_list() == ["A", "A"]
    assert data.report["symbols_lost"] == ["B"]
    assert data.report["by_rule"] == {
        "max_missing_ratio": 4,
        "outside_common_span": 0,
        "missing_inside_span": 0,
    }
    loose = DatasetSettings(no_nan_policy=settings.no_nan_policy)
    assert {
        (row["symbol"], row["rule"]): row["rows"]
        for row in learnable_rows(training_set(columns, ("A", "B")), CATALOG, loose, "rich").report["dropped"]
    } == {
        ("A", "outside_common_span"): 1,
        ("B", "outside_common_span"): 3,
    }


def test_every_row_is_either_kept_or_counted():
    settings = DatasetSettings(max_missing_ratio=0.3, no_nan_policy={"enabled": True, "scope": "onchain"})
    report = learnable_rows(training_set(FOUR), CATALOG, settings, "rich").report
    assert report["kept"] + sum(row["rows"] for row in report["dropped"]) == report["rows"] == 6


def test_refusals_say_what_to_do():
    with pytest.raises(FusionError, match=r"No row of 6 is left.*max_missing_ratio dropped 6"):
        learnable_rows(
            training_set(FOUR | {"a": [None] * 6}),
            [CATALOG[0]],
            DatasetSettings(max_missing_ratio=0.5),
            "base",
        )
    with pytest.raises(FusionError, match="no input of the modality base belongs to the group onchain"):
        learnable_rows(training_set(FOUR), CATALOG, DatasetSettings(no_nan_policy={"enabled": True}), "base")
    with pytest.raises(FusionError, match="names 'nothing'"):
        learnable_rows(
            training_set(FOUR),
            CATALOG,
            DatasetSettings(no_nan_policy={"enabled": True, "scope": "custom", "columns": ["nothing"]}),
            "rich",
        )
    with pytest.raises(FusionError, match="no input of the modality base"):
        learnable_rows(training_set(FOUR), CATALOG[2:], DatasetSettings(), "base")
    with pytest.raises(ValidationError, match="needs columns"):
        DatasetSettings(no_nan_policy={"enabled": True, "scope": "custom"})


def test_the_period_is_read_off_the_bars():
    hours = pl.Series([START + timedelta(hours=4 * k) for k in (0, 1, 2, 8, 9)])
    assert bar_period(hours) == "4h"
    assert bar_period(hours.head(1)) == ""
