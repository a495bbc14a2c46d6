"""What the door of the labels of ticks calls: the labels of every sample, symbol and horizon, refused where
they begin before an order could arrive or where too few moves pay.
"""

import os
from collections import Counter
from dataclasses import dataclass

import polars as pl

from components.contracts import FACTORS, LABELS, map_table, read_stamp, read_table, write_table
from components.contracts.documents.instruments import Instrument
from components.contracts.errors import ContractError
from components.contracts.row_limit import refuse_too_many
from components.contracts.tick_days import TickDay, read_day, read_instruments, tick_days
from components.contracts.tick_schemas import DELAYS
from components.progress import report, stage, track
from components.settings import config_hash
from components.tick_labels.arrival_check import check_arrivals
from components.tick_labels.build import NS_A_MS, NS_A_US, label_session, with_neutral_returns
from components.tick_labels.config import Settings
from components.tick_labels.latency import entry_latency_ns
from components.tick_labels.moments import REASONS
from components.tick_labels.moves import moves_that_pay, require_moves

# Only rows are drawn by it, to be looked at again.
CHECK_SEED = 0


@dataclass(frozen=True)
class Inputs:
    """`ticks`: folder of validated ticks; `features`: FACTORS table, whose moments are labelled; `delays`:
    DELAYS table.
    """

    ticks: str | os.PathLike
    features: str | os.PathLike
    delays: str | os.PathLike


@dataclass(frozen=True)
class Outputs:
    """Where the LABELS table goes."""

    labels: str | os.PathLike


def run(inputs: Inputs, outputs: Outputs, *, settings: str, code: str) -> None:
    """Label every sample of the features over every horizon.

    Raises
    ------
    ContractError
        If the labels begin before an order could arrive, if ticks are out of order, if no sample lies in a
        session, or if too few moves pay to learn from; nothing is written then.
    """
    with stage("tick labels"):
        parsed = Settings.model_validate_json(settings)
        samples = map_table(inputs.features, FACTORS, ["timestamp", "symbol"])
        refuse_too_many(len(samples) * len(parsed.horizons), "The table of labels")
        days = tick_days(inputs.ticks)
        delays = read_table(inputs.delays, DELAYS)
        latency = {day.symbol: entry_latency_ns(delays, day.symbol, parsed) for day in days}
        instruments = read_instruments(inputs.ticks).symbols
        parts, reasons = [], Counter()
        for day in track("tick labels", days, what="sessions"):
            own, why = _label_day(day, samples, instruments[day.symbol], latency[day.symbol], parsed)
            parts += [own] if len(own) else []
            reasons.update(why)
        _require_any(parts, inputs)
        labels = with_neutral_returns(pl.concat(parts))
        _tell(labels, reasons, latency, parsed)
        require_moves(moves_that_pay(labels, parsed.primary_horizon, latency), parsed)
        write_table(
            labels,
            outputs.labels,
            LABELS,
            code_version=code,
            config_hash=config_hash(parsed),
            inputs={
                name: read_stamp(getattr(inputs, name)).content_sha256 for name in ("features", "delays")
            },
        )


def _label_day(
    day: TickDay, samples: pl.DataFrame, instrument: Instrument, latency_ns: int, settings: Settings
) -> tuple[pl.DataFrame, Counter]:
    """Labels of a symbol's session, checked, and why how many of its samples have none."""
    ticks = read_day(day)
    begin, end = (ticks["ingest_ts"].cast(pl.Int64)[place] // NS_A_US for place in (0, -1))
    own = pl.col("timestamp").cast(pl.Int64).is_between(begin, end)
    moments = samples.filter((pl.col("symbol") == day.symbol) & own)["timestamp"]
    if moments.is_empty():
        return pl.DataFrame(), Counter()
    made, why = label_session(ticks, moments, instrument, latency_ns, settings)
    labels = made.with_columns(pl.lit(day.symbol).alias("symbol"))
    check_arrivals(labels, ticks, latency_ns, settings.sample_ms, CHECK_SEED)
    of_primary = why[:, settings.horizons.index(settings.primary_horizon)]
    return labels, Counter(of_primary.tolist())


def _require_any(parts: list[pl.DataFrame], inputs: Inputs) -> None:
    if not parts:
        raise ContractError(
            f"No sample of {inputs.features} lies within a session of {inputs.ticks}. Make the features again"
            " from these ticks."
        )


def _tell(labels: pl.DataFrame, reasons: Counter, latency: dict[str, int], settings: Settings) -> None:
    """Say what share of the labels pays at each horizon, how many of the primary are missing, and why."""
    shares = []
    for horizon in settings.horizons:
        known = labels.filter((pl.col("horizon") == horizon) & pl.col("trade_class").is_not_null())
        pays = known.select((pl.col("trade_class") != 0).mean()).item() or 0.0
        shares.append(f"{pays:.2%} over {horizon * settings.sample_ms:,} ms ({len(known):,})")
    report("tick labels", f"pay after costs, of labels: {', '.join(shares)}")
    slowest = max(latency.values()) / NS_A_MS
    missing = ", ".join(f"{reasons[why]:,} {text}" for why, text in REASONS.items() if reasons[why])
    report(
        "tick labels",
        f"orders arrive within {slowest:.4g} ms; no label over {settings.primary_horizon_ms:,} ms:"
        f" {missing or 'none'}",
    )
