"""From gradients to steps: optimisers, the course of the learning rate, clipping of each tensor's step, and
the running average of weights.
"""

import bisect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from components.experts.errors import ExpertError
from components.experts.neural.config import Optimiser

# A cycle's end that is this near to a whole step is that step: powers of the growth are rounded.
WHOLE_STEPS = 1e-9
UNDECAYED = ("bias", "gate", "place", "norm")


def make_optimiser(model: nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    """The optimiser of the model's trainable parameters, at the full learning rate; weight decay is decoupled
    from the gradient.

    `adamw`: Loshchilov and Hutter 2019. `adabelief`: Zhuang et al. 2020. `shampoo`: Gupta et al. 2018,
    without momentum and with new roots each step: an SVD of every side of every tensor, so it is meant for
    small networks. Its state, like the others', is tensors alone; the scalable variant keeps objects in its
    state, which a checkpoint without pickle cannot hold. AdaBelief and Shampoo count their steps in
    `param_groups[i]["step"]`, so a checkpoint must hold the groups' numbers beside the state.

    Raises
    ------
    ExpertError
        If the model has no trainable parameter.
    """
    groups = decay_groups(model, settings.weight_decay)
    if not groups:
        raise ExpertError("the network has no trainable parameter, so there is nothing to optimise.")
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    import pytorch_optimizer

    if settings.name == "adabelief":
        return pytorch_optimizer.AdaBelief(groups, lr=settings.learning_rate, weight_decouple=True)
    return pytorch_optimizer.Shampoo(
        groups, lr=settings.learning_rate, weight_decouple=True, momentum=0.0, preconditioning_compute_steps=1
    )


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups: matrices with decay; vectors, and whatever is named after a bias, gate, place or
    norm, without. Empty groups are left out.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    decayed = [parameter for name, parameter in named if _is_decayed(name, parameter)]
    others = [parameter for name, parameter in named if not _is_decayed(name, parameter)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def rate(step: int, steps: int, settings: Optimiser) -> float:
    """Share of the learning rate at `step` (from 0) of `steps`.

    It rises in a straight line over `warm_up_share` of the steps, then falls along a cosine (Loshchilov and
    Hutter 2017) to `floor_share`, in `cycles` stretches of which each begins at 1 and is `cycle_growth` times
    as long as the one before; from `steps` on it stays at the floor.
    """
    warm_up = max(1, round(steps * settings.warm_up_share))
    if step < warm_up:
        return (step + 1) / warm_up
    span, since = max(1, steps - warm_up), step - warm_up
    if since >= span:
        return settings.floor_share
    ends = _cycle_ends(span, settings.cycles, settings.cycle_growth)
    cycle = bisect.bisect_right(ends, since)
    begin, end = ends[cycle - 1] if cycle else 0, ends[cycle]
    fall = 0.5 * (1 + math.cos(math.pi * (since - begin) / (end - begin)))
    return settings.floor_share + (1 - settings.floor_share) * fall


def _cycle_ends(span: int, cycles: int, growth: float) -> list[int]:
    """The step at which each cycle is over, the last one at `span`."""
    if growth == 1:
        return [-(-number * span // cycles) for number in range(1, cycles + 1)]
    # From the end, where powers can't grow beyond what a float holds.
    whole = 1 - growth**-cycles
    shares = [(growth ** (number - cycles) - growth**-cycles) / whole for number in range(1, cycles)]
    return [*(math.ceil(span * share - WHOLE_STEPS) for share in shares), span]


@contextmanager
def clip_step_rms(optimiser: torch.optim.Optimizer, largest: float | None) -> Iterator[None]:
    """Within it, `optimiser.step()` moves no tensor by more than `largest` learning rates (root mean square
    over its elements); none: no limit.

    Update clipping of Shazeer and Stern 2018 (*Adafactor*, section 6): step / max(1, RMS(step) / largest).
    Weight decay is part of the step. Tensors within the limit keep their bits.
    """
    if largest is None:
        yield
        return
    before = [
        (p, p.detach().clone(), largest * group["lr"])
        for group in optimiser.param_groups
        for p in group["params"]
        if p.grad is not None
    ]
    yield
    with torch.no_grad():
        for parameter, start, limit in before:
            step = parameter - start
            factor = limit / step.square().mean().sqrt().clamp(min=torch.finfo(step.dtype).tiny)
            parameter.copy_(torch.where(factor < 1, start + factor * step, parameter))


class Average:
    """Exponential running average of a model's parameters, free of the bias towards the first weights.

    After n updates it is sum(decay^(n-i) w_i) / sum(decay^(n-i)): after the first update the weights
    themselves. Buffers are not averaged.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self.updates += 1
        share = (1 - self.decay) / (1 - self.decay**self.updates)
        own = dict(model.named_parameters())
        torch._foreach_lerp_(
            list(self.weights.values()), [own[name].detach() for name in self.weights], share
        )

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Put the averaged weights into the model."""
        own = dict(model.named_parameters())
        for name, weight in self.weights.items():
            own[name].copy_(weight)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Within it the model has the averaged weights; afterwards its own ones, bit for bit."""
        own = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(own[name])

    def state_dict(self) -> dict[str, Tensor]:
        """All it needs to go on, as tensors: `updates`, and `weights.<name of the parameter>`."""
        return {"updates": torch.tensor(self.updates)} | {
            f"weights.{name}": weight for name, weight in self.weights.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a `state_dict`; ExpertError where it is not one of this model."""
        wanted = {"updates"} | {f"weights.{name}" for name in self.weights}
        if set(state) != wanted:
            raise ExpertError(
                f"the saved average of weights is of another network: {sorted(wanted ^ set(state))[:5]}"
                " differ. Delete the checkpoint and train again."
            )
        self.updates = int(state["updates"])
        for name, weight in self.weights.items():
            weight.copy_(state[f"weights.{name}"])


def _is_decayed(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and not any(word in name for word in UNDECAYED)


def restore_optimiser(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Take over a saved state; JSON made lists of the groups' tuples."""
    groups = [
        {name: tuple(value) if isinstance(group.get(name), tuple) else value for name, value in found.items()}
        for group, found in zip(optimiser.param_groups, saved["param_groups"], strict=True)
    ]
    optimiser.load_state_dict({"state": saved["state"], "param_groups": groups})
