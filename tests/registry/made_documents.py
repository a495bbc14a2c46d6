"""Evaluations, verdicts and trials of models that nobody measured."""

from components.contracts.documents.evaluation import Evaluation, EvaluationStamp, WindowSpan, WindowSpans
from components.contracts.documents.trials import Scored
from components.contracts.documents.verdict import Gate, Verdict, VerdictStamp

SHA256 = "0" * 64


def evaluation(start: str = "2024-01-01T00:00:00Z", end: str = "2024-02-01T00:00:00Z") -> Evaluation:
    """Of no expert at all, with this test window."""
    span = WindowSpan(start=start, end=end, bars=30)
    return Evaluation(
        horizon=5,
        period="1d",
        target="log_return",
        bars_per_year=252.0,
        cost_bps_per_side=10.0,
        entry="next_open",
        strategies=[],
        windows=WindowSpans(validation=span, test=span, backtest=span),
        experts={},
        stamp=EvaluationStamp(code_version="c", config_hash="h", returns_sha256=SHA256),
    )


def nothing_scored(
    start: str = "2024-01-01T00:00:00Z", end: str = "2024-02-01T00:00:00Z", period: str = "1d"
) -> Scored:
    """A test window of which no model's returns are known."""
    return Scored(
        run="",
        period=period,
        test_start=start,
        test_end=end,
        bars_per_year=252.0,
        timestamps=[],
        models=(),
    )


def verdict(approved: bool = True, beats: bool = True, reason: str = "better by 0.01") -> Verdict:
    """With one gate that has a number and one that has none."""
    return Verdict(
        candidate="stack",
        champion_version=None,
        approved=approved,
        beats_champion=beats,
        reason=reason,
        gates=(_gate("information_coefficient", 0.03), _gate("odd", None)),
        stamp=VerdictStamp(code_version="c", config_hash="h"),
    )


def _gate(name: str, value: float | None) -> Gate:
    return Gate(name=name, value=value, threshold=0.02, comparison=">=", passed=True, reason="r")
