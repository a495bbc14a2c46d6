"""The trainer: honest folds, resuming, refusal of bad predictions, and failure of one expert."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from components.contracts import (
    LABELS,
    LEARNABLE,
    PREDICTIONS,
    TRAINING_SET,
    BundleError,
    ChosenInputs,
    ContractError,
    OutputError,
    check_table,
    of_task,
    read_stamp,
    tasks_in,
    verify_bundle,
    write_catalog,
    write_chosen,
    write_table,
)
from components.experts.errors import ExpertError, Stopped
from components.experts.leaves import FurtherTask, Leaf
from components.experts.model_each import expert_of, load_warm
from components.experts.run import Outputs, run, run_find_trained
from components.experts.trained import Token, keep_token
from components.experts.training.inputs import Assignment, Inputs, TrainingTables
from components.experts.training.publish import only_training, publish_expert, train_on_tables
from components.experts.training.train import train_expert, train_guarded
from components.settings import ConfigError, config_hash
from components.timeline import Settings as TimelineSettings
from components.timeline import TimelineError
from tests.experts.market import panel, training_tables
from tests.experts.training import fragile

TIMELINE = TimelineSettings(train_share=0.5, validation_share=0.2, fold_bars=20, purge_bars=3, embargo_bars=2)
LONGER = TIMELINE.model_copy(update={"purge_bars": 4})
FRAGILE = Leaf(expert="fragile", period="1d", module="tests.experts.training.fragile")


@pytest.fixture(autouse=True)
def _fresh():
    fragile.FITS.clear()
    fragile.FRAMES.clear()
    fragile.FAIL_AT.update(fit=0, error=RuntimeError)


@pytest.fixture(scope="module")
def tables():
    return training_tables(panel(bars=120, symbols=6, seed=1))


def assignment_of(leaf=FRAGILE, **changes) -> Assignment:
    options = {
        "timeline": TIMELINE,
        "period": "1d",
        "horizon": 2,
        "target": "log_return",
        "seed": 1,
        "code": "v1",
        **changes,
    }
    return Assignment(leaf, **options)


def train(tables, folder, leaf=FRAGILE, *, chosen=None, learnable=None, **changes):
    """`changes` are of the assignment, or of the call."""
    how = {name: changes.pop(name) for name in ("warm_from", "until", "after_fold") if name in changes}
    given = TrainingTables(*tables, chosen=chosen, learnable=learnable)
    return train_expert(given, assignment_of(leaf, **changes), folder, **how)


def test_validation_and_test_are_predicted_once(tables, tmp_path):
    trained = train(tables, tmp_path)
    check_table(trained.predictions, PREDICTIONS)
    bars = tables[0]["timestamp"].unique().sort()
    assert trained.predictions["timestamp"].unique().sort().equals(bars[60:])
    assert len(trained.predictions) == 60 * 6
    manifest = verify_bundle(trained.model_folder)
    assert (manifest["expert"], manifest["fold"], manifest["columns"]) == (
        "fragile",
        "final",
        [entry.column for entry in tables[2][:5]],
    )


def test_frames_end_where_the_folds_knowledge_ends(tables, tmp_path):
    trained = train(tables, tmp_path)
    first_predicted = (
        trained.predictions.group_by("fold")
        .agg(pl.col("timestamp").min(), pl.col("timestamp").max().alias("last"))
        .sort("fold")
    )
    for number, (start, last) in enumerate(first_predicted.select("timestamp", "last").rows()):
        fit, predict = fragile.FRAMES[2 * number], fragile.FRAMES[2 * number + 1]
        assert fit["timestamp"].max() < start
        assert fit.filter(~pl.col("part").is_in(["train", "early_stopping"])).is_empty()
        assert "label_end" not in fit.columns
        assert predict["label"].null_count() == len(predict)
        assert (predict["timestamp"].min(), predict["timestamp"].max()) == (start, last)


def test_lookback_adds_unlabelled_history(tables, tmp_path):
    train(tables, tmp_path, FRAGILE.model_copy(update={"settings": {"lookback": 4}}))
    fit, predict = fragile.FRAMES[:2]
    history = predict.filter(pl.col("part") == "history")
    assert history["timestamp"].n_unique() == 4
    assert history["label"].null_count() == len(history)
    between = fit.filter(pl.col("part") == "history")
    assert between["label"].null_count() == len(between) > 0
    assert fit["timestamp"].is_sorted()


def test_future_labels_and_inputs_move_no_earlier_prediction(tables, tmp_path):
    training_set, labels, catalog = tables
    trained = train(tables, tmp_path / "plain")
    cut = training_set["timestamp"].unique().sort()[80]
    wild = pl.col("label_end") >= cut
    planted = labels.with_columns(
        pl.when(wild).then(pl.lit(5.0)).otherwise(pl.col("log_return")).alias("log_return")
    )
    moved = training_set.with_columns(
        pl.when(pl.col("timestamp") >= cut)
        .then(pl.lit(9.0, dtype=pl.Float32))
        .otherwise(pl.col("trend_a"))
        .alias("trend_a")
    )
    changed = train((moved, planted, catalog), tmp_path / "planted")
    before = pl.col("timestamp") < cut
    assert_frame_equal(
        changed.predictions.filter(before), trained.predictions.filter(before), check_exact=True
    )
    assert not changed.predictions["score"].equals(trained.predictions["score"])


def fold_names(tables, folder) -> list[str]:
    return [*train(tables, folder).predictions["fold"].unique().sort(), "final"]


def test_each_fold_sees_the_inputs_chosen_for_it_alone(tables, tmp_path):
    names = fold_names(tables, tmp_path / "plain")
    fragile.FRAMES.clear()
    chosen = ChosenInputs(
        "t",
        {
            name: ["reversion_a", "trend_a"] if number % 2 else ["trend_a"]
            for number, name in enumerate(names)
        },
    )
    trained = train(tables, tmp_path / "chosen", chosen=chosen)
    for number, fit in enumerate(fragile.FRAMES[::2]):
        seen = {
            name
            for name in fit.columns
            if name in ("trend_a", "trend_b", "reversion_a", "volume_a", "regime_a")
        }
        assert seen == set(chosen.of(names[number]))
        assert {"regime_state", "volatility_20"} <= set(fit.columns)
    assert verify_bundle(trained.model_folder)["columns"] == [
        entry.column for entry in tables[2] if entry.column in chosen.of("final")
    ]


def test_other_chosen_inputs_are_trained_anew_and_the_same_are_kept(tables, tmp_path):
    names = fold_names(tables, tmp_path / "plain")
    first = ChosenInputs("t", dict.fromkeys(names, ("trend_a",)))
    train(tables, tmp_path / "chosen", chosen=first)
    assert train(tables, tmp_path / "chosen", chosen=first).status.resumed_folds == len(names)
    one_differs = ChosenInputs("t", {**first.by_fold, names[1]: ["trend_a", "trend_b"]})
    assert train(tables, tmp_path / "chosen", chosen=one_differs).status.resumed_folds == len(names) - 1


@pytest.mark.parametrize(
    ("inputs", "words"),
    [([], "no input at all"), (["trend_z"], "'trend_z'"), (None, "no inputs for fold_00")],
)
def test_a_selection_that_does_not_fit_is_refused(tables, tmp_path, inputs, words):
    names = ["final"] if inputs is None else fold_names(tables, tmp_path / "plain")
    with pytest.raises(ContractError, match=words):
        train(
            tables,
            tmp_path / "chosen",
            chosen=ChosenInputs("t", dict.fromkeys(names, inputs if inputs is not None else ["trend_a"])),
        )


def test_rows_that_are_not_learnable_are_predicted_but_not_learned_from(tables, tmp_path):
    plain = train(tables, tmp_path / "plain")
    fragile.FRAMES.clear()
    learnable = tables[0].filter(pl.col("symbol") != "S03").select("timestamp", "symbol")
    trained = train(tables, tmp_path / "some", learnable=learnable)
    assert trained.predictions.select("timestamp", "symbol").equals(
        plain.predictions.select("timestamp", "symbol")
    )
    for fit in fragile.FRAMES[::2]:
        labelled = fit.filter(pl.col("label").is_not_null())["symbol"].unique().to_list()
        assert "S03" not in labelled
        assert "S01" in labelled
    assert not trained.predictions["score"].equals(plain.predictions["score"])
    assert train(tables, tmp_path / "some").status.resumed_folds == 0


def test_experts_of_modality_base_do_not_see_rich_inputs(tables, tmp_path):
    training_set, labels, catalog = tables
    rich = [replace(entry, modality="rich") if entry.column == "volume_a" else entry for entry in catalog]
    base = train((training_set, labels, rich), tmp_path / "base")
    assert "volume_a" not in verify_bundle(base.model_folder)["columns"]
    everything = train(
        (training_set, labels, rich), tmp_path / "rich", FRAGILE.model_copy(update={"modality": "rich"})
    )
    assert "volume_a" in verify_bundle(everything.model_folder)["columns"]


def test_a_label_known_too_late_is_refused(tables, tmp_path):
    training_set, labels, catalog = tables
    late = labels.with_columns(
        pl.when(pl.col("label_end").is_not_null())
        .then(pl.col("label_end") + pl.duration(days=30))
        .alias("label_end")
    )
    with pytest.raises(TimelineError, match="would carry the future into training"):
        train((training_set, late, catalog), tmp_path)


def test_a_train_label_that_is_known_only_in_early_stopping_is_refused(tables, tmp_path):
    """Its row is purged far enough from what is predicted, but the head is calibrated on what it saw."""
    training_set, labels, catalog = tables
    train(tables, tmp_path / "plain")
    last = fragile.FRAMES[0].filter(pl.col("part") == "train")["timestamp"].max()
    first = fragile.FRAMES[0].filter(pl.col("part") == "early_stopping")["timestamp"].min()
    late = labels.with_columns(
        pl.when(pl.col("timestamp") == last)
        .then(first + pl.duration(days=1))
        .otherwise(pl.col("label_end"))
        .alias("label_end")
    )
    with pytest.raises(TimelineError, match="early stopping begins"):
        train((training_set, late, catalog), tmp_path / "late")


def test_an_early_stopping_label_that_is_known_only_while_predicting_is_refused(tables, tmp_path):
    training_set, labels, catalog = tables
    start = train(tables, tmp_path / "plain").predictions["timestamp"].min()
    last = fragile.FRAMES[0]["timestamp"].max()
    for end, refused in ((start - timedelta(days=1), False), (start, True)):
        late = labels.with_columns(
            pl.when(pl.col("timestamp") == last)
            .then(pl.lit(end, dtype=pl.Datetime("us", "UTC")))
            .otherwise(pl.col("label_end"))
            .alias("label_end")
        )
        if not refused:
            train((training_set, late, catalog), tmp_path / "known")
            continue
        with pytest.raises(TimelineError, match="the last bar before predictions begin"):
            train((training_set, late, catalog), tmp_path / "late")


def test_folds_of_other_labels_are_not_kept(tables, tmp_path):
    training_set, labels, catalog = tables
    train(tables, tmp_path)
    changed = labels.with_columns(pl.col("log_return") * 2)
    assert train((training_set, changed, catalog), tmp_path).status.resumed_folds == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_stopped_training_goes_on_where_it_was(tables, tmp_path, error):
    whole = train(tables, tmp_path / "whole")
    fits = list(fragile.FITS)
    fragile.FITS.clear()
    fragile.FAIL_AT.update(fit=3, error=error)
    with pytest.raises((KeyboardInterrupt, ExpertError)):
        train(tables, tmp_path / "stopped")
    fragile.FITS.clear()
    fragile.FAIL_AT.update(fit=0)
    resumed = train(tables, tmp_path / "stopped")
    assert fits[2:] == fragile.FITS
    assert resumed.status.resumed_folds == 2
    assert_frame_equal(resumed.predictions, whole.predictions, check_exact=True)
    assert (resumed.model_folder / "mean.json").read_bytes() == (
        whole.model_folder / "mean.json"
    ).read_bytes()


@pytest.mark.parametrize(
    "change",
    [{"code": "v2"}, {"seed": 2}, {"leaf": FRAGILE.model_copy(update={"settings": {"lookback": 1}})}],
)
def test_folds_of_other_code_or_settings_are_not_kept(tables, tmp_path, change):
    train(tables, tmp_path)
    fits = len(fragile.FITS)
    assert train(tables, tmp_path).status.resumed_folds == fits
    assert train(tables, tmp_path, **change).status.resumed_folds == 0


@pytest.mark.parametrize(
    "change",
    [
        {"timeline": LONGER.model_copy(update={"embargo_bars": 1})},
        {"target": "sector_neutral_return"},
        {"horizon": 3},
        {"leaf": FRAGILE.model_copy(update={"threads": 1})},
    ],
    ids=["timeline", "target", "horizon", "threads"],
)
def test_folds_of_another_task_timeline_or_number_of_threads_are_not_kept(tables, tmp_path, change):
    training_set, labels, catalog = tables
    longer = labels.with_columns(pl.lit(3, dtype=pl.Int32).alias("horizon"))
    both = (training_set, pl.concat([labels, longer]), catalog)
    options = {"timeline": LONGER}
    train(both, tmp_path, **options)
    assert train(both, tmp_path, **options).status.resumed_folds == len(fragile.FITS)
    assert train(both, tmp_path, **{**options, **change}).status.resumed_folds == 0


def test_a_damaged_fold_is_fitted_again(tables, tmp_path):
    train(tables, tmp_path)
    (tmp_path / "fold_01" / "model" / "mean.json").write_text("1e9")
    assert "fold_01" in [fold.fold for fold in train(tables, tmp_path).status.folds if not fold.resumed]


@pytest.mark.parametrize(
    ("harm", "message"),
    [("nan", "score is null, NaN or infinite"), ("duplicate", r"repeat a \(timestamp, symbol\)")],
)
def test_wrong_predictions_are_refused_by_name(tables, tmp_path, harm, message):
    with pytest.raises(ExpertError, match=f"Expert fragile, fold_00: .*{message}"):
        train(tables, tmp_path, FRAGILE.model_copy(update={"settings": {"harm": harm}}))


def written(tables, folder) -> list[Path]:
    """The paths of training set, labels and catalog."""
    training_set, labels, catalog = tables
    about = {"code_version": "c", "config_hash": "h"}
    write_table(training_set, folder / "training_set", TRAINING_SET, **about, inputs={"panel": "p"})
    write_table(labels, folder / "labels", LABELS, **about)
    write_catalog(catalog, folder / "catalog")
    return [folder / name for name in ("training_set", "labels", "catalog")]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_training_that_ended_well_is_known_by_its_token_and_one_that_failed_never_is(
    tables, tmp_path, scheme
):
    inputs, kept = Inputs(*written(tables, tmp_path)), f"{scheme}{tmp_path / 'trained'}"

    def token(lineage="lineage", source="data") -> str:
        given = run_find_trained(["another", lineage], sources=(source, ""), folder=kept)
        assert given[2:] == ("",) * 6
        return given[1]

    assert token() != token(), "nothing was trained yet, so no cache may know the token"
    for fails, known in ((2, False), (0, True)):
        fragile.FITS.clear()
        fragile.FAIL_AT.update(fit=fails)
        own = token()
        outputs = Outputs(tmp_path / "expert", tmp_path / "work", own, kept)
        assert run(inputs, outputs, assignment_of()).status == ("trained" if known else "failed")
        assert (token() == own) == known
    assert token("other") != token("other")
    assert token(source="newer data") != token(source="newer data")
    assert token() == own

    # The same training again, where another cache knew nothing of it: another pipeline's, another image's.
    fragile.FAIL_AT.update(fit=1)
    for number, newer in enumerate(("", str(Token(Token.parsed(own).key, "newer")))):
        if newer:
            keep_token(newer, kept)
        fragile.FITS.clear()
        outputs = Outputs(tmp_path / f"again {number}", tmp_path / f"elsewhere {number}", own, kept)
        assert run(inputs, outputs, assignment_of()).status == "failed"
        assert token() != own, "that cache would answer with the failure"
    assert token() == newer, "what another training kept since stays"


def test_an_experts_failure_leaves_only_a_status(tables, tmp_path):
    paths = written(tables, tmp_path)
    assignment, work = assignment_of(code="c"), tmp_path / "work"

    fragile.FAIL_AT.update(fit=2)
    attempt = train_on_tables(Inputs(*paths), assignment, work)
    publish_expert(tmp_path / "expert", attempt, assignment, work)
    assert [path.name for path in (tmp_path / "expert").iterdir()] == ["status.json"]
    status = json.loads((tmp_path / "expert" / "status.json").read_text())
    assert (status["expert"], status["status"]) == ("fragile", "failed")
    assert "RuntimeError: out of luck" in status["reason"]
    assert "Traceback" in (tmp_path / "work" / "failure.txt").read_text()

    fragile.FAIL_AT.update(fit=0)
    attempt = train_on_tables(Inputs(*paths), assignment, work)
    publish_expert(tmp_path / "expert", attempt, assignment, work)
    stamp = read_stamp(tmp_path / "expert" / "predictions.parquet")
    assert stamp.inputs == {
        "panel": "p",
        "training_set": read_stamp(paths[0]).content_sha256,
        "labels": read_stamp(paths[1]).content_sha256,
        "timeline": config_hash(assignment.timeline.walking()),
    }
    assert verify_bundle(tmp_path / "expert" / "model")["fold"] == "final"


def test_a_selection_or_learnable_rows_of_another_training_set_are_refused(tables, tmp_path):
    training_set, labels, catalog = tables
    about = {"code_version": "c", "config_hash": "h"}
    stamp = write_table(training_set, tmp_path / "training_set", TRAINING_SET, **about, inputs={"panel": "p"})
    write_table(labels, tmp_path / "labels", LABELS, **about)
    write_catalog(catalog, tmp_path / "catalog")
    paths = [tmp_path / name for name in ("training_set", "labels", "catalog")]
    assignment, work = assignment_of(code="c"), tmp_path / "work"
    names = fold_names(tables, tmp_path / "plain")
    rows = training_set.select("timestamp", "symbol")
    for origin, refused in ((stamp.content_sha256, False), ("another", True)):
        write_chosen(ChosenInputs(origin, dict.fromkeys(names, ("trend_a",))), tmp_path / "chosen.json")
        write_table(rows, tmp_path / "learnable.parquet", LEARNABLE, **about, inputs={"training_set": origin})
        for given in ({"selection": tmp_path / "chosen.json"}, {"learnable": tmp_path / "learnable.parquet"}):
            if not refused:
                assert train_on_tables(Inputs(*paths, **given), assignment, work).status.status == "trained"
                continue
            with pytest.raises(ContractError, match="was made from training set another"):
                train_on_tables(Inputs(*paths, **given), assignment, work)
    for kept, resumed in ((rows, True), (rows.gather_every(2), False)):
        write_table(
            kept,
            tmp_path / "learnable.parquet",
            LEARNABLE,
            **about,
            inputs={"training_set": stamp.content_sha256},
        )
        inputs = Inputs(*paths, learnable=tmp_path / "learnable.parquet")
        again = train_on_tables(inputs, assignment, work).status
        assert {fold.resumed for fold in again.folds} == {resumed}


def test_bad_input_is_not_an_experts_failure(tables, tmp_path):
    with pytest.raises(ContractError, match="no rows of horizon 7"):
        train_guarded(lambda: train(tables, tmp_path, horizon=7), expert="fragile", work_folder=tmp_path)


def test_a_warm_model_helps_no_fold_that_it_has_seen(tables, tmp_path):
    first = train(tables, tmp_path / "first")
    second = train(tables, tmp_path / "second", warm_from=first.model_folder)
    assert {fold.fold: fold.warm for fold in second.status.folds} == {
        **{f"fold_{i:02d}": False for i in range(len(second.status.folds) - 1)},
        "final": True,
    }
    early = train(tables, tmp_path / "third", warm_from=tmp_path / "first" / "fold_00" / "model")
    assert all(fold.warm for fold in early.status.folds)
    with pytest.raises(BundleError):
        train(tables, tmp_path / "fourth", warm_from=tmp_path)


def test_a_warm_model_helps_no_fold_whose_first_bar_it_knows(tables, tmp_path):
    first = train(tables, tmp_path / "first")
    predicted = first.predictions.filter(pl.col("fold") == "fold_01")["timestamp"]
    model = tmp_path / "first" / "fold_01" / "model"
    manifest = {**verify_bundle(model), "known_until": predicted.min().isoformat()}
    (model / "manifest.json").write_text(json.dumps(manifest))
    second = train(tables, tmp_path / "second", warm_from=model)
    warm = {fold.fold: fold.warm for fold in second.status.folds}
    assert warm == {name: name not in ("fold_00", "fold_01") for name in warm}


def test_a_warm_model_helps_only_folds_with_its_own_inputs(tables, tmp_path):
    names = fold_names(tables, tmp_path / "plain")
    chosen = ChosenInputs(
        "t", {name: ["trend_a", "trend_b"] if name == names[1] else ["trend_a"] for name in names}
    )
    first = tmp_path / "first"
    train(tables, first, chosen=chosen)
    again = train(tables, tmp_path / "second", chosen=chosen, warm_from=first / names[0] / "model")
    assert {fold.fold: fold.warm for fold in again.status.folds} == {name: name != names[1] for name in names}
    with pytest.raises(ContractError, match="can't go on from it"):
        train(tables, tmp_path / "third", warm_from=first / names[0] / "model")


def test_unknown_target_and_foreign_period_are_refused(tables, tmp_path):
    with pytest.raises(ContractError, match="no target"):
        train(tables, tmp_path, target="profit")
    with pytest.raises((ContractError, ConfigError), match="period"):
        train(tables, tmp_path, period="1h")


def test_the_door_writes_the_artifact_folder(tables, tmp_path):
    from components.experts.component import train_expert as door

    training_set, labels, catalog = tables
    about = {"code_version": "c", "config_hash": "h"}
    write_table(training_set, tmp_path / "training_set", TRAINING_SET, **about)
    write_table(labels, tmp_path / "labels", LABELS, **about)
    write_catalog(catalog, tmp_path / "catalog")
    artifact = {
        name: SimpleNamespace(path=str(tmp_path / name))
        for name in ("training_set", "labels", "catalog", "expert")
    }
    texts = {
        "leaf": Leaf(expert="median", period="1d").model_dump_json(),
        "timeline": TIMELINE.model_dump_json(),
        "work_folder": str(tmp_path / "work"),
        "code": "c",
    }
    door.python_func(**artifact, **texts, period="1d", horizon=2, target="log_return", seed=1)
    assert sorted(path.name for path in (tmp_path / "expert").iterdir()) == [
        "model",
        "predictions.parquet",
        "status.json",
    ]
    assert json.loads((tmp_path / "work" / "status.json").read_text())["status"] == "trained"


def test_only_the_served_model_is_exported(tables, tmp_path):
    trained = train(tables, tmp_path, Leaf(expert="median", period="1d"))
    assert "served.json" in verify_bundle(trained.model_folder)["files"]
    assert [path.parent.parent.name for path in tmp_path.rglob("served.json")] == ["final"]


def test_an_expert_without_a_served_form_is_trained_all_the_same(tables, tmp_path):
    assert not hasattr(fragile.Expert, "export")
    assert set(verify_bundle(train(tables, tmp_path).model_folder)["files"]) == {"mean.json"}


def test_an_export_that_fails_is_the_experts_failure(tables, tmp_path, monkeypatch):
    def export(self, folder):
        raise ValueError("no such operator")

    monkeypatch.setattr(fragile.Expert, "export", export, raising=False)
    with pytest.raises(ExpertError, match="fragile, final: export failed: ValueError: no such operator"):
        train(tables, tmp_path)


def test_training_until_validation_or_test_reads_no_later_bar(tables, tmp_path):
    training_set, labels, catalog = tables
    bars = training_set["timestamp"].unique().sort()
    for until, last in (("validation", 83), ("test", 119)):
        fragile.FRAMES.clear()
        trained = train(tables, tmp_path / until, until=until)
        assert trained.predictions["timestamp"].max() == bars[last]
        assert max(frame["timestamp"].max() for frame in fragile.FRAMES) == bars[last]
        assert "final" not in [fold.fold for fold in trained.status.folds]
    later = pl.col("timestamp") > bars[83]
    planted = training_set.with_columns(
        pl.when(later).then(pl.lit(9.0, dtype=pl.Float32)).otherwise(pl.col("trend_a")).alias("trend_a")
    )
    wild = labels.with_columns(
        pl.when(later & pl.col("log_return").is_not_null())
        .then(pl.lit(7.0))
        .otherwise(pl.col("log_return"))
        .alias("log_return")
    )
    before, after = (
        train(those, tmp_path / name, until="validation").predictions
        for name, those in (("before", tables), ("after", (planted, wild, catalog)))
    )
    assert_frame_equal(after, before, check_exact=True)


def test_whoever_watches_may_stop_after_a_fold(tables, tmp_path):
    seen = []

    def watch(number, total, predictions):
        seen.append((number, total, len(predictions)))
        if number == 1:
            raise Stopped("enough")

    with pytest.raises(Stopped, match="enough"):
        train(tables, tmp_path, after_fold=watch)
    assert [number for number, _, _ in seen] == [0, 1]
    assert (tmp_path / "fold_01" / "predictions.parquet").exists()
    assert not (tmp_path / "fold_02").exists()


def test_an_expert_with_one_head_gets_a_model_for_each_further_task(tables, tmp_path):
    training_set, labels, catalog = tables
    doubled = labels.with_columns(sector_neutral_return=2 * pl.col("log_return"))
    given = (training_set, doubled, catalog)
    leaf = FRAGILE.model_copy(update={"also": (FurtherTask(target="sector_neutral_return", horizon=2),)})
    alone = train(given, tmp_path / "alone").predictions
    fragile.FRAMES.clear()
    trained = train(given, tmp_path / "both", leaf)
    own, other, asked = fragile.FRAMES[:3]
    assert other["label"].equals(2 * own["label"])
    assert "also_0" not in own.columns
    assert asked["label"].null_count() == len(asked)
    both = trained.predictions
    assert of_task(both, "log_return", 2).equals(alone)
    further = of_task(both, "sector_neutral_return", 2)
    assert further.select("timestamp", "symbol", "fold").equals(alone.select("timestamp", "symbol", "fold"))
    assert [task.target for task in trained.status.further] == ["sector_neutral_return"]
    assert trained.status.rows == len(alone)
    expert = expert_of(fragile, fragile.Settings(), leaf, [("sector_neutral_return", 2)])
    model = load_warm(fragile, trained.model_folder, expert, leaf, [("sector_neutral_return", 2)])
    assert model.further["sector_neutral_return_2"].mean == pytest.approx(2 * model.own.mean)
    manifest = verify_bundle(trained.model_folder)
    assert [task["target"] for task in manifest["tasks"]] == ["log_return", "sector_neutral_return"]


@pytest.mark.parametrize("ensemble", [1, 2])
def test_a_further_task_is_predicted_as_by_a_leaf_of_its_own(tables, tmp_path, ensemble):
    training_set, labels, catalog = tables
    noise = np.random.default_rng(4).normal(size=len(labels)) * labels["log_return"].std()
    other = labels.with_columns(pl.lit(3, pl.Int32).alias("horizon"), log_return=pl.col("log_return") + noise)
    given = (training_set, pl.concat([labels, other]).sort(LABELS.key), catalog)
    trees = Leaf(expert="lightgbm", period="1d", ensemble=ensemble, settings={"rounds": 5})
    timeline = {"timeline": LONGER}
    also = (FurtherTask(target="log_return", horizon=3), FurtherTask(target="direction", horizon=2))
    both = train(given, tmp_path / "both", trees.model_copy(update={"also": also}), **timeline).predictions
    for name, task in (("run's", {}), ("own", {"horizon": 3}), ("class", {"target": "direction"})):
        alone = train(given, tmp_path / name, trees.model_copy(update=task), **timeline).predictions
        found = of_task(both, *alone.select("target", "horizon").row(0))
        assert_frame_equal(found.select(alone.columns), alone, check_exact=True)


def test_a_warm_model_with_other_further_tasks_or_none_is_gone_on_from(tables, tmp_path):
    leaf = FRAGILE.model_copy(update={"also": (FurtherTask(target="sector_neutral_return", horizon=2),)})
    early = train(tables, tmp_path / "early", leaf).model_folder
    assert train(tables, tmp_path / "same", leaf, warm_from=early).status.folds[-1].warm
    assert train(tables, tmp_path / "alone", warm_from=early).status.folds[-1].warm
    alone = train(tables, tmp_path / "first").model_folder
    assert train(tables, tmp_path / "more", leaf, warm_from=alone).status.folds[-1].warm
    neutral = FRAGILE.model_copy(update={"target": "sector_neutral_return"})
    assert not train(tables, tmp_path / "other", neutral, warm_from=alone).status.folds[-1].warm


def test_rows_that_are_not_learnable_have_no_further_label(tables, tmp_path):
    leaf = FRAGILE.model_copy(update={"also": (FurtherTask(target="sector_neutral_return", horizon=2),)})
    half = tables[0].filter(pl.col("symbol") < "S03").select(*LEARNABLE.columns)
    train(tables, tmp_path / "half", leaf, learnable=half)
    symbols = fragile.FRAMES[1].drop_nulls("label")["symbol"].unique().sort().to_list()
    assert symbols == ["S00", "S01", "S02"]
    with pytest.raises(ContractError, match="no rows of horizon 9"):
        train(
            tables,
            tmp_path / "other",
            FRAGILE.model_copy(update={"also": (FurtherTask(target="direction", horizon=9),)}),
        )


def test_a_leaf_with_a_task_of_its_own_learns_that(tables, tmp_path):
    training_set, labels, catalog = tables
    longer = labels.with_columns(horizon=pl.lit(1, pl.Int32), log_return=3 * pl.col("log_return"))
    given = (training_set, pl.concat([longer, labels]).sort(LABELS.key), catalog)
    leaf = FRAGILE.model_copy(update={"horizon": 1})
    trained = train(given, tmp_path, leaf)
    assert tasks_in(trained.predictions) == [("log_return", 1)]
    assert (trained.status.target, trained.status.horizon) == ("log_return", 1)
    wanted = training_set.join(longer, on=("timestamp", "symbol"))["log_return"]
    assert set(fragile.FRAMES[0]["label"].drop_nulls()) <= set(wanted.drop_nulls())
    with pytest.raises(ExpertError, match="p_down"):
        train(given, tmp_path / "class", FRAGILE.model_copy(update={"target": "direction"}))


@pytest.mark.parametrize("early", [False, True])
def test_a_long_label_of_an_expert_of_its_own_horizon_never_leaks_through_the_purge(tables, tmp_path, early):
    """Labels known after 10 bars in a run of 2, purged for 4: refused; fine where they are known in time."""
    training_set, labels, catalog = tables
    times = training_set["timestamp"].unique().sort()
    place = times.search_sorted(labels["timestamp"]) + (3 if early else 11)
    known = times.gather(place.clip(0, len(times) - 1))
    late = labels.with_columns(horizon=pl.lit(3, pl.Int32), label_end=known)
    leaf = FRAGILE.model_copy(update={"horizon": 3})
    given = (training_set, pl.concat([labels, late]).sort(LABELS.key), catalog)
    if early:
        assert train(given, tmp_path, leaf, timeline=LONGER).status.horizon == 3
        return
    with pytest.raises(TimelineError, match="became known after"):
        train(given, tmp_path, leaf, timeline=LONGER)


def test_a_further_label_that_is_known_too_late_is_refused(tables, tmp_path):
    training_set, labels, catalog = tables
    times = training_set["timestamp"].unique().sort()
    late = labels.with_columns(
        pl.lit(10, dtype=pl.Int32).alias("horizon"), pl.lit(times[-1]).alias("label_end")
    )
    leaf = FRAGILE.model_copy(update={"also": (FurtherTask(target="direction", horizon=10),)})
    with pytest.raises(TimelineError, match="became known after"):
        train(
            (training_set, pl.concat([labels, late]), catalog),
            tmp_path,
            leaf,
            timeline=TIMELINE.model_copy(update={"purge_bars": 11}),
        )


def test_groups_that_an_expert_takes_whole_escape_the_selection(tables, tmp_path, monkeypatch):
    names = fold_names(tables, tmp_path / "plain")
    monkeypatch.setattr(fragile.Expert, "whole_groups", ("regime",), raising=False)
    trained = train(tables, tmp_path / "chosen", chosen=ChosenInputs("", dict.fromkeys(names, ("trend_a",))))
    assert verify_bundle(trained.model_folder)["columns"] == ["trend_a", "regime_a"]
    assert trained.status.inputs == 2


def test_an_address_with_a_password_does_not_reach_the_manifest(tables, tmp_path):
    trained = train(tables, tmp_path, FRAGILE.model_copy(update={"tracking": "http://me:secret@host"}))
    assert "secret" not in json.dumps(verify_bundle(trained.model_folder))


def test_a_training_that_is_still_at_work_is_not_disturbed(tmp_path):
    with (
        only_training(tmp_path / "tft"),
        pytest.raises(OutputError, match="Another training is writing"),
        only_training(tmp_path / "tft"),
    ):
        pass
    with only_training(tmp_path / "tft"), only_training(tmp_path / "patchtst"):
        pass


def test_the_probabilities_of_a_target_of_classes_stay_in_the_table(tables, tmp_path):
    leaf = Leaf(expert="elasticnet", period="1d", settings={"penalties": 2})
    classes = train(tables, tmp_path / "classes", leaf, target="direction").predictions
    check_table(classes, PREDICTIONS)
    assert classes.select("p_down", "p_none", "p_up").null_count().row(0) == (0, 0, 0)
    assert "p_up" not in train(tables, tmp_path / "number", leaf).predictions.columns


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            "sum",
            "the probabilities of 1 of 144 rows are not all within 0 and 1 with a sum of 1, first: ",
        ),
        ("not a number", "p_up is null, NaN or infinite in 1 of 144 predictions, first at "),
        ("nothing", "p_up is null, NaN or infinite in 1 of 144 predictions, first at "),
        ("infinite", "p_up is null, NaN or infinite in 1 of 144 predictions, first at "),
        (
            "negative",
            "the probabilities of 1 of 144 rows are not all within 0 and 1 with a sum of 1, first: ",
        ),
        ("a third class", "p_none is not 0 in 1 predictions, first at "),
        ("two columns", "predictions lack ['p_none'] and have nothing too much"),
        ("", "A target of classes needs p_down, p_none, p_up."),
    ],
)
def test_bad_probabilities_of_an_expert_of_ones_own_are_refused_by_name(tables, tmp_path, harm, message):
    """In one row of a fold, for a target that knows no `none`; the row is named."""
    training_set, labels, catalog = tables
    trend = labels.with_columns(trend=(pl.col("direction") > 0).cast(pl.Int8))
    leaf = FRAGILE.model_copy(update={"settings": {"harm": harm}})
    with pytest.raises(ExpertError) as caught:
        train((training_set, trend, catalog), tmp_path, leaf, target="trend")
    said = str(caught.value)
    assert said.startswith("Expert fragile, fold_00: ")
    assert message in said
    assert len(said) < 500
    if "first" in message:
        assert "2020-03-01" in said
        assert "S02" in said


def test_sound_probabilities_of_an_expert_of_ones_own_are_taken(tables, tmp_path):
    training_set, labels, catalog = tables
    trend = labels.with_columns(trend=(pl.col("direction") > 0).cast(pl.Int8))
    leaf = FRAGILE.model_copy(update={"settings": {"harm": "sound"}})
    found = train((training_set, trend, catalog), tmp_path, leaf, target="trend").predictions
    assert found.select("p_down", "p_none", "p_up").unique().row(0) == (0.2, 0.0, 0.8)
