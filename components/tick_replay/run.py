"""What the door of the replay calls: all experts, policies and latencies over every symbol's session, and
what of their paper profit could be had.
"""

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from components.contracts import (
    FACTORS,
    LABELS,
    REGIME_COLUMN,
    REGIMES,
    ContractError,
    of_task,
    read_stamp,
    write_table,
)
from components.contracts.documents.tick_replay import TickReplay, TickReplayStamp
from components.contracts.tables import stamp_of
from components.contracts.tick_days import TickDay, days_sha256, read_instruments, tick_days
from components.contracts.tick_predictions import predictions_table
from components.contracts.tick_schemas import CURVE, DELAYS, FILLS
from components.memory.need import MIB, Need
from components.progress import report, stage, warn
from components.settings import config_hash
from components.sizing.known import SizingError
from components.spread import engines
from components.spread.piece import Piece
from components.tick_replay.config import Settings
from components.tick_replay.day import Plan, unit_of
from components.tick_replay.delays import AT_ONCE, names
from components.tick_replay.figures import SECONDS_AN_HOUR, Terms, measure, with_parts
from components.tick_replay.pieces import REPLAY_DAY, TABLES, piece, piece_gib, steps_of
from components.timeline.periods import TICK_LENGTHS, is_of_ticks

# By the rows of the curve, which all figures are made of. Measured on .2, 2.1 and 6.3 million of them: 611,
# 2,232 and 6,097 MiB.
NEED = Need("tick replay", base=350 * MIB, row=950, cell=0)
# Half ticks times lots of a position whose fee, in millionths of it, 64 bits hold at the largest rate.
LARGEST = 2**62 // 10_000


@dataclass(frozen=True)
class Inputs:
    """`ticks`: folder of validated ticks; `predictions`: PREDICTIONS of one expert or ALL_PREDICTIONS;
    `labels`: LABELS, `features`: FACTORS and `delays`: DELAYS of the same ticks.
    """

    ticks: str | os.PathLike
    predictions: str | os.PathLike
    labels: str | os.PathLike
    features: str | os.PathLike
    delays: str | os.PathLike


@dataclass(frozen=True)
class Outputs:
    """Where the tables FILLS and CURVE and the TickReplay go, and the work folder in which finished sessions
    stay for the next call.
    """

    fills: str | os.PathLike
    curve: str | os.PathLike
    found: str | os.PathLike
    work: str | os.PathLike


def run(
    inputs: Inputs, outputs: Outputs, *, settings: str, target: str, horizon: int, seed: int, code: str
) -> TickReplay:
    """Replay the predictions of one task, symbol-session by symbol-session.

    Raises
    ------
    ContractError
        If nothing is predicted of the task, predictions were made from other labels, are about no moments of
        samples, or stand before what they are made of was known.
    SizingError
        If bets are sized by what is not there, or are too large to be counted.
    """
    with stage("tick replay"):
        parsed = Settings.model_validate_json(settings)
        rows = _task_rows(inputs, target, horizon)
        stamp = _stamp(inputs, parsed, code)
        days = tick_days(inputs.ticks)
        _require_countable(inputs, parsed)
        _require_lots(inputs, days, parsed)
        experts = rows["expert"].unique().sort().to_list()
        memory_gib = _require_memory(days, experts, parsed)
        arguments = {
            **{name: str(Path(path).absolute()) for name, path in asdict(inputs).items()},
            "settings": settings,
            "experts": experts,
            "target": target,
            "horizon": horizon,
            "seed": seed,
        }
        work = Path(outputs.work).absolute()
        key = [stamp.model_dump_json(), days_sha256(days), target, str(horizon), str(seed)]
        pieces = [piece(day, work / day.symbol / day.session, key=key, arguments=arguments) for day in days]
        engines.map(REPLAY_DAY, pieces, memory_gib=memory_gib)
        parts = {name: _gathered(pieces, name) for name in TABLES}
        fills, curve = _written(parts, outputs, stamp)
        tables = with_parts(curve, fills, parts["orders"], _regimes(inputs.features))
        strategies, block = measure(tables, _terms(parsed, rows["period"][0], horizon, seed))
        counts = parts["decisions"].group_by("expert").sum().sort("expert")
        found = TickReplay(
            stamp=stamp,
            target=target,
            horizon=horizon,
            paper_price=parsed.paper_price,
            capital=parsed.capital,
            symbols=sorted({day.symbol for day in days}),
            sessions=len(days),
            step_seconds=parsed.step_seconds,
            block_steps=block,
            level=parsed.interval_level,
            latencies=[name for name in names(parsed.latency) if name != AT_ONCE],
            decisions=dict(counts.select("expert", "decisions").rows()),
            acted=dict(counts.select("expert", "acted").rows()),
            stale=dict(counts.select("expert", "stale").rows()),
            strategies=strategies,
        )
        found.write(outputs.found)
        shutil.rmtree(work)
        _tell(found)
    return found


def _require_memory(days: Sequence[TickDay], experts: Sequence[str], settings: Settings) -> float:
    """What the largest session holds, in GiB; TooLittleMemory where the curves of all of them never fit."""
    strategies = len(Plan.of(experts, names(settings.latency), settings).strategies)
    steps = [steps_of(day, settings.step_seconds) for day in days]
    NEED.require_for(strategies * sum(steps), len(CURVE.columns))
    return max(piece_gib(day, own, strategies) for day, own in zip(days, steps, strict=True))


def _require_countable(inputs: Inputs, settings: Settings) -> None:
    """SizingError where a position, counted in half ticks times lots, is more than 64 bits hold with fees."""
    for symbol, instrument in read_instruments(inputs.ticks).symbols.items():
        value = settings.capital * settings.max_position / unit_of(instrument)
        if value > LARGEST:
            raise SizingError(
                f"tick_replay.capital={settings.capital:g} times max_position={settings.max_position:g} is"
                f" {value:.3g} half ticks times lots of {symbol} (tick_size {instrument.tick_size:g},"
                f" lot_size {instrument.lot_size:g}); at most {LARGEST:.3g} can be counted. Lower it, or set"
                f" ticks.instruments.{symbol} to the exchange's steps."
            )


def _require_lots(inputs: Inputs, days: Sequence[TickDay], settings: Settings) -> None:
    """SizingError where a whole bet buys no lot of any symbol, a warning where it buys none of some."""
    instruments, stake = (
        read_instruments(inputs.ticks).symbols,
        settings.capital * min(settings.max_position, 1),
    )
    first = {day.symbol: day for day in reversed(days)}
    small = {}
    for symbol, day in sorted(first.items()):
        prices = pl.scan_parquet(day.path).filter(pl.col("price") > 0).select("price").head(1).collect()
        one = instruments[symbol]
        lot = prices["price"][0] * one.tick_size * one.lot_size if len(prices) else 0.0
        if lot > stake:
            small[symbol] = lot
    if not small:
        return
    need = max(small.values()) * settings.capital / stake
    each = ", ".join(f"{symbol} {lot:,.6g}" for symbol, lot in small.items())
    said = (
        f"tick_replay.capital={settings.capital:g} (times max_position, where that is below 1) buys no lot of"
        f" {each} (what one lot costs): nothing can be traded there. Set tick_replay.capital and"
        f" tick_labels.order_value to more than {need:,.6g}"
    )
    if len(small) == len(first):
        raise SizingError(f"{said}.")
    warn("tick replay", f"{said}, or take those symbols out.")


def _task_rows(inputs: Inputs, target: str, horizon: int) -> pl.DataFrame:
    """`expert` and `period` of the task's predictions, which must be of samples and of these labels."""
    stamp = stamp_of(inputs.predictions, predictions_table(inputs.predictions))
    made_from, given = stamp.inputs.get("labels", ""), stamp_of(inputs.labels, LABELS).content_sha256
    if made_from != given:
        raise ContractError(
            f"{inputs.predictions} was made from labels {made_from[:12] or '(unknown)'}, but {inputs.labels}"
            f" holds {given[:12]}. Run the stages from the experts on again on one data set."
        )
    columns = ("expert", "period", "target", "horizon")
    rows = pl.scan_parquet(inputs.predictions).select(columns).collect()
    rows = of_task(rows, target, horizon, source=str(inputs.predictions))
    periods = rows["period"].unique().sort().to_list()
    if len(periods) > 1 or not is_of_ticks(periods[0]):
        raise ContractError(
            f"{inputs.predictions}: predictions of {', '.join(periods)}; a replay takes those of one distance"
            f" between samples: {', '.join(TICK_LENGTHS)}. Train the experts with one of them."
        )
    return rows


def _stamp(inputs: Inputs, settings: Settings, code: str) -> TickReplayStamp:
    kinds = {"labels": LABELS, "features": FACTORS, "delays": DELAYS}
    made_from = {name: stamp_of(getattr(inputs, name), kind).content_sha256 for name, kind in kinds.items()}
    made_from["predictions"] = read_stamp(inputs.predictions).content_sha256
    return TickReplayStamp(code=code, config_hash=config_hash(settings), inputs=made_from)


def _gathered(pieces: Sequence[Piece], name: str) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(one.folder / f"{name}.parquet") for one in pieces])


def _written(
    parts: Mapping[str, pl.DataFrame], outputs: Outputs, stamp: TickReplayStamp
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """FILLS and CURVE of all sessions, as they were written."""
    about = {"code_version": stamp.code, "config_hash": stamp.config_hash, "inputs": stamp.inputs}
    fills = parts["fills"].sort(FILLS.key)
    curve = _one_a_step(parts["curve"]).sort(CURVE.key)
    write_table(fills, outputs.fills, FILLS, **about)
    write_table(curve, outputs.curve, CURVE, **about)
    return fills, curve


def _one_a_step(curve: pl.DataFrame) -> pl.DataFrame:
    """Where one session ends and the next begins within a step, what both brought stands in one row."""
    flows = [pl.col(name).sum() for name in ("traded", "at_mid", "gross", "fees")]
    newest = [pl.col(name).last() for name in ("session", "mid", "position")]
    if not curve.select(CURVE.key).is_duplicated().any():
        return curve
    ordered = curve.sort("session", maintain_order=True)
    return ordered.group_by(CURVE.key, maintain_order=True).agg(*newest, *flows).select(*CURVE.columns)


def _regimes(features: str | os.PathLike) -> pl.DataFrame:
    """The regime of each symbol by name from each sample on, sorted by time; no rows where none is told."""
    frame = pl.scan_parquet(features)
    if REGIME_COLUMN not in frame.collect_schema():
        return pl.DataFrame(
            schema={"timestamp": pl.Datetime("us", "UTC"), "symbol": pl.String, "regime": pl.String}
        )
    named = dict(enumerate(REGIMES))
    code = pl.col(REGIME_COLUMN).fill_nan(None).cast(pl.Int64)
    regime = code.replace_strict(named, default=None, return_dtype=pl.String).alias("regime")
    return frame.select("timestamp", "symbol", regime).collect().sort("timestamp")


def _terms(settings: Settings, period: str, horizon: int, seed: int) -> Terms:
    seconds = TICK_LENGTHS[period].total_seconds() * horizon
    return Terms(
        capital=settings.capital,
        level=settings.interval_level,
        draws=settings.bootstrap_draws,
        seed=seed,
        steps_a_year=settings.year_hours * SECONDS_AN_HOUR / settings.step_seconds,
        horizon_steps=max(1, math.ceil(seconds / settings.step_seconds)),
    )


def _tell(found: TickReplay) -> None:
    """Say what takers kept at the last latency, the measured one where it is there; the rest is reported."""
    latency = found.latencies[-1] if found.latencies else AT_ONCE
    of_latency = [one for one in found.strategies if one.latency == latency and one.whole.trades]
    policy = "taker" if any(one.policy == "taker" for one in of_latency) else None
    shown = [one for one in of_latency if policy in (None, one.policy)]
    profits = [
        f"{one.expert} {'' if policy else one.policy + ' '}{one.whole.paper.total:,.0f} to"
        f" {one.whole.net.total:,.0f}"
        for one in shown
    ]
    said = ", ".join(profits) or "no trades, for nothing that was expected pays for its costs"
    if any(found.stale.values()):
        report(
            "tick replay", f"{max(found.stale.values()):,} moments of an expert have a stale book: not traded"
        )
    report("tick replay", f"paper to net profit{', ' + policy if policy else ''}, {latency}: {said}")
