"""Where labels are returns less those of the sector, the stack compares scores within sectors: in training,
in tables and in the service alike.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.contracts import REGIMES, SECTOR_COLUMN, TIME
from components.metrics import information_coefficient
from components.scoring.form import ScoringError
from components.scoring.model import ExpertOutputs, Model
from components.scoring.parts import context_of
from components.scoring.stacker import BY_SECTOR_NAME, Head, Stacker, read_stacker
from components.stacking.combine import stack_experts
from components.stacking.config import Settings
from components.stacking.inputs import combiner_inputs
from components.stacking.served_form import write_model
from components.timeline import Windows
from tests.stacking.made_scores import as_predictions

NAMES = ["one", "two"]
BARS, SYMBOLS = 160, 24
# Five sectors of four names or five; two names in a sector that is too small, two whose sector nobody knows.
SECTORS = [float(number // 4) for number in range(SYMBOLS - 4)] + [77.0, 77.0, None, None]
CALENDAR = (
    pl.datetime_range(
        datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC), "1d", time_unit="us", eager=True
    )
    .head(BARS)
    .cast(TIME)
)
WINDOWS = Windows(train=(0, 1), validation=(0, 80), test=(80, BARS), backtest=(80, BARS))


def market(seed: int, target: str = "sector_neutral_return") -> pl.DataFrame:
    """An OOF table whose experts know a little of the label, and guess at sectors, which the label does not
    hold.
    """
    rng = np.random.default_rng(seed)
    label = rng.normal(size=(BARS, SYMBOLS))
    sector = np.array([5.0 if code is None else code for code in SECTORS])
    guesses = rng.normal(size=(len(NAMES), BARS, 80))[:, :, sector.astype(int)]
    rows = pl.DataFrame({"timestamp": CALENDAR}).join(
        pl.DataFrame({"symbol": [f"S{i:02d}" for i in range(SYMBOLS)], SECTOR_COLUMN: SECTORS}), how="cross"
    )
    scores = {
        f"score_{name}": 0.01 * (0.2 * label + rng.normal(size=label.shape) + 2 * guesses[place]).ravel()
        for place, name in enumerate(NAMES)
    }
    return rows.with_columns(
        pl.col(SECTOR_COLUMN).cast(pl.Float64),
        period=pl.lit("1d"),
        horizon=pl.lit(5, pl.Int32),
        target=pl.lit(target),
        fold=pl.lit("fold_00"),
        label=pl.Series(0.02 * label.ravel()),
        label_end=pl.col("timestamp") + pl.duration(days=6),
        log_return=pl.Series(0.02 * label.ravel()),
        regime=pl.lit("bull"),
        **{name: pl.Series(values) for name, values in scores.items()},
        **{f"uncertainty_{name}": pl.lit(0.02) for name in NAMES},
    )


def stacked(oof: pl.DataFrame):
    settings = Settings(combiners=["shrunk"])
    return stack_experts(oof, as_predictions(oof), settings, WINDOWS, CALENDAR, embargo_bars=5, seed=7)


def skill(oof: pl.DataFrame) -> float:
    told = stacked(oof).predictions.filter(
        (pl.col("expert") == "stack") & (pl.col("timestamp") >= CALENDAR[WINDOWS.test[0]])
    )
    told = told.select("timestamp", "symbol", "score")
    daily = information_coefficient(told, oof.select("timestamp", "symbol", "label"), rank=True)
    return daily["ic"].mean()


def by_hand(oof: pl.DataFrame, column: str) -> list[float]:
    """Standardised deviations from the sector's mean, by loops."""
    found = []
    for rows in oof.partition_by("timestamp", maintain_order=True):
        values, sectors = rows[column].to_list(), rows[SECTOR_COLUMN].to_list()
        left = []
        for value, sector in zip(values, sectors, strict=True):
            peers = [v for v, s in zip(values, sectors, strict=True) if s is not None and s == sector]
            left.append(value - np.mean(peers if len(peers) >= 3 else values))
        found += list(np.clip((left - np.mean(left)) / np.std(left, ddof=1), -5, 5))
    return found


def test_scores_are_taken_less_the_mean_of_their_sector():
    oof = market(1)
    inputs = combiner_inputs(oof, NAMES)
    for name in NAMES:
        np.testing.assert_allclose(inputs[f"z_{name}"], by_hand(oof, f"score_{name}"), atol=1e-9)
    untouched = combiner_inputs(oof.drop(SECTOR_COLUMN), NAMES)
    assert inputs["label_z"].equals(untouched["label_z"])


@pytest.mark.parametrize("target", ["log_return", "beta_neutral_return"])
def test_other_targets_compare_all_symbols_of_a_bar(target):
    oof = market(2, target)
    assert combiner_inputs(oof, NAMES).equals(combiner_inputs(oof.drop(SECTOR_COLUMN), NAMES))


def test_what_scores_guess_of_sectors_is_left_out_and_skill_stays():
    """Planted: two thirds of what the scores vary by are guesses at sectors."""
    gained = [skill(market(seed)) - skill(market(seed).drop(SECTOR_COLUMN)) for seed in range(4)]
    assert min(gained) > 0.02
    # Nothing to leave out: no sector is known, and no score guesses at one.
    unknown = market(5).with_columns(pl.lit(None, pl.Float64).alias(SECTOR_COLUMN))
    assert skill(unknown) == skill(unknown.drop(SECTOR_COLUMN))


def test_the_served_form_says_so(tmp_path):
    for number, (oof, expected) in enumerate(((market(3), True), (market(3, "log_return"), False))):
        write_model(stacked(oof).model, tmp_path / str(number))
        assert read_stacker(tmp_path / str(number), threads=1).by_sector is expected
        assert (BY_SECTOR_NAME in (tmp_path / str(number) / "stacker.json").read_text()) is expected


@pytest.fixture(scope="module")
def served() -> Model:
    weights = np.zeros((1 + len(REGIMES), len(NAMES)))
    weights[0] = 0.5
    stacker = Stacker("equal_weights", tuple(NAMES), weights, None, Head(1.0, 0.0, 1.0, 1.0), by_sector=True)
    return Model(
        manifest={},
        sha256="",
        schema="",
        columns=(),
        context=("regime_state", "volatility_20", SECTOR_COLUMN),
        period="1d",
        horizon=5,
        target="sector_neutral_return",
        lookback_bars=0,
        experts=(),
        places=(),
        stacker=stacker,
    )


def arrays(rows: pl.DataFrame) -> tuple[ExpertOutputs, np.ndarray]:
    """What the experts say of the rows, and their context as float32, unknown sectors NaN."""
    score, uncertainty = (
        rows.select(f"{kind}_{name}" for name in NAMES).to_numpy().T for kind in ("score", "uncertainty")
    )
    sector = rows[SECTOR_COLUMN].cast(pl.Float32).fill_null(np.nan).to_numpy()
    context = np.column_stack([np.zeros(len(rows)), np.full(len(rows), 0.02), sector]).astype(np.float32)
    return ExpertOutputs(tuple(NAMES), score, uncertainty), context


def test_tables_and_the_service_compare_as_training_does(served):
    oof = market(4)
    expected = combiner_inputs(oof, NAMES).select(pl.mean_horizontal("z_one", "z_two")).to_series().to_numpy()
    outputs, context = arrays(oof)
    bar = oof["timestamp"].rle_id().to_numpy()
    table = served.combine(outputs, context, served.cross_section_by_bar(outputs, context, bar))
    np.testing.assert_allclose(table.score, expected, atol=1e-9)
    rows = oof.filter(pl.col("timestamp") == CALENDAR[9])
    outputs, context = arrays(rows)
    market_now = served.cross_section(outputs, context)
    together = served.combine(outputs, context, market_now).score
    np.testing.assert_allclose(together, expected[9 * SYMBOLS : 10 * SYMBOLS], atol=1e-9)
    for row in (0, 21, 23):
        one = ExpertOutputs(tuple(NAMES), outputs.score[:, [row]], outputs.uncertainty[:, [row]])
        assert served.combine(one, context[[row]], market_now).score[0] == pytest.approx(together[row])


def test_a_row_of_a_sector_that_the_market_lacks_is_compared_with_all(served):
    outputs, context = arrays(market(6).filter(pl.col("timestamp") == CALENDAR[3]))
    market_now = served.cross_section(outputs, context)
    one = ExpertOutputs(tuple(NAMES), outputs.score[:, [0]], outputs.uncertainty[:, [0]])
    found = []
    for code in (999_999.0, 1.5, -1.0, np.nan):
        strange = context[[0]].copy()
        strange[0, 2] = code
        found.append(served.combine(one, strange, market_now).score[0])
    assert len(set(found)) == 1
    own = served.combine(one, context[[0]], market_now).score[0]
    assert abs(found[0] - own) > 1e-6
    nobody = context.copy()
    nobody[:, 2] = np.nan
    all_alike = served.cross_section(outputs, nobody)
    plain = (outputs.score - outputs.score.mean(axis=1, keepdims=True)) / outputs.score.std(
        axis=1, ddof=1, keepdims=True
    )
    np.testing.assert_allclose(served.combine(outputs, nobody, all_alike).score, plain.mean(axis=0))


def test_such_a_stack_takes_the_sector_whatever_its_experts_take(served):
    given = ("regime_state", "volatility_20", SECTOR_COLUMN)
    assert context_of(Path("bundle"), given, (), served.stacker, {}) == given
    plain = replace(served.stacker, by_sector=False)
    assert context_of(Path("bundle"), given, (), plain, {}) == given[:2]
    with pytest.raises(ScoringError, match=f"lack '{SECTOR_COLUMN}'"):
        context_of(Path("bundle"), given[:2], (), served.stacker, {})
