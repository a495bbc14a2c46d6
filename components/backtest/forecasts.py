"""What scores and bands are worth by themselves, without a portfolio."""

from dataclasses import dataclass

import polars as pl

from components.backtest.class_forecasts import measure_classes
from components.backtest.terms import Terms
from components.contracts.documents.evaluation import (
    AllNames,
    BandShares,
    Daily,
    LagRow,
    Liquidity,
    Measurement,
    Portfolios,
    Quantiles,
    Ranking,
    ReliabilityBin,
    ScoreShift,
    SliceTable,
    Spread,
)
from components.metrics import (
    calibration_slope,
    coverage,
    horizon_adjusted_sharpe,
    ic_decay,
    ic_summary,
    information_coefficient,
    overlap_corrected_sharpe,
    pinball_loss,
    population_stability_index,
    reliability_table,
)
from components.metrics.calibration import QUANTILES


@dataclass(frozen=True)
class Beside:
    """What is measured beside the figures of a window as a whole, as in `Measurement`."""

    slices: list[SliceTable]
    liquidity: Liquidity | None
    all_names: AllNames | None


def measure(
    predictions: pl.DataFrame, facts: pl.DataFrame, portfolios: Portfolios, beside: Beside, terms: Terms
) -> Measurement:
    """Everything about one expert in one window: its scores and bands, beside the money that they earned.

    Parameters
    ----------
    predictions : table with MEASURED_COLUMNS
    facts : what happened: `timestamp`, `symbol`, `label`, `log_return`
    portfolios : what trading the scores earned
    """
    horizon = terms.horizon
    daily = coefficients(predictions, facts)
    pairs = predictions.join(
        facts.select("timestamp", "symbol", "label", "log_return"),
        on=["timestamp", "symbol"],
        how="inner",
        maintain_order="left",
    )
    return_facts = facts.select("timestamp", "symbol", pl.col("log_return").alias("label"))
    on_returns = information_coefficient(predictions, return_facts)["ic"]
    ranked_on_returns = information_coefficient(predictions, return_facts, rank=True)["ic"]
    moments = pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Measurement(
        rows=len(predictions),
        labelled_rows=int(pairs["label"].is_finite().fill_null(False).sum()),
        symbols=predictions["symbol"].n_unique(),
        ic=ranking(daily["ic"], horizon),
        rank_ic=ranking(daily["rank_ic"], horizon),
        ic_log_return=ranking(on_returns, horizon),
        rank_ic_log_return=ranking(ranked_on_returns, horizon),
        daily=Daily(**daily.select(moments, "ic", "rank_ic").to_dict(as_series=False)),
        slices=beside.slices,
        decay=_decay(predictions, facts, terms.settings.decay_bars),
        calibration=band_shares(pairs),
        classes=measure_classes(pairs),
        psi=_shift(predictions),
        spread=_spread(pairs, terms),
        portfolio=portfolios,
        liquidity=beside.liquidity,
        all_names=beside.all_names,
    )


def ranking(ic: pl.Series, horizon: int) -> Ranking:
    """A series of coefficients, one a bar, in short."""
    return Ranking(**ic_summary(ic, horizon=horizon))


def coefficients(predictions: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """`timestamp`, `ic` and `rank_ic` of each bar; `facts` as in `measure`."""
    plain, ranked = (information_coefficient(predictions, facts, rank=rank) for rank in (False, True))
    return plain.select("timestamp", "ic", ranked["ic"].alias("rank_ic"))


def of_all_names(
    predictions: pl.DataFrame, facts: pl.DataFrame, portfolios: Portfolios, terms: Terms
) -> AllNames:
    """The main figures of scores inside and outside of the universe that can be traded; as in `measure`."""
    daily = coefficients(predictions, facts)
    return AllNames(
        rows=len(predictions),
        symbols=predictions["symbol"].n_unique(),
        ic=ranking(daily["ic"], terms.horizon),
        rank_ic=ranking(daily["rank_ic"], terms.horizon),
        portfolio=portfolios,
    )


def _decay(predictions: pl.DataFrame, facts: pl.DataFrame, longest: int) -> list[LagRow]:
    return [LagRow(**row) for row in ic_decay(predictions, facts, range(longest + 1)).to_dicts()]


def band_shares(pairs: pl.DataFrame) -> BandShares:
    """What the bands hold; `pairs` are predictions with their `label`."""
    label = pairs["label"].cast(pl.Float64).to_numpy()
    losses = {
        name: pinball_loss(label, pairs[name].to_numpy(), quantile=quantile)
        for name, quantile in QUANTILES.items()
    }
    return BandShares(
        **coverage(pairs),
        slope=calibration_slope(pairs),
        pinball=Quantiles(**losses),
        reliability=[ReliabilityBin(**row) for row in reliability_table(pairs).to_dicts()],
    )


def _shift(predictions: pl.DataFrame) -> ScoreShift:
    """PSI of the newer against the older half of the window, of raw scores and of scores standardised in
    their cross-section.

    The scale of scores follows volatility, which is no fault; a changed shape of the cross-section is one.
    """
    score = pl.col("score")
    standardised = predictions.select(
        "timestamp",
        score.alias("raw"),
        ((score - score.mean().over("timestamp")) / score.std().over("timestamp")).alias("cross_section"),
    )
    calendar = standardised["timestamp"].unique().sort()
    older = standardised["timestamp"] < calendar[len(calendar) // 2]
    shifts = {
        name: population_stability_index(
            standardised.filter(older)[name].to_numpy(), standardised.filter(~older)[name].to_numpy()
        )
        for name in ("raw", "cross_section")
    }
    return ScoreShift(**shifts)


def _spread(pairs: pl.DataFrame, terms: Terms) -> Spread:
    """Mean log return of the top less that of the bottom quantile over the horizon, one value a bar; values
    overlap, costs are not in it.
    """
    usable = pairs.filter(pl.col("log_return").is_finite().fill_null(False) & pl.col("score").is_finite())
    share = (pl.col("score").rank() - 0.5) / pl.len()
    quantile = terms.settings.quantile
    top, bottom = (
        pl.col("log_return").filter(side).mean()
        for side in (pl.col("share") >= 1 - quantile, pl.col("share") <= quantile)
    )
    daily = (
        usable.with_columns(share.over("timestamp").alias("share"))
        .group_by("timestamp")
        .agg((top - bottom).alias("spread"))
        .sort("timestamp")
    )
    values = daily["spread"].drop_nulls().to_numpy()
    horizon, yearly = terms.horizon, terms.bars_per_year
    return Spread(
        mean_bps=float(values.mean() * 1e4) if len(values) else None,
        sharpe_horizon_adjusted=horizon_adjusted_sharpe(values, horizon=horizon, bars_per_year=yearly),
        sharpe_overlap_corrected=overlap_corrected_sharpe(values, horizon=horizon, bars_per_year=yearly),
        hit_share=float((values > 0).mean()) if len(values) else None,
    )
