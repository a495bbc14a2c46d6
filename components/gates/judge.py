"""Holds a model against thresholds, luck, baselines and the champion; every gate gives its number, threshold
and reason.

A number that is missing or not finite never passes. Thresholds on IC and Sharpe alone would let luck pass now
and then, so significance, the bootstrap and sub-periods are asked for as well; tests/gates measures how often
noise is approved.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from components.contracts import (
    ALL_PREDICTIONS,
    PREDICTIONS,
    ContractError,
    check_table,
    content_sha256,
    read_table,
)
from components.gates.config import Settings
from components.metrics import hac_lags, ic_summary, information_coefficient, newey_west_t

FORMAT = 1


@dataclass(frozen=True)
class Gate:
    """One question.

    `level` says what it guards: entry to the registry (approval) or the champion's place (promotion).
    """

    name: str
    value: float | None
    threshold: float
    comparison: Literal[">=", ">", "<="]
    passed: bool
    reason: str
    level: Literal["approval", "promotion"] = "approval"


@dataclass(frozen=True)
class Champion:
    """The model in place and its own out-of-sample predictions (PREDICTIONS table).

    `known_until` is the newest moment that it has learned from; `not_scored` says why it has no predictions
    after it.
    """

    version: str
    predictions: pl.DataFrame
    known_until: datetime | None = None
    not_scored: str | None = None


@dataclass(frozen=True)
class Verdict:
    """`approved`: fit for the registry.

    `beats_champion`: may take its place; True where there is no champion.
    """

    candidate: str
    champion_version: str | None
    approved: bool
    beats_champion: bool
    reason: str
    gates: tuple[Gate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT, **asdict(self), "gates": [asdict(gate) for gate in self.gates]}


def judge(
    evaluation: Mapping[str, Any],
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    champion: Champion | None,
    settings: Settings,
    *,
    champion_after: datetime | None = None,
) -> Verdict:
    """Put the candidate through every gate.

    Parameters
    ----------
    evaluation : as the backtest stage writes it
    predictions : the candidate's PREDICTIONS table; only its test window is compared with the champion
    labels : LABELS table; rows of the evaluation's horizon are used
    champion : None where the registry has none yet
    champion_after : candidate and champion are compared on bars after this moment only; None: on all that
        both predicted out of sample

    Raises
    ------
    ContractError
        If the evaluation does not hold the candidate.
    """
    block = _block(evaluation, settings.candidate)
    if block is None:
        found = ", ".join(evaluation.get("experts", {})) or "none"
        raise ContractError(
            f"The evaluation has no test results of {settings.candidate!r} (experts: {found}). Let the"
            " stacking stage write it, or set gates.candidate."
        )
    own = (
        *_quality_gates(block, evaluation, settings),
        *_portfolio_gates(block, settings),
        *(_baseline_gate(evaluation, block, name, gain) for name, gain in settings.baselines.items()),
    )
    versus = _champion_gate(evaluation, predictions, labels, champion, settings, champion_after)
    failed = [gate.name for gate in own if not gate.passed]
    approved = not failed
    reason = (
        f"all {len(own)} gates passed; {versus.reason}"
        if approved
        else f"{len(failed)} of {len(own)} gates failed: {', '.join(failed)}"
    )
    return Verdict(
        settings.candidate,
        champion.version if champion else None,
        approved,
        versus.passed,
        reason,
        (*own, versus),
    )


def read_evaluation(path: Path, returns: Path) -> dict[str, Any]:
    """The backtest stage's evaluation, after a check that it was made together with the `returns` beside it.

    Raises
    ------
    ContractError
        If one of the two can't be read or they come from different runs.
    """
    try:
        evaluation = json.loads(path.read_text(encoding="utf-8"))
        found = content_sha256(pl.read_parquet(returns))
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise ContractError(
            f"{path} and {returns} can't be read ({error}). Run the backtest stage again."
        ) from error
    stamped = evaluation.get("stamp", {}).get("returns_sha256")
    if evaluation.get("format") != FORMAT or stamped != found:
        raise ContractError(
            f"{path} (format {evaluation.get('format')}, returns {str(stamped)[:12]}) was not made together"
            f" with {returns} ({found[:12]}). Run the backtest stage again."
        )
    return evaluation


def read_champion(folder: Path) -> Champion | None:
    """The champion from a folder with `champion.json` ({"version": null} where there is none) and
    `predictions.parquet`.

    Raises
    ------
    ContractError
        If champion.json is missing or broken, or the predictions are not a PREDICTIONS table.
    """
    try:
        about = json.loads((folder / "champion.json").read_text(encoding="utf-8"))
        version = about["version"]
        known_until = datetime.fromisoformat(about["known_until"]) if about.get("known_until") else None
        not_scored = (about.get("newest") or {}).get("not_scored")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ContractError(
            f"{folder / 'champion.json'} can't be read ({error!r}). Let the registry stage write it; without"
            " a champion it holds version null."
        ) from error
    return (
        None
        if version is None
        else Champion(
            str(version), _read_predictions(folder / "predictions.parquet"), known_until, not_scored
        )
    )


def read_candidate(path: Path, *, expert: str, horizon: int) -> pl.DataFrame:
    """One expert's rows of a stamped ALL_PREDICTIONS file, as a PREDICTIONS table.

    Raises
    ------
    ContractError
        If the file can't be read or has no rows of that expert and horizon.
    """
    rows = read_table(path, ALL_PREDICTIONS).filter(
        (pl.col("expert") == expert) & (pl.col("horizon") == horizon)
    )
    if rows.is_empty():
        raise ContractError(
            f"{path} holds no predictions of {expert!r} for horizon {horizon}. Run the stacking stage again,"
            " or set gates.candidate."
        )
    return check_table(rows, PREDICTIONS, source=str(path))


def _read_predictions(file: Path) -> pl.DataFrame:
    try:
        rows = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ContractError(
            f"{file} can't be read as Parquet ({error}). Register the champion again, or take its alias away."
        ) from error
    return check_table(rows, PREDICTIONS, source=str(file))


def _quality_gates(
    block: Mapping[str, Any], evaluation: Mapping[str, Any], settings: Settings
) -> tuple[Gate, ...]:
    ic, rank_ic, calibration = (
        block.get("ic") or {},
        block.get("rank_ic") or {},
        block.get("calibration") or {},
    )
    ts = [_number(part.get("t_hac")) for part in (ic, rank_ic)]
    inside = _number(calibration.get("inside_p10_p90"))
    return (
        _gate(
            "test_bars", ic.get("bars"), ">=", settings.min_test_bars, "bars with an information coefficient"
        ),
        _gate(
            "ordered_bars",
            _ordered_share(ic, evaluation),
            ">=",
            settings.min_ordered_share,
            "share of the test window's bars on which scores give an order",
        ),
        _gate(
            "information_coefficient",
            ic.get("mean"),
            ">=",
            settings.min_information_coefficient,
            "mean IC against the target",
        ),
        _gate(
            "significance",
            None if None in ts else min(ts),
            ">=",
            settings.min_t_statistic,
            "smaller Newey-West t of IC and RankIC",
        ),
        _gate(
            "steadiness",
            _positive_periods(block, settings.periods),
            ">=",
            settings.min_positive_periods,
            f"of {settings.periods} parts of the test window with a positive mean RankIC",
        ),
        _gate(
            "drift",
            (block.get("psi") or {}).get("cross_section"),
            "<=",
            settings.max_psi,
            "PSI of standardised scores, newer against older half",
        ),
        _gate(
            "calibration",
            None if inside is None else abs(inside - settings.coverage),
            "<=",
            settings.coverage_tolerance,
            f"distance of the p10 to p90 coverage ({'unknown' if inside is None else format(inside, '.3f')})"
            f" from {settings.coverage:g}",
        ),
    )


def _ordered_share(ic: Mapping[str, Any], evaluation: Mapping[str, Any]) -> float | None:
    """Bars with an IC as a share of those whose labels can be complete; a model that scores all alike on hard
    bars must not profit from it.
    """
    bars = _number(ic.get("bars"))
    complete = evaluation["windows"]["test"]["bars"] - evaluation["horizon"] - 1
    return None if bars is None or complete <= 0 else min(bars / complete, 1.0)


def _portfolio_gates(block: Mapping[str, Any], settings: Settings) -> tuple[Gate, ...]:
    portfolio = block.get("portfolio") or {}
    long_short, long_only = portfolio.get("long_short") or {}, portfolio.get("long_only") or {}
    lower = (long_short.get("sharpe_net_interval") or [None])[0]
    level = _number(long_short.get("interval_level")) or 0.0
    return (
        _gate(
            "information_ratio",
            long_only.get("information_ratio_net"),
            ">=",
            settings.min_information_ratio,
            "annual net IR of long_only against every name alike",
        ),
        _gate(
            "sharpe",
            long_short.get("sharpe_net"),
            ">=",
            settings.min_sharpe,
            "annual net Sharpe ratio of long_short",
        ),
        _gate(
            "sharpe_lower_limit",
            lower,
            ">",
            settings.min_sharpe_lower_limit,
            f"lower limit of its {level:.0%} bootstrap interval",
        ),
        _gate(
            "drawdown",
            long_short.get("max_drawdown"),
            "<=",
            settings.max_drawdown,
            "largest net drawdown of long_short",
        ),
    )


def _baseline_gate(evaluation: Mapping[str, Any], block: Mapping[str, Any], name: str, gain: float) -> Gate:
    """Mean daily RankIC over the baseline's, on the bars where one of them has one; who gives no order there
    has 0.
    """
    gate_name = f"better_than_{name}" if gain >= 0 else f"not_worse_than_{name}"
    other = _block(evaluation, name)
    if other is None:
        return _gate(
            gate_name,
            None,
            ">=",
            gain,
            f"no test results of {name}: add that expert or take it out of gates.baselines",
        )
    both = _daily(block).join(_daily(other).rename({"rank_ic": "baseline"}), on="timestamp", how="inner")
    pairs = both.filter(pl.any_horizontal(pl.col("rank_ic", "baseline").is_not_null())).fill_null(0.0)
    value = (pairs["rank_ic"] - pairs["baseline"]).mean() if len(pairs) else None
    return _gate(
        gate_name, value, ">=", gain, f"mean daily RankIC more than that of {name}, {len(pairs)} bars"
    )


def newest_bars_only(champion: Champion | None) -> datetime | None:
    """The moment after which a retrained candidate has to beat the champion: the end of the champion's
    training data.

    A champion that can't be scored on newer bars, such as one of other features, is therefore not replaced by
    itself: on older bars a retraining proves nothing.
    """
    return None if champion is None else champion.known_until


def _champion_gate(
    evaluation: Mapping[str, Any],
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    champion: Champion | None,
    settings: Settings,
    champion_after: datetime | None,
) -> Gate:
    """Newey-West t of the daily RankIC difference on the rows that both predicted out of sample."""
    threshold = settings.min_champion_t
    if champion is None:
        return Gate(
            "better_than_champion", None, threshold, ">=", True, "there is no champion yet", "promotion"
        )

    def refused(reason: str) -> Gate:
        return Gate(
            "better_than_champion",
            None,
            threshold,
            ">=",
            False,
            f"{reason}; not promoted automatically",
            "promotion",
        )

    horizon, target = evaluation["horizon"], evaluation["target"]
    theirs = champion.predictions.filter(pl.col("horizon") == horizon)
    if theirs.is_empty() or theirs["target"].unique().to_list() != [target]:
        return refused(
            f"champion {champion.version} predicts another horizon or target than {target} over {horizon}"
            " bars"
        )
    key = ["timestamp", "symbol"]
    ours = predictions.filter(
        pl.col("timestamp").is_between(*_test_span(evaluation)) & (pl.col("horizon") == horizon)
    )
    if champion_after is not None:
        ours = ours.filter(pl.col("timestamp") > champion_after)
    newer = (
        f", all after {champion_after:%Y-%m-%d %H:%M}, where its training data ends"
        if champion_after is not None
        else ""
    )
    newer += f" (it can't be scored on newer bars: {champion.not_scored})" if champion.not_scored else ""
    common = (
        ours.select(*key, "score")
        .join(theirs.select(*key, pl.col("score").alias("champion")), on=key, how="inner")
        .drop_nulls()
        .sort(key)
    )
    facts = labels.filter(pl.col("horizon") == horizon).select(*key, pl.col(target).alias("label"))
    if len(common) and content_sha256(common.select(*key, "score")) == content_sha256(
        common.select(*key, pl.col("champion").alias("score"))
    ):
        return refused(
            f"same model as champion {champion.version}: all {len(common):,} common predictions are equal"
        )
    daily = [
        information_coefficient(common.select(*key, pl.col(name).alias("score")), facts, rank=True).rename(
            {"ic": name}
        )
        for name in ("score", "champion")
    ]
    pairs = (
        daily[0]
        .join(daily[1].drop("n_symbols"), on="timestamp", how="inner")
        .select("timestamp", pl.col("score", "champion").fill_null(0.0))
        .sort("timestamp")
    )
    if len(pairs) < settings.min_champion_bars:
        return refused(
            f"only {len(pairs)} bars in common with the out-of-sample predictions of champion"
            f" {champion.version}{newer}, {settings.min_champion_bars} needed"
        )
    difference = (pairs["score"] - pairs["champion"]).to_numpy()
    first, last = pairs["timestamp"][0], pairs["timestamp"][-1]
    value = newey_west_t(difference, lags=hac_lags(len(difference), horizon))
    what = (
        f"t of the daily RankIC difference to champion {champion.version}, mean {difference.mean():+.4f} over"
        f" {len(pairs)} bars ({first:%Y-%m-%d} to {last:%Y-%m-%d}){newer}"
    )
    gate = _gate("better_than_champion", value, ">=", threshold, what)
    return Gate(**{**asdict(gate), "level": "promotion"})


def _gate(name: str, value: Any, comparison: Literal[">=", ">", "<="], threshold: float, what: str) -> Gate:
    number = _number(value)
    if number is None:
        return Gate(
            name, None, threshold, comparison, False, f"could not be computed, so it does not pass: {what}"
        )
    passed = {">=": number >= threshold, ">": number > threshold, "<=": number <= threshold}[comparison]
    return Gate(
        name,
        number,
        threshold,
        comparison,
        passed,
        f"{what}: {number:.4g}, {'' if passed else 'but '}wanted {comparison} {threshold:g}",
    )


def _number(value: Any) -> float | None:
    return (
        float(value)
        if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)
        else None
    )


def _block(evaluation: Mapping[str, Any], expert: str) -> Mapping[str, Any] | None:
    return (evaluation.get("experts", {}).get(expert) or {}).get("test")


def _daily(block: Mapping[str, Any]) -> pl.DataFrame:
    daily = block.get("daily") or {}
    return pl.DataFrame(
        {"timestamp": daily.get("timestamp", []), "rank_ic": daily.get("rank_ic", [])},
        schema={"timestamp": pl.String, "rank_ic": pl.Float64},
    )


def _positive_periods(block: Mapping[str, Any], periods: int) -> int | None:
    ranks = _daily(block).sort("timestamp")["rank_ic"].drop_nulls().to_numpy()
    return (
        sum(ic_summary(part, horizon=1)["mean"] > 0 for part in np.array_split(ranks, periods))
        if len(ranks) >= periods
        else None
    )


def _test_span(evaluation: Mapping[str, Any]) -> tuple[pl.Expr, pl.Expr]:
    span = evaluation["windows"]["test"]
    start, end = (
        pl.lit(span[name]).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
        for name in ("start", "end")
    )
    return start, end
