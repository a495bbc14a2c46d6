"""The bands' own training: noisy rows get wider bands, scores keep their bits, early-stopping labels are
watched and not learned from.
"""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from components.experts.leaves import Leaf, expert_module
from components.experts.neural.arrays import arrange, fit_codes, fit_scalers
from components.experts.neural.bands import table, train_bands
from components.experts.neural.config import Neural
from components.experts.neural.heads import ForecastModel, ordered, widened
from components.experts.neural.panel import Panel
from components.experts.neural.phases import Phase
from components.experts.neural.predict import predict
from components.experts.neural.targets import make_targets
from components.experts.protocol import Task
from components.experts.rows import rank_correlation
from tests.experts.market import INPUTS, fit_and_predict_frames, panel
from tests.experts.neural.tiny import Alone, Crowd, parameter_bytes, seeded

NETWORK = {"lookback_bars": 4, "regularisation": {"dropout": 0.0}}
NETWORKS = {
    "patchtst": {
        **NETWORK,
        "patch_bars": 2,
        "stride_bars": 2,
        "width": 8,
        "feed_forward": 16,
        "embedding": 8,
        "gate_cost": 0.0,
    },
    "tft": {**NETWORK, "width": 8},
    "adaptive_tft": {**NETWORK, "width": 8},
}
SEEDS, LOOKBACK, QUIET, NO_STEP = range(3), 3, 1.0, 0


def market(seed: int, noise: float, *, bars: int = 400) -> pl.DataFrame:
    """A market in which the noise is `noise` times as large where an input is high, in 30 % of the rows
    (`wild`).
    """
    rows = panel(bars=bars, symbols=20, seed=seed, strength=0.3)
    wild = (rows["volume_a"] > 0.2).to_numpy()
    deviation = np.random.default_rng(seed + 5).standard_normal(len(rows)) * np.where(wild, noise, 1.0)
    label = 0.02 * (0.3 * rows["signal"].to_numpy() + np.sqrt(1 - 0.3**2) * deviation)
    return rows.with_columns(
        label=pl.Series(label), volatility_20=pl.lit(0.02, pl.Float32), wild=pl.Series(wild)
    )


@cache
def judged(name: str, seed: int, epochs: int, noise: float = 4.0) -> SimpleNamespace:
    """What the uncertainty says about the noise, and the skill without the 30 % least certain rows less that
    of all.
    """
    rows = market(seed, noise)
    fit, asked = fit_and_predict_frames(rows.drop("wild"), lookback=LOOKBACK, train=0.3, stopping=0.1)
    module = expert_module(Leaf(expert=name, period="1d"))
    expert = module.Expert(
        module.Settings.model_validate(
            {**NETWORKS[name], "training": {"batch_windows": 128, "epochs": 5, "band_epochs": epochs}}
        )
    )
    expert.fit(fit, Task("1d", 1, "log_return", INPUTS, seed, threads=1), advance=lambda share, what: None)
    found = expert.predict(asked)
    known = rows.join(
        asked.filter(pl.col("part") == "predict"),
        on=["timestamp", "symbol"],
        how="semi",
        maintain_order="left",
    )
    uncertainty, score, label, wild = (
        found["uncertainty"].to_numpy(),
        found["score"].to_numpy(),
        known["label"].to_numpy(),
        known["wild"].to_numpy(),
    )
    kept = uncertainty <= np.quantile(uncertainty, 0.7)

    def skill(rows_B: np.ndarray) -> float:
        return rank_correlation(found["timestamp"].filter(pl.Series(rows_B)), score[rows_B], label[rows_B])

    inside = (label >= found["p10"].to_numpy()) & (label <= found["p90"].to_numpy())
    return SimpleNamespace(
        score=score.tobytes(),
        ratio=uncertainty[wild].mean() / uncertainty[~wild].mean(),
        coverage=inside.mean(),
        dropped=(~kept)[wild].mean(),
        gain=skill(kept) - skill(np.full(len(kept), True)),
        training=expert.evidence.training,
        bands=expert.evidence.bands,
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_noisy_rows_are_uncertain_and_scores_keep_their_bits(name):
    with_bands, without = ([judged(name, seed, epochs) for seed in SEEDS] for epochs in (10, NO_STEP))
    assert min(found.ratio for found in with_bands) > 1.5
    assert max(found.ratio for found in without) < 1.2, (
        "the market has nothing that the bands would have to learn"
    )
    assert all(0.72 < found.coverage < 0.88 for found in with_bands)
    assert [found.score for found in with_bands] == [found.score for found in without]
    assert [found.training for found in with_bands] == [found.training for found in without]
    assert all(found.bands is None for found in without)


@pytest.mark.parametrize("name", NETWORKS)
def test_leaving_out_the_least_certain_rows_raises_what_remains(name):
    with_bands, without = ([judged(name, seed, epochs) for seed in SEEDS] for epochs in (10, NO_STEP))
    assert min(found.dropped for found in with_bands) > 0.7, "chance would be 0.3"
    assert np.mean([found.gain for found in with_bands]) > 0.015
    assert np.mean([found.gain - other.gain for found, other in zip(with_bands, without, strict=True)]) > 0.01


@pytest.mark.parametrize("name", NETWORKS)
def test_where_no_row_is_noisier_none_is_less_certain(name):
    found = judged(name, 0, 10, QUIET)
    assert 0.9 < found.ratio < 1.1
    assert 0.72 < found.coverage < 0.88


def parts_of(
    kind=Alone, *, masks: int = 0, stopping_labels: float = 1.0, train_labels: float = 1.0
) -> SimpleNamespace:
    """A tiny model with all that the bands are trained on; labels of a part can be changed."""
    frame, _ = fit_and_predict_frames(market(1, 4.0, bars=100).drop("wild"))
    factor = pl.when(pl.col("part") == "train").then(train_labels).otherwise(stopping_labels)
    frame = frame.with_columns(label=pl.col("label") * factor)
    bars = arrange(frame, INPUTS, fit_scalers(frame, INPUTS), fit_codes(frame), "1d")
    rows, watched, settings = bars.rows("train"), bars.rows("early_stopping"), Neural(lookback_bars=4)
    model = seeded(
        lambda: ForecastModel(kind(len(INPUTS), 4), 1, band_inputs=len(INPUTS), masks=masks)
    ).eval()
    windows = Panel(bars, lookback=4, device=torch.device("cpu"), whole_days=kind is Crowd)
    targets = make_targets(bars, rows, settings.losses, settings.regularisation, [1])
    return SimpleNamespace(
        model=model,
        windows=windows,
        rows=rows,
        watched=watched,
        targets=targets,
        settings=settings,
        whole_days=kind is Crowd,
    )


def trained(given: SimpleNamespace, epochs: int = 1) -> list[dict[str, float]]:
    settings = given.settings.model_copy(
        update={"training": given.settings.training.model_copy(update={"band_epochs": epochs})}
    )
    phase = Phase(
        given.model, given.windows, given.rows, 4, lambda share, what: None, whole_days=given.whole_days
    )
    return train_bands(phase, given.watched, given.targets, settings, 1)


@pytest.mark.parametrize("kind", [Alone, Crowd])
def test_nothing_but_the_bands_is_trained(kind):
    given = parts_of(kind)
    before = {name: value.clone() for name, value in given.model.state_dict().items()}
    history = trained(given)
    changed = {
        name for name, value in given.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {name for name in before if name.startswith("bands.")}
    assert history[1]["monitor"] > history[0]["monitor"]
    assert not any(weight.requires_grad for weight in given.model.bands.parameters())


def test_early_stopping_labels_give_no_gradient():
    """Other labels there give the same weights; other labels of the train rows do not."""
    plain, watched, learned = parts_of(), parts_of(stopping_labels=1.3), parts_of(train_labels=1.3)
    monitors = [trained(given)[1]["monitor"] for given in (plain, watched, learned)]
    assert (
        parameter_bytes(watched.model.bands)
        == parameter_bytes(plain.model.bands)
        != parameter_bytes(learned.model.bands)
    )
    assert monitors[0] != monitors[1]


def test_bands_that_got_worse_on_the_watched_rows_stay_as_they_were():
    given = parts_of()
    untrained = parameter_bytes(given.model.bands)
    given.targets = replace(given.targets, quantile_NT=np.zeros_like(given.targets.quantile_NT))
    history = trained(given, epochs=2)
    assert max(entry["monitor"] for entry in history[1:]) < history[0]["monitor"]
    assert parameter_bytes(given.model.bands) == untrained


@pytest.mark.parametrize("kind", [Alone, Crowd])
def test_the_table_holds_what_the_model_predicts(kind):
    """For some rows of each day, in no order, the further symbols of a day being shown to a network across
    symbols.
    """
    given = parts_of(kind, masks=6)
    given.model.usual_spread.fill_(0.01)
    some = np.random.default_rng(0).permutation(given.watched)[:150]
    number_N = np.arange(len(given.windows.day_N), dtype=np.float64)
    found = table(
        given.model, given.windows, some, number_N, np.ones_like(number_N), 64, whole_days=given.whole_days
    )
    rows = found.target_N.numpy().astype(np.int64)
    assert sorted(rows) == sorted(some)
    everyone = np.argsort(given.windows.day_N, kind="stable")
    expected = predict(given.model, given.windows, everyone, 64, whole_days=given.whole_days).quantiles_NT3[
        np.argsort(everyone)[rows], 0
    ]
    np.testing.assert_allclose(widened(ordered(found.raw_N3), found.factor_N).numpy(), expected, atol=1e-6)
    assert found.factor_N.std() > 0.01
    np.testing.assert_array_equal(found.inputs_NK[:, 8:].numpy(), given.windows.bars.inputs_NF[rows])


def test_bands_move_the_first_tasks_quantiles_in_evaluation_and_nothing_else():
    given = parts_of()
    batch = given.windows.batch(given.rows[:40])
    model = seeded(lambda: ForecastModel(Alone(len(INPUTS), 4), 2, band_inputs=len(INPUTS)))
    plain = seeded(lambda: ForecastModel(Alone(len(INPUTS), 4), 2))
    torch.nn.init.normal_(model.bands.out.weight)
    quantiles = []
    for made in (model, plain):
        assert torch.equal(made.train()(batch).quantiles_BT3, plain.train()(batch).quantiles_BT3), (
            "not in training; what is drawn at the start is the same"
        )
        outputs = made.eval()(batch)
        assert torch.equal(outputs.score_BT, plain.eval()(batch).score_BT)
        quantiles.append(outputs.quantiles_BT3)
    assert torch.equal(quantiles[0][:, 1], quantiles[1][:, 1])
    assert not torch.isclose(quantiles[0][:, 0], quantiles[1][:, 0]).any()
    assert (quantiles[0].diff(dim=-1) > 0).all()


def test_the_newest_inputs_are_those_of_the_bar_where_the_batch_is_prepared():
    windows = parts_of().windows
    rows = np.array([300, 5, 0])
    prepared = windows.batch(rows, torch.randn(len(windows.inputs_NF), 9))
    assert torch.equal(prepared.newest(), windows.batch(rows).newest())
    np.testing.assert_array_equal(prepared.newest().numpy(), windows.bars.inputs_NF[rows])


def test_dropout_masks_widen_what_they_disagree_about():
    """sqrt((1 + r^2) / 2) with r the spread of the masks' scores, in usual ones."""
    given = parts_of(masks=8)
    model, batch = given.model, given.windows.batch(given.watched)
    with torch.no_grad():
        model.usual_spread.fill_(0.1)
        inputs_BK, raw_B3, factor_B = model.band_parts(batch)
        spread_B = model.sampled_scores(inputs_BK[:, None, :8]).std(dim=0)[:, 0]
        found = model(batch).quantiles_BT3[:, 0]
    torch.testing.assert_close(factor_B, torch.sqrt((1 + (spread_B / 0.1) ** 2) / 2))
    half_B = ordered(raw_B3)[:, 2] - ordered(raw_B3)[:, 0]
    torch.testing.assert_close((found[:, 2] - found[:, 0]) / half_B, factor_B)
