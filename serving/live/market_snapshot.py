"""The whole market read from the online store at one moment, scored, with the book of its newest bar.

Shapes: B symbols, F inputs, C context columns.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from components.contracts import ContractError
from components.scoring import CrossSection, ExpertOutputs, Model, Scores
from components.sizing import long_short_weights
from serving.live.online import OnlineReader, OnlineRows
from serving.live.task_scores import TaskScores


@dataclass(frozen=True)
class BookSizing:
    """How one new long-short book is sized: the fields of `components.sizing.Book`, and the `usual`
    uncertainty of its model, infinite where the bundle does not hold it.
    """

    quantile: float
    top_k: int
    top_k_max_share: float
    gross_exposure: float
    max_weight: float
    sizing: str
    skip_share: float
    usual: float = float("inf")

    @classmethod
    def of(cls, manifest: Mapping[str, Any], usual: float = float("inf")) -> "BookSizing":
        """The book that the model was judged with."""
        try:
            settings = manifest["config"]["backtest"]
            named = {field.name: settings[field.name] for field in fields(cls) if field.name != "usual"}
            return cls(**named, usual=usual)
        except (KeyError, TypeError) as error:
            raise ContractError(
                f"The bundle's manifest does not say how its book is sized (config.backtest: {error}). Train"
                " the model again."
            ) from error


@dataclass(frozen=True)
class MarketTask:
    """What the model says of the whole market about a further task: its cross-section, and scores [B]."""

    cross_section: CrossSection
    told: TaskScores


@dataclass(frozen=True)
class MarketSnapshot:
    """The whole universe at one moment, scored: arrays are [B] in the order of `symbols`.

    `rows.values` are in the model's order. `weights` is the book that a new long-short portfolio would hold
    now; 0 for symbols that are behind. `closes`: of each symbol's bar in `rows`, NaN where unknown.
    `read_at`: `time.monotonic()` of the reading.
    """

    publication: str
    symbols: tuple[str, ...]
    places: Mapping[str, int]
    newest_us: int
    rows: OnlineRows
    cross_section: CrossSection
    scores: Scores
    further: tuple[MarketTask, ...]
    weights: np.ndarray
    behind: np.ndarray
    closes: np.ndarray
    read_at: float

    @property
    def cross_sections(self) -> tuple[CrossSection, ...]:
        """Of the judged task, then of further ones."""
        return self.cross_section, *(task.cross_section for task in self.further)

    @property
    def book_scores(self) -> np.ndarray:
        """Scores of the names that take part in the book, NaN for those behind."""
        return np.where(self.behind, np.nan, self.scores.score)


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
    cross_section, scores = _scored(model, inputs, context, rows.window, current)
    further = []
    for one in model.further:
        own, found = _scored(one, inputs, context, rows.window, current)
        further.append(MarketTask(own, TaskScores(one.target, one.horizon, found)))
    taking_part = np.where(behind, np.nan, scores.score)[None]
    return MarketSnapshot(
        publication=reader.current["publication"],
        symbols=reader.symbols,
        places=reader.places,
        newest_us=newest_us,
        rows=OnlineRows(rows.timestamps_us, rows.known_us, np.concatenate([inputs, context], axis=1), None),
        cross_section=cross_section,
        scores=scores,
        further=tuple(further),
        weights=long_short_weights(taking_part, scores.uncertainty[None], book, book.usual)[0],
        behind=behind,
        closes=reader.closes(rows.timestamps_us),
        read_at=time.monotonic(),
    )


def _scored(
    model: Model,
    inputs: np.ndarray,
    context: np.ndarray,
    window: np.ndarray | None,
    is_current: np.ndarray,
) -> tuple[CrossSection, Scores]:
    """The cross-section of the newest bar, and the scores of all symbols against it."""
    own = window[is_current] if window is not None else None
    outputs = model.expert_outputs(inputs[is_current], context[is_current], own)
    cross_section = model.cross_section(outputs)
    every = _with_those_behind(model, outputs, inputs, context, window, is_current)
    return cross_section, model.combine(every, context, cross_section)


def _with_those_behind(
    model: Model,
    current: ExpertOutputs,
    inputs: np.ndarray,
    context: np.ndarray,
    window: np.ndarray | None,
    is_current: np.ndarray,
) -> ExpertOutputs:
    """Outputs of all symbols [E, B]: those of the newest bar as they are, those behind from a pass over all
    together.
    """
    if is_current.all():
        return current
    outputs = model.expert_outputs(inputs, context, window)
    for found, own in ((outputs.score, current.score), (outputs.uncertainty, current.uncertainty)):
        found[:, is_current] = own
    return outputs


def split(values: np.ndarray, reader: OnlineReader, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [B, F] and the model's context [B, C] from the online values [B, F + C]."""
    width = len(reader.columns)
    return (
        np.ascontiguousarray(values[:, :width]),
        values[:, [width + reader.context.index(name) for name in model.context]],
    )
