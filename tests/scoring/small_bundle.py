"""Small fitted experts and bundles of them, with what the training code itself says about the same rows."""

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl

from components.contracts import ALL_PREDICTIONS, REGIMES, write_manifest, write_table
from components.experts.leaves import Leaf, expert_module
from components.experts.protocol import Task
from components.registry.bundle import build_bundle
from components.stacking.calibrate import fit_head, predict_block
from components.stacking.combiners import BEST, EQUAL, PERFORMANCE, fit_combiner
from components.stacking.config import Settings
from components.stacking.inputs import combiner_inputs
from components.stacking.served_form import served_files, write_model
from tests.experts.market import INPUTS, fit_and_predict_frames, panel

SETTINGS = {
    "median": {},
    "elasticnet": {"penalties": 3},
    "lightgbm": {"rounds": 40, "patience_rounds": 0, "learning_rate": 0.1},
    "xgboost": {"rounds": 40, "patience_rounds": 0, "learning_rate": 0.1, "device": "cpu"},
    "patchtst": {
        "lookback_bars": 12,
        "patch_bars": 4,
        "stride_bars": 4,
        "width": 8,
        "feed_forward": 16,
        "embedding": 8,
        "training": {"batch_windows": 256, "epochs": 1},
    },
}
LOOKBACK = SETTINGS["patchtst"]["lookback_bars"]
TASK = Task(period="1d", horizon=2, target="log_return", groups=INPUTS, seed=3, threads=1)
LEARNERS = ["elasticnet", "xgboost", "lightgbm", "patchtst"]
COMBINERS = [EQUAL, PERFORMANCE, BEST, "shrunk", "regimes", "elasticnet", "logistic", "mlp", "lightgbm"]


def fit_all(folder: Path, *, bars: int, symbols: int, seed: int = 1) -> SimpleNamespace:
    """Every expert fitted, saved and exported below `folder`; and the rows to score: history and 30 % of the
    bars, with holes, late and single symbols.
    """
    rows = panel(bars=bars, symbols=symbols, seed=seed, strength=0.3)
    fit, _ = fit_and_predict_frames(rows, train=0.5, stopping=0.2)
    _, predict = fit_and_predict_frames(
        _with_holes(rows, seed), train=0.5, stopping=0.2, lookback=LOOKBACK - 1
    )
    for name, settings in SETTINGS.items():
        module = expert_module(Leaf(expert=name, period="1d"))
        expert = module.Expert(module.Settings(**settings))
        expert.fit(fit, TASK, advance=lambda share, what: None)
        target = folder / name
        target.mkdir(parents=True)
        expert.save(target)
        expert.export(target)
        write_manifest(target, {"expert": name, "train_window": "2020-01-01..2021-01-01"})
    labels = rows.select("timestamp", "symbol", "label", label_end=pl.col("timestamp") + timedelta(days=3))
    return SimpleNamespace(folder=folder, rows=predict.drop("part", "label"), frame=predict, labels=labels)


def trained_outputs(world: SimpleNamespace) -> pl.DataFrame:
    """What the training code predicts:

    `score_<expert>` and `uncertainty_<expert>`, label and regime of each row.
    """
    wanted = world.frame.filter(pl.col("part") == "predict")
    names = dict(enumerate(REGIMES))
    regime = (
        pl.col("regime_state")
        .fill_nan(None)
        .cast(pl.Int32)
        .replace_strict(names, default="unknown", return_dtype=pl.String)
        .fill_null("unknown")
        .alias("regime")
    )
    table = wanted.select("timestamp", "symbol", regime, horizon=pl.lit(TASK.horizon, pl.Int32)).join(
        world.labels, on=("timestamp", "symbol"), how="left", maintain_order="left"
    )
    for name in SETTINGS:
        module = expert_module(Leaf(expert=name, period="1d"))
        found = module.Expert.load(world.folder / name).predict(world.frame)
        assert found.select("timestamp", "symbol").equals(table.select("timestamp", "symbol"))
        table = table.with_columns(
            found["score"].alias(f"score_{name}"), found["uncertainty"].alias(f"uncertainty_{name}")
        )
    return table


def combined(outputs: pl.DataFrame, method: str) -> tuple[pl.DataFrame, dict[str, str | bytes]]:
    """The training code's scores of all rows by one combiner, and the combiner's files."""
    settings = Settings(lightgbm_rounds=20, min_train_bars=5)
    inputs = combiner_inputs(outputs, list(SETTINGS))
    known = inputs.filter(pl.col("label").is_not_null())
    model = fit_combiner(method, known, LEARNERS, settings, 1)
    head = fit_head(method, model, known, LEARNERS, settings, 1)
    return predict_block(model, inputs, known, head), served_files(method, model, LEARNERS, head)


def bundle_of(
    world: SimpleNamespace,
    files: dict[str, str | bytes],
    folder: Path,
    *,
    columns: list[str] | None = None,
    experts: tuple[str, ...] = tuple(SETTINGS),
    further: tuple[tuple[str, int], ...] = (),
) -> Path:
    """A bundle with this combiner in `folder/bundle`, which answers `further` tasks too."""
    folder.mkdir(parents=True, exist_ok=True)
    write_model(files, folder / "stacker")
    (folder / "catalog.json").write_text("[]")
    (folder / "features.json").write_text(
        json.dumps(
            {
                "schema": "s1",
                "columns": columns or list(INPUTS),
                "context": ["volatility_20", "regime_state", "industry_code", "sector_code"],
            }
        )
    )
    row = {
        "timestamp": world.rows["timestamp"][0],
        "symbol": "S00",
        "period": "1d",
        "horizon": 2,
        "target": "log_return",
        "expert": "stack",
        "fold": "f",
        "train_window": "w",
    }
    numbers = {name: [0.0] for name in ALL_PREDICTIONS.columns if name not in row}
    rows = [row, *({**row, "target": target, "horizon": horizon} for target, horizon in further)]
    frame = pl.DataFrame(
        [{**one, **dict.fromkeys(numbers, 0.0)} for one in rows], schema=ALL_PREDICTIONS.columns
    ).sort(ALL_PREDICTIONS.key)
    write_table(frame, folder / "predictions.parquet", ALL_PREDICTIONS, code_version="c", config_hash="h")
    bundle = folder / "bundle"
    bundle.mkdir()
    build_bundle(
        bundle,
        experts={name: world.folder / name for name in experts},
        stacker=folder / "stacker",
        catalog=folder / "catalog.json",
        feature_registry=folder / "features.json",
        predictions=folder / "predictions.parquet",
        task=(row["target"], row["horizon"]),
        config={},
        code="c",
    )
    return bundle


def resealed(bundle: Path) -> Path:
    """The bundle after someone changed its files and wrote a fitting manifest."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").unlink()
    write_manifest(
        bundle, {name: value for name, value in manifest.items() if name not in ("sha256", "files")}
    )
    return bundle


def _with_holes(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Missing and infinite inputs, unknown regimes and volatilities; symbols that begin late, and one that no
    expert has seen.
    """
    random = np.random.default_rng(seed)

    def holes(share: float) -> pl.Series:
        return pl.Series(random.random(len(rows)) < share)

    bars = rows["timestamp"].unique().sort()
    late = (pl.col("symbol") == "S01") & (pl.col("timestamp") < bars[int(0.8 * len(bars))])
    missing = [
        pl.when(holes(0.05))
        .then(None)
        .when(holes(0.03))
        .then(float("nan"))
        .when(holes(0.01))
        .then(float("inf"))
        .otherwise(pl.col(name))
        .alias(name)
        for name in INPUTS
    ]
    context = [
        pl.when(holes(0.02)).then(None).otherwise(pl.col(name)).alias(name)
        for name in ("regime_state", "volatility_20", "sector_code", "industry_code")
    ]
    symbol = (
        pl.when(pl.col("symbol") == "S02").then(pl.lit("NEW")).otherwise(pl.col("symbol")).alias("symbol")
    )
    return (
        rows.with_columns(*missing, *context).filter(~late).with_columns(symbol).sort("timestamp", "symbol")
    )
