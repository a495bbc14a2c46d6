"""The gates on luck: the best of many is no longer believed, a good model still is, whatever stands beside
it.
"""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from components.contracts import TIME, ContractError
from components.contracts.documents.trials import Scored, Trials
from components.contracts.documents.verdict import Gate
from components.gates.config import Settings
from components.gates.luck import Tried, luck_gates, luck_of
from components.metrics import superior_predictive_ability
from components.registry.scored import scored_together

BARS = 250
START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = pl.datetime_range(START, datetime(2026, 1, 1, tzinfo=UTC), "1d", time_unit="us", eager=True).cast(TIME)
DAILY = 0.01
WINDOW = ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z")


def together(models: dict[str, np.ndarray], *, first: int = 0, run: str = "") -> Scored:
    """Models by their returns, from a day on."""
    series = {
        name: pl.DataFrame({"timestamp": DAYS[first : first + len(values)], "net_return": values})
        for name, values in models.items()
    }
    about = {"period": "1d", "test": WINDOW, "bars_per_year": 252.0, "task": ("log_return", 5)}
    scored = scored_together(series, dict.fromkeys(models, "expert"), **about)
    return scored.model_copy(update={"run": run})


def noise(count: int, seed: int, bars: int = BARS) -> dict[str, np.ndarray]:
    returns = np.random.default_rng(seed).normal(0, DAILY, (count, bars))
    return {f"noise_{number}": values for number, values in enumerate(returns)}


def skill(annual: float, seed: int, bars: int = BARS) -> np.ndarray:
    """Returns whose Sharpe ratio on these bars is `annual` to the digit."""
    values = np.random.default_rng(seed).normal(0, DAILY, bars)
    values -= values.mean()
    return values + annual / np.sqrt(252) * values.std(ddof=1)


def judged(*scored: Scored, unseen: int = 0, **settings) -> dict[str, Gate]:
    tried = Tried.of(Trials(scored=scored, unseen=unseen), Settings(candidate="stack", **settings))
    return {gate.name: gate for gate in luck_gates(tried)}


def test_a_model_that_passes_alone_is_luck_after_many_tries():
    """Planted fault: one Sharpe ratio of 2, but the best of 60 tries of other runs."""
    own = together({"stack": skill(2.0, 1)})
    alone = judged(own)
    assert alone["spa"].passed
    assert alone["deflated_sharpe"].passed
    after = judged(own, *(together(noise(20, seed), run=str(seed)) for seed in (1, 2, 3)))
    assert not after["spa"].passed
    assert not after["deflated_sharpe"].passed
    assert "best of 61 models tried on this window" in after["spa"].reason
    assert "times the gain" in after["spa"].needed
    assert after["deflated_sharpe"].needed == "a Sharpe ratio well above 2.77"
    nearly = judged(together({"stack": skill(3.5, 1)}), *(together(noise(20, seed)) for seed in (1, 2, 3)))
    assert "bars as good as these 250" in nearly["deflated_sharpe"].needed
    good = judged(together({"stack": skill(6.0, 1)}), *(together(noise(20, seed)) for seed in (1, 2, 3)))
    assert good["spa"].passed
    assert good["deflated_sharpe"].passed
    assert good["spa"].needed == ""


def test_a_good_model_beside_it_does_not_carry_a_poor_candidate():
    """Planted fault: the test over all models says that one of them is good, which is not the candidate."""
    models = {"stack": skill(0.3, 1), "good": skill(6.0, 2), **noise(8, 3)}
    table = np.column_stack(list(models.values()))
    assert superior_predictive_ability(table).p_value < 0.01
    assert judged(together(models))["spa"].value > 0.5


def test_the_chance_is_that_of_the_plain_test_where_the_candidate_is_the_best():
    models = {"stack": skill(2.0, 1), "second": skill(1.5, 2), **noise(8, 3)}
    plain = superior_predictive_ability(np.round(np.column_stack(list(models.values())), 9))
    assert plain.best == "0"
    assert judged(together(models))["spa"].value == plain.p_value


def test_models_of_another_window_count_on_the_bars_that_both_saw():
    """Told by brute force: their returns on the candidate's days, nothing on the others."""
    own = {"stack": skill(1.0, 1)}
    earlier = noise(3, 5, bars=BARS)
    found = judged(together(own, first=100), together(earlier, run="a"))["spa"].value
    shared = {name: np.append(values[100:], np.zeros(100)) for name, values in earlier.items()}
    for values in shared.values():
        values[: BARS - 100] -= max(values[: BARS - 100].mean(), 0)
    table = np.column_stack([np.round(own["stack"], 9), *shared.values()])
    assert found == pytest.approx(superior_predictive_ability(table).p_value, abs=0.003)
    apart = judged(together(own, first=BARS - 5), together(earlier, run="a"))["spa"].value
    assert apart == judged(together(own))["spa"].value, "five bars in common say nothing"


def test_judged_models_whose_returns_nobody_kept_count():
    own = together({"stack": skill(2.5, 1), **noise(4, 2)})
    seen, unseen = (
        luck_of(Tried.of(Trials(scored=(own,), unseen=count), Settings(candidate="stack")))
        for count in (0, 200)
    )
    assert (seen.models, unseen.models, unseen.unseen) == (5, 5, 200)
    assert unseen.lucky_sharpe > 2 * seen.lucky_sharpe
    assert "205 models" in judged(own, unseen=200)["spa"].reason
    assert "told by the 5 whose returns are kept" in judged(own, unseen=200)["spa"].reason
    assert "returns are kept" not in judged(own)["spa"].reason


def test_variants_that_were_scored_but_never_traded_count():
    """Planted fault: 30 variants with coefficients alone, which the deflated ratio took for none."""
    own = together({"stack": skill(2.5, 1), **noise(4, 2)})
    coefficients = {
        f"leaf: {name}": pl.DataFrame({"timestamp": DAYS[:BARS], "ic": values, "rank_ic": values})
        for name, values in noise(30, 5).items()
    }
    about = {"period": "1d", "test": WINDOW, "bars_per_year": 252.0, "task": ("log_return", 5)}
    scored = scored_together(coefficients, dict.fromkeys(coefficients, "variant"), **about)
    found, plain = judged(own, scored), judged(own, unseen=30)
    assert found["deflated_sharpe"].value == plain["deflated_sharpe"].value
    assert found["deflated_sharpe"].value < judged(own)["deflated_sharpe"].value
    told = luck_of(Tried.of(Trials(scored=(own, scored), unseen=0), Settings(candidate="stack")))
    assert (told.models, told.earlier, told.unseen) == (5, 0, 30)
    assert "best of 35 models" in found["spa"].reason


def test_overfitting_is_asked_of_enough_models_alone():
    few = judged(together({"stack": skill(2.0, 1), **noise(8, 2)}))["overfitting"]
    assert few.passed
    assert few.value is None
    assert few.reason.startswith("not asked, 9 different configurations, at least 10 are needed")
    lucky = judged(together({"stack": skill(1.0, 1), **noise(19, 4)}), max_overfitting=0.2)["overfitting"]
    assert not lucky.passed
    assert lucky.needed
    steady = judged(together({"stack": skill(8.0, 1), **noise(19, 4)}), max_overfitting=0.2)["overfitting"]
    assert steady.passed
    assert steady.value < 0.01


def test_a_model_of_a_few_bars_does_not_take_the_others_bars_from_overfitting():
    own = together({"stack": skill(1.0, 1), **noise(19, 4)}, first=100)
    earlier = together(noise(1, 9, bars=105), run="a")
    alone, beside = judged(own)["overfitting"], judged(own, earlier)["overfitting"]
    assert alone.value is not None
    assert beside == alone


def test_other_benchmarks_are_beaten_where_they_are_asked_for():
    asked = {"max_spa_p": {"nothing": 0.05, "even": 0.05}}
    even = skill(3.0, 2)
    better = judged(together({"stack": even + skill(4.0, 1), "even": even, **noise(3, 3)}), **asked)
    assert better["spa_even"].passed
    assert "does as well over even by luck" in better["spa_even"].reason
    worse = judged(together({"stack": even + skill(-0.5, 1) / 10, "even": even, **noise(3, 3)}), **asked)
    assert worse["spa"].passed
    assert not worse["spa_even"].passed
    assert worse["spa_even"].needed == "a gain over even, there was none"
    same = judged(together({"stack": even, "even": even, **noise(3, 3)}), **asked)["spa_even"]
    assert not same.passed
    assert same.reason.startswith("the same return over even in each bar")
    absent = judged(together({"stack": even}), **asked)["spa_even"]
    assert not absent.passed
    assert "no returns of even: add that model or take it out of gates.max_spa_p" in absent.reason


def test_what_would_have_been_needed_is_enough_and_not_too_much():
    others = together(noise(19, 2))
    failed = judged(together({"stack": skill(1.5, 1)}), others)["spa"]
    assert not failed.passed
    more = float(failed.needed.split()[0])
    assert not judged(together({"stack": skill(1.5 * more * 0.85, 1)}), others)["spa"].passed
    assert judged(together({"stack": skill(1.5 * more * 1.15, 1)}), others)["spa"].passed


def test_too_few_bars_pass_no_gate_on_luck():
    """Planted fault: a large Sharpe ratio on 60 bars, among enough models to ask for overfitting."""
    models = together({"stack": skill(8.0, 1, 60), **noise(19, 2, 60)})
    few = judged(models, min_test_bars=61)
    for name in ("spa", "deflated_sharpe", "overfitting"):
        assert not few[name].passed
        assert few[name].value is None
        assert few[name].reason.startswith("only 60 bars, 61 needed (gates.min_test_bars)")
    enough = judged(models, min_test_bars=60)
    assert enough["spa"].passed
    assert enough["overfitting"].value is not None


def test_a_candidate_that_never_traded_has_no_luck():
    flat = judged(together({"stack": np.zeros(BARS), **noise(3, 1)}))
    assert not flat["spa"].passed
    assert flat["spa"].value is None
    assert not flat["deflated_sharpe"].passed


def test_where_the_gates_give_no_chance_none_is_told():
    """Planted faults: 50 good bars, of which luck was said to explain what it shows once in 1,000 cases; and
    a candidate that never traded, whose chance was that of the others.
    """
    own = {"stack": skill(9.0, 1, bars=50), **noise(3, 1, bars=50)}
    flat = {"stack": np.zeros(BARS), **noise(3, 1)}
    for models in (own, flat):
        tried = Tried.of(Trials(scored=(together(models),), unseen=0), Settings(candidate="stack"))
        assert tried.over_nothing.p_value <= 1
        assert luck_of(tried).chance is None
    enough = Settings(candidate="stack", min_test_bars=50)
    assert luck_of(Tried.of(Trials(scored=(together(own),), unseen=0), enough)).chance < 0.01


def test_a_candidate_without_returns_is_named():
    with pytest.raises(ContractError, match=r"no returns of 'stack' \(models: noise_0\)"):
        judged(together(noise(1, 1)))


def test_the_best_of_twenty_without_skill_is_seldom_believed():
    """Full run: tests/benchmarks/bench_trials.py."""
    believed = 0
    for seed in range(20):
        models = noise(20, seed)
        best = max(models, key=lambda name: models[name].mean() / models[name].std())
        models["stack"] = models.pop(best)
        found = judged(together(models))
        believed += found["spa"].passed and found["deflated_sharpe"].passed
    assert believed <= 2
