"""Several processes that share each batch of a training, one a GPU, started by torchrun.

Each process works on its part of a batch and is shown the outputs of all, so that the loss is that of the
whole batch, also where it cannot be split, such as a correlation. Without torchrun everything here does
nothing, and torch is not imported.
"""

import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.contracts import ContractError, atomic_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TIMEOUT_SECONDS = 1800


@dataclass(frozen=True)
class World:
    """The number of this process and how many there are."""

    rank: int
    size: int


def world() -> World:
    """This process among those that `setup` joined; (0, 1) where there is only this one."""
    if "torch" not in sys.modules:
        return World(0, 1)
    from torch import distributed

    return (
        World(distributed.get_rank(), distributed.get_world_size())
        if distributed.is_available() and distributed.is_initialized()
        else World(0, 1)
    )


def is_main() -> bool:
    """Whether this process writes files, reports and logs."""
    return world().rank == 0


@contextmanager
def setup(timeout_seconds: int = TIMEOUT_SECONDS) -> Iterator[World]:
    """Join the processes that torchrun started: over NCCL where there are GPUs, over Gloo otherwise.

    A process that waits for the others for longer than `timeout_seconds` fails.

    Raises
    ------
    ContractError
        If there are fewer GPUs than processes on this machine.
    """
    import torch
    from torch import distributed

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        if here > torch.cuda.device_count():
            raise ContractError(
                f"The leaf asks for processes: {here}, but this machine has {torch.cuda.device_count()}"
                " GPU(s). Set processes to that number or less."
            )
        torch.cuda.set_device(local_gpu())
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(seconds=timeout_seconds))
    try:
        yield world()
    finally:
        distributed.destroy_process_group()


def local_gpu() -> int:
    """Number of this process's GPU on its machine."""
    import torch

    return int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()


def wait() -> None:
    """Return when all processes have come here."""
    if world().size == 1:
        return
    import torch
    from torch import distributed

    # A sum needs every process; the main one would leave a broadcast as soon as it has sent. Reading it waits
    # for the device too.
    arrived = torch.ones(1, device=_device())
    distributed.all_reduce(arrived)
    arrived.item()


def agreed(value: float) -> float:
    """The main process's value, in every process."""
    if world().size == 1:
        return value
    import torch
    from torch import distributed

    held = torch.tensor([value], dtype=torch.float64, device=_device())
    distributed.broadcast(held, src=0)
    return float(held)


def share_weights(model: "torch.nn.Module") -> None:
    """Give every process the main one's parameters and buffers."""
    if world().size == 1:
        return
    import torch
    from torch import distributed

    with torch.no_grad():
        for value in model.state_dict().values():
            held = value.detach().contiguous().to(_device())
            distributed.broadcast(held, src=0)
            value.copy_(held)


@contextmanager
def shared_path(path: Path) -> Iterator[Path]:
    """`atomic_path` for the main process, and for the others a scratch place that is thrown away.

    All of them leave it together.
    """
    if is_main():
        with atomic_path(path) as temporary:
            yield temporary
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch) / Path(path).name
    wait()


@dataclass(frozen=True)
class Shard:
    """This process's rows of a batch.

    A batch may have too few for all: `counted` False says that the rows only keep the process in step.
    """

    rows_B: np.ndarray
    counted: bool = True


def shard(rows_B: np.ndarray, day_N: np.ndarray, *, whole_days: bool) -> Shard:
    """This process's part of a batch, in the batch's order: an even share of the rows, or whole days that
    come closest to it.
    """
    here = world()
    if here.size == 1:
        return Shard(rows_B)
    borders = np.linspace(0, len(rows_B), here.size + 1).round().astype(np.int64)
    starts = np.arange(len(rows_B) + 1)
    if whole_days:
        day_B = day_N[rows_B]
        starts = np.append(np.flatnonzero(np.diff(day_B, prepend=day_B[0] - 1)), len(rows_B))
        borders = starts[np.abs(starts[None] - borders[:, None]).argmin(axis=1)]
    part = rows_B[borders[here.rank] : borders[here.rank + 1]]
    return Shard(part) if len(part) else Shard(rows_B[: starts[1]], counted=False)


def gathered(tree: Any, shard: Shard) -> Any:
    """Outputs and targets of all processes in place of this one's, in the order of the batch.

    Parameters
    ----------
    tree : dataclasses, mappings, lists and tuples of tensors. A tensor of rows [B, ...] becomes that of all
        rows, a scalar the mean over the rows of all; other things are left alone. Gradients reach this
        process's own part only: summed over the processes they are those of the whole batch
    """
    here = world()
    if here.size == 1:
        return tree
    import torch

    leaves = list(_tensors(tree))
    counted = [x if x.ndim == 0 or shard.counted else x[:0] for x in leaves]
    rows = len(shard.rows_B) if shard.counted else 0
    sizes = torch.stack(
        _all_gather(torch.tensor([rows, *(1 if x.ndim == 0 else len(x) for x in counted)], device=_device()))
    ).cpu()
    parts = _exchanged(counted, sizes[:, 1:].tolist(), here)
    weights = (sizes[:, 0].double() / sizes[:, 0].sum()).tolist()
    results = [
        (
            torch.cat(part_P)
            if part_P[0].ndim
            else sum(weight * part for weight, part in zip(weights, part_P, strict=True))
        )
        for part_P in parts
    ]
    return _replaced(tree, iter(results))


def sum_gradients(model: "torch.nn.Module") -> None:
    """Sum the gradients of all processes, in place. A parameter that got none anywhere keeps none."""
    if world().size == 1:
        return
    import torch
    from torch import distributed

    parameters = [p for p in model.parameters() if p.requires_grad]
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    flat = torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters] + [used]
    )
    distributed.all_reduce(flat)
    *gradients, used = flat.split([*(p.numel() for p in parameters), len(parameters)])
    for parameter, gradient, users in zip(parameters, gradients, used.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if users else None


def _device() -> "torch.device":
    import torch
    from torch import distributed

    return (
        torch.device("cuda", torch.cuda.current_device())
        if distributed.get_backend() == "nccl"
        else torch.device("cpu")
    )


def _all_gather(x: "Tensor") -> list["Tensor"]:
    import torch
    from torch import distributed

    found = [torch.empty_like(x) for _ in range(world().size)]
    distributed.all_gather(found, x)
    return found


def _exchanged(own: list["Tensor"], sizes_PX: list[list[int]], here: World) -> list[list["Tensor"]]:
    """Each tensor as every process has it, this one's own with its gradient.

    All tensors of a process travel as one run of bytes.
    """
    import torch

    device = _device()
    shapes_PX = [
        [x.shape if x.ndim == 0 else (size, *x.shape[1:]) for x, size in zip(own, sizes, strict=True)]
        for sizes in sizes_PX
    ]
    bytes_PX = [
        [int(np.prod(shape, dtype=np.int64)) * x.element_size() for x, shape in zip(own, shapes, strict=True)]
        for shapes in shapes_PX
    ]
    sent = torch.zeros(max(sum(lengths) for lengths in bytes_PX), dtype=torch.uint8, device=device)
    sent[: sum(bytes_PX[here.rank])] = torch.cat(
        [x.detach().contiguous().reshape(-1).view(torch.uint8).to(device) for x in own]
    )
    parts: list[list[Tensor]] = [[] for _ in own]
    for rank, received in enumerate(_all_gather(sent)):
        pieces = received[: sum(bytes_PX[rank])].split(bytes_PX[rank])
        for number, (x, piece) in enumerate(zip(own, pieces, strict=True)):
            parts[number].append(
                x
                if rank == here.rank
                else piece.clone().view(x.dtype).view(shapes_PX[rank][number]).to(x.device)
            )
    return parts


def _tensors(tree: Any) -> Iterator["Tensor"]:
    """The tensors of a tree, in the order in which `_replaced` puts others in their place."""
    import torch

    if isinstance(tree, torch.Tensor):
        yield tree
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            yield from _tensors(getattr(tree, field.name))
    elif isinstance(tree, (Mapping, list, tuple)):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _tensors(value)


def _replaced(tree: Any, results: Iterator[Any]) -> Any:
    import torch

    if isinstance(tree, torch.Tensor):
        return next(results)
    if dataclasses.is_dataclass(tree):
        return dataclasses.replace(
            tree,
            **{
                field.name: _replaced(getattr(tree, field.name), results)
                for field in dataclasses.fields(tree)
            },
        )
    if isinstance(tree, Mapping):
        return {key: _replaced(value, results) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_replaced(value, results) for value in tree)
    return tree
