"""Optimisers, the course of the learning rate, clipping of steps and the average of weights, against numbers
worked out by hand.
"""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from components.experts.errors import ExpertError
from components.experts.neural.config import Optimiser
from components.experts.neural.optim import Average, clip_step_rms, decay_groups, make_optimiser, rate

NAMES = ("adamw", "adabelief", "shampoo")


def bowl(seed: int = 0) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """A least-squares problem with a known solution and columns of unequal scale."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 6, generator=generator) * torch.tensor([1.0, 0.3, 3.0, 1.0, 0.5, 2.0])
    truth = torch.randn(3, 6, generator=generator)
    torch.manual_seed(seed)
    return nn.Linear(6, 3), x, x @ truth.T + 0.7


# Shampoo sums squares and forgets none, so its steps shrink from the first on; it wants a higher rate.
@pytest.mark.parametrize(("name", "learning_rate"), [("adamw", 0.05), ("adabelief", 0.05), ("shampoo", 1.0)])
def test_each_optimiser_solves_a_convex_problem(name, learning_rate):
    model, x, y = bowl()
    chosen = Optimiser(name=name, learning_rate=learning_rate, weight_decay=0.0)
    optimiser = make_optimiser(model, chosen)
    begin = (model(x) - y).square().mean().item()
    for step in range(300):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * rate(step, 300, chosen)
        optimiser.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimiser.step()
    assert begin > 1
    assert (model(x) - y).square().mean().item() < 1e-3 * begin


def test_shampoo_of_a_matrix_against_the_formula():
    """W -= rate * L^(-1/4) G R^(-1/4) with L and R the sums of G G' and G' G, begun at 1e-6 of
    the identity.
    """

    def root(matrix):
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values**-0.25) @ vectors.T

    generator = torch.Generator().manual_seed(0)
    model = nn.Module()
    model.w = nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.float64))
    expected, left, right = (
        model.w.detach().clone(),
        1e-6 * torch.eye(4, dtype=torch.float64),
        1e-6 * torch.eye(3, dtype=torch.float64),
    )
    optimiser = make_optimiser(model, Optimiser(name="shampoo", learning_rate=0.1, weight_decay=0.0))
    for _ in range(3):
        gradient = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        left, right = left + gradient @ gradient.T, right + gradient.T @ gradient
        expected -= 0.1 * root(left) @ gradient @ root(right)
        model.w.grad = gradient.clone()
        optimiser.step()
        torch.testing.assert_close(model.w.detach(), expected)


@pytest.mark.parametrize("name", NAMES)
def test_state_through_text_and_tensors_goes_on_bit_for_bit(name):
    def steps(model, optimiser, count):
        for _ in range(count):
            optimiser.zero_grad()
            (model(x) - y).square().mean().backward()
            optimiser.step()

    chosen = Optimiser(name=name, learning_rate=0.05)
    model, x, y = bowl()
    optimiser = make_optimiser(model, chosen)
    steps(model, optimiser, 3)
    saved, weights = optimiser.state_dict(), {key: value.clone() for key, value in model.state_dict().items()}
    tensors = {
        (number, key): value.clone()
        for number, state in saved["state"].items()
        for key, value in state.items()
    }
    groups = json.loads(json.dumps(saved["param_groups"]))
    steps(model, optimiser, 3)

    other, _, _ = bowl(seed=5)
    other.load_state_dict(weights)
    resumed = make_optimiser(other, chosen)
    state = {
        number: {key: value for (owner, key), value in tensors.items() if owner == number}
        for number in saved["state"]
    }
    resumed.load_state_dict({"state": state, "param_groups": groups})
    steps(other, resumed, 3)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_first_step_is_the_one_of_the_paper(name):
    """Gradient (3, -4) from weights (1, 1).

    AdamW: sign. AdaBelief: g / (0.9 |g|), since the first residual is 0.9 g. Shampoo of a vector: g / |g|.
    """
    weight = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    model = nn.Module()
    model.w = weight
    optimiser = make_optimiser(model, Optimiser(name=name, learning_rate=0.1))
    weight.grad = torch.tensor([3.0, -4.0], dtype=torch.float64)
    optimiser.step()
    step = {"adamw": [1.0, -1.0], "adabelief": [1 / 0.9, -1 / 0.9], "shampoo": [0.6, -0.8]}[name]
    torch.testing.assert_close(
        (1 - weight.detach()) / 0.1, torch.tensor(step, dtype=torch.float64), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
def test_decay_pulls_matrices_alone_and_without_the_gradient(name):
    """With gradient 0 a matrix shrinks by learning rate times decay, a bias stays."""
    model = nn.Linear(2, 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimiser = make_optimiser(model, Optimiser(name=name, learning_rate=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    torch.testing.assert_close(model.weight.detach(), 0.95 * before["weight"])
    assert torch.equal(model.bias.detach(), before["bias"])


def test_decay_groups_go_by_shape_and_name():
    model = nn.Module()
    for name, shape in (
        ("mix", (2, 3)),
        ("place_LE", (2, 3)),
        ("gate_FF", (3, 3)),
        ("norm_scale", (1, 3)),
        ("vector", (3,)),
        ("some_bias_TK", (2, 2)),
    ):
        model.register_parameter(name, nn.Parameter(torch.zeros(shape)))
    model.register_parameter("frozen", nn.Parameter(torch.zeros(2, 2), requires_grad=False))
    kept, rest = decay_groups(model, 0.3)
    assert [parameter is model.mix for parameter in kept["params"]] == [True]
    assert (kept["weight_decay"], rest["weight_decay"], len(rest["params"])) == (0.3, 0.0, 5)


def test_nothing_to_train_is_refused():
    with pytest.raises(ExpertError, match="no trainable parameter"):
        make_optimiser(nn.ReLU(), Optimiser())


def test_rate_by_hand():
    """10 steps, 2 of warm-up, then 8 in two cycles of 4: cosine at 0, 1/4, 1/2, 3/4."""
    chosen = Optimiser(warm_up_share=0.2, cycles=2, floor_share=0.1)
    cosine = [1.0, 0.5 * (1 + math.sqrt(0.5)), 0.5, 0.5 * (1 - math.sqrt(0.5))]
    expected = [0.5, 1.0] + [0.1 + 0.9 * value for value in cosine] * 2
    assert [rate(step, 10, chosen) for step in range(10)] == pytest.approx(expected)
    assert rate(10, 10, chosen) == rate(99, 10, chosen) == 0.1


@given(steps=st.integers(1, 300), warm_up=st.floats(0, 1), cycles=st.integers(1, 20), floor=st.floats(0, 1))
def test_rate_stays_between_floor_and_one_and_restarts_at_one(steps, warm_up, cycles, floor):
    chosen = Optimiser(warm_up_share=warm_up, cycles=cycles, floor_share=floor)
    rates = [rate(step, steps, chosen) for step in range(steps)]
    warming = max(1, round(steps * warm_up))
    assert all(0 < value <= 1 for value in rates[:warming])
    assert all(floor <= value <= 1 + 1e-12 for value in rates[warming:])
    assert sum(value == pytest.approx(1) for value in rates[warming:]) >= min(cycles, steps - warming)


def test_restarts_that_lengthen_are_those_of_torch():
    """Cycles of 4, 8 and 16 steps after one of warm-up."""
    chosen = Optimiser(warm_up_share=0.0, cycles=3, cycle_growth=2.0, floor_share=0.1)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    course = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, T_0=4, T_mult=2, eta_min=0.1)
    expected = []
    for _ in range(28):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        course.step()
    assert [rate(1 + step, 29, chosen) for step in range(28)] == pytest.approx(expected)


@given(steps=st.integers(1, 300), cycles=st.integers(1, 400), growth=st.floats(1, 10))
@settings(max_examples=30, deadline=None)
def test_restarts_that_lengthen_stay_between_floor_and_one(steps, cycles, growth):
    chosen = Optimiser(warm_up_share=0.0, cycles=cycles, cycle_growth=growth)
    rates = [rate(1 + step, 1 + steps, chosen) for step in range(steps)]
    assert rates[0] == pytest.approx(1)
    assert all(chosen.floor_share <= value <= 1 + 1e-12 for value in rates)


def sgd(
    values: list[list[float]], gradients: list[list[float]], learning_rate: float
) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    parameters = [nn.Parameter(torch.tensor(value)) for value in values]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    return parameters, torch.optim.SGD(parameters, lr=learning_rate)


def test_clip_by_hand():
    """Steps of (3, 4) and (0.3, 0.4) learning rates have root mean squares 3.54 and 0.354; at a limit of 1
    the first is divided by 3.54.
    """
    (large, small, still), optimiser = sgd(
        [[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]], [[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], 0.1
    )
    with clip_step_rms(optimiser, 1.0):
        optimiser.step()
    assert large.tolist() == pytest.approx([1 - 0.1 * 3 / math.sqrt(12.5), 1 - 0.1 * 4 / math.sqrt(12.5)])
    assert small.tolist() == pytest.approx([0.97, 0.96])
    assert still.tolist() == [2.0, 2.0]


def test_no_limit_clips_nothing():
    (large,), optimiser = sgd([[0.0, 0.0]], [[300.0, 400.0]], 0.1)
    with clip_step_rms(optimiser, None):
        optimiser.step()
    assert large.tolist() == pytest.approx([-30.0, -40.0])


@settings(max_examples=50)
@given(
    gradient=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8),
    limit=st.floats(0.01, 10),
    learning_rate=st.floats(1e-4, 1.0),
)
def test_no_step_exceeds_the_limit_and_its_direction_stays(gradient, limit, learning_rate):
    (weight,), optimiser = sgd([[0.0] * len(gradient)], [gradient], learning_rate)
    with clip_step_rms(optimiser, limit):
        optimiser.step()
    step, wanted = weight.detach().double(), -learning_rate * torch.tensor(gradient).double()
    assert step.square().mean().sqrt() <= limit * learning_rate * (1 + 1e-5)
    assert (step * wanted).sum() >= (1 - 1e-5) * step.norm() * wanted.norm()


def test_average_by_hand():
    """Decay 1/2 of weights 4, 8, 2: after each of them 4, (4 + 2 * 8) / 3, (4 + 2 * 8 + 4 * 2) / 7."""
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, 0.5)
    found = []
    for value in (4.0, 8.0, 2.0):
        nn.init.constant_(model.weight, value)
        average.update(model)
        found.append(average.weights["weight"].item())
    assert found == pytest.approx([4, 20 / 3, 4])


def test_average_is_applied_for_a_while_and_saved():
    model, _, _ = bowl()
    average = Average(model, 0.9)
    for _ in range(3):
        average.update(model)
        with torch.no_grad():
            model.weight += 1.0
    own = model.weight.detach().clone()
    with average.applied(model):
        assert torch.equal(model.weight.detach(), average.weights["weight"])
        assert not torch.equal(model.weight.detach(), own)
    assert torch.equal(model.weight.detach(), own)

    other = Average(nn.Linear(6, 3), 0.9)
    other.load_state_dict({name: value.clone() for name, value in average.state_dict().items()})
    for one in (average, other):
        one.update(model)
    assert all(torch.equal(value, other.weights[name]) for name, value in average.weights.items())
    with pytest.raises(ExpertError, match="another network"):
        Average(nn.Linear(6, 3, bias=False), 0.9).load_state_dict(average.state_dict())
