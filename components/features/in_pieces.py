"""Builds the factors table of a panel that is larger than memory, with the bits of `build_factors`.

Everything that looks back is made from blocks of symbols, everything that looks across from blocks of bars.
First come the measures that bars have together (market and sector means, ranks within formulas), then the
factors and their scores by the own past, then ranks, formulas and the inputs of coarser periods.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import FACTORS, PANEL, Stamp
from components.contracts.cut import SYMBOL, TIME, Cut, Shelf, cut_of
from components.contracts.parts import write_part, write_parts
from components.features.build import market_inputs
from components.features.catalog import (
    catalog,
    columns_read,
    declared_factors,
    longest_warm_up,
    of_coarser,
    own_period,
    refuse_finer,
)
from components.features.coarser_in_pieces import Coarser, coarser_columns, gathered_on_shelf
from components.features.config import Settings
from components.features.inputs import formula_values, scored_formulas, with_ranks, with_scores
from components.features.kernels import BAR
from components.features.known_times import late_rows, latest, others_known_times, own_known_times
from components.features.library import Factor, Measure, needed_measures
from components.features.panels import PanelOnDisk, PanelOnShelf
from components.features.raw_values import (
    TIME_SECTOR,
    ArrangedPanel,
    add_measures,
    arranged,
    codes,
    market_factors,
    market_means,
    own_blocks,
    shared_rounds,
    shared_values,
    time_and_sector,
)
from components.features.support import panel_period, supported_catalog, unsupported
from components.memory.given_back import give_back
from components.settings import config_hash
from components.timeline.periods import LENGTHS

# A helper column beside the bars: the sector by name, whose numbers differ from block to block.
SECTOR_NAME = "_sector"


def build_in_pieces(
    source: PanelOnDisk,
    settings: Settings,
    target: str | os.PathLike,
    *,
    code_version: str,
    inputs: Mapping[str, str],
) -> Stamp:
    """Write the factors table of a panel to `target` with its stamp, as `build_supported` gives it; file and
    content hash are the same for any cut. `inputs` are content hashes of the tables that it comes from.

    Raises
    ------
    FeatureError
        As `build_factors`.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    entries, _ = supported_catalog(source.lazy(), settings)
    wanted = [*FACTORS.columns, *(entry.column for entry in entries)]
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
        folder, parts = Path(name), []
        for table in _tables(source, settings, folder):
            parts.append(write_part(table.select(wanted), folder / f"part_{len(parts):05d}"))
            # Or it would stand beside the next one.
            del table
        about = {"code_version": code_version, "config_hash": config_hash(settings), "inputs": inputs}
        return write_parts(parts, target, FACTORS, **about)


def tables_in_pieces(panel: pl.DataFrame, settings: Settings, rows: int) -> Iterator[pl.DataFrame]:
    """What `build_factors` makes of a panel, in blocks of bars of about so many rows, one after another and
    sorted by time and symbol; the bits are the same for any cut.

    Raises
    ------
    FeatureError
        As `build_factors`.
    """
    source = PanelOnDisk(panel.lazy(), cut_of(panel.lazy(), rows))
    with tempfile.TemporaryDirectory(prefix="alphaloop-features-") as folder:
        yield from _tables(source, settings, Path(folder))


def _tables(source: PanelOnDisk, settings: Settings, folder: Path) -> Iterator[pl.DataFrame]:
    """The table of each block of bars, with all columns of the catalog; what lies behind them stands in
    `folder`.
    """
    period = panel_period(source.lazy())
    refuse_finer(settings, period)
    wanted = [*FACTORS.columns, *(entry.column for entry in catalog(settings, period))]
    panel = source.on_shelf(folder / "panel")
    coarser = _coarser_tables(panel, settings, LENGTHS[period], folder)
    build = _Build.of(panel, own_period(settings), LENGTHS[period], folder / period)
    made = _made(build)
    for block in source.cut.bar_blocks:
        table = _table(build, made, block)
        table = table.hstack(coarser_columns(table, coarser, settings)).select(wanted)
        yield table
        # Or they would stand beside the next ones, here and on disk.
        del table
        made.own.remove_bars(block)
        give_back()


@dataclass(frozen=True)
class _Build:
    """One period's own columns: what they are made from, and how.

    `longest_bars` is the longest warm-up; a row that is known more than `punctual` after its timestamp is
    late.
    """

    source: PanelOnShelf
    settings: Settings
    period: str
    factors: Sequence[Factor]
    longest_bars: int
    punctual: timedelta
    folder: Path

    @classmethod
    def of(cls, source: PanelOnShelf, settings: Settings, punctual: timedelta, folder: Path) -> "_Build":
        period = panel_period(source.lazy())
        gone = unsupported(source.lazy(), settings)
        factors = [factor for factor in declared_factors(settings, period) if factor.name not in gone]
        longest = longest_warm_up(catalog(settings, period))
        return cls(source, settings, period, factors, longest, punctual, folder)

    @property
    def cut(self) -> Cut:
        return self.source.cut

    @property
    def own_factors(self) -> list[Factor]:
        return [factor for factor in self.factors if factor.scope != "market"]

    def shelf(self, name: str) -> Shelf:
        return Shelf(self.folder / name, self.cut)


@dataclass(frozen=True)
class _Together:
    """What bars have together: the `measures` of each round and `known` (`own` and `late`) for each row; the
    `market`'s columns and `others`, their known time, for each timestamp.
    """

    measures: Sequence[Shelf]
    known: Shelf
    market: pl.DataFrame
    others: pl.Series


@dataclass(frozen=True)
class _Made:
    """What a block of bars is put together from; `scores` those of formulas, None where there are none."""

    together: _Together
    own: Shelf
    scores: Shelf | None


def _made(build: _Build) -> _Made:
    """Everything that looks back, on shelves."""
    together, own = _what_bars_have_together(build), build.shelf("own")
    for block in build.cut.symbol_blocks:
        own.put_symbols(block, _own_columns(build, together, block))
        give_back()
    return _Made(together, own, _formula_scores(build, _Made(together, own, None)))


def _own_columns(build: _Build, together: _Together, block: int) -> pl.DataFrame:
    """Raw values of a block of symbols, and inputs normalised by their own past."""
    bars = _arranged(build, block, together.measures)
    number, place = bars.frame[BAR].to_numpy(), bars.frame.select(TIME, SYMBOL)
    columns = [
        with_scores(values, build.factors, build.settings, number)
        for values in own_blocks(bars, build.own_factors)
    ]
    return pl.concat([place, *columns], how="horizontal")


def _arranged(build: _Build, block: int, measures: Sequence[Shelf]) -> ArrangedPanel:
    """The bars of a block of symbols with what bars have together as far as it is known."""
    panel = build.source.symbols(block)
    bars = arranged(panel, build.factors, build.settings)
    first = int(np.searchsorted(build.cut.block_of_symbol, block))
    bars.frame = bars.frame.with_columns(
        build.cut.moments.search_sorted(bars.frame["timestamp"]).alias(TIME),
        # Numbers within the block count from 1.
        (pl.col(SYMBOL) - 1 + first).alias(SYMBOL),
        panel["sector"].gather(bars.order).alias(SECTOR_NAME),
    )
    for shelf in measures:
        bars.frame = bars.frame.hstack(shelf.symbols(block).drop(TIME, SYMBOL))
    return bars


def _what_bars_have_together(build: _Build) -> _Together:
    """The passes over the panel that come before its factors: one for each round of measures."""
    known, made, means, punctual = build.shelf("known"), [], [], []
    for number, measures in enumerate(shared_rounds(build.factors) or [[]]):
        asked, shelf = build.shelf(f"asked_{number}"), build.shelf(f"together_{number}")
        for block in build.cut.symbol_blocks:
            asked.put_symbols(block, _asked(build, _arranged(build, block, made), measures))
            give_back()
        of_round = []
        for block in build.cut.bar_blocks:
            rows = asked.bars(block)
            if number == 0:
                late, others = late_rows(rows, build.punctual)
                known.put_bars(block, rows.select(TIME, SYMBOL, "own", late=pl.Series(late)))
                punctual.append(others)
            late = known.bars(block)["late"].to_numpy()
            sector = time_and_sector(rows[TIME].to_numpy(), codes(rows[SECTOR_NAME]))
            values = shared_values(
                rows.with_columns(pl.Series(TIME_SECTOR, sector)), measures, late if late.any() else None
            )
            shelf.put_bars(block, rows.select(TIME, SYMBOL).hstack(values))
            in_market = [name for name in market_means(build.factors) if name in values.columns]
            of_round.append(
                rows.select(TIME).hstack(values.select(in_market)).unique(TIME, keep="first").sort(TIME)
            )
        means.append(pl.concat(of_round))
        made.append(shelf)
    together = pl.concat([means[0], *(frame.drop(TIME) for frame in means[1:])], how="horizontal")
    raw = market_factors(together, [factor for factor in build.factors if factor.scope == "market"])
    market = market_inputs(raw, build.factors, build.settings, build.cut.moments)
    return _Together(made, known, market, others_known_times(pl.concat(punctual), build.longest_bars))


def _asked(build: _Build, bars: ArrangedPanel, measures: Sequence[Measure]) -> pl.DataFrame:
    """What a round of measures is made from, and when the rows were known."""
    behind = [measure for measure in needed_measures(measures) if measure not in measures]
    add_measures(bars, behind)
    read = sorted({column for measure in measures for column in measure.columns})
    own = own_known_times(bars.frame, build.longest_bars)
    helpers = (TIME, SYMBOL, "timestamp", "known_time", SECTOR_NAME)
    return bars.frame.select(*helpers, own, *(name for name in read if name not in helpers))


def _table(build: _Build, made: _Made, block: int) -> pl.DataFrame:
    """All columns of a block of bars, in the panel's order, with TIME and SYMBOL."""
    panel, settings = build.source.bars(block), build.settings
    known, values = made.together.known.bars(block), made.own.bars(block)
    time, late = known[TIME].to_numpy(), known["late"].to_numpy()
    number = time - time[0]
    known_time = latest(known["own"], made.together.others.gather(time))
    table = panel.select(PANEL.key).hstack([known_time])
    table = table.hstack(with_ranks(values, build.own_factors, settings, number, late))
    table = table.hstack(made.together.market[time])
    formulas, raw = formula_values(panel, table.to_dict(), settings)
    if formulas:
        raw = with_ranks(raw, formulas, settings, number, late)
        if made.scores is not None:
            raw = raw.hstack(made.scores.bars(block).drop(TIME, SYMBOL))
        table = table.hstack(raw)
    missing = [entry.column for entry in catalog(settings, build.period) if entry.column not in table.columns]
    return table.with_columns(pl.lit(None, pl.Float32).alias(name) for name in missing)


def _formula_scores(build: _Build, made: _Made) -> Shelf | None:
    """The inputs of formulas that are normalised by the own past, which takes another pass; None: there are
    none.
    """
    formulas = scored_formulas(build.settings, build.period)
    if not formulas:
        return None
    raw, scores = build.shelf("formulas"), build.shelf("scores")
    names = [factor.name for factor in formulas]
    for block in build.cut.bar_blocks:
        raw.put_bars(block, _table(build, made, block).select(TIME, SYMBOL, *names))
    for block in build.cut.symbol_blocks:
        rows = raw.symbols(block)
        symbol = rows[SYMBOL].to_numpy()
        number = np.arange(len(rows)) - np.searchsorted(symbol, symbol)
        scored = with_scores(rows.select(names), formulas, build.settings, number).drop(names)
        scores.put_symbols(block, rows.select(TIME, SYMBOL).hstack(scored))
    return scores


def _coarser_tables(
    source: PanelOnShelf, settings: Settings, punctual: timedelta, folder: Path
) -> dict[str, Coarser]:
    """The table of each coarser period; none where the panel is shorter than a bar of it."""
    own, found = of_coarser(settings), {}
    for period in settings.coarser:
        shelf = gathered_on_shelf(source, period, columns_read(own, period), folder / f"bars_{period}")
        if shelf is not None:
            build = _Build.of(PanelOnShelf(shelf), own, punctual, folder / period)
            made = _made(build)
            parts = [
                write_part(_table(build, made, block), folder / f"{period}_{block:05d}")
                for block in build.cut.bar_blocks
            ]
            found[period] = Coarser(pl.scan_ipc(parts), shelf.cut.moments)
    return found
