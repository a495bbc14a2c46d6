"""A fitted network that can be asked sample by sample, as one ONNX graph beside that of its windows.

Shapes: B symbols, A inputs, R regimes, C context columns, S numbers of a symbol's state, T samples.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from components.contracts import REGIMES, atomic_path
from components.experts.errors import ExpertError
from components.experts.neural.arrays import Codes, Scalers
from components.experts.neural.export import (
    CONTEXT,
    EXAMPLE_WINDOWS,
    FromWindows,
    output_names,
    save_graph,
)
from components.experts.neural.heads import ForecastModel
from components.scoring.stream import STATE, STATE_AFTER, STREAM_FILE, Stream

# Symbols and samples by which a graph is held to what the model says of whole windows, and how far it may be
# off: sums of Float32 in another order.
CHECKED_SYMBOLS, CHECKED_SAMPLES, LARGEST_GAP = 3, 24, 1e-5


class _FromSamples(nn.Module):
    """`sample` [B, A] as the rows are, missing values NaN; `begun` [B], 1 from the symbol's first sample on;
    `regime` [B, R]; `state` [B, S], zeros before the first sample; `context` [B, C] where codes are known.
    Gives what `FromWindows` gives, and the state after the sample.
    """

    def __init__(self, windows: FromWindows):
        super().__init__()
        self.windows = windows

    def forward(
        self,
        sample_BA: Tensor,
        begun_B: Tensor,
        regime_BR: Tensor,
        state_BS: Tensor,
        context_BC: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        batch = self.windows.batch(sample_BA[:, None], begun_B[:, None], regime_BR, context_BC)
        encoded, after_BS = self.windows.model.network.step(batch, state_BS)
        return (*self.windows.answer(encoded, batch), after_BS)


def export_stream(
    folder: Path,
    model: ForecastModel,
    scalers: Scalers,
    codes: Codes,
    lookback: int,
    classes: tuple[int, ...] = (),
    further: int = 0,
) -> None:
    """Write `stream.onnx`; nothing for a network that knows whole windows alone. Arguments as of
    `window_graph`.

    Raises
    ------
    ExpertError
        If the graph, asked sample by sample, says something else than the model does of whole windows.
    """
    if not hasattr(model.network, "step"):
        return
    model = model.cpu().eval()
    by_sample, by_window = (
        FromWindows(model, scalers, codes, bars, classes, further).eval() for bars in (1, lookback)
    )
    with_context = bool(codes.sectors or codes.industries)
    shapes = ((len(scalers.mean),), (), (len(REGIMES),), (model.network.state_size,))
    shapes += ((len(CONTEXT),),) if with_context else ()
    example = tuple(torch.zeros(EXAMPLE_WINDOWS, *shape) for shape in shapes)
    names = ["sample", "begun", "regime", STATE, "context"][: len(example)]
    with atomic_path(Path(folder) / STREAM_FILE) as temporary, tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / STREAM_FILE
        outputs = [*output_names(classes, further), STATE_AFTER]
        save_graph(_FromSamples(by_sample), example, names, outputs, path)
        refuse_other_answers(path, by_window, scalers, codes, lookback)
        temporary.write_bytes(path.read_bytes())


def refuse_other_answers(
    path: Path, windows: FromWindows, scalers: Scalers, codes: Codes, lookback: int
) -> None:
    """Refuse a graph that sample by sample says something else than the model of whole windows: of made-up
    samples of symbols of which one begins late.
    """
    samples_TBA, begun_TB = _made_up(scalers, lookback + CHECKED_SAMPLES)
    regime_BR = torch.eye(len(REGIMES))[:CHECKED_SYMBOLS]
    unknown_BC = np.full((CHECKED_SYMBOLS, len(CONTEXT)), np.nan, np.float32)
    context = {"context": unknown_BC} if codes.sectors or codes.industries else {}
    stream = Stream(path, CHECKED_SYMBOLS)
    for number in range(len(samples_TBA)):
        found = stream(
            sample=samples_TBA[number].numpy(),
            begun=begun_TB[number].numpy(),
            regime=regime_BR.numpy(),
            **context,
        )
        begin = number + 1 - lookback
        if begin < 0:
            continue
        past = (samples_TBA[begin : number + 1], begun_TB[begin : number + 1])
        given = [part.transpose(0, 1).contiguous() for part in past]
        with torch.no_grad():
            wanted = windows(*given, regime_BR, *(torch.from_numpy(value) for value in context.values()))
        _refuse_gap(found, wanted if isinstance(wanted, tuple) else (wanted,), number)


def _refuse_gap(found: dict[str, np.ndarray], wanted: tuple[Tensor, ...], number: int) -> None:
    for (name, said), whole in zip(found.items(), wanted, strict=True):
        gap = np.abs(said - whole.numpy())
        if not (gap <= LARGEST_GAP * (1 + np.abs(whole.numpy()))).all():
            raise ExpertError(
                f"The graph that answers sample by sample gives another {name!r} than the trained model does"
                f" of the whole window: they are up to {np.nanmax(gap):.2g} apart at sample {number + 1},"
                f" {LARGEST_GAP:g} is rounding. Nothing was exported. The network's `step` and `forward`"
                " differ, or torch or onnxruntime have a fault: compare them with the versions in"
                " requirements.lock."
            )


def _made_up(scalers: Scalers, count: int) -> tuple[Tensor, Tensor]:
    """Samples [T, B, A] in the model's own units with missing values, and where each symbol has begun [T, B]:
    the last one late, within the newest window.
    """
    generator = torch.Generator().manual_seed(0)
    mean_A, deviation_A = (torch.tensor(values) for values in (scalers.mean, scalers.deviation))
    noise_TBA = torch.randn(count, CHECKED_SYMBOLS, len(mean_A), generator=generator)
    samples_TBA = mean_A + 1.5 * noise_TBA * deviation_A
    samples_TBA[torch.rand(samples_TBA.shape, generator=generator) < 0.05] = torch.nan
    begun_TB = torch.ones(count, CHECKED_SYMBOLS)
    begun_TB[: count - CHECKED_SAMPLES // 2, -1] = 0.0
    samples_TBA[begun_TB == 0] = torch.nan
    return samples_TBA, begun_TB
