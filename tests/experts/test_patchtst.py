"""The group-wise PatchTST: windows, gates, no look-ahead, determinism, golden losses, and that it learns what is there."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from components.contracts import AlphaloopError
from components.experts.patchtst import Expert, Settings
from components.experts.patchtst_network import FeatureGate, GroupwisePatchTST, Sizes
from components.experts.patchtst_training import pinball, segment_correlation
from components.experts.patchtst_windows import arrange, fit_scalers, window_rows
from components.experts.protocol import PREDICTION_COLUMNS, Task

GROUPS = {"trend_a": "trend", "trend_b": "trend", "vol_a": "volatility", "market": "regime", "bar_close": "bars", "bar_volume": "bars"}
SMALL = {"lookback_bars": 10, "patch_bars": 5, "stride_bars": 5, "width": 8, "feed_forward": 8, "embedding": 8, "convolution": 4, "batch_windows": 128}
GOLDEN = Path(__file__).parent / "golden_patchtst.json"


def silent(share: float, what: str) -> None:
    assert 0 <= share <= 1
    assert what


def market(bars: int = 120, symbols: int = 12, seed: int = 0, signal: float = 0.0) -> pl.DataFrame:
    """Noise, with `signal` times the mean of the last 5 bars of `trend_a` in the label; some inputs are missing."""
    generator = np.random.default_rng(seed)
    x = {name: generator.standard_normal((bars, symbols)) for name in GROUPS}
    x["market"][:] = x["market"][:, :1]
    mean_5 = np.stack([x["trend_a"][max(0, t - 4) : t + 1].mean(axis=0) for t in range(bars)]) * np.sqrt(5)
    label = 0.02 * (signal * mean_5 + generator.standard_normal((bars, symbols)))
    day = np.repeat(np.arange(bars), symbols)
    part = np.select([day < 10, day < 0.7 * bars, day < 0.85 * bars], ["history", "train", "early_stopping"], "predict")
    x["vol_a"][generator.random((bars, symbols)) < 0.05] = np.nan
    start = datetime(2020, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "timestamp": [start + timedelta(days=int(d)) for d in day],
            "symbol": np.tile([f"S{i:02d}" for i in range(symbols)], bars),
            "sector": "all",
            "part": part,
            "label": np.where(np.isin(part, ["train", "early_stopping"]), label.ravel(), np.nan),
            "realised": label.ravel(),
            "regime_state": np.repeat(generator.integers(0, 4, bars), symbols),
            "volatility_20": 0.02,
            **{name: values.ravel() for name, values in x.items()},
        }
    ).with_columns(pl.col("label").fill_nan(None))


def fitted(frame: pl.DataFrame, seed: int = 1, warm_start: Expert | None = None, **settings) -> Expert:
    expert = Expert(Settings(**{**SMALL, "epochs": 2, **settings}))
    expert.fit(frame.drop("realised"), Task("1d", 5, "sector_neutral_return", GROUPS, seed, threads=1), advance=silent, warm_start=warm_start)
    return expert


def mean_ic(expert: Expert, frame: pl.DataFrame) -> float:
    rows = frame.filter(pl.col("part") == "predict").with_columns(expert.predict(frame)["score"])
    return rows.group_by("timestamp").agg(pl.corr("score", "realised"))["score"].mean()


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return market()


@pytest.fixture(scope="module")
def expert(frame: pl.DataFrame) -> Expert:
    return fitted(frame)


@pytest.fixture(scope="module")
def network() -> GroupwisePatchTST:
    torch.manual_seed(0)
    return GroupwisePatchTST(Sizes((0, 0, 1, 2, 2), 3, 2, 5, 11, 4, 3, 2, 8, 2, 2, 16, 6, 4, 0.0))


def feed(batch: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(4)
    channels, bars, regime = (torch.randn(*shape, generator=generator) for shape in ((batch, 11, 6), (batch, 11, 2), (batch, 5)))
    return channels, bars, torch.ones(batch, 11, dtype=torch.bool), regime


def test_windows_are_what_a_loop_gathers(frame):
    shuffled_gaps = frame.sample(fraction=0.8, seed=3).sort("timestamp", "symbol")
    bars = arrange(shuffled_gaps, GROUPS, fit_scalers(shuffled_gaps, GROUPS))
    rows = np.arange(len(shuffled_gaps))[::7]
    index, valid = window_rows(rows, bars.position_N, 10)
    history = {name: part["trend_a"].to_numpy() for (name,), part in shuffled_gaps.partition_by("symbol", as_dict=True).items()}
    ordered = shuffled_gaps.sort("symbol", "timestamp")
    scaler = fit_scalers(shuffled_gaps, GROUPS)
    for row, index_L, valid_L in zip(rows, index, valid, strict=True):
        symbol = ordered["symbol"][int(row)]
        seen = history[symbol][: bars.position_N[row] + 1][-10:]
        expected = np.concatenate([np.zeros(10 - len(seen)), np.clip((seen - scaler.mean[0]) / scaler.deviation[0], -5, 5)])
        np.testing.assert_allclose(bars.inputs_NF[index_L, 0], expected, atol=1e-6)
        assert valid_L.sum() == len(seen)


def test_scalers_know_train_rows_only(frame):
    later = frame.with_columns(pl.when(pl.col("part") == "train").then("trend_a").otherwise(1e6).alias("trend_a"))
    assert fit_scalers(later, GROUPS) == fit_scalers(frame, GROUPS)


def test_missing_and_infinite_inputs_are_neutral(frame):
    broken = frame.with_columns(pl.lit(float("inf")).alias("vol_a"), pl.lit(None, pl.Float64).alias("trend_b"))
    bars = arrange(broken, GROUPS, fit_scalers(broken, GROUPS))
    assert not bars.inputs_NF[:, [1, 2]].any()


def test_feature_gate_by_hand():
    gate = FeatureGate([0, 0, 1])
    with torch.no_grad():
        gate.weight_FF.copy_(torch.tensor([[1.0, 2.0, 9.0], [0.0, 1.0, 9.0], [9.0, 9.0, 0.5]]))
        gate.bias_F.copy_(torch.tensor([0.0, 1.0, -1.0]))
    gated, activation = gate(torch.tensor([[1.0, -1.0, 2.0]]))
    # Logits by hand: 1 - 2 + 0 = -1; 0 - 1 + 1 = 0; 0.5 * 2 - 1 = 0. The nines lie between groups and do not count.
    expected = torch.tensor([[1 / (1 + np.e), 0.5, 0.5]])
    torch.testing.assert_close(activation, expected, check_dtype=False)
    torch.testing.assert_close(gated, torch.tensor([[1.0, -1.0, 2.0]]) * activation)
    assert gate.l1().item() == pytest.approx(4.5)


def test_shapes_order_of_quantiles_and_gate_sum(network):
    channels, opening = network.channels(torch.randn(4, 11, 5))
    assert channels.shape == (4, 11, 6)
    assert opening.shape == (5,)
    out = network(*feed())
    assert out.score_B.shape == (4,)
    assert out.quantiles_B3.shape == (4, 3)
    assert (out.quantiles_B3.diff(dim=1) > 0).all()
    with torch.no_grad():
        network.regime.weight.normal_()
    torch.testing.assert_close(network(*feed()).regime_gate_BG.sum(dim=1), torch.ones(4))


def test_a_group_sees_its_own_weights_only(network):
    embedding_BGE = network.encode(feed()[0], torch.ones(4, 11, dtype=torch.bool))
    embedding_BGE[:, 1].square().sum().backward()
    stacked = {name: p for name, p in network.named_parameters() if name.split(".")[0] in ("embed", "place_G1PD", "layers", "pool")}
    assert len(stacked) > 10
    for name, parameter in stacked.items():
        assert parameter.grad[1].any(), name
        assert not parameter.grad[[0, 2]].any(), name
    network.zero_grad()


def test_channels_of_a_group_share_weights(network):
    channels, _, valid, _ = feed()
    swapped = channels.view(4, 11, 3, 2).flip(-1).reshape(4, 11, 6)
    torch.testing.assert_close(network.encode(channels, valid), network.encode(swapped, valid))


def test_inputs_of_other_groups_do_not_reach_a_channel(network):
    x = torch.randn(2, 11, 5)
    other = x.clone()
    other[..., 2:] += 10
    torch.testing.assert_close(network.channels(x)[0][..., :2], network.channels(other)[0][..., :2])


def test_a_patch_before_the_first_bar_is_not_looked_at(network):
    channels, _, valid, _ = feed()
    valid[:, :5] = False
    other = channels.clone()
    other[:, 1:4] += 100.0  # bars 1 to 3 belong to the first patch only, which ends with bar 4
    torch.testing.assert_close(network.encode(other, valid), network.encode(channels, valid))
    assert not torch.allclose(network.encode(other, torch.ones_like(valid)), network.encode(channels, torch.ones_like(valid)))


def test_pinball_and_correlation_by_hand():
    # Errors 1, 0, -1 at levels 0.1, 0.5, 0.9: 0.1 * 1, 0, (0.9 - 1) * -1 = 0.1; the mean is 0.2 / 3.
    assert pinball(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([1.0])).item() == pytest.approx(0.2 / 3)
    day = torch.tensor([0, 0, 1, 1])
    score, target = torch.tensor([1.0, 2.0, 105.0, 103.0]), torch.tensor([0.0, 1.0, -5.0, -7.0])
    assert segment_correlation(score, target, day).item() == pytest.approx((0.5 + 2.0) / np.sqrt(2.5 * 2.5))
    assert segment_correlation(score, target, torch.zeros(4, dtype=torch.long)).item() < 0


def test_predictions_keep_the_contract(expert, frame):
    predictions = expert.predict(frame)
    wanted = frame.filter(pl.col("part") == "predict")
    assert tuple(predictions.columns) == PREDICTION_COLUMNS
    assert predictions.select("timestamp", "symbol").equals(wanted.select("timestamp", "symbol"))
    numbers = predictions.drop("timestamp", "symbol")
    assert set(numbers.dtypes) == {pl.Float64}
    assert numbers.select(pl.all().is_finite().all()).row(0) == (True,) * 7
    assert (predictions["p10"] <= predictions["p50"]).all()
    assert (predictions["p50"] <= predictions["p90"]).all()
    assert (predictions["uncertainty"] > 0).all()
    assert expert.lookback_bars == SMALL["lookback_bars"] - 1


def test_the_future_and_other_symbols_do_not_reach_a_prediction(expert, frame):
    cut = frame.filter(pl.col("part") == "predict")["timestamp"].unique().sort()[5]
    noise = [(pl.when(pl.col("timestamp") > cut).then(pl.col(name) * -50 + 7).otherwise(name)).alias(name) for name in GROUPS]
    before = expert.predict(frame).filter(pl.col("timestamp") <= cut)
    assert expert.predict(frame.with_columns(noise)).filter(pl.col("timestamp") <= cut).equals(before)
    truncated = expert.predict(frame.filter(pl.col("timestamp") <= cut))
    np.testing.assert_allclose(truncated["score"], before["score"], rtol=0, atol=1e-8)
    alone = expert.predict(frame.filter(pl.col("symbol") == "S03"))
    np.testing.assert_allclose(alone["score"], expert.predict(frame).filter(pl.col("symbol") == "S03")["score"], rtol=0, atol=1e-8)


def test_predicted_rows_see_their_lookback_and_no_more(expert, frame):
    last = frame["timestamp"].max()
    too_old = last - timedelta(days=expert.lookback_bars + 1)
    short = frame.filter(pl.col("timestamp") > too_old).with_columns(pl.when(pl.col("timestamp") == last).then(pl.lit("predict")).otherwise(pl.lit("history")).alias("part"))
    np.testing.assert_allclose(expert.predict(short)["score"], expert.predict(frame).filter(pl.col("timestamp") == last)["score"], rtol=0, atol=1e-8)


def test_labels_of_other_parts_do_not_move_the_fit(expert, frame):
    poisoned = frame.with_columns(pl.when(pl.col("part").is_in(["predict", "history"])).then(9.9).otherwise("label").alias("label"))
    assert fitted(poisoned).predict(frame).equals(expert.predict(frame))


def test_refit_and_load_give_the_same_bytes(expert, frame, tmp_path):
    for name, other in (("a", expert), ("b", fitted(frame))):
        (tmp_path / name).mkdir()
        other.save(tmp_path / name)
    for file in ("weights.safetensors", "expert.json", "explain.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    assert Expert.load(tmp_path / "a").predict(frame).equals(expert.predict(frame))
    assert not fitted(frame, seed=2).predict(frame)["score"].equals(expert.predict(frame)["score"])


def test_a_damaged_save_says_so(expert, tmp_path):
    expert.save(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"half a file")
    with pytest.raises(AlphaloopError, match="does not hold a saved patchtst"):
        Expert.load(tmp_path)


def test_explain_names_inputs_groups_and_regimes(expert):
    evidence = expert.explain()
    assert [(row["input"], row["group"]) for row in evidence["feature_gate"]] == [item for item in GROUPS.items() if item[1] != "bars"]
    assert all(0 < row["opening"] < 1 for row in evidence["feature_gate"])
    for weights in evidence["regime_gate"].values():
        assert sum(weights[group] for group in ("trend", "volatility", "regime")) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("groups", [{"trend_a": "trend"}, {"bar_close": "bars"}])
@pytest.mark.parametrize("batch", ["rows", "days"])
def test_one_branch_alone_and_both_kinds_of_batch(frame, groups, batch):
    expert = Expert(Settings(**SMALL, epochs=1, batch=batch, loss="huber" if batch == "rows" else "correlation"))
    expert.fit(frame, Task("1d", 1, "log_return", groups, 0, threads=1), advance=silent)
    assert expert.predict(frame)["score"].is_finite().all()


@pytest.mark.parametrize("volatility", [None, float("nan"), 0.0])
def test_missing_inputs_and_volatility_still_give_numbers(frame, volatility):
    rows = frame.with_columns(*(pl.lit(None, pl.Float32).alias(name) for name in GROUPS), pl.lit(volatility, pl.Float32).alias("volatility_20"), pl.lit(None).alias("regime_state"))
    predictions = fitted(rows, epochs=1).predict(rows).drop("timestamp", "symbol")
    assert predictions.select(pl.all().is_finite().all()).row(0) == (True,) * 7
    assert (predictions["uncertainty"] > 0).all()


def test_one_symbol_and_an_unseen_one(frame, expert):
    rows = frame.filter(pl.col("symbol") == "S00")
    assert fitted(rows).predict(rows)["score"].is_finite().all()
    renamed = frame.with_columns(pl.col("symbol").replace("S03", "S99")).sort("timestamp", "symbol")
    np.testing.assert_allclose(
        expert.predict(renamed).filter(pl.col("symbol") == "S99")["score"], expert.predict(frame).filter(pl.col("symbol") == "S03")["score"], rtol=0, atol=1e-8
    )


def test_progress_rises_to_one(frame):
    shares = []
    Expert(Settings(**SMALL, epochs=2)).fit(frame, Task("1d", 5, "log_return", GROUPS, 0, threads=1), advance=lambda share, what: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_early_stopping_keeps_the_best_epoch(frame):
    expert = fitted(frame, epochs=6, patience_epochs=1, learning_rate=0.05)
    monitors = [epoch["monitor"] for epoch in expert.explain()["training"]]
    best = int(np.argmax(monitors))
    assert len(monitors) == min(6, best + 3)
    watched = frame.with_columns(pl.col("part").replace({"early_stopping": "predict", "predict": "other"})).filter(pl.col("part") != "other")
    rows = watched.filter(pl.col("part") == "predict").with_columns(expert.predict(watched)["score"])
    again = rows.group_by("timestamp").agg(pl.corr("score", "realised", method="spearman"))["score"].mean()
    assert again == pytest.approx(monitors[best], abs=1e-6)


def test_no_labels_and_no_inputs_are_refused(frame):
    task = Task("1d", 5, "log_return", GROUPS, 0, threads=1)
    with pytest.raises(AlphaloopError, match="label"):
        Expert(Settings(**SMALL)).fit(frame.with_columns(pl.lit(None, pl.Float64).alias("label")), task, advance=silent)
    with pytest.raises(AlphaloopError, match="no input"):
        Expert(Settings(**SMALL)).fit(frame, Task("1d", 5, "log_return", {}, 0), advance=silent)
    with pytest.raises(ValueError, match="patch_bars=20"):
        Settings(lookback_bars=10, patch_bars=20)


def test_golden_losses(expert):
    """Written on Linux x86-64 (AVX-512), torch 2.13 CPU, one thread; other CPUs agree within the tolerance."""
    found = [epoch["loss"] for epoch in expert.explain()["training"]]
    assert found == pytest.approx(json.loads(GOLDEN.read_text())["losses"], abs=1e-5)


@pytest.fixture(scope="module")
def planted() -> tuple[pl.DataFrame, Expert]:
    frame = market(bars=240, symbols=40, seed=5, signal=0.5)
    return frame, fitted(frame, epochs=5, gate_cost=0.02, learning_rate=0.01, weight_decay=0.1)


def test_learns_a_signal_that_lives_in_the_lookback(planted):
    frame, expert = planted
    attainable = 0.5 / np.sqrt(1.25)
    assert mean_ic(expert, frame) > attainable / 2


def test_gates_close_on_noise_more_than_on_signal(planted):
    opening = {row["input"]: row["opening"] for row in planted[1].explain()["feature_gate"]}
    assert opening["trend_a"] > opening["trend_b"]


def test_finds_nothing_in_noise():
    frame = market(bars=240, symbols=40, seed=6)
    # 36 days of 40 symbols: the mean IC of pure noise has a standard error of 1 / sqrt(36 * 40) = 0.026.
    assert abs(mean_ic(fitted(frame), frame)) < 0.09


def test_warm_start_takes_weights_of_equal_shape(frame, expert):
    again = fitted(frame, warm_start=expert, learning_rate=1e-12, gate_l1=0.0, gate_cost=0.0, dropout=0.0)
    torch.testing.assert_close(again.network.embed.weight_GIO, expert.network.embed.weight_GIO, atol=1e-6, rtol=0)
    wider = fitted(frame, warm_start=expert, feed_forward=12, learning_rate=1e-12)
    torch.testing.assert_close(wider.network.pool.weight_GIO, expert.network.pool.weight_GIO, atol=1e-6, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_trains_on_the_gpu(frame):
    expert = fitted(frame)
    assert next(expert.network.parameters()).is_cuda
    assert expert.predict(frame)["score"].is_finite().all()
