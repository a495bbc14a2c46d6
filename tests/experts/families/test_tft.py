"""The Temporal Fusion Transformer: its parts against sums written out, the calendar of bars to come, padding,
no look-ahead, evidence, and that it learns what is there.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from components.experts.families.tft import Expert, Settings, build, evidence
from components.experts.networks import variable_selection
from components.experts.networks.gated_residual import GatedResidual
from components.experts.networks.tft import InterpretableAttention, Recurrence
from components.experts.networks.tft_calendar import CYCLES, Calendar
from components.experts.networks.variable_selection import KNOTS, VariableSelection
from components.experts.neural.arrays import Codes, Scalers
from components.experts.neural.batch import Batch, Layout
from components.experts.neural.export import window_graph
from components.experts.neural.heads import ForecastModel
from components.experts.protocol import Task
from tests.experts.market import INPUTS, fit_and_predict_frames, panel

GOLDEN = Path(__file__).parent / "golden_tft.json"
DAILY = ("weekday", "month_position", "year_position")
CALENDAR = {f"{cycle}_{part}": "calendar" for cycle in DAILY for part in ("sin", "cos")}
HOURS = {f"hour_{part}": "calendar" for part in ("sin", "cos")}
BARS = 6
torch.set_num_threads(1)


def layout(inputs: dict[str, str], **changes) -> Layout:
    size = len(inputs)
    usual = Layout(
        inputs=inputs,
        means=(0.0,) * size,
        deviations=(1.0,) * size,
        lookback=BARS,
        regimes=4,
        tasks=(("return", 5),),
        sectors=0,
        industries=0,
        trading_days=5,
        period="1d",
    )
    return replace(usual, **changes)


def network(of: Layout, seed: int = 0, **settings):
    torch.manual_seed(seed)
    return build(Settings(**{"lookback_bars": of.lookback, "width": 8, **settings}), of).eval()


def batch(of: Layout, rows: int = 5, seed: int = 0, inputs_BLF: Tensor | None = None) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    if inputs_BLF is None:
        inputs_BLF = torch.randn(rows, of.lookback, len(of.inputs), generator=generator)
    rows = len(inputs_BLF)
    sector_B = torch.randint(0, of.sectors + 1, (rows,), generator=generator)
    return Batch(
        inputs_BLF,
        torch.ones(rows, of.lookback, dtype=torch.bool),
        torch.zeros(rows, 4),
        sector_B,
        torch.zeros_like(sector_B),
    )


def set_all(module: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(value)


# Parts


@pytest.mark.parametrize("training", [True, False])
def test_gated_residual_by_hand(training):
    grn = GatedResidual(2, context=True, dropout=0.0).train(training)
    set_all(grn, 0.0)
    with torch.no_grad():
        grn.enter.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        grn.context.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        grn.inner.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
        grn.gated.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 1.0]]))
        grn.norm.weight.fill_(1.0)
    # a = (1, -1), c = (0.5, 9): W2 a + W3 c = (1.5, -1), elu = (1.5, e^-1 - 1), W1 makes (3, e^-1 - 1); the
    # gate is (sigmoid(0), sigmoid(e^-1 - 1)).
    second = math.exp(-1) - 1
    x = (1 + 3 * 0.5, -1 + second / (1 + math.exp(-second)))
    half = (x[0] - x[1]) / 2
    expected = half / math.sqrt(half**2 + 1e-5)
    found = grn(torch.tensor([[[1.0, -1.0]]]), torch.tensor([[0.5, 9.0]]))
    assert found.flatten().tolist() == pytest.approx([expected, -expected], abs=1e-6)


def test_gated_residual_skips_the_block_where_it_is_not_kept():
    grn, x = GatedResidual(4, context=False, dropout=0.0), torch.randn(2, 3, 4)
    kept = torch.tensor([0.0, 1.0])[:, None, None]
    assert torch.allclose(grn(x, None, kept)[0], grn.norm(x)[0], atol=1e-6)
    assert torch.allclose(grn(x, None, kept)[1], grn(x)[1])


def test_selection_weights_by_hand():
    selection = VariableSelection(2, 4, context=False, knots=False)
    set_all(selection, 0.0)
    with torch.no_grad():
        selection.skip.weight.copy_(torch.eye(2))
        selection.norm.weight.fill_(1.0)
    # Normed, (3, 1) is (1, -1); e / (e + 1/e) = 0.8808.
    assert selection.weights(torch.tensor([[3.0, 1.0]])).flatten().tolist() == pytest.approx(
        [0.8808, 0.1192], abs=1e-4
    )


def slow_selection(selection: VariableSelection, x_V: Tensor, context_D: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 2 to 8 of the paper for one bar, a variable at a time, nothing folded."""
    own = selection.networks
    hidden = functional.elu(selection.enter.weight @ x_V + selection.enter.bias + context_D)
    eta = selection.inner.weight @ hidden + selection.inner.bias
    value, gate = (selection.gated.weight @ eta + selection.gated.bias).chunk(2)
    weight_V = torch.softmax(
        selection.norm(selection.skip.weight @ x_V + selection.skip.bias + value * torch.sigmoid(gate)), dim=0
    )
    made = []
    for v, x in enumerate(x_V):
        embedding = x * own.embedding_VD[v] + own.embedding_bias_VD[v]
        eta = (
            functional.elu(embedding @ own.enter_VDD[v] + own.enter_bias_VD[v]) @ own.inner_VDD[v]
            + own.inner_bias_VD[v]
        )
        value, gate = (eta @ own.gated_VDG[v] + own.gated_bias_VG[v]).chunk(2)
        normed = functional.layer_norm(embedding + value * torch.sigmoid(gate), embedding.shape)
        made.append(normed * own.norm_scale_VD[v] + own.norm_shift_VD[v])
    return weight_V @ torch.stack(made), weight_V


def random_selection(variables: int, *, knots: bool) -> VariableSelection:
    torch.manual_seed(3)
    selection = VariableSelection(variables, 4, context=True, knots=knots)
    with torch.no_grad():
        for weight in selection.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape))
    return selection


@pytest.mark.parametrize("variables", [1, 3])
def test_selection_agrees_with_the_paper_a_variable_at_a_time(variables):
    selection, x_NV, context_ND = (
        random_selection(variables, knots=False),
        torch.randn(7, variables),
        torch.randn(7, 4),
    )
    selected_ND, weight_NV = selection(x_NV, context_ND)
    for row in range(7):
        selected_D, weight_V = slow_selection(selection, x_NV[row], context_ND[row])
        assert torch.allclose(selected_ND[row], selected_D, atol=1e-5)
        assert torch.allclose(weight_NV[row], weight_V, atol=1e-6)


def test_knots_agree_with_the_networks_there_and_are_linear_between():
    exact, knotted = random_selection(3, knots=False), random_selection(3, knots=True)
    at_NV = torch.tensor(KNOTS)[:, None].expand(-1, 3)
    assert torch.allclose(knotted(at_NV)[0], exact(at_NV)[0], atol=1e-5)
    table_VKD = knotted.networks(torch.tensor(KNOTS).expand(3, -1))
    middle_NV = (at_NV[1:] + at_NV[:-1]) / 2
    between_VKD = (table_VKD[:, 1:] + table_VKD[:, :-1]) / 2
    assert torch.allclose(
        knotted(middle_NV)[0], torch.einsum("nv,vnd->nd", knotted.weights(middle_NV), between_VKD), atol=1e-5
    )
    beyond_NV = torch.full((1, 3), 9.0)
    assert torch.allclose(
        knotted(beyond_NV)[0],
        torch.einsum("nv,vd->nd", knotted.weights(beyond_NV), table_VKD[:, -1]),
        atol=1e-5,
    )


def test_the_training_path_of_knots_is_the_plain_one_with_its_gradients(monkeypatch):
    selection, given_NV, context_ND = (
        random_selection(3, knots=True),
        2 * torch.randn(50, 3),
        torch.randn(50, 4),
    )
    monkeypatch.setattr(variable_selection, "CACHED_VALUES", 7 * 8 * 3)
    found = []
    for training in (True, False):
        x_NV = given_NV.clone().requires_grad_()
        selection.train(training).zero_grad()
        selected_ND = selection(x_NV, context_ND)[0]
        (selected_ND * torch.arange(4)).sum().backward()
        found.append(
            [
                selected_ND,
                x_NV.grad,
                *(weight.grad for weight in selection.parameters() if weight.grad is not None),
            ]
        )
    assert len(found[0]) == len(found[1]) == 22
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)


def test_recurrence_is_an_lstm():
    recurrence, lstm = Recurrence(4), torch.nn.LSTM(4, 4, batch_first=True)
    with torch.no_grad():
        recurrence.bias_G.normal_()
        for name, value in (
            ("weight_ih_l0", recurrence.inputs_GD),
            ("weight_hh_l0", recurrence.state_GD),
            ("bias_ih_l0", recurrence.bias_G),
            ("bias_hh_l0", torch.zeros(16)),
        ):
            getattr(lstm, name).copy_(value)
    x, state = torch.randn(3, 5, 4), (torch.randn(1, 3, 4), torch.randn(1, 3, 4))
    assert torch.allclose(recurrence(x, torch.zeros(3, 5, 1), state)[0], lstm(x, state)[0], atol=1e-6)


def test_recurrence_keeps_its_state_over_bars_that_have_not_begun():
    recurrence, cell = Recurrence(4), torch.randn(1, 3, 4)
    held = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])[None, :, None].expand(3, -1, -1)
    x = torch.randn(3, 5, 4) * (1 - held)
    _, (hidden, last) = recurrence(x[:, :3], held[:, :3], (torch.tanh(cell), cell))
    assert torch.equal(last, cell)
    assert torch.allclose(hidden, torch.tanh(cell), atol=1e-7)
    assert torch.allclose(
        recurrence(x, held, (torch.tanh(cell), cell))[0][:, 3:],
        recurrence(x[:, 3:], held[:, 3:], (torch.tanh(cell), cell))[0],
        atol=1e-7,
    )


def test_attention_agrees_with_heads_worked_out_one_by_one():
    torch.manual_seed(1)
    attention, x_BPD, held_BL = InterpretableAttention(8, 2, 3), torch.randn(2, 7, 8), torch.zeros(2, 4)
    held_BL[1, :2] = 1.0
    found_BHD, found_BHP = attention(x_BPD[:, :4], x_BPD[:, 4:], held_BL)
    for row in range(2):
        for step in range(3):
            seen = [
                place for place in range(7) if place <= 4 + step and not (place < 4 and held_BL[row, place])
            ]
            weights = []
            for head in range(2):
                part = slice(4 * head, 4 * head + 4)
                query = attention.query(x_BPD[row, 4 + step])[part]
                weights.append(torch.softmax(attention.key(x_BPD[row, seen])[:, part] @ query / 2.0, dim=0))
            weight = torch.stack(weights).mean(dim=0)
            assert torch.allclose(found_BHP[row, step, seen], weight, atol=1e-6)
            assert found_BHP[row, step].sum().item() == pytest.approx(1.0, abs=1e-6)
            assert torch.allclose(
                found_BHD[row, step], attention.out(weight @ attention.value(x_BPD[row, seen])), atol=1e-6
            )


# The calendar of bars to come


def cycle_places(moment: np.ndarray) -> dict[str, np.ndarray]:
    """Weekday (0 for Monday), days since the month's and the year's first, and hour of UTC moments, from
    their definition.
    """
    day = moment.astype("datetime64[D]")
    return {
        "weekday": (day.astype(np.int64) + 3) % 7,
        "month_position": (day - day.astype("datetime64[M]")).astype(np.int64),
        "year_position": (day - day.astype("datetime64[Y]")).astype(np.int64),
        "hour": (moment.astype("datetime64[h]") - day).astype(np.int64),
    }


def calendar_inputs(moment: np.ndarray, inputs: dict[str, str]) -> np.ndarray:
    places, columns = cycle_places(moment), []
    for name in inputs:
        cycle, part = name.rsplit("_", 1)
        columns.append(getattr(np, part)(2 * np.pi * places[cycle] / CYCLES[cycle]))
    return np.stack(columns, axis=-1)


def foretold_places(
    moments: np.ndarray, horizons: tuple[int, ...], inputs: dict[str, str], **changes
) -> dict[str, np.ndarray]:
    """Place in each cycle [B, H] that the calendar foretells, read off its standardised output."""
    raw = calendar_inputs(moments, inputs)
    mean, deviation = raw.mean(axis=0), raw.std(axis=0)
    calendar = Calendar(layout(inputs, means=tuple(mean), deviations=tuple(deviation), **changes), horizons)
    assert [list(inputs)[column] for column in calendar.columns] == [
        f"{cycle}_{part}" for cycle in calendar.cycles for part in ("sin", "cos")
    ]
    columns = calendar.columns
    newest_BC = torch.tensor((raw - mean) / deviation, dtype=torch.float32)[:, columns]
    found_BHC = calendar(newest_BC).numpy() * deviation[columns] + mean[columns]
    places = {}
    for number, cycle in enumerate(calendar.cycles):
        sine, cosine = found_BHC[..., 2 * number], found_BHC[..., 2 * number + 1]
        assert np.allclose(sine**2 + cosine**2, 1.0, atol=1e-5)
        places[cycle] = (
            np.rint(np.arctan2(sine, cosine) * CYCLES[cycle] / (2 * np.pi)).astype(int) % CYCLES[cycle]
        )
    return places


def over_unseen_leap_day(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Whether a 29 February lies in (start, end] that the start's own place in year and month can't tell of:
    it is January or February, or a leap year comes next.
    """
    years = end.astype("datetime64[Y]")
    leap_day = years.astype("datetime64[D]") + 59
    is_leap = (leap_day - leap_day.astype("datetime64[M]")).astype(int) == 28
    return is_leap & (start < leap_day) & (end >= leap_day)


DAYS = np.arange("2015-01-01", "2031-01-01", dtype="datetime64[D]")
HORIZONS = (1, 2, 5, 10, 21, 63)


@pytest.mark.parametrize("week", ["1111111", "1111100", "1111001"])
def test_calendar_of_daily_bars_against_the_calendar(week):
    """Every day, Monday to Friday, and Sunday to Thursday."""
    start = DAYS[np.is_busday(DAYS, weekmask=week)]
    end = np.busday_offset(start[:, None], np.array(HORIZONS), weekmask=week)
    found = foretold_places(start, HORIZONS, CALENDAR, trading_days=week.count("1"))
    expected = cycle_places(end)
    told = ~over_unseen_leap_day(np.broadcast_to(start[:, None], end.shape), end)
    assert len(start) > 4_000
    assert 0.95 < told.mean() < 1
    assert set(found) == set(DAILY)
    assert np.array_equal(found["weekday"], expected["weekday"])
    assert np.array_equal(found["year_position"][told], expected["year_position"][told])
    assert np.array_equal(found["month_position"][told], expected["month_position"][told])
    assert set(np.abs(found["year_position"] - expected["year_position"])[~told]) <= {0, 1}


def test_calendar_takes_bars_on_days_of_rest_to_the_next_trading_day():
    usual = DAYS[np.is_busday(DAYS)][:2000]
    resting = DAYS[~np.is_busday(DAYS)][:400]
    end = np.busday_offset(resting[:, None], np.array(HORIZONS) - 1, roll="forward")
    found = foretold_places(np.concatenate([usual, resting]), HORIZONS, CALENDAR)["weekday"][len(usual) :]
    assert np.array_equal(found, cycle_places(end)["weekday"])


@pytest.mark.parametrize(("period", "hours"), [("1h", 1), ("4h", 4)])
def test_calendar_of_hourly_bars(period, hours):
    start = np.arange("2021-03-01", "2022-02-01", np.timedelta64(hours, "h"), dtype="datetime64[h]")
    end = start[:, None] + np.array(HORIZONS) * np.timedelta64(hours, "h")
    found = foretold_places(start, HORIZONS, CALENDAR | HOURS, trading_days=7, period=period)
    assert set(found) == set(CYCLES)
    for cycle, places in cycle_places(end).items():
        assert np.array_equal(found[cycle], places)


@pytest.mark.parametrize(
    ("inputs", "changes", "cycles"),
    [
        (("weekday_sin",), {}, ()),
        (("year_position_sin", "year_position_cos"), {}, ()),
        (("year_position_sin", "year_position_cos"), {"trading_days": 7}, ("year_position",)),
        (("month_position_sin", "month_position_cos"), {"trading_days": 7}, ()),
        (("weekday_cos", "weekday_sin", "year_position_sin"), {}, ("weekday",)),
        (("weekday_sin", "weekday_cos"), {"period": "1h", "trading_days": 7}, ()),
        (("weekday_sin", "weekday_cos", "hour_sin", "hour_cos"), {"period": "1h"}, ()),
    ],
)
def test_only_cycles_that_can_be_told_are_foretold(inputs, changes, cycles):
    assert (
        Calendar(layout({"x": "trend"} | dict.fromkeys(inputs, "calendar"), **changes), [1]).cycles == cycles
    )


# The network


SUBSETS = {
    "one input": ({"x": "trend"}, {}),
    "no calendar, sectors": ({"x": "trend", "y": "bars"}, {"sectors": 3}),
    "calendar alone": (CALENDAR, {}),
    "calendar and sectors, three steps": (
        {"x": "trend"} | CALENDAR,
        {"sectors": 3, "tasks": (("return", 5), ("return", 1), ("other", 5), ("return", 10))},
    ),
    "a bar of history": ({"x": "trend"}, {"lookback": 2}),
}


@pytest.mark.parametrize("name", SUBSETS)
@pytest.mark.parametrize("knots", [True, False])
def test_any_inputs_will_do_and_evidence_is_named(name, knots):
    inputs, changes = SUBSETS[name]
    of = layout(inputs, **changes)
    net = network(of, knots=knots)
    encoded = net(batch(of))
    columns = evidence(Settings(), of)
    assert encoded.embedding_BTE.shape == (5, len(of.tasks), net.width)
    assert encoded.embedding_BTE.std(dim=0).min() > 0
    assert {key: value.shape[1] for key, value in encoded.evidence.items()} == {
        key: len(names) for key, names in columns.items()
    }
    assert not any(value.requires_grad for value in encoded.evidence.values())
    for key in set(encoded.evidence) - {"attention"}:
        assert torch.allclose(encoded.evidence[key].sum(dim=1), torch.ones(5), atol=1e-5)
    assert (encoded.evidence["attention"].sum(dim=1) < 1).all()
    net.train()
    sum(value.square().sum() for value in (net(batch(of)).embedding_BTE,)).backward()
    unused = {key for key, weight in net.named_parameters() if weight.grad is None}
    assert not unused


def test_tasks_of_one_horizon_share_their_step():
    of = layout({"x": "trend"}, tasks=(("return", 5), ("return", 1), ("other", 5)))
    embedding_BTE = network(of)(batch(of)).embedding_BTE
    assert torch.equal(embedding_BTE[:, 0], embedding_BTE[:, 2])
    assert not torch.allclose(embedding_BTE[:, 0], embedding_BTE[:, 1])


def test_prepared_bars_give_the_same():
    of = layout({"x": "trend"} | CALENDAR, sectors=3)
    net, given = network(of), batch(of)
    flat_NF = given.inputs_BLF.flatten(0, 1)
    prepared = net.prepare(flat_NF, given.sector_B.repeat_interleave(BARS)).view(5, BARS, -1)
    found, expected = net(replace(given, inputs_BLF=prepared, prepared=True)), net(given)
    assert torch.allclose(found.embedding_BTE, expected.embedding_BTE, atol=1e-6)
    for name, value in expected.evidence.items():
        assert torch.allclose(found.evidence[name], value, atol=1e-6)


def begun_from(given: Batch, first: int) -> Batch:
    began_BL = given.began_BL.clone()
    began_BL[:, :first] = False
    return replace(given, began_BL=began_BL)


def test_bars_before_the_first_do_not_count_whatever_they_hold():
    of = layout({"x": "trend", "y": "bars"}, sectors=3)
    net, given = network(of), batch(of)
    other = given.inputs_BLF.clone()
    other[:, :2] = 4.0
    found, moved = (net(begun_from(given.with_inputs(x), 2)) for x in (given.inputs_BLF, other))
    assert torch.equal(found.embedding_BTE, moved.embedding_BTE)
    assert torch.equal(found.evidence["variable_selection"], moved.evidence["variable_selection"])
    assert (found.evidence["attention"][:, :2] == 0).all()
    assert not torch.allclose(net(given).embedding_BTE, net(given.with_inputs(other)).embedding_BTE)


def test_a_short_history_gives_what_a_short_window_gives():
    of = layout({"x": "trend", "y": "bars"}, sectors=3)
    short = replace(of, lookback=BARS - 2)
    net, small = network(of), network(short, seed=9)
    small.load_state_dict(net.state_dict())
    given = begun_from(batch(of), 2)
    cut = replace(given, inputs_BLF=given.inputs_BLF[:, 2:], began_BL=given.began_BL[:, 2:])
    assert torch.allclose(net(given).embedding_BTE, small(cut).embedding_BTE, atol=1e-6)


def test_a_window_without_any_begun_bar_still_gives_numbers():
    of = layout({"x": "trend"} | CALENDAR)
    encoded = network(of)(begun_from(batch(of), BARS))
    assert torch.isfinite(encoded.embedding_BTE).all()
    assert (encoded.evidence["variable_selection"] == 0).all()


def test_a_window_depends_on_itself_alone():
    of = layout({"x": "trend"} | CALENDAR, sectors=2)
    given = batch(of)
    inputs_BLF = given.inputs_BLF.clone().requires_grad_()
    network(of)(given.with_inputs(inputs_BLF)).embedding_BTE[1].sum().backward()
    touched = inputs_BLF.grad.abs().sum(dim=(1, 2)) > 0
    assert touched.tolist() == [False, True, False, False, False]


def place_gradient(net, given: Batch) -> list[float]:
    net.zero_grad()
    net(given).embedding_BTE[:, 0].square().sum().backward()
    return net.future.place_HD.grad.abs().sum(dim=1).tolist()


def test_a_step_does_not_see_later_steps():
    of = layout({"x": "trend"}, tasks=(("return", 1), ("return", 5), ("return", 10)))
    net = network(of)
    first, *later = place_gradient(net, batch(of))
    assert first > 0
    assert later == [0.0, 0.0]
    net.attention.later_HH.zero_()
    assert min(place_gradient(net, batch(of))) > 0


def test_dropout_and_depth_act_in_training_only():
    of = layout({"x": "trend"}, sectors=2)
    given = batch(of)
    for settings in (
        {"regularisation": {"dropout": 0.5}},
        {"regularisation": {"dropout": 0.0, "stochastic_depth": 0.9}},
    ):
        net = network(of, **settings)
        assert torch.equal(net(given).embedding_BTE, net(given).embedding_BTE)
        net.train()
        assert not torch.allclose(net(given).embedding_BTE, net(given).embedding_BTE)
        assert not net(given).evidence
    plain = network(of, regularisation={"dropout": 0.0})
    assert torch.allclose(plain.train()(given).embedding_BTE, plain.eval()(given).embedding_BTE, atol=1e-6)


def test_bfloat16_stays_near():
    of = layout({"x": "trend"} | CALENDAR, sectors=2)
    given = batch(of)
    expected = network(of, regularisation={"dropout": 0.0})(given).embedding_BTE
    net = network(of, regularisation={"dropout": 0.0}).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net(given).embedding_BTE
    found.float().sum().backward()
    assert (found.float() - expected).abs().max() < 0.1


def test_onnx_parity(tmp_path):
    import onnxruntime

    of = layout({"x": "trend"} | CALENDAR, sectors=2, means=(0.1,) * 7, deviations=(0.7,) * 7)
    torch.manual_seed(0)
    model = ForecastModel(network(of), 1).eval()
    session = onnxruntime.InferenceSession(
        window_graph(model, Scalers(of.means, of.deviations, 0.01), Codes((7.0, 9.0), ()), of.lookback)
    )
    for rows in (1, 33):
        rng = np.random.default_rng(rows)
        window, begun = rng.normal(size=(rows, BARS, 7)).astype(np.float32), np.ones((rows, BARS), np.float32)
        begun[::2, :3] = 0
        window[::3, 1] = np.nan
        code = rng.choice([7.0, 9.0, np.nan], rows).astype(np.float32)
        feed = {
            "window": window,
            "begun": begun,
            "regime": np.zeros((rows, 4), np.float32),
            "context": np.stack([code, code], axis=1),
        }
        raw, quantiles = session.run(
            ["raw", "quantiles"], {given.name: feed[given.name] for given in session.get_inputs()}
        )
        standardised = torch.nan_to_num(torch.tensor((window - 0.1) / 0.7).clamp(-5, 5), nan=0.0)
        sector_B = torch.tensor(np.select([code == 7, code == 9], [1, 2], 0))
        with torch.inference_mode():
            expected = model(
                Batch(
                    standardised,
                    torch.tensor(begun > 0),
                    torch.zeros(rows, 4),
                    sector_B,
                    torch.zeros_like(sector_B),
                )
            )
        assert np.abs(raw - expected.score_BT[:, 0].numpy()).max() < 1e-5
        assert np.abs(quantiles - expected.quantiles_BT3[:, 0].numpy()).max() < 1e-5
        assert rows == 1 or expected.score_BT.std() > 1e-3


def learn(of: Layout, target, steps: int = 120) -> ForecastModel:
    """A model that has learned `target(inputs) -> [B, T]` from fresh noise."""
    torch.manual_seed(0)
    model = ForecastModel(network(of, regularisation={"dropout": 0.0}), len(of.tasks)).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(steps):
        given = batch(of, 128, seed=step)
        loss = (model(given).score_BT - target(given.inputs_BLF)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


@pytest.mark.parametrize("wanted", [0, 2])
def test_selection_prefers_the_input_that_counts(wanted):
    of = layout(dict.fromkeys("abcd", "trend"), lookback=4)
    model = learn(of, lambda x_BLF: x_BLF[:, -1, wanted, None])
    with torch.inference_mode():
        mean_F = model(batch(of, 256, seed=1_000)).encoded.evidence["variable_selection"].mean(dim=0)
    assert mean_F.argmax() == wanted
    assert mean_F[wanted] > 2 * mean_F[[column for column in range(4) if column != wanted]].max()


def test_each_horizon_learns_its_own_signal():
    of = layout({"a": "trend", "b": "trend", "c": "trend"}, lookback=4, tasks=(("return", 1), ("return", 10)))
    model = learn(of, lambda x_BLF: x_BLF[:, -1, :2])
    given = batch(of, 512, seed=1_000)
    with torch.inference_mode():
        score_BT = model(given).score_BT
    found = np.corrcoef(score_BT.T, given.inputs_BLF[:, -1, :2].T)[:2, 2:]
    assert found[0, 0] > 0.8
    assert found[1, 1] > 0.8
    assert abs(found[0, 1]) < 0.2
    assert abs(found[1, 0]) < 0.2


def test_attention_and_lstm_carry_an_old_bar():
    of = layout({"a": "trend"}, lookback=4)
    model = learn(of, lambda x_BLF: x_BLF[:, 1], steps=200)
    given = batch(of, 512, seed=1_000)
    with torch.inference_mode():
        score_BT = model(given).score_BT
    assert np.corrcoef(score_BT[:, 0], given.inputs_BLF[:, 1, 0])[0, 1] > 0.8


# The expert


def settings(**changes) -> Settings:
    training = {"epochs": 4, "batch_windows": 128, "max_train_windows": 2_000}
    return Settings(
        **{
            "lookback_bars": 5,
            "width": 8,
            "training": training,
            "optimiser": {"learning_rate": 0.01},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def fitted():
    rows = panel(bars=160)
    fit, predict = fit_and_predict_frames(rows, lookback=4)
    expert = Expert(settings())
    expert.fit(
        fit,
        Task("1d", 2, "sector_neutral_return", INPUTS, seed=1, threads=1),
        advance=lambda share, what: None,
    )
    return expert, predict, rows


def test_golden_losses(fitted):
    """Written on Linux x86-64 (AVX-512), torch 2.13 CPU, one thread; other CPUs agree within the
    tolerance.
    """
    found = [epoch["loss"] for epoch in fitted[0].explain().training]
    assert found == pytest.approx(json.loads(GOLDEN.read_text())["losses"], abs=1e-4)


def test_learns_the_planted_signal(fitted):
    expert, predict, rows = fitted
    found = expert.predict(predict).join(rows, on=["timestamp", "symbol"])
    # 32 days of 20 symbols: the standard error of a correlation with noise is 0.04.
    assert found.select(pl.corr("score", "signal")).item() > 0.5
    assert set(expert.explain().weights) == {"variable_selection", "attention"}


def test_later_bars_change_nothing(fitted):
    expert, predict, _ = fitted
    times = predict.filter(pl.col("part") == "predict")["timestamp"].unique().sort()
    border = times[len(times) // 2]
    mutated = predict.with_columns(
        pl.when(pl.col("timestamp") > border).then(pl.col(name) * -50 + 9).otherwise(pl.col(name)).alias(name)
        for name in INPUTS
    )
    before = pl.col("timestamp") <= border
    expected = expert.predict(predict)
    assert expert.predict(mutated).filter(before).equals(expected.filter(before))
    assert not expert.predict(mutated).filter(~before).equals(expected.filter(~before))
    cut = expert.predict(predict.filter(before))
    assert np.allclose(cut["score"], expected.filter(before)["score"], atol=1e-8)


def test_settings_are_checked():
    with pytest.raises(ValidationError, match="width=8 can't be split among heads=3"):
        Settings(width=8, heads=3)
