"""Windows normalised by themselves: by hand, what it can no longer see, what is told beside it, and as it is
served.
"""

import numpy as np
import pytest
import torch

from components.experts.errors import ExpertError
from components.experts.networks.window_normalisation import NormalisedWindows
from components.experts.neural.batch import Batch, Encoded, Layout
from components.scoring.expert import ServedExpert
from tests.experts.families.test_conformance import awkward, fitted, module_of, served
from tests.experts.market import fit_and_predict_frames, panel

GROUPS = {"x": "trend", "bar_close": "bars", "weekday_sin": "calendar", "regime_vix": "regime"}
LAYOUT = Layout(GROUPS, (0.0,) * 4, (1.0,) * 4, 3, 4, (("log_return", 1),), 0, 0, 5, "1d")


class Echo(torch.nn.Module):
    """Says what it is shown."""

    width = 12

    def forward(self, batch: Batch) -> Encoded:
        return Encoded(batch.inputs_BLF.flatten(1)[:, None], batch.inputs_BLF.new_zeros(()))


def batch_of(inputs_BLF: torch.Tensor, began: list[list[bool]] | None = None) -> Batch:
    windows, bars, _ = inputs_BLF.shape
    none = torch.zeros(windows, dtype=torch.long)
    began_BL = torch.ones(windows, bars, dtype=torch.bool) if began is None else torch.tensor(began)
    return Batch(inputs_BLF, began_BL, torch.zeros(windows, 4), none, none)


def shown(batch: Batch, inputs: str) -> torch.Tensor:
    """What the network inside is shown: at first nothing is told of the levels."""
    made = NormalisedWindows(Echo(), LAYOUT, inputs)
    return made(batch).embedding_BTE[:, 0].view(batch.inputs_BLF.shape)


def test_by_hand():
    """Bars 2 and 4 have mean 3 and deviation 1; the bar before the first is left out and stays 0."""
    x = torch.zeros(1, 3, 4)
    x[0, :, 0] = torch.tensor([0.0, 2.0, 4.0])
    x[0, :, 1] = torch.tensor([0.0, 7.0, 7.0])
    x[0, :, 2:] = torch.tensor([0.0, 5.0, 6.0])[:, None]
    batch = batch_of(x, [[False, True, True]])
    found = shown(batch, "all")
    torch.testing.assert_close(found[0, :, 0], torch.tensor([0.0, -1.0, 1.0]), atol=1e-4, rtol=0)
    assert found[0, :, 1].tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(found[..., 2:], x[..., 2:])
    only = shown(batch, "bars")
    assert torch.equal(only[..., [0, 2, 3]], x[..., [0, 2, 3]])
    assert only[0, :, 1].tolist() == [0.0, 0.0, 0.0]


def test_level_and_size_of_a_window_are_seen_by_the_levels_alone():
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    moved = x.clone()
    moved[..., :2] = 100 * x[..., :2] + 3
    one, other = shown(batch_of(x), "all"), shown(batch_of(moved), "all")
    torch.testing.assert_close(one, other, atol=5e-3, rtol=0)
    told = NormalisedWindows(Echo(), LAYOUT, "all")
    torch.testing.assert_close(told(batch_of(x)).embedding_BTE[:, 0].view(x.shape), one)
    torch.nn.init.ones_(told.levels.weight)
    added = (told(batch_of(x)).embedding_BTE[:, 0].view(x.shape) - one)[:, 0, 0]
    kept = x[..., :2]
    expected = (kept.mean(dim=1) + (kept.var(dim=1, correction=0) + 1e-5).sqrt().log()).sum(dim=1)
    torch.testing.assert_close(added, expected)


def test_a_window_that_has_not_begun_gives_numbers():
    found = shown(batch_of(torch.zeros(2, 3, 4), [[False] * 3, [False, False, True]]), "all")
    assert not found.any()


def test_inputs_that_are_not_there_are_refused():
    layout = Layout({"x": "trend"}, (0.0,), (1.0,), 3, 4, (("log_return", 1),), 0, 0, 5, "1d")
    with pytest.raises(ExpertError, match="window_normalisation"):
        NormalisedWindows(Echo(), layout, "bars")


def test_a_network_that_reads_returns_from_windows_refuses():
    with pytest.raises(ValueError, match="frequency_normalisation"):
        module_of("adaptive_tft").Settings(window_normalisation="all")


def test_it_is_saved_and_served_as_it_predicts(tmp_path):
    fit, predict = fit_and_predict_frames(panel(bars=100, seed=5))
    expert = fitted("gru", fit, window_normalisation="all", training={"epochs": 2})
    rows = awkward(predict)
    expected = expert.predict(rows)
    expert.save(tmp_path)
    expert.export(tmp_path)
    assert module_of("gru").Expert.load(tmp_path).predict(rows).equals(expected)
    answer = served(ServedExpert(tmp_path, threads=1), rows)
    size = (expected["score"] - expected["head_bias"]).abs().max()
    assert np.abs(answer.score - expected["score"].to_numpy()).max() <= 1e-5 * size
    np.testing.assert_allclose(answer.uncertainty, expected["uncertainty"].to_numpy(), rtol=1e-4)
