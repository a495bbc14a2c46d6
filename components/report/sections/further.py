"""Further tasks: which target and horizon is forecast best beside the judged one, and what each earns."""

from collections.abc import Sequence
from dataclasses import dataclass

from components.contracts.documents.evaluation import Evaluation, FurtherModel, FurtherTask, Portfolio
from components.page import Picture, number
from components.report.picture import picture, shown_name, upright_bars
from components.report.summary import CANDIDATES, models_in_test

HEADER = (
    "task",
    "model",
    "RankIC",
    "interval",
    "t",
    "bars",
    "IC",
    "bars above 0",
    "inside band",
    "Sharpe gross",
    "Sharpe net",
    "interval",
    "return net a year",
    "bars won, net",
    "turnover a year",
)
# What the stack chose among: rows that would hide the experts'.
TRIED = (*CANDIDATES, "best_single")
EQUAL = "equal_weights"
# As a normal deviate: luck alone is seldom further from 0.
USUAL_T = 2.0


@dataclass(frozen=True)
class FurtherSection:
    """`skill` and `money` say in words what was found, `caution` what not to make of it; `chosen` are the
    rows of stacks. Words and pictures are of tasks whose order says who earns more: volatility, say, is
    always forecast better, and would hide them.
    """

    skill: str
    money: str
    caution: str
    pictures: list[Picture]
    header: tuple[str, ...]
    rows: list[list[str]]
    chosen: list[int]


@dataclass(frozen=True)
class _Best:
    """What stands for a task: its stack, or its first model where it has none."""

    name: str
    model: FurtherModel


def further_section(evaluation: Evaluation) -> FurtherSection | None:
    """All tasks on the test window, the judged one first; None where nothing else was predicted."""
    if not evaluation.further_tasks:
        return None
    tasks = [_judged(evaluation), *evaluation.further_tasks]
    best = [_Best(_name(task), task.models[0]) for task in tasks if task.models]
    ordered = [one for one in best if one.model.long_short is not None]
    lines = [(place, task, model) for place, task in enumerate(tasks) for model in _shown(task)]
    return FurtherSection(
        skill=_skill(ordered),
        money=_money(ordered, evaluation.cost_bps_per_side),
        caution=_caution(len(tasks)),
        pictures=[_ranking(ordered), _earned(ordered)],
        header=HEADER,
        rows=[_row(_name(task), place == 0, model) for place, task, model in lines],
        chosen=[number for number, (_, _, model) in enumerate(lines) if model.model == "stack"],
    )


def _shown(task: FurtherTask) -> list[FurtherModel]:
    """The stack, the experts, and equal weights where the stack is something else."""
    repeated = [model.model_copy(update={"model": EQUAL}) for model in task.models[:1]]
    return [model for model in task.models if model.model not in TRIED and model not in repeated]


def _judged(evaluation: Evaluation) -> FurtherTask:
    """The judged task with its stack alone: the section of the experts has its other models."""
    block = models_in_test(evaluation)["stack"]
    whole = block.sliced("whole")
    stack = FurtherModel(
        model="stack",
        rows=block.rows,
        labelled_rows=block.labelled_rows,
        ic=block.ic,
        rank_ic=block.rank_ic,
        rank_ic_interval=whole[0].rank_ic_interval if whole else (None, None),
        calibration=block.calibration,
        classes=block.classes,
        long_short=block.portfolio.long_short,
    )
    return FurtherTask(target=evaluation.target, horizon=evaluation.horizon, models=[stack])


def _name(task: FurtherTask) -> str:
    return f"{task.target} over {task.horizon} {'bar' if task.horizon == 1 else 'bars'}"


def _skill(best: Sequence[_Best]) -> str:
    """Which task is forecast best, by how sure it is that there is skill at all."""
    known = [one for one in best if one.model.rank_ic.t_hac is not None]
    if not known:
        return "The bars are too few to tell which is forecast best."
    first = max(known, key=lambda one: one.model.rank_ic.t_hac)
    ranks = first.model.rank_ic
    said = f"RankIC {number(ranks.mean, 4)}, t = {number(ranks.t_hac, 1)}, {ranks.bars:,} bars"
    if ranks.t_hac < USUAL_T:
        return f"None is forecast by more than luck may bring; {first.name} comes closest ({said})."
    return f"{first.name} is forecast best ({said})."


def _money(best: Sequence[_Best], cost: float) -> str:
    """Which task earns most after costs, and whether luck explains that."""
    traded = [(one.name, one.model.long_short) for one in best]
    known = [(name, book) for name, book in traded if book.sharpe_net is not None]
    if not known:
        return "What they earn can't be told: nothing was traded."
    name, book = max(known, key=lambda one: one[1].sharpe_net)
    said = f"{name}, a net Sharpe ratio of {number(book.sharpe_net)} {_limits(book, 1)}"
    if book.sharpe_net <= 0:
        return f"After {cost:g} bps a side none earns anything; least is lost by {said}."
    low = book.sharpe_net_interval[0]
    doubt = "" if low is not None and low > 0 else "; by these bars it may as well be nothing"
    return f"After {cost:g} bps a side most is earned by {said}{doubt}."


def _caution(tasks: int) -> str:
    return (
        f"No gate looks at these, and no trial is counted: who now picks the best of the {tasks} has tried"
        f" {tasks} times. Named as labels.target and labels.primary_horizon a task is judged like any other."
    )


def _ranking(best: Sequence[_Best]) -> Picture:
    limits = [one.model.rank_ic_interval for one in best]
    means = [one.model.rank_ic.mean for one in best]
    bars = _with_whiskers([one.name for one in best], means, limits)
    return picture("RankIC by task", [bars], {"yaxis": {"title": "mean RankIC"}, "showlegend": False})


def _earned(best: Sequence[_Best]) -> Picture:
    traded = [(one.name, one.model.long_short) for one in best]
    limits = [book.sharpe_net_interval for _, book in traded]
    bars = _with_whiskers([name for name, _ in traded], [book.sharpe_net for _, book in traded], limits)
    layout = {"yaxis": {"title": "Sharpe ratio, net"}, "showlegend": False}
    return picture("Sharpe ratio net of costs, each held for its own horizon", [bars], layout)


def _with_whiskers(
    names: Sequence[str], values: Sequence[float | None], limits: Sequence[tuple[float | None, float | None]]
) -> dict:
    """Bars with their intervals; none where a limit is unknown."""
    reach = [
        None if value is None or low is None or high is None else (high - low) / 2
        for value, (low, high) in zip(values, limits, strict=True)
    ]
    return upright_bars(names, values) | {"error_y": {"type": "data", "array": reach, "thickness": 1.2}}


def _row(task: str, judged: bool, model: FurtherModel) -> list[str]:
    low, high = (number(limit, 4) for limit in model.rank_ic_interval)
    return [
        f"{task} (judged)" if judged else task,
        shown_name(model.model),
        number(model.rank_ic.mean, 4),
        f"[{low}, {high}]",
        number(model.rank_ic.t_hac, 1),
        f"{model.rank_ic.bars:,}",
        number(model.ic.mean, 4),
        number(model.rank_ic.hit_share, 0, percent=True),
        number(model.calibration.inside_p10_p90, 0, percent=True),
        *_cells(model.long_short),
    ]


def _cells(book: Portfolio | None) -> list[str]:
    if book is None:
        return ["–"] * 6
    return [
        number(book.sharpe_gross),
        number(book.sharpe_net),
        _limits(book, 2),
        number(book.annual_return_net, 1, percent=True),
        number(book.hit_rate, 0, percent=True),
        number(book.annual_turnover, 1),
    ]


def _limits(book: Portfolio, digits: int) -> str:
    low, high = (number(limit, digits) for limit in book.sharpe_net_interval)
    return f"[{low}, {high}]"
