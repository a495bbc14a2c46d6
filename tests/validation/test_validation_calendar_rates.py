"""Over ten simulated markets of each kind every fault of the calendar is found, and no honest row is taken
for one.
"""

import pytest

from tests.benchmarks.bench_calendars import FAULTS, HONEST, clocks, rates, yearly_errors


@pytest.fixture(scope="module")
def measured():
    return rates(10)


@pytest.mark.parametrize("made", FAULTS, ids=lambda made: made.__name__)
def test_planted_faults_are_found(measured, made):
    rate = measured[made.__name__]
    assert rate.planted >= 20
    assert rate.found == rate.planted
    assert rate.falsely == 0


@pytest.mark.parametrize("made", HONEST, ids=lambda made: made.__name__)
def test_honest_markets_lose_nothing(measured, made):
    rate = measured[made.__name__]
    assert rate.honest > 50_000
    assert rate.falsely == 0


def test_bars_on_changing_clocks_get_their_true_moments():
    outcomes = clocks(40)
    assert outcomes["wrong"] == 0
    assert outcomes["right"] >= 34


def test_bars_a_year_are_right_on_calendars_with_faults():
    assert max(yearly_errors(40).values()) < 1e-9
