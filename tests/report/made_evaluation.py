"""Evaluations of models that nobody measured, and what else a report is written from."""

from components.contracts.documents.champion import Registration, Reign
from components.contracts.documents.evaluation import (
    BandShares,
    Daily,
    Evaluation,
    EvaluationStamp,
    LagRow,
    Measurement,
    ModelEvaluation,
    Portfolio,
    PortfolioEvents,
    Portfolios,
    Quantiles,
    Ranking,
    ReliabilityBin,
    ScoreShift,
    SliceRow,
    SliceTable,
    Spread,
    WindowSpan,
    WindowSpans,
)
from components.contracts.documents.health import PanelHealth
from components.contracts.documents.oof_audit import OofAudit
from components.contracts.documents.verdict import Gate, Verdict, VerdictStamp

START, END = "2024-01-11T00:00:00Z", "2024-01-20T00:00:00Z"


def evaluation_of(ic: float | None, *, names: tuple[str, ...] = ("stack",)) -> Evaluation:
    """Each model with this information coefficient on the test window of ten bars; validation is empty."""
    span = WindowSpan(start=START, end=END, bars=10)
    return Evaluation(
        horizon=5,
        period="1d",
        target="sector_neutral_return",
        bars_per_year=252.0,
        cost_bps_per_side=10.0,
        entry="next_open",
        strategies=["long_short", "long_only"],
        windows=WindowSpans(validation=span, test=span, backtest=span),
        experts={name: ModelEvaluation(validation=None, test=measurement(ic)) for name in names},
        stamp=EvaluationStamp(code_version="c", config_hash="h", returns_sha256="s"),
    )


def measurement(ic: float | None) -> Measurement:
    """One model; what has no value here is unknown."""
    ranking = Ranking(mean=ic, std=None, icir=None, t_hac=None, hit_share=None, bars=10)
    return Measurement(
        rows=40,
        labelled_rows=40,
        symbols=4,
        ic=ranking,
        rank_ic=ranking,
        ic_log_return=ranking,
        rank_ic_log_return=ranking,
        daily=Daily(timestamp=[START, END], ic=[ic, None], rank_ic=[ic, None]),
        slices=[
            SliceTable(by=by, rows=[part_of(name, ic)])
            for by, name in (("whole", "all"), ("year", "2024"), ("regime", "bull"), ("sector", "<tech>"))
        ],
        decay=[LagRow(lag=0, ic=ic, rank_ic=ic, bars=10)],
        calibration=BandShares(
            below_p10=0.1,
            below_p50=0.5,
            below_p90=None,
            inside_p10_p90=None,
            rows=40,
            slope=None,
            pinball=Quantiles(p10=None, p50=None, p90=None),
            reliability=[ReliabilityBin(bin=1, predicted=0.1, realised=None, realised_error=None, rows=40)],
        ),
        psi=ScoreShift(raw=None, cross_section=None),
        spread=Spread(
            mean_bps=None, sharpe_horizon_adjusted=None, sharpe_overlap_corrected=None, hit_share=None
        ),
        portfolio=Portfolios(long_short=portfolio(), long_only=portfolio()),
        liquidity=None,
        all_names=None,
    )


def part_of(name: str, ic: float | None) -> SliceRow:
    """A part of which only the coefficients are known."""
    known = {"part": name, "ic": ic, "rank_ic": ic, "rows": 40, "bars": 10, "traded_bars": 0}
    limits = dict.fromkeys(("ic_interval", "rank_ic_interval", "sharpe_net_interval"), (None, None))
    return SliceRow(**{**dict.fromkeys(SliceRow.model_fields), **known, **limits})


def portfolio() -> Portfolio:
    """One that never traded."""
    known = {
        "bars": 0,
        "sharpe_gross_interval": (None, None),
        "sharpe_net_interval": (None, None),
        "interval_level": 0.9,
        "events": PortfolioEvents(stopped=0, delisted=0, pauses=0),
        "capacity": [],
    }
    return Portfolio(**{**dict.fromkeys(Portfolio.model_fields), **known})


def verdict() -> Verdict:
    """A rejection by a gate that could not be computed."""
    gate = Gate(name="drift", value=None, threshold=0.25, comparison="<=", passed=False, reason="PSI <x>: 1")
    return Verdict(
        candidate="stack",
        champion_version=None,
        approved=False,
        beats_champion=True,
        reason="1 of 1 gates failed: drift",
        gates=(gate,),
        stamp=VerdictStamp(code_version="c", config_hash="h"),
    )


def registration(*history: Reign) -> Registration:
    """Of a model that was rejected."""
    return Registration(
        status="rejected",
        name="demo",
        version=None,
        aliases=[],
        run_id="r",
        bundle_sha256="b",
        trials=2,
        champion_before=None,
        champion_after=None,
        reason="r",
        history=list(history),
        tracking_uri="sqlite:///mlflow.db",
    )


def made_health() -> PanelHealth:
    """A panel of one bar in which nothing was found."""
    counts = ("rows_in", "rows_out", "symbols_in", "symbols_out", "bars")
    none = ("absent_columns", "reasons", "coverage", "frozen_symbols", "steps")
    return PanelHealth(
        verdict="passed",
        failures=[],
        expectations={"passed": 1, "failed": 0, "results": []},
        rows_quarantined=0,
        hindsight_quarantined=0,
        first="2024-01-11 00:00",
        last="2024-01-11 00:00",
        period="1d",
        gaps={"count": 0, "missing_bars": 0, "longest": [], "missing_in_source": 0},
        outages={"count": 0, "missing_bars": 0, "longest": []},
        fell_out={"symbols": [], "dates": []},
        **dict.fromkeys(counts, 1),
        **{name: [] for name in none},
    )


def made_oof_audit(failed: dict[str, str]) -> OofAudit:
    """An audit without a problem; `failed` says which experts were left out, and why."""
    counts = ("rows", "duplicates", "time_reversals", "missing_scores", "longest_gap_bars", "unlabelled")
    return OofAudit(
        experts=["median"],
        failed_experts=failed,
        rows_by_expert={"median": 0},
        rows_in_common_share=1.0,
        **dict.fromkeys(counts, 0),
    )
