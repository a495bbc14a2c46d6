"""Pretraining: masks, views and InfoNCE by hand; no label and nothing after the training window reaches it;
it helps where labels are few.
"""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.contracts import AlphaloopError
from components.experts.neural.arrays import Codes, arrange, fit_scalers
from components.experts.neural.batch import Batch
from components.experts.neural.config import Neural, Optimiser, Pretraining, Training
from components.experts.neural.engine import reproducible
from components.experts.neural.panel import Panel
from components.experts.neural.phases import Phase
from components.experts.neural.pretraining import (
    ApartInTime,
    PretrainingModel,
    PretrainingObjective,
    PretrainingOutputs,
    info_nce,
    joined,
    masked,
    masked_rows,
    pretrain,
)
from tests.experts.neural.tiny import Alone, Crowd, fitted, mean_rank_correlation, parameter_bytes, seeded

INPUTS, LOOKBACK = 12, 6
GROUPS = {f"x{number}": "trend" for number in range(INPUTS)}
ON = Pretraining(epochs=1, masked_bars=2)
CPU = torch.device("cpu")


def market(seed: int, *, labelled: float, bars: int = 150, symbols: int = 20) -> pl.DataFrame:
    """12 noisy inputs that two slow latent factors of each symbol drive; the first factor drives the label.

    A share of the train rows is labelled.
    """
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((bars, symbols, INPUTS))
    factor = generator.standard_normal((bars, symbols, 2))
    for bar in range(1, bars):
        factor[bar] = 0.9 * factor[bar - 1] + math.sqrt(1 - 0.9**2) * factor[bar]
    x = factor @ generator.standard_normal((2, INPUTS)) / math.sqrt(2) + 2 * noise
    label = (
        0.02 * (0.7 * factor[..., 0] + math.sqrt(1 - 0.7**2) * generator.standard_normal((bars, symbols)))
    ).ravel()
    day = np.repeat(np.arange(bars), symbols)
    part = np.where(day < 0.55 * bars, "train", np.where(day < 0.7 * bars, "early_stopping", "predict"))
    known = (part == "early_stopping") | ((part == "train") & (generator.random(len(day)) < labelled))
    start = datetime(2020, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "timestamp": [start + timedelta(days=int(d)) for d in day],
            "symbol": np.tile([f"S{i:02d}" for i in range(symbols)], bars),
            "part": part,
            "label": np.where(known, label, np.nan),
            "realised": label,
            "regime_state": 0.0,
            "volatility_20": 0.02,
            **{name: x[..., number].ravel() for number, name in enumerate(GROUPS)},
        }
    ).with_columns(pl.col("label").fill_nan(None))


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return market(0, labelled=0.3, bars=40, symbols=8)


def panel_of(frame: pl.DataFrame, whole_days: bool = False) -> Panel:
    return Panel(
        arrange(frame, GROUPS, fit_scalers(frame, GROUPS), Codes((), ()), "1d"),
        lookback=LOOKBACK,
        device=CPU,
        whole_days=whole_days,
    )


def pretrained_with(
    frame: pl.DataFrame, whole_days: bool = False, part: str = "train", **changes
) -> tuple[bytes, list[dict[str, float]]]:
    panel = panel_of(frame, whole_days)
    network = seeded(Crowd if whole_days else Alone, INPUTS, LOOKBACK)
    settings = ON.model_copy(update=changes)
    with reproducible(5, threads=1):
        phase = Phase(network, panel, panel.bars.rows(part), 3, lambda share, what: None, whole_days)
        history = pretrain(phase, Neural(training=Training(batch_windows=32), pretraining=settings))
    return parameter_bytes(network), history


def test_info_nce_by_hand():
    one, other = (
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
        torch.tensor([[0.6, 0.8], [0.0, 1.0], [1.0, 0.0]]),
    )
    # Cosines of windows 0 and 1: [[0.6, 0], [0.8, 1]]. Window 2 is alone in its segment and costs nothing.
    tau = 0.5
    forward = [
        math.log(math.exp(0.6 / tau) + 1) - 0.6 / tau,
        math.log(math.exp(0.8 / tau) + math.exp(1 / tau)) - 1 / tau,
        0,
    ]
    backward = [
        math.log(math.exp(0.6 / tau) + math.exp(0.8 / tau)) - 0.6 / tau,
        math.log(1 + math.exp(1 / tau)) - 1 / tau,
        0,
    ]
    expected = (sum(forward) + sum(backward)) / 6
    assert info_nce(one, other, torch.tensor([4, 4, 9]), tau).item() == pytest.approx(expected)
    assert info_nce(one, other, torch.tensor([4, 4, 4]), tau).item() > expected


def test_loss_by_hand():
    outputs = PretrainingOutputs(
        torch.tensor([[1.0, 2.0], [9.0, 9.0]]), torch.nn.functional.normalize(torch.ones(2, 2, 3), dim=-1)
    )
    targets = {
        "inputs_BF": torch.tensor([[0.0, 0.0], [1.0, 1.0]]),
        "masked_B": torch.tensor([True, False]),
        "segment_B": torch.tensor([0, 0]),
    }
    loss, parts = PretrainingObjective(
        Pretraining(masked=2.0, contrastive=3.0), np.zeros(2), whole_days=False
    ).loss(outputs, targets)
    # Only the first window is masked: (1 + 4) / 2. All views are alike, so the right one of two is a coin's
    # toss.
    assert parts["masked"].item() == pytest.approx(2.5)
    assert parts["contrastive"].item() == pytest.approx(math.log(2), abs=1e-6)
    assert loss.item() == pytest.approx(2 * 2.5 + 3 * math.log(2), abs=1e-5)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.floats(0.05, 0.9), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_the_share_of_each_day_is_masked(sizes, share, seed):
    generator = np.random.default_rng(seed)
    segment = generator.permutation(np.repeat(generator.choice(1000, len(sizes), replace=False), sizes))
    eligible = generator.random(len(segment)) < 0.7
    chosen = masked_rows(
        torch.from_numpy(segment), torch.from_numpy(eligible), share, torch.Generator().manual_seed(seed)
    ).numpy()
    assert not (chosen & ~eligible).any()
    for day in np.unique(segment):
        assert chosen[segment == day].sum() == math.ceil(share * (segment == day)[eligible].sum() - 1e-6)


def test_each_symbol_is_as_likely_to_be_masked():
    generator = torch.Generator().manual_seed(0)
    segment, eligible = torch.zeros(20, dtype=torch.long), torch.ones(20, dtype=torch.bool)
    counts = sum(masked_rows(segment, eligible, 0.15, generator).long() for _ in range(2000))
    # 3 of 20 each time: 300 of 2,000, 5 standard deviations either way.
    assert (counts - 300).abs().max() < 5 * math.sqrt(2000 * 0.15 * 0.85)


def test_masked_bars_are_the_newest_of_masked_windows(frame):
    batch = panel_of(frame).batch(np.arange(20))
    chosen = torch.arange(20) % 4 == 0
    x = masked(batch, chosen, 2).inputs_BLF
    assert not x[chosen][:, -2:].any()
    assert torch.equal(x[chosen][:, :-2], batch.inputs_BLF[chosen][:, :-2])
    assert torch.equal(x[~chosen], batch.inputs_BLF[~chosen])


@pytest.mark.parametrize("whole_days", [False, True])
def test_what_the_model_is_shown(frame, whole_days):
    panel = panel_of(frame, whole_days)
    rows = np.flatnonzero(np.isin(panel.day_N, [2, 20, 21]))
    batch = panel.batch(rows)
    shown, targets = PretrainingObjective(ON, panel.day_N, whole_days=whole_days).prepare(
        batch, rows, torch.Generator().manual_seed(1)
    )
    plain, one, other = shown.inputs_BLF.chunk(3)
    chosen = targets["masked_B"]
    assert chosen.sum() == (3 * math.ceil(0.15 * 8) if whole_days else math.ceil(0.15 * 24))
    assert not plain[chosen][:, -2:].any()
    assert torch.equal(plain[~chosen], batch.inputs_BLF[~chosen])
    assert torch.equal(targets["inputs_BF"], batch.inputs_BLF[:, -1])
    assert all(len(value) == len(rows) for value in targets.values())
    for view in (one, other):
        assert not view[~batch.began_BL].any()
        assert view[:, -1].any(dim=1).all()
    assert not torch.equal(one, other)
    kept = batch.with_inputs(one).began_BL & one.any(dim=-1)
    distance = (one - batch.inputs_BLF)[kept]
    # What is neither dropped (1 in 5 inputs) nor blank differs by noise of a tenth of a deviation.
    assert (distance.abs() < 0.5).float().mean() > 0.6
    dropped = (one == 0) & (batch.inputs_BLF != 0)
    assert 0.1 < dropped[:, -1].float().mean() < 0.3
    if whole_days:
        assert (shown.days, shown.slots) == (9, 8)
        assert len(set(shown.slot_B.tolist())) == 72


def test_views_of_a_day_do_not_mix(frame):
    panel = panel_of(frame, whole_days=True)
    rows = np.flatnonzero(np.isin(panel.day_N, [20, 21, 25]))
    network = seeded(Crowd, INPUTS, LOOKBACK)
    batch = panel.batch(rows)
    parts = [batch, batch.with_inputs(batch.inputs_BLF + 1), batch.with_inputs(-batch.inputs_BLF)]
    apart = torch.cat([network(part).embedding_BTE for part in parts])
    torch.testing.assert_close(network(joined(parts)).embedding_BTE, apart)
    assert not torch.allclose(network(replace(joined(parts), slot_B=None)).embedding_BTE, apart)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_pairs_are_the_same_symbol_so_many_bars_apart(seed):
    """Symbols of 1 to 9 bars, some of which must not be looked at: by the setting's words, row by row."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 10, 5)
    symbol, position = np.repeat(np.arange(5), lengths), np.concatenate([np.arange(n) for n in lengths])
    allowed = set(np.flatnonzero(generator.random(len(symbol)) < 0.8).tolist())
    panel = SimplePanel(position)
    rows, ahead = np.array(sorted(allowed)), generator.choice([2, 3], len(allowed))
    found = ApartInTime(panel, rows, (2, 3)).others(rows, ahead)
    for row, bars, other in zip(rows, ahead, found, strict=True):
        choices = [
            to
            for to in (row + bars, row - bars)
            if to in allowed and symbol[to] == symbol[row] and position[to] - position[row] == to - row
        ]
        assert other == (choices[0] if choices else row)


class SimplePanel:
    """As much of a panel as pairs are drawn from."""

    def __init__(self, position: np.ndarray):
        self.bars, self.day_N = self, position
        self.position_N = position


def test_the_other_view_is_of_bars_apart(frame):
    """A day's windows stay together, and all distances come up."""
    panel = panel_of(frame, whole_days=True)
    rows = panel.bars.rows("train")
    rows = rows[np.argsort(panel.day_N[rows], kind="stable")]
    apart, segment = ApartInTime(panel, rows, (1, 3)), torch.from_numpy(panel.day_N[rows])
    generator, moved = torch.Generator().manual_seed(0), set()
    batch = apart.batch(rows, segment, generator)
    # Each window's newest inputs are those of some other bar of its symbol.
    for row, newest in list(zip(rows, batch.inputs_BLF[:, -1], strict=True))[::7]:
        same = (panel.inputs_NF[row - panel.bars.position_N[row] : row + 4] == newest).all(dim=1)
        assert same.any()
        moved.add(int(same.nonzero()[-1]) - int(panel.bars.position_N[row]))
    assert {1, 3} <= moved <= {1, 3, -1, -3}
    shown, _ = PretrainingObjective(ON, panel.day_N, whole_days=True, apart=apart).prepare(
        panel.batch(rows), rows, generator
    )
    assert len(set(shown.slot_B.tolist())) == 3 * len(rows)
    assert int(shown.slot_B.max()) < shown.days * shown.slots


@pytest.mark.parametrize("apart_bars", [(), (2, 5)])
@pytest.mark.parametrize("whole_days", [False, True])
def test_neither_labels_nor_later_rows_reach_it(frame, whole_days, apart_bars):
    pretrained = partial(pretrained_with, apart_bars=apart_bars)
    before, history = pretrained(frame, whole_days)
    assert before != parameter_bytes(seeded(Crowd if whole_days else Alone, INPUTS, LOOKBACK))
    assert set(history[0]) >= {"loss", "masked", "contrastive"}
    assert pretrained(frame, whole_days) == (before, history)
    other_labels = frame.with_columns(pl.col("label") * -7 + 1)
    assert pretrained(other_labels, whole_days) == (before, history)
    later = frame.with_columns(
        pl.when(pl.col("part") == "train").then(name).otherwise(pl.col(name) * -50 + 7).alias(name)
        for name in (*GROUPS, "label")
    )
    assert pretrained(later, whole_days) == (before, history)
    truncated = frame.filter(pl.col("part") == "train")
    assert pretrained(truncated, whole_days) == (before, history)
    planted = frame.with_columns(
        pl.when(pl.col("part") == "train").then(-(pl.col("x1") ** 3)).otherwise("x1").alias("x1")
    )
    assert pretrained(planted, whole_days)[0] != before


@pytest.mark.parametrize("part", ["early_stopping", "predict"])
def test_rows_after_the_training_window_are_refused(frame, part):
    with pytest.raises(AlphaloopError, match=part):
        pretrained_with(frame, part=part)


@pytest.mark.parametrize(("masked_weight", "contrastive"), [(1.0, 0.0), (0.0, 1.0)])
def test_each_part_falls_as_it_is_learned(frame, masked_weight, contrastive):
    _, history = pretrained_with(frame, epochs=12, masked=masked_weight, contrastive=contrastive)
    name = "masked" if masked_weight else "contrastive"
    assert len(history) == 12
    assert history[-1][name] < 0.97 * history[0][name]


def test_the_model_gives_a_row_for_each_window():
    batch = Batch(
        torch.randn(15, LOOKBACK, INPUTS),
        torch.ones(15, LOOKBACK, dtype=torch.bool),
        torch.zeros(15, 4),
        *(torch.zeros(15, dtype=torch.long) for _ in range(2)),
    )
    outputs = PretrainingModel(seeded(Alone, INPUTS, LOOKBACK), INPUTS)(batch)
    assert outputs.rebuilt_BF.shape == (5, INPUTS)
    assert outputs.view_BVP.shape == (5, 2, 8)
    torch.testing.assert_close(outputs.view_BVP.norm(dim=-1), torch.ones(5, 2))


def score(frame: pl.DataFrame, seed: int, epochs: int) -> float:
    """Test rank correlation after so many epochs of pretraining; everything else is equal."""
    training, optimiser = (
        Training(epochs=40, patience_epochs=40, batch_windows=64),
        Optimiser(learning_rate=1e-2),
    )
    settings = Neural(
        lookback_bars=LOOKBACK,
        training=training,
        optimiser=optimiser,
        pretraining=Pretraining(epochs=epochs, masked_bars=1),
    )
    return mean_rank_correlation(fitted(frame, seed, settings), frame)


def on_shuffled_inputs(phase: Phase, settings: Neural) -> list[dict[str, float]]:
    """`pretrain` where each input has lost its place: as many steps, but nothing to find."""
    bars = phase.panel.bars
    inputs_NF = bars.inputs_NF.copy()
    inputs_NF[:-1] = np.random.default_rng(7).permuted(inputs_NF[:-1], axis=0)
    panel = Panel(replace(bars, inputs_NF=inputs_NF), lookback=LOOKBACK, device=CPU)
    return pretrain(replace(phase, panel=panel), settings)


def assert_positive(gain: np.ndarray) -> None:
    """Above 0.02, and by a paired t-test of 5 seeds at 5 %, both sides."""
    assert gain.mean() > 0.02, gain
    assert gain.mean() > 2.78 * gain.std(ddof=1) / math.sqrt(5), gain


def test_it_helps_where_labels_are_few_by_what_it_finds_in_the_inputs(monkeypatch):
    markets = [market(seed, labelled=0.05) for seed in range(5)]
    without, found = (
        np.array([score(frame, seed, epochs) for seed, frame in enumerate(markets)]) for epochs in (0, 10)
    )
    assert_positive(found - without)
    monkeypatch.setattr("components.experts.neural.pretraining.pretrain", on_shuffled_inputs)
    nothing = np.array([score(frame, seed, 10) for seed, frame in enumerate(markets)])
    assert_positive(found - nothing)
