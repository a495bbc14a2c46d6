"""What clients are answered, as types: /model and /status are made from them, /signals and /score described
by them.
"""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from serving.processes.documents import Moment, RefusedVersion

_EXAMPLE_SIGNAL = {
    "symbol": "AAPL",
    "score": 0.0042,
    "p10": -0.031,
    "p50": 0.0042,
    "p90": 0.039,
    "uncertainty": 0.027,
    "position": 0.05,
    "feature_time": "2024-05-31T20:00:00.000000Z",
    "known_time": "2024-05-31T20:00:00.000000Z",
    "stale": False,
    "behind": False,
    "tradable": True,
}
_EXAMPLE_MODEL = {
    "name": "demo",
    "version": 3,
    "bundle_sha256": "9f" * 32,
    "schema": "2b0f0c167528",
    "code_version": "f508a0e9699a5aa1",
    "train_window": "2021-01-04..2023-06-30",
}
_EXAMPLE_ANSWER = {
    "request_id": "5f0c" * 8,
    "answered_at": "2024-06-01T08:00:00.000000+00:00",
    "model": _EXAMPLE_MODEL,
    "features": {
        "publication": "9171907e1367-23f6f75a",
        "newest": "2024-05-31T20:00:00.000000Z",
        "source": "store",
    },
    "period": "1d",
    "horizon_bars": 5,
    "target": "sector_neutral_return",
    "signals": [_EXAMPLE_SIGNAL],
}


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PriceForm(_Answer):
    """The score and the band in one form; null where the model gave no finite number."""

    score: float | None
    p10: float | None
    p50: float | None
    p90: float | None


class Prices(_Answer):
    """A forecast of a log return as prices. p10, p50 and p90 are exact, for they are quantiles; the score's
    forms lie in the middle of what may come, below its mean by about half the variance.
    """

    close: float | None = Field(
        description="price now: the close of the bar that the features belong to; null where it is unknown"
    )
    antilog_return: PriceForm | None = Field(description="exp(log return) - 1, a share of the price")
    future_price: PriceForm | None = Field(
        description=(
            "close * exp(log return), in the currency of the bars; what the price does between the close and"
            " the entry, at the next bar, is not in it"
        )
    )
    missing: str | None = Field(description="why a form is null; null where both are there")


class TaskSignal(_Answer):
    """What the model says about another target or horizon, by itself: it was not judged and has no position.

    The fields are those of a signal, in this target's own unit.
    """

    target: str
    horizon: int = Field(description="in bars")
    score: float | None
    uncertainty: float | None
    p10: float | None
    p50: float | None
    p90: float | None
    p_down: float | None = None
    p_none: float | None = None
    p_up: float | None = None
    prices: Prices | None = Field(None, description="only where the request asks for `prices`")


class Signal(_Answer):
    """What the model says about one symbol.

    Returns are log returns over `horizon_bars`, of the kind that `target` names.
    """

    symbol: str
    score: float | None = Field(
        description=(
            "expected return, or where the target is a class the expected label, such as P(up) - P(down);"
            " null only if the model gave no finite number"
        )
    )
    p10: float | None = Field(
        description=(
            "the return is expected to fall below this in 10 % of cases; where the target is a class, p10,"
            " p50 and p90 are the smallest labels that are not exceeded with a probability of 10, 50 and 90 %"
        )
    )
    p50: float | None
    p90: float | None = Field(description="the return is expected to stay below this in 90 % of cases")
    uncertainty: float | None = Field(
        description=(
            "half the width of the band from p10 to p90, as the standard deviation of a normal distribution;"
            " where the target is a class, the standard deviation of the label"
        )
    )
    p_down: float | None = Field(
        None,
        description=(
            "where the target is a class: probability that the label is down. The three sum to 1, and are not"
            " there where the target is a number"
        ),
    )
    p_none: float | None = Field(
        None, description="probability that the move does not pay; 0 for a target without such a class"
    )
    p_up: float | None = Field(None, description="probability that the label is up")
    position: float | None = Field(
        description=(
            "share of the capital of ONE new long-short book that this name gets, negative for short; 0 for"
            " most names, for stale or behind features, and for names that are not tradable. /signals: in the"
            " book of the whole market."
            " /score: if this row alone stood in the market's book (cross_section market), or in the book of"
            " the request's rows with its timestamp (batch). A portfolio that rebalances every bar holds as"
            " many such books as the horizon has bars, each with an equal share of the capital."
        )
    )
    feature_time: AwareDatetime = Field(description="close of the bar that the features belong to")
    known_time: AwareDatetime | None = Field(
        description="when the features were known; null for given features"
    )
    stale: bool = Field(description="the features are older than the service's limit")
    behind: bool = Field(description="other symbols have a newer bar")
    tradable: bool | None = Field(
        description=(
            "belongs at its newest bar to the universe in which the model was judged (market.universe); true"
            " where that was every name, and for the rows of a batch, which are their bar's universe; null"
            " where the store does not say: then all names are sized"
        )
    )
    prices: Prices | None = Field(None, description="only where the request asks for `prices`")
    tasks: list[TaskSignal] | None = Field(
        None, description="what is predicted beside the judged task; not there where nothing is"
    )


class ModelStamp(_Answer):
    """Which model answered."""

    name: str
    version: int
    bundle_sha256: str = Field(description="SHA-256 of the model's bundle")
    schema_: str = Field(alias="schema", description="hash of the input columns in their order")
    code_version: str
    train_window: str = Field(description="first and last day that the experts learned from")


class Features(_Answer):
    """Where the features came from."""

    publication: str = Field(
        description="feature publication that the market was read from; empty where none played a part"
    )
    newest: AwareDatetime = Field(description="close of the newest bar")
    source: Literal["store", "snapshot", "request"] = Field(
        description=(
            "snapshot: the store did not answer, or holds part of a publication that the model needs whole;"
            " the service's last reading of it did"
        )
    )


class SignalsAnswer(_Answer):
    """The signals, in the order of the request, and the stamps of what made them."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_ANSWER]})

    request_id: str
    answered_at: AwareDatetime
    model: ModelStamp
    features: Features
    period: str
    horizon_bars: int
    target: str
    signals: list[Signal]


class ServedTask(_Answer):
    target: str
    horizon: int = Field(description="in bars")


class Refused(_Answer):
    """A bundle that was not taken over."""

    version: int | None
    bundle_sha256: str | None
    reason: str
    when: Moment


class ModelAnswer(ModelStamp):
    """What is served, since when, and its gates."""

    since: str | None
    who: str | None
    why: str | None
    verdict: dict[str, JsonValue] | None = Field(
        description="the gates' verdict, each gate with number, threshold and reason"
    )
    period: str
    horizon_bars: int
    target: str
    tasks: list[ServedTask] = Field(description="what is answered beside it in `tasks` of each signal")
    experts: list[str]
    inputs: list[str] = Field(description="columns that /score needs, besides `context`")
    context: list[str]
    lookback_bars: int
    needs_window: bool
    needs_whole_bars: bool = Field(
        description="whether /score takes whole bars with cross_section batch only"
    )
    last_refusal: Refused | None


class CheckAnswer(_Answer):
    name: str
    ok: bool
    reason: str


class FeatureStatus(_Answer):
    publication: str | None
    age_s: float | None
    symbols: int
    behind: int


class WatchStatus(_Answer):
    up: bool
    problem: str | None
    refused: RefusedVersion | None


class WriterStatus(_Answer):
    up: bool
    problem: str | None
    rows_written: int | None


class MirrorStatus(_Answer):
    up: bool
    problem: str | None
    waiting: int | None = Field(description="parts of the answer log that are not at run.store yet")


class LogStatus(_Answer):
    queued: int
    dropped: int
    problem: str | None


class StatusAnswer(_Answer):
    """Readiness and its reasons."""

    ready: bool
    instance: str = Field(description="another one whenever the service is started anew")
    checks: list[CheckAnswer]
    features: FeatureStatus
    champion_watch: WatchStatus
    log_writer: WriterStatus
    store_mirror: MirrorStatus | None = Field(None, description="null where run.store is no address")
    answer_log: LogStatus | None
    last_refusal: Refused | None


class IndexAnswer(_Answer):
    service: str
    openapi: str
    model: str
    status: str
    review: str
    metrics: str
    ready: str


class ErrorBody(BaseModel):
    model_config = ConfigDict(extra="allow")

    code: str
    field: str | None = Field(description="the field that is to blame, such as rows[3].features.rsi_14_rank")
    message: str
    request_id: str


class ErrorAnswer(_Answer):
    """Why a request was not answered, for machines (`code`) and for people (`message`)."""

    error: ErrorBody
