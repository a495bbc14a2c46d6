"""When the stack leaves equal weights: the chance counts all that were tried, is right where it can be worked
out otherwise, and the bars that choose are not those that were learned from.
"""

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student

from components.contracts.documents.comparison import Candidate
from components.metrics import degrees_of_freedom, standard_error
from components.stacking.choice import FOLDS, adjusted_p_values, choose, compare, purged_folds
from components.stacking.combine import stack_experts
from components.stacking.combiners import EQUAL
from components.stacking.config import Settings
from components.stacking.inputs import combiner_inputs
from tests.stacking.made_scores import (
    EMBARGO,
    as_predictions,
    calendar_of,
    made_market,
    windows_of,
)

BARS = 160
NAMES = [f"e{number}" for number in range(5)]


SETTINGS = Settings(combiners=["shrunk", "regimes"])


def stacked(oof, *, validation=200, settings=SETTINGS, seed=1):
    bars = oof["timestamp"].n_unique()
    return stack_experts(
        oof,
        as_predictions(oof),
        settings,
        windows_of(validation, bars - validation),
        calendar_of(bars),
        embargo_bars=EMBARGO,
        seed=seed,
    )


def one_sided(gain: np.ndarray, horizon: int) -> float:
    freedom = degrees_of_freedom(len(gain), horizon)
    return float(student.sf(gain.mean() / standard_error(gain, horizon=horizon), freedom))


def test_the_chance_of_one_alone_is_students():
    gain = np.random.default_rng(1).normal(0.1, 1.0, 300)
    assert adjusted_p_values({"a": gain}, 1, 0)["a"] == pytest.approx(one_sided(gain, 1), abs=0.006)


def test_copies_cost_nothing_and_independent_ones_what_sidak_says():
    rng = np.random.default_rng(2)
    gain = rng.normal(size=600)
    gain += 0.09 - gain.mean()
    alone = one_sided(gain, 1)
    copies = adjusted_p_values({"a": gain, "b": gain, "c": 2 * gain}, 1, 0)
    assert copies["a"] == pytest.approx(alone, abs=0.004)
    others = {f"n{k}": rng.normal(size=600) for k in range(7)}
    independent = adjusted_p_values({"a": gain, **others}, 1, 0)["a"]
    assert independent == pytest.approx(1 - (1 - alone) ** 8, abs=0.012)
    assert alone < independent < 8 * alone


def test_what_does_not_differ_is_not_counted():
    gain = np.random.default_rng(1).normal(0.1, 1.0, 300)
    found = adjusted_p_values({"a": gain, "same": np.zeros(300)}, 1, 0)
    assert found == adjusted_p_values({"a": gain}, 1, 0)


def test_luck_is_called_better_as_rarely_as_asked(monkeypatch):
    """Six candidates without any gain and overlapping labels, 400 times: 5 %, within two standard errors."""
    monkeypatch.setattr("components.stacking.choice.DRAWS", 2000)
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(400):
        shared = rng.normal(size=(1, 154))
        bars = np.sqrt(0.5) * shared + np.sqrt(0.5) * rng.normal(size=(6, 154))
        gains = np.lib.stride_tricks.sliding_window_view(bars, 5, axis=1).mean(axis=-1)
        false += min(adjusted_p_values(dict(enumerate(gains)), 5, 0).values()) < 0.05
    assert abs(false / 400 - 0.05) < 2 * np.sqrt(0.05 * 0.95 / 400)


def test_no_fold_learns_from_rows_that_overlap_it():
    oof = made_market("alike", 1, bars=BARS, symbols=4, fold_bars=40)
    calendar = calendar_of(BARS)
    table = combiner_inputs(oof, NAMES).filter(pl.col("label_end") < calendar[-1])
    folds = purged_folds(table, calendar, EMBARGO)
    assert len(folds) == FOLDS
    assert pl.concat(fold.left_out for fold in folds).equals(table)
    number = {moment: place for place, moment in enumerate(calendar_of(BARS + 40))}
    for fold in folds:
        reach = [number[moment] for moment in fold.left_out["timestamp"]]
        until = max(number[moment] for moment in fold.left_out["label_end"])
        expected = {
            (moment, symbol)
            for moment, symbol, end in table.select("timestamp", "symbol", "label_end").rows()
            if number[end] < min(reach) - EMBARGO or number[moment] > until + EMBARGO
        }
        assert set(fold.learned.select("timestamp", "symbol").rows()) == expected
        assert expected


def test_fewer_bars_than_folds_choose_nothing():
    oof = made_market("alike", 1, bars=FOLDS - 1, symbols=4, fold_bars=40)
    assert purged_folds(combiner_inputs(oof, NAMES), calendar_of(FOLDS - 1), EMBARGO) == []


def candidate(name, difference, p, *, bars=200, t=2.0):
    return Candidate(
        name=name,
        rank_ic=0.02 + difference,
        difference=difference,
        t=t,
        p=p,
        bars=bars,
        folds=5,
        folds_better=4,
    )


EQUALS = candidate(EQUAL, 0.0, None, t=None)


@pytest.mark.parametrize(
    ("others", "level", "chosen", "words"),
    [
        ([candidate("a", 0.01, 0.01), candidate("b", 0.02, 0.04)], 0.05, "b", "0.0400 against 0.0200"),
        ([candidate("a", 0.03, 0.06)], 0.05, EQUAL, "nothing is better by more than luck; nearest comes a"),
        ([candidate("a", 0.03, 0.06)], 0.1, "a", "t 2.0, a chance of 0.060 with 1 tried"),
        ([candidate("a", 0.03, 0.001)], 0.0, EQUAL, "stacking.level is 0"),
        ([candidate("a", 0.0, 1.0, t=None)], 0.05, EQUAL, "nothing that was tried differs"),
    ],
)
def test_only_what_is_better_by_more_than_luck_is_chosen(others, level, chosen, words):
    name, reason = choose([EQUALS, *others], level, 5)
    assert name == chosen
    assert words in reason


def test_too_few_bars_say_so():
    few = [one.model_copy(update={"bars": 40}) for one in (EQUALS, candidate("a", 0.1, 0.0))]
    assert choose(few, 0.05, 5) == (
        EQUAL,
        "equal weights (RankIC 0.0200 on 40 validation bars): 50 bars are needed to tell a better one from"
        " luck",
    )


def test_a_bar_in_which_a_candidate_orders_nothing_gains_it_nothing():
    days = calendar_of(60)
    base = pl.DataFrame({"timestamp": days, "rank_ic": [0.1] * 60})
    silent = base.with_columns(rank_ic=pl.when(pl.int_range(60) < 30).then("rank_ic"))
    found = {one.name: one for one in compare({EQUAL: base, "silent": silent}, 1, 0)}
    assert found["silent"].difference == pytest.approx(-0.05)
    assert found["silent"].bars == 60


def test_a_combiner_that_raises_is_left_out_and_the_run_goes_on(monkeypatch, capfd):
    def fall(known, experts):
        raise ZeroDivisionError("no inverse")

    monkeypatch.setattr("components.stacking.combiners.regime_weights", fall)
    result = stacked(made_market("one", 1, bars=260, symbols=20, fold_bars=100))
    assert result.comparison.left_out == {"regimes": "ZeroDivisionError: no inverse"}
    assert "regimes is left out" in "".join(capfd.readouterr())
    assert "z_shrunk" in set(result.predictions["expert"])
    assert "z_regimes" not in set(result.predictions["expert"])


def test_one_fold_of_validation_is_cut_into_several_stretches():
    comparison = stacked(made_market("one", 1, bars=300, symbols=20, fold_bars=200)).comparison
    best = next(one for one in comparison.candidates if one.name == "best_single")
    assert (best.folds, best.bars) == (FOLDS, 192), "200 less six bars of labels, less the embargo"
    assert best.rmse > 0


@pytest.mark.parametrize("kind", ["alike", "one", "regimes"])
def test_equal_weights_stay_where_experts_are_alike_and_go_where_they_differ(kind):
    """What one alone knows is left to it or weighed most; where the regime decides, weights move with it."""
    oof = made_market(kind, 1, bars=280, symbols=60, fold_bars=150)
    comparison = stacked(oof, validation=270).comparison
    found = {one.name: one for one in comparison.candidates}
    if kind == "alike":
        assert comparison.chosen == EQUAL
    elif kind == "one":
        assert comparison.chosen in ("best_single", "shrunk", "regimes")
        assert found[comparison.chosen].folds_better >= 4
    else:
        assert comparison.chosen == "regimes"
        assert found["best_single"].difference < 0
