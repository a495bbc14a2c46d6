"""Each stage that holds whole tables is refused by name before it reads them, where its formula says that it
can never fit; and no formula says more than was measured.
"""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from components.audit import run as audit
from components.backtest import run as backtest
from components.contracts import ContractError
from components.drift import run as drift
from components.experts import run as experts
from components.experts.leaves import Leaf
from components.feature_store import run as feature_store
from components.gates import run as gates
from components.market import make_universe
from components.market import run as market
from components.memory import limits, need
from components.memory.limits import Limit
from components.memory.need import LEAST, MIB, TooLittleMemory
from components.report import run as report
from components.selection import run as selection
from components.stacking import run as stacking
from components.tick_features import day as tick_features
from components.tick_labels import day as tick_labels
from components.tick_replay import run as tick_replay
from components.ticks import pieces as ticks
from components.validation import run as validation

GIB = 1024 * MIB
NOWHERE = "nowhere"


def of_training(path: Path) -> None:
    inputs = experts.Inputs(path, NOWHERE, NOWHERE)
    assignment = experts.Assignment.__new__(experts.Assignment)
    object.__setattr__(assignment, "leaf", Leaf(expert="lightgbm", period="1d", modality="base"))
    experts.run(inputs, experts.Outputs(path.parent / "expert", path.parent / "work"), assignment)


CALLS: dict[str, Callable[[str], object]] = {
    "validation": lambda path: validation.run_validate(
        validation.Inputs(path), validation.Outputs(*[NOWHERE] * 4), settings="{}", code="x"
    ),
    "validate ticks": lambda path: ticks.validate_day(
        {"symbol": "A", "session": "one", "path": path}, Path(path).parent
    ),
    "tick features": lambda path: tick_features.make_day({"path": path}, Path(path).parent),
    "tick labels": lambda path: tick_labels.label_day(
        {"symbol": "A", "session": "one", "path": path, "settings": "{}"}, Path(path).parent
    ),
    "universe": lambda path: make_universe.run_make_universe(path, NOWHERE, settings="{}", code="x"),
    "materialise": lambda path: feature_store.run_materialise(
        feature_store.Factors(path, NOWHERE, NOWHERE, NOWHERE),
        feature_store.Described(NOWHERE, NOWHERE),
        folder=NOWHERE,
        period="1d",
        settings="{}",
        code="x",
    ),
    "training set": lambda path: feature_store.run_make_training_set(
        feature_store.TrainingInputs(path, NOWHERE, NOWHERE, NOWHERE, "1d"),
        NOWHERE,
        folder=NOWHERE,
        settings="{}",
        code="x",
    ),
    "audit": lambda path: audit.run(
        audit.Inputs(NOWHERE, path, NOWHERE, NOWHERE),
        audit.Outputs(NOWHERE, NOWHERE),
        audit.Builders(*[NOWHERE] * 4),
        settings="{}",
        seed=1,
    ),
    "selection": lambda path: selection.run_select(
        selection.Inputs(path, NOWHERE, NOWHERE),
        selection.Outputs(*[NOWHERE] * 3),
        None,
        settings="{}",
        timeline="{}",
        code="x",
    ),
    "train lightgbm": lambda path: of_training(Path(path)),
    "out-of-fold table": lambda path: stacking.run_build_oof(
        stacking.OofInputs(NOWHERE, path, NOWHERE, "return", 5),
        stacking.OofOutputs(*[NOWHERE] * 3),
        settings="{}",
        code="x",
    ),
    "stack": lambda path: stacking.run_stack(
        stacking.StackInputs(NOWHERE, path, NOWHERE, "return", 5),
        stacking.StackOutputs(*[NOWHERE] * 3),
        settings="{}",
        timeline="{}",
        seed=1,
        code="x",
    ),
    "drift reference": lambda path: drift.run_make_reference(
        drift.LearnedFrom(path, NOWHERE, NOWHERE, NOWHERE, "return", 5),
        NOWHERE,
        settings="{}",
        timeline="{}",
        code="x",
    ),
    "gates": lambda path: gates.run(
        gates.Inputs(NOWHERE, path, *[NOWHERE] * 5), gates.Outputs(NOWHERE), settings="{}", code="x"
    ),
    "ingest": lambda path: market.run(
        market.Inputs(1), market.Outputs(NOWHERE, NOWHERE), settings="{}", code="x"
    ),
    "backtest": lambda path: backtest.run(
        backtest.Inputs(NOWHERE, NOWHERE, NOWHERE, path, NOWHERE),
        backtest.Outputs(NOWHERE, NOWHERE),
        settings="{}",
        timeline="{}",
        target="return",
        horizon=5,
        code="x",
    ),
}


@pytest.mark.parametrize("stage", CALLS)
def test_a_stage_that_can_never_fit_is_not_begun(stage, tmp_path, monkeypatch):
    """Only its table is there, so nothing else has been read."""
    path = tmp_path / "table"
    pl.DataFrame({"timestamp": [1], "symbol": ["A"]}).write_parquet(path)
    monkeypatch.setattr(need, "end", lambda root: Limit("planted", 20 * MIB, 0))
    with pytest.raises(TooLittleMemory, match=f"{stage} needs about .* \\(planted\\): it is not begun"):
        CALLS[stage](str(path))


def test_an_audit_of_windows_alone_is_begun_whatever_there_is(tmp_path, monkeypatch):
    """It goes on to the tables, of which none is there."""
    monkeypatch.setattr(need, "end", lambda root: Limit("planted", 20 * MIB, 0))
    call = (audit.Inputs(*[NOWHERE] * 4), audit.Outputs(NOWHERE, NOWHERE), audit.Builders(*[NOWHERE] * 4))
    with pytest.raises(ContractError, match="nowhere does not exist"):
        audit.run(*call, settings='{"whole_history": false}', seed=1)


# Peaks in MiB that `tests/benchmarks/bench_growth.py` and the doors alone had on simulated markets: what no
# file backs, by rows and columns of the table that the stage is told by.
MEASURED = [
    (ticks.NEED, 500_000, 13, 155),
    (ticks.NEED, 1_500_000, 13, 241),
    (ticks.NEED, 3_103_449, 13, 357),
    (tick_features.NEED, 1_000_000, 13, 180),
    (tick_features.NEED, 3_103_449, 13, 223),
    (tick_features.NEED, 20_000_000, 13, 562),
    (tick_labels.NEED, 1_000_000, 13, 218),
    (tick_labels.NEED, 3_103_449, 13, 298),
    (tick_labels.NEED, 20_000_000, 13, 1092),
    (tick_replay.NEED, 199_880, 12, 611),
    (tick_replay.NEED, 2_098_740, 12, 2232),
    (tick_replay.NEED, 6_302_688, 12, 6097),
    (validation.NEED, 291_452, 11, 360),
    (validation.NEED, 971_410, 11, 635),
    (validation.NEED, 1_939_692, 11, 1063),
    (make_universe.NEED, 48_664, 11, 113),
    (make_universe.NEED, 290_827, 11, 145),
    (feature_store.TRAINING_SET_NEED, 115_810, 261, 225),
    (feature_store.TRAINING_SET_NEED, 485_564, 261, 287),
    (feature_store.TRAINING_SET_NEED, 1_942_256, 261, 338),
    (audit.NEED, 484_978, 182, 314),
    (audit.NEED, 968_835, 182, 424),
    (audit.NEED, 1_940_267, 182, 843),
    (drift.NEED, 115_810, 146, 246),
    (drift.NEED, 485_564, 146, 369),
    (market.NEED, 150_000, 11, 113),
    (market.NEED, 2_000_000, 11, 742),
    (feature_store.NEED, 34_794, 182, 175),
    (feature_store.NEED, 145_518, 182, 252),
    (feature_store.NEED, 291_217, 182, 367),
    (experts.NEED, 34_794, 102, 257),
    (experts.NEED, 291_217, 102, 386),
    (experts.NEED, 582_072, 102, 365),
    (experts.TREES, 34_794, 102, 256),
    (experts.TREES, 291_217, 102, 546),
    (experts.TREES, 582_072, 102, 621),
    (experts.NETWORKS, 81_465, 102, 627),
    (selection.NEED, 81_465, 102, 352),
    (stacking.GATHERING, 34_794, 102, 207),
    (stacking.GATHERING, 145_518, 102, 301),
    (stacking.GATHERING, 291_217, 102, 348),
    (backtest.NEED, 34_794, 102, 333),
    (backtest.NEED, 145_518, 102, 405),
    (gates.NEED, 148_066, 16, 280),
    (gates.NEED, 621_735, 16, 441),
    (gates.NEED, 1_241_327, 16, 427),
    (report.NEED, 34_794, 182, 283),
    (report.NEED, 291_217, 182, 415),
    (stacking.STACKING, 161_478, 15, 370),
    (stacking.STACKING, 968_868, 15, 631),
]


@pytest.mark.parametrize(
    ("formula", "rows", "columns", "peak"), MEASURED, ids=[f"{one[0].stage}-{one[1]}" for one in MEASURED]
)
def test_what_is_refused_by_a_formula_is_less_than_was_ever_measured(formula, rows, columns, peak):
    assert LEAST * formula.bytes(rows, columns) < 0.9 * peak * MIB
    assert 0.8 * peak * MIB < formula.bytes(rows, columns) < 1.2 * peak * MIB, "an estimate all the same"


@pytest.mark.parametrize(
    ("rows", "columns", "labels", "peak"),
    [(115_810, 261, 347_430, 378), (485_564, 261, 1_456_692, 1321), (484_978, 182, 1_454_934, 956)],
)
def test_an_audit_that_does_not_fit_at_once_goes_by_pieces(rows, columns, labels, peak, monkeypatch):
    holds = audit.held(rows, columns, labels)
    assert 0.8 * peak * MIB < holds.at_once(rows) < 1.2 * peak * MIB
    monkeypatch.setattr(limits, "room", lambda: int(1.3 * peak) * MIB)
    assert holds.fits_at_once(rows)
    monkeypatch.setattr(limits, "room", lambda: int(0.5 * peak) * MIB)
    assert not holds.fits_at_once(rows)
    monkeypatch.setattr(limits, "target", lambda: int(0.5 * peak) * MIB)
    assert 50_000 <= holds.rows_of_a_piece() < rows
