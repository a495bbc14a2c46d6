"""Lineage: what went into the run, by content, and what each expert was trained on."""

from dataclasses import dataclass

from components.contracts.documents.experts import TrainedExpert
from components.report.result import RunResult

WINDOWS = ("validation", "test", "backtest")


@dataclass(frozen=True)
class TableRow:
    """A table and what it was made from."""

    table: str
    content: str
    code: str
    config: str
    made_from: str


@dataclass(frozen=True)
class LineageSection:
    """`trained`: expert, status, window that the served model was trained on."""

    windows: str
    tables: list[TableRow]
    trained: list[tuple[str, str, str]]


def lineage_section(run: RunResult) -> LineageSection:
    """The tables' stamps and the experts' windows."""
    spans = {name: getattr(run.evaluation.windows, name) for name in WINDOWS}
    return LineageSection(
        windows=", ".join(f"{name} {span.start[:10]} to {span.end[:10]}" for name, span in spans.items()),
        tables=[
            TableRow(
                table=one.table,
                content=one.stamp.content_sha256[:16],
                code=one.stamp.code_version,
                config=one.stamp.config_hash[:16],
                made_from=", ".join(f"{name} {value[:8]}" for name, value in one.stamp.inputs.items()),
            )
            for one in run.lineage
        ],
        trained=[
            (one.expert, one.status, one.train_window if isinstance(one, TrainedExpert) else "")
            for one in run.experts
        ],
    )
