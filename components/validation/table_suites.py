"""The suites of tables other than the raw panel: a flag for each row that breaks a rule, and for wide tables
one row of statistics for each column.
"""

from collections.abc import Sequence
from typing import Literal

import polars as pl

from components.contracts import FACTORS, LABELS, PANEL, PREDICTIONS, RAW_PANEL, Table
from components.metrics.far_labels import FAR_BARS, FAR_SIZES, in_usual_sizes
from components.validation.config import Settings
from components.validation.expect import Expect, no_flag, within
from components.validation.rows import PRICE_TOLERANCE

Kind = Literal["raw_panel", "panel", "factors", "labels", "predictions"]
KIND_TABLES: dict[str, Table] = {
    "raw_panel": RAW_PANEL,
    "panel": PANEL,
    "factors": FACTORS,
    "labels": LABELS,
    "predictions": PREDICTIONS,
}


def table_expectations(kind: Kind) -> list[Expect]:
    """What a table other than the raw panel must satisfy; judged on the flag columns of `table_flags`."""
    known = {rule.flag: rule for rule in _FLAG_EXPECTATIONS}
    return [known[name] for name in _FLAGS_OF_KIND[kind]]


def table_flags(kind: Kind, frame: pl.DataFrame) -> pl.DataFrame:
    """One Int8 column for each check of `kind`, 1 where a row fails it."""
    conditions = _conditions(kind)
    if kind == "labels":
        frame = pl.concat([frame, in_usual_sizes(frame)], how="horizontal")
    return frame.select(
        **{name: conditions[name].fill_null(False).cast(pl.Int8) for name in _FLAGS_OF_KIND[kind]}
    )


def column_statistics(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """One row a column:

    `column`, `null_share`, `infinite`, `not_a_number`, `deviation`; computed in one pass.
    """
    parts = {
        "null_share": [pl.col(name).is_null().mean().alias(name) for name in columns],
        "infinite": [pl.col(name).is_infinite().sum().cast(pl.Float64).alias(name) for name in columns],
        "not_a_number": [pl.col(name).is_nan().sum().cast(pl.Float64).alias(name) for name in columns],
        "deviation": [pl.col(name).cast(pl.Float64).std().alias(name) for name in columns],
    }
    return pl.DataFrame({"column": list(columns)}, schema={"column": pl.String}).with_columns(
        *(
            pl.Series(name, frame.select(expressions).row(0) if columns else [], dtype=pl.Float64)
            for name, expressions in parts.items()
        )
    )


def statistics_expectations(settings: Settings) -> list[Expect]:
    """What the columns of a wide table must satisfy, judged on `column_statistics`."""
    most_nulls = settings.max_null_share
    return [
        within(
            "finite",
            "infinite",
            True,
            "no value is infinite",
            "look at divisions in the column's expression",
            min_value=0,
            max_value=0,
        ),
        within(
            "no_nan",
            "not_a_number",
            True,
            "missing values are null, not NaN",
            "end the column's expression with fill_nan(None)",
            min_value=0,
            max_value=0,
        ),
        within(
            "enough_values",
            "null_share",
            False,
            f"at most {most_nulls:.0%} of a column is null",
            "shorten its warm-up, or leave the column out",
            min_value=0,
            max_value=most_nulls,
        ),
        within(
            "varies",
            "deviation",
            False,
            "no column is constant",
            "leave the column out",
            min_value=0,
            strict_min=True,
        ),
    ]


_AGAIN = "run the stage that writes this table again"
_FLAG_EXPECTATIONS = (
    no_flag("null_key", "timestamp", True, "no part of the key is null", _AGAIN),
    no_flag("repeated_key", "timestamp", True, "each key occurs once", _AGAIN),
    no_flag("unsorted", "timestamp", True, "rows are sorted by the key; time does not run backwards", _AGAIN),
    no_flag(
        "known_before_end",
        "known_time",
        True,
        "nothing was known before its bar ended",
        "look at market.delay and the time zone of the source",
    ),
    no_flag("ohlc", "high", True, "low <= open, close <= high", "run validation on the raw panel"),
    no_flag(
        "label_end_not_after",
        "label_end",
        True,
        "a label became known after its row",
        "look at labels.entry and the horizons",
    ),
    no_flag("horizon_not_positive", "horizon", True, "horizons are positive", "look at labels.horizons"),
    no_flag("direction_unknown", "direction", True, "direction is -1, 0 or 1", _AGAIN),
    no_flag("label_without_end", "label_end", True, "a label that has a value has an end", _AGAIN),
    no_flag(
        "label_not_finite", "log_return", True, "labels are finite", "look for prices of zero in the panel"
    ),
    no_flag(
        "label_too_large",
        "log_return",
        False,
        f"no label lies {FAR_SIZES:g} usual sizes of its symbol or more from the market (more for fewer than"
        f" {FAR_BARS} bars)",
        "look at the panel's prices there: a bad print or a split may have been missed",
    ),
    no_flag(
        "score_not_finite", "score", True, "scores are finite", "train the expert again; look at its inputs"
    ),
    no_flag("band_crossed", "p50", True, "p10 <= p50 <= p90", "let the expert sort its quantiles"),
    no_flag(
        "uncertainty_negative",
        "uncertainty",
        True,
        "uncertainty is finite and not negative",
        "let the expert clip its uncertainty",
    ),
    no_flag("mixed_target", "target", True, "one target and one period in a table", "write a table for each"),
)
_FLAGS_OF_KIND: dict[str, tuple[str, ...]] = {
    "panel": ("null_key", "repeated_key", "unsorted", "known_before_end", "ohlc"),
    "factors": ("null_key", "repeated_key", "unsorted", "known_before_end"),
    "labels": (
        "null_key",
        "repeated_key",
        "unsorted",
        "label_end_not_after",
        "horizon_not_positive",
        "direction_unknown",
        "label_without_end",
        "label_not_finite",
        "label_too_large",
    ),
    "predictions": (
        "null_key",
        "repeated_key",
        "unsorted",
        "horizon_not_positive",
        "score_not_finite",
        "band_crossed",
        "uncertainty_negative",
        "mixed_target",
    ),
}


def _conditions(kind: Kind) -> dict[str, pl.Expr]:
    """For each flag the rows that break its rule."""
    key = KIND_TABLES[kind].key
    ties, back = pl.lit(True), pl.lit(False)
    for name in key:
        back = back | (ties & (pl.col(name) < pl.col(name).shift(1)))
        ties = ties & (pl.col(name) == pl.col(name).shift(1))

    slack = 1 + PRICE_TOLERANCE
    above_high = pl.max_horizontal("open", "close") > pl.col("high") * slack
    below_low = pl.min_horizontal("open", "close") * slack < pl.col("low")

    labels = ("log_return", "direction", "sector_neutral_return")
    labelled = pl.any_horizontal(*(pl.col(name).is_not_null() for name in labels))
    returns = ("log_return", "sector_neutral_return")
    not_finite = pl.any_horizontal(*(~pl.col(name).is_finite().fill_null(True) for name in returns))

    uncertainty = pl.col("uncertainty")
    certain_enough = (uncertainty.is_finite() & (uncertainty >= 0)).fill_null(False)
    other_target = pl.col("target") != pl.col("target").first()
    other_period = pl.col("period") != pl.col("period").first()
    return {
        "null_key": pl.any_horizontal(*(pl.col(name).is_null() for name in key)),
        "repeated_key": pl.struct(key).is_duplicated(),
        "unsorted": back,
        "known_before_end": pl.col("known_time") < pl.col("timestamp"),
        "ohlc": above_high | below_low,
        "label_end_not_after": pl.col("label_end") <= pl.col("timestamp"),
        "horizon_not_positive": pl.col("horizon") <= 0,
        "direction_unknown": ~pl.col("direction").is_in([-1, 0, 1]),
        "label_without_end": labelled & pl.col("label_end").is_null(),
        "label_not_finite": not_finite,
        "label_too_large": pl.col("far"),
        "score_not_finite": ~pl.col("score").is_finite().fill_null(False),
        "band_crossed": (pl.col("p10") > pl.col("p50")) | (pl.col("p50") > pl.col("p90")),
        "uncertainty_negative": ~certain_enough,
        "mixed_target": other_target | other_period,
    }
