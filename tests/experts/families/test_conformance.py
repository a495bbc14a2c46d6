"""What every expert must do, asked of each one that is found in components/experts/families."""

from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from safetensors.torch import save

from components.experts.leaves import Leaf, expert_module, known_experts, merged
from components.experts.protocol import PREDICTION_COLUMNS, Task
from components.experts.training.check import check_predictions
from components.metrics import information_coefficient
from components.scoring.expert import ExpertAnswer, ServedExpert
from components.scoring.form import GRAPH_FILE, read_form
from components.scoring.model import one_hot
from tests.experts.market import INPUTS, fit_and_predict_frames, panel

# Small and quick; trees without early stopping, so that early-stopping labels can move nothing but head and
# band (networks: one epoch there).
NETWORK = {
    "lookback_bars": 4,
    "training": {"batch_windows": 128, "epochs": 5},
    "regularisation": {"dropout": 0.0},
}
QUICK = {
    "adaptive_tft": {**NETWORK, "width": 8},
    "causal_cnn": {**NETWORK, "width": 8},
    "median": {},
    "elasticnet": {"penalties": 1, "smallest_penalty": 0.05},
    "gru": {**NETWORK, "width": 8},
    "lightgbm": {
        "rounds": 60,
        "patience_rounds": 0,
        "learning_rate": 0.1,
        "column_share": 1.0,
        "l2": 1.0,
        "leaves": 7,
    },
    "patchtst": {
        **NETWORK,
        "patch_bars": 2,
        "stride_bars": 2,
        "width": 8,
        "feed_forward": 16,
        "embedding": 8,
        "gate_cost": 0.0,
    },
    "tft": {**NETWORK, "width": 8},
    "xgboost": {
        "rounds": 60,
        "patience_rounds": 0,
        "learning_rate": 0.1,
        "column_share": 1.0,
        "l2": 1.0,
        "depth": 3,
        "device": "cpu",
    },
}
NETWORKS = [name for name, settings in QUICK.items() if "training" in settings]
# A network across symbols sees every symbol of a day, labelled or not.
ACROSS_SYMBOLS = ["adaptive_tft"]
EXPERTS = known_experts()
LEARNERS = [name for name in EXPERTS if name != "median"]
ATTAINABLE = 0.6
TASK = Task(period="1d", horizon=2, target="log_return", groups=INPUTS, seed=3, threads=1)


def module_of(name: str):
    return expert_module(Leaf(expert=name, period="1d"))


def make(name: str, **settings):
    module = module_of(name)
    return module.Expert(module.Settings(**merged(QUICK[name], settings)))


def fitted(name: str, frame: pl.DataFrame, **settings):
    expert = make(name, **settings)
    expert.fit(frame, TASK, advance=lambda share, what: None)
    return expert


@pytest.fixture(scope="module")
def frames():
    return fit_and_predict_frames(panel(seed=1, strength=ATTAINABLE))


@pytest.fixture(scope="module")
def progress():
    """The shares that each of `models` told while it was fitted."""
    return {name: [] for name in EXPERTS}


@pytest.fixture(scope="module")
def models(frames, progress):
    made = {name: make(name) for name in EXPERTS}
    for name, expert in made.items():
        expert.fit(frames[0], TASK, advance=lambda share, what, told=progress[name]: told.append(share))
    return made


@pytest.fixture(scope="module")
def learned():
    """A function that gives a market with a planted signal and what an expert predicts there; each is fitted
    once.
    """
    rows = panel(bars=250, seed=5, strength=ATTAINABLE)
    fit, predict = fit_and_predict_frames(rows)
    return cache(lambda name: (rows, fitted(name, fit).predict(predict)))


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory):
    """A function that gives the folder of a fitted expert with its served form; each is exported once."""

    @cache
    def export(name: str):
        folder = tmp_path_factory.mktemp(name)
        models[name].save(folder)
        models[name].export(folder)
        return folder

    return export


def test_every_expert_is_asked():
    assert set(EXPERTS) == set(QUICK)


@pytest.mark.parametrize("name", EXPERTS)
def test_predictions_keep_the_contract(name, frames, models):
    wanted = frames[1].select("timestamp", "symbol")
    found = check_predictions(models[name].predict(frames[1]), wanted, expert=name, fold="fold_00")
    assert found.columns == list(PREDICTION_COLUMNS)
    assert len(found) == len(wanted) > 0
    assert (found["head_scale"] > 0).all()


@pytest.mark.parametrize("name", EXPERTS)
def test_fit_twice_gives_the_same_numbers(name, frames, models):
    assert_frame_equal(
        fitted(name, frames[0]).predict(frames[1]), models[name].predict(frames[1]), check_exact=True
    )


@pytest.mark.parametrize("name", EXPERTS)
def test_frames_are_left_as_they_were(name):
    fit, predict = fit_and_predict_frames(panel(bars=60, seed=2))
    copies = fit.clone().rechunk(), predict.clone().rechunk()
    hashes = fit.hash_rows(), predict.hash_rows()
    fitted(name, fit).predict(predict)
    assert fit.hash_rows().equals(hashes[0])
    assert predict.hash_rows().equals(hashes[1])
    assert (fit.columns, predict.columns) == (copies[0].columns, copies[1].columns)


@pytest.mark.parametrize("name", EXPERTS)
def test_save_and_load_give_the_same_bits(name, frames, models, tmp_path):
    models[name].save(tmp_path)
    loaded = module_of(name).Expert.load(tmp_path)
    assert_frame_equal(loaded.predict(frames[1]), models[name].predict(frames[1]), check_exact=True)


@pytest.mark.parametrize("name", EXPERTS)
def test_nothing_saved_can_execute_code(name, models, tmp_path):
    models[name].save(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for path in files:
        head = path.read_bytes()[:9]
        assert path.suffix in {".json", ".txt", ".ubj", ".safetensors", ".onnx"}
        if path.suffix == ".safetensors":
            # Begins with the length of its header, which may look like anything, and then the header's brace.
            assert head[8:] == b"{"
            continue
        assert not head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))


@pytest.mark.parametrize("name", EXPERTS)
def test_unseen_symbol_gets_a_prediction(name, frames, models):
    rows = (
        frames[1]
        .with_columns(
            pl.when(pl.col("symbol") == "S03").then(pl.lit("NEW")).otherwise(pl.col("symbol")).alias("symbol")
        )
        .sort("timestamp", "symbol")
    )
    check_predictions(models[name].predict(rows), rows.select("timestamp", "symbol"), expert=name, fold="f")


@pytest.mark.parametrize("name", EXPERTS)
def test_one_symbol_is_enough(name):
    fit, predict = fit_and_predict_frames(panel(bars=400, symbols=1, seed=3))
    check_predictions(
        fitted(name, fit).predict(predict), predict.select("timestamp", "symbol"), expert=name, fold="f"
    )


@pytest.mark.parametrize("name", EXPERTS)
@pytest.mark.parametrize("empty", [None, float("nan")])
def test_a_column_without_values_does_no_harm(name, empty):
    rows = panel(bars=80, seed=4).with_columns(
        pl.lit(empty, dtype=pl.Float32).alias("trend_b"),
        pl.lit(empty, dtype=pl.Float32).alias("volatility_20"),
    )
    fit, predict = fit_and_predict_frames(rows)
    check_predictions(
        fitted(name, fit).predict(predict), predict.select("timestamp", "symbol"), expert=name, fold="f"
    )


@pytest.mark.parametrize("name", EXPERTS)
def test_all_inputs_missing_still_gives_numbers(name):
    rows = panel(bars=80, seed=4).with_columns(
        pl.lit(None, dtype=pl.Float32).alias(column) for column in INPUTS
    )
    fit, predict = fit_and_predict_frames(rows)
    check_predictions(
        fitted(name, fit).predict(predict), predict.select("timestamp", "symbol"), expert=name, fold="f"
    )


@pytest.mark.parametrize("name", EXPERTS)
def test_infinite_inputs_and_no_volatility_are_survived(name, frames, models):
    rows = frames[1].with_columns(
        pl.lit(float("inf"), dtype=pl.Float32).alias("trend_a"),
        pl.lit(0.0, dtype=pl.Float32).alias("volatility_20"),
    )
    found = check_predictions(
        models[name].predict(rows), rows.select("timestamp", "symbol"), expert=name, fold="f"
    )
    assert (found["uncertainty"] > 0).all()


@pytest.mark.parametrize("name", EXPERTS)
def test_a_single_day_is_predicted_as_among_others(name, frames, models):
    newest, needed = (
        frames[1]["timestamp"].max(),
        frames[1]["timestamp"].unique().sort()[-1 - getattr(models[name], "lookback_bars", 0)],
    )
    part = pl.when(pl.col("timestamp") == newest).then(pl.lit("predict")).otherwise(pl.lit("history"))
    day = frames[1].filter(pl.col("timestamp") >= needed).with_columns(part.alias("part"))
    among = models[name].predict(frames[1]).filter(pl.col("timestamp") == newest)
    assert_frame_equal(
        models[name].predict(day),
        among,
        check_exact=name not in ("elasticnet", *NETWORKS),
        abs_tol=1e-7 if name in NETWORKS else 1e-14,
    )


@pytest.mark.parametrize("name", [name for name in EXPERTS if name not in ACROSS_SYMBOLS])
def test_unlabelled_rows_teach_nothing(name, frames, models):
    fit = frames[0]
    strangers = fit.with_columns(
        pl.lit(None, dtype=pl.Float64).alias("label"),
        (pl.col("symbol") + "_x").alias("symbol"),
        *(pl.lit(0.5, dtype=pl.Float32).alias(name) for name in INPUTS),
    )
    both = pl.concat([fit, strangers]).sort("timestamp", "symbol")
    assert_frame_equal(
        fitted(name, both).predict(frames[1]), models[name].predict(frames[1]), check_exact=True
    )


@pytest.mark.parametrize("name", ACROSS_SYMBOLS)
def test_a_network_across_symbols_learns_among_those_without_a_label(name, frames, models):
    fit = frames[0]
    strangers = fit.filter(pl.col("part") == "train").with_columns(
        pl.lit(None, dtype=pl.Float64).alias("label"), (pl.col("symbol") + "_x").alias("symbol")
    )
    both = pl.concat([fit, strangers]).sort("timestamp", "symbol")
    assert not fitted(name, both).predict(frames[1])["score"].equals(models[name].predict(frames[1])["score"])


@pytest.mark.parametrize("name", EXPERTS)
def test_labels_of_predicted_rows_move_nothing(name, frames, models):
    planted = frames[1].with_columns(pl.lit(9.0).alias("label"))
    assert_frame_equal(models[name].predict(planted), models[name].predict(frames[1]), check_exact=True)


@pytest.mark.parametrize("name", EXPERTS)
def test_later_bars_move_nothing(name, frames, models):
    last = frames[1]["timestamp"].unique().sort()[5]
    later = pl.col("timestamp") > last
    changed = frames[1].with_columns(
        pl.when(later).then(pl.lit(7.0, dtype=pl.Float32)).otherwise(pl.col(column)).alias(column)
        for column in INPUTS
    )
    keep = pl.col("timestamp") <= last
    assert_frame_equal(
        models[name].predict(changed).filter(keep),
        models[name].predict(frames[1]).filter(keep),
        check_exact=True,
    )


@pytest.mark.parametrize("name", EXPERTS)
def test_early_stopping_labels_reach_head_and_band_only(name, frames, models):
    noise = pl.Series(np.random.default_rng(9).normal(0, 0.05, len(frames[0])))
    fit = frames[0].with_columns(
        pl.when(pl.col("part") == "early_stopping").then(noise).otherwise(pl.col("label")).alias("label")
    )
    once = {"training": {"epochs": 1}} if name in NETWORKS else {}
    perturbed, plain = (
        fitted(name, fit, **once).predict(frames[1]),
        fitted(name, frames[0], **once).predict(frames[1]),
    )

    def raw(found):
        return ((found["score"] - found["head_bias"]) / found["head_scale"]).to_numpy()

    np.testing.assert_allclose(raw(perturbed), raw(plain), rtol=1e-9, atol=1e-9)
    assert not perturbed["p90"].equals(plain["p90"])


@pytest.mark.parametrize("name", LEARNERS)
def test_planted_signal_is_learned(name, learned):
    rows, found = learned(name)
    ic = information_coefficient(found, rows.select("timestamp", "symbol", "label"))["ic"].mean()
    assert ic > 0.5 * ATTAINABLE


@pytest.mark.parametrize("name", LEARNERS)
def test_scores_of_a_learned_signal_are_in_the_labels_unit(name, learned):
    rows, found = learned(name)
    both = found.join(rows.select("timestamp", "symbol", "label"), on=("timestamp", "symbol"))
    slope = both.select(pl.cov("score", "label") / pl.col("score").var()).item()
    inside = both.select(
        ((pl.col("label") >= pl.col("p10")) & (pl.col("label") <= pl.col("p90"))).mean()
    ).item()
    assert 0.7 < slope < 1.3
    assert 0.72 < inside < 0.88


@pytest.mark.parametrize("name", LEARNERS)
def test_noise_teaches_nothing(name):
    rows = panel(bars=250, seed=6, strength=0.0)
    fit, predict = fit_and_predict_frames(rows)
    found = fitted(name, fit).predict(predict)
    ic = information_coefficient(found, rows.select("timestamp", "symbol", "label"))["ic"]
    assert abs(ic.mean()) < 4 * ic.std() / np.sqrt(len(ic))
    assert found["score"].std() < 0.3 * rows["label"].std()


@pytest.mark.parametrize("name", EXPERTS)
def test_progress_ends_at_one(name, models, progress):
    assert progress[name] == sorted(progress[name])
    assert progress[name][-1] == 1.0


@pytest.mark.parametrize("name", EXPERTS)
def test_warm_start_is_accepted_and_repeatable(name, frames, models):
    expert, again = make(name), make(name)
    for each in (expert, again):
        each.fit(frames[0], TASK, advance=lambda share, what: None, warm_start=models[name])
    assert_frame_equal(expert.predict(frames[1]), again.predict(frames[1]), check_exact=True)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_warm_start_adds_trees(name, frames, models):
    expert = make(name)
    before = models[name].predict(frames[1])
    expert.fit(frames[0], TASK, advance=lambda share, what: None, warm_start=models[name])
    trees = expert.booster.num_trees() if name == "lightgbm" else expert.booster.num_boosted_rounds()
    assert trees == 2 * QUICK[name]["rounds"]
    assert_frame_equal(models[name].predict(frames[1]), before, check_exact=True)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_a_warm_start_that_is_stopped_early_keeps_old_and_new_trees(name):
    fit, _ = fit_and_predict_frames(panel(bars=150, seed=8, strength=0.0))
    stopping = {"rounds": 60, "patience_rounds": 6, "fewest_rounds": 9, "learning_rate": 0.3}
    first, second = fitted(name, fit, **stopping), make(name, **stopping)
    second.fit(fit, TASK, advance=lambda share, what: None, warm_start=first)
    before, after = (
        (e.booster.num_trees() if name == "lightgbm" else e.booster.num_boosted_rounds())
        for e in (first, second)
    )
    assert after >= before + 9


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
@pytest.mark.parametrize("monitor", ["rmse", "rank_correlation"])
def test_early_stopping_keeps_the_best_round(name, monitor, frames):
    fit = panel(bars=150, seed=8, strength=0.0)
    expert = fitted(
        name,
        fit_and_predict_frames(fit)[0],
        rounds=200,
        patience_rounds=10,
        fewest_rounds=5,
        learning_rate=0.3,
        monitor=monitor,
    )
    trees = expert.booster.num_trees() if name == "lightgbm" else expert.booster.num_boosted_rounds()
    assert 5 <= trees < 200


def test_elasticnet_path_chooses_by_the_early_stopping_rows(frames):
    expert = fitted("elasticnet", frames[0], penalties=15)
    assert {
        column for column, value in zip(expert.columns, expert.coefficients, strict=True) if abs(value) > 0.2
    } == {"trend_a", "reversion_a"}


@pytest.mark.parametrize("name", EXPERTS)
def test_the_served_form_says_what_predict_says(name, frames, models, exported):
    """With missing, infinite and unknown values, an unseen symbol, symbols of short history, and a single
    row.
    """
    expert, frame = ServedExpert(exported(name), threads=1), awkward(frames[1])
    expected = models[name].predict(frame)
    answer = served(expert, frame)
    score, uncertainty = answer.score, answer.uncertainty
    # Networks sum in Float32: a few units in the last place of their raw output, which may be large against
    # its spread.
    size = (expected["score"] - expected["head_bias"]).abs().max()
    tolerance = max(
        (1e-5 if name in NETWORKS else 1e-6) * expected["score"].std(),
        2e-6 * size if name in NETWORKS else 0.0,
        1e-18,
    )
    assert np.abs(score - expected["score"].to_numpy()).max() <= tolerance
    np.testing.assert_allclose(uncertainty, expected["uncertainty"].to_numpy(), rtol=1e-5)
    single = frame.filter(pl.col("timestamp") == frame["timestamp"].min()).head(1)
    score = served(expert, single).score
    assert abs(score[0] - models[name].predict(single)["score"][0]) <= tolerance


@pytest.mark.parametrize("name", EXPERTS)
def test_the_served_form_survives_saving_and_loading(name, models, exported, tmp_path, monkeypatch):
    """The graph of a network is not exported a second time: all that it is made of is compared."""
    monkeypatch.setattr("components.experts.neural.export.window_graph", made_of)
    once = exported(name)
    models[name].save(tmp_path)
    models[name].export(tmp_path)
    loaded = tmp_path / "loaded"
    loaded.mkdir()
    module_of(name).Expert.load(once).export(loaded)
    assert read_form(loaded) == read_form(once)
    assert name not in NETWORKS or (loaded / GRAPH_FILE).read_bytes().startswith(b"(ForecastModel(")
    for path in loaded.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    assert {path.suffix for path in once.iterdir()} <= {".json", ".txt", ".ubj", ".safetensors", ".onnx"}


def made_of(model, *others, **named) -> bytes:
    """What `window_graph` would make a graph of."""
    return repr((model, others, named)).encode() + save(model.state_dict())


EVERYTHING = {
    "training": {"monitor": "average_precision", "epochs": 3},
    "losses": {"focal": 0.5, "huber": 0.2, "soft_spearman": 0.2, "also": 1.0, "regimes": {"bull": 0.5}},
    "regularisation": {
        "dropout": 0.1,
        "mixup": 0.2,
        "cutout_bars": 2,
        "label_smoothing": 0.1,
        "stochastic_depth": 0.1,
        "depth_by_turnover": 1.0,
    },
    "optimiser": {"average_decay": 0.5, "learning_rate": 1e-2, "cycles": 2, "cycle_growth": 2.0},
    "dropout_sampling": {"masks": 6},
    "continual": {"student_bars": 15, "epochs": 1},
    "pretraining": {"epochs": 1, "apart_bars": [1, 2]},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_switch_of_a_network_at_once(name, tmp_path):
    """A further task that is the label turned over is learned by a head of its own and judged against its own
    label.
    """
    fit, predict = fit_and_predict_frames(panel(bars=120, symbols=16, seed=5))
    module = module_of(name)
    normalised = {} if name in ACROSS_SYMBOLS else {"window_normalisation": "all"}
    expert = module.Expert(module.Settings(**merged(QUICK[name], {**EVERYTHING, **normalised})))
    expert.fit(
        fit.with_columns((-2 * pl.col("label") + 0.001).alias("also_0")),
        replace(TASK, also=(("turned", 2),)),
        advance=lambda share, what: None,
    )
    own, turned = expert.evidence.tasks
    assert own.rank_correlation > 0.1
    assert turned.rank_correlation > 0.1
    assert float(expert.model.usual_spread) != 1.0
    assert all(0 < epoch["monitor"] <= 1 for epoch in expert.evidence.training)
    assert all(getattr(expert.evidence, phase) for phase in ("pretraining", "training", "student", "bands"))
    expert.save(tmp_path)
    assert_frame_equal(
        module.Expert.load(tmp_path).predict(predict), expert.predict(predict), check_exact=True
    )


def test_monitors_of_a_network_rise_as_it_learns(frames):
    rises = {}
    for monitor in ("rmse", "rank_correlation", "average_precision"):
        expert = fitted(
            "patchtst",
            frames[0],
            training={"monitor": monitor, "patience_epochs": 9},
            losses={"huber": 1.0, "focal": 1.0},
            optimiser={"learning_rate": 1e-2},
        )
        course = [epoch["monitor"] for epoch in expert.evidence.training]
        rises[monitor] = course[-1] - course[0]
    assert min(rises.values()) > 0, rises


def test_a_week_of_five_days_is_told_by_the_train_rows_alone(frames, models):
    weekdays = frames[0].filter(
        (pl.col("timestamp").dt.weekday() <= 5) | (pl.col("part") == "early_stopping")
    )
    assert fitted("patchtst", weekdays, training={"epochs": 1}).layout.trading_days == 5
    assert models["patchtst"].layout.trading_days == 7


def test_a_network_across_symbols_sees_symbols_that_nobody_asks_about(frames, models):
    """Rows of the same bar that want no prediction move those that do; a network of single windows does not
    notice them.
    """
    some = frames[1].with_columns(
        pl.when(pl.col("symbol") < "S10").then(pl.lit("predict")).otherwise(pl.lit("history")).alias("part")
    )
    asked = pl.col("symbol") < "S10"
    for name in NETWORKS:
        among, cut = models[name].predict(some), models[name].predict(some.filter(asked))
        whole = models[name].predict(frames[1]).filter(asked)
        assert_frame_equal(among, whole, check_exact=False, abs_tol=1e-7)
        assert (np.abs(cut["score"] - whole["score"]).max() > 1e-5) == (name in ACROSS_SYMBOLS)


def awkward(frame: pl.DataFrame) -> pl.DataFrame:
    random = np.random.default_rng(4)

    def some(share: float) -> pl.Series:
        return pl.Series(random.random(len(frame)) < share)

    inputs = [
        pl.when(some(0.1))
        .then(None)
        .when(some(0.05))
        .then(float("nan"))
        .when(some(0.02))
        .then(float("inf"))
        .when(some(0.02))
        .then(-60.0)
        .otherwise(pl.col(name))
        .alias(name)
        for name in INPUTS
    ]
    context = [
        pl.when(some(0.1)).then(None).when(some(0.05)).then(float("nan")).otherwise(pl.col(name)).alias(name)
        for name in ("regime_state", "volatility_20")
    ]
    late = (pl.col("symbol") == "S05") & (pl.col("timestamp") < frame["timestamp"].unique().sort()[-3])
    silent = (pl.col("symbol") == "S06") & (pl.col("timestamp") < frame["timestamp"].unique().sort()[-2])
    quiet = [pl.when(silent).then(None).otherwise(pl.col(name)).alias(name) for name in INPUTS]
    symbol = (
        pl.when(pl.col("symbol") == "S03").then(pl.lit("NEW")).otherwise(pl.col("symbol")).alias("symbol")
    )
    return (
        frame.with_columns(*inputs, *context)
        .with_columns(*quiet, symbol)
        .filter(~late)
        .sort("timestamp", "symbol")
    )


def served(expert: ServedExpert, frame: pl.DataFrame) -> ExpertAnswer:
    """What the served form says of the frame's rows; the windows are gathered by a loop over rows."""
    lookback = max(expert.form.lookback_bars, 1)
    window = np.full((len(frame), lookback, len(INPUTS)), np.nan, dtype=np.float32)
    past: dict[str, list[np.ndarray]] = {}
    for number, (symbol, row) in enumerate(
        zip(frame["symbol"], frame.select(expert.form.columns).cast(pl.Float32).to_numpy(), strict=True)
    ):
        past.setdefault(symbol, []).append(row)
        seen = past[symbol][-lookback:]
        window[number, lookback - len(seen) :] = seen
    inputs = np.where(np.isinf(window[:, -1]), np.float32(np.nan), window[:, -1])
    context = (
        frame.select("regime_state", "volatility_20", "sector_code", "industry_code")
        .cast(pl.Float32)
        .to_numpy()
    )
    return expert(
        inputs,
        window,
        one_hot(context[:, 0]),
        context[:, 1].astype(np.float64),
        context[:, 2:],
        frame["timestamp"].rle_id().to_numpy(),
    )
