"""What the simulator plants is found, what it does not plant is not, and its clock is recovered."""

import numpy as np
import polars as pl
import pytest

from components.ticks.config import Settings
from components.ticks.examine import examine
from components.ticks.sources.simulator import read

# Reasons by which a kind of planted fault shows itself, each at least as often as it was planted.
SHOWN = {
    "gaps": ("broken_chain",),
    "crossed": ("crossed_quote", "crossed_book"),
    "duplicates": ("duplicate",),
    "out_of_order": ("put_in_order",),
    "numbering_reset": ("numbering_reset",),
    "halt": ("halt",),
}


def session(*faults, minutes=4.0, start="2026-01-05T14:00:00"):
    """The events of one simulated symbol, what was found in them, and the truth."""
    simulator = {"symbols": 1, "session_minutes": minutes, "faults": faults, "start": start}
    settings = Settings(source="simulator", simulator=simulator, clock={"floor_ms": 1.0})
    recording = read(settings, None, 4)
    day = next(recording.days)
    return day.ticks, examine(day.ticks, settings), recording.truth().sessions[0]


def test_a_clean_market_passes_with_nothing_found():
    ticks, found, _ = session()
    assert not len(found.quarantine)
    assert not len(found.told.filter(pl.col("reason") != "silence"))
    assert found.crossed_states == 0
    assert len(found.ticks) == len(ticks)


@pytest.mark.parametrize("fault", [name for name in SHOWN if name != "numbering_reset"])
def test_what_is_planted_is_found(fault):
    _, found, truth = session(fault)
    planted = [one for one in truth.faults if one.kind == fault]
    reasons = pl.concat([found.quarantine["reason"], found.told["reason"]])
    counts = dict(reasons.value_counts().rows())
    assert planted
    for reason in SHOWN[fault]:
        assert counts.get(reason, 0) >= len(planted)


def test_a_reset_at_midnight_is_told_and_no_fault():
    _, found, _ = session("numbering_reset", start="2026-01-05T23:58:00")
    assert found.told["reason"].to_list() == ["numbering_reset"]
    assert not len(found.quarantine)


def test_offset_and_drift_are_recovered_within_a_fifth_of_a_millisecond():
    _, found, truth = session(minutes=10.0)
    clock, ticks = truth.clock, found.ticks
    # The truth's offset has the least delay in it, which the settings' floor tells from it.
    start_ns = clock.offset_ns - clock.least_delay_ns
    true = start_ns + clock.drift_ns_per_s * (ticks["exchange_ts"].to_numpy() - clock.at_ts) / 1e9
    settled = ticks["ingest_ts"].to_numpy() > ticks["ingest_ts"][0] + 60 * 10**9
    error_ms = (ticks["offset_ns"].to_numpy() - true)[settled] / 1e6
    assert np.abs(error_ms).max() < 0.2
    assert found.clock.drift[-1] * 1e9 == pytest.approx(clock.drift_ns_per_s, abs=0.8e3)
