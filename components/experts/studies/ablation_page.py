"""The page of an ablation: what each variant of an expert's settings loses or gains against the
full model.
"""

from collections.abc import Mapping
from typing import Any

from components.contracts.documents.experts import Ablation, FailedVariant, Variant
from components.experts.studies.ablation import FULL, judged, table_rows
from components.page import figure, number, render


def ablation_page(result: Ablation) -> str:
    """The whole page as HTML, out of what `ablate` returned."""
    header, rows = table_rows(result, number)
    failed = any(isinstance(one, FailedVariant) for one in result.variants)
    return render(
        "experts/studies/ablation_page.html",
        result=result,
        header=header,
        rows=rows,
        text=[1] if failed else [],
        differences=_differences(result),
        seeds=_seeds(result),
        changes=_changes(result),
    )


def _trained(result: Ablation) -> list[Variant]:
    """Upwards, as Plotly draws categories."""
    return [one for one in reversed(result.variants) if isinstance(one, Variant)]


def _differences(result: Ablation) -> dict[str, Any]:
    compared = [one for one in _trained(result) if one.difference is not None]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": [one.difference.mean for one in compared],
        "y": [one.name for one in compared],
        "error_x": {"type": "data", "array": [2 * (one.difference.error or 0.0) for one in compared]},
        "marker": {"size": 10},
    }
    axis = {"title": f"{result.judged_by} less that of the full model", "zeroline": True, "zerolinewidth": 2}
    return figure([points], {"xaxis": axis, "yaxis": {"type": "category"}})


def _seeds(result: Ablation) -> dict[str, Any]:
    pairs = [(one.name, value) for one in _trained(result) for value in judged(one).by_seed]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": [value for _, value in pairs],
        "y": [name for name, _ in pairs],
        "marker": {"size": 9, "opacity": 0.7},
    }
    return figure([points], {"xaxis": {"title": result.judged_by}, "yaxis": {"type": "category"}})


def _changes(result: Ablation) -> dict[str, list[str]]:
    """By variant, its settings that differ from the full model's."""
    whole = _flat(result.settings[FULL])
    return {
        name: [f"{key}: {value}" for key, value in _flat(settings).items() if whole.get(key) != value]
        for name, settings in result.settings.items()
    }


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return flat
