"""The bars as one float32 matrix, and batches of lookback windows gathered from it by row number.

Shapes: N rows sorted by (symbol, timestamp), F inputs, T tasks, B windows of a batch, L bars of lookback, K
values a bar, S windows that reach back beyond their symbol's first bar. A window is L rows that follow each
other, so it is a view into the matrix until its batch is drawn.
"""

import math
import queue
import threading
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from components.contracts import REGIMES
from components.experts.neural.arrays import PanelArrays
from components.experts.neural.batch import Batch

PREPARED_CHUNK = 65_536
BATCHES_AHEAD = 2
# The GPU holds the panel where it takes no more than this share of the memory that is free: what a network
# prepares of it may take as much again.
LARGEST_DEVICE_SHARE = 0.3


class Panel:
    """The bars as tensors, from which batches of windows are gathered by row number.

    They lie on the device where it has room for them. Otherwise they stay in the arrays of `bars`, without a
    copy, and each batch travels. With `whole_days` a batch's windows are placed by timestamp, so it must be
    given all rows of its timestamps.
    """

    def __init__(self, bars: PanelArrays, *, lookback: int, device: torch.device, whole_days: bool = False):
        self.bars, self.lookback, self.device, self.whole_days = bars, lookback, device, whole_days
        self.day_N = bars.day_N
        self.next_known_N = _next_known(bars.known_N)
        regime_NR = torch.zeros(len(bars.day_N), len(REGIMES))
        known = np.flatnonzero(bars.regime_N >= 0)
        regime_NR[known, bars.regime_N[known]] = 1.0
        tables = (
            torch.from_numpy(bars.inputs_NF),
            regime_NR,
            torch.from_numpy(bars.sector_N),
            torch.from_numpy(bars.industry_N),
        )
        if (
            device.type == "cuda"
            and sum(table.nbytes for table in tables)
            <= LARGEST_DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]
        ):
            tables = tuple(table.to(device) for table in tables)
        self.inputs_NF, self.regime_NR, self.sector_N, self.industry_N = tables

    def batch(self, rows_B: np.ndarray, prepared: Tensor | None = None) -> Batch:
        """The windows that end with each of `rows_B`, on the device; with `prepared` of what `prepared` made
        of the bars.
        """
        offsets_L = torch.arange(1 - self.lookback, 1, device=self.device)
        first_B = rows_B - np.minimum(self.bars.position_N[rows_B], self.lookback - 1)
        before_B = self._sent(torch.from_numpy(rows_B - self.next_known_N[first_B]))
        slot_B, days, slots = _slots(self.day_N[rows_B]) if self.whole_days else (None, 1, 0)
        regime_BR, sector_B, industry_B = (
            self._taken(table, rows_B) for table in (self.regime_NR, self.sector_N, self.industry_N)
        )
        return Batch(
            inputs_BLF=self._windows(self.inputs_NF if prepared is None else prepared, rows_B),
            began_BL=offsets_L + before_B[:, None] >= 0,
            regime_BR=regime_BR,
            sector_B=sector_B,
            industry_B=industry_B,
            slot_B=None if slot_B is None else self._sent(torch.from_numpy(slot_B)),
            days=days,
            slots=slots,
            prepared=prepared is not None,
            newest_BF=None if prepared is None else self._taken(self.inputs_NF, rows_B),
        )

    def prepared(self, network: torch.nn.Module) -> Tensor | None:
        """What the network's `prepare` makes of all bars [rows + 1, K], without gradients; None where it has
        none.
        """
        if not hasattr(network, "prepare"):
            return None
        sector_N = torch.cat([self.sector_N, self.sector_N.new_zeros(1)])
        with torch.no_grad():
            chunks = zip(self.inputs_NF.split(PREPARED_CHUNK), sector_N.split(PREPARED_CHUNK), strict=True)
            parts = [
                network.prepare(inputs.to(self.device), sector.to(self.device)) for inputs, sector in chunks
            ]
            return torch.cat(parts).contiguous()

    def _windows(self, table_NK: Tensor, rows_B: np.ndarray) -> Tensor:
        """Windows [B, L, K] of a table whose last row stands for bars that a symbol does not have."""
        bars, width = self.lookback, table_NK.shape[1]
        if len(table_NK) >= bars:
            views = table_NK.as_strided((len(table_NK) - bars + 1, bars * width), (width, 1))
            windows_BLK = self._taken(views, np.maximum(rows_B - bars + 1, 0)).view(-1, bars, width)
        else:
            windows_BLK = table_NK.new_empty(len(rows_B), bars, width, device=self.device)
        short_S = np.flatnonzero(self.bars.position_N[rows_B] < bars - 1)
        if len(short_S):
            index_SL = window_rows(rows_B[short_S], self.bars.position_N, bars)
            windows_BLK[self._sent(torch.from_numpy(short_S))] = self._taken(table_NK, index_SL.ravel()).view(
                -1, bars, width
            )
        return windows_BLK

    def _taken(self, table_NK: Tensor, rows_B: np.ndarray) -> Tensor:
        """Rows of a table, on the device."""
        index_B = torch.from_numpy(rows_B)
        if table_NK.device.type == self.device.type:
            return table_NK.index_select(0, self._sent(index_B))
        out_BK = torch.empty(len(rows_B), *table_NK.shape[1:], dtype=table_NK.dtype, pin_memory=True)
        return torch.index_select(table_NK, 0, index_B, out=out_BK).to(self.device, non_blocking=True)

    def _sent(self, x: Tensor) -> Tensor:
        return x.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else x


def window_rows(rows_B: np.ndarray, position_N: np.ndarray, lookback: int) -> np.ndarray:
    """Row numbers [B, lookback] of the bars that end with each row, oldest first; `len(position_N)`, the row
    of zeros, where the symbol has no such bar.
    """
    offsets_L = np.arange(1 - lookback, 1)
    return np.where(
        position_N[rows_B][:, None] + offsets_L >= 0, rows_B[:, None] + offsets_L, len(position_N)
    )


def epoch_batches(
    rows: np.ndarray,
    day_N: np.ndarray,
    *,
    whole_days: bool,
    batch_windows: int,
    most_windows: int,
    seed: int,
    epoch: int,
) -> list[np.ndarray]:
    """The batches of one epoch: a draw of rows, or of whole timestamps, that `seed` and `epoch` fix.

    Rows are split evenly, `batch_windows` at most. Timestamps are added to a batch until it has
    `batch_windows`; the epoch ends before the one that would exceed `most_windows`, but has one at least.
    """
    generator = np.random.default_rng([seed, epoch])
    if not len(rows):
        return []
    if not whole_days:
        drawn = generator.permutation(rows)[:most_windows]
        return np.array_split(drawn, math.ceil(len(drawn) / batch_windows))
    by_day = rows[np.argsort(day_N[rows], kind="stable")]
    starts_D = np.flatnonzero(np.diff(day_N[by_day], prepend=-1))
    sizes_D = np.diff(starts_D, append=len(by_day))
    drawn_D = generator.permutation(len(starts_D))
    total_D = np.cumsum(sizes_D[drawn_D])
    days = max(1, int(np.searchsorted(total_D, most_windows, side="right")))
    drawn_D, total_D = drawn_D[:days], total_D[:days]
    ends = []
    while not ends or ends[-1] < total_D[-1]:
        full = np.searchsorted(total_D, (ends[-1] if ends else 0) + batch_windows)
        ends.append(int(total_D[min(full, days - 1)]))
    drawn = by_day[
        np.repeat(starts_D[drawn_D] - total_D + sizes_D[drawn_D], sizes_D[drawn_D]) + np.arange(total_D[-1])
    ]
    return np.split(drawn, ends[:-1])


def batches(panel: Panel, row_lists: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, Batch]]:
    """Each list of rows and its batch, in order.

    A thread gathers up to 2 batches ahead of the one in use, and ends with the iterator.
    """
    gathered: queue.SimpleQueue = queue.SimpleQueue()
    room, closed = threading.Semaphore(BATCHES_AHEAD), threading.Event()

    def gather() -> None:
        try:
            if panel.device.type == "cuda":
                torch.cuda.set_device(panel.device)
            for rows_B in row_lists:
                room.acquire()
                if closed.is_set():
                    return
                gathered.put((rows_B, panel.batch(rows_B)))
            gathered.put(None)
        except BaseException as error:
            gathered.put(error)

    thread = threading.Thread(target=gather, name="alphaloop-batches", daemon=True)
    thread.start()
    try:
        while (found := gathered.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            room.release()
            yield found
    finally:
        closed.set()
        room.release()
        thread.join()


def _slots(day_B: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Place of each window: its timestamp's number times the windows of the largest one, plus its place
    there; and both sizes.
    """
    _, number_B, sizes_D = np.unique(day_B, return_inverse=True, return_counts=True)
    order_B = np.argsort(number_B, kind="stable")
    place_B = np.empty(len(day_B), dtype=np.int64)
    place_B[order_B] = np.arange(len(day_B)) - np.repeat(np.cumsum(sizes_D) - sizes_D, sizes_D)
    slots = int(sizes_D.max())
    return number_B * slots + place_B, len(sizes_D), slots


def _next_known(known_N: np.ndarray) -> np.ndarray:
    """Number of the first row at or after each one that has a known input; the number of rows
    where none has.
    """
    numbers_N = np.where(known_N, np.arange(len(known_N)), len(known_N))
    return np.minimum.accumulate(numbers_N[::-1])[::-1]
