"""The whole market read from the online store at one moment, scored, with the book of its newest bar.

Shapes: B symbols, F inputs, C context columns.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.scoring import CrossSection, ExpertOutputs, Model, Scores
from serving.live.book_rows import BookRows, weights
from serving.live.book_sizing import BookSizing
from serving.live.online import OnlineReader, OnlineRows
from serving.live.task_scores import TaskScores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MarketTask:
    """What the model says of the whole market about a further task: its cross-section, and scores [B]."""

    cross_section: CrossSection
    told: TaskScores


@dataclass(frozen=True)
class MarketSnapshot:
    """The whole universe at one moment, scored: arrays are [B] in the order of `symbols`.

    `rows.values` are in the model's order. `book` is what the rows bring into the book; `weights` is the one
    that a new long-short portfolio would hold now; 0 for symbols that are behind, and for those `outside` of
    the universe in which the model was judged (None: the store does not say). `closes`: of each symbol's bar
    in `rows`, NaN where unknown. `read_at`: `time.monotonic()` of the reading.
    """

    publication: str
    symbols: tuple[str, ...]
    places: Mapping[str, int]
    newest_us: int
    rows: OnlineRows
    cross_section: CrossSection
    scores: Scores
    further: tuple[MarketTask, ...]
    book: BookRows
    weights: np.ndarray
    behind: np.ndarray
    closes: np.ndarray
    outside: np.ndarray | None
    read_at: float

    @property
    def cross_sections(self) -> tuple[CrossSection, ...]:
        """Of the judged task, then of further ones."""
        return self.cross_section, *(task.cross_section for task in self.further)


def read_market(reader: OnlineReader, model: Model, book: BookSizing) -> MarketSnapshot:
    """Read the whole universe, score it, and form the book of the newest bar.

    The cross-section is that of the symbols that have that bar.

    Experts that look across symbols see the symbols of that bar alone. A symbol that is behind is scored as
    if its last row stood beside them.
    """
    rows = reader.read_all(lookback_bars=model.lookback_bars)
    newest_us = int(rows.timestamps_us.max())
    behind = rows.timestamps_us < newest_us
    inputs, context = split(rows.values, reader, model)
    current = ~behind
    scored = _scored(model, inputs, context, rows.window, current)
    cross_section, scores = scored[0]
    further = tuple(
        MarketTask(own, TaskScores(one.target, one.horizon, found))
        for one, (own, found) in zip(model.further, scored[1:], strict=True)
    )
    outside = _outside(reader, book)
    left_out = behind if outside is None else behind | outside
    taking_part = BookRows.of(scores, context, model.context, rows.past, book).without(left_out)
    return MarketSnapshot(
        publication=reader.current["publication"],
        symbols=reader.symbols,
        places=reader.places,
        newest_us=newest_us,
        rows=OnlineRows(
            rows.timestamps_us, rows.known_us, np.concatenate([inputs, context], axis=1), None, rows.past
        ),
        cross_section=cross_section,
        scores=scores,
        further=further,
        book=taking_part,
        weights=weights(taking_part.changed(lambda values: values[None]), book)[0],
        behind=behind,
        closes=reader.closes(rows.timestamps_us),
        outside=outside,
        read_at=time.monotonic(),
    )


def _scored(
    model: Model,
    inputs: np.ndarray,
    context: np.ndarray,
    window: np.ndarray | None,
    is_current: np.ndarray,
) -> list[tuple[CrossSection, Scores]]:
    """The cross-section of the newest bar, and the scores of all symbols against it, of each task, the judged
    one first.
    """
    own = window[is_current] if window is not None else None
    newest = model.outputs_of_tasks(inputs[is_current], context[is_current], own)
    every = _with_those_behind(model, newest, inputs, context, window, is_current)
    found = []
    for one, current, outputs in zip((model, *model.further), newest, every, strict=True):
        cross_section = one.cross_section(current, context[is_current])
        found.append((cross_section, one.combine(outputs, context, cross_section)))
    return found


def _outside(reader: OnlineReader, book: BookSizing) -> np.ndarray | None:
    """Which symbols of the store are outside of the model's universe, [B]; None where nobody knows, which is
    said.
    """
    if not book.rules:
        return np.zeros(len(reader.symbols), dtype=bool)
    universe = reader.universe
    if universe is None:
        log.warning(
            "The model was judged in a universe that can be traded (market.universe), but the online store"
            " does not say which symbols are in it, so all of them are sized. Run `alphaloop materialise`."
        )
        return None
    if universe.rules != book.rules:
        log.warning(
            "The universe in the online store was made by other rules (market.universe) than that in which"
            " the model was judged; symbols are sized by the store's. Run `alphaloop materialise` with the"
            " model's config, or train the model with the store's."
        )
    return np.array([symbol in universe.outside for symbol in reader.symbols])


def _with_those_behind(
    model: Model,
    newest: tuple[ExpertOutputs, ...],
    inputs: np.ndarray,
    context: np.ndarray,
    window: np.ndarray | None,
    is_current: np.ndarray,
) -> tuple[ExpertOutputs, ...]:
    """Outputs of all symbols [E, B], of each task: those of the newest bar as they are, those behind from a
    pass over all together.
    """
    if is_current.all():
        return newest
    every = model.outputs_of_tasks(inputs, context, window)
    for outputs, current in zip(every, newest, strict=True):
        for name in ("score", "uncertainty", "chances"):
            if (own := getattr(current, name)) is not None:
                getattr(outputs, name)[:, is_current] = own
    return every


def split(values: np.ndarray, reader: OnlineReader, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [B, F] and the model's context [B, C] from the online values [B, F + C]."""
    width = len(reader.columns)
    return (
        np.ascontiguousarray(values[:, :width]),
        values[:, [width + reader.context.index(name) for name in model.context]],
    )
