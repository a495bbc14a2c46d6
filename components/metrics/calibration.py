"""Whether predicted bands and sizes hold: coverage, pinball loss and reliability."""

import numpy as np
import polars as pl

QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


def coverage(bands: pl.DataFrame) -> dict[str, float]:
    """Shares of realised labels at or under each predicted quantile, and inside the band from p10 to p90.

    Parameters
    ----------
    bands : columns `label`, `p10`, `p50`, `p90`; rows where one of them is not finite are left out

    Returns
    -------
    `below_p10`, `below_p50`, `below_p90`, `inside_p10_p90` (wanted: 0.1, 0.5, 0.9, 0.8) and `rows`; shares
    are NaN without rows.
    """
    bands = _finite_rows(bands, "label", *QUANTILES)
    shares = bands.select(
        *((pl.col("label") <= pl.col(name)).mean().alias(f"below_{name}") for name in QUANTILES),
        pl.col("label").is_between(pl.col("p10"), pl.col("p90")).mean().alias("inside_p10_p90"),
    ).row(0, named=True)
    return {
        **{name: float("nan") if value is None else float(value) for name, value in shares.items()},
        "rows": len(bands),
    }


def pinball_loss(label: np.ndarray, predicted: np.ndarray, *, quantile: float) -> float:
    """Mean of max(q * e, (q - 1) * e) with e = label - predicted (Koenker and Bassett 1978), in the label's
    unit; NaN without rows.
    """
    label, predicted = np.asarray(label, dtype=float), np.asarray(predicted, dtype=float)
    both = np.isfinite(label) & np.isfinite(predicted)
    error = label[both] - predicted[both]
    return float(np.maximum(quantile * error, (quantile - 1) * error).mean()) if len(error) else float("nan")


def reliability_table(pairs: pl.DataFrame, *, bins: int = 10) -> pl.DataFrame:
    """Predicted against realised, by equally filled bins of the score.

    Parameters
    ----------
    pairs : columns `score`, `label`; rows where one is not finite are left out

    Returns
    -------
    One row a bin, lowest scores first: `bin` (from 1), `predicted` (mean score), `realised` (mean label),
    `realised_error` (standard error of that mean as if rows were independent, so too small where labels
    overlap), `rows`. Equal scores share a bin, so bins may be missing.
    """
    pairs = _finite_rows(pairs, "score", "label")
    bin_number = ((pl.col("score").rank() - 0.5) / pl.len() * bins).floor().cast(pl.Int64).clip(
        0, bins - 1
    ) + 1
    return (
        pairs.with_columns(bin_number.alias("bin"))
        .group_by("bin")
        .agg(
            pl.col("score").mean().alias("predicted"),
            pl.col("label").mean().alias("realised"),
            (pl.col("label").std() / pl.len().sqrt()).alias("realised_error"),
            pl.len().alias("rows"),
        )
        .sort("bin")
    )


def calibration_slope(pairs: pl.DataFrame) -> float:
    """Slope of the regression of label on score over all rows: 1 where sizes are right, under 1 where they
    are overstated. NaN if constant.
    """
    pairs = _finite_rows(pairs, "score", "label")
    score, label = pairs["score"].to_numpy(), pairs["label"].to_numpy()
    if len(score) < 3 or np.ptp(score) == 0:
        return float("nan")
    centred = score - score.mean()
    return float(centred @ (label - label.mean()) / (centred @ centred))


def _finite_rows(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    return frame.filter(pl.all_horizontal(pl.col(columns).is_finite().fill_null(False)))
