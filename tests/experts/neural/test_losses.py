"""Targets and every part of the loss, against numbers worked out by hand, their gradients, and what each
learns alone.
"""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from torch.autograd import gradcheck

from components.experts.errors import ExpertError
from components.experts.neural import losses as parts
from components.experts.neural.arrays import PanelArrays
from components.experts.neural.batch import Batch, Encoded
from components.experts.neural.config import Losses, Regularisation
from components.experts.neural.heads import ModelOutputs
from components.experts.neural.supervised import Supervised, regime_factors
from components.experts.neural.targets import Targets, direction, make_targets
from components.experts.rows import target

NAN = math.nan
DEVICE = torch.device("cpu")
OFF = Regularisation(volatile_share=1.0)
ALONE = {
    "correlation": 0.0,
    "soft_spearman": 0.0,
    "huber": 0.0,
    "pinball": 0.0,
    "focal": 0.0,
    "also": 0.0,
    "distillation": 0.0,
}


def bars_of(
    labels_NT: np.ndarray, day_N: np.ndarray, volatility_N: np.ndarray | None = None, regime: int = 1
) -> PanelArrays:
    rows = len(day_N)
    return PanelArrays(
        inputs_NF=np.zeros((rows + 1, 1), dtype=np.float32),
        position_N=np.zeros(rows, dtype=np.int64),
        regime_N=np.full(rows, regime),
        sector_N=np.zeros(rows, dtype=np.int64),
        industry_N=np.zeros(rows, dtype=np.int64),
        volatility_N=np.ones(rows) if volatility_N is None else volatility_N,
        labels_NT=np.asarray(labels_NT, dtype=np.float64),
        weight_N=np.ones(rows, dtype=np.float32),
        day_N=np.asarray(day_N),
        frame_row_N=np.arange(rows),
        part_N=pl.Series(["train"] * rows),
        known_N=np.ones(rows + 1, dtype=bool),
    )


def targets_of(score_NT: np.ndarray, day_N: np.ndarray, **changes) -> Targets:
    score_NT = np.asarray(score_NT, dtype=np.float32)
    rows = len(score_NT)
    plain = Targets(
        score_NT,
        score_NT.copy(),
        np.full(rows, -1),
        np.ones(rows, np.float32),
        np.zeros(rows, bool),
        np.full(rows, 1),
        np.asarray(day_N),
    )
    return replace(plain, **changes)


def outputs_of(
    score_BT: torch.Tensor,
    quantiles_BT3: torch.Tensor | None = None,
    direction_BC: torch.Tensor | None = None,
    penalty: float = 0.0,
) -> ModelOutputs:
    quantiles_BT3 = (
        score_BT[..., None] + torch.tensor([-1.0, 0.0, 1.0]) if quantiles_BT3 is None else quantiles_BT3
    )
    return ModelOutputs(
        score_BT, quantiles_BT3, direction_BC, Encoded(score_BT[:, None], torch.tensor(penalty))
    )


def batch_of(rows: int, *, days: bool) -> Batch:
    slot_B = torch.arange(rows) if days else None
    return Batch(
        torch.randn(rows, 4, 2),
        torch.ones(rows, 4, dtype=torch.bool),
        torch.zeros(rows, 4),
        torch.zeros(rows).long(),
        torch.zeros(rows).long(),
        slot_B,
        1,
        rows,
    )


def loss_of(
    targets: Targets,
    losses: Losses,
    outputs: ModelOutputs,
    *,
    days: bool = True,
    regularisation: Regularisation = OFF,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    objective = Supervised(targets, losses, regularisation, DEVICE)
    rows = np.arange(len(targets.day_N))
    _, found = objective.prepare(batch_of(len(rows), days=days), rows, torch.Generator().manual_seed(0))
    return objective.loss(outputs, found)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Targets


def test_targets_by_hand():
    """Two days of three labels; the first day's z-scores are -1, 0, 1 and in units of volatility 0.5 and 4
    bars the labels 1, 2, 3 are those numbers.
    """
    bars = bars_of(
        np.array([[1.0], [2.0], [3.0], [10.0], [30.0], [20.0]]),
        np.array([0, 0, 0, 1, 1, 1]),
        np.array([0.5] * 3 + [1.0] * 3),
    )
    found = make_targets(
        bars, np.arange(6), Losses(flat_share=0.34), Regularisation(volatile_quantile=0.5), [4]
    )
    assert found.score_NT[:, 0].tolist() == pytest.approx([-1, 0, 1, -1, 1, 0])
    assert found.quantile_NT[:, 0].tolist() == [1, 2, 3, 5, 6, 6]
    assert found.direction_N.tolist() == [0, 1, 2, 0, 2, 1]
    assert found.volatile_N.tolist() == [False] * 3 + [True] * 3
    assert (found.score_NT.dtype, found.quantile_NT.dtype, found.weight_N.dtype) == (np.float32,) * 3
    assert found.teacher_N is None


def test_targets_are_those_of_the_tabular_experts_whatever_the_order_of_rows():
    generator = np.random.default_rng(0)
    day = np.sort(generator.integers(0, 9, 80))
    label = generator.standard_t(3, 80)
    expected = target(pl.DataFrame({"timestamp": day, "label": label}), "zscore").astype(np.float32)
    shuffled = generator.permutation(80)
    found = make_targets(bars_of(label[:, None], day), shuffled, Losses(), OFF, [1])
    assert np.array_equal(found.score_NT[:, 0], expected)


def test_only_the_given_rows_count():
    """Change every row that is not given: nothing that is learned moves. Change one that is: it does."""
    generator = np.random.default_rng(1)
    day, labels = np.repeat(np.arange(6), 5), generator.standard_normal((30, 2))
    labels[3, 0], labels[7, 1], labels[11] = NAN, NAN, NAN
    given = np.flatnonzero(day < 4)
    chosen = Losses(focal=1.0), Regularisation(label_smoothing=0.2), [1, 5]
    moved = labels.copy()
    moved[day >= 4] += 1e6
    volatility = 1 + np.arange(30) / 30
    clean = make_targets(bars_of(labels, day, volatility), given, *chosen)
    assert clean.volatile_N[given].any()
    volatility = np.where(day >= 4, 1e6, volatility)
    dirty = make_targets(bars_of(moved, day, volatility), given, *chosen)
    for name in ("score_NT", "quantile_NT", "direction_N", "weight_N"):
        assert np.array_equal(getattr(clean, name), getattr(dirty, name), equal_nan=name.endswith("NT")), name
    assert np.array_equal(clean.volatile_N[given], dirty.volatile_N[given])
    assert np.isnan(dirty.score_NT[day >= 4]).all()
    assert (dirty.direction_N[day >= 4] == -1).all()
    assert (dirty.weight_N[day >= 4] == 0).all()
    assert np.isnan(clean.score_NT[[3, 7, 11], [0, 1, 1]]).all()
    assert clean.weight_N[[3, 7, 11]].tolist() == [1, 1, 0]
    moved[given[0], 0] += 5
    assert not np.array_equal(
        clean.score_NT, make_targets(bars_of(moved, day, volatility), given, *chosen).score_NT, equal_nan=True
    )


def test_smoothing_moves_scores_towards_their_day():
    bars = bars_of(np.array([[1.0], [2.0], [3.0]]), np.zeros(3, dtype=int))
    assert make_targets(bars, np.arange(3), Losses(), Regularisation(label_smoothing=0.25), [1]).score_NT[
        :, 0
    ].tolist() == pytest.approx([-0.75, 0, 0.75])


def test_classes_of_a_day():
    """Ten labels: with 0.4 flat the middle four are.

    Ties share their rank; a day without spread is flat; a day of two has no classes.
    """
    ten = np.array([5, 1, 9, 3, 7, 2, 8, 4, 6, 10.0])
    found = direction(np.zeros(10, int), ten, 0.4)
    assert found.tolist() == [1, 0, 2, 0, 1, 0, 2, 1, 1, 2]
    assert (
        direction(np.array([0] * 4 + [1] * 2), np.array([7.0] * 4 + [1, 2]), 0.33).tolist()
        == [1] * 4 + [-1] * 2
    )


def test_bad_weights_and_missing_tasks_are_refused():
    bars = bars_of(np.ones((3, 1)), np.zeros(3, int))
    for value in (-1.0, NAN, math.inf):
        wrong = replace(bars, weight_N=np.array([1, value, 1], dtype=np.float32))
        with pytest.raises(ExpertError, match="1 of 3 train rows"):
            make_targets(wrong, np.arange(3), Losses(), OFF, [1])
        assert make_targets(wrong, np.array([0, 2]), Losses(), OFF, [1]).weight_N.tolist() == [1, 0, 1]
    with pytest.raises(ExpertError, match="labels of 1 tasks, but there are 2 horizons"):
        make_targets(bars, np.arange(3), Losses(), OFF, [1, 5])


# Correlation and ranks


def test_correlation_is_the_mean_of_the_segments_own():
    generator = np.random.default_rng(0)
    score, label, segment = (
        generator.standard_normal(30),
        generator.standard_normal(30),
        np.repeat([0, 1, 2], [5, 12, 13]),
    )
    expected = (
        sum(
            np.sum(segment == s) * pearsonr(score[segment == s] * 10**s, label[segment == s])[0]
            for s in range(3)
        )
        / 30
    )
    found = parts.segment_correlation(
        torch.from_numpy(score),
        torch.from_numpy(label),
        torch.from_numpy(segment),
        torch.ones(30, dtype=torch.float64),
    )
    assert found.item() == pytest.approx(expected)


def test_correlation_with_weights_by_hand():
    """A weight of 2 is a row twice; a weight of 0, or no label, is no row."""
    score, label = double(1, 2, 4, 7, 100, -50), double(2, 1, 3, 9, -80, NAN)
    twice = parts.segment_correlation(score, label, torch.zeros(6).long(), double(2, 1, 1, 1, 0, 1))
    assert twice.item() == pytest.approx(pearsonr([1, 1, 2, 4, 7], [2, 2, 1, 3, 9])[0])


@pytest.mark.parametrize(
    ("score", "label"),
    [
        ([1, 2], [3, 4]),
        ([5, 5, 5], [1, 2, 3]),
        ([1, 2, 3], [4, 4, 4]),
        ([0, 0, 0], [0, 0, 0]),
        ([1, 2, 3], [NAN, 1, 2]),
        ([1e-30] * 3, [1, 2, 3]),
        ([0.1] * 7, range(7)),
    ],
)
@pytest.mark.parametrize("measure", ["pearson", "spearman"])
def test_a_segment_without_correlation_gives_none_and_no_gradient(score, label, measure):
    """Beside it stands a segment that has one: that alone is the result."""
    score_B = torch.tensor([*map(float, score), 1.0, 2.0, 5.0], requires_grad=True)
    label_B = torch.tensor([*map(float, label), 1.0, 2.0, 4.0])
    segment_B = torch.tensor([0] * len(score) + [1] * 3)
    found = correlation_of(measure, score_B, label_B, segment_B, torch.ones(len(score_B)))
    found.backward()
    alone = correlation_of(measure, score_B[-3:], label_B[-3:], torch.zeros(3).long(), torch.ones(3))
    assert found.item() == pytest.approx(alone.item())
    assert found.item() > 0.5
    assert (score_B.grad[: len(score)] == 0).all()
    assert torch.isfinite(score_B.grad).all()
    assert score_B.grad[-3:].abs().sum() > 0


def test_no_segment_at_all_gives_zero():
    score_B = torch.tensor([1.0, 2.0], requires_grad=True)
    for measure in ("pearson", "spearman"):
        found = correlation_of(
            measure, score_B, torch.tensor([1.0, 2.0]), torch.zeros(2).long(), torch.ones(2)
        )
        found.backward()
        assert (found.item(), score_B.grad.tolist()) == (0.0, [0.0, 0.0])


def test_a_score_that_is_no_number_is_not_passed_over():
    for measure in ("pearson", "spearman"):
        assert correlation_of(
            measure,
            torch.tensor([1.0, NAN, 3.0, 4.0]),
            torch.arange(4.0),
            torch.zeros(4).long(),
            torch.ones(4),
        ).isnan()


def correlation_of(measure, score_B, label_B, segment_B, weight_B, temperature=0.1):
    if measure == "pearson":
        return parts.segment_correlation(score_B, label_B, segment_B, weight_B)
    return parts.soft_spearman(score_B, label_B, segment_B, weight_B, temperature)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-10, 10),
    measure=st.sampled_from(["pearson", "spearman"]),
)
def test_scale_and_shift_of_the_score_change_nothing(seed, scale, shift, measure):
    generator = torch.Generator().manual_seed(seed)
    score_B, label_B = torch.randn(2, 24, generator=generator, dtype=torch.float64)
    segment_B = torch.randint(0, 3, (24,), generator=generator)
    weight_B = torch.rand(24, generator=generator, dtype=torch.float64)
    one = correlation_of(measure, score_B, label_B, segment_B, weight_B)
    other = correlation_of(measure, scale * score_B + shift, label_B, segment_B, weight_B)
    assert -1 - 1e-9 <= one.item() <= 1 + 1e-9
    assert other.item() == pytest.approx(one.item(), abs=1e-7)
    assert correlation_of(measure, -score_B, label_B, segment_B, weight_B).item() == pytest.approx(
        -one.item(), abs=1e-7
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_spearman_looks_at_the_order_of_the_target_alone(seed):
    score_B, label_B = torch.randn(2, 15, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    one, other = (
        correlation_of(
            "spearman", score_B, label, torch.zeros(15).long(), torch.ones(15, dtype=torch.float64)
        )
        for label in (label_B, label_B.exp() - 3)
    )
    assert one.item() == pytest.approx(other.item())


def test_cold_soft_ranks_are_ranks():
    generator = np.random.default_rng(0)
    score, label, segment = (
        generator.standard_normal(40),
        generator.integers(0, 6, 40).astype(float),
        np.repeat([0, 1], 20),
    )
    expected = np.mean([spearmanr(score[segment == s], label[segment == s])[0] for s in (0, 1)])
    arguments = [torch.from_numpy(x) for x in (score, label, segment)]
    assert parts.soft_spearman(*arguments, torch.ones(40, dtype=torch.float64), 1e-6).item() == pytest.approx(
        expected
    )


def test_rows_that_do_not_count_have_no_place_in_the_ranking():
    generator = torch.Generator().manual_seed(0)
    score_B, label_B = torch.randn(2, 20, generator=generator, dtype=torch.float64)
    weight_B, segment_B = torch.ones(20, dtype=torch.float64), torch.zeros(20).long()
    label_B[4:9], weight_B[12] = NAN, 0
    counts_B = ~label_B.isnan() & (weight_B > 0)
    alone = parts.soft_spearman(
        score_B[counts_B], label_B[counts_B], segment_B[counts_B], weight_B[counts_B], 0.5
    )
    assert parts.soft_spearman(score_B, label_B, segment_B, weight_B, 0.5).item() == pytest.approx(
        alone.item()
    )


def test_soft_ranks_by_hand():
    """Scores -d, 0, d have standard deviation d * sqrt(2/3); at a temperature of sqrt(3/2) differences are
    those of -1, 0, 1. With s = sigmoid the soft ranks are 1/2 + s(-1) + s(-2), 3/2 and 1/2 + s(1) + s(2):
    symmetric about 1.5, as ranks of any three rows in order, so the correlation with 0.5, 1.5, 2.5 is 1.
    """
    found = parts.soft_spearman(
        double(-4, 0, 4), double(1, 2, 7), torch.zeros(3).long(), double(1, 1, 1), math.sqrt(1.5)
    )
    assert found.item() == pytest.approx(1.0)
    soft = parts._soft_ranks(double(-1, 0, 1), torch.zeros(3).long(), torch.ones(3, dtype=torch.bool))
    one, two = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))
    assert soft.tolist() == pytest.approx([2.5 - one - two, 1.5, 0.5 + one + two])


def test_soft_ranks_in_pieces_are_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    label_B, weight_B = (
        torch.randn(50, generator=generator, dtype=torch.float64),
        torch.rand(50, generator=generator, dtype=torch.float64),
    )
    label_B[3] = NAN
    segment_B = torch.randint(0, 4, (50,), generator=generator)
    found = []
    for pairs in (2**20, 300, 30):
        monkeypatch.setattr(parts, "RANK_PAIRS", pairs)
        score_B = torch.randn(
            50, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        ).requires_grad_()
        value = parts.soft_spearman(score_B, label_B, segment_B, weight_B, 0.3)
        value.backward()
        found.append((value.detach(), score_B.grad))
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


# Huber, pinball, focal, distillation


def test_huber_with_cost_by_hand():
    """delta 1, penalty 2, cost 0.5.

    Errors: 0.5 -> 0.125; 3 -> 2.5 and the wrong sign, 2 * (2 - 0.5) = 3 more; 0.6 -> 0.18, wrong sign but no
    trade; NaN out.
    """
    score_B, target_B = double(1.5, 2.0, 0.2, 9.0), double(1.0, -1.0, -0.4, NAN)
    found = parts.huber_with_cost(score_B, target_B, double(1, 1, 2, 5), 1.0, 2.0, 0.5)
    assert found.item() == pytest.approx((0.125 + 5.5 + 2 * 0.18) / 4)
    assert parts.huber_with_cost(score_B, target_B, double(1, 1, 2, 5)).item() == pytest.approx(
        (0.125 + 2.5 + 0.36) / 4
    )


def test_a_target_of_zero_has_no_wrong_sign():
    assert parts.huber_with_cost(
        double(2.0), double(0.0), double(1), 1.0, 100.0, 0.5
    ).item() == pytest.approx(1.5)


def test_pinball_by_hand():
    """Target 1, quantiles 0, 2, 4: 0.1 * 1, 0.5 * 1, 0.1 * 3, mean 0.3.

    Target 5, quantiles 4, 4, 4: 0.1, 0.5, 0.9, mean 0.5.
    """
    quantiles_B3 = torch.tensor([[0.0, 2, 4], [4, 4, 4], [7, 8, 9]])
    assert parts.pinball(
        quantiles_B3, torch.tensor([1.0, 5.0, NAN]), torch.tensor([1.0, 3.0, 1.0])
    ).item() == pytest.approx((0.3 + 3 * 0.5) / 4)


def test_pinball_is_least_at_the_quantiles():
    """Of 1 to 99, three equal quantiles at x cost what levels 0.1, 0.5 and 0.9 cost there; each level alone
    is cheapest at 10, 50 and 90.
    """
    sample = torch.arange(1.0, 100.0)
    each_3X = torch.stack(
        [
            torch.stack(
                [torch.maximum(level * (sample - x), (level - 1) * (sample - x)).mean() for x in sample]
            )
            for level in parts.QUANTILES
        ]
    )
    assert (each_3X.argmin(dim=1) + 1).tolist() == [10, 50, 90]
    cost_X = torch.stack([parts.pinball(x.expand(99, 3), sample, torch.ones(99)) for x in sample])
    torch.testing.assert_close(cost_X, each_3X.mean(dim=0))


def test_focal_by_hand():
    """Equal logits: p = 1/3, so (2/3)^2 * log 3. With gamma 0 it is the cross entropy."""
    chance_BC = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [NAN, NAN, NAN]])
    logits_BC = torch.zeros(3, 3)
    logits_BC[1] = NAN
    assert parts.focal(logits_BC, chance_BC, torch.ones(3), 2.0).item() == pytest.approx(4 / 9 * math.log(3))
    logits_BC = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    class_B = torch.arange(8) % 3
    one_hot_BC = torch.nn.functional.one_hot(class_B, 3).float()
    assert parts.focal(logits_BC, one_hot_BC, torch.ones(8), 0.0).item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits_BC, class_B).item()
    )
    easy, hard = (
        parts.focal(torch.tensor([[x, 0.0, 0.0]]), one_hot_BC[:1], torch.ones(1), 2.0) for x in (4.0, -4.0)
    )
    plain_easy, plain_hard = (
        parts.focal(torch.tensor([[x, 0.0, 0.0]]), one_hot_BC[:1], torch.ones(1), 0.0) for x in (4.0, -4.0)
    )
    assert easy / plain_easy < 0.01
    assert hard / plain_hard > 0.95


def test_a_class_that_is_certain_gives_no_nan_gradient():
    logits_BC = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    for gamma in (0.0, 0.5, 1.5, 2.0):
        parts.focal(logits_BC, torch.tensor([[1.0, 0.0, 0.0]]), torch.ones(1), gamma).backward()
        assert torch.isfinite(logits_BC.grad).all()


def test_distillation_by_hand():
    assert parts.distillation(double(1, 2, 3), double(2, 4, NAN), double(1, 3, 1)).item() == pytest.approx(
        (1 + 12) / 4
    )


@pytest.mark.parametrize("name", ["pearson", "spearman", "huber", "pinball", "focal", "distillation"])
def test_gradients(name):
    """Against finite differences; one row has no label, one no weight, one segment has two rows."""
    generator = torch.Generator().manual_seed(3)
    label_B = torch.randn(9, generator=generator, dtype=torch.float64)
    label_B[2] = NAN
    segment_B, weight_B = (
        torch.tensor([0, 1, 0, 1, 0, 1, 0, 2, 2]),
        torch.rand(9, generator=generator, dtype=torch.float64),
    )
    weight_B[4] = 0
    chance_BC = torch.rand(9, 3, generator=generator, dtype=torch.float64)
    chance_BC[2] = 0
    width = 3 if name in ("pinball", "focal") else None
    x = torch.randn(9, *([width] if width else []), generator=generator, dtype=torch.float64).requires_grad_()
    checks = {
        "pearson": lambda x: parts.segment_correlation(x, label_B, segment_B, weight_B),
        "spearman": lambda x: parts.soft_spearman(x, label_B, segment_B, weight_B, 0.5),
        "huber": lambda x: parts.huber_with_cost(x, label_B, weight_B, 0.8, 1.5, 0.2),
        "pinball": lambda x: parts.pinball(x, label_B, weight_B),
        "focal": lambda x: parts.focal(x, chance_BC, weight_B, 1.5),
        "distillation": lambda x: parts.distillation(x, label_B, weight_B),
    }
    assert gradcheck(checks[name], (x,))
    checks[name](x).backward()
    assert (x.grad[[2, 4]] == 0).all()
    assert x.grad.abs().sum() > 0


# The objective


def test_the_total_is_the_weighed_sum_of_its_parts_and_the_penalty():
    generator = np.random.default_rng(0)
    score = generator.standard_normal((12, 3))
    targets = targets_of(
        score, np.repeat([0, 1], 6), direction_N=np.arange(12) % 3, teacher_N=score[:, 0].astype(np.float32)
    )
    losses = Losses(
        correlation=0.7,
        soft_spearman=0.3,
        huber=0.2,
        pinball=0.4,
        focal=0.6,
        also=0.9,
        distillation=0.5,
        cost_penalty=0.3,
    )
    given = torch.from_numpy(generator.standard_normal((12, 3))).float()
    direction_BC = torch.from_numpy(generator.standard_normal((12, 3))).float()
    total, found = loss_of(targets, losses, outputs_of(given, direction_BC=direction_BC, penalty=0.25))
    weights = {name: getattr(losses, name) for name in found if name != "penalty"} | {"penalty": 1.0}
    assert set(weights) == {
        "correlation",
        "soft_spearman",
        "huber",
        "pinball",
        "focal",
        "also",
        "distillation",
        "penalty",
    }
    assert total.item() == pytest.approx(
        sum(weights[name] * value.item() for name, value in found.items()), rel=1e-5
    )
    assert not any(value.requires_grad for value in found.values())

    single = [
        loss_of(
            targets_of(score[:, [task]], targets.day_N),
            losses.model_copy(update={"focal": 0.0}),
            outputs_of(given[:, [task]]),
        )[0].item()
        for task in (1, 2)
    ]
    assert found["also"].item() == pytest.approx(np.mean(single), rel=1e-5)


def test_segments_are_days_or_the_batch():
    """Within days the score is the target; across days it is not, since their levels go the other way."""
    score = np.array([[0.0], [1], [2], [10], [11], [12]])
    given = torch.tensor([[20.0], [21], [22], [0], [1], [2]])
    targets = targets_of(score, np.array([0, 0, 0, 1, 1, 1]))
    by_day = loss_of(targets, Losses(), outputs_of(given), days=True)[1]["correlation"]
    mixed = loss_of(targets, Losses(), outputs_of(given), days=False)[1]["correlation"]
    assert by_day.item() == pytest.approx(0, abs=1e-6)
    assert mixed.item() == pytest.approx(1 - pearsonr(score[:, 0], given[:, 0])[0], rel=1e-5)
    assert mixed.item() > 1.5


def test_gathered_batches_have_the_loss_of_their_common_batch():
    """Two halves of a batch that cut a day in two, prepared apart and put together, against all rows prepared
    at once.
    """
    generator = np.random.default_rng(0)
    targets = targets_of(
        generator.standard_normal((20, 1)),
        np.repeat([7, 3], 10),
        volatile_N=np.arange(20) < 9,
        weight_N=generator.random(20).astype(np.float32),
    )
    losses = Losses(soft_spearman=0.5, huber=0.5)
    for days in (True, False):
        objective = Supervised(targets, losses, Regularisation(volatile_share=0.3), DEVICE)
        given = torch.from_numpy(generator.standard_normal((20, 1))).float()
        halves = [
            objective.prepare(batch_of(len(rows), days=days), rows, torch.Generator())[1]
            for rows in (np.arange(7), np.arange(7, 20))
        ]
        gathered = {name: torch.cat([half[name] for half in halves]) for name in halves[0]}
        whole = objective.prepare(batch_of(20, days=days), np.arange(20), torch.Generator())[1]
        assert objective.loss(outputs_of(given), gathered)[0].item() == pytest.approx(
            objective.loss(outputs_of(given), whole)[0].item()
        )


def test_rows_without_label_or_weight_count_nowhere():
    """Their scores and quantiles may be anything, also no numbers; the loss and all gradients of the others
    stay.
    """
    generator = np.random.default_rng(0)
    score = generator.standard_normal((12, 2))
    score[[1, 8]] = NAN
    weight = np.ones(12, dtype=np.float32)
    weight[5] = 0
    targets = targets_of(
        score,
        np.repeat([0, 1], 6),
        weight_N=weight,
        direction_N=np.where(np.isnan(score[:, 0]), -1, 1),
        teacher_N=np.ones(12, np.float32),
    )
    losses = Losses(soft_spearman=0.5, huber=0.5, focal=0.5)
    results = []
    for value in (0.0, 1e6, NAN):
        given = torch.from_numpy(np.random.default_rng(1).standard_normal((12, 2))).float()
        direction_BC = torch.from_numpy(np.random.default_rng(2).standard_normal((12, 3))).float()
        for tensor in (given, direction_BC):
            tensor[[1, 5, 8]] = value
            tensor.requires_grad_()
        total, _ = loss_of(targets, losses, outputs_of(given, direction_BC=direction_BC))
        total.backward()
        assert (given.grad[[1, 5, 8]] == 0).all()
        results.append((total.detach(), given.grad, direction_BC.grad))
    assert torch.isfinite(results[0][0])
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], results[2])


def test_a_batch_without_any_label_has_no_loss_and_no_gradient():
    given = torch.randn(4, 1, requires_grad=True)
    total, found = loss_of(
        targets_of(np.full((4, 1), NAN), np.zeros(4, int)),
        Losses(correlation=0.0, huber=1.0),
        outputs_of(given),
    )
    total.backward()
    assert (total.item(), found["huber"].item()) == (0.0, 0.0)
    assert (given.grad == 0).all()


def test_regimes_weigh_rows():
    assert regime_factors(np.array([0, 1, 2, 3, -1]), {"high_volatility": 0.5, "bull": 2.0}).tolist() == [
        1,
        1,
        2,
        0.5,
        1,
    ]
    targets = targets_of(np.array([[0.0], [0.0]]), np.zeros(2, int), regime_N=np.array([3, 1]))
    losses = Losses(**{**ALONE, "huber": 1.0}, regimes={"high_volatility": 0.5})
    _, found = loss_of(targets, losses, outputs_of(torch.tensor([[1.0], [0.2]])))
    assert found["huber"].item() == pytest.approx((0.5 * 0.5 + 0.02) / 1.5)


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({"sideways": 1.0}, "sideways, which is no regime.*bear, neutral, bull"),
        ({"bear": -1.0}, "finite number of 0 or more"),
    ],
)
def test_wrong_regime_weights_are_refused(factors, words):
    with pytest.raises(ExpertError, match=words):
        regime_factors(np.array([0]), factors)


def test_volatile_rows_are_capped_in_the_loss():
    """Nine volatile rows with error 1 (0.5 each), one calm with none: uncapped 0.45, with 40 % of the weight
    0.2.
    """
    targets = targets_of(np.zeros((10, 1)), np.zeros(10, int), volatile_N=np.arange(10) < 9)
    given = torch.tensor([[1.0]] * 9 + [[0.0]])
    losses = Losses(**{**ALONE, "huber": 1.0})
    assert loss_of(targets, losses, outputs_of(given))[1]["huber"].item() == pytest.approx(0.45)
    assert loss_of(targets, losses, outputs_of(given), regularisation=Regularisation(volatile_share=0.4))[1][
        "huber"
    ].item() == pytest.approx(0.2)


def test_teachers_count_only_where_there_is_one_and_it_is_asked_for():
    score = np.zeros((3, 1))
    given = torch.tensor([[1.0], [2.0], [3.0]])
    assert "distillation" not in loss_of(targets_of(score, np.zeros(3, int)), Losses(), outputs_of(given))[1]
    taught = targets_of(score, np.zeros(3, int), teacher_N=np.array([0, 0, NAN], dtype=np.float32))
    assert loss_of(taught, Losses(), outputs_of(given))[1]["distillation"].item() == pytest.approx(2.5)
    assert "distillation" not in loss_of(taught, Losses(distillation=0.0), outputs_of(given))[1]


def test_prepare_augments_by_the_generator_alone_and_only_where_asked():
    generator = np.random.default_rng(0)
    targets = targets_of(generator.standard_normal((20, 1)), np.repeat([0, 1], 10))
    batch = batch_of(20, days=True)
    plain = Supervised(targets, Losses(), OFF, DEVICE).prepare(
        batch, np.arange(20), torch.Generator().manual_seed(1)
    )
    assert plain[0].inputs_BLF is batch.inputs_BLF
    assert torch.equal(plain[1]["score_BT"], torch.from_numpy(targets.score_NT))
    objective = Supervised(
        targets, Losses(), Regularisation(mixup=0.4, cutout_bars=2, cutout_chance=0.5), DEVICE
    )
    one, same, other = (
        objective.prepare(batch, np.arange(20), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one[0].inputs_BLF, same[0].inputs_BLF)
    assert torch.equal(one[1]["score_BT"], same[1]["score_BT"])
    assert not torch.equal(one[1]["score_BT"], other[1]["score_BT"])
    assert not torch.equal(one[1]["score_BT"], plain[1]["score_BT"])
    assert (one[0].inputs_BLF == 0).all(dim=2).any()


# What each part learns alone


def planted(
    days: int = 30, symbols: int = 20, seed: int = 0
) -> tuple[torch.Tensor, np.ndarray, np.ndarray, torch.Tensor]:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((days * symbols, 6))
    truth = np.array([1.0, -2.0, 0.5, 0.0, 0.0, 1.5])
    truth /= np.linalg.norm(truth)
    return (
        torch.from_numpy(x).float(),
        x @ truth + generator.standard_normal(len(x)),
        np.repeat(np.arange(days), symbols),
        torch.from_numpy(truth).float(),
    )


@pytest.mark.parametrize(
    "part", ["correlation", "soft_spearman", "huber", "pinball", "focal", "also", "distillation"]
)
def test_each_part_finds_the_planted_direction(part):
    """A linear model on inputs whose planted direction makes half of the label's variance; the weights end up
    along it, from a start across it.
    """
    x_BF, label, day, truth_F = planted()
    bars = bars_of(
        (
            np.stack([np.random.default_rng(9).standard_normal(len(label)), label], axis=1)
            if part == "also"
            else label[:, None]
        ),
        day,
    )
    chosen = {**ALONE, part: 1.0}
    if part in ("also", "distillation", "pinball", "focal"):
        chosen["huber"] = 1e-6
    losses = Losses(**chosen) if part != "also" else Losses(**{**chosen, "correlation": 1e-6, "also": 1e6})
    targets = make_targets(bars, np.arange(len(day)), losses, OFF, [1, 1] if part == "also" else [1])
    if part == "distillation":
        targets = replace(targets, teacher_N=(x_BF @ truth_F).numpy())
    objective = Supervised(targets, losses, OFF, DEVICE)
    _, found = objective.prepare(batch_of(len(day), days=True), np.arange(len(day)), torch.Generator())
    weight_F = torch.tensor([0.0, 0.0, 0.0, 0.1, -0.1, 0.0], requires_grad=True)
    optimiser = torch.optim.Adam([weight_F], lr=0.05)
    for _ in range(120):
        optimiser.zero_grad()
        objective.loss(heads(part, x_BF @ weight_F), found)[0].backward()
        optimiser.step()
    cosine = torch.nn.functional.cosine_similarity(weight_F.detach(), truth_F, dim=0)
    assert cosine > 0.97


def heads(part: str, score_B: torch.Tensor) -> ModelOutputs:
    """The score of a linear model where the part looks for it; elsewhere constants, so that only the part can
    teach.
    """
    still_B = torch.zeros_like(score_B)
    if part == "also":
        return outputs_of(torch.stack([still_B, score_B], dim=1))
    if part == "pinball":
        return outputs_of(still_B[:, None], score_B[:, None, None] + torch.tensor([-1.0, 0.0, 1.0]))
    if part == "focal":
        return outputs_of(still_B[:, None], direction_BC=torch.stack([-score_B, still_B, score_B], dim=1))
    return outputs_of(score_B[:, None], torch.zeros(len(score_B), 1, 3))
