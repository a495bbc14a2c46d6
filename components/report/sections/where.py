"""Where it works: RankIC by regime, year and sector, and how labels differ between regimes."""

from dataclasses import dataclass

import polars as pl

from components.contracts.documents.evaluation import Evaluation, Measurement, SliceName
from components.page import Picture, number
from components.report.picture import picture, shown_name, signed_heat
from components.report.summary import CANDIDATES, models_in_test

LEFT_OUT = ("median", *CANDIDATES)
MOST_WITH_NUMBERS = 8
SIGNIFICANT = 0.05
HEADER = [
    "regime",
    "against",
    "bars",
    "mean",
    "there",
    "deviation",
    "there",
    "KS",
    "KS by chance",
    "effective rows",
    "p, adjusted",
]
FIGURES = ("mean", "mean_against", "deviation", "deviation_against", "ks", "ks_by_chance")


@dataclass(frozen=True)
class WhereSection:
    """Three heat maps, and the table of `components.metrics.regime_shift`.

    Rows in `moved` stand out: they moved by more than chance, all rows counted.
    """

    pictures: list[Picture]
    header: list[str]
    rows: list[list[str]]
    moved: list[int]


def where_section(evaluation: Evaluation, label_shift: pl.DataFrame) -> WhereSection:
    """The test window in parts."""
    rows = label_shift.to_dicts()
    p_values = [row["adjusted_p_value"] for row in rows]
    return WhereSection(
        pictures=[
            _heat(evaluation, "regime", "By regime"),
            _heat(evaluation, "year", "By year"),
            _heat(evaluation, "sector", "By sector", wide=True),
        ],
        header=HEADER,
        rows=[
            [
                row["regime"].replace("_", " "),
                row["against"].replace("_", " "),
                f"{row['bars']:,}",
                *(number(row[name], 4) for name in FIGURES),
                number(row["effective_rows"], 0),
                number(row["adjusted_p_value"], 3),
            ]
            for row in rows
        ],
        moved=[k for k, p_value in enumerate(p_values) if p_value is not None and p_value < SIGNIFICANT],
    )


def _heat(evaluation: Evaluation, by: SliceName, title: str, *, wide: bool = False) -> Picture:
    models = models_in_test(evaluation, without=LEFT_OUT)
    bars = {row.part: row.bars for row in models["stack"].sliced(by)}
    cells = [[_rank_ics(block, by).get(part) for part in bars] for block in models.values()]
    groups = [f"{part} ({count})" for part, count in bars.items()]
    heat = signed_heat(groups, [shown_name(name) for name in models], cells)
    if len(groups) <= MOST_WITH_NUMBERS:
        heat["texttemplate"] = "%{z:.3f}"
    return picture(title, [heat], {"xaxis": {"type": "category"}}, wide=wide)


def _rank_ics(block: Measurement, by: SliceName) -> dict[str, float | None]:
    return {row.part: row.rank_ic for row in block.sliced(by)}
