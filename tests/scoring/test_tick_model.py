"""A registered network of ticks, asked sample by sample, says what the fitted one says of whole windows, and
nothing of what comes later.
"""

import json
import shutil

import polars as pl
import pytest

from components.contracts import write_manifest
from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.schemas import INDUSTRY_COLUMN, SECTOR_COLUMN
from components.contracts.tick_days import INSTRUMENTS
from components.experts.families import causal_cnn
from components.experts.protocol import Task
from components.scoring import ScoringError
from components.scoring.stream import STREAM_FILE
from components.scoring.tick_model import LANE_FILE, TickModel
from tests.experts.market import fit_and_predict_frames
from tests.experts.tick_market import INPUTS, samples

TASK = Task(
    period="250ms",
    horizon=2,
    target="trade_class",
    groups=INPUTS,
    seed=3,
    threads=1,
    transform="scaled",
)
SETTINGS = {"lookback_bars": 8, "branch_ms": (250, 1000), "width": 8, "training": {"epochs": 1}}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A bundle with a fitted network, the samples of one symbol's session, and what the network says of them
    by windows.
    """
    rows = samples(600, 2, seed=5)
    label = pl.when(pl.col("label").abs() > 5e-5).then(pl.col("label").sign()).otherwise(0.0)
    rows = rows.with_columns(label.alias("label")).drop(SECTOR_COLUMN, INDUSTRY_COLUMN, strict=False)
    fit, _ = fit_and_predict_frames(rows, lookback=7)
    expert = causal_cnn.Expert(causal_cnn.Settings.model_validate(SETTINGS))
    expert.fit(fit, TASK, advance=lambda share, what: None)
    bundle = tmp_path_factory.mktemp("bundle")
    folder = bundle / "experts" / "causal_cnn"
    folder.mkdir(parents=True)
    expert.save(folder)
    expert.export(folder)
    Instruments(symbols={"T0": Instrument(tick_size=0.1, lot_size=1.0)}).write(bundle / INSTRUMENTS)
    (bundle / LANE_FILE).write_text(json.dumps({"expert": "causal_cnn"}))
    about = {"period": "250ms", "horizon": 2, "target": "trade_class"}
    write_manifest(bundle, {"lane": "ticks", **about})
    last_session = rows["timestamp"].dt.date().max()
    own = rows.filter((pl.col("symbol") == "T0") & (pl.col("timestamp").dt.date() == last_session))
    by_windows = expert.predict(own.with_columns(part=pl.lit("predict")))
    return bundle, own, by_windows


def test_it_says_what_the_network_says_of_whole_windows(asked, tmp_path):
    bundle, own, by_windows = asked
    model = TickModel.load(shutil.copytree(bundle, tmp_path / "bundle"))
    shutil.rmtree(tmp_path / "bundle")  # as when it was fetched from a registry to be read
    found = model.score(own)
    both = found.join(by_windows, on="timestamp", suffix="_of_window")
    assert len(both) == len(own)
    for name in ("score", "uncertainty", "p_down", "p_none", "p_up"):
        gap = (both[name] - both[f"{name}_of_window"]).abs().max()
        assert gap < 1e-5, name
    assert found["score"].std() > 1e-3


def test_later_samples_change_nothing(asked):
    bundle, own, _ = asked
    model = TickModel.load(bundle)
    whole, first = model.score(own), model.score(own[:40])
    assert whole[:40].equals(first)
    assert len(model.score(own[:0])) == 0


def test_a_missing_column_is_named(asked):
    bundle, own, _ = asked
    with pytest.raises(ScoringError, match="lack 1 columns of the model, first 'flow_a'"):
        TickModel.load(bundle).score(own.drop("flow_a"))


def changed(bundle, folder, change):
    """A copy of the bundle that was changed by somebody who writes its manifest as well."""
    copy = shutil.copytree(bundle, folder / "bundle")
    change(copy)
    about = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").unlink()
    write_manifest(copy, {name: about[name] for name in ("lane", "period", "horizon", "target")})
    return copy


@pytest.mark.parametrize("name", ["../../elsewhere", "/", "..", ".", "", 3, None])
def test_an_expert_that_lies_elsewhere_is_refused(asked, tmp_path, name):
    shutil.copytree(asked[0] / "experts" / "causal_cnn", tmp_path / "elsewhere")

    def elsewhere(copy):
        (copy / LANE_FILE).write_text(json.dumps({"expert": name}))

    with pytest.raises(ScoringError, match=r"ticks\.json: `expert` is .* the name of a folder in experts"):
        TickModel.load(changed(asked[0], tmp_path, elsewhere))


def test_a_network_without_its_graph_of_single_samples_is_refused(asked, tmp_path):
    def lacking(copy):
        (copy / "experts" / "causal_cnn" / STREAM_FILE).unlink()

    with pytest.raises(ScoringError, match=rf"looks back over 8 samples and has no {STREAM_FILE}"):
        TickModel.load(changed(asked[0], tmp_path, lacking))
    assert TickModel.load(changed(asked[0], tmp_path / "whole", lambda copy: None)).stream is not None
