"""The universe that can be traded: by hand on ten rows, against brute force, and blind to the future."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import PANEL, TIME, UNIVERSE, check_table, read_table, write_table
from components.market.errors import MarketError
from components.market.make_universe import run_make_universe
from components.market.universe import described, tradable_universe
from components.market.universe_config import UniverseSettings

FIRST = datetime(2024, 1, 1, 21, tzinfo=UTC)


def panel(rows: list[tuple], **optional) -> pl.DataFrame:
    """Rows (bar, symbol, close, volume) as a PANEL table."""
    frame = pl.DataFrame(
        rows,
        schema={"bar": pl.Int64, "symbol": pl.String, "close": pl.Float64, "volume": pl.Float64},
        orient="row",
    ).with_columns(pl.Series(name, values) for name, values in optional.items())
    moment = (pl.lit(FIRST) + pl.duration(days=pl.col("bar"))).cast(TIME)
    return (
        frame.with_columns(
            moment.alias("timestamp"),
            moment.alias("event_time"),
            moment.alias("known_time"),
            pl.lit("1d").alias("period"),
            pl.lit(None, dtype=pl.String).alias("sector"),
            *(pl.col("close").alias(name) for name in ("open", "high", "low")),
        )
        .sort("timestamp", "symbol")
        .select(*PANEL.columns, *optional)
    )


# A is large, B small and away in bar 2, C new in bar 2 and without a trade in bar 3.
TEN = [
    *((0, "A", 10.0, 100.0), (0, "B", 2.0, 10.0)),
    *((1, "A", 10.0, 300.0), (1, "B", 4.0, 10.0)),
    *((2, "A", 20.0, 100.0), (2, "C", 5.0, 80.0)),
    *((3, "A", 20.0, 100.0), (3, "B", 4.0, 40.0), (3, "C", 5.0, 0.0)),
    (4, "A", 20.0, None),
]
# Means over the last two bars: B has nothing in bar 2, A's last volume is unknown.
TRADED_VALUE = [1000, 20, 2000, 30, 2500, 400, 2000, 80, 200, 2000]


def tradable(rows, **settings) -> list[bool]:
    return tradable_universe(panel(rows), UniverseSettings(bars=2, **settings))["tradable"].to_list()


def test_ten_rows_by_hand():
    made = tradable_universe(panel(TEN), UniverseSettings(bars=2))
    assert check_table(made, UNIVERSE, source="made")["traded_value"].to_list() == TRADED_VALUE
    assert made["tradable"].all()
    no, yes = False, True
    assert tradable(TEN, min_traded_value=100) == [yes, no, yes, no, yes, yes, yes, no, yes, yes]
    assert tradable(TEN, most_traded_names=1) == [yes, no, yes, no, yes, no, yes, no, no, yes]
    assert tradable(TEN, most_traded_share=0.7) == [yes, no, yes, no, yes, no, yes, no, yes, yes]
    assert tradable(TEN, min_price=4.5) == [yes, no, yes, no, yes, yes, yes, no, yes, yes]
    assert tradable(TEN, min_traded_share=1) == [yes, yes, yes, yes, yes, yes, yes, no, no, yes]
    assert tradable(TEN, min_listed_bars=3) == [no, no, no, no, yes, no, yes, yes, no, yes]
    assert tradable(TEN, min_listed_bars=3, min_price=4.5) == [no, no, no, no, yes, no, yes, no, no, yes]


def test_bars_that_nobody_could_trade_in_were_not_traded():
    rows = [(bar, symbol, 1.0, 5.0) for bar in range(2) for symbol in "AB"]
    made = tradable_universe(
        panel(rows, unbuyable=[False, False, True, True], unsellable=[False, False, True, False]),
        UniverseSettings(bars=2, min_traded_share=0.6),
    )
    assert made["tradable"].to_list() == [True, True, False, True]


def market(seed: int, bars: int = 40, symbols: int = 9) -> list[tuple]:
    """Names that come late, stop, pause, and have volumes that are 0 or unknown."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(symbols):
        first, last = random.integers(0, bars // 2), random.integers(bars // 2, bars + 1)
        if not number:  # one that is always there: bars without any row are none of the calendar
            first, last = 0, bars
        for bar in range(first, last):
            if random.random() > 0.15 or not number:
                volume = random.choice([0.0, None, random.lognormal(3)], p=[0.1, 0.1, 0.8])
                rows.append((bar, f"S{number}", float(random.lognormal(2)), volume))
    return rows


ASKED = {
    "min_traded_value": 100.0,
    "most_traded_names": 4,
    "most_traded_share": 0.5,
    "min_price": 4.0,
    "min_traded_share": 0.8,
    "min_listed_bars": 7,
}


@pytest.mark.parametrize("name", ASKED)
def test_every_rule_agrees_with_brute_force(name):
    bars, rows = 6, market(1)
    values, kept = {}, {}
    for bar, symbol, close, _ in rows:
        own = {at: (price, volume) for at, other, price, volume in rows if other == symbol and at <= bar}
        window = range(max(min(own), bar - bars + 1), bar + 1)
        seen = [own.get(at, (0.0, 0.0)) for at in window]
        known = [price * volume for price, volume in seen if volume is not None]
        really = [own[at][1] is not None for at in window if at in own]
        values[bar, symbol] = sum(known) / len(known) if any(really) else None
        kept[bar, symbol] = {
            "min_price": close >= ASKED["min_price"],
            "min_traded_share": np.mean([at in own and own[at][1] != 0 for at in window])
            >= ASKED["min_traded_share"],
            "min_listed_bars": bar - min(own) + 1 >= ASKED["min_listed_bars"],
        }
    for (bar, symbol), value in values.items():
        others = [other for (at, _), other in values.items() if at == bar and other is not None]
        place = sum(other > value for other in others) + 1 if value else len(rows)
        kept[bar, symbol] |= {
            "min_traded_value": value is not None and value >= ASKED["min_traded_value"],
            "most_traded_names": place <= ASKED["most_traded_names"],
            "most_traded_share": place <= max(1, len(others) * ASKED["most_traded_share"]),
        }
    made = tradable_universe(panel(rows), UniverseSettings(bars=bars, **{name: ASKED[name]}))
    order = sorted(values)
    assert made["traded_value"].to_list() == pytest.approx([values[key] for key in order])
    assert made["tradable"].to_list() == [kept[key][name] for key in order]
    assert 0 < made["tradable"].sum() < len(made)


@pytest.mark.parametrize(("seed", "cut"), list(itertools.product(range(4), (5, 20, 33))))
def test_the_future_changes_nothing_that_was_known(seed, cut):
    settings = UniverseSettings(bars=6, min_traded_value=40, most_traded_share=0.7, min_traded_share=0.5)
    random = np.random.default_rng(seed)
    past = [row for row in market(seed) if row[0] <= cut]
    future = [
        (bar, symbol, close * random.lognormal(0, 2), random.lognormal(9))
        for bar, symbol, close, _ in market(seed + 100)
        if bar > cut
    ]
    newcomers = [(bar, "Z", 1.0, 1e12) for bar in range(cut + 1, 60)]
    now, later = (
        tradable_universe(panel(rows), settings).filter(pl.col("timestamp") <= FIRST + timedelta(days=cut))
        for rows in (market(seed), [*past, *future, *newcomers])
    )
    assert now.equals(later)
    assert 0 < now["tradable"].sum() < len(now)


def test_what_cannot_be_had_is_told():
    with pytest.raises(MarketError, match="no volume of the panel is known"):
        tradable([(0, "A", 1.0, None), (1, "A", 1.0, None)], most_traded_share=0.5)
    with pytest.raises(
        MarketError, match=r"none of 10 rows .* min_price = 50 is kept by 0 rows; .* close 20"
    ):
        tradable(TEN, min_price=50)
    unknown = [(0, "A", 1.0, None), (0, "B", 1.0, 3.0)]
    assert tradable(unknown, min_traded_value=1) == [False, True]


def test_the_door_writes_the_table_and_says_how_much_is_left(tmp_path, capsys):
    write_table(panel(TEN), tmp_path / "panel", PANEL, code_version="c", config_hash="h", inputs={})
    run_make_universe(
        tmp_path / "panel", tmp_path / "universe", settings='{"bars": 2, "most_traded_names": 1}', code="c"
    )
    assert read_table(tmp_path / "universe", UNIVERSE)["tradable"].sum() == 5
    assert "5 of 10 rows can be traded (50%); 1 names a bar" in capsys.readouterr().err
    assert described(tradable_universe(panel(TEN), UniverseSettings())) == "all 10 rows can be traded"
