"""The out-of-fold table: what is joined, what is refused, what the audit finds."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import (
    ALL_PREDICTIONS,
    CROSS_VALIDATED,
    LABELS,
    OOF,
    PREDICTIONS,
    TIME,
    TRAINING_SET,
    ContractError,
    tasks_in,
    write_table,
)
from components.contracts.documents.oof_audit import OofAudit
from components.contracts.gathered import place_of
from components.stacking.config import Settings
from components.stacking.oof import (
    StackingError,
    audit_oof,
    build_oof_table,
    members_of,
    read_experts,
    require_clean,
    stacked_tasks,
)
from components.stacking.run import (
    OofInputs,
    OofOutputs,
    StackInputs,
    StackOutputs,
    run_build_oof,
    run_stack,
)
from components.timeline import Settings as TimelineSettings
from tests.experts.statuses import status_of

SETTINGS = Settings()
JUDGED = ("log_return", 5)
PAST = "2020-01-01..2023-12-20"
DAYS = pl.datetime_range(
    datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 9, tzinfo=UTC), "1d", time_unit="us", eager=True
).cast(TIME)


def rows() -> pl.DataFrame:
    return pl.DataFrame({"timestamp": DAYS}).join(pl.DataFrame({"symbol": ["A", "B", "C"]}), how="cross")


def predictions(score: float = 0.1, *, horizon: int = 5) -> pl.DataFrame:
    numbers = {name: pl.lit(score) for name in ("score", "p50")} | {
        "p10": pl.lit(score - 1),
        "p90": pl.lit(score + 1),
    }
    return rows().with_columns(
        period=pl.lit("1d"),
        horizon=pl.lit(horizon, pl.Int32),
        target=pl.lit("log_return"),
        expert=pl.lit("x"),
        fold=pl.lit("fold_00"),
        train_window=pl.lit(PAST),
        uncertainty=pl.lit(0.5),
        head_scale=pl.lit(1.0),
        head_bias=pl.lit(0.0),
        **numbers,
    )


def labels() -> pl.DataFrame:
    frame = rows().with_columns(
        horizon=pl.lit(5, pl.Int32),
        label_end=pl.col("timestamp") + pl.duration(days=6),
        log_return=pl.lit(0.02),
        direction=pl.lit(1, pl.Int8),
        sector_neutral_return=pl.lit(0.01),
    )
    return frame.select(LABELS.columns.keys())


def training_set() -> pl.DataFrame:
    states = pl.Series(np.arange(len(DAYS)) % 5 - 1.0, dtype=pl.Float32)
    return (
        rows()
        .join(pl.DataFrame({"timestamp": DAYS, "regime_state": states}), on="timestamp")
        .with_columns(sector=pl.lit("s"))
    )


def save(
    folder,
    name,
    *,
    origin="1" * 64,
    status="trained",
    horizon=5,
    train_window=PAST,
    days=DAYS,
    code="c",
    timeline="t",
):
    place = folder / name
    place.mkdir()
    status_of(name, status).write(place / "status.json")
    if status == "trained":
        frame = (
            predictions(horizon=horizon)
            .filter(pl.col("timestamp").is_in(days.implode()))
            .with_columns(train_window=pl.lit(train_window), expert=pl.lit(name))
            .select(PREDICTIONS.columns.keys())
        )
        write_table(
            frame,
            place / "predictions.parquet",
            PREDICTIONS,
            code_version=f"{code}-{name}",
            config_hash="h",
            inputs={"training_set": origin, "labels": "l", "timeline": timeline},
        )
    return place


def test_experts_stand_side_by_side_with_label_and_regime():
    table = build_oof_table(
        {"a": predictions(0.1), "b": predictions(0.2).filter(pl.col("symbol") != "C")},
        labels(),
        training_set(),
    )
    assert len(table) == 2 * len(DAYS)
    assert table.row(0, named=True) | {"label_end": None} == {
        "timestamp": DAYS[0],
        "symbol": "A",
        "period": "1d",
        "horizon": 5,
        "target": "log_return",
        "fold": "fold_00",
        "label": 0.02,
        "label_end": None,
        "log_return": 0.02,
        "regime": "unknown",
        "score_a": 0.1,
        "uncertainty_a": 0.5,
        "score_b": 0.2,
        "uncertainty_b": 0.5,
    }
    assert table["regime"].unique().sort().to_list() == [
        "bear",
        "bull",
        "high_volatility",
        "neutral",
        "unknown",
    ]


def test_a_failed_expert_is_left_out_with_its_reason_while_two_remain(tmp_path):
    folders = [save(tmp_path, "a"), save(tmp_path, "b"), save(tmp_path, "c", status="failed")]
    frames, failed = read_experts(folders, SETTINGS)
    assert (list(frames), failed) == (["a", "b"], {"c": "out of memory"})
    with pytest.raises(StackingError, match=r"Only 1 expert left, 2 are needed.*\n- c: out of memory"):
        read_experts([folders[0], folders[2]], SETTINGS)


def test_predictions_of_mixed_data_or_period_are_refused(tmp_path, monkeypatch):
    first = save(tmp_path, "a")
    with pytest.raises(ContractError, match=r"b/predictions.parquet was made from training_set 2222"):
        read_experts([first, save(tmp_path, "b", origin="2" * 64)], SETTINGS)
    weekly = predictions().with_columns(period=pl.lit("1w"))
    monkeypatch.setattr("tests.stacking.test_oof.predictions", lambda horizon=5: weekly)
    with pytest.raises(ContractError, match="must predict the same bars"):
        read_experts([first, save(tmp_path, "c")], SETTINGS)


def test_experts_of_other_tasks_stand_by_what_they_learned():
    said = {"a": predictions(0.1), "b": predictions(0.2, horizon=10), "c": predictions(0.3, horizon=10)}
    volatile = said["c"].with_columns(target=pl.lit("realised_volatility"))
    said["d"] = pl.concat([predictions(0.4), volatile])
    learned = {"b": ("log_return", 10), "c": ("log_return", 10), "d": ("realised_volatility", 10)}
    judged = ("log_return", 5)
    assert stacked_tasks(said, judged) == [judged, ("log_return", 10), ("realised_volatility", 10)]
    members = members_of(judged, said, learned)
    assert list(members) == ["a", "d", "b", "c"]
    table = build_oof_table(members, labels(), training_set())
    assert table.row(0, named=True)["score_b"] == 0.2
    assert tasks_in(table) == [judged]
    assert list(members_of(("log_return", 10), said)) == ["b", "c"]
    lonely = {"c": volatile}
    assert not members_of(judged, lonely, {"c": ("realised_volatility", 10)})
    with pytest.raises(
        StackingError, match=r"No expert that is left predicts log_return over 5 bars.*volati"
    ):
        stacked_tasks(lonely, judged)


def test_experts_of_different_folds_are_refused(tmp_path):
    read_experts([save(tmp_path, "a"), save(tmp_path, "b")], SETTINGS)
    with pytest.raises(ContractError, match="Expert c was trained in other folds than a"):
        read_experts([tmp_path / "a", save(tmp_path, "c", train_window="2015-01-01..2020-12-31")], SETTINGS)


def test_predictions_of_models_that_learned_from_later_bars_are_never_stacked(tmp_path):
    """Planted: a fit that knew half of what it predicts, and the table of a cross-validation."""
    save(tmp_path, "a")
    ahead = save(tmp_path, "ahead", train_window="2020-01-01..2024-01-20")
    with pytest.raises(ContractError, match=r"ahead, fold_00: 57 predictions .* first 2024-01-01.*cross-val"):
        read_experts([tmp_path / "a", ahead], SETTINGS)
    crossed = save(tmp_path, "crossed")
    other = predictions().with_columns(expert=pl.lit("crossed"))
    numbers = (pl.lit(0, pl.Int32).alias(name) for name in ("split", "group", "path"))
    write_table(
        other.with_columns(numbers).select(CROSS_VALIDATED.columns.keys()),
        crossed / "predictions.parquet",
        CROSS_VALIDATED,
        code_version="c",
        config_hash="h",
        inputs={"training_set": "1" * 64, "labels": "l", "timeline": "t"},
    )
    with pytest.raises(ContractError, match="cross_validated"):
        read_experts([tmp_path / "a", crossed], SETTINGS)


def test_samples_of_the_day_that_a_fit_learned_from_are_told_apart_by_the_time(tmp_path):
    """Planted: a fit of order books that learned up to noon, and predicts the morning."""
    places, noon = [save(tmp_path, "a"), save(tmp_path, "b")], datetime(2024, 1, 1, 12, tzinfo=UTC)
    for hours in (-1, 0, 1):
        for place in places:
            moved = predictions().filter(pl.col("timestamp") == DAYS[0])
            moved = moved.with_columns(
                timestamp=pl.lit(noon + timedelta(hours=hours)).cast(TIME),
                period=pl.lit("250ms"),
                train_window=pl.lit(f"2024-01-01T09:00:00.000000..{noon:%Y-%m-%dT%H:%M:%S.%f}"),
            )
            write_table(
                moved.select(PREDICTIONS.columns.keys()),
                place / "predictions.parquet",
                PREDICTIONS,
                code_version=f"c-{place.name}",
                config_hash="h",
                inputs={"training_set": "1" * 64, "labels": "l", "timeline": "t"},
            )
        if hours > 0:
            assert len(read_experts(places, SETTINGS)[0]["a"]) == 3
            continue
        with pytest.raises(ContractError, match="a, fold_00: 3 predictions are of bars before"):
            read_experts(places, SETTINGS)


def test_experts_of_other_code_or_timeline_settings_are_refused(tmp_path):
    """The code of an expert's own family may differ, what all share may not."""
    first = save(tmp_path, "a")
    read_experts([first, save(tmp_path, "b")], SETTINGS)
    with pytest.raises(ContractError, match=r"Expert c was trained by other code than a \(d against c\)"):
        read_experts([first, save(tmp_path, "c", code="d")], SETTINGS)
    with pytest.raises(ContractError, match=r"Expert d was trained under other timeline settings than a"):
        read_experts([first, save(tmp_path, "d", timeline="u")], SETTINGS)


def test_a_clean_table_passes_the_audit():
    experts = {"a": predictions(0.1), "b": predictions(0.2)}
    audit = audit_oof(build_oof_table(experts, labels(), training_set()), experts, {}, DAYS)
    assert (audit.problems, audit.rows, audit.rows_in_common_share, audit.longest_gap_bars) == (
        [],
        120,
        1.0,
        0,
    )
    require_clean(audit)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: pl.concat([t, t.tail(2)]), "2 rows repeat|4 rows repeat"),
        (lambda t: t.reverse(), "time goes back"),
        (
            lambda t: t.with_columns(
                score_a=pl.when(pl.col("symbol") == "B").then(None).otherwise(pl.col("score_a"))
            ),
            "40 scores are missing",
        ),
        (lambda t: t.with_columns(score_a=pl.lit(float("nan"))), "120 scores are missing"),
        (lambda t: t.filter(pl.col("symbol") == "A"), "33% of their rows in common"),
        (
            lambda t: t.filter(~pl.col("timestamp").is_between(DAYS[10], DAYS[25])),
            "a stretch of 16 bars has no rows",
        ),
        (lambda t: t.clear(), "no row is predicted by all experts"),
    ],
)
def test_the_audit_names_each_fault_and_nothing_trains_on_it(spoil, words):
    experts = {"a": predictions(0.1), "b": predictions(0.2)}
    table = spoil(build_oof_table(experts, labels(), training_set()))
    audit = audit_oof(table, experts, {}, DAYS)
    with pytest.raises(StackingError, match=words):
        require_clean(audit)


def test_the_door_hands_on_no_table_that_failed_its_audit(tmp_path):
    about = {"code_version": "c", "config_hash": "h"}
    write_table(labels(), tmp_path / "labels", LABELS, **about)
    write_table(training_set(), tmp_path / "training_set", TRAINING_SET, **about)
    (tmp_path / "experts").mkdir()
    for position, (name, days) in enumerate({"a": DAYS, "b": DAYS.filter(DAYS.dt.month() == 2)}.items()):
        save(tmp_path, name, days=days).rename(place_of(tmp_path / "experts", position, name))
    inputs = OofInputs(*(tmp_path / name for name in ("labels", "training_set", "experts")), *JUDGED)
    outputs = OofOutputs(*(tmp_path / name for name in ("oof", "predictions", "audit")))
    with pytest.raises(StackingError, match="rows in common"):
        run_build_oof(inputs, outputs, settings=SETTINGS.model_dump_json(), code="c")
    assert OofAudit.read(outputs.audit).problems
    assert not outputs.oof.exists()


def test_a_stack_of_predictions_and_labels_of_different_origin_is_refused(tmp_path):
    about = {"code_version": "c", "config_hash": "h"}
    experts = {"a": predictions(), "b": predictions()}
    oof = build_oof_table(experts, labels(), training_set())
    write_table(oof, tmp_path / "oof", OOF, inputs={"labels": "1" * 64}, **about)
    table = predictions().select(ALL_PREDICTIONS.columns.keys())
    write_table(table, tmp_path / "predictions", ALL_PREDICTIONS, inputs={"labels": "2" * 64}, **about)
    write_table(training_set(), tmp_path / "training_set", TRAINING_SET, **about)
    inputs = StackInputs(*(tmp_path / name for name in ("oof", "predictions", "training_set")), *JUDGED)
    outputs = StackOutputs(*(tmp_path / name for name in ("all_predictions", "model", "comparison")))
    texts = {"settings": SETTINGS.model_dump_json(), "timeline": TimelineSettings().model_dump_json()}
    with pytest.raises(ContractError, match="was made from labels 2222"):
        run_stack(inputs, outputs, **texts, seed=1, code="c")
