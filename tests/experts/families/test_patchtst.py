"""The PatchTST: its parts and their switches, gradients by hand, no look-ahead, export, golden losses, and
that it learns what is there.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch

from components.contracts import AlphaloopError
from components.experts.errors import ExpertError
from components.experts.families.patchtst import FAMILY, Expert, Settings
from components.experts.networks import feature_gate, patch_attention
from components.experts.networks.feature_gate import FeatureGate
from components.experts.networks.patch_attention import attention, attention_by_products, attention_by_sums
from components.experts.networks.patchtst import GroupwisePatchTST
from components.experts.networks.unit_scale import unit_scale
from components.experts.neural.arrays import Codes, Scalers
from components.experts.neural.batch import Batch, Layout
from components.experts.neural.expert import NeuralExpert
from components.experts.neural.export import window_graph
from components.experts.neural.heads import ForecastModel
from components.experts.protocol import PREDICTION_COLUMNS, Task

GROUPS = {
    "trend_a": "trend",
    "trend_b": "trend",
    "vol_a": "volatility",
    "market": "regime",
    "bar_close": "bars",
    "bar_volume": "bars",
}
SMALL = {
    "lookback_bars": 10,
    "patch_bars": 5,
    "stride_bars": 5,
    "width": 8,
    "feed_forward": 8,
    "embedding": 8,
    "convolution": 4,
}
PLAIN = {"encoder": "plain", "feature_gate": False, "regime_gate": False, "raw_branch": False}
GOLDEN = Path(__file__).parent / "golden_patchtst.json"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def silent(share: float, what: str) -> None:
    assert 0 <= share <= 1
    assert what


def market(bars: int = 120, symbols: int = 12, seed: int = 0, signal: float = 0.0) -> pl.DataFrame:
    """Noise, with `signal` times the mean of the last 5 bars of `trend_a` in the label; some inputs are
    missing.
    """
    generator = np.random.default_rng(seed)
    x = {name: generator.standard_normal((bars, symbols)) for name in GROUPS}
    x["market"][:] = x["market"][:, :1]
    mean_5 = np.stack([x["trend_a"][max(0, t - 4) : t + 1].mean(axis=0) for t in range(bars)]) * np.sqrt(5)
    label = 0.02 * (signal * mean_5 + generator.standard_normal((bars, symbols)))
    day = np.repeat(np.arange(bars), symbols)
    part = np.select(
        [day < 10, day < 0.7 * bars, day < 0.85 * bars], ["history", "train", "early_stopping"], "predict"
    )
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


def small(epochs: int = 2, training: dict | None = None, **settings) -> Settings:
    return Settings(
        **{**SMALL, "training": {"epochs": epochs, "batch_windows": 128, **(training or {})}, **settings}
    )


def fitted(
    frame: pl.DataFrame,
    seed: int = 1,
    warm_start: NeuralExpert | None = None,
    groups: dict[str, str] = GROUPS,
    **settings,
) -> NeuralExpert:
    expert = Expert(small(**settings))
    expert.fit(
        frame.drop("realised"),
        Task("1d", 5, "sector_neutral_return", groups, seed, threads=1),
        advance=silent,
        warm_start=warm_start,
    )
    return expert


def mean_ic(expert: NeuralExpert, frame: pl.DataFrame) -> float:
    rows = frame.filter(pl.col("part") == "predict").with_columns(expert.predict(frame)["score"])
    return rows.group_by("timestamp").agg(pl.corr("score", "realised"))["score"].mean()


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return market()


@pytest.fixture(scope="module")
def expert(frame: pl.DataFrame) -> NeuralExpert:
    return fitted(frame)


INPUTS = {
    "trend_a": "trend",
    "bar_close": "bars",
    "vol_a": "volatility",
    "trend_b": "trend",
    "market": "regime",
    "bar_volume": "bars",
}
SWITCHES = [
    {},
    PLAIN,
    {"encoder": "plain", "regime_gate": False},
    {"feature_gate": False},
    {"regime_gate": False},
    {"raw_branch": False},
]


def layout(inputs: dict[str, str] = INPUTS, lookback: int = 11) -> Layout:
    return Layout(
        inputs, (0.0,) * len(inputs), (1.0,) * len(inputs), lookback, 4, (("log_return", 5),), 0, 0, 5, "1d"
    )


def network(inputs: dict[str, str] = INPUTS, lookback: int = 11, **settings) -> GroupwisePatchTST:
    """In evaluation, with gates that differ from where they start; 3 patches of 4 bars."""
    torch.manual_seed(0)
    made = FAMILY.build(
        Settings(
            **{**SMALL, "lookback_bars": lookback, "patch_bars": 4, "stride_bars": 3, "layers": 2, **settings}
        ),
        layout(inputs, lookback),
    ).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.startswith(("gate.", "regime.")):
                weight.add_(0.3 * torch.randn_like(weight))
    return made


def windows(inputs: dict[str, str] = INPUTS, count: int = 6, seed: int = 4, lookback: int = 11) -> Batch:
    """Random windows; the first one begins late and the second one not at all."""
    generator = torch.Generator().manual_seed(seed)
    began = torch.ones(count, lookback, dtype=torch.bool)
    began[0, :8], began[1] = False, False
    x = torch.randn(count, lookback, len(inputs), generator=generator) * began[..., None]
    unknown = torch.zeros(count, dtype=torch.long)
    return Batch(x, began, torch.eye(4)[torch.randint(0, 4, (count,), generator=generator)], unknown, unknown)


def embedding(made: GroupwisePatchTST, batch: Batch) -> torch.Tensor:
    with torch.inference_mode():
        return made(batch).embedding_BTE[:, 0]


def test_feature_gate_by_hand():
    gate = FeatureGate([0, 0, 1])
    with torch.no_grad():
        gate.weight_FF.copy_(torch.tensor([[1.0, 2.0, 9.0], [0.0, 1.0, 9.0], [9.0, 9.0, 0.5]]))
        gate.bias_F.copy_(torch.tensor([0.0, 1.0, -1.0]))
    gated, opening, mean = gate(torch.tensor([[1.0, -1.0, 2.0]]))
    # Logits by hand: 1 - 2 + 0 = -1; 0 - 1 + 1 = 0; 0.5 * 2 - 1 = 0. The nines lie between groups and do not
    # count.
    expected = torch.tensor([[1 / (1 + np.e), 0.5, 0.5]])
    torch.testing.assert_close(opening, expected, check_dtype=False)
    torch.testing.assert_close(mean[None], expected, check_dtype=False)
    torch.testing.assert_close(gated, torch.tensor([[1.0, -1.0, 2.0]]) * opening)
    assert gate.l1().item() == pytest.approx(4.5)


@pytest.mark.parametrize("mixed", [True, False])
def test_gate_in_pieces_is_the_gate(monkeypatch, mixed):
    """The form for learning against autograd's own, with a piece that is not full."""
    monkeypatch.setattr(feature_gate, "CACHED_BARS", 4)
    torch.manual_seed(0)
    gate, x = FeatureGate([0, 1, 0]), torch.randn(10, 5)[:, 1:4]
    mixing = torch.randn(3, 2, requires_grad=True) if mixed else None
    with torch.no_grad():
        gate.weight_FF.normal_()

    def gradients(channels: torch.Tensor, mean: torch.Tensor) -> list[torch.Tensor]:
        weight = torch.arange(channels.numel()).view_as(channels) / 7
        return list(
            torch.autograd.grad(
                (channels * weight).sum() + (mean * torch.tensor([1.0, -2.0, 3.0])).sum(),
                [*gate.parameters(), *([mixing] if mixed else [])],
            )
        )

    channels, opening, mean = gate(x, mixing)
    slow_opening = torch.sigmoid(x @ (gate.weight_FF * gate.same_group_FF).T + gate.bias_F)
    slow_channels = x * slow_opening if mixing is None else (x * slow_opening) @ mixing
    torch.testing.assert_close(
        (channels, opening, mean), (slow_channels, slow_opening.detach(), slow_opening.mean(dim=0))
    )
    torch.testing.assert_close(gradients(channels, mean), gradients(slow_channels, slow_opening.mean(dim=0)))


def test_all_forms_of_attention_agree_with_their_gradients():
    torch.manual_seed(0)
    parts = torch.randn(2, 3, 2, 4, 5, 7, dtype=torch.float64, requires_grad=True)
    attend = torch.zeros(5, 7, dtype=torch.float64)
    attend[:2, 3], attend[:, 4] = -1e9, -1e9
    weight = torch.randn(2, 2, 4, 5, 7, dtype=torch.float64)
    results = [form(parts, attend) for form in (attention, attention_by_products, attention_by_sums)]
    gradients = [torch.autograd.grad((mixed * weight).sum(), parts)[0] for mixed in results]
    with torch.no_grad():
        results.append(attention(parts, attend))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0])
    # Two of the patches of sequence 3 lie before its start: nothing of them is mixed in.
    moved = parts.detach().clone()
    moved[:, 1:, :, :, :2, 3] += 9
    torch.testing.assert_close(attention(moved, attend)[..., 3], results[0].detach()[..., 3])


def test_unit_scale_by_hand_and_its_gradient():
    x = torch.tensor([[[3.0, 0.0], [4.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    # The root mean square of (3, 4) is sqrt(12.5); a column of zeros stays zero.
    torch.testing.assert_close(
        unit_scale(x), x / torch.tensor([12.5**0.5, 1.0]), atol=1e-6, rtol=1e-6, check_dtype=False
    )
    assert torch.autograd.gradcheck(unit_scale, torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize(
    "inputs",
    [
        INPUTS,
        {"trend_a": "trend"},
        {"bar_close": "bars"},
        {"market": "regime"},
        {"bar_close": "bars", "market": "regime"},
    ],
)
def test_any_inputs_with_any_parts(inputs, switches):
    """Shapes, gradients for every weight, evidence as announced, and bars that were prepared give the same as
    those that were not.
    """
    made, batch = network(inputs, **switches), windows(inputs)
    model = ForecastModel(made, 1).train()
    outputs = model(batch)
    (outputs.score_BT.sum() + outputs.quantiles_BT3.sum() + outputs.encoded.penalty).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    encoded = made.eval()(batch)
    assert encoded.embedding_BTE.shape == (6, 1, made.width)
    columns = FAMILY.evidence(made.settings, layout(inputs))
    assert {name: value.shape for name, value in encoded.evidence.items()} == {
        name: (6, len(names)) for name, names in columns.items()
    }
    prepared = made.prepare(batch.inputs_BLF.flatten(0, 1), torch.zeros(66, dtype=torch.long)).view(6, 11, -1)
    assert not made.prepare(torch.zeros(2, len(inputs)), torch.zeros(2, dtype=torch.long)).any()
    torch.testing.assert_close(
        made(replace(batch, inputs_BLF=prepared, prepared=True)).embedding_BTE, encoded.embedding_BTE
    )


@pytest.mark.parametrize(
    "switches", [{}, PLAIN, {"feature_gate": False, "regime_gate": False, "raw_branch": False}]
)
def test_exported_graph_gives_the_same_for_any_number_of_windows(switches):
    model = ForecastModel(network(**switches, layers=1), 1).eval()
    graph = window_graph(model, Scalers((0.0,) * 6, (1.0,) * 6, 1.0), Codes((), ()), 11)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for count in (2, 5, 17):
        batch = windows(count=count, seed=count)
        feed = {"window": batch.inputs_BLF, "begun": batch.began_BL.float(), "regime": batch.regime_BR}
        raw, quantiles = session.run(
            None, {place.name: feed[place.name].numpy() for place in session.get_inputs()}
        )
        with torch.inference_mode():
            outputs = model(batch)
        np.testing.assert_allclose(raw, outputs.score_BT[:, 0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(quantiles, outputs.quantiles_BT3[:, 0], rtol=0, atol=1e-5)


def test_the_exported_gate_works_on_whole_groups_wherever_their_inputs_stand(monkeypatch):
    monkeypatch.setattr(feature_gate, "PIECE_INPUTS", 3)
    groups = dict(zip("abcdefgh", ("x", "y", "x", "z", "z", "bars", "y", "w"), strict=True))
    made = network(groups)
    assert made.gate.pieces == ([0, 2], [1, 5], [3, 4, 6])
    with torch.no_grad():
        made.gate.weight_FF.normal_()
    model = ForecastModel(made, 1).eval()
    assert window_graph(model, Scalers((0.5,) * 8, (2.0,) * 8, 1.0), Codes((), ()), 11)


@pytest.mark.parametrize("damage", ["mask", "scale", "gate"])
def test_a_graph_that_answers_otherwise_than_the_model_is_not_exported(monkeypatch, damage):
    model = ForecastModel(network(), 1).eval()
    if damage == "mask":
        monkeypatch.setattr(
            patch_attention,
            "attention_by_sums",
            lambda parts, attend: attention_by_sums(parts, torch.zeros_like(attend)),
        )
    elif damage == "scale":
        monkeypatch.setattr(
            patch_attention,
            "attention_by_sums",
            lambda parts, attend: attention_by_sums(parts * 1.01, attend),
        )
    else:
        model.network.gate.pieces = ([0, 1],)
    with pytest.raises(ExpertError, match="another 'raw' than the trained model"):
        window_graph(model, Scalers((0.0,) * 6, (1.0,) * 6, 1.0), Codes((), ()), 11)


def test_feature_gate_off_lets_inputs_through():
    made = network(feature_gate=False)
    assert not [name for name, _ in made.named_parameters() if name.startswith("gate")]
    assert not made(windows()).penalty
    x = torch.randn(5, 6)
    torch.testing.assert_close(
        made.prepare(x, torch.zeros(5))[:, :6], x[:, [0, 2, 3, 4]] @ (made.mixing_FK * made.own_FK)
    )
    gated = network(gate_l1=0.5, gate_cost=0.25)
    opening = torch.sigmoid(
        windows().inputs_BLF[..., [0, 2, 3, 4]] @ (gated.gate.weight_FF * gated.gate.same_group_FF).T
        + gated.gate.bias_F
    )
    expected = 0.5 * gated.gate.l1() + 0.25 * opening.mean(dim=(0, 1)).sum()
    torch.testing.assert_close(gated(windows()).penalty, expected)
    torch.testing.assert_close(gated.train()(windows()).penalty, expected)


def test_regime_gate_weighs_groups_and_off_is_their_mean():
    made, batch = network(raw_branch=False), windows()
    weights = made(batch).evidence["regime_gate"]
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(6))
    assert weights.std(dim=0).min() > 0.01
    same_regime = replace(
        batch, regime_BR=batch.regime_BR[:1].expand(6, 4), inputs_BLF=batch.inputs_BLF[:1].expand(6, 11, 6)
    )
    assert made(same_regime).evidence["regime_gate"].std(dim=0).max() < 1e-6
    plain_mean = network(regime_gate=False, raw_branch=False)
    channels = plain_mean.prepare(batch.inputs_BLF.flatten(0, 1), torch.zeros(66)).view(6, 11, -1)
    torch.testing.assert_close(
        embedding(plain_mean, batch), plain_mean.encode(channels, batch.began_BL).mean(dim=(0, 2)).T
    )
    torch.testing.assert_close(
        embedding(plain_mean, batch), embedding(plain_mean, replace(batch, regime_BR=torch.zeros(6, 4)))
    )
    assert "regime_gate" not in plain_mean(batch).evidence


def test_raw_branch_is_added_and_off_is_a_group():
    made, batch = network(), windows()
    without = replace(batch, inputs_BLF=batch.inputs_BLF * torch.tensor([1.0, 0, 1, 1, 1, 0]))
    added = made.raw(batch.inputs_BLF[..., [1, 5]]) - made.raw(without.inputs_BLF[..., [1, 5]])
    torch.testing.assert_close(
        embedding(made, batch) - embedding(made, without), added.detach(), atol=1e-5, rtol=1e-4
    )
    grouped = network(raw_branch=False)
    assert grouped.raw is None
    assert grouped.inputs.groups == ("trend", "bars", "volatility", "regime")
    assert not torch.allclose(embedding(grouped, batch), embedding(grouped, without))


def test_plain_shares_one_encoder_over_inputs_as_channels():
    made, batch = network(**PLAIN), windows()
    assert made.embed.weight_GOI.shape[0] == 1
    turned = replace(batch, inputs_BLF=batch.inputs_BLF.flip(-1))
    encoded = made.encode(batch.inputs_BLF, batch.began_BL)
    torch.testing.assert_close(made.encode(turned.inputs_BLF, batch.began_BL), encoded.flip(2))
    assert not torch.allclose(embedding(made, turned), embedding(made, batch))
    with pytest.raises(ValueError, match="regime_gate to false"):
        Settings(encoder="plain")


def test_a_group_sees_its_own_weights_only():
    made = network(raw_branch=False)
    batch = windows()
    channels = made.prepare(batch.inputs_BLF.flatten(0, 1), torch.zeros(66)).view(6, 11, -1)[
        ..., : made.groups * made.channels
    ]
    made.encode(channels, batch.began_BL)[1].square().sum().backward()
    stacked = {
        name: weight
        for name, weight in made.named_parameters()
        if name.split(".")[0] in ("embed", "place_GDP1", "layers", "pool")
    }
    assert len(stacked) > 10
    for name, weight in stacked.items():
        assert weight.grad[1].any(), name
        assert not weight.grad[[0, 2, 3]].any(), name


def test_channels_of_a_group_share_weights():
    made, batch = network(), windows()
    channels = torch.randn(6, 11, 6)
    swapped = channels.view(6, 11, 3, 2).flip(-1).reshape(6, 11, 6)
    torch.testing.assert_close(
        made.encode(channels, batch.began_BL), made.encode(swapped, batch.began_BL).flip(2)
    )


def test_inputs_of_other_groups_do_not_reach_a_channel():
    made, x = network(), torch.randn(5, 6)
    other = x + 10 * torch.tensor([0.0, 1, 1, 0, 1, 1])  # all but trend
    torch.testing.assert_close(
        made.prepare(x, torch.zeros(5))[:, :2], made.prepare(other, torch.zeros(5))[:, :2]
    )


def test_a_patch_before_the_first_bar_is_not_looked_at():
    made, batch = network(), windows()
    channels = torch.randn(6, 11, 6)
    began = torch.ones_like(batch.began_BL)
    began[:, :5] = False
    other = channels.clone()
    other[:, 1:4] += 100.0  # bars 1 to 3 belong to the first patch only, which ends with bar 4
    torch.testing.assert_close(made.encode(other, began), made.encode(channels, began))
    everything = torch.ones_like(began)
    assert not torch.allclose(made.encode(other, everything), made.encode(channels, everything))


def test_other_windows_of_the_batch_do_not_reach_a_window():
    made, batch = network(), windows()
    order = torch.tensor([3, 0, 5])
    some = Batch(
        *(
            value[order]
            for value in (batch.inputs_BLF, batch.began_BL, batch.regime_BR, batch.sector_B, batch.industry_B)
        )
    )
    torch.testing.assert_close(embedding(made, some), embedding(made, batch)[order])


def test_dropout_and_stochastic_depth_in_training_only():
    calm = network(regularisation={"dropout": 0.0})
    torch.testing.assert_close(calm.train()(windows()).embedding_BTE, calm.eval()(windows()).embedding_BTE)
    for wild in ({"dropout": 0.5}, {"dropout": 0.0, "stochastic_depth": 0.5}):
        made = network(regularisation=wild)
        torch.testing.assert_close(made(windows()).embedding_BTE, calm(windows()).embedding_BTE)
        assert not torch.allclose(made.train()(windows()).embedding_BTE, calm(windows()).embedding_BTE)
    # With a rate near 1 for the last block and all windows dropped, what it adds is gone: the narrow map of
    # the last layer gets no gradient.
    made = network(regularisation={"dropout": 0.0, "stochastic_depth": 0.999999}).train()
    made(windows()).embedding_BTE.sum().backward()
    assert not made.layers[1].narrow.weight_GOI.grad.any()
    assert made.embed.weight_GOI.grad.any()


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
    noise = [
        (pl.when(pl.col("timestamp") > cut).then(pl.col(name) * -50 + 7).otherwise(name)).alias(name)
        for name in GROUPS
    ]
    before = expert.predict(frame).filter(pl.col("timestamp") <= cut)
    assert expert.predict(frame.with_columns(noise)).filter(pl.col("timestamp") <= cut).equals(before)
    truncated = expert.predict(frame.filter(pl.col("timestamp") <= cut))
    np.testing.assert_allclose(truncated["score"], before["score"], rtol=0, atol=1e-8)
    alone = expert.predict(frame.filter(pl.col("symbol") == "S03"))
    np.testing.assert_allclose(
        alone["score"], expert.predict(frame).filter(pl.col("symbol") == "S03")["score"], rtol=0, atol=1e-8
    )


def test_predicted_rows_see_their_lookback_and_no_more(expert, frame):
    last = frame["timestamp"].max()
    too_old = last - timedelta(days=expert.lookback_bars + 1)
    short = frame.filter(pl.col("timestamp") > too_old).with_columns(
        pl.when(pl.col("timestamp") == last)
        .then(pl.lit("predict"))
        .otherwise(pl.lit("history"))
        .alias("part")
    )
    np.testing.assert_allclose(
        expert.predict(short)["score"],
        expert.predict(frame).filter(pl.col("timestamp") == last)["score"],
        rtol=0,
        atol=1e-8,
    )


def test_labels_of_other_parts_do_not_move_the_fit(expert, frame):
    poisoned = frame.with_columns(
        pl.when(pl.col("part").is_in(["predict", "history"])).then(9.9).otherwise("label").alias("label")
    )
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
    weights = expert.explain().weights
    assert weights["feature_gate"].columns == [name for name, group in GROUPS.items() if group != "bars"]
    assert weights["regime_gate"].columns == ["trend", "volatility", "regime"]
    for mean in (weights["feature_gate"].mean, *weights["feature_gate"].by_regime.values()):
        assert all(0 < opening < 1 for opening in mean)
    for mean in (weights["regime_gate"].mean, *weights["regime_gate"].by_regime.values()):
        assert sum(mean) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("switches", [{}, PLAIN])
@pytest.mark.parametrize("batch", ["rows", "days"])
def test_both_kinds_of_batch_and_of_encoder(frame, batch, switches):
    expert = fitted(
        frame,
        epochs=1,
        training={"batch": batch},
        losses={"correlation": 0.0, "huber": 1.0} if batch == "rows" else {},
        **switches,
    )
    assert expert.predict(frame)["score"].is_finite().all()


@pytest.mark.parametrize("volatility", [None, float("nan"), 0.0])
def test_missing_inputs_and_volatility_still_give_numbers(frame, volatility):
    rows = frame.with_columns(
        *(pl.lit(None, pl.Float32).alias(name) for name in GROUPS),
        pl.lit(volatility, pl.Float32).alias("volatility_20"),
        pl.lit(None).alias("regime_state"),
    )
    predictions = fitted(rows, epochs=1).predict(rows).drop("timestamp", "symbol")
    assert predictions.select(pl.all().is_finite().all()).row(0) == (True,) * 7
    assert (predictions["uncertainty"] > 0).all()


def test_one_symbol_and_an_unseen_one(frame, expert):
    rows = frame.filter(pl.col("symbol") == "S00")
    assert fitted(rows).predict(rows)["score"].is_finite().all()
    renamed = frame.with_columns(pl.col("symbol").replace("S03", "S99")).sort("timestamp", "symbol")
    np.testing.assert_allclose(
        expert.predict(renamed).filter(pl.col("symbol") == "S99")["score"],
        expert.predict(frame).filter(pl.col("symbol") == "S03")["score"],
        rtol=0,
        atol=1e-8,
    )


def test_progress_rises_to_one(frame):
    shares = []
    Expert(small()).fit(
        frame,
        Task("1d", 5, "log_return", GROUPS, 0, threads=1),
        advance=lambda share, what: shares.append(share),
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_early_stopping_keeps_the_best_epoch(frame):
    expert = fitted(frame, epochs=6, training={"patience_epochs": 1}, optimiser={"learning_rate": 0.05})
    monitors = [epoch["monitor"] for epoch in expert.explain().training]
    best = int(np.argmax(monitors))
    assert len(monitors) == min(6, best + 3)
    watched = frame.with_columns(
        pl.col("part").replace({"early_stopping": "predict", "predict": "other"})
    ).filter(pl.col("part") != "other")
    rows = watched.filter(pl.col("part") == "predict").with_columns(expert.predict(watched)["score"])
    again = rows.group_by("timestamp").agg(pl.corr("score", "realised", method="spearman"))["score"].mean()
    assert again == pytest.approx(monitors[best], abs=1e-6)


def test_no_labels_and_no_inputs_are_refused(frame):
    task = Task("1d", 5, "log_return", GROUPS, 0, threads=1)
    with pytest.raises(AlphaloopError, match="label"):
        Expert(small()).fit(frame.with_columns(pl.lit(None, pl.Float64).alias("label")), task, advance=silent)
    with pytest.raises(AlphaloopError, match="no input"):
        Expert(small()).fit(frame, Task("1d", 5, "log_return", {}, 0), advance=silent)
    with pytest.raises(ValueError, match="patch_bars=20"):
        Settings(lookback_bars=10, patch_bars=20)


def test_golden_losses(expert):
    """Written on Linux x86-64 (AVX-512), torch 2.13 CPU, one thread; other CPUs agree within the
    tolerance.
    """
    found = [epoch["loss"] for epoch in expert.explain().training]
    assert found == pytest.approx(json.loads(GOLDEN.read_text())["losses"], abs=1e-5)


@pytest.fixture(scope="module")
def planted() -> tuple[pl.DataFrame, NeuralExpert]:
    frame = market(bars=240, symbols=40, seed=5, signal=0.5)
    return frame, fitted(
        frame, epochs=5, gate_cost=0.02, optimiser={"learning_rate": 0.01, "weight_decay": 0.1}
    )


def test_learns_a_signal_that_lives_in_the_lookback(planted):
    frame, expert = planted
    attainable = 0.5 / np.sqrt(1.25)
    assert mean_ic(expert, frame) > attainable / 2


def test_gates_close_on_noise_more_than_on_signal(planted):
    gate = planted[1].explain().weights["feature_gate"]
    opening = dict(zip(gate.columns, gate.mean, strict=True))
    assert opening["trend_a"] > opening["trend_b"]


def test_finds_nothing_in_noise():
    frame = market(bars=240, symbols=40, seed=6)
    # 36 days of 40 symbols: the mean IC of pure noise has a standard error of 1 / sqrt(36 * 40) = 0.026.
    assert abs(mean_ic(fitted(frame), frame)) < 0.09


def test_warm_start_takes_weights_of_equal_shape(frame, expert):
    still = {"optimiser": {"learning_rate": 1e-12}, "epochs": 1}
    again = fitted(frame, warm_start=expert, **still)
    torch.testing.assert_close(
        again.model.network.embed.weight_GOI, expert.model.network.embed.weight_GOI, atol=1e-6, rtol=0
    )
    wider = fitted(frame, warm_start=expert, feed_forward=12, **still)
    torch.testing.assert_close(
        wider.model.network.pool.weight_GOI, expert.model.network.pool.weight_GOI, atol=1e-6, rtol=0
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_trains_on_the_gpu(frame):
    expert = fitted(frame)
    assert next(expert.model.parameters()).is_cuda
    assert expert.predict(frame)["score"].is_finite().all()
