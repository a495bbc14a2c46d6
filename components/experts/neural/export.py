"""A fitted neural expert as one ONNX graph, from windows of raw inputs to score and quantiles: scalers,
clipping, missing values and codes included.

Shapes: B windows, L bars, A inputs, S regimes, K known codes.
"""

import logging
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from components.contracts import INDUSTRY_COLUMN, REGIMES, SECTOR_COLUMN
from components.experts.neural.arrays import CLIP_DEVIATIONS, Codes, Scalers
from components.experts.neural.batch import Batch
from components.experts.neural.heads import ForecastModel
from components.scoring.form import FURTHER_OUTPUTS

CONTEXT = (SECTOR_COLUMN, INDUSTRY_COLUMN)
# Any size but 1, which the exporter would take for a constant.
EXAMPLE_WINDOWS = 3
LARGEST_FLOAT = torch.finfo(torch.float32).max


class _FromWindows(nn.Module):
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
        classes: tuple[int, ...] = (),
        further: int = 0,
    ):
        super().__init__()
        self.model, self.classes, self.tasks = model, list(classes), further + 1
        self.register_buffer("mean_A", torch.tensor(scalers.mean, dtype=torch.float32))
        self.register_buffer("inverse_A", 1.0 / torch.tensor(scalers.deviation, dtype=torch.float32))
        self.register_buffer("sector_K", torch.tensor(codes.sectors, dtype=torch.float32))
        self.register_buffer("industry_K", torch.tensor(codes.industries, dtype=torch.float32))

    def forward(
        self, window_BLA: Tensor, begun_BL: Tensor, regime_BS: Tensor, context_BC: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        scaled_BLA = ((window_BLA - self.mean_A) * self.inverse_A).clamp(-CLIP_DEVIATIONS, CLIP_DEVIATIONS)
        # False for NaN as well as for infinities.
        inputs_BLA = torch.where(window_BLA.abs() <= LARGEST_FLOAT, scaled_BLA, 0.0)
        unknown_B = (begun_BL[:, -1] * 0).long()
        sector_B = unknown_B if context_BC is None else _numbers(context_BC[:, 0], self.sector_K)
        industry_B = unknown_B if context_BC is None else _numbers(context_BC[:, 1], self.industry_K)
        outputs = self.model(Batch(inputs_BLA, begun_BL > 0, regime_BS, sector_B, industry_B))
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
    """
    module = _FromWindows(model.cpu().eval(), scalers, codes, classes, further).eval()
    with_context = bool(codes.sectors or codes.industries)
    shapes = (
        (lookback, len(scalers.mean)),
        (lookback,),
        (len(REGIMES),),
        *(((len(CONTEXT),),) if with_context else ()),
    )
    example = tuple(torch.zeros(EXAMPLE_WINDOWS, *shape) for shape in shapes)
    rows = torch.export.Dim("B", min=1)
    names = {
        "input_names": ["window", "begun", "regime", "context"][: len(example)],
        "output_names": [
            *(["raw"] if classes else ["raw", "quantiles"]),
            *(FURTHER_OUTPUTS if further else ()),
        ],
    }
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Deprecations inside torch, and that B and B are the same.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, example, dynamo=True, dynamic_shapes=({0: rows},) * len(example), verbose=False, **names
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        program.save(path, external_data=False)
        return path.read_bytes()
