"""Pretraining without labels: rebuild the newest bar of masked symbols, and tell windows apart (InfoNCE).

Shapes as in batch.py; P width of the space in which windows are compared, V = 2 distorted views of a window.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from components.experts.errors import ExpertError
from components.experts.neural.batch import Batch
from components.experts.neural.config import Neural, Pretraining
from components.experts.neural.phases import Phase
from components.experts.neural.regularise import cutout, numbered

if TYPE_CHECKING:
    from components.experts.neural.panel import Panel

# A view loses a stretch of bars of at most this share of its window.
LONGEST_CUTOUT = 0.25
# Share of the inputs that a view lacks, so that no single input tells windows apart.
DROPPED_INPUTS = 0.2


@dataclass(frozen=True)
class PretrainingOutputs:
    """Of a batch: what the newest bar's inputs are rebuilt as [B, F], and both views' places on the unit
    sphere [B, V, P].
    """

    rebuilt_BF: Tensor
    view_BVP: Tensor


class PretrainingModel(nn.Module):
    """A network with what only pretraining needs: a linear decoder to the newest bar's inputs and a
    projection head (Chen et al. 2020, *SimCLR*).
    """

    def __init__(self, network: nn.Module, inputs: int):
        super().__init__()
        self.network = network
        self.decoder = nn.Linear(network.width, inputs)
        self.projection = nn.Sequential(
            nn.Linear(network.width, network.width), nn.GELU(), nn.Linear(network.width, network.width)
        )

    def forward(self, batch: Batch) -> PretrainingOutputs:
        """Of a batch from `PretrainingObjective.prepare`: the masked windows, then both distorted views,
        three times as many windows as rows.
        """
        embedding_3BE = self.network(batch).embedding_BTE.mean(dim=1)
        masked_BE, one_BE, other_BE = embedding_3BE.chunk(3)
        view_BVP = functional.normalize(
            self.projection(torch.stack([one_BE, other_BE], dim=1)).float(), dim=-1
        )
        return PretrainingOutputs(self.decoder(masked_BE).float(), view_BVP)


class PretrainingObjective:
    """Loss of masked cross-section and InfoNCE. It reads inputs alone, never a label."""

    def __init__(
        self,
        settings: Pretraining,
        day_N: np.ndarray,
        *,
        whole_days: bool,
        apart: "ApartInTime | None" = None,
    ):
        self.settings, self.day_N, self.whole_days, self.apart = settings, day_N, whole_days, apart

    def prepare(
        self, batch: Batch, rows_B: np.ndarray, generator: torch.Generator
    ) -> tuple[Batch, dict[str, Tensor]]:
        """Masked windows and both views as one batch, and the targets:

        `inputs_BF` to rebuild, `masked_B`, and `segment_B`, within which windows are told apart.
        """
        day_B = self.day_N[rows_B] if self.whole_days else np.zeros(len(rows_B), dtype=np.int64)
        segment_B = torch.from_numpy(day_B).to(batch.inputs_BLF.device)
        masked_B = masked_rows(segment_B, batch.began_BL[:, -1], self.settings.masked_share, generator)
        targets = {"inputs_BF": batch.inputs_BLF[:, -1], "masked_B": masked_B, "segment_B": segment_B}
        other = batch if self.apart is None else self.apart.batch(rows_B, segment_B, generator)
        parts = [
            masked(batch, masked_B, self.settings.masked_bars),
            self._view(batch, generator),
            self._view(other, generator),
        ]
        return joined(parts), targets

    def loss(
        self, outputs: PretrainingOutputs, targets: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum, and its parts `masked` (mean squared error over the inputs of masked windows, in
        deviations) and `contrastive` (nats).
        """
        masked_B = targets["masked_B"].float()
        error_B = (outputs.rebuilt_BF - targets["inputs_BF"]).square().mean(dim=1)
        rebuilding = (error_B * masked_B).sum() / masked_B.sum().clamp(min=1)
        contrast = info_nce(
            outputs.view_BVP[:, 0], outputs.view_BVP[:, 1], targets["segment_B"], self.settings.temperature
        )
        total = self.settings.masked * rebuilding + self.settings.contrastive * contrast
        return total, {"masked": rebuilding.detach(), "contrastive": contrast.detach()}

    def _view(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A distorted copy: noise on bars that have begun, inputs that are dropped from the whole window, and
        a stretch of bars that is blank.
        """
        x_BLF = batch.inputs_BLF
        windows, bars, inputs = x_BLF.shape
        noise_BLF = torch.randn(x_BLF.shape, generator=generator, device=generator.device).to(x_BLF.device)
        kept_BF = (
            torch.rand(windows, 1, inputs, generator=generator, device=generator.device) >= DROPPED_INPUTS
        ).to(x_BLF.device)
        distorted_BLF = (x_BLF + self.settings.noise * noise_BLF) * (kept_BF & batch.began_BL[..., None])
        return cutout(batch.with_inputs(distorted_BLF), int(LONGEST_CUTOUT * bars), 1.0, generator)


class ApartInTime:
    """For each window another one of the same symbol some bars later, or as many earlier where the given rows
    hold no later one; itself where they hold neither.
    """

    def __init__(self, panel: "Panel", rows: np.ndarray, bars: Sequence[int]):
        self.panel, self.bars = panel, np.array(bars)
        self.given_N = np.zeros(len(panel.day_N), dtype=bool)
        self.given_N[rows] = True

    def batch(self, rows_B: np.ndarray, segment_B: Tensor, generator: torch.Generator) -> Batch:
        """The others' windows; how many bars lie between is drawn for each of the batch's segments, so that
        a timestamp's windows stay together.
        """
        draw_B = torch.rand(len(rows_B), generator=generator, device=generator.device)[numbered(segment_B)]
        ahead_B = self.bars[(draw_B.cpu().numpy() * len(self.bars)).astype(np.int64)]
        return self.panel.batch(self.others(rows_B, ahead_B))

    def others(self, rows_B: np.ndarray, ahead_B: np.ndarray) -> np.ndarray:
        """Numbers of the rows `ahead_B` bars later, earlier or none."""
        position_N, other_B = self.panel.bars.position_N, rows_B.copy()
        for move_B in (-ahead_B, ahead_B):
            to_B = np.clip(rows_B + move_B, 0, len(position_N) - 1)
            same_B = position_N[to_B] - position_N[rows_B] == move_B
            other_B = np.where(same_B & (to_B == rows_B + move_B) & self.given_N[to_B], to_B, other_B)
        return other_B


def pretrain(phase: Phase, settings: Neural) -> list[dict[str, float]]:
    """Train the network that is the phase's model, on rows of the training window, labelled or not.

    Returns loss and parts of each epoch.

    Raises
    ------
    ExpertError
        If a row is for early stopping or prediction.
    """
    from components.experts.neural.engine import Job, Watch, train

    panel, whole_days = phase.panel, phase.whole_days
    parts = set(panel.bars.part_N.gather(phase.rows).unique()) - {"train", "history"}
    if parts:
        raise ExpertError(
            f"pretraining was given rows for {', '.join(sorted(parts))}, which the training window does not"
            " hold. Give it train and history rows only."
        )
    model = PretrainingModel(phase.model, panel.inputs_NF.shape[1]).to(panel.device)
    bars = settings.pretraining.apart_bars
    apart = ApartInTime(panel, phase.rows, bars) if bars else None
    objective = PretrainingObjective(settings.pretraining, panel.day_N, whole_days=whole_days, apart=apart)
    return train(
        Job(model, objective, panel, phase.rows, phase.seed, whole_days),
        settings.training.model_copy(update={"epochs": settings.pretraining.epochs}),
        settings.optimiser,
        Watch(phase.advance),
    )


def masked_rows(segment_B: Tensor, eligible_B: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Bool [B]: a random `share` of the eligible rows of each segment, rounded up."""
    number_B = numbered(segment_B)
    draw_B = torch.rand(len(segment_B), generator=generator, device=generator.device, dtype=torch.float64).to(
        segment_B.device
    )
    order_B = (2 * number_B + (~eligible_B) + draw_B).argsort()
    size_S, eligible_S = (
        torch.zeros_like(number_B).index_add(0, number_B, counted.long())
        for counted in (torch.ones_like(eligible_B), eligible_B)
    )
    place_B = (
        torch.arange(len(order_B), device=order_B.device) - (size_S.cumsum(dim=0) - size_S)[number_B[order_B]]
    )
    return torch.empty_like(eligible_B).index_copy(
        0, order_B, place_B < share * eligible_S[number_B[order_B]]
    )


def masked(batch: Batch, masked_B: Tensor, bars: int) -> Batch:
    """The batch without the newest `bars` bars of masked windows."""
    newest_L = (
        torch.arange(batch.inputs_BLF.shape[1], device=masked_B.device) >= batch.inputs_BLF.shape[1] - bars
    )
    return batch.with_inputs(batch.inputs_BLF.masked_fill((masked_B[:, None] & newest_L)[..., None], 0.0))


def joined(parts: list[Batch]) -> Batch:
    """Batches as one, the days of each on their own."""
    first, slots, days, slot_B = parts[0], max(part.slots for part in parts), 0, None
    if first.slot_B is not None:
        placed = []
        for part in parts:
            placed.append((days + part.day()) * slots + part.slot_B % part.slots)
            days += part.days
        slot_B = torch.cat(placed)
    fields = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("inputs_BLF", "began_BL", "regime_BR", "sector_B", "industry_B")
    }
    return replace(first, **fields, slot_B=slot_B, days=days or len(parts) * first.days, slots=slots)


def info_nce(one_BP: Tensor, other_BP: Tensor, segment_B: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy, in nats and both ways, of finding a window's other view among those of its segment
    (van den Oord et al. 2018).

    `one_BP` and `other_BP` have unit length; similarity is their cosine over `temperature`.
    """
    similarity_BB = (one_BP @ other_BP.T / temperature).masked_fill(
        segment_B[:, None] != segment_B, -torch.inf
    )
    own_B = similarity_BB.diagonal()
    return 0.5 * (similarity_BB.logsumexp(dim=0) + similarity_BB.logsumexp(dim=1) - 2 * own_B).mean()
