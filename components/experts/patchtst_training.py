"""Training of the PatchTST network: seeded batches, losses, schedule, early stopping; and its predictions for many rows.

Shapes: B windows, L bars of lookback, F factor inputs, R raw bar channels, K channels of all groups, Q inputs of the regime gate.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from components.contracts import REGIMES
from components.experts.patchtst_network import GroupwisePatchTST, Outputs
from components.experts.patchtst_windows import Bars, begun, window_rows
from components.experts.protocol import Advance

QUANTILES = (0.1, 0.5, 0.9)
CHANNEL_CHUNK = 65_536
REPORT_EVERY_BATCHES = 10


@dataclass(frozen=True)
class Columns:
    """Which inputs go where: the factor branch, the raw branch, and (beside the regime's code) the regime gate."""

    factors: tuple[int, ...]
    raw: tuple[int, ...]
    regime: tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """How the weights are learned; the units are those of `patchtst.Settings`."""

    epochs: int
    patience_epochs: int
    max_train_windows: int
    batch: str
    batch_windows: int
    predict_windows: int
    learning_rate: float
    weight_decay: float
    warm_up_share: float
    clip_norm: float
    gate_l1: float
    gate_cost: float
    loss: str
    pinball_weight: float


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[torch.device]:
    """Seeded, deterministic torch with `threads` threads; the caller's own state is put back at the end. Yields the device to use."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads_before, strict_before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only_before = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[0] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield device
        finally:
            torch.use_deterministic_algorithms(strict_before, warn_only=warn_only_before)
            torch.set_num_threads(threads_before)


class Panel:
    """The bars on the device, from which batches of windows are gathered by row number."""

    def __init__(self, bars: Bars, columns: Columns, lookback: int, device: torch.device):
        self.bars, self.columns, self.lookback, self.device = bars, columns, lookback, device
        inputs = torch.from_numpy(bars.inputs_NF)
        everything = len(columns.factors) + len(columns.raw) == inputs.shape[1]
        in_order = everything and (*columns.factors, *columns.raw) == tuple(range(inputs.shape[1]))
        self.inputs_NA = (inputs if in_order else inputs[:, [*columns.factors, *columns.raw]]).to(device)
        regime_NQ = torch.zeros(len(inputs), len(columns.regime) + len(REGIMES))
        regime_NQ[:, : len(columns.regime)] = inputs[:, list(columns.regime)]
        known = np.flatnonzero(bars.regime_N >= 0)
        regime_NQ[known, len(columns.regime) + bars.regime_N[known]] = 1.0
        self.regime_NQ = regime_NQ.to(device)

    def windows(self, rows_B: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Factor inputs [B, L, F], raw bars [B, L, R], which bars exist [B, L], and the regime's inputs [B, Q]."""
        values_BLA, valid_BL, regime_BQ = self._gather(self.inputs_NA, rows_B)
        factors = len(self.columns.factors)
        return values_BLA[..., :factors], values_BLA[..., factors:], valid_BL, regime_BQ

    def channel_windows(self, channels_NK: Tensor, rows_B: np.ndarray, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `windows`, from bars whose first `width` columns are finished channels of the groups."""
        values_BLA, valid_BL, regime_BQ = self._gather(channels_NK, rows_B)
        return values_BLA[..., :width], values_BLA[..., width:], valid_BL, regime_BQ

    def channels_of_bars(self, network: GroupwisePatchTST) -> tuple[Tensor, int]:
        """Gate and mixing depend on one bar alone, so prediction makes them once a bar: [N, K + R], and K."""
        factors = len(self.columns.factors)
        if not factors:
            return self.inputs_NA, 0
        parts = [torch.cat([network.channels(chunk[:, :factors])[0], chunk[:, factors:]], dim=1) for chunk in self.inputs_NA.split(CHANNEL_CHUNK)]
        return torch.cat(parts), network.mixing_FK.shape[1]

    def _gather(self, table_NA: Tensor, rows_B: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        index_BL, _ = window_rows(rows_B, self.bars.position_N, self.lookback)
        valid_BL = begun(self.bars.known_N[index_BL])
        index = torch.from_numpy(index_BL).to(self.device)
        regime_BQ = self.regime_NQ[torch.from_numpy(rows_B).to(self.device)]
        return functional.embedding(index, table_NA), torch.from_numpy(valid_BL).to(self.device), regime_BQ


@dataclass(frozen=True)
class Targets:
    """For every row, NaN where unlabelled: the label by day in deviations (score), and in units of volatility (quantiles)."""

    score_N: np.ndarray
    quantile_N: np.ndarray


def train(
    network: GroupwisePatchTST,
    panel: Panel,
    targets: Targets,
    rows: np.ndarray,
    monitor: Callable[[], float] | None,
    recipe: Recipe,
    seed: int,
    advance: Advance,
) -> list[dict[str, float]]:
    """Learn from `rows`; with a `monitor` (higher is better) keep the weights of its best epoch. Returns loss and monitor of each epoch."""
    optimiser = torch.optim.AdamW(_decayed(network, recipe.weight_decay), lr=recipe.learning_rate)
    generator = np.random.default_rng(seed)
    steps_an_epoch = max(1, math.ceil(min(len(rows), recipe.max_train_windows) / recipe.batch_windows))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_up_and_cosine(recipe.epochs * steps_an_epoch, recipe.warm_up_share))
    history: list[dict[str, float]] = []
    best, best_value, stale = None, -math.inf, 0
    for epoch in range(recipe.epochs):
        network.train()
        losses = []
        for number, rows_B in enumerate(_batches(rows, panel.bars.day_N, recipe, generator)):
            losses.append(_step(network, panel, targets, rows_B, recipe, optimiser))
            if number < steps_an_epoch:
                schedule.step()
            if number % REPORT_EVERY_BATCHES == 0:
                advance((epoch + min(1.0, (number + 1) / steps_an_epoch)) / recipe.epochs, f"epoch {epoch + 1} of {recipe.epochs}, loss {losses[-1]:.3f}")
        history.append({"loss": float(np.mean(losses))})
        if monitor is None:
            continue
        value = monitor()
        history[-1]["monitor"] = value
        advance((epoch + 1) / recipe.epochs, f"epoch {epoch + 1}, loss {history[-1]['loss']:.3f}, monitor {value:.4f}")
        stale = 0 if value > best_value else stale + 1
        if best is None or value > best_value:
            best, best_value = {name: weight.detach().clone() for name, weight in network.state_dict().items()}, value
        if stale > recipe.patience_epochs:
            break
    if best is not None:
        network.load_state_dict(best)
    network.eval()
    return history


def predict(network: GroupwisePatchTST, panel: Panel, rows: np.ndarray, batch_windows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [B], quantiles [B, 3] in units of volatility, and regime-gate weights [B, G] of `rows`."""
    network.eval()
    outputs = []
    with torch.inference_mode():
        channels_NA, width = panel.channels_of_bars(network)
        for start in range(0, len(rows), batch_windows):
            out = network(*panel.channel_windows(channels_NA, rows[start : start + batch_windows], width))
            outputs.append((out.score_B.cpu(), out.quantiles_B3.cpu(), out.regime_gate_BG.float().cpu()))
    if not outputs:
        return np.zeros(0), np.zeros((0, 3)), np.zeros((0, network.sizes.groups))
    score, quantiles, gate = (torch.cat(parts).numpy().astype(np.float64) for parts in zip(*outputs, strict=True))
    return score, quantiles, gate


def gate_activation(network: GroupwisePatchTST, panel: Panel, rows: np.ndarray) -> np.ndarray:
    """Mean opening [F] of each factor input's gate over the bars of `rows`."""
    with torch.inference_mode():
        values = panel.inputs_NA[torch.from_numpy(rows).to(panel.device), : len(panel.columns.factors)]
        return network.gate.activation(values).mean(dim=0).cpu().numpy().astype(np.float64)


def losses(outputs: Outputs, score_target_B: Tensor, quantile_target_B: Tensor, segment_B: Tensor, recipe: Recipe) -> Tensor:
    """The score's loss plus the weighted pinball loss of the quantiles."""
    if recipe.loss == "huber":
        score_loss = functional.huber_loss(outputs.score_B, score_target_B)
    else:
        score_loss = 1.0 - segment_correlation(outputs.score_B, score_target_B, segment_B)
    return score_loss + recipe.pinball_weight * pinball(outputs.quantiles_B3, quantile_target_B)


def pinball(quantiles_B3: Tensor, target_B: Tensor) -> Tensor:
    """Mean pinball loss over the three quantiles (Koenker and Bassett 1978)."""
    error_B3 = target_B[:, None] - quantiles_B3
    levels_3 = torch.tensor(QUANTILES, dtype=error_B3.dtype, device=error_B3.device)
    return torch.maximum(levels_3 * error_B3, (levels_3 - 1) * error_B3).mean()


def segment_correlation(score_B: Tensor, target_B: Tensor, segment_B: Tensor) -> Tensor:
    """Pearson correlation after both lost the mean of their segment (a day, or the batch)."""
    segments = int(segment_B.max()) + 1
    score_B, target_B = _without_segment_mean(score_B, segment_B, segments), _without_segment_mean(target_B, segment_B, segments)
    return (score_B * target_B).sum() / (score_B.square().sum() * target_B.square().sum() + 1e-12).sqrt()


def _without_segment_mean(x_B: Tensor, segment_B: Tensor, segments: int) -> Tensor:
    total = x_B.new_zeros(segments).index_add(0, segment_B, x_B)
    count = x_B.new_zeros(segments).index_add(0, segment_B, torch.ones_like(x_B))
    return x_B - (total / count.clamp(min=1.0))[segment_B]


def _step(network: GroupwisePatchTST, panel: Panel, targets: Targets, rows_B: np.ndarray, recipe: Recipe, optimiser: torch.optim.Optimizer) -> float:
    factors_BLF, bars_BLR, valid_BL, regime_BQ = panel.windows(rows_B)
    score_B = torch.from_numpy(targets.score_N[rows_B]).float().to(panel.device)
    quantile_B = torch.from_numpy(targets.quantile_N[rows_B]).float().to(panel.device)
    days = panel.bars.day_N[rows_B] if recipe.batch == "days" else np.zeros(len(rows_B), dtype=np.int64)
    segment_B = torch.from_numpy(np.unique(days, return_inverse=True)[1]).to(panel.device)
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=panel.device.type == "cuda"):
        penalty = torch.zeros((), device=panel.device)
        channels_BLK = factors_BLF
        if network.sizes.groups:
            channels_BLK, opening_F = network.channels(factors_BLF)
            penalty = recipe.gate_l1 * network.gate.l1() + recipe.gate_cost * opening_F.float().sum()
        outputs = network(channels_BLK, bars_BLR, valid_BL, regime_BQ)
    loss = losses(outputs, score_B, quantile_B, segment_B, recipe)
    (loss + penalty).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
    optimiser.step()
    return float(loss.detach())


def _batches(rows: np.ndarray, day_N: np.ndarray, recipe: Recipe, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of one epoch: a fresh seeded draw of rows, or of whole days, up to `max_train_windows`."""
    if recipe.batch == "rows":
        drawn = generator.permutation(rows)[: recipe.max_train_windows]
        pieces = math.ceil(len(drawn) / recipe.batch_windows)
        yield from np.array_split(drawn, max(1, pieces))
        return
    by_day = rows[np.argsort(day_N[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(day_N[by_day], prepend=-1))
    ends = np.append(starts[1:], len(by_day))
    pending: list[np.ndarray] = []
    waiting = drawn_windows = 0
    for day in generator.permutation(len(starts)):
        pending.append(by_day[starts[day] : ends[day]])
        waiting += len(pending[-1])
        drawn_windows += len(pending[-1])
        full = drawn_windows >= recipe.max_train_windows
        if waiting >= recipe.batch_windows or full:
            yield np.concatenate(pending)
            pending, waiting = [], 0
        if full:
            return
    if pending:
        yield np.concatenate(pending)


def _warm_up_and_cosine(steps: int, warm_up_share: float) -> Callable[[int], float]:
    warm_up = max(1, round(steps * warm_up_share))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))

    return factor


def _decayed(network: GroupwisePatchTST, weight_decay: float) -> list[dict]:
    """Weight decay for matrices only; W of the feature gate has its L1 instead."""
    kept = [p for name, p in network.named_parameters() if p.ndim >= 2 and "bias" not in name and "gate." not in name and "place" not in name]
    chosen = {id(p) for p in kept}
    return [{"params": kept, "weight_decay": weight_decay}, {"params": [p for p in network.parameters() if id(p) not in chosen], "weight_decay": 0.0}]
