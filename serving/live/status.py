"""What GET /model and GET /status answer."""

from serving.api.answer_types import (
    FeatureStatus,
    LogStatus,
    MirrorStatus,
    ModelAnswer,
    ServedTask,
    StatusAnswer,
    WatchStatus,
    WriterStatus,
)
from serving.api.refusal import Refusal
from serving.live.answer_log import AnswerLog
from serving.live.market_snapshot import MarketSnapshot
from serving.live.reports import Reports
from serving.live.state_keeper import StateKeeper
from serving.processes.documents import FollowerReport, WriterReport


def model_answer(keeper: StateKeeper) -> ModelAnswer:
    """What is served, since when, by whose word, and what was refused last; a Refusal where nothing is."""
    served = keeper.state.served
    if served is None:
        raise Refusal(
            503,
            "no_champion",
            "No model is served yet. GET /status says why.",
            retry_s=5,
            last_refusal=keeper.refusal,
        )
    notice, model = served.notice, served.model
    return ModelAnswer(
        **served.stamp.model_dump(by_alias=True),
        since=notice.since,
        who=notice.who,
        why=notice.why,
        verdict=notice.verdict,
        period=model.period,
        horizon_bars=model.horizon,
        target=model.target,
        tasks=[ServedTask(target=one.target, horizon=one.horizon) for one in model.further],
        experts=[expert.name for expert in model.experts],
        inputs=list(model.columns),
        context=list(model.context),
        lookback_bars=model.lookback_bars,
        needs_window=model.lookback_bars > 0,
        needs_whole_bars=model.whole_bars,
        last_refusal=keeper.refusal,
    )


def status_answer(keeper: StateKeeper, answer_log: AnswerLog | None) -> StatusAnswer:
    """Every condition of readiness with its reason, and how the processes beside the service are."""
    reports = keeper.reports
    writer, follower = reports.writer(), reports.follower()
    return StatusAnswer(
        ready=keeper.ready,
        instance=keeper.plan.instance,
        checks=list(keeper.checks),
        features=_features(keeper.state.market, keeper.feature_age_s()),
        champion_watch=_follower(follower, up=reports.follower_lives()),
        log_writer=_writer(writer, up=reports.writer_lives()),
        store_mirror=_mirror(reports) if keeper.plan.mirrored else None,
        answer_log=_log(answer_log) if answer_log else None,
        last_refusal=keeper.refusal,
    )


def _features(market: MarketSnapshot | None, age_s: float | None) -> FeatureStatus:
    if market is None:
        return FeatureStatus(publication=None, age_s=age_s, symbols=0, behind=0)
    return FeatureStatus(
        publication=market.publication,
        age_s=age_s,
        symbols=len(market.symbols),
        behind=int(market.behind.sum()),
    )


def _follower(report: FollowerReport | None, *, up: bool) -> WatchStatus:
    if report is None:
        return WatchStatus(up=up, problem=None, refused=None)
    return WatchStatus(up=up, problem=report.problem, refused=report.refused)


def _writer(report: WriterReport | None, *, up: bool) -> WriterStatus:
    if report is None:
        return WriterStatus(up=up, problem=None, rows_written=None)
    return WriterStatus(up=up, problem=report.problem, rows_written=report.rows_written)


def _mirror(reports: Reports) -> MirrorStatus:
    report = reports.mirror()
    up = reports.mirror_lives()
    if report is None:
        return MirrorStatus(up=up, problem=None, waiting=None)
    return MirrorStatus(up=up, problem=report.problem, waiting=report.waiting)


def _log(answer_log: AnswerLog) -> LogStatus:
    return LogStatus(queued=answer_log.queued, dropped=answer_log.dropped, problem=answer_log.problem)
