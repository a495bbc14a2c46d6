"""Windows, codes, batches and their order: against slow loops, with gaps, late listings and symbols that
training never saw.
"""

import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.contracts import REGIMES
from components.experts.neural.arrays import Codes, Scalers, arrange, fit_codes, fit_scalers
from components.experts.neural.batch import Batch
from components.experts.neural.panel import BATCHES_AHEAD, Panel, batches, epoch_batches

GROUPS = {"fast": "trend", "slow": "trend", "market": "regime"}
START = datetime(2020, 1, 1, tzinfo=UTC)
CPU = torch.device("cpu")


def frame_of(
    bars: int, symbols: int, seed: int, *, kept: float = 1.0, unknown: float = 0.1, late: int = 0
) -> pl.DataFrame:
    """Noise; `kept` of the rows exist, `unknown` of the values do not, symbol i is listed `late * i` bars
    late, the last symbol is never a train row.
    """
    generator = np.random.default_rng(seed)
    day, symbol = np.repeat(np.arange(bars), symbols), np.tile(np.arange(symbols), bars)
    x = {name: generator.standard_normal(len(day)) for name in GROUPS}
    for values in x.values():
        values[generator.random(len(day)) < unknown] = generator.choice([np.nan, np.inf])
    part = np.where(day < 0.7 * bars, "train", np.where(day < 0.9 * bars, "early_stopping", "predict"))
    frame = pl.DataFrame(
        {
            "timestamp": [START + timedelta(days=int(d)) for d in day],
            "symbol": [f"S{i:02d}" for i in symbol],
            "part": np.where((part == "train") & (symbol == symbols - 1), "history", part),
            "label": 0.02 * generator.standard_normal(len(day)),
            "also_0": 0.05 * generator.standard_normal(len(day)),
            "regime_state": generator.integers(-1, 5, len(day)).astype(np.float32),
            "volatility_20": 0.02,
            "sector_code": (symbol % 3 * 10).astype(np.float32),
            "industry_code": np.where(symbol == 0, np.nan, symbol).astype(np.float32),
            "weight": generator.uniform(0.5, 2.0, len(day)).astype(np.float32),
            **x,
        }
    ).with_columns(pl.when(pl.col("part").is_in(["train", "early_stopping"])).then("label").alias("label"))
    return frame.filter(pl.Series((generator.random(len(day)) < kept) & (day >= late * symbol)))


def panel_of(frame: pl.DataFrame, lookback: int, whole_days: bool = False) -> Panel:
    bars = arrange(frame, GROUPS, fit_scalers(frame, GROUPS), fit_codes(frame), "1d")
    return Panel(bars, lookback=lookback, device=CPU, whole_days=whole_days)


def slow_windows(frame: pl.DataFrame, scalers: Scalers, lookback: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [N, L, F] and begun bars [N, L] of each row of the frame, by a loop over its symbol's earlier
    rows.
    """
    rows = list(frame.iter_rows(named=True))
    inputs = np.zeros((len(rows), lookback, len(GROUPS)), dtype=np.float32)
    begun = np.zeros((len(rows), lookback), dtype=bool)
    for number, row in enumerate(rows):
        past = sorted(
            (r for r in rows if r["symbol"] == row["symbol"] and r["timestamp"] <= row["timestamp"]),
            key=lambda r: r["timestamp"],
        )
        seen = False
        window = past[-lookback:]
        for place, bar in enumerate(window, start=lookback - len(window)):
            for column, name in enumerate(GROUPS):
                value = bar[name]
                if value is not None and np.isfinite(value):
                    seen = True
                    inputs[number, place, column] = np.clip(
                        (value - scalers.mean[column]) / scalers.deviation[column], -5, 5
                    )
            begun[number, place] = seen
    return inputs, begun


@given(
    st.integers(1, 14),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.sampled_from([0.5, 0.8, 1.0]),
    st.sampled_from([0.0, 0.1, 0.9]),
    st.integers(0, 3),
    st.integers(2, 18),
)
@settings(max_examples=60, deadline=None)
def test_windows_are_what_a_loop_gathers(bars, symbols, seed, kept, unknown, late, lookback):
    frame = frame_of(bars, symbols, seed, kept=kept, unknown=unknown, late=late)
    if frame.is_empty():
        return
    panel = panel_of(frame, lookback)
    inputs, begun = slow_windows(frame, fit_scalers(frame, GROUPS), lookback)
    rows = np.random.default_rng(seed).permutation(len(frame))
    batch = panel.batch(rows)
    np.testing.assert_allclose(batch.inputs_BLF.numpy(), inputs[panel.bars.frame_row_N[rows]], atol=1e-6)
    np.testing.assert_array_equal(batch.began_BL.numpy(), begun[panel.bars.frame_row_N[rows]])


def test_context_of_a_row_is_its_own():
    frame = frame_of(12, 5, 1, kept=0.8)
    panel = panel_of(frame, 4)
    rows = np.arange(len(frame))
    own = frame[panel.bars.frame_row_N[rows]]
    batch = panel.batch(rows)
    regime = own["regime_state"].cast(pl.Int64).to_numpy()
    expected = np.zeros((len(rows), len(REGIMES)), dtype=np.float32)
    known = (regime >= 0) & (regime < len(REGIMES))
    expected[np.flatnonzero(known), regime[known]] = 1
    np.testing.assert_array_equal(batch.regime_BR.numpy(), expected)
    number = own["symbol"].str.slice(1).cast(pl.Int64).to_numpy()
    np.testing.assert_array_equal(batch.sector_B.numpy(), number % 3 + 1)
    # Industry 0 is unknown (NaN), 4 belongs to the symbol that is never a labelled train row: the codes know
    # 1, 2 and 3.
    np.testing.assert_array_equal(
        batch.industry_B.numpy(), np.where((number == 0) | (number == 4), 0, number)
    )
    np.testing.assert_array_equal(panel.bars.labels_NT[:, 1], own["also_0"])
    np.testing.assert_array_equal(panel.bars.weight_N, own["weight"])
    assert batch.slot_B is None
    assert not batch.prepared


def test_codes_by_hand_and_unseen_ones_are_unknown():
    frame = frame_of(10, 4, 2)
    assert fit_codes(frame) == Codes((0.0, 10.0, 20.0), (1.0, 2.0))
    bars = arrange(
        frame.with_columns(sector_code=pl.lit(10.5), industry_code=pl.lit(2.0)),
        GROUPS,
        fit_scalers(frame, GROUPS),
        fit_codes(frame),
        "1d",
    )
    assert set(bars.sector_N) == {0}
    assert set(bars.industry_N) == {2}


def test_columns_that_a_frame_may_lack():
    frame = frame_of(10, 4, 3).drop("sector_code", "industry_code", "weight", "also_0")
    assert fit_codes(frame) == Codes((), ())
    bars = panel_of(frame, 3).bars
    assert not bars.sector_N.any()
    assert not bars.industry_N.any()
    assert bars.labels_NT.shape == (len(frame), 1)
    assert (bars.weight_N == 1).all()
    unlabelled = arrange(frame.drop("label"), GROUPS, fit_scalers(frame, GROUPS), Codes((), ()), "1d")
    assert np.isnan(unlabelled.labels_NT).all()


def test_what_is_fitted_knows_train_rows_only():
    frame = frame_of(20, 5, 4)
    labelled_train = (pl.col("part") == "train") & pl.col("label").is_not_null()
    columns = (*GROUPS, "sector_code", "industry_code", "volatility_20", "label")
    later = frame.with_columns(
        pl.when(labelled_train).then(name).otherwise(1e6).alias(name) for name in columns if name != "label"
    )
    assert fit_scalers(later, GROUPS) == fit_scalers(frame, GROUPS)
    assert fit_codes(later) == fit_codes(frame)
    planted = frame.with_columns(
        pl.when(labelled_train).then(1e6).otherwise("sector_code").alias("sector_code")
    )
    assert fit_codes(planted) != fit_codes(frame)


def test_rows_of_a_part_in_the_frames_order():
    frame = frame_of(12, 4, 5, kept=0.7)
    bars = panel_of(frame, 3).bars
    for part in ("train", "early_stopping", "predict"):
        assert (
            bars.frame_row_N[bars.rows(part)].tolist()
            == frame.with_row_index().filter(pl.col("part") == part)["index"].to_list()
        )
    assert np.isfinite(bars.label_N[bars.rows("train", labelled=True)]).all()
    assert not len(bars.rows("predict", labelled=True))


@pytest.mark.parametrize("whole_days", [False, True])
def test_the_future_does_not_reach_a_window(whole_days):
    frame = frame_of(20, 5, 6, kept=0.8)
    scalers, codes = fit_scalers(frame, GROUPS), fit_codes(frame)
    cut = START + timedelta(days=12)
    context = ("regime_state", "sector_code", "industry_code")
    later = frame.with_columns(
        pl.when(pl.col("timestamp") > cut).then(pl.col(name) * -50 + 7).otherwise(name).alias(name)
        for name in (*GROUPS, *context)
    )
    changed = (
        fields_by_row(frame, scalers, codes, cut, whole_days),
        fields_by_row(later, scalers, codes, cut, whole_days),
    )
    truncated = fields_by_row(frame.filter(pl.col("timestamp") <= cut), scalers, codes, cut, whole_days)
    for before, after, short in zip(changed[0], changed[1], truncated, strict=True):
        assert torch.equal(before, after)
        assert torch.equal(before, short)
    everything = START + timedelta(days=19)
    assert not torch.equal(
        fields_by_row(frame, scalers, codes, everything, whole_days)[0],
        fields_by_row(later, scalers, codes, everything, whole_days)[0],
    )


def fields_by_row(
    frame: pl.DataFrame, scalers: Scalers, codes: Codes, until: datetime, whole_days: bool
) -> tuple[torch.Tensor, ...]:
    """The tensors of one batch with all rows up to `until`."""
    bars = arrange(frame, GROUPS, scalers, codes, "1d")
    wanted = np.flatnonzero((frame["timestamp"] <= until).to_numpy()[bars.frame_row_N])
    batch = Panel(bars, lookback=4, device=CPU, whole_days=whole_days).batch(wanted)
    fields = (batch.inputs_BLF, batch.began_BL, batch.regime_BR, batch.sector_B, batch.industry_B)
    return (*fields, batch.slot_B) if whole_days else fields


@given(st.integers(1, 10), st.integers(1, 6), st.integers(0, 10**6), st.sampled_from([0.4, 1.0]))
@settings(max_examples=40, deadline=None)
def test_slots_hold_a_timestamp_each(bars, symbols, seed, kept):
    frame = frame_of(bars, symbols, seed, kept=kept)
    if frame.is_empty():
        return
    panel = panel_of(frame, 3, whole_days=True)
    rows = np.random.default_rng(seed).permutation(len(frame))
    batch = panel.batch(rows)
    sizes = frame.group_by("timestamp").len()["len"]
    assert (batch.days, batch.slots) == (len(sizes), sizes.max())
    assert len(set(batch.slot_B.tolist())) == len(rows)
    day_DS = batch.grid(torch.from_numpy(panel.day_N[rows])).numpy()
    filled_DS = batch.filled().numpy()
    for day_S, filled_S in zip(day_DS, filled_DS, strict=True):
        assert len(set(day_S[filled_S])) == 1
        assert filled_S[: filled_S.sum()].all()
    np.testing.assert_array_equal(np.unique(panel.day_N[rows], return_inverse=True)[1], batch.day().numpy())
    assert torch.equal(batch.rows(batch.grid(batch.inputs_BLF)), batch.inputs_BLF)


def test_other_days_rows_change_nothing_in_a_day():
    frame = frame_of(15, 6, 7, kept=0.7)
    panel = panel_of(frame, 5, whole_days=True)
    days = np.unique(panel.day_N)
    by_day = {day: np.flatnonzero(panel.day_N == day) for day in days}
    wanted = by_day[days[6]]
    alone = panel.batch(wanted)
    generator = np.random.default_rng(0)
    for _ in range(5):
        others = generator.permutation(
            np.concatenate([by_day[day] for day in generator.choice(days[days != days[6]], 5, replace=False)])
        )
        cut = generator.integers(0, len(others))
        among = panel.batch(np.concatenate([others[:cut], wanted, others[cut:]]))
        day = int(among.day()[cut])
        grid = among.grid(among.inputs_BLF)[day]
        assert torch.equal(grid[: len(wanted)], alone.inputs_BLF)
        assert not grid[len(wanted) :].any()


DRAWS = st.tuples(
    st.integers(1, 60),
    st.integers(1, 8),
    st.booleans(),
    st.integers(1, 40),
    st.integers(0, 10**6),
    st.integers(0, 5),
)


@given(DRAWS)
@settings(max_examples=80, deadline=None)
def test_an_epoch_covers_each_row_once(draw):
    count, symbols, whole_days, batch_windows, seed, epoch = draw
    generator = np.random.default_rng(seed)
    rows, day_N = (
        generator.choice(2 * count, count, replace=False),
        generator.integers(0, max(1, count // symbols), 2 * count),
    )
    drawn = epoch_batches(
        rows,
        day_N,
        whole_days=whole_days,
        batch_windows=batch_windows,
        most_windows=count,
        seed=seed,
        epoch=epoch,
    )
    assert sorted(np.concatenate(drawn)) == sorted(rows)
    again = epoch_batches(
        rows,
        day_N,
        whole_days=whole_days,
        batch_windows=batch_windows,
        most_windows=count,
        seed=seed,
        epoch=epoch,
    )
    assert [part.tolist() for part in again] == [part.tolist() for part in drawn]
    if whole_days:
        days = [set(day_N[part]) for part in drawn]
        assert sum(len(found) for found in days) == len(set().union(*days))
        for part in drawn[:-1]:
            sizes = np.bincount(day_N[part])
            last = sizes[day_N[part[-1]]]
            assert len(part) >= batch_windows > len(part) - last
    else:
        assert max(map(len, drawn)) <= batch_windows


@given(DRAWS, st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_a_capped_epoch_keeps_to_its_cap(draw, most):
    count, symbols, whole_days, batch_windows, seed, epoch = draw
    rows = np.arange(count)
    day_N = np.random.default_rng(seed).integers(0, max(1, count // symbols), count)
    drawn = np.concatenate(
        epoch_batches(
            rows,
            day_N,
            whole_days=whole_days,
            batch_windows=batch_windows,
            most_windows=most,
            seed=seed,
            epoch=epoch,
        )
    )
    assert len(set(drawn)) == len(drawn)
    sizes = np.bincount(day_N)
    if whole_days:
        assert all((day_N[drawn] == day).sum() == sizes[day] for day in set(day_N[drawn]))
        assert len(drawn) <= max(most, sizes[day_N[drawn[0]]])
    else:
        assert len(drawn) == min(count, most)


def test_epochs_and_seeds_differ():
    rows, day_N = np.arange(400), np.repeat(np.arange(40), 10)
    for whole_days in (False, True):
        draws = {
            tuple(
                epoch_batches(
                    rows,
                    day_N,
                    whole_days=whole_days,
                    batch_windows=50,
                    most_windows=100,
                    seed=seed,
                    epoch=epoch,
                )[0]
            )
            for seed in range(3)
            for epoch in range(3)
        }
        assert len(draws) == 9
        # Each row has the same chance of a place in a capped epoch: 3,200 draws of a quarter, 5 standard
        # deviations either way.
        counts = np.zeros(400)
        for seed in range(200):
            counts[
                np.concatenate(
                    epoch_batches(
                        rows,
                        day_N,
                        whole_days=whole_days,
                        batch_windows=50,
                        most_windows=100,
                        seed=seed,
                        epoch=0,
                    )
                )
            ] += 1
        assert abs(counts - 50).max() < 5 * np.sqrt(200 * 0.25 * 0.75)
    assert (
        epoch_batches(rows[:0], day_N, whole_days=False, batch_windows=50, most_windows=100, seed=0, epoch=0)
        == []
    )


@pytest.mark.parametrize("whole_days", [False, True])
def test_prefetched_batches_are_the_same_bits_in_order(whole_days):
    panel = panel_of(frame_of(40, 6, 8, kept=0.9), 5, whole_days)
    drawn = epoch_batches(
        np.arange(len(panel.day_N)),
        panel.day_N,
        whole_days=whole_days,
        batch_windows=12,
        most_windows=10**6,
        seed=1,
        epoch=2,
    )
    found = list(batches(panel, drawn))
    assert len(found) == len(drawn) > 10
    for rows, (rows_B, batch) in zip(drawn, found, strict=True):
        assert rows is rows_B
        assert_equal(batch, panel.batch(rows))


def assert_equal(one: Batch, other: Batch) -> None:
    for name, value in vars(one).items():
        assert (
            torch.equal(value, getattr(other, name))
            if isinstance(value, torch.Tensor)
            else value == getattr(other, name)
        ), name


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "alphaloop-batches"]


def test_an_error_while_gathering_reaches_the_reader():
    panel = panel_of(frame_of(20, 4, 9), 3)
    wrong = [np.arange(4), np.arange(4, 8), np.array([10**9])]
    reader = batches(panel, wrong)
    assert next(reader)[0].tolist() == [0, 1, 2, 3]
    assert next(reader)[0].tolist() == [4, 5, 6, 7]
    with pytest.raises(IndexError, match="1000000000"):
        next(reader)
    assert not reading_threads()


def test_the_thread_stops_when_the_reader_does_and_never_runs_far_ahead():
    panel = panel_of(frame_of(20, 4, 10), 3)
    asked = []

    def endless():
        while True:
            asked.append(len(asked))
            yield np.arange(4)

    reader = batches(panel, endless())
    next(reader)
    deadline = time.monotonic() + 5
    while len(asked) < BATCHES_AHEAD + 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert (
        len(asked) == BATCHES_AHEAD + 2
    )  # one is used, two are ready, the next one's rows are known but not gathered
    assert len(reading_threads()) == 1
    reader.close()
    assert not reading_threads()
    assert len(asked) <= BATCHES_AHEAD + 3


class Doubling(torch.nn.Module):
    """Makes two values of each bar, and shows what it was called with."""

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def prepare(self, inputs_NF: torch.Tensor, sector_N: torch.Tensor) -> torch.Tensor:
        return torch.stack([inputs_NF.sum(dim=1) * self.factor, sector_N.float()], dim=1)


def test_prepared_bars_are_gathered_like_inputs():
    panel = panel_of(frame_of(15, 4, 11, kept=0.8), 6)
    prepared = panel.prepared(Doubling())
    assert not prepared.requires_grad
    rows = np.arange(len(panel.day_N))
    plain, made = panel.batch(rows), panel.batch(rows, prepared)
    assert made.prepared
    torch.testing.assert_close(made.inputs_BLF[..., 0], 2 * plain.inputs_BLF.sum(dim=-1))
    np.testing.assert_array_equal(made.inputs_BLF[:, -1, 1].numpy(), panel.bars.sector_N)
    assert torch.equal(made.began_BL, plain.began_BL)
    assert panel.prepared(torch.nn.Linear(1, 1)) is None


def test_the_panel_is_held_once():
    bars = panel_of(frame_of(10, 3, 12), 4).bars
    panel = Panel(bars, lookback=4, device=CPU)
    assert panel.inputs_NF.data_ptr() == bars.inputs_NF.ctypes.data
