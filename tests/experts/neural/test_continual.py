"""The student: it learns from the newest bars alone, is held near its teacher, and beats it after a flip of
the regime.
"""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch

from components.experts.neural.arrays import Codes, arrange, fit_scalers
from components.experts.neural.config import Continual, Losses, Neural, Optimiser, Regularisation, Training
from components.experts.neural.continual import newest_rows, teach_student, teacher_scores
from components.experts.neural.engine import reproducible
from components.experts.neural.heads import ForecastModel
from components.experts.neural.panel import Panel
from components.experts.neural.phases import Phase
from components.experts.neural.targets import Targets, make_targets
from tests.experts.neural.tiny import Alone, fitted, mean_rank_correlation, parameter_bytes, seeded

INPUTS, LOOKBACK, NEWEST = 4, 4, 63
GROUPS = {f"x{number}": "trend" for number in range(INPUTS)}
TRAINING = Training(epochs=6, patience_epochs=2, batch_windows=64)
OPTIMISER = Optimiser(learning_rate=3e-3)
STUDENT = Continual(student_bars=NEWEST, epochs=4, learning_rate_share=1.0)


def market(seed: int, *, flip: bool, bars: int = 300, symbols: int = 12) -> pl.DataFrame:
    """The label follows two inputs with an attainable correlation of a half; with `flip` the first one's sign
    turns in the last 63 train bars, for good.
    """
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((bars, symbols, INPUTS))
    bar = np.arange(bars)
    part_L = np.where(bar < 0.7 * bars, "train", np.where(bar < 0.8 * bars, "early_stopping", "predict"))
    sign = np.where(flip & (bar >= (part_L == "train").sum() - NEWEST), -1.0, 1.0)[:, None]
    label = (
        0.02
        * (
            0.5 * (sign * x[..., 0] + x[..., 1]) / math.sqrt(2)
            + math.sqrt(0.75) * generator.standard_normal((bars, symbols))
        )
    ).ravel()
    part = np.repeat(part_L, symbols)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "timestamp": [start + timedelta(days=int(day)) for day in np.repeat(bar, symbols)],
            "symbol": np.tile([f"S{number:02d}" for number in range(symbols)], bars),
            "part": part,
            "label": np.where(part != "predict", label, np.nan),
            "realised": label,
            "regime_state": 0.0,
            "volatility_20": 0.02,
            **{name: x[..., number].ravel() for number, name in enumerate(GROUPS)},
        }
    ).with_columns(pl.col("label").fill_nan(None))


def neural(**changes) -> Neural:
    return Neural(
        **{
            "lookback_bars": LOOKBACK,
            "training": TRAINING,
            "optimiser": OPTIMISER,
            "continual": STUDENT,
            **changes,
        }
    )


def parts_of(frame: pl.DataFrame) -> tuple[Panel, np.ndarray, Targets]:
    bars = arrange(frame, GROUPS, fit_scalers(frame, GROUPS), Codes((), ()), "1d")
    rows = bars.rows("train", labelled=True)
    return (
        Panel(bars, lookback=LOOKBACK, device=torch.device("cpu")),
        rows,
        make_targets(bars, rows, Losses(), Regularisation(), [1]),
    )


def taught(
    frame: pl.DataFrame, settings: Neural, monitor=None
) -> tuple[ForecastModel, np.ndarray, list[dict[str, float]]]:
    """The student of an untrained teacher, what its teacher said of each row, and its history."""
    panel, rows, targets = parts_of(frame)
    model = seeded(lambda: ForecastModel(Alone(INPUTS, LOOKBACK), 1))
    with reproducible(1, threads=1):
        teacher = teacher_scores(model, panel, rows, 500, whole_days=False)
        history = teach_student(
            Phase(model, panel, rows, 1, lambda share, what: None), targets, settings, monitor
        )
    return model, teacher, history


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return market(0, flip=True, bars=120, symbols=6)


def test_newest_rows_by_hand():
    day_N = np.array([4, 5, 7, 9, 9, 5, 4, 8])
    assert newest_rows(np.array([0, 1, 2, 4, 3, 5]), day_N, 2).tolist() == [2, 4, 3]
    assert newest_rows(np.array([4, 0, 5]), day_N, 50).tolist() == [0, 5, 4]


def test_only_the_newest_train_bars_are_learned_from(frame):
    settings = neural(continual=STUDENT.model_copy(update={"student_bars": 20}))
    model, _, history = taught(frame, settings)
    assert len(history) == STUDENT.epochs
    assert set(history[0]) >= {"loss", "distillation"}
    newest = frame.filter(pl.col("part") == "train")["timestamp"].unique().sort()[-20]
    is_newest = (pl.col("part") == "train") & (pl.col("timestamp") >= newest)
    older = frame.with_columns(
        pl.when(is_newest).then("label").otherwise(pl.col("label") * -3 + 0.01).alias("label")
    )
    assert parameter_bytes(taught(older, settings)[0]) == parameter_bytes(model)
    planted = frame.with_columns(pl.when(is_newest).then(-pl.col("label")).otherwise("label").alias("label"))
    assert parameter_bytes(taught(planted, settings)[0]) != parameter_bytes(model)


def test_distillation_holds_the_student_near_its_teacher(frame):
    panel, rows, _ = parts_of(frame)
    newest = newest_rows(rows, panel.day_N, NEWEST)
    distances = []
    for weight in (0.0, 1.0, 100.0):
        model, teacher, history = taught(frame, neural(losses=Losses(distillation=weight)))
        student = teacher_scores(model, panel, rows, 500, whole_days=False)
        distances.append(np.square(student - teacher)[newest].mean())
        assert ("distillation" in history[0]) == (weight > 0)
    assert distances[0] > distances[1] > distances[2] > 0
    assert distances[0] > 2 * distances[2]


def test_teacher_scores_are_the_models_own(frame):
    panel, rows, _ = parts_of(frame)
    model = seeded(lambda: ForecastModel(Alone(INPUTS, LOOKBACK), 1)).eval()
    scores = teacher_scores(model, panel, rows[:50], 7, whole_days=False)
    with torch.no_grad():
        np.testing.assert_allclose(
            scores[rows[:50]], model(panel.batch(rows[:50])).score_BT[:, 0].numpy(), atol=1e-6
        )
    assert np.isnan(np.delete(scores, rows[:50])).all()


def test_the_teacher_stays_where_the_student_is_no_better(frame):
    teacher = parameter_bytes(seeded(lambda: ForecastModel(Alone(INPUTS, LOOKBACK), 1)))
    falling = iter([0.5, 0.4, 0.5, 0.3, 0.2, 0.1])
    model, _, history = taught(frame, neural(), lambda: next(falling))
    assert parameter_bytes(model) == teacher
    assert history[0] == {"teacher": 1.0, "monitor": 0.5}
    rising = iter([0.5, 0.4, 0.6, 0.3, 0.2, 0.1])
    model, _, history = taught(frame, neural(), lambda: next(rising))
    assert parameter_bytes(model) != teacher
    assert [entry["monitor"] for entry in history][:3] == [0.5, 0.4, 0.6]
    undefined = iter([0.5, *[math.nan] * 5])
    assert parameter_bytes(taught(frame, neural(), lambda: next(undefined))[0]) == teacher


def gains(seeds: range, *, flip: bool) -> np.ndarray:
    """By seed, test rank correlation of the student less that of its teacher."""
    found = []
    for seed in seeds:
        frame = market(seed, flip=flip)
        student, teacher = (
            mean_rank_correlation(fitted(frame, seed, neural(continual=continual)), frame)
            for continual in (STUDENT, Continual())
        )
        found.append(student - teacher)
    return np.array(found)


def test_it_beats_its_teacher_after_a_flip():
    gain = gains(range(3), flip=True)
    error = gain.std(ddof=1) / math.sqrt(len(gain))
    assert gain.mean() > 0.1, gain
    assert gain.mean() > 4.3 * error, (
        gain
    )  # the 5 % point of Student's t with 2 degrees of freedom, both sides


def test_it_is_not_much_worse_where_nothing_changed():
    gain = gains(range(3), flip=False)
    assert gain.mean() > -0.02, gain
    assert gain.min() > -0.05, gain


def test_even_unwatched_it_keeps_most_of_what_its_teacher_knows():
    """Without the monitor's veto, in a market that did not change."""
    frame = market(3, flip=False)
    expert = fitted(frame, 3, neural(continual=Continual()))
    before = mean_rank_correlation(expert, frame)
    panel, rows, targets = parts_of(frame)
    with reproducible(3, threads=1):
        teach_student(Phase(expert.model, panel, rows, 3, lambda share, what: None), targets, neural(), None)
    after = mean_rank_correlation(expert, frame)
    assert after != before
    assert after > before - 0.05
