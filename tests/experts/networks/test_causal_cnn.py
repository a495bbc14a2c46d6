"""The causal convolutions: blocks of a window and steps with a carried state give what dilated convolutions
over every sample give; the exported stream equals the window's answer; a planted product is found.
"""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from components.experts.errors import ExpertError
from components.experts.families import causal_cnn, elasticnet
from components.experts.leaves import merged
from components.experts.networks.causal_cnn import Branch, CausalNetwork, joined
from components.experts.neural.batch import Batch, Layout
from components.experts.neural.export import FromWindows
from components.experts.neural.streaming import refuse_other_answers
from components.experts.protocol import Task
from components.scoring.form import GRAPH_FILE
from components.scoring.graph import open_session
from components.scoring.stream import STREAM_FILE, Stream
from tests.experts.market import fit_and_predict_frames
from tests.experts.tick_market import INPUTS, samples

TASK = Task(
    period="250ms",
    horizon=2,
    target="log_return",
    groups=INPUTS,
    seed=3,
    threads=1,
    transform="scaled",
)
SMALL = {
    "lookback_bars": 16,
    "branch_ms": (50, 250, 1000),
    "width": 16,
    "losses": {"correlation": 0.5, "huber": 1.0, "focal": 1.0, "focal_gamma": 1.5},
    "training": {
        "epochs": 8,
        "band_epochs": 2,
        "batch_windows": 128,
        "monitor": "rank_correlation_over_time",
    },
    "regularisation": {"dropout": 0.0, "label_smoothing": 0.02},
    "optimiser": {"learning_rate": 5e-3},
}


def every_sample(branch: Branch, inputs_TF: torch.Tensor, begin: int) -> torch.Tensor:
    """The branch's value [T, D] at every sample of one symbol by the plain definition, sample by sample."""
    count, zeros = len(inputs_TF), torch.zeros(branch.width)
    values = []
    for t in range(count):
        past = inputs_TF[max(t - branch.pace + 1, 0) : t + 1].sum(dim=0) / branch.pace
        values.append(nn.functional.gelu(branch.mix(past)) if t >= begin else zeros)
    for number, apart, join in zip(branch.kernels, branch.dilations, branch.joins, strict=True):
        layer = []
        for t in range(count):
            taps = [t - j * apart for j in reversed(range(number))]
            value, gate = join(torch.cat([values[s] if s >= 0 else zeros for s in taps])).chunk(2)
            layer.append(values[t] + value * torch.sigmoid(gate) if t >= begin else zeros)
        values = layer
    return torch.stack(values)


def test_kernels_by_hand():
    assert joined(512, 4) == (4, 4, 4, 4, 2)
    assert joined(102, 4) == (4, 4, 6)
    assert joined(25, 4) == (4, 6)
    assert joined(4, 4) == (4,)
    assert joined(7, 4) == (7,)
    assert joined(8, 2) == (2, 2, 2)
    assert joined(1, 4) == ()


@settings(max_examples=25, deadline=None)
@given(
    pace=st.integers(1, 4),
    kernel=st.integers(2, 4),
    positions=st.integers(1, 9),
    begin=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_blocks_and_steps_are_dilated_convolutions(pace, kernel, positions, begin, seed):
    torch.manual_seed(seed)
    branch = Branch(3, pace, joined(positions, kernel), 4, 0.0, 0.0).eval()
    count, lookback = pace * positions + 14, pace * positions
    inputs_TF = torch.randn(count, 3)
    inputs_TF[:begin] = 0.0
    began_T = torch.arange(count) >= begin
    with torch.no_grad():
        wanted_TD = every_sample(branch, inputs_TF, begin)
        state_BS = torch.zeros(1, branch.state_size)
        for t in range(count):
            begun_B1 = began_T[t].float()[None, None]
            value_BD, kept = branch.step(inputs_TF[t : t + 1], begun_B1, state_BS)
            state_BS = torch.cat(kept, dim=1) if kept else state_BS
            torch.testing.assert_close(value_BD[0], wanted_TD[t], rtol=1e-5, atol=1e-5)
            if t + 1 >= lookback:
                window = slice(t + 1 - lookback, t + 1)
                value_BD = branch(inputs_TF[None, window], began_T[None, window], None)
                torch.testing.assert_close(value_BD[0], wanted_TD[t], rtol=1e-5, atol=1e-5)


def test_the_embedding_is_a_sum_and_a_product_by_hand():
    """Width 1, one branch of one sample, inputs a = 2 and b = 3: 5 a + (a + 1) (4 b - 2) = 40."""
    layout = Layout(
        inputs={"a": "book", "b": "flow"},
        means=(0.0, 0.0),
        deviations=(1.0, 1.0),
        lookback=1,
        regimes=4,
        tasks=(("log_return", 2),),
        sectors=0,
        industries=0,
        trading_days=7,
        period="250ms",
    )
    network = CausalNetwork(layout, paces=(1,), kernel=2, width=1, dropout=0.0, stochastic_depth=0.0).eval()
    with torch.no_grad():
        # Columns: the branch's value, a, b. Rows: sum, left, right.
        network.join.weight.copy_(torch.tensor([[0.0, 5.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 4.0]]))
        network.join.bias.copy_(torch.tensor([0.0, 1.0, -2.0]))
    found = network(
        Batch(
            inputs_BLF=torch.tensor([[[2.0, 3.0]]]),
            began_BL=torch.ones(1, 1, dtype=torch.bool),
            regime_BR=torch.zeros(1, 4),
            sector_B=torch.zeros(1, dtype=torch.int64),
            industry_B=torch.zeros(1, dtype=torch.int64),
        )
    )
    assert found.embedding_BTE.tolist() == [[[40.0]]]


def test_paces_of_each_period():
    of = causal_cnn.paces
    usual = causal_cnn.Settings()
    assert of(usual, "50ms") == (1, 5, 20)
    assert of(usual, "250ms") == (1, 4)
    assert of(usual, "1s") == of(usual, "1d") == (1,)
    with pytest.raises(ExpertError, match="branch_ms names 300, which is no multiple"):
        of(causal_cnn.Settings(branch_ms=(300,)), "250ms")
    with pytest.raises(ExpertError, match="takes 20 samples of 50ms a step"):
        of(causal_cnn.Settings(lookback_bars=32), "50ms")


@pytest.fixture(scope="module")
def product():
    """Rows with a planted product, and the expert that learned it with the frame that it is asked about."""
    rows = samples(2400, 4, seed=5, strength=0.6, product=True)
    fit, predict = fit_and_predict_frames(rows, lookback=15)
    expert = fitted(fit)
    return rows, fit, predict, expert


def fitted(fit: pl.DataFrame, task: Task = TASK, **changes):
    expert = causal_cnn.Expert(causal_cnn.Settings.model_validate(merged(SMALL, changes)))
    expert.fit(fit, task, advance=lambda share, what: None)
    return expert


def over_time(found: pl.DataFrame, rows: pl.DataFrame, score: str = "score") -> float:
    """Spearman's correlation with the label within symbols."""
    both = found.join(rows.select("timestamp", "symbol", "signal", "label"), on=("timestamp", "symbol"))
    return both.group_by("symbol").agg(pl.corr(score, "label", method="spearman"))[score].mean()


def test_a_product_of_recent_patterns_is_found_where_a_line_finds_nothing(product):
    rows, fit, predict, expert = product
    found = expert.predict(predict)
    attainable = over_time(found, rows, "signal")
    assert attainable > 0.4
    assert over_time(found, rows) > 0.8 * attainable
    ridge = elasticnet.Expert(elasticnet.Settings(l1_ratio=0.01, penalties=3))
    ridge.fit(fit, TASK, advance=lambda share, what: None)
    assert abs(over_time(ridge.predict(predict), rows)) < 0.2 * attainable
    both = found.join(rows, on=("timestamp", "symbol"))
    assert 0.8 < both.select(pl.cov("score", "label") / pl.col("score").var()).item() < 1.2


def test_noise_teaches_nothing():
    rows = samples(1000, 4, seed=6, strength=0.0)
    fit, predict = fit_and_predict_frames(rows, lookback=15)
    found = fitted(fit, training={"epochs": 3}).predict(predict)
    # The standard error of a correlation over 4 symbols of 200 samples is 0.035.
    assert abs(over_time(found, rows)) < 0.12
    assert found["score"].std() < 0.2 * rows["label"].std()


def test_later_samples_and_those_before_a_hole_move_nothing(product):
    _, _, predict, expert = product
    times = predict["timestamp"].unique().sort()
    hole = predict.filter(~pl.col("timestamp").is_in(times[100:110].to_list()))
    moved = [
        pl.when(pl.col("timestamp") < times[105]).then(3.0).otherwise(name).alias(name) for name in INPUTS
    ]
    late = pl.col("timestamp") >= times[110]
    plain, other = (expert.predict(frame).filter(late) for frame in (hole, hole.with_columns(moved)))
    assert plain.equals(other)
    whole = expert.predict(predict).filter(late)
    assert not whole.equals(plain)
    later = [
        pl.when(pl.col("timestamp") > times[200]).then(3.0).otherwise(name).alias(name) for name in INPUTS
    ]
    until = pl.col("timestamp") <= times[200]
    found = [expert.predict(frame).filter(until) for frame in (predict, predict.with_columns(later))]
    assert found[0].equals(found[1])


@pytest.fixture(scope="module")
def exported(product, tmp_path_factory):
    """The folder of an expert of classes and the conditional return beside them, and the expert."""
    rows, fit, _, _ = product
    size = rows["label"].std()
    classes = fit.with_columns(
        pl.col("label").alias("also_0"),
        pl.when(pl.col("label").abs() > size).then(pl.col("label").sign()).otherwise(0.0).alias("label"),
    )
    task = replace(TASK, target="trade_class", also=(("log_return", 2),))
    expert = fitted(classes, task, dropout_sampling={"masks": 4})
    folder = tmp_path_factory.mktemp("causal_cnn")
    expert.save(folder)
    expert.export(folder)
    return folder, expert


def test_two_heads_tell_classes_and_the_conditional_return(product, exported):
    rows, _, predict, _ = product
    classes, returns = exported[1].predict_tasks(predict)
    assert np.allclose(classes.select("p_down", "p_none", "p_up").sum_horizontal(), 1.0)
    attainable = over_time(returns, rows, "signal")
    assert over_time(classes, rows) > 0.8 * attainable
    assert over_time(returns, rows) > 0.8 * attainable
    both = returns.join(rows, on=("timestamp", "symbol"))
    assert 0.7 < both.select(pl.cov("score", "label") / pl.col("score").var()).item() < 1.3


def test_the_stream_answers_as_the_window_does(product, exported):
    folder, expert = exported
    rows, lookback = product[0], expert.settings.lookback_bars
    values = [rows.filter(pl.col("symbol") == name).select(*INPUTS).to_numpy()[:60] for name in ("T0", "T1")]
    samples_TBA = np.stack(values, axis=1).astype(np.float32)
    samples_TBA[7, 0, 2], samples_TBA[20, 1, :2] = np.nan, np.nan
    context, regime = (
        np.array([[0.0, np.nan], [1.0, np.nan]], np.float32),
        np.eye(4, dtype=np.float32)[[0, 2]],
    )
    stream, window = Stream(folder / STREAM_FILE, 2), open_session(folder / GRAPH_FILE, 1)
    reset = 30
    for t, sample_BA in enumerate(samples_TBA):
        if t == reset:
            stream.forget(np.array([1]))
        found = stream(sample=sample_BA, begun=np.ones(2, np.float32), regime=regime, context=context)
        past = np.full((2, lookback, len(INPUTS)), np.nan, np.float32)
        begun = np.zeros((2, lookback), np.float32)
        for symbol, begin in ((0, 0), (1, reset if t >= reset else 0)):
            first = max(begin, t + 1 - lookback)
            past[symbol, lookback - (t + 1 - first) :] = samples_TBA[first : t + 1, symbol]
            begun[symbol, lookback - (t + 1 - first) :] = 1.0
        names = [node.name for node in window.get_outputs()]
        wanted = window.run(names, {"window": past, "begun": begun, "regime": regime, "context": context})
        for name, whole in zip(names, wanted, strict=True):
            np.testing.assert_allclose(found[name], whole, rtol=1e-5, atol=1e-5)


def test_a_stream_that_says_something_else_is_refused(exported):
    """A model of which weights of the past differ, as if a step kept another past than windows show."""
    folder, expert = exported
    model = deepcopy(expert.model)
    told = (model, expert.scalers, expert.codes, expert.settings.lookback_bars, (0, 1, 2), 1)
    windows = FromWindows(*told).eval()
    refuse_other_answers(folder / STREAM_FILE, windows, *told[1:4])
    with torch.no_grad():
        model.network.branches[-1].joins[0].weight[:, 0] += 0.01
    with pytest.raises(ExpertError, match="sample by sample gives another 'raw'"):
        refuse_other_answers(folder / STREAM_FILE, windows, *told[1:4])
