import dataclasses
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch

from components.experts.families.adaptive_tft import FAMILY, Expert, Settings, build, evidence
from components.experts.networks.adaptive_tft import CausalBlock
from components.experts.networks.frequency_normalisation import FrequencyNormalisation, fourier_basis
from components.experts.neural.arrays import Codes, Scalers
from components.experts.neural.batch import Batch, Layout
from components.experts.neural.config import Regularisation
from components.experts.neural.export import window_graph
from components.experts.neural.heads import ForecastModel
from components.experts.protocol import Task

GOLDEN = Path(__file__).with_name("golden_adaptive_tft.json")
# Shapes as in the network: B windows, L bars, F inputs, D days, S slots a day.
INPUTS = {"trend_a": "trend", "trend_b": "trend", "bar_close": "bars"}
SMALL = {"lookback_bars": 6, "width": 8, "heads": 2}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def layout(inputs=INPUTS, lookback=6, sectors=3, industries=5) -> Layout:
    means = tuple(0.1 * number for number in range(len(inputs)))
    return Layout(
        inputs, means, (0.5,) * len(inputs), lookback, 4, (("log_return", 5),), sectors, industries, 5, "1d"
    )


def days_of(sizes, shape: Layout, seed=0, slots=None) -> Batch:
    """Days with that many stocks each, all different."""
    generator = torch.Generator().manual_seed(seed)
    windows, slots = sum(sizes), slots or max(sizes)
    inputs = torch.randn(windows, shape.lookback, len(shape.inputs), generator=generator)
    began = torch.arange(shape.lookback) >= torch.randint(0, 3, (windows, 1), generator=generator)
    regime = torch.eye(4)[torch.randint(0, 4, (windows,), generator=generator)]
    sector, industry = (
        torch.randint(0, known + 1, (windows,), generator=generator)
        for known in (shape.sectors, shape.industries)
    )
    slot = torch.cat([day * slots + torch.arange(size) for day, size in enumerate(sizes)])
    return Batch(inputs * began[..., None], began, regime, sector, industry, slot, len(sizes), slots)


def taken(batch: Batch, rows, **changes) -> Batch:
    parts = {
        name: getattr(batch, name)[rows]
        for name in ("inputs_BLF", "began_BL", "regime_BR", "sector_B", "industry_B", "slot_B")
    }
    return dataclasses.replace(batch, **{**parts, **changes})


def network(shape: Layout, seed=0, **settings) -> torch.nn.Module:
    """In evaluation, with edge weights and cuts away from where they start."""
    torch.manual_seed(seed)
    made = build(Settings(**{**SMALL, "lookback_bars": shape.lookback, **settings}), shape).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "edge_bias" in name or "gate" in name or "ahead" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def embedding(made: torch.nn.Module, batch: Batch) -> torch.Tensor:
    with torch.inference_mode():
        return made(batch).embedding_BTE[:, 0]


@pytest.mark.parametrize("lookback", [5, 8, 60])
def test_fourier_basis_is_orthonormal_and_holds_every_window(lookback):
    basis = fourier_basis(lookback)
    torch.testing.assert_close(basis.T @ basis, torch.eye(lookback), atol=2e-6, rtol=0)


def test_a_sine_is_dominant_and_a_flat_spectrum_is_not():
    bars = torch.arange(16)
    sine = 2.0 * torch.sin(2 * math.pi * 3 * bars / 16 + 0.4)
    impulse = torch.zeros(16)
    impulse[5] = 1.0
    split = FrequencyNormalisation(16, 2)(torch.stack([sine, impulse], dim=1)[None])
    # All the sine's energy is in wave 3: share 1, dominance sigmoid(20 * (1 - 0.2)). Its newest value is the
    # forecast.
    kept = 1 / (1 + math.exp(-16.0))
    assert split.level_BF[0, 0].item() == pytest.approx(kept * sine[-1].item(), abs=1e-5)
    assert split.share_BF[0, 0].item() == pytest.approx(kept, abs=1e-5)
    assert split.rest_BLF[0, :, 0].abs().max() < 1e-4
    # The impulse has 1 / 16 in waves 0 and 8 and 2 / 16 in the seven between: dominance sigmoid(20 * (1 / 16
    # - 0.2)) and sigmoid(20 * (1 / 8 - 0.2)).
    ends, middle = 1 / (1 + math.exp(2.75)), 1 / (1 + math.exp(1.5))
    assert split.share_BF[0, 1].item() == pytest.approx(2 / 16 * ends + 14 / 16 * middle, abs=1e-5)


def test_two_sines_are_told_apart_and_missing_inputs_stay_zero():
    bars = torch.arange(12)
    strong, weak = 3.0 * torch.cos(2 * math.pi * bars / 12), torch.sin(2 * math.pi * 4 * bars / 12)
    split = FrequencyNormalisation(12, 2)(torch.stack([strong + weak, torch.zeros(12)], dim=1)[None])
    # Energies 9 to 1: shares 0.9 and 0.1, dominances sigmoid(14) and sigmoid(-2).
    first, second = (1 / (1 + math.exp(-logit)) for logit in (14.0, -2.0))
    rest = (1 - first) * strong + (1 - second) * weak
    scale = (rest.square().mean() + 0.01) ** (-0.5 / (1 + math.exp(2.0)))
    torch.testing.assert_close(split.rest_BLF[0, :, 0], rest, atol=1e-5, rtol=0)
    assert split.evening_BF[0, 0].item() == pytest.approx(scale.item(), abs=1e-5)
    assert split.share_BF[0, 0].item() == pytest.approx(0.9 * first + 0.1 * second, abs=1e-5)
    assert not split.rest_BLF[0, :, 1].any()
    assert split.level_BF[0, 1] == 0


def test_the_split_is_that_of_an_fft():
    torch.manual_seed(2)
    made, x = FrequencyNormalisation(9, 3), torch.randn(4, 9, 3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        split = made(x)
    spectrum = np.fft.rfft(x.double().numpy(), axis=1)
    energy = np.abs(spectrum) ** 2 * np.array([1, 2, 2, 2, 2])[:, None]
    share = energy / energy.sum(axis=1, keepdims=True)
    cut, sharpness = (
        1 / (1 + np.exp(-made.cut_gate_F.detach().double().numpy())),
        np.exp(made.sharpness_gate_F.detach().double().numpy()),
    )
    dominance = 1 / (1 + np.exp(-sharpness * (share - cut)))
    main = np.fft.irfft(spectrum * dominance, n=9, axis=1)
    rest = x.double().numpy() - main
    power = 1 / (1 + np.exp(-made.power_gate_F.detach().double().numpy()))
    np.testing.assert_allclose(split.rest_BLF, rest, atol=1e-5)
    np.testing.assert_allclose(split.evening_BF, ((rest**2).mean(axis=1) + 0.01) ** (-power / 2), atol=1e-5)
    # Orthonormal coefficients of the main part: NumPy's spectrum over sqrt(L), times sqrt(2) for waves that
    # have both cosine and sine.
    scaled = spectrum * dominance / 3 * np.sqrt([1, 2, 2, 2, 2])[:, None]
    ahead = made.ahead_CF.detach().double().numpy()
    np.testing.assert_allclose(
        split.level_BF,
        main[:, -1] + (scaled.real * ahead[:5] - scaled.imag * ahead[5:]).sum(axis=1),
        atol=1e-5,
    )
    np.testing.assert_allclose(split.share_BF, (share * dominance).sum(axis=1), atol=1e-5)


def test_every_part_of_the_normalisation_gets_a_gradient():
    made = FrequencyNormalisation(8, 2)
    split = made(torch.randn(5, 8, 2))
    ((split.rest_BLF * split.evening_BF[:, None]).square().sum() + split.level_BF.square().sum()).backward()
    # The sine of wave 0 is 0 everywhere, and so is that of the fastest wave of an even lookback.
    moved = {name: (parameter.grad != 0).all(dim=-1) for name, parameter in made.named_parameters()}
    assert moved.pop("ahead_CF").tolist() == [True] * 5 + [False, True, True, True, False]
    assert all(moved.values())


def test_causal_blocks_see_earlier_bars_alone():
    block = CausalBlock(4, 3, 2, 0.0)
    x = torch.randn(2, 9, 4)
    later = torch.cat([x[:, :6], torch.randn(2, 3, 4)], dim=1)
    torch.testing.assert_close(block(later, 0.0)[:, :6], block(x, 0.0)[:, :6])
    earlier = x.clone()
    earlier[:, 4] *= -1
    # Bar 8 mixes bars 4, 6 and 8.
    assert (block(earlier, 0.0)[:, 8] - block(x, 0.0)[:, 8]).abs().max() > 1e-3
    torch.testing.assert_close(block(earlier, 0.0)[:, 7], block(x, 0.0)[:, 7])


def test_bars_before_a_symbols_first_one_do_not_count_but_as_zeros():
    shape = layout()
    made = network(shape, frequency_normalisation=False, layers=2)
    batch = days_of([5], shape)
    batch = dataclasses.replace(batch, began_BL=torch.arange(6).expand(5, 6) >= 3)
    other = batch.inputs_BLF.clone()
    other[:, :3] += 10
    torch.testing.assert_close(embedding(made, batch.with_inputs(other)), embedding(made, batch))
    assert (
        embedding(
            made, dataclasses.replace(batch.with_inputs(other), began_BL=torch.ones(5, 6, dtype=torch.bool))
        )
        - embedding(made, batch)
    ).abs().max() > 1e-3


def test_other_days_of_the_batch_change_nothing():
    shape = layout()
    made = network(shape, graph_layers=2)
    batch = days_of([7, 4, 6], shape)
    first = embedding(made, batch)
    second_day = torch.arange(7, 11)
    # Other days with other stocks, and their rows in another order.
    changed = batch.inputs_BLF.clone()
    changed[:7] = 9.0
    changed[11:] *= -3
    order = torch.cat([torch.arange(11, 17), second_day, torch.arange(7).flip(0)])
    found = embedding(made, taken(batch.with_inputs(changed), order))
    torch.testing.assert_close(found[6:10], first[second_day], atol=1e-6, rtol=1e-5)
    alone = taken(batch, second_day, slot_B=None, days=1, slots=0)
    torch.testing.assert_close(embedding(made, alone), first[second_day], atol=1e-6, rtol=1e-5)
    # What must be caught: with another day in the same graph the numbers move.
    merged = taken(batch, torch.arange(7, 17), slot_B=None, days=1, slots=0)
    assert (embedding(made, merged)[:4] - first[second_day]).abs().max() > 1e-3


def test_the_order_of_a_days_stocks_and_empty_slots_change_nothing():
    shape = layout()
    made = network(shape)
    batch = days_of([8, 5], shape)
    first = embedding(made, batch)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(embedding(made, taken(batch, order)), first[order], atol=1e-6, rtol=1e-5)
    swapped = torch.tensor([3, 1, 2, 0, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    torch.testing.assert_close(
        embedding(made, taken(batch, swapped, slot_B=batch.slot_B)), first[swapped], atol=1e-6, rtol=1e-5
    )
    wider = dataclasses.replace(
        batch,
        slot_B=torch.where(batch.slot_B < 8, batch.slot_B + 3, batch.slot_B - 8 + 20 + 6),
        slots=20,
        days=3,
    )
    torch.testing.assert_close(embedding(made, wider), first, atol=1e-6, rtol=1e-5)


def test_peers_move_a_stock_and_without_graph_layers_they_do_not():
    shape = layout()
    batch = days_of([6], shape)
    other = batch.inputs_BLF.clone()
    other[1:] += 1.0
    for graph_layers, moves in ((1, True), (0, False)):
        made = network(shape, graph_layers=graph_layers)
        difference = (embedding(made, batch.with_inputs(other)) - embedding(made, batch))[0].abs().max()
        assert (difference > 1e-3) == moves


@pytest.mark.parametrize(
    "inputs",
    [
        {"trend_a": "trend"},
        {"bar_close": "bars"},
        {"weekday_sin": "calendar", "bar_open": "bars"},
        {"bar_close": "trend", "x": "regime"},
    ],
)
@pytest.mark.parametrize("sizes", [[1], [1, 3]])
def test_any_inputs_and_one_symbol_alone_give_numbers(inputs, sizes):
    shape = layout(inputs, sectors=0, industries=0)
    batch = days_of(sizes, shape)
    batch = dataclasses.replace(batch, began_BL=batch.began_BL & (torch.arange(sum(sizes)) > 0)[:, None])
    made = network(shape)
    assert embedding(made, batch).isfinite().all()
    assert (made.close is not None) == (inputs.get("bar_close") == "bars")


def test_evidence_has_the_columns_that_the_family_names():
    shape = layout()
    for graph_layers in (0, 2):
        settings = Settings(**SMALL, graph_layers=graph_layers)
        made = network(shape, graph_layers=graph_layers)
        found = made(days_of([6, 3], shape)).evidence
        assert {name: value.shape for name, value in found.items()} == {
            name: (9, len(columns)) for name, columns in evidence(settings, shape).items()
        }
        assert not any(value.requires_grad for value in found.values())
        torch.testing.assert_close(found["variable_selection"].sum(dim=1), torch.ones(9))
        assert ((found["frequency"] >= 0) & (found["frequency"] <= 1)).all()
        assert ((found["temperature"] >= 0.5) & (found["temperature"] <= 2)).all()
        if graph_layers:
            torch.testing.assert_close(found["sector_attention"].sum(dim=1), torch.ones(9))


def test_a_window_that_stochastic_depth_skips_hears_nothing():
    shape = layout()
    batch = days_of([40], shape)
    made = network(shape, layers=0, regularisation=Regularisation(dropout=0.0, stochastic_depth=0.5))
    alone = network(shape, layers=0, graph_layers=0, regularisation=Regularisation(dropout=0.0))
    alone.load_state_dict(
        {name: weight for name, weight in made.state_dict().items() if not name.startswith("graph")}
    )
    torch.manual_seed(0)
    trained = made.train()(batch).embedding_BTE[:, 0]
    skipped = (trained - embedding(alone, batch)).abs().amax(dim=1) < 1e-6
    assert 8 < skipped.sum() < 32
    assert torch.equal(embedding(made.eval(), batch), embedding(made, batch))


def test_bfloat16_gives_numbers_near_those_of_float32():
    shape = layout()
    made, batch = network(shape), days_of([12, 9], shape)
    with torch.autocast("cpu", torch.bfloat16):
        rough = embedding(made, batch)
    assert (rough.float() - embedding(made, batch)).abs().mean() < 0.03


def test_the_exported_graph_gives_the_same_numbers_for_any_number_of_stocks():
    shape = layout()
    made = ForecastModel(network(shape), 1)
    scalers, codes = (
        Scalers(shape.means, shape.deviations, 0.02),
        Codes((10.0, 20.0, 30.0), (1.0, 2.0, 3.0, 4.0, 5.0)),
    )
    session = onnxruntime.InferenceSession(window_graph(made, scalers, codes, shape.lookback))
    for stocks in (1, 2, 7, 60):
        batch = taken(
            days_of([stocks], shape, seed=stocks), torch.arange(stocks), slot_B=None, days=1, slots=0
        )
        raw = torch.where(
            batch.began_BL[..., None],
            batch.inputs_BLF * torch.tensor(shape.deviations) + torch.tensor(shape.means),
            torch.nan,
        )
        sector = torch.where(batch.sector_B > 0, 10.0 * batch.sector_B, torch.nan)
        industry = torch.where(batch.industry_B > 0, batch.industry_B.float(), torch.nan)
        feed = {
            "window": raw,
            "begun": batch.began_BL.float(),
            "regime": batch.regime_BR,
            "context": torch.stack([sector, industry], dim=1),
        }
        score, quantiles = session.run(None, {name: value.numpy() for name, value in feed.items()})
        with torch.inference_mode():
            expected = made.eval()(batch)
        np.testing.assert_allclose(score, expected.score_BT[:, 0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(quantiles, expected.quantiles_BT3[:, 0], rtol=0, atol=1e-5)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="width=10 is no multiple of heads=4"):
        Settings(width=10, heads=4)
    with pytest.raises(ValueError, match="kernel_bars=9 is more than lookback_bars=5"):
        Settings(kernel_bars=9, lookback_bars=5)
    assert FAMILY.whole_days


STOCKS, BARS, LOOKBACK = 24, 130, 12


def market(kind: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs [bars, stocks, 2] (a signal and noise), labels [bars, stocks], sectors [stocks].

    Signals are independent among stocks.

    peers: the label follows the mean signal of the other members of the stock's sector, never its own.
    hidden: so among groups that no sector tells, but whose returns (the second input) move together. noise:
    nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    group = torch.arange(STOCKS) % 4
    member = torch.nn.functional.one_hot(group, 4).float()
    signal, noise = torch.randn(2, BARS, STOCKS, generator=generator)
    returns = (
        noise
        if kind != "hidden"
        else 0.9 * torch.randn(BARS, 4, generator=generator) @ member.T + 0.45 * noise
    )
    others = (signal @ member @ member.T - signal) / (member.sum(dim=0)[group] - 1)
    label = (others / others.std() if kind != "noise" else 0) + torch.randn(BARS, STOCKS, generator=generator)
    return (
        torch.stack([signal, returns], dim=2),
        label,
        group + 1 if kind == "peers" else torch.zeros_like(group),
    )


def day_batch(inputs: torch.Tensor, sector: torch.Tensor, bars: torch.Tensor) -> Batch:
    windows = torch.stack(
        [inputs[bar - LOOKBACK + 1 : bar + 1].transpose(0, 1) for bar in bars.tolist()]
    ).flatten(0, 1)
    count = len(windows)
    unknown = torch.zeros(count, dtype=torch.long)
    return Batch(
        windows,
        torch.ones(count, LOOKBACK, dtype=torch.bool),
        torch.zeros(count, 4),
        sector.repeat(len(bars)),
        unknown,
        torch.arange(count),
        len(bars),
        STOCKS,
    )


def rank_correlation(kind: str, **settings) -> float:
    """Learn from the first 90 bars, and give the mean rank correlation of score and label over
    the last 40.
    """
    inputs, label, sector = market(kind)
    shape = Layout(
        {"signal": "trend", "bar_close": "bars"},
        (0.0, 0.0),
        (1.0, 1.0),
        LOOKBACK,
        4,
        (("log_return", 1),),
        4,
        0,
        5,
        "1d",
    )
    torch.manual_seed(0)
    model = ForecastModel(
        build(
            Settings(lookback_bars=LOOKBACK, width=8, regularisation=Regularisation(dropout=0.0), **settings),
            shape,
        ),
        1,
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(1)
    for _ in range(8):
        for bars in (LOOKBACK + torch.randperm(90 - LOOKBACK, generator=generator)).split(8):
            score = model(day_batch(inputs, sector, bars)).score_BT.view(len(bars), STOCKS)
            optimiser.zero_grad()
            (
                -torch.stack(
                    [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(score, label[bars], strict=True)]
                ).mean()
            ).backward()
            optimiser.step()
    bars = torch.arange(90, BARS)
    with torch.inference_mode():
        score = model.eval()(day_batch(inputs, sector, bars)).score_BT.view(len(bars), STOCKS)
    ranks = [
        torch.stack([x.argsort(dim=1).argsort(dim=1).float() for x in (score, label[bars])])[:, day]
        for day in range(len(bars))
    ]
    return torch.stack([torch.corrcoef(pair)[0, 1] for pair in ranks]).mean().item()


# Signal and noise of a label are of equal size, so 1 / sqrt(2) is the best linear correlation. Over 40 days
# of 24 stocks the mean rank correlation of noise has a standard error of 1 / sqrt(40 * 23) = 0.033.
def test_learns_what_only_the_sectors_inputs_carry_and_a_network_of_single_stocks_cannot():
    assert rank_correlation("peers") > 0.45
    assert abs(rank_correlation("peers", graph_layers=0)) < 0.1


def test_correlated_returns_tell_it_who_the_peers_are():
    assert rank_correlation("hidden") > 0.35
    assert abs(rank_correlation("hidden", graph_layers=0)) < 0.1


def test_finds_nothing_in_noise():
    assert abs(rank_correlation("noise")) < 0.1


FRAME_INPUTS = {"trend_a": "trend", "vol_a": "volatility", "bar_close": "bars"}


def frame(bars: int = 70, symbols: int = 12) -> pl.DataFrame:
    """A small panel whose symbols start one after another and whose last bars are to be predicted; labels
    follow the sector's mean of `trend_a`.
    """
    generator = np.random.default_rng(4)
    bar, symbol = (axis.ravel() for axis in np.meshgrid(np.arange(bars), np.arange(symbols), indexing="ij"))
    trend = generator.standard_normal((bars, symbols))
    sector = np.arange(symbols) % 3
    label = 0.02 * (
        np.stack([trend[:, sector == code].mean(axis=1) for code in sector], axis=1)
        + generator.standard_normal((bars, symbols))
    )
    return pl.DataFrame(
        {
            "timestamp": (
                pl.Series(
                    [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=int(day)) for day in range(bars)],
                    dtype=pl.Datetime("us", "UTC"),
                ).gather(bar)
            ),
            "symbol": np.array([f"S{number:02d}" for number in range(symbols)])[symbol],
            "sector": "all",
            "part": np.select([bar < 45, bar < 58], ["train", "early_stopping"], "predict"),
            "label": np.where(bar < 58, label.ravel(), np.nan),
            "regime_state": (bar % 4).astype(np.float64),
            "volatility_20": 0.02,
            "sector_code": sector[symbol].astype(np.float32),
            "industry_code": (symbol % 6).astype(np.float32),
            "trend_a": trend.ravel(),
            "vol_a": generator.standard_normal(bars * symbols),
            "bar_close": 0.02 * generator.standard_normal(bars * symbols),
        }
    ).filter(pl.lit(bar >= symbol // 4))


def fitted(rows: pl.DataFrame):
    training = {
        "epochs": 3,
        "batch": "days",
        "batch_windows": 50,
        "max_train_windows": 500,
        "predict_windows": 40,
    }
    expert = Expert(Settings(lookback_bars=5, width=8, training=training))
    expert.fit(
        rows,
        Task("1d", 5, "sector_neutral_return", FRAME_INPUTS, 1, threads=1),
        advance=lambda share, what: None,
    )
    return expert


@pytest.fixture(scope="module")
def expert():
    return fitted(frame())


def test_the_future_does_not_reach_a_prediction(expert):
    rows = frame()
    cut = rows.filter(pl.col("part") == "predict")["timestamp"].unique().sort()[5]
    later = rows.with_columns(
        pl.when(pl.col("timestamp") > cut).then(pl.col(name) * -50 + 7).otherwise(name).alias(name)
        for name in FRAME_INPUTS
    )
    before = expert.predict(rows)
    changed = expert.predict(later)
    assert changed.filter(pl.col("timestamp") <= cut).equals(before.filter(pl.col("timestamp") <= cut))
    assert not changed.filter(pl.col("timestamp") > cut).equals(before.filter(pl.col("timestamp") > cut))
    truncated = expert.predict(rows.filter(pl.col("timestamp") <= cut))
    np.testing.assert_allclose(
        truncated["score"], before.filter(pl.col("timestamp") <= cut)["score"], rtol=0, atol=1e-8
    )


def test_predictions_are_whole_and_the_evidence_is_explained(expert):
    rows = frame()
    predictions = expert.predict(rows)
    assert len(predictions) == rows.filter(pl.col("part") == "predict").height
    assert predictions.select(pl.all().exclude("timestamp", "symbol").is_finite().all()).row(0) == (True,) * 7
    assert {"variable_selection", "frequency", "temperature", "sector_attention", "edge"} == set(
        expert.explain().weights
    )


def test_golden_losses(expert):
    """Written on Linux x86-64, torch 2.13 CPU, one thread; other CPUs agree within the tolerance."""
    found = [epoch["loss"] for epoch in expert.explain().training]
    assert found == pytest.approx(json.loads(GOLDEN.read_text())["losses"], abs=1e-5)
