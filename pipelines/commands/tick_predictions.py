"""Forecasts of a registered model of order books about recorded ticks, for `alphaloop ticks predict`."""

import tempfile
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import track

from components.contracts import AlphaloopError, atomic_path
from components.contracts.documents.instruments import Instruments
from components.contracts.tick_days import TickDay, read_instruments, tick_days
from components.registry.aliases import champion_of
from components.registry.client import RegistryError, answered, open_existing
from components.registry.versions import fetch_bundle
from components.scoring.tick_model import TickModel
from components.tick_features.config import Settings
from components.tick_features.day import Span, features_of_parts, read_parts
from components.tick_features.run import session_spans
from pipelines.config import Config


class OtherInstruments(AlphaloopError):
    """The ticks are not counted as those were that the model learned from."""


def predict_ticks(config: Config, ticks: Path, out: Path, version: int | None) -> str:
    """Write to `out` what the version says of every sample; returns what to tell.

    Columns: `timestamp`, `symbol`, `session`, `known_time`, `score`, `uncertainty`, and p_down, p_none, p_up
    where the target is a class.

    Raises
    ------
    RegistryError, BundleError, ScoringError
        If there is no such version, its bundle is not whole, or it holds no model of order books.
    ContractError, OtherInstruments, TickFeatureError
        If the folder holds no validated ticks, or of other steps of price and quantity than the model's.
    """
    days = tick_days(ticks)
    model, number = _fetched(config, version)
    _require_known(model.instruments, read_instruments(ticks), ticks)
    settings, spans = Settings.model_validate(model.lane["tick_features"]), session_spans(days)
    shown = track(days, "Forecasts", console=Console(stderr=True))
    parts = [_of_day(model, day, spans[day.session], settings) for day in shown]
    found = pl.concat(parts).sort("timestamp", "symbol")
    with atomic_path(out) as path:
        found.write_parquet(path, compression="zstd")
    return (
        f"Version {number} of {config.run.name} ({model.expert.name}, {model.target} over {model.horizon}"
        f" samples of {model.period}): {len(found):,} forecasts of {len(days)} symbol-sessions in {out}"
    )


def _fetched(config: Config, version: int | None) -> tuple[TickModel, int]:
    with answered():
        client = open_existing(config.registry, Path(config.run.folder).absolute() / "registry")
        if version is None:
            champion = champion_of(client, config.run.name)
            if champion is None:
                raise RegistryError(
                    f"{config.run.name} has no champion: none of its models was approved and promoted. Name a"
                    " version with --version, or see alphaloop champions."
                )
            version = int(champion.version)
        with tempfile.TemporaryDirectory(prefix="alphaloop-bundle-") as scratch:
            fetch_bundle(client, config.run.name, version, Path(scratch) / "bundle")
            return TickModel.load(Path(scratch) / "bundle"), version


def _require_known(own: Instruments, given: Instruments, ticks: Path) -> None:
    for symbol, instrument in given.symbols.items():
        if own.symbols.get(symbol) != instrument:
            learned = own.symbols.get(symbol)
            raise OtherInstruments(
                f"{ticks}: {symbol} has {instrument}; the model learned from"
                f" {learned or ', '.join(sorted(own.symbols))}. Give it ticks of its own symbols, counted in"
                " the same steps."
            )


def _of_day(model: TickModel, day: TickDay, span: Span, settings: Settings) -> pl.DataFrame:
    samples = pl.concat(features_of_parts(read_parts(day.path), span, settings))
    said = model.score(samples)
    return said.select(
        "timestamp",
        pl.lit(day.symbol).alias("symbol"),
        pl.lit(day.session).alias("session"),
        samples["known_time"],
        pl.all().exclude("timestamp"),
    )
