"""No gate reads what is predicted beside the judged task."""

from dataclasses import replace

from luck_market import Measured, measured

from components.contracts.documents.evaluation import FurtherModel, FurtherTask, Measurement
from components.gates.config import Settings
from components.gates.judge import judge
from components.gates.promotion import Contest


def verdict_of(candidate: Measured):
    contest = Contest(candidate.evaluation, candidate.predictions, candidate.labels, None)
    return judge(contest, candidate.trials, Settings(), code="c")


def further_task(block: Measurement) -> FurtherTask:
    """A further task on which the stack does as well as it does here."""
    model = FurtherModel(
        model="stack",
        rows=block.rows,
        labelled_rows=block.labelled_rows,
        ic=block.ic,
        rank_ic=block.rank_ic,
        rank_ic_interval=(0.05, 0.2),
        calibration=block.calibration,
        classes=None,
        long_short=block.portfolio.long_short,
    )
    return FurtherTask(target="log_return", horizon=1, models=[model])


def test_a_brilliant_further_task_does_not_help_a_poor_judged_one():
    """Planted: figures that pass every gate where they are judged, beside a judged task of pure luck."""
    brilliant = measured(3, true_ic=0.1, persistence=0.9)
    assert verdict_of(brilliant).approved
    poor = measured(1000, true_ic=0.0, persistence=0.9)
    task = further_task(brilliant.evaluation.experts["stack"].test)
    both = replace(poor, evaluation=poor.evaluation.model_copy(update={"further_tasks": [task]}))
    assert not verdict_of(both).approved
    assert verdict_of(both) == verdict_of(poor)
