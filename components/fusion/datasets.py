"""Which rows of a training set an expert of a modality may learn from, with counts of what each
rule dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from components.contracts import LEARNABLE, CatalogEntry, check_table, inputs_of
from components.fusion.config import DatasetSettings, NoNanPolicy
from components.fusion.errors import FusionError

RULES = ("max_missing_ratio", "outside_common_span", "missing_inside_span")
ONCHAIN = "onchain"
NAMED = 20


@dataclass(frozen=True)
class Dataset:
    """`learnable` follows the contract LEARNABLE; `report` is JSON-able (see `learnable_rows`)."""

    learnable: pl.DataFrame
    report: dict[str, Any]


def learnable_rows(
    training_set: pl.DataFrame, catalog: Sequence[CatalogEntry], settings: DatasetSettings, modality: str
) -> Dataset:
    """The rows that pass max_missing_ratio and the no_nan_policy; predictions are made for all rows all the
    same.

    Every rule looks at all rows, in this order; a row counts for the first that drops it.
    `max_missing_ratio`: too large a share of the modality's inputs is missing. `outside_common_span`: before
    the latest first or after the earliest last value of the policy's columns, of this symbol; a symbol that
    has no value at all in one of them has no span. `missing_inside_span`: within the span, but a policy
    column is missing. The report holds `modality`, `rows`, `kept`, `columns`, `policy_columns`, `dropped`
    (rule, symbol, period, rows), `by_rule`, `symbols_lost`, `config`.

    Raises
    ------
    FusionError
        If the modality has no inputs, a policy column is none of them, or no row is left.
    """
    entries = inputs_of(catalog, modality)
    columns = _input_columns(training_set, entries, modality)
    policy = policy_columns(entries, settings.no_nan_policy, modality)
    judged = _judged(training_set, columns, policy, settings)
    kept = judged.filter(pl.col("rule").is_null()).select("timestamp", "symbol")
    dropped = judged.drop_nulls("rule").group_by("rule", "symbol").len("rows").sort("rule", "symbol")
    if kept.is_empty():
        raise _no_row_left(dropped, len(training_set), modality)
    period = bar_period(training_set["timestamp"])
    lost = sorted(set(training_set["symbol"].unique()) - set(kept["symbol"].unique()))
    report = {
        "modality": modality,
        "period": period,
        "rows": len(training_set),
        "kept": len(kept),
        "columns": columns,
        "policy_columns": policy,
        "by_rule": {rule: int((judged["rule"] == rule).sum()) for rule in RULES},
        "dropped": [{**row, "period": period} for row in dropped.to_dicts()],
        "symbols_lost": lost,
        "config": settings.model_dump(mode="json"),
    }
    return Dataset(check_table(kept, LEARNABLE), report)


def _input_columns(training_set: pl.DataFrame, entries: Sequence[CatalogEntry], modality: str) -> list[str]:
    columns = [entry.column for entry in entries if entry.column in training_set.columns]
    if not columns:
        raise FusionError(
            f"The training set has no input of the modality {modality} (the catalog has {len(entries)})."
            " Declare factors, or train experts of the other modality."
        )
    return columns


def _judged(
    training_set: pl.DataFrame, columns: Sequence[str], policy: Sequence[str], settings: DatasetSettings
) -> pl.DataFrame:
    """The keys with the `rule` that drops the row, null where none does."""
    missing = pl.mean_horizontal(_is_missing(name).cast(pl.Float64) for name in columns)
    judged = training_set.select(
        "timestamp",
        "symbol",
        missing.alias("missing"),
        *(_is_missing(name).alias(f"missing_{name}") for name in policy),
    )
    return judged.with_columns(_rule(settings, policy).alias("rule"))


def _no_row_left(dropped: pl.DataFrame, rows: int, modality: str) -> FusionError:
    by_rule = dropped.group_by("rule").agg(pl.col("rows").sum()).sort("rows", descending=True).rows()
    said = ", ".join(f"{rule} dropped {count:,}" for rule, count in by_rule)
    return FusionError(
        f"No row of {rows:,} is left for {modality} experts: {said or 'the training set is empty'}."
        f" Raise fusion.datasets.{modality}.max_missing_ratio, or relax its no_nan_policy."
    )


def policy_columns(entries: Sequence[CatalogEntry], policy: NoNanPolicy, modality: str) -> list[str]:
    """The input columns that the policy wants without gaps; FusionError for a name that is no input of the
    modality.
    """
    if not policy.enabled:
        return []
    if policy.scope == ONCHAIN:
        found = [entry.column for entry in entries if entry.group == ONCHAIN]
        if not found:
            raise FusionError(
                f"fusion.datasets.{modality}.no_nan_policy has the scope onchain, but no input of the"
                f" modality {modality} belongs to the group onchain. Use custom, or disable it."
            )
        return found
    wanted = set(policy.columns)
    chosen = [entry.column for entry in entries if wanted & {entry.column, entry.factor}]
    unknown = sorted(wanted - {name for entry in entries for name in (entry.column, entry.factor)})
    if unknown:
        raise FusionError(
            f"fusion.datasets.{modality}.no_nan_policy names {unknown[0]!r}, which is no input of the"
            f" modality {modality}. It has {', '.join(e.column for e in entries[:NAMED])}."
        )
    return chosen


def bar_period(timestamps: pl.Series) -> str:
    """Length of a bar as the commonest distance of timestamps says, such as 1d or 4h; empty where there is
    only one.
    """
    steps = timestamps.unique().sort().diff().drop_nulls().dt.total_minutes()
    if steps.is_empty():
        return ""
    minutes = int(steps.mode().sort()[0])
    return (
        f"{minutes // 1440}d"
        if minutes % 1440 == 0
        else f"{minutes // 60}h"
        if minutes % 60 == 0
        else f"{minutes}min"
    )


def _is_missing(name: str) -> pl.Expr:
    return ~pl.col(name).is_finite().fill_null(False)


def _rule(settings: DatasetSettings, policy: Sequence[str]) -> pl.Expr:
    """The first rule that drops the row; null where none does."""
    too_empty = pl.col("missing") > settings.max_missing_ratio
    chosen = pl.when(too_empty).then(pl.lit(RULES[0]))
    if not policy:
        return chosen.otherwise(pl.lit(None, dtype=pl.String))
    spans = [pl.col("timestamp").filter(~pl.col(f"missing_{name}")) for name in policy]
    never = pl.lit("9999-01-01").str.to_datetime(time_unit="us", time_zone="UTC")
    begin = pl.max_horizontal(span.min().over("symbol").fill_null(never) for span in spans)
    end = pl.min_horizontal(span.max().over("symbol") for span in spans)
    inside = pl.col("timestamp").is_between(begin, end).fill_null(False)
    gap = pl.any_horizontal(f"missing_{name}" for name in policy)
    return (
        chosen.when(~inside)
        .then(pl.lit(RULES[1]))
        .when(gap)
        .then(pl.lit(RULES[2]))
        .otherwise(pl.lit(None, dtype=pl.String))
    )
