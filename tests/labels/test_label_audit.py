"""The label audit on every target: faults planted in barriers, betas, costs and the rest are caught by name;
the targets as they are pass.
"""

from datetime import UTC, datetime
from functools import partial

import numpy as np
import polars as pl
import pytest

from components.audit.config import Settings as AuditSettings
from components.audit.labels import audit_labels
from components.contracts import LABELS, PANEL, check_table
from components.contracts.schemas import LABELS_OF_TICKS
from components.labels import build, past
from components.labels.build import build_labels
from components.labels.config import Settings
from components.metrics.liquidity import shifted

START = datetime(2020, 1, 1, 21, tzinfo=UTC)
BETA, BARRIER, COST = (
    {"beta_neutral_return"},
    {"barrier", "barrier_return", "barrier_end"},
    {"cost", "trade_class"},
)


def market(seed: int, *, n_bars: int = 260, n_symbols: int = 24) -> pl.DataFrame:
    """A PANEL of random walks with a common part, three sectors, one symbol listed late, one delisted, some
    bars missing.
    """
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(
        (rng.normal(0, 0.01, (n_bars, 1)) + rng.normal(0, 0.02, (n_bars, n_symbols))).cumsum(axis=0)
    )
    opened = np.vstack([close[:1], close[:-1]]) * np.exp(rng.normal(0, 0.005, close.shape))
    keep = rng.random(close.shape) > 0.02
    keep[:40, 3] = False
    keep[200:, 5] = False
    bar, symbol = np.nonzero(keep)
    at = pl.lit(START).dt.cast_time_unit("us") + pl.duration(days=pl.col("bar"))
    frame = pl.DataFrame(
        {
            "bar": bar,
            "number": symbol,
            "open": opened[keep],
            "high": (np.maximum(opened, close) * (1 + rng.random(close.shape) / 50))[keep],
            "low": (np.minimum(opened, close) * (1 - rng.random(close.shape) / 50))[keep],
            "close": close[keep],
            "volume": rng.lognormal(10, 1, len(bar)).round(),
        }
    ).with_columns(
        timestamp=at,
        event_time=at,
        known_time=at,
        period=pl.lit("1d"),
        symbol=pl.format("S{}", pl.col("number").cast(pl.String).str.zfill(2)),
        sector=pl.format("sector {}", pl.col("number") % 3),
    )
    return check_table(frame.select(*PANEL.columns).sort("timestamp", "symbol"), PANEL)


def with_barrier(change):
    """A plant that hands the true barrier labels (side, log return, bars) and what they were made of to
    `change`.
    """

    def planted(bars, entry, leave, up, down, horizon, *, at_open, lag):
        truth = TRUE["triple_barrier"](bars, entry, leave, up, down, horizon, at_open=at_open, lag=lag)
        return change(truth, bars, entry, leave, up, down, horizon, at_open, lag)

    return build, "triple_barrier", planted


def sees_signal_bar(truth, bars, entry, leave, up, down, *_):
    side, size, known = truth
    return np.where(np.isfinite(side) & (bars.high >= entry + up), 1.0, side), size, known


def looks_past_the_horizon(truth, bars, entry, leave, up, down, horizon, at_open, lag):
    further = TRUE["triple_barrier"](bars, entry, leave, up, down, horizon + 3, at_open=at_open, lag=lag)
    return further[0], truth[1], truth[2]


def future_width(truth, bars, entry, leave, up, down, horizon, at_open, lag):
    ahead = [shifted(width, -3) for width in (up, down)]
    return TRUE["triple_barrier"](bars, entry, leave, *ahead, horizon, at_open=at_open, lag=lag)


def ends_late(truth, bars, entry, leave, up, down, horizon, at_open, lag):
    left = len(bars.close) - 1 - np.arange(len(bars.close))[:, None]
    return truth[0], truth[1], np.minimum(truth[2] * 0 + lag + horizon + 1, left)


def cost_of_all_time(*given):
    known = TRUE["cost"](*given)
    return np.where(np.isfinite(known), known, 0.0).mean(axis=0) + 0 * known


TRUE = {
    "triple_barrier": build.triple_barrier,
    "beta": past.beta,
    "cost": build.round_trip_cost,
    "volatility": build.realised_volatility,
    "quantile": build.return_quantile,
}
# What is planted: module, function and its wrong stand-in; the check and the columns that must be named.
PLANTED = {
    "a barrier sees the high of the signal's bar": (
        *with_barrier(sees_signal_bar),
        "label_entry",
        {"barrier"},
    ),
    "a barrier is followed beyond the horizon": (
        *with_barrier(looks_past_the_horizon),
        "label_future",
        {"barrier"},
    ),
    "a barrier is as wide as volatility will be": (*with_barrier(future_width), "label_entry", {"barrier"}),
    "barrier_end one bar too early": (
        *with_barrier(lambda truth, *_: (truth[0], truth[1], np.maximum(truth[2] - 1, 1))),
        "label_future",
        BARRIER,
    ),
    "barrier_end at the signal": (
        *with_barrier(lambda truth, *_: (truth[0], truth[1], truth[2] * 0)),
        "label_reach",
        {"barrier_end"},
    ),
    "barrier_end after label_end": (*with_barrier(ends_late), "label_reach", {"barrier_end"}),
    "a beta of the horizon's own returns": (
        past,
        "beta",
        lambda returns, bars, weight: shifted(TRUE["beta"](returns, 5, weight), -6),
        "label_future",
        BETA,
    ),
    "a beta whose window ends one bar late": (
        past,
        "beta",
        lambda returns, bars, weight: shifted(TRUE["beta"](returns, bars, weight), -1),
        "label_entry",
        BETA,
    ),
    "a beta of the whole history": (
        past,
        "beta",
        lambda returns, bars, weight: TRUE["beta"](returns, bars, weight)[-1:] + 0 * returns,
        "label_future",
        BETA,
    ),
    "a cost that knows the next bar": (
        build,
        "round_trip_cost",
        lambda *given: shifted(TRUE["cost"](*given), -1),
        "label_future",
        {"cost"},
    ),
    "a cost of the mean over all time": (build, "round_trip_cost", cost_of_all_time, "label_future", COST),
    "realised volatility counts the bar of the signal": (
        build,
        "realised_volatility",
        lambda price, horizon, lag: TRUE["volatility"](price, horizon + 1, lag - 1),
        "label_entry",
        {"realised_volatility"},
    ),
    "a quantile of all times together": (
        build,
        "return_quantile",
        lambda returns, bars: TRUE["quantile"](returns, 0 * bars),
        "label_future",
        {"return_quantile"},
    ),
}
EVERYTHING = Settings(costs={"half_spread": "roll", "order_value": 1e5})


@pytest.mark.parametrize("fault", PLANTED)
@pytest.mark.parametrize("entry", ["next_open", "next_close"])
def test_a_planted_fault_is_caught_and_named(fault, entry, monkeypatch):
    module, name, wrong, check, columns = PLANTED[fault]
    monkeypatch.setattr(module, name, wrong)
    result = audit_labels(
        market(0), partial(build_labels, settings=EVERYTHING.model_copy(update={"entry": entry})), seed=1
    )
    found = {(leak.check, leak.factor) for leak in result.leaks}
    assert {(check, column) for column in columns} <= found, found
    # Nothing is blamed that does not follow from the column at fault.
    related = next(
        group
        for group in (BETA, BARRIER, COST, {"realised_volatility"}, {"return_quantile"})
        if columns & group
    )
    assert {factor for _, factor in found} <= related, found


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        EVERYTHING,
        Settings(entry="next_close", horizons=(1, 2, 20), primary_horizon=20),
        Settings(horizons=(1,), primary_horizon=1),
    ],
    ids=range(4),
)
def test_the_targets_as_they_are_raise_no_alarm(seed, settings):
    panel = market(seed)
    result = audit_labels(panel, partial(build_labels, settings=settings), seed=seed)
    assert [leak.sentence() for leak in result.leaks] == []
    assert result.checked["label_columns"] == len(
        {*LABELS.columns, *LABELS.optional} - {*LABELS.key, *LABELS_OF_TICKS, "label_end"}
    )


def test_the_columns_that_may_know_the_past_are_known_where_the_audit_cuts():
    """A check of nulls would catch nothing."""
    panel = market(0)
    at = panel["timestamp"].unique().sort()
    labels = build_labels(panel, EVERYTHING).filter(
        pl.col("timestamp").is_between(at[50], at[240]), pl.col("log_return").is_not_null()
    )
    assert (
        min(labels.select(pl.col("beta_neutral_return", "barrier", "cost").is_not_null().mean()).row(0)) > 0.9
    )


def test_a_panel_without_opens_and_ranges_is_audited_too(capsys):
    bare = market(1).with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("open", "high", "low"))
    result = audit_labels(
        bare, partial(build_labels, settings=Settings()), seed=0, settings=AuditSettings(cuts=2)
    )
    assert [leak.sentence() for leak in result.leaks] == []
