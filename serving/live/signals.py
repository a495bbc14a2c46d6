"""Scores, bands and positions of symbols or of given rows, made from one state of the service.

Shapes: B rows, E served experts, F inputs, C context columns.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from components.contracts import PAST_RETURN_BARS
from components.scoring import CrossSection, Model, Scores
from serving.api.given_rows import GivenRows
from serving.config import Settings
from serving.live.book_rows import BookRows
from serving.live.market_snapshot import MarketSnapshot, split
from serving.live.metrics import Metrics
from serving.live.positions import batch_weights, inserted_weights
from serving.live.segments import UNKNOWN_TIME_US
from serving.live.state import ServedModel, State
from serving.live.task_scores import TaskScores

Source = Literal["store", "snapshot", "request"]


@dataclass(frozen=True)
class Signals:
    """What an answer says about its symbols; arrays are [B], times int64 microseconds since 1970, `values`
    float32 [B, F + C] in the model's order. `further`: what is predicted beside the judged task. `closes`: of
    the bars that the features belong to, NaN where unknown. `outside` of the universe in which the model was
    judged; None: nobody knows.
    """

    symbols: Sequence[str]
    timestamps_us: np.ndarray
    known_us: np.ndarray
    values: np.ndarray
    scores: Scores
    further: tuple[TaskScores, ...]
    position: np.ndarray
    closes: np.ndarray
    stale: np.ndarray
    behind: np.ndarray
    outside: np.ndarray | None
    source: Source
    publication: str
    newest_us: int


@dataclass(frozen=True)
class _ModelInputs:
    """What a model takes: inputs [B, F], context [B, C], windows [B, L, F] where it looks back, and the bar
    [B] of each row, numbered from 0, where they are of several.
    """

    inputs: np.ndarray
    context: np.ndarray
    window: np.ndarray | None
    bar: np.ndarray | None = None


class Scorer:
    """Scores what a request asks for; each call is given the state that it answers from."""

    def __init__(self, settings: Settings, metrics: Metrics):
        self.settings, self.metrics = settings, metrics

    def stored(self, state: State, symbols: Sequence[str], places: np.ndarray) -> Signals:
        """Signals of the symbols at these places of the market, from what the store holds now.

        Raises
        ------
        StoreUnavailable
            If the store does not give the rows.
        """
        served, market, reader = state.served, state.market, state.reader
        if served.model.whole_bars:
            return self._of_whole_market(state, symbols, places)
        rows = reader.read(places.tolist(), lookback_bars=served.model.lookback_bars)
        inputs, context = split(rows.values, reader, served.model)
        values = np.concatenate([inputs, context], axis=1)
        given = _ModelInputs(inputs, context, rows.window)
        scores, further = self._infer(served.model, given, "signals", market.cross_sections)
        behind = rows.timestamps_us < market.newest_us
        position = market.weights[places].copy()
        # A publication is being written: these rows are newer than the market that was read, and get the
        # weight that they would have in it.
        newer = np.flatnonzero(
            ~_same(values, market.rows.values[places])
            | (rows.timestamps_us != market.rows.timestamps_us[places])
        )
        if len(newer):
            own = BookRows.of(scores, context, served.model.context, rows.past, served.book)
            own = own.changed(lambda values: values[newer])
            position[newer] = inserted_weights(own, places[newer], market.book, served.book)
        stale, outside = self._stale(rows.timestamps_us), _at(market.outside, places)
        position[_any(stale, behind, outside)] = 0.0
        of_market = rows.timestamps_us == market.rows.timestamps_us[places]
        return Signals(
            symbols=symbols,
            timestamps_us=rows.timestamps_us,
            known_us=rows.known_us,
            values=values,
            scores=scores,
            further=further,
            position=position,
            closes=np.where(of_market, market.closes[places], np.nan),
            stale=stale,
            behind=behind,
            outside=outside,
            source="store",
            publication=market.publication,
            newest_us=max(market.newest_us, int(rows.timestamps_us.max())),
        )

    def _of_whole_market(self, state: State, symbols: Sequence[str], places: np.ndarray) -> Signals:
        """The market's own scores, for a model that looks across symbols: some of a bar's rows, or rows of
        another publication, would get other scores.

        The store is read to see whether it holds these rows still; where a newer publication is being
        written, the answer is the snapshot until the keeper has read it whole.
        """
        model, market, reader = state.served.model, state.market, state.reader
        rows = reader.read(places.tolist())
        values = np.concatenate(split(rows.values, reader, model), axis=1)
        same = _same(values, market.rows.values[places]) & (
            rows.timestamps_us == market.rows.timestamps_us[places]
        )
        return self.snapshot(market, symbols, places, source="store" if same.all() else "snapshot")

    def snapshot(
        self,
        market: MarketSnapshot,
        symbols: Sequence[str],
        places: np.ndarray,
        *,
        source: Source = "snapshot",
    ) -> Signals:
        """Signals of the symbols at these places as the market was read last."""
        rows, behind = market.rows, market.behind[places]
        timestamps_us = rows.timestamps_us[places]
        stale = self._stale(timestamps_us)
        return Signals(
            symbols=symbols,
            timestamps_us=timestamps_us,
            known_us=rows.known_us[places],
            values=rows.values[places],
            scores=market.scores.at(places),
            further=tuple(task.told.at(places) for task in market.further),
            position=np.where(stale | behind, 0.0, market.weights[places]),
            closes=market.closes[places],
            stale=stale,
            behind=behind,
            outside=_at(market.outside, places),
            source=source,
            publication=market.publication,
            newest_us=market.newest_us,
        )

    def given(self, state: State, rows: GivenRows, now_us: int) -> Signals:
        """Signals of given rows: against the market, which the state must hold then, or each in its bar."""
        market = state.market if rows.cross_section == "market" else None
        if market is not None:
            scores, further, position, outside = self._against_market(state.served, market, rows)
            newest_us = market.newest_us
        else:
            scores, further, position = self._by_bar(state, rows)
            newest_us, outside = int(rows.timestamps_us.max()), np.zeros(len(rows.symbols), dtype=bool)
        stale = self._stale(rows.timestamps_us, now_us)
        return Signals(
            symbols=rows.symbols,
            timestamps_us=rows.timestamps_us,
            known_us=np.full(len(position), UNKNOWN_TIME_US, dtype=np.int64),
            values=rows.values,
            scores=scores,
            further=further,
            position=np.where(_any(stale, outside), 0.0, position),
            closes=np.full(len(position), np.nan),
            stale=stale,
            behind=rows.timestamps_us < newest_us,
            outside=outside,
            source="request",
            publication=market.publication if market is not None else "",
            newest_us=int(rows.timestamps_us.max()),
        )

    def _against_market(
        self, served: ServedModel, market: MarketSnapshot, rows: GivenRows
    ) -> tuple[Scores, tuple[TaskScores, ...], np.ndarray, np.ndarray | None]:
        """Scores and positions [B] of rows that are compared with all symbols in the store, and which of them
        are outside of the universe: so is a symbol that the store lacks, where the model was judged in one.
        """
        given = _split_given(rows, served.model)
        scores, further = self._infer(served.model, given, "score", market.cross_sections)
        places = np.array([market.places.get(symbol, -1) for symbol in rows.symbols], dtype=np.int64)
        own = BookRows.of(scores, given.context, served.model.context, _past(market, places), served.book)
        outside = _at(market.outside, places)
        if outside is not None and served.book.rules:
            outside = outside | (places < 0)
        return scores, further, inserted_weights(own, places, market.book, served.book), outside

    def _by_bar(self, state: State, rows: GivenRows) -> tuple[Scores, tuple[TaskScores, ...], np.ndarray]:
        """Scores and positions [B] of rows that are compared with those of their own bar. Past returns are
        known of the bar that the store holds alone.
        """
        served, market = state.served, state.market
        bar = np.unique(rows.timestamps_us, return_inverse=True)[1]
        given = _split_given(rows, served.model, bar)
        scores, further = self._infer(served.model, given, "score")
        past = np.full((len(rows.symbols), PAST_RETURN_BARS), np.nan)
        if market is not None and served.book.volatility_target is not None:
            places = np.array([market.places.get(symbol, -1) for symbol in rows.symbols], dtype=np.int64)
            now = (places >= 0) & (rows.timestamps_us == market.rows.timestamps_us[places])
            past[now] = market.rows.past[places[now]]
        own = BookRows.of(scores, given.context, served.model.context, past, served.book)
        return scores, further, batch_weights(own, bar, served.book)

    def _infer(
        self,
        model: Model,
        given: _ModelInputs,
        endpoint: str,
        sections: tuple[CrossSection, ...] | None = None,
    ) -> tuple[Scores, tuple[TaskScores, ...]]:
        """Scores of the judged task and of further ones, against `sections`, one a task, the judged one
        first, or each row against those of its own bar.
        """
        started = time.perf_counter()
        found = []
        every = model.outputs_of_tasks(given.inputs, given.context, given.window, given.bar)
        for place, (one, outputs) in enumerate(zip((model, *model.further), every, strict=True)):
            section = (
                sections[place]
                if sections is not None
                else one.cross_section_by_bar(outputs, given.context, given.bar)
            )
            found.append(one.combine(outputs, given.context, section))
        self.metrics.infer_seconds.labels(endpoint).observe(time.perf_counter() - started)
        told = zip(model.further, found[1:], strict=True)
        return found[0], tuple(TaskScores(one.target, one.horizon, scores) for one, scores in told)

    def _stale(self, timestamps_us: np.ndarray, now_us: int | None = None) -> np.ndarray:
        limit = self.settings.max_feature_age_hours
        if limit is None:
            return np.zeros(len(timestamps_us), dtype=bool)
        return timestamps_us < (now_us or time.time_ns() // 1000) - limit * 3.6e9


def _split_given(rows: GivenRows, model: Model, bar: np.ndarray | None = None) -> _ModelInputs:
    width = len(model.columns)
    return _ModelInputs(rows.values[:, :width], rows.values[:, width:], rows.window, bar)


def _past(market: MarketSnapshot, places: np.ndarray) -> np.ndarray:
    """Past returns [B, R] of the symbols at these places, NaN for one that the market lacks."""
    return np.where((places >= 0)[:, None], market.rows.past[places], np.float32(np.nan))


def _at(outside: np.ndarray | None, places: np.ndarray) -> np.ndarray | None:
    return None if outside is None else outside[places]


def _any(*marks: np.ndarray | None) -> np.ndarray:
    """Rows [B] with any of the marks; None marks none."""
    return np.any([mark for mark in marks if mark is not None], axis=0)


def _same(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rows [B] whose float32 values are the same bits, NaN included."""
    return (np.ascontiguousarray(left).view(np.uint32) == np.ascontiguousarray(right).view(np.uint32)).all(
        axis=1
    )
