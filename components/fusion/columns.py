"""What other stages and the join ask of the slow columns that a config declares."""

from collections.abc import Mapping
from typing import Any

from components.fusion.config import ColumnSettings, Settings, TableSettings


def slow_columns(settings: Settings) -> list[dict[str, Any]]:
    """What features need to know of each fused column: name, group, normalisation, modality, source."""
    return [
        {
            "name": column.name,
            "group": column.group or table.group or table.name,
            "normalisation": column.normalisation,
            "modality": column.modality or table.modality,
            "source": f"{table.path}: {column.source_column}{_words(column)}",
        }
        for table in settings.tables
        for column in table.columns
    ]


def _words(column: ColumnSettings) -> str:
    ratio = f" / {column.divide_by}" if column.divide_by else ""
    return (
        ratio
        if column.transform == "level"
        else f"{ratio}, {column.transform.replace('_', ' ')} over {column.observations} observations"
    )


def age_limit_days(table: TableSettings) -> Mapping[str, float]:
    """`max_age_days` of each column."""
    return {column.name: column.max_age_days or table.max_age_days for column in table.columns}
