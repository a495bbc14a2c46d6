"""Labels against the other symbols of the bar: sector-neutral, market-neutral, and the place in the order."""

import numpy as np
import polars as pl

MIN_SECTOR_MEMBERS = 3
MIN_CROSS_SECTION = 2


def sector_neutral(returns: np.ndarray, bars: np.ndarray, sectors: pl.Series) -> np.ndarray:
    """Returns minus the mean of their sector at the same bar (or of the whole bar); shape (rows,
    horizons).
    """
    codes = sectors.rank("dense").cast(pl.Int64).fill_null(0).to_numpy()
    cells = bars * (int(codes.max(initial=0)) + 1) + codes
    neutral = np.empty_like(returns)
    for i in range(returns.shape[1]):
        sector_mean, sector_members = _group_mean(returns[:, i], cells)
        bar_mean, bar_members = _group_mean(returns[:, i], bars)
        mean = np.where((codes > 0) & (sector_members >= MIN_SECTOR_MEMBERS), sector_mean, bar_mean)
        neutral[:, i] = np.where(bar_members >= MIN_CROSS_SECTION, returns[:, i] - mean, np.nan)
    return neutral


def beta_neutral(returns: np.ndarray, bars: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Returns minus beta times the mean over the labelled symbols of the bar; shape (rows, horizons), `betas`
    (rows,).
    """
    neutral = np.empty_like(returns)
    for i in range(returns.shape[1]):
        market, members = _group_mean(returns[:, i], bars)
        neutral[:, i] = np.where(members >= MIN_CROSS_SECTION, returns[:, i] - betas * market, np.nan)
    return neutral


def return_quantile(returns: np.ndarray, bars: np.ndarray) -> np.ndarray:
    """(mid-rank - 1/2) / number of labelled symbols of the bar, in (0, 1); NaN with fewer than 2.

    Shape (rows, horizons).
    """
    names = [str(i) for i in range(returns.shape[1])]
    frame = (
        pl.DataFrame(returns, schema=names)
        .with_columns(pl.all().fill_nan(None))
        .with_columns(pl.Series("bar", bars))
    )
    place = (
        (pl.col(name).rank("average") - 0.5)
        / pl.when(pl.col(name).count() >= MIN_CROSS_SECTION).then(pl.col(name).count())
        for name in names
    )
    return frame.select(quantile.over("bar") for quantile in place).fill_null(np.nan).to_numpy()


def _group_mean(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row, the mean over the known values of its group and their number."""
    known = np.isfinite(values)
    sums = np.bincount(groups, weights=np.where(known, values, 0.0))
    members = np.bincount(groups, weights=known)
    means = np.divide(sums, members, out=np.full(len(sums), np.nan), where=members > 0)
    return means[groups], members[groups]
