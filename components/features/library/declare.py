"""How a factor, and an intermediate column that several factors share, is declared."""

import functools
from dataclasses import dataclass
from typing import Literal

import polars as pl

from components.features.expressions import columns_read
from components.timeline.periods import PERIODS

Scope = Literal["row", "symbol", "market_mean", "sector_mean", "cross_section", "market"]
Normalisation = Literal["none", "rank", "zscore", "minmax", "robust"]
# Short, because the tables are read line by line.
c = pl.col


@dataclass(frozen=True)
class Measure:
    """An intermediate column that factors share; computed once, and only when a wanted factor needs it."""

    name: str
    scope: Scope
    expression: pl.Expr

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the expression reads."""
        return columns_read(self.expression)


@dataclass(frozen=True)
class Factor:
    """One factor.

    `normalisation` says what the models' input is made of it: `none` hands over the value itself.
    """

    name: str
    group: str
    warm_up_bars: int
    expression: pl.Expr
    source: str
    scope: Scope = "symbol"
    normalisation: Normalisation = "rank"
    periods: tuple[str, ...] = PERIODS

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the expression reads."""
        return columns_read(self.expression)


def share(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """a / b, null where b is not positive: for prices and volumes, of which no size is too small."""
    return a / pl.when(b > 0).then(b)


def flag(condition: pl.Expr) -> pl.Expr:
    """1 where the condition holds, 0 where not, null where it is not known."""
    return condition.cast(pl.Float64)
