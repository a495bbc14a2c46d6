"""A small market that goes on day by day, and what a service would have answered on its newest bars: the
ground that retraining is tested on.
"""

import copy
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from components.contracts import SERVED, write_table
from components.contracts.served import hour_folder
from components.features.build import build_factors
from components.features.config import Settings as FeaturesSettings
from components.market.config import Settings as MarketSettings
from components.market.load import load_panel
from components.market.simulator import simulate
from components.registry.client import open_registry
from components.registry.config import Settings as RegistrySettings
from components.registry.versions import download
from components.scoring import Model, score_table
from tests.pipelines.small_run import FEW_FACTORS, SETTINGS, Finished, alphaloop

SYMBOLS, BARS = 16, 460


class Market:
    """A folder with a growing price file, the config that reads it, and the run folder."""

    def __init__(self, place: Path, *, bars: int) -> None:
        self.place, self.folder, self.config = place, place / "run", place / "small.yaml"
        self.settings = _settings(place)
        self.config.write_text(yaml.safe_dump(self.settings))
        simulator = {"symbols": SYMBOLS, "bars": BARS, "sectors": 4, "late_share": 0.0, "delisted_share": 0.0}
        self.prices = simulate(
            MarketSettings.model_validate({"planted_ic": 0.4, "simulator": simulator}), 7
        ).panel
        self.days = self.prices["timestamp"].unique().sort()
        self.advance(bars)

    def advance(self, bars: int) -> None:
        """Let the price file end with bar number `bars`."""
        self.bars = bars
        columns = ("symbol", "timestamp", "open", "high", "low", "close", "volume", "sector")
        self.prices.filter(pl.col("timestamp") <= self.days[bars - 1]).select(columns).write_parquet(
            self.place / "prices.parquet"
        )

    def check(self, *options: object) -> Finished:
        """One check of `alphaloop watch`, run to its end."""
        return alphaloop("watch", "--once", "--config", self.config, *options, folder=self.folder)

    def review(self, *arguments: str) -> Finished:
        """`alphaloop review`, with a word where one is given."""
        return alphaloop("review", *arguments, "--config", self.config)

    def serve(self, first: int, last: int, *, shifted: float = 0.0) -> None:
        """Write the champion's answers on bars `first` to `last` into the answer log; `shifted` moves ten
        inputs by that much, planted drift.
        """
        registry = open_registry(RegistrySettings(), self.folder / "registry")
        version = registry.get_model_version_by_alias("small", "champion")
        bundle = Path(download(registry, version))
        model = Model.load(bundle)
        panel = load_panel(
            MarketSettings.model_validate(self.settings["market"]), data_folder=self.place, seed=7
        ).panel
        factors = build_factors(panel, FeaturesSettings.model_validate(FEW_FACTORS))
        wanted = [*model.columns, *model.context]
        rows = (
            factors.select("timestamp", "symbol", *wanted)
            .with_columns(pl.col(model.columns[:10]) + pl.lit(shifted, pl.Float32))
            .sort("timestamp", "symbol")
        )
        bars = self.days[first : last + 1].to_list()
        scores = score_table(model, rows, bars=bars).drop("head_scale", "head_bias")
        answers = scores.join(rows, on=["timestamp", "symbol"]).with_columns(
            (pl.col("timestamp") + timedelta(minutes=5)).alias("answered_at"),
            pl.format("r-{}", pl.col("timestamp").dt.date()).alias("request_id"),
            pl.col("timestamp").alias("known_time"),
            endpoint=pl.lit("signals"),
            model_version=pl.lit(int(version.version), pl.Int64),
            bundle_sha256=pl.lit(model.sha256),
            publication=pl.lit("p"),
            stale=pl.lit(False),
            position=pl.lit(0.0),
        )
        for part in answers.select(*SERVED.columns, *wanted).sort(SERVED.key).partition_by("timestamp"):
            write_table(
                part,
                hour_folder(self.folder / "served", part["answered_at"][0]) / "part.parquet",
                SERVED,
                code_version="c",
                config_hash="h",
            )

    def decisions(self) -> list[dict[str, Any]]:
        """The audit trail's decisions, oldest first."""
        return [
            json.loads(path.read_text())
            for path in sorted((self.folder / "review" / "decisions").glob("*.json"))
        ]


def _settings(place: Path) -> dict[str, Any]:
    settings = copy.deepcopy(SETTINGS)
    settings["run"] = {"name": "small", "seed": 7, "folder": str(place / "run")}
    settings["market"] = {
        "source": "parquet",
        "path": str(place / "prices.parquet"),
        "stamp": "bar_close",
        "period": "1d",
    }
    settings["features"] = FEW_FACTORS
    settings["experts"] = {"leaves": ["median/1d/base", "elasticnet/1d/base"]}
    settings["gates"]["min_champion_bars"] = 30
    settings["drift"] = {"min_rows": 200, "auc_windows": 4}
    return settings
