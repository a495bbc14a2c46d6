"""A fitted neural expert as one ONNX graph, from windows of raw inputs to score and quantiles: scalers,
clipping, missing values and codes included.

Shapes: B windows, L bars, A inputs, S regimes, K known codes.
"""

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from components.contracts import INDUSTRY_COLUMN, REGIMES, SECTOR_COLUMN
from components.experts.errors import ExpertError
from components.experts.neural.arrays import CLIP_DEVIATIONS, Codes, Scalers
from components.experts.neural.batch import Batch, Encoded
from components.experts.neural.heads import ForecastModel
from components.scoring.form import FURTHER_OUTPUTS
from components.scoring.graph import Graph

CONTEXT = (SECTOR_COLUMN, INDUSTRY_COLUMN)
# Any size but 1, which the exporter would take for a constant.
EXAMPLE_WINDOWS = 3
# A graph must answer so many made-up windows as the model does, up to the rounding of Float32 sums in another
# order: measured gaps are some 1e-6, the scores of a market 0.1 to 1 apart.
CHECKED_WINDOWS, LARGEST_GAP = 48, 1e-4
LARGEST_FLOAT = torch.finfo(torch.float32).max


class FromWindows(nn.Module):
    """`window` [B, L, A] as the bars are, missing values NaN; `begun` [B, L], 1 from the symbol's first bar
    on; `regime` [B, S] one-hot; `context` [B, 2] sector and industry code, NaN where unknown. Gives raw score
    [B] and quantiles [B, 3] of the first task; where `classes` names places of the direction head, their
    logits [B, C] instead. With `further`, the number of tasks after the first, scores [B, T] and quantiles
    [B, T, 3] of these.
    """

    def __init__(
        self,
        model: ForecastModel,
        scalers: Scalers,
        codes: Codes,
        lookback: int,
        classes: tuple[int, ...] = (),
        further: int = 0,
    ):
        super().__init__()
        self.model, self.classes, self.tasks = model, list(classes), further + 1
        # Once for each bar of a window: one long row is scaled several times as fast as many short ones.
        mean_A, deviation_A = (
            torch.tensor(values, dtype=torch.float32) for values in (scalers.mean, scalers.deviation)
        )
        self.register_buffer("mean_X", mean_A.repeat(lookback))
        self.register_buffer("inverse_X", (1.0 / deviation_A).repeat(lookback))
        self.register_buffer("sector_K", torch.tensor(codes.sectors, dtype=torch.float32))
        self.register_buffer("industry_K", torch.tensor(codes.industries, dtype=torch.float32))

    def forward(
        self, window_BLA: Tensor, begun_BL: Tensor, regime_BS: Tensor, context_BC: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        batch = self.batch(window_BLA, begun_BL, regime_BS, context_BC)
        return self.answer(self.model.network(batch), batch)

    def batch(
        self, window_BLA: Tensor, begun_BL: Tensor, regime_BS: Tensor, context_BC: Tensor | None
    ) -> Batch:
        """What the network is given."""
        window_BX = window_BLA.flatten(1)
        scaled_BX = ((window_BX - self.mean_X) * self.inverse_X).clamp(-CLIP_DEVIATIONS, CLIP_DEVIATIONS)
        # False for NaN as well as for infinities.
        inputs_BX = torch.where(window_BX.abs() <= LARGEST_FLOAT, scaled_BX, 0.0)
        inputs_BLA = inputs_BX.view(window_BLA.shape)
        unknown_B = (begun_BL[:, -1] * 0).long()
        sector_B = unknown_B if context_BC is None else _numbers(context_BC[:, 0], self.sector_K)
        industry_B = unknown_B if context_BC is None else _numbers(context_BC[:, 1], self.industry_K)
        return Batch(inputs_BLA, begun_BL > 0, regime_BS, sector_B, industry_B)

    def answer(self, encoded: Encoded, batch: Batch) -> tuple[Tensor, ...]:
        """What is told of what the network made of the batch."""
        outputs = self.model.answer(encoded, batch)
        further = (outputs.score_BT[:, 1 : self.tasks], outputs.quantiles_BT3[:, 1 : self.tasks])
        own = (
            (outputs.direction_BC[:, self.classes],)
            if self.classes
            else (outputs.score_BT[:, 0], outputs.quantiles_BT3[:, 0])
        )
        return (*own, *further) if self.tasks > 1 else own


def _numbers(code_B: Tensor, known_K: Tensor) -> Tensor:
    """1 to K for the known codes, 0 for any other."""
    places_K = torch.arange(1, len(known_K) + 1, dtype=torch.float32)
    return ((code_B[:, None] == known_K[None]).float() * places_K).sum(dim=1).long()


def window_graph(
    model: ForecastModel,
    scalers: Scalers,
    codes: Codes,
    lookback: int,
    classes: tuple[int, ...] = (),
    further: int = 0,
) -> bytes:
    """The graph with inputs `window`, `begun`, `regime` and, where codes are known, `context`; outputs `raw`
    and `quantiles`, of `classes` their logits `raw` alone, and FURTHER_OUTPUTS where there are `further`
    tasks; any number of windows.

    Raises
    ------
    ExpertError
        If the graph does not answer as the model does.
    """
    module = FromWindows(model.cpu().eval(), scalers, codes, lookback, classes, further).eval()
    with_context = bool(codes.sectors or codes.industries)
    shapes = (
        (lookback, len(scalers.mean)),
        (lookback,),
        (len(REGIMES),),
        *(((len(CONTEXT),),) if with_context else ()),
    )
    example = tuple(torch.zeros(EXAMPLE_WINDOWS, *shape) for shape in shapes)
    names = ["window", "begun", "regime", "context"][: len(example)], output_names(classes, further)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        save_graph(module, example, *names, path)
        _refuse_other_answers(path, module, *names, example)
        return path.read_bytes()


def output_names(classes: tuple[int, ...], further: int) -> list[str]:
    """What a graph of the classes, or of a number, and of so many further tasks gives."""
    return [*(["raw"] if classes else ["raw", "quantiles"]), *(FURTHER_OUTPUTS if further else ())]


def save_graph(
    module: nn.Module,
    example: tuple[Tensor, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    path: Path,
) -> None:
    """Write a module as a graph that takes any number of rows."""
    rows = torch.export.Dim("B", min=1)
    names = {"input_names": input_names, "output_names": output_names}
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Deprecations inside torch, and that B and B are the same.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, example, dynamo=True, dynamic_shapes=({0: rows},) * len(example), verbose=False, **names
        )
    program.save(path, external_data=False)


def _refuse_other_answers(
    path: Path,
    module: FromWindows,
    input_names: Sequence[str],
    output_names: Sequence[str],
    example: Sequence[Tensor],
) -> None:
    """Refuse a graph that does not answer as the model does: parts of it are written for speed in another
    form than the one that was trained.
    """
    asked = checked_windows(module, [part.shape[1:] for part in example])
    with torch.no_grad():
        answer = module(*asked)
    expected = answer if isinstance(answer, tuple) else (answer,)
    shapes = {name: tuple(part.shape[1:]) for name, part in zip(input_names, example, strict=True)}
    given = {name: part.numpy() for name, part in zip(input_names, asked, strict=True)}
    found = Graph(path, shapes, output_names, threads=1)(**given)
    for name, wanted in zip(output_names, expected, strict=True):
        gap = np.abs(found[name] - wanted.double().numpy())
        allowed = LARGEST_GAP * (1 + np.abs(wanted.double().numpy()))
        if not (gap <= allowed).all():
            raise ExpertError(
                f"The graph that would be served gives another {name!r} than the trained model: they are up"
                f" to {np.nanmax(gap):.2g} apart on {CHECKED_WINDOWS} windows, {LARGEST_GAP:g} is rounding."
                " Nothing was exported. A layer of the network does something else while it is exported, or"
                " torch or onnxruntime have a fault: compare them with the versions in requirements.lock."
            )


def checked_windows(module: FromWindows, shapes: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """Windows in the model's own units with missing values, infinities and late beginnings; each regime and
    none; known codes and unknown ones.
    """
    generator = torch.Generator().manual_seed(0)
    lookback, inputs = shapes[0]
    noise_BX = torch.randn(CHECKED_WINDOWS, lookback * inputs, generator=generator)
    window_BX = module.mean_X + 1.5 * noise_BX / module.inverse_X
    window_BX[torch.rand(window_BX.shape, generator=generator) < 0.05] = torch.nan
    window_BX[0, 0], window_BX[1, -1] = torch.inf, -torch.inf
    window_BLA = window_BX.view(-1, lookback, inputs)
    begins_B1 = torch.randint(-lookback, lookback, (CHECKED_WINDOWS, 1), generator=generator)
    begun_BL = (torch.arange(lookback) >= begins_B1).float()
    window_BLA[begun_BL == 0] = torch.nan
    regime_BS = torch.eye(shapes[2][0] + 1)[torch.arange(CHECKED_WINDOWS) % (shapes[2][0] + 1), :-1]
    context = [
        torch.cat([codes_K, torch.tensor([-1.0, torch.nan])])[
            torch.arange(CHECKED_WINDOWS) % (len(codes_K) + 2)
        ]
        for codes_K in (module.sector_K, module.industry_K)
    ]
    parts = (window_BLA, begun_BL, regime_BS, torch.stack(context, dim=1))
    return parts[: len(shapes)]
