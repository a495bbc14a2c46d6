"""In parts: the stack's figures by how much names trade, and by regime, time, sector and symbol."""

from dataclasses import dataclass

from components.contracts.documents.evaluation import (
    Evaluation,
    Liquidity,
    Measurement,
    Ranking,
    SliceName,
    SliceRow,
)
from components.page import number

TITLES: dict[SliceName, str] = {
    "traded_value": "By traded value: tenths of a bar's names, 1 trades least",
    "size": "By size, what all shares are worth: tenths of a bar's names, 1 is smallest",
    "regime": "By regime",
    "sector": "By sector",
    "year": "By year",
    "month": "By month of the year",
    "weekday": "By weekday",
    "hour": "By hour of the day, UTC",
    "symbol": "By symbol",
}
OPEN = ("traded_value", "regime")
# Symbols that are shown: so many that brought most, and as many that brought least.
MOST_SYMBOLS = 10
HEADER = [
    "part",
    "bars",
    "IC",
    "RankIC",
    "t",
    "ICIR",
    "band",
    "profit",
    "bps a bar",
    "Sharpe net",
    "IR",
    "hit",
    "fall",
    "turnover",
    "costs",
    "IR per turnover",
]
BUYABLE_HEADER = ["names", "rows", "IC", "RankIC", "t", "Sharpe net", "drawdown"]


@dataclass(frozen=True)
class PartTable:
    """One kind of parts; `note` says what is left out."""

    title: str
    rows: list[list[str]]
    whole: list[int]
    shown: bool
    note: str


@dataclass(frozen=True)
class PartsSection:
    """`buyable`: the figures with all names, in the universe, and by fifths. `level`: of the intervals."""

    level: str
    buyable_header: list[str]
    buyable: list[list[str]]
    remark: str
    header: list[str]
    tables: list[PartTable]


def parts_section(evaluation: Evaluation) -> PartsSection:
    """The stack on the test window."""
    block = evaluation.tested("stack")
    whole = block.sliced("whole")
    return PartsSection(
        level=f"{block.portfolio.long_short.interval_level:.0%}",
        buyable_header=BUYABLE_HEADER,
        buyable=_buyable(block),
        remark=_remark(block.liquidity),
        header=HEADER,
        tables=[_table(by, title, block, whole) for by, title in TITLES.items() if block.sliced(by)],
    )


def _table(by: SliceName, title: str, block: Measurement, whole: list[SliceRow]) -> PartTable:
    rows, note = block.sliced(by), ""
    if by == "symbol" and len(rows) > 2 * MOST_SYMBOLS:
        ordered = sorted(rows, key=lambda row: row.profit or 0.0, reverse=True)
        note = f"The {MOST_SYMBOLS} of {len(rows):,} that brought most, and as many that brought least."
        rows = ordered[:MOST_SYMBOLS] + ordered[-MOST_SYMBOLS:]
    profit = sum(row.profit or 0.0 for row in whole)
    cells = [_row(row, profit) for row in (*whole, *rows)]
    return PartTable(title, cells, list(range(len(whole))), by in OPEN, note)


def _row(row: SliceRow, profit: float) -> list[str]:
    share = row.profit / profit if row.profit is not None and profit > 0 else None
    return [
        row.part.replace("_", " "),
        f"{row.bars:,}",
        _within(row.ic, row.ic_interval, 2),
        _within(row.rank_ic, row.rank_ic_interval, 3),
        number(row.rank_ic_t, 1),
        number(row.icir),
        number(row.inside_p10_p90, 0, percent=True),
        number(share, 0, percent=True),
        number(row.average_return_bps),
        _within(row.sharpe_net, row.sharpe_net_interval, 1),
        number(row.information_ratio, 1),
        number(row.hit_share, 0, percent=True),
        number(row.max_drawdown, 0, percent=True),
        number(row.turnover),
        number(row.cost_share, 0, percent=True),
        number(row.ratio_per_turnover),
    ]


def _within(value: float | None, interval: tuple[float | None, float | None], digits: int) -> str:
    """The value and how far its interval, which lies about it, reaches to both sides; on one line."""
    _, high = interval
    if value is None or high is None:
        return number(value, digits)
    return f"{number(value, digits)}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{number(high - value, digits)}"


def _buyable(block: Measurement) -> list[list[str]]:
    own, every, fifths = block.portfolio.long_short, block.all_names, block.liquidity
    name = "every name" if every is None else "the universe that can be traded"
    rows = [
        [
            name,
            f"{block.rows:,}",
            *_skill(block.ic, block.rank_ic),
            number(own.sharpe_net),
            _fall(own.max_drawdown),
        ]
    ]
    if every is not None:
        long_short = every.portfolio.long_short
        money = [number(long_short.sharpe_net), _fall(long_short.max_drawdown)]
        rows.append(
            ["all names, for comparison", f"{every.rows:,}", *_skill(every.ic, every.rank_ic), *money]
        )
    if fifths is not None:
        outside = [number(fifths.sharpe_net_outside), "–"]
        rows.append(["without the least traded fifth", "–", *_skill(None, fifths.rank_ic_outside), *outside])
        most = _skill(None, fifths.rank_ic_most_traded)
        rows.append(["the names that make four fifths of the money", "–", *most, "–", "–"])
    return rows


def _skill(ic: Ranking | None, rank_ic: Ranking) -> list[str]:
    return [number(ic and ic.mean, 4), number(rank_ic.mean, 4), number(rank_ic.t_hac, 1)]


def _fall(drawdown: float | None) -> str:
    return number(drawdown, 1, percent=True)


def _remark(fifths: Liquidity | None) -> str:
    if fifths is None:
        return "No volume is known, so nobody can tell which names trade enough to be bought."
    if fifths.least_traded_profit_share is None:
        return "The positions that long_short asks for earned nothing before costs."
    share = number(fifths.least_traded_profit_share, 0, percent=True)
    return f"Of long_short's profit before costs {share} comes from the least traded fifth of names."
