"""Cross-validation: what models did on each backtest path before the test window."""

from dataclasses import dataclass

from components.contracts.documents.cross_validated import CrossValidated, Distribution, ModelPaths
from components.contracts.documents.evaluation import Evaluation
from components.page import Picture, number
from components.report.picture import picture, shown_name

HEADER = ("model", "Sharpe net", "10 % to 90 %", "paths below 0", "RankIC", "10 % to 90 %", "paths below 0")
SHARPE_PLACES, RANK_IC_PLACES = 2, 4


@dataclass(frozen=True)
class CrossedSection:
    """Pictures and a table with a row a model; `about` says in words what was left out how often."""

    about: str
    pictures: list[Picture]
    header: tuple[str, ...]
    rows: list[list[str]]


def crossed_section(evaluation: Evaluation) -> CrossedSection | None:
    """The paths of every model, best first; None where there was no cross-validation."""
    found = evaluation.cross_validated
    if found is None:
        return None
    models = dict(sorted(found.models.items(), key=lambda item: -_middle(item[1])))
    sharpe = {name: [path.sharpe_net for path in model.paths] for name, model in models.items()}
    ranks = {name: [path.rank_ic for path in model.paths] for name, model in models.items()}
    return CrossedSection(
        about=_about(found),
        pictures=[
            _dots("Sharpe ratio net of costs, a dot a path", sharpe),
            _dots("RankIC, a dot a path", ranks),
        ],
        header=HEADER,
        rows=[_row(name, model) for name, model in models.items()],
    )


def _about(found: CrossValidated) -> str:
    first, last = found.groups[0].start[:10], found.groups[-1].end[:10]
    tested = "one group" if found.test_groups == 1 else f"{found.test_groups} groups"
    paths = "one path" if found.paths == 1 else f"{found.paths} paths"
    return (
        f"{first} to {last} in {len(found.groups)} groups, {tested} left out at a time: {found.splits} fits"
        f" of each expert, {paths}."
    )


def _middle(model: ModelPaths) -> float:
    """The median Sharpe ratio; models without one stand last."""
    return float("-inf") if model.sharpe_net.p50 is None else model.sharpe_net.p50


def _dots(title: str, values: dict[str, list[float | None]]) -> Picture:
    dots = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": shown_name(name),
            "x": [shown_name(name)] * len(paths),
            "y": paths,
            "marker": {"size": 9, "opacity": 0.7},
        }
        for name, paths in values.items()
    ]
    return picture(title, dots, {"showlegend": False})


def _row(name: str, model: ModelPaths) -> list[str]:
    return [
        shown_name(name),
        *_cells(model.sharpe_net, SHARPE_PLACES),
        *_cells(model.rank_ic, RANK_IC_PLACES),
    ]


def _cells(values: Distribution, places: int) -> list[str]:
    return [
        number(values.p50, places),
        f"{number(values.p10, places)} to {number(values.p90, places)}",
        number(values.share_below_0, 0, percent=True),
    ]
