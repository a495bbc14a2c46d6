"""Experts made of several: what each member learns from, what the regimes' models gain and cost, what an
ensemble's spread says, and that the served blend agrees.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from components.contracts import REGIMES
from components.experts.compose import Composed, compose, load_composed
from components.experts.errors import ExpertError
from components.experts.leaves import Leaf, expert_module
from components.experts.protocol import Task
from components.experts.regime_models import RegimeModels
from components.experts.rows import rank_correlation
from components.experts.training.check import check_predictions
from components.scoring.expert import ServedExpert
from components.scoring.form import ScoringError
from components.scoring.model import one_hot
from components.settings import Section
from tests.experts.market import INPUTS, fit_and_predict_frames, panel

TASK = Task(period="1d", horizon=2, target="log_return", groups=INPUTS, seed=3, threads=1)
QUICK = {
    "median": {},
    "elasticnet": {"penalties": 5},
    "lightgbm": {"rounds": 40, "patience_rounds": 10, "learning_rate": 0.1, "column_share": 0.6, "leaves": 7},
    "xgboost": {
        "rounds": 40,
        "patience_rounds": 0,
        "learning_rate": 0.1,
        "column_share": 0.6,
        "depth": 3,
        "device": "cpu",
    },
}
SYMBOLS, SEEDS = 30, range(3)


class Plain(Section):
    """Settings of the recorder."""


@dataclass
class Recorder:
    """An expert that keeps the frames it is given, and scores every row with the share of all bars seen: each
    member another constant.
    """

    settings: Plain
    lookback_bars: int = 2
    frames: list[pl.DataFrame] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    warm: list = field(default_factory=list)

    def fit(self, frame, task, *, advance, warm_start=None):
        self.frames.append(frame)
        self.tasks.append(task)
        self.warm.append(warm_start)
        advance(0.5, "half")

    def predict(self, frame):
        rows = frame.filter(pl.col("part") == "predict")
        score = float((self.frames[0]["part"] == "train").sum())
        numbers = {
            "score": score,
            "uncertainty": 1.0,
            "p10": score - 1.0,
            "p50": score,
            "p90": score + 1.5,
            "head_scale": 1.0,
            "head_bias": 0.0,
        }
        return rows.select(
            "timestamp", "symbol", *(pl.lit(value).alias(name) for name, value in numbers.items())
        )


RECORDER = SimpleNamespace(__name__="recorder", Settings=Plain, Expert=Recorder)


def with_regimes(rows: pl.DataFrame, shares=None, *, seed: int = 0, unknown: float = 0.0) -> pl.DataFrame:
    """Regimes in stretches of five bars, drawn with these shares; in some bars unknown."""
    random = np.random.default_rng(seed + 99)
    bars = rows["timestamp"].n_unique()
    regime = np.repeat(random.choice(len(REGIMES), bars // 5 + 1, p=shares), 5)[:bars].astype(np.float32)
    regime[random.random(bars) < unknown] = np.nan
    return rows.with_columns(regime_state=pl.Series(np.repeat(regime, len(rows) // bars)))


def market(seed: int, flipped: tuple[int, ...], *, strength: float = 0.3, bars: int = 240) -> pl.DataFrame:
    """A market whose signal has the other sign in the `flipped` regimes."""
    rows = with_regimes(panel(bars=bars, symbols=SYMBOLS, seed=seed, strength=strength), seed=seed)
    turned = pl.col("regime_state").cast(pl.Int32).is_in(list(flipped))
    return rows.with_columns(
        label=pl.col("label")
        - 2 * strength * turned.cast(pl.Float64) * pl.col("signal") * pl.col("volatility_20").cast(pl.Float64)
    )


def make(name: str, ensemble: int = 1, regimes: RegimeModels | None = None, **settings):
    module = expert_module(Leaf(expert=name, period="1d"))
    return compose(module, module.Settings(**{**QUICK[name], **settings}), ensemble, regimes)


def fitted(expert, frame: pl.DataFrame, task: Task = TASK):
    expert.fit(frame, task, advance=lambda share, what: None)
    return expert


def truth(rows: pl.DataFrame, predict: pl.DataFrame) -> pl.DataFrame:
    return rows.join(
        predict.filter(pl.col("part") == "predict"),
        on=["timestamp", "symbol"],
        how="semi",
        maintain_order="left",
    )


def skill(expert, rows: pl.DataFrame) -> float:
    fit, predict = fit_and_predict_frames(rows)
    found = fitted(expert, fit).predict(predict)
    return rank_correlation(
        found["timestamp"], found["score"].to_numpy(), truth(rows, predict)["label"].to_numpy()
    )


def test_nothing_to_compose_is_the_expert_itself():
    module = expert_module(Leaf(expert="median", period="1d"))
    assert type(compose(module, module.Settings(), 1, None)) is module.Expert


@pytest.mark.parametrize("name", ["elasticnet", "lightgbm"])
def test_where_the_signal_turns_with_the_regime_models_of_their_own_win(name):
    gains = [
        skill(make(name, regimes=RegimeModels()), rows) - skill(make(name), rows)
        for rows in (market(seed, (1, 3)) for seed in SEEDS)
    ]
    assert min(gains) > 0.02
    assert np.mean(gains) > 0.08


@pytest.mark.parametrize("name", ["elasticnet", "lightgbm"])
def test_where_the_regime_does_not_matter_little_is_lost(name):
    losses = [
        skill(make(name), rows) - skill(make(name, regimes=RegimeModels()), rows)
        for rows in (market(seed, ()) for seed in SEEDS)
    ]
    assert np.mean(losses) < 0.01
    assert max(losses) < 0.03


@pytest.fixture(scope="module")
def recorded() -> tuple[Composed, pl.DataFrame]:
    """Members that kept their frames.

    Bear has some 150 train rows and high volatility none; the frame has a further task's labels, too.
    """
    rows = panel(bars=150, symbols=SYMBOLS, seed=2).with_columns(also_0=pl.col("label") * 2)
    bar = rows["timestamp"].rle_id()
    regime = (
        pl.when(bar < 5)
        .then(0.0)
        .when(bar % 10 < 3)
        .then(1.0)
        .when((bar % 10 == 9) & (bar > 100))
        .then(3.0)
        .when(bar % 10 == 8)
        .then(None)
        .otherwise(2.0)
    )
    rows = rows.with_columns(regime_state=regime.cast(pl.Float32))
    fit, _ = fit_and_predict_frames(rows)
    fit = fit.with_columns(
        part=pl.when(pl.col("timestamp").rle_id() < 0).then(pl.lit("history")).otherwise(pl.col("part"))
    )
    return fitted(compose(RECORDER, Plain(), 1, RegimeModels(fewest_rows=200, other_weight=0.25)), fit), fit


def test_each_regime_gets_the_model_that_its_rows_allow(recorded):
    expert, fit = recorded
    assert list(expert.members) == ["all_0", "bear_0", "neutral_0", "bull_0"]
    about = {name: (found.train_rows, found.model) for name, found in expert.about.items()}
    train = fit.filter(pl.col("part") == "train")
    counted = {name: len(train.filter(pl.col("regime_state") == code)) for code, name in enumerate(REGIMES)}
    assert about == {
        "bear": (150, "weighted"),
        "neutral": (counted["neutral"], "own"),
        "bull": (counted["bull"], "own"),
        "high_volatility": (0, "none"),
    }
    own = counted["neutral"] / (counted["neutral"] + 1000)
    weights = np.array(expert.weights_RM)
    np.testing.assert_allclose(weights[:2], [[0, 1, 0, 0], [1 - own, 0, own, 0]])
    np.testing.assert_array_equal(weights[3:], [[1, 0, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)


def test_a_regimes_own_model_learns_from_its_rows_alone_and_keeps_the_others_as_history(recorded):
    expert, fit = recorded
    frame = expert.members["neutral_0"].frames[0]
    assert frame.select("timestamp", "symbol", *INPUTS).equals(fit.select("timestamp", "symbol", *INPUTS))
    learned = frame.filter(pl.col("part").is_in(["train", "early_stopping"]))
    assert set(learned["regime_state"]) == {1.0}
    assert learned["label"].equals(fit.filter(pl.col("regime_state") == 1)["label"])
    rest = frame.filter(pl.col("part") == "history")
    assert len(rest) + len(learned) == len(fit)
    assert rest.select("label", "also_0").null_count().row(0) == (
        len(rest),
        len(rest),
    ), "no label of another regime is left to learn from"


def test_with_few_early_stopping_rows_of_its_own_a_model_stops_by_those_of_all():
    rows = panel(bars=150, symbols=SYMBOLS, seed=2)
    bar = rows["timestamp"].rle_id()
    rows = rows.with_columns(
        regime_state=pl.when((bar < 90) & (bar % 2 == 0) | (bar == 95))
        .then(pl.lit(1.0))
        .otherwise(pl.lit(2.0))
        .cast(pl.Float32)
    )
    fit, _ = fit_and_predict_frames(rows)
    frame = fitted(compose(RECORDER, Plain(), 1, RegimeModels()), fit).members["neutral_0"].frames[0]
    assert frame.filter(pl.col("part") == "early_stopping").equals(
        fit.filter(pl.col("part") == "early_stopping")
    )
    assert set(frame.filter(pl.col("part") == "train")["regime_state"]) == {1.0}


def test_a_regime_with_too_few_rows_learns_from_all_with_the_others_at_less_weight(recorded):
    expert, fit = recorded
    frame = expert.members["bear_0"].frames[0]
    assert frame.drop("weight").equals(fit)
    weights = (
        frame.filter(pl.col("part") == "train")
        .group_by(pl.col("regime_state").fill_null(9))
        .agg(pl.col("weight").unique())
        .sort("regime_state")
    )
    assert [(regime, list(found)) for regime, found in weights.rows()] == [
        (0.0, [1.0]),
        (1.0, [0.25]),
        (2.0, [0.25]),
        (9.0, [0.25]),
    ]
    already = (
        fitted(
            compose(RECORDER, Plain(), 1, RegimeModels(fewest_rows=200, other_weight=0.25)),
            fit.with_columns(weight=pl.lit(2.0)),
        )
        .members["bear_0"]
        .frames[0]
    )
    assert already["weight"].to_list() == (frame["weight"] * 2).to_list(), (
        "weights that the frame has are kept as factors"
    )


def test_bars_count_as_well_as_rows(recorded):
    """Planted: regime 0 has 150 rows, enough for 100, but they come from five bars."""
    _, fit = recorded
    few = fitted(compose(RECORDER, Plain(), 1, RegimeModels(fewest_rows=100, fewest_bars=6)), fit)
    enough = fitted(compose(RECORDER, Plain(), 1, RegimeModels(fewest_rows=100, fewest_bars=5)), fit)
    assert (few.about["bear"].model, enough.about["bear"].model) == ("weighted", "own")


def test_members_have_their_own_seed_checkpoints_key_and_progress(recorded):
    _, fit = recorded
    told = []
    expert = compose(RECORDER, Plain(), 3, RegimeModels(fewest_rows=200))
    expert.fit(
        fit,
        Task(**{**vars(TASK), "checkpoints": Path("kept"), "key": "k"}),
        advance=lambda share, what: told.append((share, what)),
    )
    tasks = {name: member.tasks[0] for name, member in expert.members.items()}
    assert len(tasks) == 12
    assert [tasks[f"all_{number}"].seed for number in range(3)] == [3, 1012, 2021]
    assert tasks["all_0"].seed == tasks["bull_0"].seed
    assert (tasks["bull_2"].checkpoints, tasks["bull_2"].key) == (Path("kept") / "bull_2", "k bull_2")
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[0] == (pytest.approx(0.5 / 12), "all_0: half")
    assert told[-1][0] == 1.0


def test_a_warm_start_goes_on_member_by_member(recorded):
    _, fit = recorded
    first = fitted(compose(RECORDER, Plain(), 2, None), fit)
    second = compose(RECORDER, Plain(), 2, None)
    second.fit(fit, TASK, advance=lambda share, what: None, warm_start=first)
    assert [member.warm for member in second.members.values()] == [
        [first.members["all_0"]],
        [first.members["all_1"]],
    ]
    third = compose(RECORDER, Plain(), 2, None)
    third.fit(fit, TASK, advance=lambda share, what: None, warm_start=first.members["all_0"])
    assert [member.warm for member in third.members.values()] == [[first.members["all_0"]]] * 2


def test_rows_are_blended_by_their_own_regime_and_unknown_ones_by_the_model_of_all_rows(recorded):
    expert, fit = recorded
    asked = fit.filter(pl.col("part") == "train").with_columns(
        part=pl.lit("predict"), label=pl.lit(None, pl.Float64)
    )
    found = expert.predict(asked)
    scores = np.array([member.predict(asked)["score"][0] for member in expert.members.values()])
    code = asked["regime_state"].fill_null(len(REGIMES)).cast(pl.Int32).to_numpy()
    assert set(code) == {0, 1, 2, 4}
    np.testing.assert_allclose(found["score"].to_numpy(), np.array(expert.weights_RM)[code] @ scores)
    assert set(found["score"].to_numpy()[code == 4]) == {scores[0]}
    distance = (found["p90"] - found["p10"]).to_numpy()
    np.testing.assert_allclose(distance, 2.563 * found["uncertainty"].to_numpy())
    np.testing.assert_allclose(
        (found["p90"] - found["p50"]).to_numpy(), 0.6 * distance, err_msg="the members' lean is kept"
    )


def test_no_labelled_train_row_is_said_kindly(recorded):
    _, fit = recorded
    with pytest.raises(ExpertError, match="no train row has a label"):
        fitted(
            compose(RECORDER, Plain(), 1, RegimeModels()), fit.with_columns(label=pl.lit(None, pl.Float64))
        )


@pytest.fixture(scope="module")
def frames() -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = with_regimes(panel(bars=160, symbols=SYMBOLS, seed=5), (0.1, 0.4, 0.4, 0.1), unknown=0.1)
    return fit_and_predict_frames(rows)


@pytest.fixture(scope="module", params=list(QUICK))
def composed(request, frames) -> Composed:
    return fitted(make(request.param, 2, RegimeModels()), frames[0])


def test_a_composition_keeps_the_contract_of_predictions_and_its_bits(composed, frames, tmp_path):
    found = composed.predict(frames[1])
    check_predictions(found, frames[1].select("timestamp", "symbol"), expert="composed", fold="f")
    assert set(found["head_scale"]) == {1.0}
    composed.save(tmp_path)
    assert_frame_equal(load_composed(composed.module, tmp_path).predict(frames[1]), found, check_exact=True)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".json", ".txt", ".ubj"}
    single = load_composed(composed.module, tmp_path, whole=False)
    assert_frame_equal(
        single.predict(frames[1]), composed.members["all_0"].predict(frames[1]), check_exact=True
    )


def test_the_served_blend_says_what_predict_says(composed, frames, tmp_path):
    composed.save(tmp_path)
    composed.export(tmp_path)
    rows = frames[1]
    served = ServedExpert(tmp_path, threads=1)
    context = rows.select("regime_state", "volatility_20").cast(pl.Float32).to_numpy()
    assert np.isnan(context[:, 0]).any()
    found = served(
        rows.select(served.form.columns).cast(pl.Float32).to_numpy(),
        None,
        one_hot(context[:, 0]),
        context[:, 1].astype(float),
    )
    score, uncertainty = found.score, found.uncertainty
    expected = composed.predict(rows)
    np.testing.assert_allclose(score, expected["score"].to_numpy(), atol=1e-6)
    np.testing.assert_allclose(uncertainty, expected["uncertainty"].to_numpy(), atol=1e-6)
    if composed.module.__name__.endswith("lightgbm"):
        assert score.std() > 1e-4
        assert np.ptp(uncertainty / context[:, 1]) > 1e-3, "what is compared is not a constant"


def test_the_served_blend_of_a_network_across_symbols_says_what_predict_says(tmp_path):
    """Windows, sectors, and bars of which one member has weight in some rows only."""
    rows = panel(bars=60, symbols=12, seed=5).with_columns(
        regime_state=pl.when(pl.int_range(pl.len()) % 7 > 0).then(pl.lit(1.0, pl.Float32))
    )
    fit, predict = fit_and_predict_frames(rows, lookback=3)
    module = expert_module(Leaf(expert="adaptive_tft", period="1d"))
    settings = module.Settings.model_validate(
        {"lookback_bars": 4, "training": {"batch_windows": 128, "epochs": 1}, "width": 8}
    )
    expert = fitted(compose(module, settings, 1, RegimeModels(fewest_rows=100, fewest_bars=5)), fit)
    assert list(expert.members) == ["all_0", "neutral_0"]
    expert.save(tmp_path)
    expert.export(tmp_path)
    served = ServedExpert(tmp_path, threads=1)
    assert served.whole_bars
    window = np.stack(
        [predict[name].cast(pl.Float32).to_numpy().reshape(-1, 12) for name in served.form.columns], axis=2
    )
    asked = predict.filter(pl.col("part") == "predict")
    bars = len(asked) // 12
    window_BLF = np.stack(
        [window[3 + bar - 3 : 3 + bar + 1, symbol] for bar in range(bars) for symbol in range(12)]
    )
    context = asked.select("regime_state", "volatility_20", *served.form.context).cast(pl.Float32).to_numpy()
    given = (
        one_hot(context[:, 0]),
        context[:, 1].astype(float),
        context[:, 2:],
        np.repeat(np.arange(bars), 12),
    )
    found = served(window_BLF[:, -1], window_BLF, *given)
    score, uncertainty = found.score, found.uncertainty
    expected = expert.predict(predict)
    assert np.isnan(context[:, 0]).any()
    assert expected["score"].std() > 1e-5
    np.testing.assert_allclose(score, expected["score"].to_numpy(), atol=1e-6)
    np.testing.assert_allclose(uncertainty, expected["uncertainty"].to_numpy(), atol=1e-6)
    assert_frame_equal(load_composed(module, tmp_path).predict(predict), expected, check_exact=True)


@pytest.mark.parametrize("name", ["lightgbm"])
def test_a_damaged_composition_is_refused(name, frames, tmp_path):
    expert = fitted(make(name, 2), frames[0])
    expert.save(tmp_path)
    expert.export(tmp_path)
    path = tmp_path / "composed.json"
    whole = path.read_text()
    for text in ("{", "{}", json.dumps(json.loads(whole) | {"weights_RM": None})):
        path.write_text(text)
        with pytest.raises(ExpertError, match="does not say what the expert is made of"):
            load_composed(expert.module, tmp_path)
    form = json.loads((tmp_path / "served.json").read_text())
    for changed in (
        {"spread": -1.0},
        {"width": 0.0},
        {"width": float("nan")},
        {"weights_RM": [[0.9, 0.2]] * 5},
    ):
        (tmp_path / "served.json").write_text(json.dumps(form | changed))
        with pytest.raises(ScoringError, match="not a whole served form"):
            ServedExpert(tmp_path, threads=1)


def test_an_expert_without_a_served_form_has_none_when_composed():
    assert not hasattr(compose(RECORDER, Plain(), 2, None), "export")
    assert hasattr(make("median", 2), "export")


def test_an_ensemble_of_equals_is_said(frames, capsys):
    fitted(make("elasticnet", 2), frames[0])
    assert "the seed does not matter" in "".join(capsys.readouterr())
    fitted(make("lightgbm", 2), frames[0])
    assert "the seed does not matter" not in "".join(capsys.readouterr())


def noisy(seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """A market whose noise is four times as large where an input is high, in 30 % of the rows; and which rows
    those are.
    """
    rows = panel(bars=700, symbols=SYMBOLS, seed=seed, strength=0.3)
    wild = (rows["volume_a"] > 0.2).to_numpy()
    noise = np.random.default_rng(seed + 5).standard_normal(len(rows)) * np.where(wild, 4.0, 1.0)
    label = 0.02 * (0.3 * rows["signal"].to_numpy() + np.sqrt(1 - 0.3**2) * noise)
    return (
        rows.with_columns(
            label=pl.Series(label), volatility_20=pl.lit(0.02, pl.Float32), wild=pl.Series(wild)
        ),
        wild,
    )


def judged(ensemble: int, seed: int) -> SimpleNamespace:
    """What the uncertainty of an XGBoost ensemble says about the noise, and the skill with and without the 30
    % least certain rows.
    """
    rows, _ = noisy(seed)
    # A short training and many bars to judge by: the gain is a few hundredths of a correlation.
    fit, predict = fit_and_predict_frames(rows.drop("wild"), train=0.21, stopping=0.07)
    found = fitted(make("xgboost", ensemble, depth=4), fit).predict(predict)
    known = truth(rows, predict)
    uncertainty, score, label, wild = (
        found["uncertainty"].to_numpy(),
        found["score"].to_numpy(),
        known["label"].to_numpy(),
        known["wild"].to_numpy(),
    )
    kept = uncertainty <= np.quantile(uncertainty, 0.7)
    inside = (label >= found["p10"].to_numpy()) & (label <= found["p90"].to_numpy())

    def skill_of(rows_B: np.ndarray) -> float:
        return rank_correlation(found["timestamp"].filter(pl.Series(rows_B)), score[rows_B], label[rows_B])

    ratio = uncertainty[wild].mean() / uncertainty[~wild].mean()
    return SimpleNamespace(
        ratio=ratio,
        gain=skill_of(kept) - skill_of(np.full(len(kept), True)),
        coverage=inside.mean(),
        dropped=(~kept)[wild].mean(),
    )


@pytest.fixture(scope="module")
def ensembles() -> list[SimpleNamespace]:
    return [judged(5, seed) for seed in SEEDS]


def test_an_ensemble_is_less_certain_where_the_noise_is(ensembles):
    assert min(found.ratio for found in ensembles) > 1.3
    assert all(0.7 < found.coverage < 0.9 for found in ensembles)
    single = judged(1, 0)
    assert single.ratio == pytest.approx(1.0, abs=1e-9), (
        "one model's band follows volatility alone, and that is the same everywhere here"
    )


def test_leaving_out_the_least_certain_rows_raises_what_remains(ensembles):
    assert min(found.dropped for found in ensembles) > 0.5, "chance would be 0.3"
    assert min(found.gain for found in ensembles) > 0
    assert np.mean([found.gain for found in ensembles]) > 0.02
