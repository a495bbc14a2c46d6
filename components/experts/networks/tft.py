"""The network of the Temporal Fusion Transformer (Lim et al. 2021, Int. J. Forecasting 37), in plain torch.

Shapes: B windows, L bars of lookback, F inputs, H steps to come (one a distinct horizon), T tasks, D width, A
width of an attention head, M heads, V variables of a selection, K knots, C calendar inputs, S sectors, P = L
+ H, N any product of others, X any number.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.experts.networks.tft_calendar import Calendar
from components.experts.neural.batch import Batch, Encoded, Layout

# Where the variables' residual networks are worked out; inputs are clipped at the outermost.
KNOTS = (-5.0, -2.5, -1.5, -0.75, 0.0, 0.75, 1.5, 2.5, 5.0)
# sigmoid(HELD) is 1 and 1 + sigmoid(-HELD) is 1, in float32.
HELD = 30.0
MASKED = -1e9
# Values of a stretch of rows: 1 MiB, about half of what a core's own cache holds.
CACHED_VALUES = 2**18


def folded(first: nn.Linear, second: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one affine map that two make, one after the other."""
    return second.weight @ first.weight, second.weight @ first.bias + second.bias


def window_mask(x_BXD: Tensor, rate: float) -> Tensor:
    """Dropout's factors [B, 1, D]: one mask a window for all its bars (Gal and Ghahramani 2016, for recurrent
    networks).
    """
    return torch.empty_like(x_BXD[:, :1]).bernoulli_(1.0 - rate) / (1.0 - rate)


def masked_sum(skip_BXD: Tensor, added_BXD: Tensor, rate: float, kept_B11: Tensor | None) -> Tensor:
    """skip + added, with dropout of this rate and the windows' factors `kept_B11` on what is added."""
    if not rate and kept_B11 is None:
        return skip_BXD + added_BXD
    mask_B1D = window_mask(added_BXD, rate) if rate else torch.ones_like(added_BXD[:, :1])
    return torch.addcmul(skip_BXD, added_BXD, mask_B1D if kept_B11 is None else mask_B1D * kept_B11)


class GatedResidual(nn.Module):
    """Gated residual network: norm(a + GLU(W1 elu(W2 a + W3 c + b2) + b1)), equations 2 to 5 of the paper;
    dropout acts on what the GLU lets through.

    W1 and the GLU's map follow each other without anything between, so they are multiplied first and each row
    passes one map.
    """

    def __init__(self, width: int, *, context: bool, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.enter = nn.Linear(width, width)
        self.context = nn.Linear(width, width, bias=False) if context else None
        self.inner = nn.Linear(width, width)
        self.gated = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x_BXD: Tensor, context_BD: Tensor | None = None, kept_B11: Tensor | None = None
    ) -> Tensor:
        """`kept_B11` scales what is added to `x_BXD`: 0 skips the block for that window; none: 1."""
        hidden_BXD = self.enter(x_BXD)
        if context_BD is not None:
            hidden_BXD = hidden_BXD + self.context(context_BD)[:, None]
        weight, bias = folded(self.inner, self.gated)
        added_BXD = functional.glu(functional.linear(functional.elu(hidden_BXD), weight, bias))
        return self.norm(masked_sum(x_BXD, added_BXD, self.dropout if self.training else 0.0, kept_B11))


class GatedSkip(nn.Module):
    """norm(skip + GLU(x)), the gate around the LSTM, the attention and the whole decoder; dropout as in
    GatedResidual.
    """

    def __init__(self, width: int, *, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.gated = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BXD: Tensor, skip_BXD: Tensor, kept_B11: Tensor | None = None) -> Tensor:
        """`kept_B11` as in GatedResidual."""
        return self.norm(
            masked_sum(
                skip_BXD, functional.glu(self.gated(x_BXD)), self.dropout if self.training else 0.0, kept_B11
            )
        )


class VariableNetworks(nn.Module):
    """An embedding and a gated residual network a variable, equation 7 of the paper: from values [V, X] to
    [V, X, D], all variables in one product.
    """

    def __init__(self, variables: int, width: int):
        super().__init__()
        bound = 1.0 / math.sqrt(width)
        self.embedding_VD = nn.Parameter(torch.randn(variables, width))
        self.embedding_bias_VD = nn.Parameter(torch.zeros(variables, width))
        self.enter_VDD = nn.Parameter(torch.empty(variables, width, width).uniform_(-bound, bound))
        self.enter_bias_VD = nn.Parameter(torch.zeros(variables, width))
        self.inner_VDD = nn.Parameter(torch.empty(variables, width, width).uniform_(-bound, bound))
        self.inner_bias_VD = nn.Parameter(torch.zeros(variables, width))
        self.gated_VDG = nn.Parameter(torch.empty(variables, width, 2 * width).uniform_(-bound, bound))
        self.gated_bias_VG = nn.Parameter(torch.zeros(variables, 2 * width))
        self.norm_scale_VD = nn.Parameter(torch.ones(variables, width))
        self.norm_shift_VD = nn.Parameter(torch.zeros(variables, width))

    def forward(self, value_VX: Tensor) -> Tensor:
        """The embedding is affine in its value, so its product with W2 is made once a variable and not once a
        value.
        """
        both_V2D = torch.stack([self.embedding_VD, self.embedding_bias_VD], dim=1) @ self.enter_VDD
        value_VX1 = value_VX[..., None]
        hidden_VXD = functional.elu(
            torch.addcmul((both_V2D[:, 1] + self.enter_bias_VD)[:, None], value_VX1, both_V2D[:, :1])
        )
        weight_VDG = self.inner_VDD @ self.gated_VDG
        bias_V1G = torch.baddbmm(self.gated_bias_VG[:, None], self.inner_bias_VD[:, None], self.gated_VDG)
        skip_VXD = torch.addcmul(self.embedding_bias_VD[:, None], value_VX1, self.embedding_VD[:, None])
        x_VXD = functional.layer_norm(
            skip_VXD + functional.glu(torch.baddbmm(bias_V1G, hidden_VXD, weight_VDG)), skip_VXD.shape[-1:]
        )
        return torch.addcmul(self.norm_shift_VD[:, None], x_VXD, self.norm_scale_VD[:, None])


class KnottedSum(torch.autograd.Function):
    """sum over k and v of weight[n, v] * passed[k, v, n] * rise[k, v], worked out in stretches of rows that
    stay in a core's cache, forward and backward.

    passed is how much of the stretch between knots k and k + 1 lies below the value, rise is what the
    variable's network rises over it.
    """

    @staticmethod
    def forward(
        ctx, x_NV: Tensor, weight_NV: Tensor, rise_KVD: Tensor, slope_K11: Tensor, offset_K11: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x_NV, weight_NV, rise_KVD, slope_K11, offset_K11)
        with torch.autocast(x_NV.device.type, enabled=False):
            rise_XD, above = rise_KVD.float().flatten(0, 1), []
            for rows in _stretches(len(x_NV), len(rise_XD)):
                passed_KVN = passed(x_NV[rows].float(), slope_K11, offset_K11)
                above.append(passed_KVN.mul_(weight_NV[rows].t().float()).flatten(0, 1).t() @ rise_XD)
            return torch.cat(above)

    @staticmethod
    def backward(ctx, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        x_NV, weight_NV, rise_KVD, slope_K11, offset_K11 = ctx.saved_tensors
        rise_XD, grad_ND = rise_KVD.float().flatten(0, 1), grad_ND.float()
        rise_grad_XD, x_grad_NV, weight_grad_NV = (
            torch.zeros_like(rise_XD),
            torch.zeros_like(x_NV) if ctx.needs_input_grad[0] else None,
            torch.empty_like(weight_NV),
        )
        for rows in _stretches(len(x_NV), len(rise_XD)):
            passed_KVN, weight_VN = (
                passed(x_NV[rows].float(), slope_K11, offset_K11),
                weight_NV[rows].t().float(),
            )
            back_KVN = (rise_XD @ grad_ND[rows].t()).view_as(passed_KVN)
            if x_grad_NV is not None:
                inside_KVN = (passed_KVN > 0) & (passed_KVN < 1)
                x_grad_NV[rows] = ((back_KVN * inside_KVN * slope_K11).sum(dim=0) * weight_VN).t()
            weight_grad_NV[rows] = back_KVN.mul_(passed_KVN).sum(dim=0).t()
            rise_grad_XD.addmm_(passed_KVN.mul_(weight_VN).flatten(0, 1), grad_ND[rows])
        return x_grad_NV, weight_grad_NV, rise_grad_XD.view_as(rise_KVD).to(rise_KVD.dtype), None, None


def passed(x_NV: Tensor, slope_K11: Tensor, offset_K11: Tensor) -> Tensor:
    """Share of each stretch between two knots that lies below the value, [K, V, N]."""
    return (x_NV.t().contiguous() * slope_K11).add_(offset_K11).clamp_(0.0, 1.0)


def _stretches(rows: int, values_a_row: int) -> Iterable[slice]:
    size = max(1, CACHED_VALUES // max(1, values_a_row))
    return (slice(first, first + size) for first in range(0, rows, size))


class VariableSelection(nn.Module):
    """Variable selection network, equations 6 to 8 of the paper: softmax weights of the variables from all of
    them and the static context, and their weighted sum.

    With knots, each variable's network is worked out there and is linear in between: its cost no longer grows
    with the number of bars. The map of all embeddings, which are affine in the values, is written as an
    affine map of the values.
    """

    def __init__(self, variables: int, width: int, *, context: bool, knots: bool):
        super().__init__()
        self.networks = VariableNetworks(variables, width)
        self.enter = nn.Linear(variables, width)
        self.context = nn.Linear(width, width, bias=False) if context else None
        self.inner = nn.Linear(width, width)
        self.gated = nn.Linear(width, 2 * variables)
        self.skip = nn.Linear(variables, variables)
        self.norm = nn.LayerNorm(variables)
        self.knots = knots
        places_K11 = torch.tensor(KNOTS)[:, None, None]
        self.register_buffer("knots_K", places_K11.flatten(), persistent=False)
        self.register_buffer("slope_K11", 1.0 / places_K11.diff(dim=0), persistent=False)
        self.register_buffer("offset_K11", -places_K11[:-1] / places_K11.diff(dim=0), persistent=False)

    def weights(self, x_NV: Tensor, context_ND: Tensor | None = None) -> Tensor:
        """How much each variable counts, [N, V]; each row sums to 1."""
        hidden_ND = self.enter(x_NV)
        if context_ND is not None:
            hidden_ND = hidden_ND + context_ND
        weight, bias = folded(self.inner, self.gated)
        return torch.softmax(
            self.norm(
                self.skip(x_NV) + functional.glu(functional.linear(functional.elu(hidden_ND), weight, bias))
            ),
            dim=-1,
        )

    def forward(self, x_NV: Tensor, context_ND: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The selected vector [N, D] and the weights [N, V]; `context_ND` has passed `context` already."""
        weight_NV = self.weights(x_NV, context_ND)
        if not self.knots:
            return torch.einsum("nv,vnd->nd", weight_NV, self.networks(x_NV.t())), weight_NV
        table_KVD = self.networks(self.knots_K.expand(x_NV.shape[1], -1)).transpose(0, 1)
        rise_KVD = table_KVD.diff(dim=0)
        if self.training and x_NV.device.type == "cpu":
            above_ND = KnottedSum.apply(x_NV, weight_NV, rise_KVD, self.slope_K11, self.offset_K11)
        else:
            above_ND = (passed(x_NV, self.slope_K11, self.offset_K11) * weight_NV.t()).flatten(
                0, 1
            ).t() @ rise_KVD.flatten(0, 1)
        return weight_NV @ table_KVD[0] + above_ND, weight_NV


class FutureSelection(nn.Module):
    """Variable selection among what is known of the steps to come:

    C calendar inputs and, as the last variable, each step's own learned position.
    """

    def __init__(self, calendar_inputs: int, steps: int, width: int, *, context: bool, dropout: float):
        super().__init__()
        self.place_HD = nn.Parameter(torch.randn(steps, width))
        self.step_network = GatedResidual(width, context=False, dropout=dropout)
        if not calendar_inputs:
            self.networks = None
            return
        variables = calendar_inputs + 1
        self.networks = VariableNetworks(calendar_inputs, width)
        self.enter, self.enter_step = nn.Linear(calendar_inputs, width), nn.Linear(width, width, bias=False)
        self.skip, self.skip_step = (
            nn.Linear(calendar_inputs, variables),
            nn.Linear(width, variables, bias=False),
        )
        self.context = nn.Linear(width, width, bias=False) if context else None
        self.inner = nn.Linear(width, width)
        self.gated = nn.Linear(width, 2 * variables)
        self.norm = nn.LayerNorm(variables)

    def forward(self, calendar_BHC: Tensor, context_BD: Tensor | None) -> tuple[Tensor, Tensor]:
        """The selected vectors [B, H, D] and the weights [B, H, C + 1]."""
        rows, steps, inputs = calendar_BHC.shape
        step_BHD = self.step_network(self.place_HD[None]).expand(rows, -1, -1)
        if self.networks is None:
            return step_BHD, torch.ones_like(step_BHD[..., :1])
        hidden_BHD = self.enter(calendar_BHC) + self.enter_step(self.place_HD)
        if context_BD is not None:
            hidden_BHD = hidden_BHD + self.context(context_BD)[:, None]
        weight, bias = folded(self.inner, self.gated)
        skip_BHV = self.skip(calendar_BHC) + self.skip_step(self.place_HD)
        weight_BHV = torch.softmax(
            self.norm(skip_BHV + functional.glu(functional.linear(functional.elu(hidden_BHD), weight, bias))),
            dim=-1,
        )
        made_CND = self.networks(calendar_BHC.reshape(-1, inputs).t())
        made_BHCD = made_CND.transpose(0, 1).reshape(-1, steps, inputs, made_CND.shape[-1])
        mixed_BHD = (weight_BHV[..., None, :-1] @ made_BHCD).squeeze(-2)
        return mixed_BHD + weight_BHV[..., -1:] * step_BHD, weight_BHV


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


class Attention(nn.Module):
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
        self.attention = Attention(width, heads, len(horizons))
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
        rate = self.stochastic_depth * block / 3
        drawn_B11 = torch.rand(batch.inputs_BLF.shape[0], 1, 1, device=batch.inputs_BLF.device)
        return (drawn_B11 >= rate).to(batch.inputs_BLF.dtype) / (1.0 - rate)

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
