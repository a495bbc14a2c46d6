"""The registry against a real MLflow on SQLite: versions, aliases, history, trials, and bundles that were
tampered with.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from made_documents import evaluation, nothing_scored, verdict

from components.contracts import ALL_PREDICTIONS, TIME, BundleError, verify_bundle, write_table
from components.contracts.documents.champion import ChampionRecord, Registration, read_champion_record
from components.contracts.documents.trials import Scored, Trials
from components.contracts.documents.verdict import Verdict
from components.registry.aliases import champion_history, champion_of, promote, version_by_alias
from components.registry.champion import fetch_champion
from components.registry.client import RegistryError, open_registry
from components.registry.config import Settings
from components.registry.record import JudgedModel, record
from components.registry.trials import Trial, count_trials, read_verdict
from tests.experts.statuses import status_of

DAYS = pl.datetime_range(
    datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC), "1d", time_unit="us", eager=True
).cast(TIME)
CONFIG = {"run": {"seed": 1}}


def candidate(
    folder: Path, score: float, judged: Verdict, window: Sequence[str] = (), scored: Scored | None = None
) -> JudgedModel:
    """The artifacts of a run whose stack always says `score`."""
    folder.mkdir()
    columns = {
        name: pl.lit(score)
        for name in ("score", "uncertainty", "p10", "p50", "p90", "head_scale", "head_bias")
    }
    about = {
        "symbol": "A",
        "period": "1d",
        "target": "log_return",
        "expert": "stack",
        "fold": "f",
        "train_window": "w",
    }
    frame = pl.DataFrame({"timestamp": DAYS}).with_columns(
        horizon=pl.lit(5, pl.Int32), **{k: pl.lit(v) for k, v in about.items()}, **columns
    )
    predictions = folder / "predictions.parquet"
    write_table(
        frame, predictions, ALL_PREDICTIONS, code_version="c", config_hash="h", inputs={"labels": "1" * 64}
    )
    for name, status in (("a", "trained"), ("b", "trained"), ("c", "failed")):
        model = folder / name / "model"
        model.mkdir(parents=True)
        (model / "weights.json").write_text(json.dumps({"score": score}))
        (model / "manifest.json").write_text(
            json.dumps({"known_until": "2024-02-03T00:00:00+00:00", "train_window": "2023-01-01..2024-01-20"})
        )
        status_of(name, status).write(folder / name / "status.json")
    (folder / "stacker").mkdir()
    (folder / "stacker" / "stacker.json").write_text("{}")
    (folder / "reference").mkdir()
    (folder / "reference" / "reference.json").write_text("{}")
    (folder / "catalog.json").write_text("[]")
    (folder / "features.json").write_text('{"schema": "abc"}')
    return JudgedModel(
        verdict=judged,
        evaluation=evaluation(*window),
        scored=scored or nothing_scored(*window),
        expert_folders=[folder / name for name in "abc"],
        predictions=predictions,
        stacker=folder / "stacker",
        catalog=folder / "catalog.json",
        feature_registry=folder / "features.json",
        config=CONFIG,
        code="c",
        reference=folder / "reference",
    )


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """One registry through its life: rejected, first champion, the same again, a better one, a worse one, a
    manual one.
    """
    root = tmp_path_factory.mktemp("registry")
    home, auto, manual = root / "home", Settings(), Settings(promotion="manual")
    models = {
        "bad": candidate(root / "bad", 0.0, verdict(False, False, "IC 0.00 is below 0.02")),
        "first": candidate(root / "first", 0.1, verdict()),
        "better": candidate(root / "better", 0.2, verdict()),
        "worse": candidate(root / "worse", 0.3, verdict(beats=False, reason="not better")),
        "manual": candidate(root / "manual", 0.4, verdict()),
    }
    assert fetch_champion(auto, "demo", home, root / "c0") is None
    told = {name: record(auto, "demo", home, models[name]) for name in ("bad", "first")}
    told["again"] = record(auto, "demo", home, models["first"])
    told |= {name: record(auto, "demo", home, models[name]) for name in ("better", "worse")}
    told["manual"] = record(manual, "demo", home, models["manual"])
    return root, home, told


def test_no_champion_at_first(story):
    root, _, _ = story
    assert json.loads((root / "c0" / "champion.json").read_text()) == {"format": 1, "version": None}


def test_a_rejected_model_is_recorded_but_gets_no_version(story):
    _, home, told = story
    assert (told["bad"].status, told["bad"].version, told["bad"].champion_after) == (
        "rejected",
        None,
        None,
    )
    run = open_registry(Settings(), home).get_run(told["bad"].run_id)
    assert run.data.tags["verdict"] == "rejected"
    assert run.data.metrics == {"information_coefficient": 0.03}


def test_approved_models_become_champion_only_when_they_beat_the_one_in_place(story):
    _, _, told = story
    seen = {
        name: (t.status, t.version, t.champion_before, t.champion_after, t.aliases)
        for name, t in told.items()
        if name != "bad"
    }
    assert seen == {
        "first": ("registered", 1, None, 1, ["champion"]),
        "again": ("unchanged", 1, 1, 1, ["champion"]),
        "better": ("registered", 2, 1, 2, ["champion"]),
        "worse": ("registered", 3, 2, 2, ["challenger"]),
        "manual": ("registered", 4, 2, 2, ["challenger"]),
    }
    assert "waits as challenger" in told["manual"].reason


def test_trials_on_the_same_window_are_counted_once_each(story):
    _, _, told = story
    assert [told[name].trials for name in ("bad", "first", "again", "better", "worse", "manual")] == [
        1,
        2,
        2,
        3,
        4,
        5,
    ]


def test_the_history_says_who_was_champion_when_and_why(story):
    _, home, told = story
    history = champion_history(open_registry(Settings(), home), "demo")
    assert [(h.version, h.previous, h.who, h.why) for h in history] == [
        (1, None, "pipeline", "better by 0.01"),
        (2, 1, "pipeline", "better by 0.01"),
    ]
    assert all(h.when.tzinfo for h in history)
    assert told["manual"].history == history


def test_the_bundle_holds_the_trained_experts_and_no_file_that_can_execute_code(story):
    _, home, _ = story
    client = open_registry(Settings(), home)
    folder = Path(client.get_model_version_by_alias("demo", "champion").source.removeprefix("file://"))
    manifest = verify_bundle(folder)
    assert manifest["experts"] == ["a", "b"]
    models = {f"experts/{name}/{file}.json" for name in "ab" for file in ("weights", "manifest")}
    assert set(manifest["files"]) == models | {
        "stacker/stacker.json",
        "catalog.json",
        "features.json",
        "out_of_sample.parquet",
        "reference/reference.json",
    }
    heads = [path.read_bytes()[:2] for path in home.rglob("*") if path.is_file()]
    assert not [head for head in heads if head in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")]


def test_the_champion_brings_its_own_out_of_sample_predictions_and_a_tampered_one_is_refused(story, tmp_path):
    _, home, _ = story
    about = fetch_champion(Settings(), "demo", home, tmp_path / "c")
    assert about.version == 2
    assert (about.known_until, about.train_window) == (
        datetime(2024, 2, 3, tzinfo=UTC),
        "2023-01-01..2024-01-20",
    )
    assert [reign.version for reign in about.history] == [1, 2]
    assert read_champion_record(tmp_path / "c" / "champion.json") == about
    assert (tmp_path / "c" / "reference" / "reference.json").read_text() == "{}"
    assert pl.read_parquet(tmp_path / "c" / "predictions.parquet")["score"].unique().to_list() == [0.2]
    client = open_registry(Settings(), home)
    weights = (
        Path(client.get_model_version_by_alias("demo", "champion").source.removeprefix("file://"))
        / "experts"
        / "a"
        / "weights.json"
    )
    before = weights.read_text()
    weights.write_text("{}")
    with pytest.raises(BundleError, match=r"weights\.json was changed"):
        fetch_champion(Settings(), "demo", home, tmp_path / "d")
    weights.write_text(before)


def test_promotion_by_hand_is_written_down(story):
    _, home, _ = story
    client = open_registry(Settings(), home)
    promote(client, "demo", 4, why="reviewed", who="ada")
    assert client.get_model_version_by_alias("demo", "champion").version in (4, "4")
    assert champion_history(client, "demo")[-1].who == "ada"
    promote(client, "demo", 2, why="back", who="ada")


def test_trials_are_those_whose_test_windows_overlap(story, tmp_path):
    _, home, told = story
    windows = {
        "later": ("2024-02-02T00:00:00Z", "2024-03-01T00:00:00Z"),
        "overlapping": ("2024-01-20T00:00:00Z", "2024-02-20T00:00:00Z"),
    }
    rejected = verdict(False, False, "no")
    made = {
        name: record(
            Settings(), "demo", home, candidate(tmp_path / name, 0.5 + score, rejected, window)
        ).trials
        for score, (name, window) in enumerate(windows.items())
    }
    assert made == {"later": 1, "overlapping": told["manual"].trials + 2}


def test_trials_are_counted_past_the_first_page(story, tmp_path, monkeypatch):
    """Planted fault: MLflow gives at most 1,000 runs at once, here 2."""
    _, home, told = story
    client = open_registry(Settings(), home)
    experiment = client.get_experiment_by_name("demo").experiment_id
    trial = Trial.of(evaluation())
    everything = count_trials(client, experiment, trial)
    assert everything >= told["manual"].trials > 2
    asked = []
    search = client.search_runs
    monkeypatch.setattr(
        client, "search_runs", lambda *a, **k: asked.append(k["page_token"]) or search(*a, **k)
    )
    monkeypatch.setattr("components.registry.trials.PAGE_RUNS", 2)
    assert count_trials(client, experiment, trial) == everything
    assert len(asked) > 2
    assert None not in asked[1:]


def test_a_champion_of_the_version_before_is_read(story, tmp_path):
    """Registries and folders of 0.4.0: champion.json without a format, verdicts as the gates wrote them."""
    _, home, _ = story
    record_now = fetch_champion(Settings(), "demo", home, tmp_path / "c")
    old = json.loads((tmp_path / "c" / "champion.json").read_text())
    del old["format"]
    (tmp_path / "c" / "champion.json").write_text(json.dumps(old))
    assert ChampionRecord.find(tmp_path / "c" / "champion.json") == record_now
    (tmp_path / "c" / "champion.json").write_text('{"version": null}')
    assert ChampionRecord.find(tmp_path / "c" / "champion.json") is None


def test_the_verdict_of_a_run_is_read_and_a_broken_one_is_logged(story, caplog):
    _, home, told = story
    client = open_registry(Settings(), home)
    run_id = told["first"].run_id
    found = read_verdict(client, run_id)
    assert found == verdict().model_dump(mode="json")
    client.log_dict(run_id, {key: value for key, value in found.items() if key != "gates"}, "verdict.json")
    assert read_verdict(client, run_id) is None
    assert "gates: Field required" in caplog.text
    client.log_dict(run_id, found, "verdict.json")


def test_a_model_or_an_alias_that_is_not_there_is_no_champion(story):
    _, home, _ = story
    client = open_registry(Settings(), home)
    assert version_by_alias(client, "unheard-of", "champion") is None
    assert version_by_alias(client, "demo", "nobody") is None
    assert version_by_alias(client, "demo", "champion").version in (2, "2")


def test_a_question_that_the_registry_does_not_understand_is_not_read_as_no_champion(story, caplog):
    """Planted fault: MLflow gives this name the same error code as an alias that is not there."""
    _, home, _ = story
    client = open_registry(Settings(), home)
    with pytest.raises(RegistryError, match="Names cannot contain"):
        champion_of(client, "a/b")
    assert "Traceback" in caplog.text
    with pytest.raises(RegistryError, match="Names cannot contain"):
        champion_history(client, "a/b")


@dataclass(frozen=True)
class Artifact:
    """What a door is given."""

    path: str


def test_the_doors(tmp_path):
    from components.registry.component import gather_trials, register
    from components.registry.component import read_champion as champion_door

    model = candidate(tmp_path / "run", 0.1, verdict())
    model.verdict.write(tmp_path / "verdict")
    model.evaluation.write(tmp_path / "evaluation")
    (tmp_path / "experts").mkdir()
    for position, folder in enumerate(model.expert_folders):
        folder.rename(tmp_path / "experts" / f"{position:02d}_{folder.name}")
    about = {
        "settings": Settings().model_dump_json(),
        "name": "demo",
        "folder": str(tmp_path / "home"),
    }
    returns = {"timestamp": [], "expert": [], "strategy": [], "window": [], "net_return": []}
    schema = {"timestamp": TIME, "net_return": pl.Float64}
    pl.DataFrame(returns, schema_overrides=schema).write_parquet(tmp_path / "returns")
    scored = {name: Artifact(str(tmp_path / name)) for name in ("evaluation", "returns", "trials")}
    gather_trials.python_func(**about, **scored)
    assert Trials.read(tmp_path / "trials") == Trials(scored=(nothing_scored(),), unseen=0)
    champion_door.python_func(**about, champion=Artifact(str(tmp_path / "before")))
    assert ChampionRecord.find(tmp_path / "before" / "champion.json") is None
    given = {
        "verdict": tmp_path / "verdict",
        "evaluation": tmp_path / "evaluation",
        "trials": tmp_path / "trials",
        "predictions": model.predictions,
        "stacker": model.stacker,
        "catalog": model.catalog,
        "feature_registry": model.feature_registry,
        "reference": model.reference,
        "experts": tmp_path / "experts",
        "registration": tmp_path / "registration",
    }
    paths = {name: Artifact(str(path)) for name, path in given.items()}
    register.python_func(**about, **paths, config=json.dumps(CONFIG), code="c")
    told = Registration.read(tmp_path / "registration")
    assert (told.status, told.champion_after, told.aliases) == ("registered", 1, ["champion"])
    returns = {"timestamp": [], "expert": [], "strategy": [], "window": [], "net_return": []}
    schema = {"timestamp": TIME, "net_return": pl.Float64}
    pl.DataFrame(returns, schema_overrides=schema).write_parquet(tmp_path / "returns")
    scored = {name: Artifact(str(tmp_path / name)) for name in ("evaluation", "returns", "trials")}
    gather_trials.python_func(**about, **scored)
    assert Trials.read(tmp_path / "trials") == Trials(scored=(nothing_scored(),), unseen=0)
    champion_door.python_func(**about, champion=Artifact(str(tmp_path / "after")))
    found = ChampionRecord.find(tmp_path / "after" / "champion.json")
    assert (found.version, found.bundle_sha256) == (1, told.bundle_sha256)


def test_a_registry_that_does_not_answer_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"Check registry\.tracking_uri"):
        fetch_champion(Settings(tracking_uri="http://127.0.0.1:9"), "demo", tmp_path, tmp_path / "c")
