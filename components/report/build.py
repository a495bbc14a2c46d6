"""Reads a run's artifacts and writes its report and summary into the run folder."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import (
    ALL_PREDICTIONS,
    FACTORS,
    LABELS,
    PANEL,
    REGIME_COLUMN,
    atomic_path,
    atomic_write_text,
    read_catalog,
    read_stamp,
    read_table,
)
from components.metrics import ic_summary, information_coefficient
from components.metrics.regime_shift import label_shift_by_regime
from components.report.factor_ic import factor_ic
from components.report.run_report import PAGES, RunResult, render
from components.report.summary import summarise

REPORT, SUMMARY, DATA_DOCS, EVIDENCE = "report.html", "summary.json", "data_docs", "evidence"


def build_report(
    artifacts: Mapping[str, Path],
    experts: Sequence[Path],
    config: Mapping[str, Any],
    folder: Path,
    pages: Mapping[str, Path],
) -> dict[str, Any]:
    """Write `report.html`, `summary.json`, the Data Docs and the stages' own pages into `folder`; returns the
    summary.

    Parameters
    ----------
    artifacts : path by name: truth, panel, quarantine, health, data_docs, factors, catalog, labels, audit,
        oof_audit, comparison, predictions, evaluation, returns, verdict, registration
    experts : the experts' artifact folders
    config : the whole configuration
    pages : the pages of audit, fusion and selection by file name, kept in `evidence/`
    """
    said = {
        name: _json(artifacts[name])
        for name in ("health", "audit", "oof_audit", "comparison", "evaluation", "verdict", "registration")
    }
    evaluation = said["evaluation"]
    labels = read_table(artifacts["labels"], LABELS)
    summary = summarise(
        evaluation, said["verdict"], said["registration"], config, _attainable(artifacts, labels, evaluation)
    )
    first_test = pl.Series([evaluation["windows"]["test"]["start"]]).str.to_datetime(
        time_unit="us", time_zone="UTC"
    )[0]
    factors = read_table(artifacts["factors"], FACTORS, verify=False)
    regimes = factors.select("timestamp", REGIME_COLUMN).unique(
        "timestamp", keep="first", maintain_order=True
    )
    result = RunResult(
        summary=summary,
        panel=read_table(artifacts["panel"], PANEL),
        quarantine=pl.read_parquet(artifacts["quarantine"]),
        health=said["health"],
        factor_ic=factor_ic(
            factors,
            labels,
            read_catalog(artifacts["catalog"]),
            target=evaluation["target"],
            horizon=evaluation["horizon"],
            first_test=first_test,
        ),
        label_shift=label_shift_by_regime(
            labels, regimes, evaluation["horizon"], evaluation["target"], era_start=first_test
        ),
        audit=said["audit"],
        oof_audit=said["oof_audit"],
        comparison=said["comparison"],
        evaluation=evaluation,
        returns=pl.read_parquet(artifacts["returns"]),
        experts=[_json(place / "status.json") for place in experts],
        explanations=_explanations(experts),
        lineage=[_lineage(name, artifacts[name]) for name in ("panel", "factors", "labels", "predictions")],
        pages={name: f"{EVIDENCE}/{name}.html" for name in PAGES if f"{name}.html" in pages},
    )
    atomic_write_text(folder / REPORT, render(result))
    with atomic_path(folder / DATA_DOCS) as temporary:
        shutil.copytree(artifacts["data_docs"], temporary)
    keep_pages(pages, folder / EVIDENCE)
    atomic_write_text(folder / SUMMARY, json.dumps(summary, indent=1))
    return summary


def keep_pages(files: Mapping[str, Path], folder: Path) -> None:
    """Put the files into `folder` under the given names, each atomically; others that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(source, temporary)


def _attainable(
    artifacts: Mapping[str, Path], labels: pl.DataFrame, evaluation: Mapping[str, Any]
) -> dict[str, Any] | None:
    """IC of the simulator's own expectation on the test window, and the share of it that the stack recovers.

    None for real data, and for a horizon or target that the simulator's expectation is not of.
    """
    truth = pl.read_parquet(artifacts["truth"])
    if truth.is_empty():
        return None
    expected = f"expected_return_{evaluation['horizon']}"
    if expected not in truth.columns or evaluation["target"] != "sector_neutral_return":
        return None
    predictions = read_table(artifacts["predictions"], ALL_PREDICTIONS).filter(pl.col("expert") == "stack")
    window = evaluation["windows"]["test"]
    known = predictions.filter(
        pl.col("timestamp") >= pl.lit(window["start"]).str.to_datetime(time_unit="us", time_zone="UTC")
    ).select("timestamp", "symbol")
    scored = truth.select("timestamp", "symbol", pl.col(expected).alias("score")).join(
        known, on=["timestamp", "symbol"]
    )
    label = labels.filter(pl.col("horizon") == evaluation["horizon"]).select(
        "timestamp", "symbol", pl.col(evaluation["target"]).cast(pl.Float64).alias("label")
    )
    attainable = ic_summary(information_coefficient(scored, label)["ic"], horizon=evaluation["horizon"])[
        "mean"
    ]
    reached = evaluation["experts"]["stack"]["test"]["ic"]["mean"]
    if not attainable or attainable != attainable or reached is None:
        return None
    return {"attainable_ic": attainable, "stack_ic": reached, "recovered_share": reached / attainable}


def _explanations(experts: Sequence[Path]) -> dict[str, dict[str, Any]]:
    found = {_json(place / "status.json")["expert"]: place / "model" / "explain.json" for place in experts}
    return {name: _json(path) for name, path in found.items() if path.exists()}


def _lineage(name: str, path: Path) -> dict[str, Any]:
    stamp = read_stamp(path)
    inputs = [f"{key} {value[:8]}" for key, value in stamp.inputs.items()]
    return {
        "table": name,
        "content_sha256": stamp.content_sha256,
        "code_version": stamp.code_version,
        "config_hash": stamp.config_hash,
        "inputs": inputs,
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
