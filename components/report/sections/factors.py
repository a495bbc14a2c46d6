"""Factors: how each input alone orders what happens next."""

from dataclasses import dataclass

import polars as pl

from components.page import Picture, number
from components.report.factor_ic import FactorIc
from components.report.picture import EVERY_LABEL, dotted_line, lying_bars, picture, signed_heat, upright_bars

DRAWN, LISTED = 25, 12


@dataclass(frozen=True)
class FactorsSection:
    """Pictures in the order in which they are shown, and the rows of the table of the strongest."""

    pictures: list[Picture]
    header: list[str]
    rows: list[list[str]]


def factors_section(ic: FactorIc) -> FactorsSection:
    """The strongest factors before the test window, by year, over lags, and by group."""
    top = ic.table.head(DRAWN)
    order = top["column"].to_list()[::-1]
    rows = [
        [
            row["column"],
            row["group"],
            number(row["rank_ic"], 4),
            number(row["t"], 1),
            number(row["icir"], 2),
            number(row["rank_ic_test"], 4),
        ]
        for row in top.head(LISTED).to_dicts()
    ]
    return FactorsSection(
        pictures=[_strongest(top, order), _by_year(ic, order), _decay(ic), _by_group(ic)],
        header=["factor", "group", "RankIC", "t", "ICIR", "RankIC test"],
        rows=rows,
    )


def _strongest(top: pl.DataFrame, order: list[str]) -> Picture:
    ranked = {row["column"]: row for row in top.to_dicts()}
    before = lying_bars(order, [ranked[column]["rank_ic"] for column in order])
    after = {
        "type": "scatter",
        "mode": "markers",
        "name": "test window",
        "y": order,
        "x": [ranked[column]["rank_ic_test"] for column in order],
        "marker": {"symbol": "diamond", "size": 8},
    }
    layout = {"xaxis": {"title": "mean RankIC"}, "yaxis": EVERY_LABEL}
    traces = [before | {"name": "before the test window"}, after]
    return picture("The 25 strongest factors", traces, layout, tall=True)


def _by_year(ic: FactorIc, order: list[str]) -> Picture:
    years = sorted(ic.by_year["year"].unique())
    values = {(row["column"], row["year"]): row["rank_ic"] for row in ic.by_year.to_dicts()}
    cells = [[values.get((column, year)) for year in years] for column in order]
    heat = signed_heat([str(year) for year in years], order, cells)
    layout = {"xaxis": {"type": "category"}, "yaxis": EVERY_LABEL}
    return picture("The same by year", [heat], layout, tall=True)


def _decay(ic: FactorIc) -> Picture:
    parts = ic.decay.partition_by("column", as_dict=True, maintain_order=True)
    curves = [
        dotted_line(name, part["lag"].to_list(), part["rank_ic"].to_list()) for (name,), part in parts.items()
    ]
    layout = {"xaxis": {"title": "bars after the signal"}, "yaxis": {"title": "RankIC"}}
    return picture("Decay over lags", curves, layout)


def _by_group(ic: FactorIc) -> Picture:
    sizes = ic.table.group_by("group").agg(pl.col("rank_ic").abs().mean().alias("size"))
    groups = sizes.sort("size", descending=True, nulls_last=True)
    bars = upright_bars(groups["group"].to_list(), groups["size"].to_list())
    return picture("Mean size of RankIC by group", [bars])
