"""The gate of level promotion: candidate against champion, bar by bar, where both are out of sample."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from components.contracts import content_sha256
from components.contracts.documents.evaluation import Evaluation
from components.contracts.documents.verdict import Gate
from components.gates.config import Settings
from components.gates.gate import gate
from components.gates.read import ChampionPredictions
from components.metrics import fewest_values, information_coefficient, t_value

NAME = "better_than_champion"
KEY = ["timestamp", "symbol"]


@dataclass(frozen=True)
class Contest:
    """Candidate and champion on the same market.

    predictions : the candidate's PREDICTIONS table
    labels : LABELS table; rows of the evaluation's horizon are used
    champion : None where the registry has none yet
    after : only bars after this moment count; None: all that both predicted out of sample
    """

    evaluation: Evaluation
    predictions: pl.DataFrame
    labels: pl.DataFrame
    champion: ChampionPredictions | None
    after: datetime | None = None


def newest_bars_only(champion: ChampionPredictions | None) -> datetime | None:
    """The moment after which a retrained candidate has to beat the champion: the end of the champion's
    training data.

    A champion that can't be scored on newer bars, such as one of other features, is therefore not replaced by
    itself: on older bars a retraining proves nothing.
    """
    return None if champion is None else champion.known_until


def champion_gate(contest: Contest, settings: Settings) -> Gate:
    """t of the RankIC difference by bar on the rows that both predicted out of sample."""
    champion = contest.champion
    if champion is None:
        return _untested("there is no champion yet", settings, passed=True)
    theirs = champion.predictions.filter(pl.col("horizon") == contest.evaluation.horizon)
    if theirs.is_empty() or theirs["target"].unique().to_list() != [contest.evaluation.target]:
        wanted = f"{contest.evaluation.target} over {contest.evaluation.horizon} bars"
        return _refused(
            f"champion {champion.version} predicts another horizon or target than {wanted}", settings
        )
    common = _common_rows(contest, theirs)
    if _same_scores(common):
        equal = f"all {len(common):,} common predictions are equal"
        return _refused(f"same model as champion {champion.version}: {equal}", settings)
    pairs = _daily_pairs(contest, common)
    horizon = contest.evaluation.horizon
    needed = max(settings.min_champion_bars, fewest_values(horizon))
    if len(pairs) < needed:
        return _refused(
            f"only {len(pairs)} bars in common with the out-of-sample predictions of champion"
            f" {champion.version}{_which_bars(contest)}, {needed} needed",
            settings,
        )
    difference = (pairs["score"] - pairs["champion"]).to_numpy()
    first, last = pairs["timestamp"][0], pairs["timestamp"][-1]
    value = t_value(difference, horizon=horizon)
    what = (
        f"t of the RankIC difference to champion {champion.version}, mean {difference.mean():+.4f} over"
        f" {len(pairs)} bars ({first:%Y-%m-%d} to {last:%Y-%m-%d}){_which_bars(contest)}"
    )
    found = gate(NAME, value, ">=", settings.min_champion_t, what)
    return found.model_copy(update={"level": "promotion"})


def _refused(reason: str, settings: Settings) -> Gate:
    return _untested(f"{reason}; not promoted automatically", settings, passed=False)


def _untested(reason: str, settings: Settings, *, passed: bool) -> Gate:
    return Gate(
        name=NAME,
        value=None,
        threshold=settings.min_champion_t,
        comparison=">=",
        passed=passed,
        reason=reason,
        level="promotion",
    )


def _common_rows(contest: Contest, theirs: pl.DataFrame) -> pl.DataFrame:
    """Columns `timestamp`, `symbol`, `score`, `champion` of what both said in the candidate's test window."""
    in_test = pl.col("timestamp").is_between(*_test_span(contest.evaluation))
    ours = contest.predictions.filter(in_test & (pl.col("horizon") == contest.evaluation.horizon))
    if contest.after is not None:
        ours = ours.filter(pl.col("timestamp") > contest.after)
    return (
        ours.select(*KEY, "score")
        .join(theirs.select(*KEY, pl.col("score").alias("champion")), on=KEY, how="inner")
        .drop_nulls()
        .sort(KEY)
    )


def _same_scores(common: pl.DataFrame) -> bool:
    if not len(common):
        return False
    ours, theirs = common.select(*KEY, "score"), common.select(*KEY, pl.col("champion").alias("score"))
    return content_sha256(ours) == content_sha256(theirs)


def _daily_pairs(contest: Contest, common: pl.DataFrame) -> pl.DataFrame:
    """RankIC of both by bar, columns `timestamp`, `score`, `champion`; who gives no order there has 0."""
    label = pl.col(contest.evaluation.target).alias("label")
    facts = contest.labels.filter(pl.col("horizon") == contest.evaluation.horizon).select(*KEY, label)
    ours, theirs = (
        information_coefficient(common.select(*KEY, pl.col(name).alias("score")), facts, rank=True).rename(
            {"ic": name}
        )
        for name in ("score", "champion")
    )
    return (
        ours.join(theirs.drop("n_symbols"), on="timestamp", how="inner")
        .select("timestamp", pl.col("score", "champion").fill_null(0.0))
        .sort("timestamp")
    )


def _which_bars(contest: Contest) -> str:
    after, champion = contest.after, contest.champion
    said = f", all after {after:%Y-%m-%d %H:%M}, where its training data ends" if after is not None else ""
    return said + (
        f" (it can't be scored on newer bars: {champion.not_scored})" if champion.not_scored else ""
    )


def _test_span(evaluation: Evaluation) -> tuple[pl.Expr, pl.Expr]:
    span = evaluation.windows.test
    start, end = (
        pl.lit(moment).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
        for moment in (span.start, span.end)
    )
    return start, end
