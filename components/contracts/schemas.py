"""The kinds of tables that stages hand over: their columns, types and keys, and what the codes in them mean.

Every table is long, sorted by its key, UTC. How they are written and checked:
`components/contracts/tables.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from components.contracts.classes import CLASS_COLUMNS

TIME = pl.Datetime("us", "UTC")
# Optional columns of a panel that say where no buy and no sell order could be filled.
UNTRADABLE = ("unbuyable", "unsellable")


@dataclass(frozen=True)
class Table:
    """One kind of table: its name, schema version, required columns, and the columns that identify a row.

    `extra` is the type that all further columns must have (factors), or None where none are allowed.
    `optional` columns may be absent; where present they must have the given type.
    """

    name: str
    version: int
    columns: Mapping[str, pl.DataType]
    key: tuple[str, ...]
    optional: Mapping[str, pl.DataType] = field(default_factory=dict)
    extra: pl.DataType | None = None


# A bar. `event_time` is its opening moment, `timestamp` the moment it was complete, `known_time` when we
# could have had it. `exchange_ts` and `ingest_ts` are what the exchange's clock and the collector's clock
# said, where a source has them. `unbuyable` and `unsellable`: no buy, no sell order could be filled in the
# bar (nothing was traded, or the price stood at the exchange's limit all day). Validation writes them where
# any bar of the panel is either; a panel without them could be traded in every bar.
PANEL = Table(
    name="panel",
    version=1,
    columns={
        "timestamp": TIME,
        "symbol": pl.String(),
        "period": pl.String(),
        "event_time": TIME,
        "known_time": TIME,
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
        "sector": pl.String(),
    },
    key=("timestamp", "symbol"),
    optional={
        "vwap": pl.Float64(),
        "trades": pl.Float64(),
        "funding_rate": pl.Float64(),
        "open_interest": pl.Float64(),
        # Annual fee for borrowing what is sold short, basis points of its value, as known at the bar.
        "borrow_bps": pl.Float64(),
        # What all shares of the company are worth, as known at the bar: its size.
        "market_cap": pl.Float64(),
        "exchange_ts": TIME,
        "ingest_ts": TIME,
        "industry": pl.String(),
        "unbuyable": pl.Boolean(),
        "unsellable": pl.Boolean(),
        # The change from the previous close to this bar can't be trusted: validation could not explain it.
        "level_step": pl.Boolean(),
    },
)

# Bars as a source gave them: the panel's columns in any order of rows, faults included. Only validation reads
# it. `price_limit` is the exchange's daily limit, a share of the previous close; `unfinished` is there where
# some bars had not ended, or been published, when the source was read.
RAW_PANEL = Table(
    name="raw_panel",
    version=1,
    columns=PANEL.columns,
    key=(),
    optional={
        **{name: kind for name, kind in PANEL.optional.items() if name not in UNTRADABLE},
        "price_limit": pl.Float64(),
        "unfinished": pl.Boolean(),
    },
)

# Which rows of the panel belong to the universe that can be traded, as known at the close of their bar.
# `traded_value`: mean of close times volume a bar, over the bars that `market.universe` names; null where no
# volume is known.
UNIVERSE = Table(
    name="universe",
    version=1,
    columns={
        "timestamp": TIME,
        "symbol": pl.String(),
        "traded_value": pl.Float64(),
        "tradable": pl.Boolean(),
    },
    key=("timestamp", "symbol"),
)

# Values of slow tables (fundamentals, on-chain, macro, ...) at each bar, as known by the bar's known_time;
# null where nothing was known.
FUSED = Table(
    name="fused",
    version=1,
    columns={"timestamp": TIME, "symbol": pl.String()},
    key=("timestamp", "symbol"),
    extra=pl.Float64(),
)

# Factor values, one Float32 column a factor; null where the warm-up is not complete.
FACTORS = Table(
    name="factors",
    version=1,
    columns={"timestamp": TIME, "symbol": pl.String(), "known_time": TIME},
    key=("timestamp", "symbol"),
    extra=pl.Float32(),
)

# One row a bar, symbol and horizon. `label_end` is when the label became known, of the optional targets too;
# null labels have no complete future. Units and formulas of the targets: components/labels/build.py.
LABELS = Table(
    name="labels",
    version=1,
    columns={
        "timestamp": TIME,
        "symbol": pl.String(),
        "horizon": pl.Int32(),
        "label_end": TIME,
        "log_return": pl.Float64(),
        "direction": pl.Int8(),
        "sector_neutral_return": pl.Float64(),
    },
    key=("timestamp", "symbol", "horizon"),
    optional={
        "trend": pl.Int8(),
        "return_quantile": pl.Float64(),
        "realised_volatility": pl.Float64(),
        "beta_neutral_return": pl.Float64(),
        "barrier": pl.Int8(),
        "barrier_return": pl.Float64(),
        "barrier_end": TIME,
        "trade_class": pl.Int8(),
        "cost": pl.Float64(),
        # Of ticks: from the mid to the average price of the trades up to the end of the horizon.
        "vwap_return": pl.Float64(),
    },
)

# Labels that ticks alone have.
LABELS_OF_TICKS = ("vwap_return",)

# The rows of a training set that an expert's modality may learn from.
LEARNABLE = Table(
    name="learnable",
    version=1,
    columns={"timestamp": TIME, "symbol": pl.String()},
    key=("timestamp", "symbol"),
)

# What Feast's point-in-time join returns: the model's inputs at each (timestamp, symbol).
TRAINING_SET = Table(
    name="training_set",
    version=1,
    columns={"timestamp": TIME, "symbol": pl.String(), "sector": pl.String()},
    key=("timestamp", "symbol"),
    extra=pl.Float32(),
)

# What every expert and the stacker give. A row belongs to a task: the label column `target` over `horizon`
# bars. A run judges one, that of `labels.target` and `labels.primary_horizon`; rows of further tasks are
# there where an expert predicts them (`of_task` of contracts/tasks.py). score, uncertainty and p10/p50/p90
# are in the target's unit (log return over the horizon). `usual_uncertainty` is what 90 % of the model's
# uncertainties before the row's fold did not exceed, null where it had given none. Where the target is a
# class (`classes.py`) there are the probabilities of the classes, which sum to 1; the score is the label that
# they expect (P(up) - P(down), for `trend` P(up)), and p10/p50/p90 are the quantiles of that distribution.
# Null where a number is predicted.
PREDICTIONS = Table(
    name="predictions",
    version=1,
    columns={
        "timestamp": TIME,
        "symbol": pl.String(),
        "period": pl.String(),
        "horizon": pl.Int32(),
        "target": pl.String(),
        "expert": pl.String(),
        "fold": pl.String(),
        "train_window": pl.String(),
        "score": pl.Float64(),
        "uncertainty": pl.Float64(),
        "p10": pl.Float64(),
        "p50": pl.Float64(),
        "p90": pl.Float64(),
        "head_scale": pl.Float64(),
        "head_bias": pl.Float64(),
    },
    key=("timestamp", "symbol", "horizon", "target"),
    optional={"usual_uncertainty": pl.Float64(), **dict.fromkeys(CLASS_COLUMNS, pl.Float64())},
)

# The predictions of several experts in one table, of every task that one of them predicts.
ALL_PREDICTIONS = Table(
    name="all_predictions",
    version=2,
    columns=PREDICTIONS.columns,
    key=("timestamp", "symbol", "horizon", "target", "expert"),
    optional=PREDICTIONS.optional,
)

# Predictions of a cross-validation, whose models also learned from bars after those they predict: never
# served, stacked for the verdict or judged by a gate. Another table than PREDICTIONS, so that nothing takes
# the one for the other. Each `path` holds each group once.
CROSS_VALIDATED = Table(
    name="cross_validated",
    version=2,
    columns={
        "timestamp": TIME,
        "symbol": pl.String(),
        "period": pl.String(),
        "horizon": pl.Int32(),
        "target": pl.String(),
        "expert": pl.String(),
        "split": pl.Int32(),
        "group": pl.Int32(),
        "path": pl.Int32(),
        "score": pl.Float64(),
        "uncertainty": pl.Float64(),
    },
    key=("timestamp", "symbol", "horizon", "target", "expert", "path"),
)

# Experts side by side, one Float64 column `score_<expert>` and `uncertainty_<expert>` each, of classes also
# `p_down_<expert>`, `p_none_<expert>` and `p_up_<expert>`, with the label and the regime. Null in the rows of
# a task that the expert has no part in. An expert whose own task is another one than a row's stands there
# with what it says of its own.
OOF = Table(
    name="oof",
    version=2,
    columns={
        "timestamp": TIME,
        "symbol": pl.String(),
        "period": pl.String(),
        "horizon": pl.Int32(),
        "target": pl.String(),
        "fold": pl.String(),
        "label": pl.Float64(),
        "label_end": TIME,
        "log_return": pl.Float64(),
        "regime": pl.String(),
    },
    key=("timestamp", "symbol", "horizon", "target"),
    extra=pl.Float64(),
)

# Rows as the online store holds them when their bar is the newest: inputs and context (Float32), and the
# `window` of inputs that ends with the bar (float32, little-endian, oldest bar first).
LIVE_ROWS = Table(
    name="live_rows",
    version=1,
    columns={"timestamp": TIME, "symbol": pl.String(), "known_time": TIME, "window": pl.Binary()},
    key=("timestamp", "symbol"),
    extra=pl.Float32(),
)

# What the service answered, one row a request, symbol and bar, with the factor values (Float32) that went in.
# `timestamp` is the close of the bar that the factors belong to, `known_time` when they were known,
# `answered_at` when the answer was given.
SERVED = Table(
    name="served",
    version=1,
    columns={
        "answered_at": TIME,
        "request_id": pl.String(),
        "symbol": pl.String(),
        "endpoint": pl.String(),
        "timestamp": TIME,
        "known_time": TIME,
        "model_version": pl.Int64(),
        "bundle_sha256": pl.String(),
        "publication": pl.String(),
        "stale": pl.Boolean(),
        "score": pl.Float64(),
        "uncertainty": pl.Float64(),
        "p10": pl.Float64(),
        "p50": pl.Float64(),
        "p90": pl.Float64(),
        "position": pl.Float64(),
    },
    key=("answered_at", "request_id", "symbol", "timestamp"),
    # Probabilities where the target is a class; absent or null where it is a number, and in what was answered
    # before they were kept.
    optional=dict.fromkeys(CLASS_COLUMNS, pl.Float64()),
    extra=pl.Float32(),
)

# Numeric codes of the market regime as the column `regime_state` holds them.
REGIMES = ("bear", "neutral", "bull", "high_volatility")
REGIME_COLUMN = "regime_state"
# Standard deviation of one-bar log returns over 20 bars: the unit in which experts scale their bands.
VOLATILITY_COLUMN = "volatility_20"
# Codes of the names of a row's sector and industry (components/features/library/context.py), null where
# unknown.
SECTOR_COLUMN = "sector_code"
INDUSTRY_COLUMN = "industry_code"
# Slope of a symbol's returns on those of the equal-weighted market over 60 bars, null where unknown.
BETA_COLUMN = "market_beta_60"
# Log return from the previous close, from which the volatility of a book is told; and over how many bars that
# is: it is wrong by some 9 % of itself (1 / sqrt(2 * 60)), and still follows the market.
RETURN_COLUMN = "last_return"
PAST_RETURN_BARS = 60
