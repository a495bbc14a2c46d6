"""A small market taken through the real stages to model bundles and an online store, in seconds and without
KFP: what the service's tests serve.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from components.backtest.config import Settings as BacktestSettings
from components.contracts import (
    ALL_PREDICTIONS,
    PANEL,
    CatalogEntry,
    atomic_write_text,
    check_table,
    file_sha256,
    verify_bundle,
    write_catalog,
    write_table,
)
from components.feature_store.config import Settings as FeatureStoreSettings
from components.feature_store.online_universe import OnlineUniverse
from components.market.config import Settings as MarketSettings
from components.timeline import Settings as TimelineSettings
from serving.config import Settings as ServingSettings
from serving.processes.documents import ChampionNotice
from serving.processes.plan import ServingPlan, write_plan

PERIOD, HORIZON, TARGET, CODE = "1d", 5, "sector_neutral_return", "test"
MARKET = MarketSettings.model_validate(
    {
        "planted_ic": 0.5,
        "simulator": {
            "symbols": 20,
            "bars": 240,
            "sectors": 4,
            "start": "2023-01-02",
            "late_share": 0.0,
            "delisted_share": 0.05,
        },
    }
)
TIMELINE = TimelineSettings(train_share=0.5, validation_share=0.25, fold_bars=60)
STORE = FeatureStoreSettings(lookback_bars=16)
# Two names on each side, so that a book of 20 names has positions; no age limit, because the market ends in
# the past.
BACKTEST = BacktestSettings(quantile=0.1)
SERVING = ServingSettings(max_feature_age_hours=None, poll_seconds=0.2, keyless=True, drain_seconds=0)
EXPERTS: dict[str, dict[str, Any]] = {"elasticnet": {}, "lightgbm": {"rounds": 20}}
LOOKING_BACK: dict[str, dict[str, Any]] = {"elasticnet": {}, "looking_back": {}}
ACROSS: dict[str, dict[str, Any]] = {"elasticnet": {}, "across": {}}
# Experts of these tests' own.
MODULES = {"across": "tests.serving.across", "looking_back": "tests.serving.looking_back"}


@dataclass(frozen=True)
class SmallMarket:
    """The tables of a small market: its PANEL, a FACTORS frame with its catalog, LABELS, and TRAINING_SET
    rows with the same factor values.
    """

    panel: pl.DataFrame
    factors: pl.DataFrame
    catalog: list[CatalogEntry]
    labels: pl.DataFrame
    training_set: pl.DataFrame

    @property
    def symbols(self) -> list[str]:
        return self.factors["symbol"].unique().sort().to_list()


def make_market(
    seed: int = 7, settings: MarketSettings = MARKET, *, last_bar: pl.Expr | None = None
) -> SmallMarket:
    """Simulate a market and build its factors and labels; `last_bar`, a condition on the panel's rows, cuts
    it off.
    """
    from components.features.build import build_factors
    from components.features.catalog import catalog as factor_catalog
    from components.features.config import Settings as FeaturesSettings
    from components.labels.build import build_labels
    from components.labels.config import Settings as LabelsSettings
    from components.market.simulator import simulate

    panel = check_table(simulate(settings, seed).panel.sort(PANEL.key), PANEL)
    panel = panel.filter(last_bar) if last_bar is not None else panel
    factors = build_factors(panel, FeaturesSettings())
    catalog = factor_catalog(FeaturesSettings(), PERIOD)
    labels = build_labels(panel, LabelsSettings(primary_horizon=HORIZON))
    wanted = [entry.column for entry in catalog if entry.role in ("input", "context")]
    training_set = factors.select("timestamp", "symbol", *wanted).join(
        panel.select("timestamp", "symbol", "sector"), on=("timestamp", "symbol"), maintain_order="left"
    )
    return SmallMarket(
        panel, factors, catalog, labels, training_set.select("timestamp", "symbol", "sector", *wanted)
    )


def put_online(
    market: SmallMarket,
    folder: Path,
    settings: FeatureStoreSettings = STORE,
    universe: OnlineUniverse | None = None,
) -> dict[str, Any]:
    """Publish and materialise the market's factors into `folder`/feature_store; returns the publication."""
    from components.feature_store import store
    from components.feature_store.closes import newest_closes
    from components.feature_store.feast_import import import_feast
    from components.feature_store.publication import FactorTable

    import_feast()
    table = FactorTable(market.factors, market.catalog, PERIOD)
    publication = store.publish_factors(table, settings, folder / "feature_store")
    closes = newest_closes(market.factors, market.panel)
    store.put_online(publication, settings, folder / "feature_store", closes=closes, universe=universe)
    return publication


def make_bundle(
    market: SmallMarket,
    publication: Mapping[str, Any],
    folder: Path,
    *,
    experts: Mapping[str, Mapping[str, Any]] = EXPERTS,
    seed: int = 1,
    backtest: BacktestSettings = BACKTEST,
    equal_weights: bool = False,
) -> Path:
    """Fit the experts and the stack on the market and put them into a bundle below `folder`, named after its
    SHA-256.

    With `equal_weights` every one of the experts is served.
    """
    from components.experts.leaves import Leaf
    from components.experts.training.inputs import Assignment, TrainingTables
    from components.experts.training.train import train_expert
    from components.registry.bundle import build_bundle
    from components.stacking.combine import stack_experts
    from components.stacking.config import Settings as StackingSettings
    from components.stacking.oof import build_oof_table
    from components.stacking.served_form import write_model
    from components.timeline import resolve_windows

    folder.mkdir(parents=True, exist_ok=True)
    work = folder / "work"
    trained = {
        name: train_expert(
            TrainingTables(market.training_set, market.labels, market.catalog, known_key="small"),
            Assignment(
                leaf=Leaf(expert=name, period=PERIOD, module=MODULES.get(name), settings=dict(settings)),
                timeline=TIMELINE,
                period=PERIOD,
                horizon=HORIZON,
                target=TARGET,
                seed=seed,
                code=CODE,
            ),
            work / name,
        )
        for name, settings in experts.items()
    }
    predictions = {name: result.predictions for name, result in trained.items()}
    calendar = market.training_set["timestamp"].unique().sort()
    oof = build_oof_table(predictions, market.labels, market.training_set)
    everything = pl.concat(predictions.values()).sort(ALL_PREDICTIONS.key)
    stacked = stack_experts(
        oof,
        everything,
        StackingSettings(level=0.0) if equal_weights else StackingSettings(),
        resolve_windows(calendar, TIMELINE),
        calendar,
        embargo_bars=TIMELINE.embargo(HORIZON),
        seed=seed,
    )
    write_model(stacked.model, work / "stacker")
    write_catalog(market.catalog, work / "catalog.json")
    atomic_write_text(work / "features.json", json.dumps({**publication, "code_version": CODE}))
    write_table(
        stacked.predictions,
        work / "predictions.parquet",
        ALL_PREDICTIONS,
        code_version=CODE,
        config_hash="small",
        inputs={"labels": "small", "training_set": "small"},
    )
    bundle = work / "bundle"
    bundle.mkdir()
    manifest = build_bundle(
        bundle,
        experts={name: result.model_folder for name, result in trained.items()},
        stacker=work / "stacker",
        catalog=work / "catalog.json",
        feature_registry=work / "features.json",
        predictions=work / "predictions.parquet",
        task=(TARGET, HORIZON),
        config={"backtest": backtest.model_dump(mode="json")},
        code=CODE,
    )
    target = folder / manifest["sha256"]
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(bundle, target)
    shutil.rmtree(work)
    return target


def crown(run: Path, bundle: Path, version: int, *, name: str = "small", why: str = "test") -> None:
    """Make the bundle the champion of the run as the champion watcher does: the folder first, `champion.json`
    last.
    """
    manifest = json.loads((bundle / "manifest.json").read_text())
    target = run / "serving" / "champions" / manifest["sha256"]
    if not target.exists():
        shutil.copytree(bundle, target)
    notice_of(target, version, name=name, why=why).write(run / "serving" / "champion.json")


def notice_of(bundle: Path, version: int, *, name: str = "small", why: str = "test") -> ChampionNotice:
    """What the registry follower says of a bundle that it has checked."""
    return ChampionNotice(
        name=name,
        version=version,
        bundle_sha256=json.loads((bundle / "manifest.json").read_text())["sha256"],
        folder=str(bundle),
        manifest_sha256=file_sha256(bundle / "manifest.json"),
        since="2024-01-01T00:00:00+00:00",
        who="tests",
        why=why,
        verdict={"approved": True, "reason": "test", "gates": []},
        fetched_at=datetime(2024, 1, 1, tzinfo=UTC),
    )


@dataclass(frozen=True)
class SmallRun:
    """A run folder with an online store and bundles to serve; none is champion until `crown` says so."""

    folder: Path
    market: SmallMarket
    publication: dict[str, Any]
    bundles: Sequence[Path]

    def plan(
        self, serving: Mapping[str, Any] | None = None, feature_store: FeatureStoreSettings = STORE
    ) -> Path:
        """Write the run's serving plan; `serving` changes settings."""
        return write_plan(
            ServingPlan(self.folder, "small", SERVING.model_copy(update=dict(serving or {})), feature_store)
        )


def make_run(
    folder: Path,
    *,
    seeds: Sequence[int] = (1, 2),
    experts: Mapping[str, Mapping[str, Any]] = EXPERTS,
    settings: MarketSettings = MARKET,
    store: FeatureStoreSettings = STORE,
    equal_weights: bool = False,
) -> SmallRun:
    """Market, online store (SQLite unless `store` says otherwise) and one bundle a seed below `folder`; every
    bundle is checked against its manifest.
    """
    market = make_market(settings=settings)
    publication = put_online(market, folder, store)
    bundles = [
        make_bundle(
            market,
            publication,
            folder / "bundles",
            experts=experts,
            seed=seed,
            equal_weights=equal_weights,
        )
        for seed in seeds
    ]
    for bundle in bundles:
        verify_bundle(bundle)
    return SmallRun(folder, market, publication, bundles)
