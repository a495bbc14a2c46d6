"""A finished run as its stages wrote it, read for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import (
    FACTORS,
    LABELS,
    PANEL,
    REGIME_COLUMN,
    ContractError,
    Stamp,
    map_table,
    read_catalog,
    read_gathered,
    read_stamp,
)
from components.contracts.documents.champion import Registration
from components.contracts.documents.comparison import Comparison
from components.contracts.documents.evaluation import Evaluation
from components.contracts.documents.experts import (
    EXPLAIN,
    STATUS,
    ExpertStatus,
    Explanation,
    read_left,
    read_status,
)
from components.contracts.documents.health import PanelHealth
from components.contracts.documents.leak_audit import LeakAudit
from components.contracts.documents.oof_audit import OofAudit
from components.contracts.documents.summary import RunSummary
from components.contracts.documents.verdict import Verdict
from components.metrics.regime_shift import label_shift_by_regime
from components.progress import warn
from components.report.attainable import attainable_share
from components.report.factor_ic import FactorIc, factor_ic
from components.report.summary import summarise

EVIDENCE = "evidence"


@dataclass(frozen=True)
class DataArtifacts:
    """Paths of what is known of the market: truth, panel and quarantine as tables, health and its page."""

    truth: str
    panel: str
    quarantine: str
    health: str
    data_docs: str


@dataclass(frozen=True)
class LearnedArtifacts:
    """Paths of what was learned from: factors with their catalog, labels, and the leak audit."""

    factors: str
    catalog: str
    labels: str
    audit: str


@dataclass(frozen=True)
class ModelArtifacts:
    """Paths of what the models did: the experts' gathered folders, the stack's documents, all predictions."""

    experts: str
    oof_audit: str
    comparison: str
    predictions: str


@dataclass(frozen=True)
class JudgedArtifacts:
    """Paths of what was made of it: evaluation and returns, verdict, registration."""

    evaluation: str
    returns: str
    verdict: str
    registration: str


@dataclass(frozen=True)
class Artifacts:
    """Everything that a report is written from; `pages` are the stages' own pages, gathered."""

    data: DataArtifacts
    learned: LearnedArtifacts
    models: ModelArtifacts
    judged: JudgedArtifacts
    pages: str


@dataclass(frozen=True)
class Lineage:
    """A table of the run with its stamp."""

    table: str
    stamp: Stamp


@dataclass(frozen=True)
class RunResult:
    """Everything that the page shows, as the stages wrote it; `pages` are files of the evidence folder."""

    summary: RunSummary
    panel: pl.DataFrame
    quarantine: pl.DataFrame
    health: PanelHealth
    factor_ic: FactorIc
    label_shift: pl.DataFrame
    audit: LeakAudit
    oof_audit: OofAudit
    comparison: Comparison
    evaluation: Evaluation
    returns: pl.DataFrame
    experts: Sequence[ExpertStatus]
    explanations: Mapping[str, Explanation]
    lineage: Sequence[Lineage]
    pages: Sequence[str]


def read_run(artifacts: Artifacts, config: Mapping[str, Any]) -> RunResult:
    """Read the artifacts of a run; `config` is the whole configuration.

    Raises
    ------
    ContractError
        If a table or document can't be read or lacks something.
    """
    data, learned, models, judged = artifacts.data, artifacts.learned, artifacts.models, artifacts.judged
    evaluation, labels = Evaluation.read(judged.evaluation), map_table(learned.labels, LABELS)
    truth = pl.read_parquet(data.truth)
    summary = summarise(
        evaluation,
        Verdict.read(judged.verdict),
        Registration.read(judged.registration),
        config["run"],
        attainable_share(truth, models.predictions, labels, evaluation),
    )
    places = list(read_gathered(models.experts).values())
    of_factors, of_labels = _by_factor_and_regime(learned, labels, evaluation)
    tables = {
        "panel": data.panel,
        "factors": learned.factors,
        "labels": learned.labels,
        "predictions": models.predictions,
    }
    return RunResult(
        summary=summary,
        panel=map_table(data.panel, PANEL),
        quarantine=pl.read_parquet(data.quarantine),
        health=PanelHealth.read(data.health),
        factor_ic=of_factors,
        label_shift=of_labels,
        audit=LeakAudit.read(learned.audit),
        oof_audit=OofAudit.read(models.oof_audit),
        comparison=Comparison.read(models.comparison),
        evaluation=evaluation,
        returns=pl.read_parquet(judged.returns),
        experts=[read_status(place / STATUS) for place in places],
        explanations=_explanations(places),
        lineage=[Lineage(name, read_stamp(path)) for name, path in tables.items()],
        pages=list(read_gathered(artifacts.pages)),
    )


def _by_factor_and_regime(
    learned: LearnedArtifacts, labels: pl.DataFrame, evaluation: Evaluation
) -> tuple[FactorIc, pl.DataFrame]:
    """The factors' own coefficients, and the shift of the labels by regime."""
    start = pl.Series([evaluation.windows.test.start])
    first_test = start.str.to_datetime(time_unit="us", time_zone="UTC")[0]
    target, horizon = evaluation.target, evaluation.horizon
    entries = read_catalog(learned.catalog)
    inputs = [entry.column for entry in entries if entry.role == "input"]
    factors = map_table(learned.factors, FACTORS, columns=(REGIME_COLUMN, *inputs))
    regimes = factors.select("timestamp", REGIME_COLUMN).unique(
        "timestamp", keep="first", maintain_order=True
    )
    of_factors = factor_ic(factors, labels, entries, target=target, horizon=horizon, first_test=first_test)
    return of_factors, label_shift_by_regime(labels, regimes, horizon, target, era_start=first_test)


def _explanations(experts: Sequence[Path]) -> dict[str, Explanation]:
    """What each expert left that says what it attends to; what is of another shape is left out, with a
    warning.
    """
    paths = {read_status(place / STATUS).expert: place / "model" / EXPLAIN for place in experts}
    found = {}
    for name, path in paths.items():
        if path.exists():
            try:
                found[name] = read_left(Explanation, path)
            except ContractError as error:
                warn(
                    "report",
                    f"What {name} attends to is not drawn, {path.parent} holds another shape: {error}",
                )
    return found
