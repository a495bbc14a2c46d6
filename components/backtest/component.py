"""KFP door of the backtest stage."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def backtest(
    panel: Input[Dataset],
    labels: Input[Dataset],
    training_set: Input[Dataset],
    predictions: Input[Dataset],
    settings: str,
    timeline: str,
    horizon: int,
    seed: int,
    code: str,
    returns: Output[Dataset],
    evaluation: Output[Artifact],
):
    """Trade and measure every expert and the stack; windows are counted on the training set's calendar, as
    experts and stack do.
    """
    import json
    from pathlib import Path

    from components.backtest.config import Settings
    from components.backtest.evaluate import evaluate, read_predictions
    from components.contracts import (
        LABELS,
        PANEL,
        REGIME_COLUMN,
        TRAINING_SET,
        atomic_path,
        atomic_write_text,
        content_sha256,
        read_table,
    )
    from components.progress import report, stage
    from components.settings import config_hash
    from components.timeline import Settings as TimelineSettings
    from components.timeline import resolve_windows

    with stage("backtest"):
        parsed = Settings.model_validate_json(settings)
        regimes = read_table(training_set.path, TRAINING_SET).select("timestamp", "symbol", REGIME_COLUMN)
        calendar = regimes["timestamp"].unique().sort()
        windows = resolve_windows(calendar, TimelineSettings.model_validate_json(timeline))
        experts = read_predictions(Path(predictions.path), Path(labels.path), horizon=horizon)
        bars, facts = read_table(panel.path, PANEL), read_table(labels.path, LABELS)
        result, table = evaluate(
            experts, facts, bars, regimes, windows, calendar, parsed, horizon=horizon, seed=seed
        )
        result["stamp"] = {
            "code_version": code,
            "config_hash": config_hash(parsed),
            "returns_sha256": content_sha256(table),
        }
        with atomic_path(returns.path) as temporary:
            table.write_parquet(temporary, compression="zstd")
        atomic_write_text(evaluation.path, json.dumps(result, allow_nan=False))
        report(
            "backtest",
            f"{len(experts)} experts over {result['windows']['test']['bars']} test bars, {len(table):,} rows"
            " of returns",
        )
