"""What an answer of /signals and /score holds as JSON, and as an entry of the answer log."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydantic_core import to_json

from components.contracts.classes import CLASS_COLUMNS
from serving.live.price_entries import price_entries
from serving.live.segments import UNKNOWN_TIME_US, Answer
from serving.live.signals import Signals
from serving.live.state import ServedModel
from serving.live.task_scores import TaskScores

_NO_TIME = np.datetime64("NaT", "us")


def answer_body(
    signals: Signals, served: ServedModel, request_id: str, answered_us: int, *, prices: bool = False
) -> bytes:
    """The answer as JSON, with price forms where `prices` are asked for; see
    `serving.api.answer_types.SignalsAnswer`.
    """
    body = {
        "request_id": request_id,
        "answered_at": datetime.fromtimestamp(answered_us / 1e6, UTC).isoformat(timespec="microseconds"),
        "model": served.stamp,
        "features": {
            "publication": signals.publication,
            "newest": _iso(signals.newest_us),
            "source": signals.source,
        },
        "period": served.model.period,
        "horizon_bars": served.model.horizon,
        "target": served.model.target,
        "signals": _with_tasks(_entries(signals, served.model.target, prices=prices), signals, prices=prices),
    }
    return to_json(body, inf_nan_mode="null")


def log_entry(
    signals: Signals, served: ServedModel, request_id: str, answered_us: int, *, endpoint: str
) -> Answer:
    """The answer as the answer log keeps it, with the features that made it."""
    scores = signals.scores
    outputs = np.column_stack(
        [scores.score, scores.uncertainty, scores.p10, scores.p50, scores.p90, signals.position]
    )
    return Answer(
        request_id=request_id,
        endpoint=endpoint,
        answered_at_us=answered_us,
        model_version=served.notice.version,
        bundle_sha256=served.model.sha256,
        publication=signals.publication,
        symbols=signals.symbols,
        timestamps_us=signals.timestamps_us,
        known_times_us=signals.known_us,
        stale=signals.stale,
        outputs=outputs,
        columns=(*served.model.columns, *served.model.context),
        features=signals.values,
        chances=None
        if scores.p_up is None
        else np.column_stack([getattr(scores, name) for name in CLASS_COLUMNS]),
    )


def _entries(signals: Signals, target: str, *, prices: bool) -> list[dict[str, Any]]:
    scores = signals.scores
    known = np.where(signals.known_us == UNKNOWN_TIME_US, _NO_TIME, signals.known_us.astype("datetime64[us]"))
    told = scores.columns()
    columns: Mapping[str, Sequence[Any]] = {
        "symbol": signals.symbols,
        "score": scores.score.tolist(),
        "p10": scores.p10.tolist(),
        "p50": scores.p50.tolist(),
        "p90": scores.p90.tolist(),
        "uncertainty": scores.uncertainty.tolist(),
        **{name: told[name].tolist() for name in CLASS_COLUMNS if name in told},
        "position": signals.position.tolist(),
        "feature_time": _texts(signals.timestamps_us.astype("datetime64[us]")),
        "known_time": _texts(known),
        "stale": signals.stale.tolist(),
        "behind": signals.behind.tolist(),
        "tradable": [None] * len(signals.symbols) if signals.outside is None else (~signals.outside).tolist(),
        **({"prices": price_entries(scores, signals.closes, target)} if prices else {}),
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _with_tasks(entries: list[dict[str, Any]], signals: Signals, *, prices: bool) -> list[dict[str, Any]]:
    """The entries, each with what is predicted beside the judged task; as they are where nothing is."""
    if not signals.further:
        return entries
    of_tasks = [_task_entries(task, signals.closes, prices=prices) for task in signals.further]
    return [
        {**entry, "tasks": list(tasks)}
        for entry, tasks in zip(entries, zip(*of_tasks, strict=True), strict=True)
    ]


def _task_entries(task: TaskScores, closes: np.ndarray, *, prices: bool) -> list[dict[str, Any]]:
    about = {"target": task.target, "horizon": task.horizon}
    columns: dict[str, Sequence[Any]] = {
        name: values.tolist() for name, values in task.scores.columns().items()
    }
    if prices:
        columns["prices"] = price_entries(task.scores, closes, task.target)
    rows = zip(*columns.values(), strict=True)
    return [{**about, **dict(zip(columns, row, strict=True))} for row in rows]


def _texts(moments: np.ndarray) -> list[str | None]:
    """ISO 8601 in UTC; None for no time."""
    texts = np.datetime_as_string(moments, unit="us").tolist()
    return [None if text == "NaT" else f"{text}Z" for text in texts]


def _iso(moment_us: int) -> str:
    return f"{np.datetime_as_string(np.datetime64(moment_us, 'us'), unit='us')}Z"
