"""The network of the Temporal Fusion Transformer (Lim et al. 2021, Int. J. Forecasting 37), in plain torch.

Shapes: B windows, L bars of lookback, F inputs, H steps to come (one a distinct horizon), T tasks, D width, A
width of an attention head, M heads, V variables of a selection, K knots, C calendar inputs, S sectors, P = L
+ H, N any product of others, X any number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.experts.networks.gated_residual import GatedResidual, GatedSkip, window_mask
from components.experts.networks.tft_calendar import Calendar
from components.experts.networks.variable_selection import FutureSelection, VariableSelection
from components.experts.neural.batch import Batch, Encoded, Layout
from components.experts.neural.regularise import drop_path

# sigmoid(HELD) is 1 and 1 + sigmoid(-HELD) is 1, in float32.
HELD = 30.0
MASKED = -1e9


@dataclass(frozen=True)
class Contexts:
    """What the sector gives to variable selection, to the LSTM's first cell state and to enrichment, [B, D]
    each.
    """

    selection_BD: Tensor
    cell_BD: Tensor
    enrichment_BD: Tensor


class StaticContexts(nn.Module):
    """An embedding a sector (the first for unknown ones) and a gated residual network a context."""

    def __init__(self, sectors: int, width: int, *, dropout: float):
        super().__init__()
        self.embedding = nn.Embedding(sectors + 1, width)
        self.networks = nn.ModuleDict(
            {
                name: GatedResidual(width, context=False, dropout=dropout)
                for name in ("selection", "cell", "enrichment")
            }
        )

    def selection(self, sector_B: Tensor) -> Tensor:
        """The context of variable selection alone."""
        return self.networks["selection"](self.embedding(sector_B)[:, None])[:, 0]

    def forward(self, sector_B: Tensor) -> Contexts:
        """All contexts."""
        x_B1D = self.embedding(sector_B)[:, None]
        return Contexts(*(self.networks[name](x_B1D)[:, 0] for name in ("selection", "cell", "enrichment")))


class Recurrence(nn.Module):
    """One LSTM layer whose state stays as it is, to the bit, over bars that have not begun: a further input
    closes the input gate and opens the two others.

    So the state before the first bar is (tanh(c), c), whatever c the static context gives.
    """

    def __init__(self, width: int):
        super().__init__()
        bound = 1.0 / math.sqrt(width)
        self.inputs_GD = nn.Parameter(torch.empty(4 * width, width).uniform_(-bound, bound))
        self.state_GD = nn.Parameter(torch.empty(4 * width, width).uniform_(-bound, bound))
        self.bias_G = nn.Parameter(torch.zeros(4 * width))
        held_G1 = torch.tensor([-HELD, HELD, 0.0, HELD]).repeat_interleave(width)[:, None]
        self.register_buffer("held_G1", held_G1, persistent=False)

    def forward(
        self, x_BXD: Tensor, held_BX1: Tensor | None, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Outputs [B, X, D] and the state after them; `held_BX1` is 1 where the state must stay."""
        inputs = self.inputs_GD
        if held_BX1 is not None:
            x_BXD, inputs = torch.cat([x_BXD, held_BX1], dim=-1), torch.cat([inputs, self.held_G1], dim=-1)
        weights = [inputs, self.state_GD, self.bias_G, torch.zeros_like(self.bias_G)]
        output_BXD, hidden_1BD, cell_1BD = torch._VF.lstm(
            x_BXD, state, weights, True, 1, 0.0, self.training, False, True
        )
        return output_BXD, (hidden_1BD, cell_1BD)


class InterpretableAttention(nn.Module):
    """Interpretable multi-head attention, equations 13 to 16 of the paper: heads share their values, so the
    mean of their weights says what was looked at.

    Only the steps to come ask; each sees the begun bars and the steps up to its own.
    """

    def __init__(self, width: int, heads: int, steps: int):
        super().__init__()
        self.heads, self.each = heads, width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, self.each)
        self.out = nn.Linear(self.each, width)
        self.register_buffer("later_HH", torch.triu(torch.full((steps, steps), MASKED), 1), persistent=False)

    def forward(self, past_BLD: Tensor, steps_BHD: Tensor, held_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed values [B, H, D] and the heads' mean weights [B, H, P]; `held_BL` is 1 where a bar has not
        begun.
        """
        steps, lags = len(self.later_HH), held_BL.shape[1]
        query_BMHA = self.query(steps_BHD).view(-1, steps, self.heads, self.each).transpose(1, 2)
        # Keys are never made: q (W x) = (q W) x, with few q and many x.
        key_MAD = self.key.weight.view(self.heads, self.each, -1)
        asked_BXD = (query_BMHA @ key_MAD / math.sqrt(self.each)).flatten(1, 2)
        bars_BMHL = (asked_BXD @ past_BLD.transpose(1, 2)).view(-1, self.heads, steps, lags) + (
            held_BL * MASKED
        )[:, None, None]
        steps_BMHH = (asked_BXD @ steps_BHD.transpose(1, 2)).view(
            -1, self.heads, steps, steps
        ) + self.later_HH
        weight_BHP = torch.softmax(torch.cat([bars_BMHL, steps_BMHH], dim=-1), dim=-1).mean(dim=1)
        # Weights sum to 1, so mixing comes before the values' affine map.
        mixed_BHD = weight_BHP[..., :lags] @ past_BLD + weight_BHP[..., lags:] @ steps_BHD
        return self.out(self.value(mixed_BHD)), weight_BHP


class TemporalFusionTransformer(nn.Module):
    """Static context, variable selection, LSTM encoder and decoder, enrichment, attention and gates, from a
    batch to one embedding a task.

    Every bar of a window is a past step; every distinct horizon of the tasks is a step to come, with what the
    calendar says of it and its own learned position.
    """

    def __init__(
        self, layout: Layout, *, width: int, heads: int, knots: bool, dropout: float, stochastic_depth: float
    ):
        super().__init__()
        self.width, self.dropout, self.stochastic_depth = width, dropout, stochastic_depth
        self.inputs = len(layout.inputs)
        horizons = sorted({horizon for _, horizon in layout.tasks})
        self.step_of_task = [horizons.index(horizon) for _, horizon in layout.tasks]
        self.calendar = Calendar(layout, horizons)
        static = layout.sectors > 0
        self.past = VariableSelection(self.inputs, width, context=static, knots=knots)
        self.future = FutureSelection(
            len(self.calendar.columns), len(horizons), width, context=static, dropout=dropout
        )
        self.static = StaticContexts(layout.sectors, width, dropout=dropout) if static else None
        self.encoder, self.decoder = Recurrence(width), Recurrence(width)
        self.around_recurrence = GatedSkip(width, dropout=dropout)
        self.enrichment = GatedResidual(width, context=static, dropout=dropout)
        self.attention = InterpretableAttention(width, heads, len(horizons))
        self.around_attention = GatedSkip(width, dropout=dropout)
        self.position_wise = GatedResidual(width, context=False, dropout=dropout)
        self.around_decoder = GatedSkip(width, dropout=0.0)

    def prepare(self, inputs_NF: Tensor, sector_N: Tensor) -> Tensor:
        """Of each bar: the selected vector, the selection weights and the calendar, [N, D + F + C]."""
        context_ND = None if self.static is None else self.past.context(self.static.selection(sector_N))
        selected_ND, weight_NF = self.past(inputs_NF, context_ND)
        return torch.cat([selected_ND, weight_NF, inputs_NF[:, self.calendar.columns]], dim=-1)

    def forward(self, batch: Batch) -> Encoded:
        """Embeddings [B, T, D]; evidence `variable_selection` [B, F], `future` [B, C + 1] and `attention` [B,
        L] in evaluation only.
        """
        held_BL = 1.0 - batch.began_BL.to(batch.inputs_BLF.dtype)
        sector = None if self.static is None else self.static(batch.sector_B)
        selected_BLD, weight_BLF, calendar_BC = self._past(
            batch, None if sector is None else sector.selection_BD
        )
        coming_BHD, coming_weight_BHV = self.future(
            self.calendar(calendar_BC), None if sector is None else sector.selection_BD
        )
        begun_BL1 = (1.0 - held_BL)[..., None]
        selected_BLD = selected_BLD * (
            begun_BL1 * window_mask(selected_BLD, self.dropout)
            if self.training and self.dropout
            else begun_BL1
        )
        past_BLD, steps_BHD = self._local(selected_BLD, coming_BHD, held_BL, sector)
        # Bars and steps pass the same blocks apart: cutting the steps out of one tensor would cost a tensor
        # of zeros each time in the backward pass.
        context_BD, kept_B11 = None if sector is None else sector.enrichment_BD, self._kept(1, batch)
        enriched_BLD, enriched_BHD = (self.enrichment(x, context_BD, kept_B11) for x in (past_BLD, steps_BHD))
        seen_BHD, attention_BHP = self.attention(enriched_BLD, enriched_BHD, held_BL)
        x_BHD = self.around_attention(seen_BHD, enriched_BHD, self._kept(2, batch))
        x_BHD = self.position_wise(x_BHD, None, self._kept(3, batch))
        x_BHD = self.around_decoder(x_BHD, steps_BHD)
        evidence = (
            {} if self.training else self._evidence(weight_BLF, coming_weight_BHV, attention_BHP, held_BL)
        )
        return Encoded(x_BHD[:, self.step_of_task], x_BHD.new_zeros(()), evidence)

    def _past(self, batch: Batch, context_BD: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Selected vectors [B, L, D], their weights [B, L, F] and the newest bar's calendar [B, C]."""
        x_BLX = batch.inputs_BLF
        if batch.prepared:
            return (
                *x_BLX.split([self.width, self.inputs, len(self.calendar.columns)], dim=-1)[:2],
                x_BLX[:, -1, self.width + self.inputs :],
            )
        bars, inputs = x_BLX.shape[1:]
        context_ND = None
        if context_BD is not None:
            context_ND = self.past.context(context_BD)[:, None].expand(-1, bars, -1).reshape(-1, self.width)
        selected_ND, weight_NF = self.past(x_BLX.reshape(-1, inputs), context_ND)
        return (
            selected_ND.view(-1, bars, self.width),
            weight_NF.view(-1, bars, inputs),
            x_BLX[:, -1, self.calendar.columns],
        )

    def _local(
        self, selected_BLD: Tensor, coming_BHD: Tensor, held_BL: Tensor, sector: Contexts | None
    ) -> tuple[Tensor, Tensor]:
        """The LSTM over bars [B, L, D] and steps to come [B, H, D], gated around."""
        cell_1BD = (torch.zeros_like(coming_BHD[:, 0]) if sector is None else sector.cell_BD)[None]
        past_BLD, state = self.encoder(selected_BLD, held_BL[..., None], (torch.tanh(cell_1BD), cell_1BD))
        steps_BHD, _ = self.decoder(coming_BHD, None, state)
        return self.around_recurrence(past_BLD, selected_BLD), self.around_recurrence(steps_BHD, coming_BHD)

    def _kept(self, block: int, batch: Batch) -> Tensor | None:
        """Stochastic depth of a block, 1 to 3: 0 where a window skips it, more than 1 where it does not."""
        if not self.training or not self.stochastic_depth:
            return None
        kept_B11 = batch.inputs_BLF.new_ones(batch.inputs_BLF.shape[0], 1, 1)
        return drop_path(kept_B11, batch.depth_rate(self.stochastic_depth * block / 3), training=True)

    def _evidence(
        self, weight_BLF: Tensor, coming_weight_BHV: Tensor, attention_BHP: Tensor, held_BL: Tensor
    ) -> Mapping[str, Tensor]:
        begun_BL1 = (1.0 - held_BL)[..., None]
        lags = held_BL.shape[1]
        found = {
            "variable_selection": (weight_BLF * begun_BL1).sum(dim=1) / begun_BL1.sum(dim=1).clamp(min=1.0),
            "future": coming_weight_BHV.mean(dim=1),
            "attention": attention_BHP[:, self.step_of_task[0], :lags],
        }
        if not self.calendar.columns:
            del found["future"]
        return {name: value.detach() for name, value in found.items()}
