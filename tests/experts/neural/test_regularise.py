"""Smoothing, mixup, cutout, stochastic depth and the cap on volatile rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.experts.neural.batch import Batch
from components.experts.neural.config import Regularisation
from components.experts.neural.regularise import (
    capped,
    cutout,
    depth_by_turnover,
    depth_rates,
    drop_path,
    mixup,
    numbered,
    smooth_classes,
    smooth_targets,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(inputs_BLF: torch.Tensor, began_BL: torch.Tensor | None = None) -> Batch:
    windows, bars, _ = inputs_BLF.shape
    began_BL = torch.ones(windows, bars, dtype=torch.bool) if began_BL is None else began_BL
    sector_B = torch.arange(windows)
    return Batch(
        inputs_BLF, began_BL, torch.nn.functional.one_hot(sector_B % 4, 4).float(), sector_B, sector_B
    )


def targets_of(
    score: list[float],
    segment: list[int],
    weight: list[float] | None = None,
    further: list[float] | None = None,
) -> dict[str, torch.Tensor]:
    """The further task's targets are twice the first's where not given, the quantiles' targets the same as
    the scores'.
    """
    score_B = torch.tensor(score)
    score_BT = torch.stack([score_B, 2 * score_B if further is None else torch.tensor(further)], dim=1)
    weight_B = torch.ones(len(score)) if weight is None else torch.tensor(weight)
    return {
        "score_BT": score_BT,
        "quantile_BT": score_BT.clone(),
        "weight_B": weight_B,
        "segment_B": torch.tensor(segment),
        "volatile_B": score_B > 100,
    }


def test_scores_move_towards_the_mean_of_their_segment():
    score_BT = torch.tensor([[1.0], [3.0], [float("nan")], [10.0]])
    found = smooth_targets(score_BT, torch.tensor([0, 0, 0, 1]), 0.5)
    torch.testing.assert_close(found, torch.tensor([[1.5], [2.5], [float("nan")], [10.0]]), equal_nan=True)
    assert smooth_targets(score_BT, torch.tensor([0, 0, 0, 1]), 0.0) is score_BT


def test_classes_move_towards_equal_chances_but_unlabelled_rows_do_not():
    found = smooth_classes(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), 0.3)
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.8, 0.1], [0.0, 0.0, 0.0]]))


def test_numbers_follow_the_keys():
    assert numbered(torch.tensor([70, 5, 70, 9, 5])).tolist() == [2, 0, 2, 1, 0]
    assert numbered(torch.tensor([3])).tolist() == [0]


def test_mixup_blends_inputs_and_targets_by_the_same_share_and_partner():
    """Inputs, targets and weight of window b all hold the number b, so that a blended window shows share and
    partner alike in each.
    """
    value_B = torch.arange(8.0)
    targets = targets_of(value_B.tolist(), [0, 0, 0, 0, 1, 1, 1, 1], (value_B + 1).tolist())
    batch, mixed = mixup(batch_of(value_B[:, None, None].expand(8, 5, 2).clone()), targets, 1.0, seeded())
    shown_B = batch.inputs_BLF[:, 0, 0]
    assert not torch.allclose(shown_B, value_B)
    torch.testing.assert_close(batch.inputs_BLF, shown_B[:, None, None].expand(8, 5, 2))
    torch.testing.assert_close(mixed["score_BT"][:, 0], shown_B)
    torch.testing.assert_close(mixed["score_BT"][:, 1], 2 * shown_B)
    torch.testing.assert_close(mixed["quantile_BT"], mixed["score_BT"])
    torch.testing.assert_close(mixed["weight_B"], shown_B + 1)
    assert ((shown_B[:4] >= 0) & (shown_B[:4] <= 3)).all(), "windows of another segment got in"
    assert ((shown_B[4:] >= 4) & (shown_B[4:] <= 7)).all()
    assert torch.equal(mixed["segment_B"], targets["segment_B"])
    assert torch.equal(batch.sector_B, torch.arange(8))
    torch.testing.assert_close(batch.regime_BR.sum(dim=1), torch.ones(8))


def test_mixup_never_lets_an_unlabelled_or_weightless_row_in():
    """Rows 1 (no label) and 2 (weight 0) hold inputs of 1000; no other row may show a trace, and both stay as
    they are.
    """
    inputs_BLF = torch.tensor([1.0, 1000.0, 1000.0, 4.0, 5.0])[:, None, None].expand(5, 3, 1).clone()
    targets = targets_of([1.0, float("nan"), 1000.0, 4.0, 5.0], [0] * 5, [1.0, 1.0, 0.0, 1.0, 1.0])
    for seed in range(20):
        batch, mixed = mixup(batch_of(inputs_BLF), targets, 0.4, seeded(seed))
        assert torch.equal(batch.inputs_BLF[1:3], inputs_BLF[1:3])
        assert batch.inputs_BLF[[0, 3, 4]].max() <= 5
        assert mixed["score_BT"][1].isnan().all()
        assert mixed["weight_B"][2] == 0
        assert not mixed["score_BT"][[0, 3, 4]].isnan().any()


def test_mixup_leaves_a_further_target_out_where_one_of_the_two_lacks_it():
    targets = targets_of([1.0, 2.0], [0, 0], further=[float("nan"), 7.0])
    _, mixed = mixup(batch_of(torch.zeros(2, 3, 1)), targets, 1.0, seeded())
    assert mixed["score_BT"][:, 1].isnan().all()
    assert not mixed["score_BT"][:, 0].isnan().any()


def test_mixup_keeps_blank_bars_blank_and_does_not_thin_bars_with_those_that_do_not_exist():
    inputs_BLF = torch.tensor([[0.0, 2.0, 2.0], [0.0, 0.0, 6.0]])[..., None]
    began_BL = torch.tensor([[False, True, True], [False, False, True]])
    batch, _ = mixup(batch_of(inputs_BLF, began_BL), targets_of([1.0, 3.0], [0, 0]), 5.0, seeded(1))
    assert torch.equal(batch.began_BL, began_BL)
    assert batch.inputs_BLF[0, :2, 0].tolist() == [0.0, 2.0]
    assert batch.inputs_BLF[1, :2, 0].tolist() == [0.0, 0.0]
    assert 2 < batch.inputs_BLF[0, 2, 0] <= 4 <= batch.inputs_BLF[1, 2, 0] < 6


def test_mixup_of_windows_that_are_alone_changes_nothing():
    inputs_BLF = torch.randn(3, 4, 2, generator=seeded())
    targets = targets_of([1.0, 2.0, 3.0], [0, 1, 2], further=[1.0, float("nan"), 2.0])
    batch, mixed = mixup(batch_of(inputs_BLF), targets, 1.0, seeded())
    assert torch.equal(batch.inputs_BLF, inputs_BLF)
    assert all(torch.equal(mixed[name].nan_to_num(9), value.nan_to_num(9)) for name, value in targets.items())


def test_mixup_draws_from_the_beta_distribution():
    """max(x, 1 - x) with x from Beta(1, 1) is uniform on [1/2, 1]: mean 3/4, variance 1/48.

    Small alpha leaves most windows nearly whole, without NaN.
    """
    inputs_BLF, targets = (
        torch.zeros(4000, 1, 1),
        targets_of([0.0, 1.0] * 2000, [number // 2 for number in range(4000)]),
    )
    _, mixed = mixup(batch_of(inputs_BLF), targets, 1.0, seeded())
    share_B = torch.where(
        targets["score_BT"][:, 0] == 1, mixed["score_BT"][:, 0], 1 - mixed["score_BT"][:, 0]
    )
    assert share_B.mean().item() == pytest.approx(0.75, abs=0.01)
    assert share_B.var().item() == pytest.approx(1 / 48, rel=0.08)
    _, mixed = mixup(batch_of(inputs_BLF), targets, 1e-3, seeded())
    assert not mixed["score_BT"].isnan().any()


def test_equal_generators_give_equal_batches_whatever_torch_drew_before():
    inputs_BLF, targets = (
        torch.randn(6, 9, 2, generator=seeded()),
        targets_of([float(i) for i in range(6)], [0] * 6),
    )
    found = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        mixed, _ = mixup(batch_of(inputs_BLF), targets, 0.5, generator := seeded(3))
        found.append(
            (cutout(mixed, 4, 0.7, generator).inputs_BLF, drop_path(inputs_BLF, 0.5, True, generator))
        )
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    bars=st.integers(1, 12),
    longest=st.integers(0, 15),
    chance=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 999),
)
def test_cutout_blanks_one_stretch_and_never_the_newest_bar(bars, longest, chance, seed):
    inputs_BLF = torch.ones(30, bars, 2)
    found = cutout(batch_of(inputs_BLF), longest, chance, seeded(seed))
    blank_BL = (found.inputs_BLF == 0).all(dim=2)
    assert torch.equal((found.inputs_BLF == 0).any(dim=2), blank_BL)
    assert not blank_BL[:, -1].any()
    length_B = blank_BL.sum(dim=1)
    assert length_B.max() <= min(longest, bars - 1)
    stretches_B = (blank_BL.int().diff(dim=1, prepend=torch.zeros(30, 1, dtype=torch.int)) == 1).sum(dim=1)
    assert torch.equal(stretches_B, (length_B > 0).long())
    assert found.began_BL.all()
    if chance == 1 and min(longest, bars - 1) >= 1:
        assert (length_B > 0).all()
    if chance == 0:
        assert torch.equal(found.inputs_BLF, inputs_BLF)


def test_cutout_reaches_every_bar_but_the_newest_and_every_length():
    blank_BL = cutout(batch_of(torch.ones(3000, 6, 1)), 3, 0.5, seeded()).inputs_BLF[..., 0] == 0
    assert (blank_BL[:, :5].any(dim=0)).all()
    lengths = blank_BL.sum(dim=1)
    assert sorted(lengths.unique().tolist()) == [0, 1, 2, 3]
    assert (lengths > 0).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_stochastic_depth_drops_whole_windows_and_keeps_the_mean():
    x_BX = torch.ones(20_000, 3)
    found = drop_path(x_BX, 0.25, True, seeded())
    assert sorted(found.unique().tolist()) == pytest.approx([0.0, 1 / 0.75])
    assert torch.equal(found[:, 0], found[:, 2])
    assert found.mean().item() == pytest.approx(1.0, abs=0.02)
    assert drop_path(x_BX, 0.25, False) is x_BX
    assert drop_path(x_BX, 0.0, True) is x_BX
    assert depth_rates(0.3, 3) == pytest.approx((0.1, 0.2, 0.3))


def test_depth_follows_how_much_the_inputs_move():
    """Mean changes of 0, 4, 1 and, over the one bar that follows another, 2: places 0, 3, 1 and 2."""
    windows = torch.tensor([[5.0, 5, 5], [0, 4, 8], [1, 2, 1], [9, 0, 2]])[..., None]
    began = torch.ones(4, 3, dtype=torch.bool)
    began[3, 0] = False
    batch = batch_of(windows, began)
    factor = depth_by_turnover(batch, 1.0).depth_B
    torch.testing.assert_close(factor, torch.tensor([0.25, 1.75, 0.75, 1.25]))
    torch.testing.assert_close(depth_by_turnover(batch, 0.4).depth_B, 1 + 0.4 * (factor - 1))
    assert depth_by_turnover(batch, 0.0) is batch
    changed = depth_by_turnover(batch, 1.0)
    torch.testing.assert_close(changed.depth_rate(0.2), 0.2 * factor)
    assert (changed.depth_rate(0.0), batch.depth_rate(0.2)) == (0.0, 0.2)


def test_each_window_is_skipped_by_its_own_chance():
    rate_B = torch.tensor([0.0, 0.25, 0.75]).repeat(20_000)
    found = drop_path(torch.ones(len(rate_B), 2), rate_B, True, seeded()).view(-1, 3, 2)
    assert (found == 0).float().mean(dim=(0, 2)).tolist() == pytest.approx([0.0, 0.25, 0.75], abs=0.01)
    assert found.mean(dim=(0, 2)).tolist() == pytest.approx([1.0, 1.0, 1.0], abs=0.03)


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.7])
def test_a_chance_of_one_or_none_is_refused(rate):
    with pytest.raises(ValueError, match="stochastic_depth"):
        Regularisation(stochastic_depth=rate, depth_by_turnover=1.0)


def test_cap_by_hand():
    """Volatile weight 6, calm 4, at most 40 %: the factor is 0.4 * 4 / (0.6 * 6) = 4 / 9, so 6 becomes 8 / 3,
    and 8/3 of 20/3 is 40 %.
    """
    found = capped(torch.tensor([1.0, 3.0, 2.0, 4.0]), torch.tensor([False, False, True, True]), 0.4)
    torch.testing.assert_close(found, torch.tensor([1.0, 3.0, 8 / 9, 16 / 9]))


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.just(0.0) | st.floats(1e-6, 100), st.booleans()), min_size=1, max_size=30),
    share=st.floats(0.01, 1.0),
)
def test_cap_holds_and_touches_nothing_else(rows, share):
    weight_B = torch.tensor([weight for weight, _ in rows], dtype=torch.float64)
    volatile_B = torch.tensor([volatile for _, volatile in rows])
    found = capped(weight_B, volatile_B, share)
    calm = weight_B[~volatile_B].sum()
    assert torch.equal(found[~volatile_B], weight_B[~volatile_B])
    assert (found <= weight_B).all()
    if calm > 0:
        assert found[volatile_B].sum() <= share * found.sum() * (1 + 1e-9)
    else:
        assert torch.equal(found, weight_B), "nothing to set against the volatile rows, so they stay"
    if weight_B[volatile_B].sum() <= share * weight_B.sum() * (1 - 1e-9):
        torch.testing.assert_close(found, weight_B)
