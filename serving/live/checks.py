"""The conditions of readiness, each with its reason, and whether a model fits what is online."""

from components.contracts import AlphaloopError
from components.scoring import Model
from serving.api.answer_types import CheckAnswer, Refused
from serving.faults import words
from serving.live.book_sizing import BookSizing
from serving.live.online import OnlineReader
from serving.live.state import State


class ChampionRefused(AlphaloopError):
    """A bundle that must not be served; what was served before goes on."""


def require_same_schema(model: Model, reader: OnlineReader) -> None:
    """Refuse a model whose inputs are not those that are online."""
    problem = schema_problem(model, reader)
    if problem:
        raise ChampionRefused(problem)


def schema_problem(model: Model, reader: OnlineReader) -> str | None:
    """Why the model can't be scored on what is online, None where it can."""
    current = reader.current
    if model.columns != reader.columns or model.schema != current["schema"]:
        return (
            f"The model takes inputs of schema {model.schema}, but schema {current['schema']} is online."
            " Materialise the model's features, or promote a model that fits."
        )
    missing = [name for name in model.context if name not in reader.context]
    if missing:
        return (
            f"The model needs the context column {missing[0]!r}, which is not online. Run `alphaloop"
            " materialise`."
        )
    if BookSizing.of(model.manifest).volatility_target and not current.get("past_return_bars"):
        return (
            "The model's book aims at a volatility, but no past returns are online. Run `alphaloop"
            " materialise`."
        )
    if model.period != current["period"]:
        return (
            f"The model is for bars of {model.period}, but bars of {current['period']} are online. Promote a"
            " model of that period."
        )
    if model.lookback_bars > current["lookback_bars"]:
        return (
            f"The model looks back {model.lookback_bars} bars, but {current['lookback_bars']} are online. Set"
            f" feature_store.lookback_bars to {model.lookback_bars} or more and run `alphaloop materialise`."
        )
    return None


def look_check(error: Exception) -> CheckAnswer:
    """That the last look at store and champion failed, so that what is served may no longer be right."""
    return CheckAnswer(name="look", ok=False, reason=words(error))


def champion_check(state: State, refusal: Refused | None) -> CheckAnswer:
    """Whether a model is served."""
    refused = f" Last refusal: {refusal.reason}" if refusal else ""
    served = state.served
    reason = f"version {served.notice.version}" if served else f"there is no champion.{refused}"
    return CheckAnswer(name="champion", ok=served is not None, reason=reason)


def store_check(problem: str | None) -> CheckAnswer:
    """Whether the online store answers."""
    return CheckAnswer(name="store", ok=not problem, reason=problem or "answers")


def schema_check(state: State, reader: OnlineReader | None) -> CheckAnswer:
    """Whether model and store are of one schema; it holds while one of them is not there."""
    problem = schema_problem(state.served.model, reader) if state.served and reader else None
    return CheckAnswer(name="schema", ok=not problem, reason=problem or "model and store agree")


def age_check(age_s: float | None, limit_hours: float | None) -> CheckAnswer:
    """Whether the newest bar is young enough; `age_s` is None before the first read."""
    if age_s is None:
        return CheckAnswer(name="features_fresh", ok=False, reason="no features were read yet")
    hours = age_s / 3600
    limit = "none" if limit_hours is None else f"{limit_hours:g} h"
    return CheckAnswer(
        name="features_fresh",
        ok=limit_hours is None or hours <= limit_hours,
        reason=f"the newest bar closed {hours:.1f} h ago (limit {limit})",
    )


def ending_check() -> CheckAnswer:
    """What keeps a service that was told to end from being ready."""
    return CheckAnswer(name="goes_on", ok=False, reason="the service was told to end")
