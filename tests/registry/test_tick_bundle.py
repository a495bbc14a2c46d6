"""Models of order books in the registry: what their bundle holds is enough to ask them, a changed one is
refused, and none takes a champion's place that it was not held against.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.contracts import ALL_PREDICTIONS, BundleError, write_manifest, write_table
from components.contracts.catalog import CatalogEntry, write_catalog
from components.contracts.documents.experts import STATUS, TrainedExpert
from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.tick_days import INSTRUMENTS
from components.registry.aliases import champion_of, version_by_alias
from components.registry.client import RegistryError, open_registry
from components.registry.config import Settings
from components.registry.run import RegistryPlace
from components.registry.tick_bundle import CandidateInputs, run_register_ticks
from components.registry.versions import fetch_bundle
from components.scoring import Model, ScoringError
from components.scoring.form import ClassLinear, Form, Unit, write_form
from components.scoring.tick_model import LANE_FILE, TickModel
from tests.gates.tick_replays import STAMP, replay, samples
from tests.registry import made_documents

NAME = "small-ticks"
INPUTS = ("imbalance_1", "trade_sign")
CONFIG = {
    "tick_features": {"sample": "250ms"},
    "tick_labels": {"fee_bps": 0.1},
    "tick_replay": {"capital": 5_000.0},
    "tick_gates": {"policy": "taker", "latency": "measured"},
    "run": {"folder": "somewhere"},
}
# Logits of down, none, up: by hand those of the inputs (1, -2) are (-1.5, 0, 1), of missing ones (0, 0, -.5).
LOGITS = ClassLinear(((-1.5, 0.0), (0.0, 0.0), (0.5, -0.5)), (0.0, 0.0, -0.5), 10.0)


def form(**changed) -> Form:
    own = {
        "kind": "row",
        "columns": INPUTS,
        "lookback_bars": 0,
        "raw": LOGITS,
        "head_scale": 1.0,
        "head_bias": 0.0,
        "unit": Unit(1e-4, 1e-5),
        "band": None,
        "band_width": 1.0,
        "p10_to_p90": 2.563,
        "classes": (-1, 0, 1),
        "temperature": 2.0,
    }
    return Form(**{**own, **changed})


def trained(folder: Path, name: str = "causal_cnn", served: Form | None = None) -> Path:
    """The folder of a fitted expert."""
    (folder / "model").mkdir(parents=True)
    write_form(folder / "model", served or form())
    write_manifest(folder / "model", {"expert": name})
    status = {
        "expert": name,
        "period": "50ms",
        "modality": "base",
        "horizon": 20,
        "target": "trade_class",
        "inputs": len(INPUTS),
        "rows": 10,
        "train_window": "a..b",
        "predicted": "a..b",
        "folds": (),
        "resumed_folds": 0,
        "constant_folds": (),
        "seconds": 1.0,
    }
    TrainedExpert(**status).write(folder / STATUS)
    return folder


@pytest.fixture
def made(tmp_path):
    """What the stages before the registry left."""
    inputs = CandidateInputs(
        verdict=str(tmp_path / "verdict.json"),
        found=str(tmp_path / "found.json"),
        predictions=str(tmp_path / "predictions.parquet"),
        ticks=str(tmp_path / "ticks"),
        delays=str(tmp_path / "delays.parquet"),
        catalog=str(tmp_path / "catalog.json"),
        expert=str(trained(tmp_path / "expert")),
    )
    (tmp_path / "ticks").mkdir()
    instruments = Instruments(symbols={"S1": Instrument(tick_size=0.1, lot_size=1.0)})
    instruments.write(tmp_path / "ticks" / INSTRUMENTS)
    replay().write(inputs.found)
    write_table(samples(1.0, rows=100)[0], inputs.predictions, ALL_PREDICTIONS, **STAMP)
    pl.DataFrame({"delay_ns": [1]}).write_parquet(inputs.delays)
    entries = [CatalogEntry(name, name, "book", "input", "none", 1, "", "") for name in INPUTS]
    write_catalog(entries, inputs.catalog)
    return inputs


def place(folder: Path) -> RegistryPlace:
    return RegistryPlace(Settings().model_dump_json(), NAME, str(folder / "registry"))


def recorded(folder: Path, inputs: CandidateInputs, *, approved: bool = True):
    told = made_documents.verdict(approved, reason="all gates passed" if approved else "1 of 1 failed")
    told.model_copy(update={"candidate": "causal_cnn"}).write(inputs.verdict)
    return run_register_ticks(
        place(folder), inputs, str(folder / "registration.json"), config=json.dumps(CONFIG), code="c"
    )


def fetched(folder: Path, version: int = 1) -> Path:
    client = open_registry(Settings(), folder / "registry")
    fetch_bundle(client, NAME, version, folder / "bundle")
    return folder / "bundle"


def test_what_a_bundle_holds_is_enough_to_ask_the_model(made, tmp_path):
    told = recorded(tmp_path, made)
    assert (told.status, told.version, told.aliases) == ("registered", 1, ["champion"])
    bundle = fetched(tmp_path)
    for name in ("expert", "ticks", "delays.parquet", "catalog.json", "predictions.parquet"):
        path = tmp_path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    model = TickModel.load(bundle)
    assert (model.period, model.horizon, model.target) == ("50ms", 20, "trade_class")
    assert model.lane == {"expert": "causal_cnn", **{key: CONFIG[key] for key in CONFIG if key != "run"}}
    assert model.instruments.symbols["S1"].tick_size == 0.1
    rows = pl.DataFrame(
        {
            "timestamp": [0, 1],
            "imbalance_1": [1.0, np.nan],
            "trade_sign": [-2.0, np.nan],
            "regime_state": [0.0, np.nan],
            "volatility_20": [1e-4, np.nan],
        }
    )
    found = model.score(rows)
    for row, logits in enumerate(((-1.5, 0.0, 1.0), (0.0, 0.0, -0.5))):
        share = np.exp(np.array(logits) / 2.0)
        wanted = share / share.sum()
        given = found.select("p_down", "p_none", "p_up").row(row)
        assert given == pytest.approx(tuple(wanted))
        assert found["score"][row] == pytest.approx(wanted[2] - wanted[0])


def test_a_rejected_model_is_recorded_but_no_version(made, tmp_path):
    told = recorded(tmp_path, made, approved=False)
    assert (told.status, told.version, told.trials) == ("rejected", None, 1)
    assert champion_of(open_registry(Settings(), tmp_path / "registry"), NAME) is None


def test_no_model_takes_the_place_of_a_champion_it_was_not_held_against(made, tmp_path):
    recorded(tmp_path, made)
    shutil.rmtree(made.expert)
    trained(Path(made.expert), served=form(temperature=3.0))
    told = recorded(tmp_path, made)
    assert (told.version, told.aliases, told.champion_after) == (2, ["challenger"], 1)
    assert "no gate has held it against version 1" in told.reason
    client = open_registry(Settings(), tmp_path / "registry")
    assert (champion_of(client, NAME).version, version_by_alias(client, NAME, "challenger").version) == (1, 2)
    again = recorded(tmp_path, made)
    assert (again.status, again.version, again.champion_after) == ("unchanged", 2, 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda bundle: (bundle / LANE_FILE).write_text("{}"), "ticks.json was changed"),
        (lambda bundle: (bundle / INSTRUMENTS).unlink(), "instruments.json is missing"),
        (lambda bundle: (bundle / "more.json").write_text("{}"), "more.json is not in the manifest"),
        (lambda bundle: (bundle / "experts" / "x.pkl").write_text(""), "x.pkl is not in the manifest"),
    ],
)
def test_a_changed_bundle_is_refused(spoil, message, made, tmp_path):
    recorded(tmp_path, made)
    bundle = fetched(tmp_path)
    TickModel.load(bundle)
    spoil(bundle)
    with pytest.raises(BundleError, match=message):
        TickModel.load(bundle)


def test_another_expert_than_the_judged_one_is_refused(made, tmp_path):
    shutil.rmtree(made.expert)
    trained(Path(made.expert), name="lightgbm")
    with pytest.raises(RegistryError, match="holds no fitted causal_cnn"):
        recorded(tmp_path, made)


def test_models_of_bars_and_of_ticks_are_not_taken_for_one_another(made, tmp_path):
    recorded(tmp_path, made)
    bundle = fetched(tmp_path)
    with pytest.raises(ScoringError, match="model of order books"):
        Model.load(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    for known in ("sha256", "files", "lane"):
        manifest.pop(known)
    write_manifest(bundle, manifest)
    with pytest.raises(ScoringError, match="no model of order books"):
        TickModel.load(bundle)
