"""Planted leaks, from blatant to nearly invisible: each with what it is, how hard it is to see, and the
function that makes it.

Every function takes a panel sorted by (timestamp, symbol) and returns it with the column `planted`, to be
read beside honest columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

Difficulty = Literal["easy", "medium", "hard", "nearly invisible"]
CLOSE, VOLUME = pl.col("close"), pl.col("volume")
RETURN = (CLOSE / CLOSE.shift(1)).log()
NEXT = (CLOSE.shift(-1) / CLOSE).log()
MOMENTUM = CLOSE / CLOSE.shift(5) - 1


@dataclass(frozen=True)
class Planted:
    """One kind of leak."""

    name: str
    difficulty: Difficulty
    what: str
    build: Callable[[pl.DataFrame], pl.DataFrame]


PLANTED: list[Planted] = []


def plant(difficulty: Difficulty, what: str):
    """Registers a function that returns the panel with `planted`, or an expression for it."""

    def keep(function: Callable) -> Callable:
        def build(panel: pl.DataFrame) -> pl.DataFrame:
            made = function(panel)
            return (
                panel.with_columns(made.alias("planted")) if isinstance(made, pl.Expr | pl.Series) else made
            )

        PLANTED.append(Planted(function.__name__, difficulty, what, build))
        return function

    return keep


def own(expression: pl.Expr) -> pl.Expr:
    return expression.over("symbol")


def content_noise(panel: pl.DataFrame) -> pl.Series:
    """Standard normal noise that depends on the row's own key only."""
    draws = (
        panel.select(pl.struct(pl.col("timestamp").cast(pl.Int64), "symbol").hash(seed=11))
        .to_series()
        .to_numpy()
    )
    from scipy.special import ndtri

    return pl.Series(ndtri((draws.astype(np.float64) + 0.5) / 2.0**64).clip(-6, 6))


@plant("easy", "the next bar's return")
def next_return(panel):
    return own(NEXT)


@plant("easy", "the close 20 bars ahead")
def far_shift(panel):
    return own(CLOSE.shift(-20))


@plant("easy", "a centred moving average")
def centred_mean(panel):
    return own(CLOSE.rolling_mean(5, center=True))


@plant("easy", "z-score over the whole sample")
def global_zscore(panel):
    return (CLOSE - CLOSE.mean()) / CLOSE.std()


@plant("easy", "z-score over each symbol's whole history")
def symbol_zscore(panel):
    return own((CLOSE - CLOSE.mean()) / CLOSE.std())


@plant("easy", "clipped at a quantile of the whole sample")
def global_quantile_clip(panel):
    return CLOSE.clip(upper_bound=CLOSE.quantile(0.9))


@plant("easy", "rank over the symbol's whole history")
def history_rank(panel):
    return own(VOLUME.rank())


@plant("easy", "min-max over all history")
def min_max(panel):
    return own((CLOSE - CLOSE.min()) / (CLOSE.max() - CLOSE.min()))


@plant("easy", "scaler fitted on the last third of the bars")
def scaler_of_the_future(panel):
    late = panel.filter(
        pl.col("timestamp") > panel["timestamp"].unique().sort()[panel["timestamp"].n_unique() * 2 // 3]
    )
    mean, deviation = late["volume"].mean() or 0.0, late["volume"].std() or 1.0
    return (VOLUME - mean) / deviation


@plant("medium", "backward fill of missing volumes")
def backward_fill(panel):
    return own(pl.when(VOLUME % 7 == 0).then(None).otherwise(VOLUME).backward_fill())


@plant("medium", "interpolation over missing closes")
def interpolation(panel):
    return own(pl.when(VOLUME % 9 == 0).then(None).otherwise(CLOSE).interpolate())


@plant("medium", "the week's last close at each of its days")
def week_end_value(panel):
    return CLOSE.last().over("symbol", pl.col("timestamp").dt.truncate("1w"), order_by="timestamp") / CLOSE


@plant("medium", "the month's average at each of its days")
def month_mean(panel):
    return VOLUME.mean().over("symbol", pl.col("timestamp").dt.truncate("1mo"))


@plant("easy", "the label of the same bar: five-bar return after an entry one bar later")
def same_bar_label(panel):
    return own((CLOSE.shift(-6) / CLOSE.shift(-1)).log())


@plant("medium", "sector encoded by the mean of the next return over all history")
def target_encoding(panel):
    return panel.with_columns(own(NEXT).alias("__next")).with_columns(
        pl.col("__next").mean().over("sector").alias("planted")
    )


@plant("hard", "sector encoded by past labels that are not known yet")
def early_target_encoding(panel):
    with_label = panel.with_columns(own((CLOSE.shift(-5) / CLOSE).log()).alias("__label"))
    return with_label.with_columns(
        own(pl.col("__label").shift(1).rolling_mean(20, min_samples=5)).alias("planted")
    )


@plant("medium", "cross-sectional mean over the symbols that last to the end")
def survivors_mean(panel):
    alive = panel.filter(pl.col("timestamp") == panel["timestamp"].max())["symbol"]
    mean = (
        pl.when(pl.col("symbol").is_in(alive.implode())).then(CLOSE / pl.col("open")).mean().over("timestamp")
    )
    return CLOSE / pl.col("open") - mean


@plant("medium", "cross-sectional rank of tomorrow's volume")
def rank_of_tomorrow(panel):
    return panel.with_columns(own(VOLUME.shift(-1)).alias("__next")).with_columns(
        pl.col("__next").rank().over("timestamp").alias("planted")
    )


@plant("medium", "the sector that a symbol has at the end")
def final_sector(panel):
    return pl.col("sector").last().over("symbol", order_by="timestamp").rank("dense").cast(pl.Float64)


@plant("medium", "bars until the next gap in trading")
def days_to_next_gap(panel):
    return own((pl.col("timestamp").shift(-1) - pl.col("timestamp")).dt.total_hours().cast(pl.Float64))


@plant("hard", "first principal component of returns, fitted on all history")
def global_pca(panel):
    wide = (
        panel.with_columns(own(RETURN).fill_null(0.0).alias("__r"))
        .pivot(on="symbol", index="timestamp", values="__r")
        .sort("timestamp")
        .fill_null(0.0)
    )
    returns = wide.drop("timestamp").to_numpy()
    _, _, directions = np.linalg.svd(returns - returns.mean(axis=0), full_matrices=False)
    direction = directions[0] * np.sign(directions[0].sum() or 1.0)
    weights = pl.DataFrame(
        {"symbol": [name for name in wide.columns if name != "timestamp"], "planted": direction}
    )
    return panel.join(weights, on="symbol", how="left", maintain_order="left")


@plant("hard", "beta from a regression over all history")
def global_beta(panel):
    returns = panel.with_columns(own(RETURN).alias("__r")).with_columns(
        pl.col("__r").mean().over("timestamp").alias("__m")
    )
    return returns.with_columns(
        (pl.cov("__r", "__m") / pl.col("__m").var()).over("symbol").alias("__beta")
    ).with_columns((pl.col("__r") - pl.col("__beta") * pl.col("__m")).alias("planted"))


@plant("hard", "best of six windows, chosen by its correlation with the next return over all history")
def window_chosen_by_the_future(panel):
    frame = panel.with_columns(
        own(NEXT).alias("__next"),
        *(own(CLOSE / CLOSE.shift(w) - 1).alias(f"__{w}") for w in (2, 3, 5, 8, 13, 21)),
    )
    quality = {w: abs(frame.select(pl.corr(f"__{w}", "__next")).item() or 0.0) for w in (2, 3, 5, 8, 13, 21)}
    weights = {w: value / (sum(quality.values()) or 1.0) for w, value in quality.items()}
    return frame.with_columns(
        pl.sum_horizontal(pl.col(f"__{w}") * weight for w, weight in weights.items()).alias("planted")
    )


@plant("medium", "volatility whose window ends one bar late")
def volatility_of_tomorrow(panel):
    return own(RETURN.rolling_std(20).shift(-1))


@plant("medium", "prices adjusted for splits to come")
def future_split_adjustment(panel):
    split = (
        pl.when((CLOSE / CLOSE.shift(1) - 1).abs() > 0.06)
        .then(CLOSE / CLOSE.shift(1))
        .otherwise(1.0)
        .fill_null(1.0)
    )
    return own(CLOSE / (split.log().cum_sum() - split.log().sum()).exp())


@plant("hard", "one symbol only")
def one_symbol(panel):
    chosen = panel["symbol"].unique().sort()[3]
    return pl.when(pl.col("symbol") == chosen).then(own(NEXT)).otherwise(own(MOMENTUM))


@plant("hard", "one weekday only")
def one_weekday(panel):
    return pl.when(pl.col("timestamp").dt.weekday() == 3).then(own(NEXT)).otherwise(own(MOMENTUM))


@plant("hard", "one month of the year only")
def one_month(panel):
    return pl.when(pl.col("timestamp").dt.month() == 5).then(own(NEXT)).otherwise(own(MOMENTUM))


@plant("hard", "on volatile days only")
def one_regime(panel):
    frame = panel.with_columns(own(RETURN).abs().alias("__size")).with_columns(
        pl.col("__size").mean().over("timestamp").alias("__day")
    )
    limit = 0.02
    return frame.with_columns(
        pl.when(pl.col("__day") > limit).then(own(NEXT)).otherwise(own(MOMENTUM)).alias("planted")
    )


@plant("nearly invisible", "1 % of strength in noise that hangs on the row's content")
def hundredth_in_noise(panel):
    return panel.with_columns(content_noise(panel).alias("__noise")).with_columns(
        (pl.col("__noise") * 0.02 + 0.01 * own(NEXT)).alias("planted")
    )


@plant("hard", "a thousandth of the factor hangs on the next return's sign")
def thousandth(panel):
    return own(MOMENTUM) * (1 + 1e-3 * own(NEXT.sign()))


@plant("nearly invisible", "one row in a hundred, chosen by content")
def rare_rows(panel):
    rare = pl.struct(pl.col("timestamp").cast(pl.Int64), "symbol").hash(seed=5) % 100 == 0
    return pl.when(rare).then(own(NEXT)).otherwise(own(MOMENTUM))


@plant("nearly invisible", "one symbol on Mondays of one quarter")
def symbol_on_mondays_of_a_quarter(panel):
    chosen = panel["symbol"].unique().sort()[1]
    when = (
        (pl.col("symbol") == chosen)
        & (pl.col("timestamp").dt.weekday() == 1)
        & (pl.col("timestamp").dt.quarter() == 2)
    )
    return pl.when(when).then(own(NEXT)).otherwise(own(MOMENTUM))


@plant("nearly invisible", "one date, all symbols")
def one_date(panel):
    dates = pl.col("timestamp").dt.date().cast(pl.Int32)
    return pl.when(dates % 211 == 7).then(own(NEXT)).otherwise(own(MOMENTUM))


@plant("nearly invisible", "only before moves of more than three deviations")
def before_large_moves(panel):
    ahead = own(NEXT)
    return (
        pl.when(ahead.abs() > 3 * own(RETURN.rolling_std(60, min_samples=20)))
        .then(ahead)
        .otherwise(own(MOMENTUM))
    )


@plant("hard", "the last decimal holds the next return's direction")
def last_decimal(panel):
    return own(MOMENTUM).round(4) + 1e-7 * own(NEXT.sign()).fill_null(0.0)


@plant("nearly invisible", "the tenth decimal holds the next return's direction")
def tenth_decimal(panel):
    return own(MOMENTUM) + 1e-10 * own(NEXT.sign()).fill_null(0.0)


@plant("hard", "one bit of a Float32")
def float32_bit(panel):
    return (own(MOMENTUM) * (1 + 3e-7 * own(NEXT.sign()).fill_null(0.0))).cast(pl.Float32)


@plant("medium", "noise seeded by the panel's length")
def noise_of_the_length(panel):
    return pl.Series(np.random.default_rng(len(panel)).normal(size=len(panel)))


@plant("medium", "noise seeded by the last close")
def noise_of_the_last_close(panel):
    return pl.Series(np.random.default_rng(int(1e6 * panel["close"][-1])).normal(size=len(panel)))


@plant("medium", "share of the panel that has passed")
def share_of_history(panel):
    first, last = panel["timestamp"].min(), panel["timestamp"].max()
    return (pl.col("timestamp") - first).dt.total_hours() / max((last - first).total_seconds() / 3600, 1.0)


@plant("medium", "number of symbols that the panel ever holds")
def universe_size(panel):
    return own(MOMENTUM) * pl.lit(panel["symbol"].n_unique())


@plant("medium", "a symbol's place in the sorted list of all symbols ever")
def universe_place(panel):
    return pl.col("symbol").rank("dense") / pl.lit(panel["symbol"].n_unique())


@plant("medium", "how long a symbol will live")
def lifetime(panel):
    return own(pl.len()).cast(pl.Float64)


@plant(
    "hard", "shift over the whole table instead of each symbol: the last symbol reads the next bar's first"
)
def shift_without_symbol(panel):
    return CLOSE / CLOSE.shift(-1)


@plant("medium", "exponential average run backwards")
def backward_ewm(panel):
    return own(CLOSE.reverse().ewm_mean(span=10).reverse())


@plant("medium", "forward and backward filter")
def zero_phase_filter(panel):
    return own(CLOSE.ewm_mean(span=5).reverse().ewm_mean(span=5).reverse())


@plant("hard", "detrended by a line through all history")
def detrended(panel):
    time = pl.int_range(pl.len()).cast(pl.Float64)
    return own(
        CLOSE.log() - (pl.cov(CLOSE.log(), time) / time.var()) * (time - time.mean()) - CLOSE.log().mean()
    )


@plant("hard", "low-frequency Fourier components of the whole series")
def fourier_smooth(panel):
    def smooth(values: pl.Series) -> pl.Series:
        spectrum = np.fft.rfft(values.to_numpy())
        spectrum[max(3, len(spectrum) // 20) :] = 0
        return pl.Series(np.fft.irfft(spectrum, n=len(values)))

    return own(CLOSE.map_batches(smooth, return_dtype=pl.Float64))


@plant("hard", "seasonal means over all years")
def seasonal_means(panel):
    return panel.with_columns(own(RETURN).alias("__r")).with_columns(
        pl.col("__r").mean().over("symbol", pl.col("timestamp").dt.weekday()).alias("planted")
    )


@plant("nearly invisible", "local highs, known two bars later")
def pivots(panel):
    high = pl.col("high")
    return own(
        (
            (high > high.shift(1))
            & (high > high.shift(2))
            & (high > high.shift(-1))
            & (high > high.shift(-2))
        ).cast(pl.Float64)
    )


@plant("nearly invisible", "only for symbols that will leave the panel")
def only_the_leaving(panel):
    ends = pl.col("timestamp").max().over("symbol") < pl.col("timestamp").max()
    return pl.when(ends).then(0.0).otherwise(own(MOMENTUM))


@plant("hard", "outliers cut at three deviations of the whole history")
def winsorised(panel):
    limit = 3 * RETURN.std()
    return own(RETURN.clip(-limit, limit))


@plant("nearly invisible", "cross-sectional rank whose ties are broken by tomorrow")
def ties_broken_by_tomorrow(panel):
    frame = panel.with_columns(
        own(NEXT).fill_null(0.0).alias("__next"), own(MOMENTUM).round(2).alias("__coarse")
    )
    return frame.with_columns(
        (pl.col("__coarse") + 1e-6 * pl.col("__next")).rank().over("timestamp").alias("planted")
    )


@plant("nearly invisible", "rows are left out where the next bar falls")
def missing_before_falls(panel):
    return pl.when((own(NEXT) < -0.03) & (VOLUME % 5 == 0)).then(None).otherwise(own(MOMENTUM))
