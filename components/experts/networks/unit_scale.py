"""Scaling to a root mean square of 1, with a gradient of few passes.

Shapes: G encoders, D width, N rows.
"""

import torch
from torch import Tensor

NORM_EPSILON = 1e-5


def unit_scale(x_GDN: Tensor) -> Tensor:
    """Each row over its root mean square along D (Zhang and Sennrich 2019), without weights of its own: the
    next map has them.
    """
    if learning(x_GDN):
        return _UnitScale.apply(x_GDN)
    # Not `square`, which is exported as a power, at twice the time.
    return x_GDN * torch.rsqrt((x_GDN * x_GDN).mean(dim=1, keepdim=True) + NORM_EPSILON)


class _UnitScale(torch.autograd.Function):
    """The same with fewer passes backward."""

    @staticmethod
    def forward(ctx, x_GDN: Tensor) -> Tensor:
        inverse_G1N = torch.rsqrt(x_GDN.square().mean(dim=1, keepdim=True).add_(NORM_EPSILON))
        y_GDN = x_GDN * inverse_G1N
        ctx.save_for_backward(y_GDN, inverse_G1N)
        return y_GDN

    @staticmethod
    def backward(ctx, gradient_GDN: Tensor) -> Tensor:
        y_GDN, inverse_G1N = ctx.saved_tensors
        along_G1N = (gradient_GDN * y_GDN).mean(dim=1, keepdim=True)
        return torch.addcmul(gradient_GDN, y_GDN, along_G1N, value=-1.0).mul_(inverse_G1N)


def learning(x: Tensor) -> bool:
    """Whether a gradient will be asked for."""
    return x.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_exporting()
