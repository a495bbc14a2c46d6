"""The training frame as one float32 matrix of bars, and batches of lookback windows gathered from it by row
number.

Shapes: N rows sorted by (symbol, timestamp), F inputs, T tasks, B windows of a batch, L bars of lookback, K
values a bar, S windows that reach back beyond their symbol's first bar. A window is L rows that follow each
other, so it is a view into the matrix until its batch is drawn.
"""

import math
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from components.contracts import INDUSTRY_COLUMN, REGIME_COLUMN, REGIMES, SECTOR_COLUMN, VOLATILITY_COLUMN
from components.experts.bands import SMALLEST_VOLATILITY
from components.experts.neural.batch import Batch

CLIP_DEVIATIONS = 5.0
SMALLEST_DEVIATION = 1e-8
WEIGHT_COLUMN = "weight"
PREPARED_CHUNK = 65_536
BATCHES_AHEAD = 2
# The GPU holds the panel where it takes no more than this share of the memory that is free: what a network
# prepares of it may take as much again.
LARGEST_DEVICE_SHARE = 0.3


@dataclass(frozen=True)
class Scalers:
    """Statistics of the labelled train rows: per input its mean and standard deviation, and the median
    volatility of one bar (the labels' deviation where there is none).
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    volatility: float


@dataclass(frozen=True)
class Codes:
    """Codes of the sectors and industries of the labelled train rows, ascending; empty where the frame has
    none. A row's number is 1 + the place of its code.
    """

    sectors: tuple[float, ...]
    industries: tuple[float, ...]


@dataclass(frozen=True)
class PanelArrays:
    """The frame as arrays, sorted by (symbol, timestamp).

    inputs_NF : float32 [rows + 1, inputs], standardised, missing values 0; the last row is all zeros
    position_N : how many bars of the same symbol stand before the row
    regime_N : code of the regime, an index into REGIMES, -1 where unknown
    sector_N, industry_N : int64, from 1 in the order of `Codes`; 0 where unknown
    volatility_N : standard deviation of one-bar log returns; the median stands in for a missing one, a tenth
        of it is the least
    labels_NT : float64, the labels in return units: `label`, `also_0`, `also_1`, ...; NaN where there is none
    weight_N : float32, how much a train row counts; 1 where the frame does not say
    day_N : number of the row's timestamp
    frame_row_N : row of the frame that this one came from
    part_N : what the row is for, as in the frame
    known_N : [rows + 1], whether any input of the row is finite; False for the last row
    """

    inputs_NF: np.ndarray
    position_N: np.ndarray
    regime_N: np.ndarray
    sector_N: np.ndarray
    industry_N: np.ndarray
    volatility_N: np.ndarray
    labels_NT: np.ndarray
    weight_N: np.ndarray
    day_N: np.ndarray
    frame_row_N: np.ndarray
    part_N: pl.Series
    known_N: np.ndarray

    @property
    def label_N(self) -> np.ndarray:
        """The label of the first task, in return units, NaN where there is none."""
        return self.labels_NT[:, 0]

    def rows(self, part: str, *, labelled: bool = False) -> np.ndarray:
        """Numbers of the rows of one part in the frame's order, with `labelled` only those that have a finite
        label.
        """
        wanted = (self.part_N == part).to_numpy()
        numbers = np.flatnonzero(wanted & np.isfinite(self.label_N) if labelled else wanted)
        return numbers[np.argsort(self.frame_row_N[numbers])]


def fit_scalers(frame: pl.DataFrame, groups: Mapping[str, str]) -> Scalers:
    """Mean and standard deviation of each input over the finite values of the labelled `train` rows; a
    constant input gets deviation 1.
    """
    train = frame.lazy().filter((pl.col("part") == "train") & pl.col("label").is_finite())
    finite = {name: _finite(name) for name in groups}
    row = train.select(
        *(value.mean().alias(f"{name}.mean") for name, value in finite.items()),
        *(value.std(ddof=0).alias(f"{name}.deviation") for name, value in finite.items()),
        _finite(VOLATILITY_COLUMN).median().alias("volatility"),
        _finite("label").std(ddof=0).alias("label_deviation"),
    ).collect()
    values = row.row(0, named=True)
    deviations = (values[f"{name}.deviation"] for name in groups)
    return Scalers(
        mean=tuple(float(values[f"{name}.mean"] or 0.0) for name in groups),
        deviation=tuple(float(d) if d is not None and d > SMALLEST_DEVIATION else 1.0 for d in deviations),
        volatility=next(
            (
                float(value)
                for value in (values["volatility"], values["label_deviation"])
                if value and value > SMALLEST_DEVIATION
            ),
            1.0,
        ),
    )


def fit_codes(frame: pl.DataFrame) -> Codes:
    """The distinct finite codes of sector and industry among the labelled `train` rows."""
    train = frame.lazy().filter((pl.col("part") == "train") & pl.col("label").is_finite())

    def distinct(name: str) -> tuple[float, ...]:
        return (
            tuple(train.select(_finite(name).drop_nulls().unique().sort()).collect().to_series())
            if name in frame.columns
            else ()
        )

    return Codes(distinct(SECTOR_COLUMN), distinct(INDUSTRY_COLUMN))


def arrange(frame: pl.DataFrame, groups: Mapping[str, str], scalers: Scalers, codes: Codes) -> PanelArrays:
    """Sort by symbol and time, standardise the inputs by `scalers`, clip at 5 deviations, and put 0 where a
    value is missing.

    Takes 4 bytes an input and row beside the frame; one column at a time is held in float64.
    """
    order = frame.select(pl.arg_sort_by("symbol", "timestamp")).to_series()
    inputs_NF = np.zeros((len(frame) + 1, len(groups)), dtype=np.float32)
    known_N = np.zeros(len(frame) + 1, dtype=bool)
    for number, (name, mean, deviation) in enumerate(
        zip(groups, scalers.mean, scalers.deviation, strict=True)
    ):
        scaled = (
            ((_finite(name) - mean) / deviation)
            .clip(-CLIP_DEVIATIONS, CLIP_DEVIATIONS)
            .fill_null(0.0)
            .cast(pl.Float32)
        )
        inputs_NF[:-1, number] = frame.select(scaled).to_series()[order].to_numpy()
    known = frame.select(pl.any_horizontal(_finite(name).is_not_null() for name in groups)).to_series()
    known_N[:-1] = known[order].to_numpy()
    labels = ["label", *_further_labels(frame)]
    context = frame.select(
        pl.col("symbol"),
        pl.col("part"),
        *(_column_or(frame, name, None) for name in (*labels, SECTOR_COLUMN, INDUSTRY_COLUMN)),
        _column_or(frame, WEIGHT_COLUMN, 1.0),
        pl.col("timestamp").rank("dense").cast(pl.Int64).alias("day"),
        pl.col(REGIME_COLUMN).cast(pl.Float64).fill_nan(None).alias("regime"),
        _finite(VOLATILITY_COLUMN).fill_null(scalers.volatility).alias("volatility"),
    )[order]
    regime = context["regime"].fill_null(-1.0).to_numpy().astype(np.int64)
    return PanelArrays(
        inputs_NF=inputs_NF,
        position_N=_positions(context["symbol"]),
        regime_N=np.where((regime >= 0) & (regime < len(REGIMES)), regime, -1),
        sector_N=_numbered(context[SECTOR_COLUMN], codes.sectors),
        industry_N=_numbered(context[INDUSTRY_COLUMN], codes.industries),
        volatility_N=np.maximum(context["volatility"].to_numpy(), SMALLEST_VOLATILITY * scalers.volatility),
        labels_NT=np.stack([context[name].fill_null(float("nan")).to_numpy() for name in labels], axis=1),
        weight_N=context[WEIGHT_COLUMN].fill_null(1.0).to_numpy().astype(np.float32),
        day_N=context["day"].to_numpy(),
        frame_row_N=order.to_numpy().astype(np.int64),
        part_N=context["part"],
        known_N=known_N,
    )


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


def _finite(name: str) -> pl.Expr:
    value = pl.col(name).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value)


def _column_or(frame: pl.DataFrame, name: str, otherwise: float | None) -> pl.Expr:
    return _finite(name).alias(name) if name in frame.columns else pl.lit(otherwise, pl.Float64).alias(name)


def _further_labels(frame: pl.DataFrame) -> list[str]:
    """`also_0`, `also_1`, ... as far as the frame has them."""
    found = []
    while f"also_{len(found)}" in frame.columns:
        found.append(f"also_{len(found)}")
    return found


def _numbered(code: pl.Series, known: tuple[float, ...]) -> np.ndarray:
    """1 + place of each code among the known ones, 0 where it is none of them."""
    if not known:
        return np.zeros(len(code), dtype=np.int64)
    values, places = code.fill_null(float("nan")).to_numpy(), np.array(known)
    found = np.minimum(np.searchsorted(places, values), len(places) - 1)
    return np.where(places[found] == values, found + 1, 0).astype(np.int64)


def _positions(symbol: pl.Series) -> np.ndarray:
    """Number of earlier bars of the same symbol, for symbols that stand together."""
    if symbol.is_empty():
        return np.zeros(0, dtype=np.int64)
    starts = np.concatenate([[True], (symbol[1:] != symbol[:-1]).to_numpy()])
    numbers = np.arange(len(symbol))
    return numbers - np.maximum.accumulate(np.where(starts, numbers, 0))
