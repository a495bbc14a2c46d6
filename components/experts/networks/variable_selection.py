"""Variable selection of the Temporal Fusion Transformer (Lim et al. 2021): of the inputs of a bar, and of
what is known of the steps to come.

Shapes: B windows, H steps to come, D width, V variables of a selection, K knots, C calendar inputs, N rows, X
any number.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.experts.networks.gated_residual import GatedResidual, folded

# Where the variables' residual networks are worked out; inputs are clipped at the outermost.
KNOTS = (-5.0, -2.5, -1.5, -0.75, 0.0, 0.75, 1.5, 2.5, 5.0)
# Values of a stretch of rows: 1 MiB, about half of what a core's own cache holds.
CACHED_VALUES = 2**18


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
