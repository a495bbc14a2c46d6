"""Planted drift of each kind is found and named, a market that stays the same is not called drift, and bad
tables are refused in words.
"""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts.documents.drift import (
    ColumnDrift,
    DriftReport,
    Gain,
    InformationRatio,
    Separation,
)
from components.contracts.documents.drift_reference import InformationReference, LabelReference
from components.drift.columns import TESTS, fired_rules
from components.drift.config import Settings
from components.drift.detect import detect
from components.drift.information import information_ratio
from components.drift.measure import Measured
from components.drift.outcomes import label_shift, labels_of
from components.drift.reference import read_reference
from components.drift.rules import auc_rule, information_rule
from components.drift.tables import DriftError


def moved(result: DriftReport) -> dict[str, str]:
    return {entry.column: entry.what for entry in result.columns if entry.drifted}


def fired(result: DriftReport) -> set[str]:
    return {rule.rule for rule in result.rules if rule.fired}


def entry_of(result: DriftReport, column: str) -> ColumnDrift:
    return next(entry for entry in result.columns if entry.column == column)


def planted(rows: pl.DataFrame, column: str, change: pl.Expr, bars: int | None = None) -> pl.DataFrame:
    """`change` in place of `column`, on the newest `bars` bars."""
    moments = rows["timestamp"].unique().sort()
    late = pl.col("timestamp") >= moments[-(bars or len(moments))]
    return rows.with_columns(
        pl.when(late).then(change.cast(pl.Float32)).otherwise(pl.col(column)).alias(column)
    )


def test_the_same_market_is_no_drift(made, drift_settings):
    result = detect(made.folder, made.current, made.labels, drift_settings)
    assert result.verdict == "no_drift"
    assert fired(result) == set()
    assert moved(result) == {}
    assert [rule.rule for rule in result.rules] == [
        "ks",
        "psi",
        "tail",
        "missing",
        "constant",
        "predictions",
        "auc",
        "label_shift",
        "information_ratio",
    ]
    json.dumps(result.model_dump(mode="json"), allow_nan=False)


@pytest.mark.parametrize(
    ("column", "change", "what", "rules"),
    [
        ("rank_a", pl.col("rank_a") + 0.15, "mean", {"ks"}),
        ("value", pl.col("value") + 1, "mean", {"ks", "psi"}),
        ("value", pl.col("value") * 1.6, "scale", {"ks"}),
        (
            "value",
            pl.when(pl.int_range(pl.len()) % 20 == 0).then(pl.col("value") * 20).otherwise(pl.col("value")),
            "tail",
            {"tail"},
        ),
        ("value", pl.lit(0.3), "constant", {"constant"}),
        ("market", pl.lit(0.0), "constant", {"constant"}),
        ("market", pl.col("market") * 100, "scale", {"tail"}),
        ("rank_b", pl.col("rank_b") * 100, "scale", {"ks", "tail"}),
        ("rank_b", pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.col("rank_b")), "missing", {"missing"}),
        ("rank_b", pl.lit(None, dtype=pl.Float32), "missing", {"missing"}),
        ("rank_b", (pl.col("rank_b") * 2.5).sin() / 2, "shape", {"ks"}),
    ],
)
def test_planted_drift_is_found_and_only_its_column_named(made, drift_settings, column, change, what, rules):
    settings = drift_settings.model_copy(update={"auc_windows": 0})
    result = detect(made.folder, planted(made.current, column, change), made.labels, settings)
    assert result.verdict == "drift"
    assert moved(result) == {column: what}
    assert rules <= fired(result)
    assert all(column in rule.factors for rule in result.rules if rule.fired)
    assert column in result.reason


SURE = {
    "rows_in_reference": 9,
    "ks": 0.4,
    "usual_ks": 0.2,
    "psi": 1.0,
    "usual_psi": 0.5,
    "tail_share": 0.2,
    "usual_tail": 0.1,
    "reference_tail": 0.002,
    "far_share": 0.0,
}
SURE |= {
    "missing_share": 0.5,
    "missing_rise": 0.4,
    "usual_missing": 0.2,
    "constant": True,
    "usual_constant": False,
}
SURE |= {f"{name}_p_adjusted": 1e-6 for name in TESTS}


def rules_of(entry: dict, settings: Settings) -> tuple[str, ...]:
    unknown = dict.fromkeys((field.name for field in fields(Measured)), float("nan"))
    measured = {key: value for key, value in entry.items() if key in unknown}
    return fired_rules(
        Measured(**unknown | measured), {test: entry[f"{test}_p_adjusted"] for test in TESTS}, settings
    )


@pytest.mark.parametrize(
    ("rule", "weaker"),
    [
        ("ks", {"ks": 0.2}),
        ("ks", {"ks_p_adjusted": 0.02}),
        ("psi", {"psi": 0.25, "usual_psi": 0.1}),
        ("psi", {"psi": 0.5}),
        ("psi", {"psi_p_adjusted": 0.02}),
        ("tail", {"tail_share": 0.009, "usual_tail": 0.001}),
        ("tail", {"tail_share": 0.1}),
        ("tail", {"tail_p_adjusted": 0.02}),
        ("missing", {"missing_rise": 0.1}),
        ("missing", {"missing_share": 0.2}),
        ("missing", {"missing_p_adjusted": 0.02}),
        ("constant", {"usual_constant": True}),
    ],
)
def test_a_rule_needs_its_threshold_and_more_than_is_usual_and_more_than_chance(drift_settings, rule, weaker):
    settings = drift_settings.model_copy(
        update=Settings().model_dump(include={"ks_p", "psi", "tail_ratio", "missing_rise"})
    )
    assert rules_of(SURE, settings) == ("ks", "psi", "tail", "missing", "constant")
    assert rules_of(SURE | weaker, settings) == tuple(
        name for name in rules_of(SURE, settings) if name != rule
    )


@pytest.mark.parametrize("weaker", [{}, {"drop": 0.3}, {"current": 0.4}, {"p": 0.02}])
def test_an_information_ratio_fires_beyond_threshold_windows_and_chance(weaker):
    found = {"drop": 0.8, "current": 0.2, "usual": 0.4, "p": 1e-4, "reference": 1.0, "bars": 50}
    other = {"reference_rank_ic": 0.1, "rank_ic": 0.02, "reference_bars": 200, "monthly": ()}
    assert information_rule(InformationRatio(**other | found | weaker), Settings()).fired == (not weaker)


def test_a_short_reference_knows_no_fall_of_the_information_ratio():
    """Of eight bars, however steady: five bars a label spans."""
    rng = np.random.default_rng(1)
    first = datetime(2024, 1, 2, 21, tzinfo=UTC)
    keys = pl.DataFrame({"timestamp": [first + timedelta(days=k) for k in range(40)]}).join(
        pl.DataFrame({"symbol": [f"S{k}" for k in range(12)]}), how="cross"
    )
    rows = keys.with_columns(score=pl.Series(rng.normal(size=480)), label=pl.Series(rng.normal(size=480)))

    def found(bars):
        then = InformationReference(
            rank_ic=tuple(0.3 + 0.01 * rng.normal(size=bars)), first=first, last=first
        )
        return information_ratio(then, rows.drop("label"), rows.drop("score"), 5)

    assert found(8).p is None
    assert found(200).p < 0.01
    said = information_rule(found(8), Settings())
    assert not said.fired
    assert "8 bars are too few" in said.reason


@pytest.mark.parametrize(
    "weaker", [{}, {"auc": 0.7, "usual_limit": 0.6}, {"auc": 0.8}, {"usual_limit": None}]
)
def test_an_auc_fires_beyond_threshold_and_what_a_further_window_reaches(weaker):
    found = {
        "auc": 0.9,
        "usual_limit": 0.8,
        "usual_auc": 0.6,
        "windows": 8,
        "factors": (Gain(column="a", importance=1.0),),
    }
    assert auc_rule(Separation(**found | weaker), Settings()).fired == (not weaker)


def test_since_is_the_bar_of_the_step(made, drift_settings):
    moments = made.current["timestamp"].unique().sort()
    result = detect(
        made.folder, planted(made.current, "rank_a", pl.col("rank_a") + 0.5, bars=15), None, drift_settings
    )
    assert entry_of(result, "rank_a").since == moments[-15]


def test_a_classifier_sees_what_single_columns_do_not(made, drift_settings):
    linked = planted(made.current, "rank_b", pl.col("rank_a"))
    result = detect(made.folder, linked, None, drift_settings)
    assert moved(result) == {}
    assert fired(result) == {"auc"}
    assert {factor.column for factor in result.adversarial.factors[:2]} == {"rank_a", "rank_b"}


def test_scores_that_moved_or_spread_are_prediction_drift(made, drift_settings):
    settings = drift_settings.model_copy(update={"auc_windows": 0})
    for change in (pl.col("score") + 0.004, pl.col("score") * 3):
        result = detect(made.folder, made.current.with_columns(change), None, settings)
        assert fired(result) == {"predictions"}
        assert result.predictions.drifted
    assert result.predictions.dispersion > 2 * result.predictions.reference_dispersion


def test_what_moved_is_set_against_the_score(made, drift_settings):
    result = detect(
        made.folder, planted(made.current, "rank_a", pl.col("rank_a") + 0.5), None, drift_settings
    )
    along = result.predictions.goes_along
    assert [row.column for row in along] == ["rank_a"]
    assert along[0].reference > 0.7


def test_labels_that_change_class_are_label_shift(made, drift_settings):
    settings = drift_settings.model_copy(update={"auc_windows": 0})
    moved_labels = made.labels.with_columns(pl.col("log_return") + 0.02)
    result = detect(made.folder, made.current, moved_labels, settings)
    assert fired(result) == {"label_shift"}
    found = result.label_shift
    assert found.largest > 0.3
    assert found.move == "lean"
    row = next(row for row in found.by_regime if (row.regime, row.move) == (found.regime, "lean"))
    (low, _, high), (low_before, _, high_before) = row.shares, row.reference_shares
    assert found.largest == pytest.approx(abs((high - low) - (high_before - low_before)) / 2)


@pytest.mark.parametrize(
    ("usual", "effective", "moved"), [(None, 1.0, True), (0.99, 1.0, False), (None, 1e-4, False)]
)
def test_labels_move_only_beyond_what_is_usual_and_chance(made, drift_settings, usual, effective, moved):
    kept = read_reference(made.folder).about
    reference = kept.labels.model_dump(mode="json")
    for regime in reference["regimes"].values():
        for window in regime["by_window"].values():
            window["lean"] = window["lean"] if usual is None else usual
    reference["effective_rows"]["lean"] = {
        length: rows * effective for length, rows in reference["effective_rows"]["lean"].items()
    }
    labels = labels_of(made.labels.with_columns(pl.col("log_return") + 0.02), kept.horizon, kept.target)
    changed = LabelReference.model_validate_json(json.dumps(reference))
    found = label_shift(changed, made.current, labels, drift_settings, kept.horizon)
    assert any(row.moved for row in found.by_regime if row.move == "lean") == moved


def test_labels_of_the_same_market_are_no_label_shift(made, drift_settings):
    result = detect(
        made.folder, made.current, made.labels, drift_settings.model_copy(update={"auc_windows": 0})
    )
    assert "label_shift" not in fired(result)
    assert {row.move for row in result.label_shift.by_regime} == {"lean", "dispersion"}


def test_scores_that_stopped_working_lower_the_information_ratio(made, drift_settings):
    settings = drift_settings.model_copy(update={"auc_windows": 0})
    worthless = made.labels.with_columns(pl.col("log_return").shuffle(seed=3))
    result = detect(made.folder, made.current, worthless, settings)
    assert fired(result) == {"information_ratio"}
    assert result.information_ratio.drop > 0.3
    assert sum(month.bars for month in result.information_ratio.monthly) == result.information_ratio.bars


def test_too_little_decides_nothing(made, drift_settings):
    moments = made.current["timestamp"].unique().sort()
    short = detect(made.folder, made.current.filter(pl.col("timestamp") > moments[-6]), None, drift_settings)
    assert short.verdict == "not_enough_data"
    assert "drift.min_bars=10" in short.reason
    few = detect(made.folder, made.current.head(50), None, drift_settings)
    assert few.verdict == "not_enough_data"
    assert "drift.min_rows=100" in few.reason


def test_only_the_newest_bars_are_judged(made, drift_settings):
    result = detect(made.folder, made.rows, None, drift_settings)
    assert result.current.bars == drift_settings.window_bars
    assert result.current.last == made.rows["timestamp"].max()


def test_without_timestamps_rows_count_as_independent(made, drift_settings):
    result = detect(made.folder, made.current.drop("timestamp", "symbol", "score"), None, drift_settings)
    assert result.verdict == "no_drift"
    assert result.current.bars is None
    assert entry_of(result, "rank_a").effective_rows == len(made.current)
    assert result.adversarial is None


def test_one_symbol_is_not_taken_for_the_market(made, drift_settings):
    stuck = made.current.filter(pl.col("symbol") == "S03").with_columns(
        pl.lit(0.4, dtype=pl.Float32).alias("rank_a")
    )
    settings = drift_settings.model_copy(update={"min_rows": 20})
    assert detect(made.folder, stuck, None, settings).verdict == "no_drift"


def test_a_row_that_was_asked_for_twice_counts_once(made, drift_settings):
    twice = pl.concat([made.current, made.current])
    once = detect(made.folder, made.current, None, drift_settings)
    assert detect(made.folder, twice, None, drift_settings) == once


def test_the_order_of_rows_does_not_matter(made, drift_settings):
    shuffled = made.current.sample(fraction=1.0, shuffle=True, seed=5)
    assert detect(made.folder, shuffled, None, drift_settings) == detect(
        made.folder, made.current, None, drift_settings
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda rows: rows.rename({"rank_a": "rank_aa"}),
            ["lacks 1 of the 7 columns", "'rank_a' (closest: 'rank_aa')"],
        ),
        (lambda rows: rows.select("timestamp", "symbol"), ["lacks 7 of the 7 columns", "another kind"]),
        (lambda rows: rows.with_columns(pl.col("value").cast(pl.String)), ["not numbers: 'value' (String)"]),
        (lambda rows: rows.head(0), ["no rows"]),
        (
            lambda rows: rows.with_columns(
                pl.lit(None, dtype=pl.Float32).alias(c)
                for c in rows.columns
                if c not in ("timestamp", "symbol")
            ),
            ["None of the 7 columns"],
        ),
        (
            lambda rows: rows.with_columns(
                pl.lit(float("nan")).alias(c) for c in rows.columns if c not in ("timestamp", "symbol")
            ),
            ["None of the 7 columns"],
        ),
        (lambda rows: rows.with_columns(pl.lit("yesterday").alias("timestamp")), ["'timestamp'", "String"]),
        (
            lambda rows: rows.with_columns(
                pl.when(pl.int_range(pl.len()) > 3).then(pl.col("timestamp")).alias("timestamp")
            ),
            ["4 rows", "no timestamp"],
        ),
        (
            lambda rows: rows.with_columns(
                pl.when(pl.int_range(pl.len()) > 3).then(pl.col("symbol")).alias("symbol")
            ),
            ["4 rows", "no symbol"],
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused_in_words(made, drift_settings, change, words):
    with pytest.raises(DriftError) as refused:
        detect(made.folder, change(made.current), None, drift_settings)
    assert all(word in str(refused.value) for word in words)
    assert len(str(refused.value)) < 900
