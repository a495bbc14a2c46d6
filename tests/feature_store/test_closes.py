"""The closes of what is online: of the very bar that the features are of, or none."""

import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from components.contracts import ContractError
from components.feature_store.closes import Closes, newest_closes

START = datetime(2024, 1, 1, 21, tzinfo=UTC)


def rows(*bars: tuple) -> pl.DataFrame:
    """(bar, symbol, close) each."""
    schema = {"timestamp": pl.Datetime("us", "UTC"), "symbol": pl.String, "close": pl.Float64}
    return pl.DataFrame(
        [(START + timedelta(days=bar), symbol, close) for bar, symbol, close in bars], schema, orient="row"
    )


def micros(bar: int) -> int:
    return int((START + timedelta(days=bar)).timestamp() * 1e6)


def test_each_symbol_has_the_close_of_its_own_newest_factors():
    """Planted: B's factors end a bar before its prices, C has no close there, D's price is none."""
    panel = rows((0, "A", 9.0), (1, "A", 10.5), (0, "B", 3.0), (1, "B", 4.0), (0, "C", 5.0), (1, "C", None))
    panel = pl.concat([panel, rows((1, "D", 0.0))])
    factors = rows((0, "A", 0), (1, "A", 0), (0, "B", 0), (0, "C", 0), (1, "C", 0), (1, "D", 0)).drop("close")
    found = Closes.of({"closes": newest_closes(factors, panel).as_json()}, source="current.json")
    assert (found.at("A", micros(1)), found.at("B", micros(0))) == (10.5, 3.0)
    others = [("A", 0), ("B", 1), ("C", 0), ("C", 1), ("D", 1), ("E", 1)]
    assert all(math.isnan(found.at(symbol, micros(bar))) for symbol, bar in others)


def test_a_store_of_before_knows_none_and_a_damaged_one_is_named():
    assert math.isnan(Closes.of({}, source="current.json").at("A", micros(1)))
    for damaged in ({"A": 3.0}, {"A": ["soon", 1.0]}, [1.0]):
        with pytest.raises(ContractError, match=r"current\.json holds .closes. of another form"):
            Closes.of({"closes": damaged}, source="current.json")
