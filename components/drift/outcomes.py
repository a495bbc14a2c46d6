"""What happened after the scores: whether labels fall into other classes than in training, and what the
scores are worth month by month.
"""

from typing import Any

import numpy as np
import polars as pl

from components.contracts import REGIME_COLUMN, REGIMES
from components.drift.config import Settings
from components.drift.windows import nearest_length, window_and_rest, window_lengths
from components.metrics import effective_rows, hac_lags, ic_summary, information_coefficient, newey_west_t

CLASSES = 3
# What labels can do: lean to one side, or spread out. A side is as likely in calm and wild markets, a spread
# is not, so each has a memory of its own.
MOVES = ("lean", "dispersion")
FEWEST_ROWS = 100
FEWEST_BARS = 5


def labels_of(labels: pl.DataFrame, horizon: int, target: str) -> pl.DataFrame:
    """Columns `timestamp`, `symbol`, `label` of one horizon, known ones only."""
    rows = labels.filter(pl.col("horizon") == horizon) if "horizon" in labels.columns else labels
    return rows.select("timestamp", "symbol", pl.col(target).cast(pl.Float64).alias("label")).filter(
        pl.col("label").is_finite()
    )


def describe_labels(rows: pl.DataFrame, labels: pl.DataFrame, wanted: int) -> dict[str, Any] | None:
    """How the reference's labels fall into terciles of their own, by regime, and how far windows of it lie
    apart in that.

    Parameters
    ----------
    rows : columns `timestamp`, `symbol`, `regime_state`
    labels : of `labels_of`

    Returns
    -------
    `cuts`, `effective_rows` by move and window, `regimes`: by name `shares` (3,), `rows`, `bars`,
    `by_window`; None where there are no labels.
    """
    joined = rows.select("timestamp", "symbol", REGIME_COLUMN).join(
        labels, on=["timestamp", "symbol"], how="inner", maintain_order="left"
    )
    if len(joined) < FEWEST_ROWS:
        return None
    cuts = np.quantile(joined["label"].to_numpy(), [1 / 3, 2 / 3])
    counts = _class_counts(joined, cuts)
    regimes = {}
    together = counts.sum(axis=0)
    # How labels depend over time is seen over all bars; the stretches of one regime are too few and short to
    # show it.
    rows_a_bar = together.sum(axis=1)
    pooled = {
        move: {
            str(length): effective_rows(_share_of(move, together) * rows_a_bar[:, None], rows_a_bar, length)
            for length in window_lengths(len(together), wanted)
        }
        for move in MOVES
    }
    for number, name in enumerate(REGIMES):
        own = counts[number]
        filled = own.sum(axis=1) > 0
        if own.sum() < FEWEST_ROWS:
            continue
        by_window = {}
        for length in window_lengths(len(own), wanted):
            inside, rest = window_and_rest(np.concatenate([own, filled[:, None]], axis=1), length)
            enough = (
                (inside[:, :CLASSES].sum(axis=1) >= FEWEST_ROWS)
                & (inside[:, CLASSES] >= FEWEST_BARS)
                & (rest[:, :CLASSES].sum(axis=1) >= FEWEST_ROWS)
            )
            moved = {
                move: np.abs(
                    _share_of(move, inside[enough, :CLASSES]) - _share_of(move, rest[enough, :CLASSES])
                )[:, 0]
                for move in MOVES
            }
            by_window[str(length)] = {
                "windows": int(enough.sum()),
                **{move: float(values.max()) if len(values) else None for move, values in moved.items()},
            }
        regimes[name] = {
            "shares": (own.sum(axis=0) / own.sum()).tolist(),
            "rows": int(own.sum()),
            "bars": int(filled.sum()),
            "by_window": by_window,
        }
    return {
        "cuts": cuts.tolist(),
        "effective_rows": pooled,
        "window_bars": min(wanted, len(together)),
        "regimes": regimes,
    }


def label_shift(
    reference: dict[str, Any] | None,
    rows: pl.DataFrame,
    labels: pl.DataFrame | None,
    settings: Settings,
    horizon: int,
) -> dict[str, Any] | None:
    """Share of labels that changed class, in the regime where it is largest and in each; None where nothing
    is known.

    Labels change class by leaning to one side (half the change of high minus low) or by spreading out (the
    change of the middle). A move counts where chance is ruled out and windows of the reference never differed
    so much. The test is a t test with effective rows, corrected for regimes and moves. How far labels spread
    is as slow as volatility, so training shows it in few independent windows: 1.5 degrees of freedom for
    each. Which way they lean is as slow as their overlap.
    """
    if reference is None or labels is None or REGIME_COLUMN not in rows.columns:
        return None
    from scipy.stats import f

    joined = rows.select("timestamp", "symbol", REGIME_COLUMN).join(
        labels, on=["timestamp", "symbol"], how="inner"
    )
    counts = (
        _class_counts(joined, np.array(reference["cuts"]))
        if len(joined)
        else np.zeros((len(REGIMES), 0, CLASSES))
    )
    bars = joined["timestamp"].n_unique()
    found = []
    for number, name in enumerate(REGIMES):
        own, usual = counts[number], reference["regimes"].get(name)
        filled = int((own.sum(axis=1) > 0).sum())
        if usual is None or own.sum() < FEWEST_ROWS or filled < FEWEST_BARS:
            continue
        shares = own.sum(axis=0) / own.sum()
        length = nearest_length(list(usual["by_window"]), bars)
        stretch = {"lean": hac_lags(usual["bars"], horizon) + 1, "dispersion": reference["window_bars"]}
        for move in MOVES:
            share, was = (float(_share_of(move, values)[0]) for values in (shares, np.array(usual["shares"])))
            then, now = (
                _effective(reference["effective_rows"][move], count) for count in (usual["bars"], filled)
            )
            now = min(now, float(own.sum()))
            statistic = then * now / (then + now) * (share - was) ** 2 / max(was * (1 - was), 1e-3)
            found.append(
                {
                    "regime": name,
                    "move": move,
                    "share": abs(share - was),
                    "usual": usual["by_window"][length][move] if length else None,
                    "p": float(f.sf(statistic, 1, max(1.5 * usual["bars"] / stretch[move], 1.0))),
                    "shares": shares.tolist(),
                    "reference_shares": usual["shares"],
                    "rows": int(own.sum()),
                    "bars": filled,
                }
            )
    if not found:
        return None
    for row in found:
        row["p_adjusted"] = min(row["p"] * len(found), 1.0)
        row["moved"] = bool(
            row["share"] > settings.label_shift
            and row["share"] > (row["usual"] or 0.0)
            and row["p_adjusted"] < settings.ks_p
        )
    worst = max(found, key=lambda row: (row["moved"], row["share"]))
    return {
        "largest": worst["share"],
        "regime": worst["regime"],
        "move": worst["move"],
        "usual": worst["usual"],
        "p_adjusted": worst["p_adjusted"],
        "labels": len(joined),
        "by_regime": found,
    }


def rank_ic(scores: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Columns `timestamp`, `rank_ic` of the bars that have one. `scores`: `timestamp`, `symbol`, `score`."""
    known = information_coefficient(scores, labels, rank=True)
    return (
        known.filter(pl.col("ic").is_not_null())
        .select("timestamp", pl.col("ic").alias("rank_ic"))
        .sort("timestamp")
    )


def information_ratio(
    reference: dict[str, Any] | None, scores: pl.DataFrame, labels: pl.DataFrame | None, horizon: int
) -> dict[str, Any] | None:
    """Mean over spread of the scores' daily RankIC, now, by month, and in the reference out of sample; None
    where nothing is known.

    `usual` is the lowest of windows of the reference as long as now. `p` is one-sided: the chance of a mean
    RankIC so far below the reference's if nothing had changed, with Newey and West's errors of both.
    """
    if reference is None or labels is None:
        return None
    daily = rank_ic(scores, labels)
    now = ic_summary(daily["rank_ic"], horizon=horizon)
    if now["bars"] < 3 or not np.isfinite(now["icir"]):
        return None
    from scipy.stats import t as student

    then = np.array(reference["rank_ic"], dtype=float)
    series = (then, daily["rank_ic"].to_numpy())
    errors = [_standard_error(values, horizon) for values in series]
    # So few current bars say little about their own dependence: had nothing changed, it would be the
    # reference's.
    errors[1] = max(errors[1], errors[0] * np.sqrt(len(then) / now["bars"]))
    # Bartlett's kernel has about 1.5 degrees of freedom for each stretch as long as its lags; both sides' are
    # combined as Welch and Satterthwaite do.
    freedoms = [1.5 * len(values) / (hac_lags(len(values), horizon) + 1) for values in series]
    freedom = sum(error**2 for error in errors) ** 2 / max(
        sum(error**4 / own for error, own in zip(errors, freedoms, strict=True)), 1e-300
    )
    difference = float(then.mean() - now["mean"])
    noise = float(np.hypot(*errors))
    usual = ic_summary(then, horizon=horizon)
    length = min(now["bars"], len(then))
    windows = np.lib.stride_tricks.sliding_window_view(then, length)
    spread = windows.std(axis=1, ddof=1)
    lowest = float(np.min(windows.mean(axis=1) / np.where(spread > 0, spread, np.inf)))
    months = daily.group_by(pl.col("timestamp").dt.strftime("%Y-%m").alias("month"), maintain_order=True).agg(
        mean=pl.col("rank_ic").mean(), std=pl.col("rank_ic").std(), bars=pl.len()
    )
    return {
        "reference": usual["icir"],
        "current": now["icir"],
        "usual": lowest,
        "drop": float(1 - now["icir"] / usual["icir"]) if usual["icir"] > 0 else None,
        "p": float(student.sf(difference / noise, max(freedom, 1.0))) if noise > 0 else None,
        "reference_rank_ic": usual["mean"],
        "rank_ic": now["mean"],
        "reference_bars": usual["bars"],
        "bars": now["bars"],
        "monthly": [
            {
                "month": row["month"],
                "information_ratio": row["mean"] / row["std"] if row["std"] else None,
                "rank_ic": row["mean"],
                "bars": row["bars"],
            }
            for row in months.to_dicts()
        ],
    }


def _standard_error(values: np.ndarray, horizon: int) -> float:
    """Newey and West's, with the share of the variance added back that estimating the mean takes away."""
    lags = hac_lags(len(values), horizon)
    t = newey_west_t(values, lags=lags)
    error = (
        abs(float(values.mean()) / t)
        if np.isfinite(t) and t != 0
        else float(values.std(ddof=1) / np.sqrt(len(values)))
    )
    return error / np.sqrt(max(1 - (lags + 1) / len(values), 0.1))


def _class_counts(joined: pl.DataFrame, cuts: np.ndarray) -> np.ndarray:
    """Rows by regime, bar and class; shape (4, T, 3). Rows of an unknown regime do not count."""
    bars = joined["timestamp"].rank("dense").to_numpy().astype(np.int64) - 1
    total = int(bars.max(initial=-1)) + 1
    regime = joined[REGIME_COLUMN].cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = np.isfinite(regime) & (regime >= 0) & (regime < len(REGIMES))
    classes = np.searchsorted(cuts, joined["label"].to_numpy(), side="left")
    cell = (np.where(known, regime, 0).astype(np.int64) * total + bars) * CLASSES + classes
    return np.bincount(cell[known], minlength=len(REGIMES) * total * CLASSES).reshape(
        len(REGIMES), total, CLASSES
    )


def _effective(by_length: dict[str, float], bars: int) -> float:
    """Effective rows of so many bars, by the worst of the windows that are at least as long: current bars lie
    beyond the reference, so what is slow counts too.
    """
    shortest = nearest_length(list(by_length), bars)
    longer = [rows / int(length) for length, rows in by_length.items() if int(length) >= int(shortest or 0)]
    return max(min(longer, default=0.0) * bars, 1.0)


def _share_of(move: str, classes: np.ndarray) -> np.ndarray:
    """From counts or shares (..., 3) of low, middle, high to the share (..., 1) that a move shifts: 0.5 is no
    lean, a third in the middle no dispersion.
    """
    total = np.maximum(classes.sum(axis=-1, keepdims=True), 1e-12)
    low, middle, high = (classes[..., [number]] / total for number in range(CLASSES))
    return (1 + high - low) / 2 if move == "lean" else middle
