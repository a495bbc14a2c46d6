"""The page of an ablation: what each variant of an expert's settings loses or gains against the
full model.
"""

from collections.abc import Mapping
from typing import Any

from components.experts.studies.ablation import table_rows
from components.page import card, escape, number, page, plot, section, table


def ablation_page(result: Mapping[str, Any]) -> str:
    """The whole page as HTML, out of what `ablate` returned."""
    test = result["window"] == "test"
    badge = (
        '<span class="badge bad">judged on the test window</span>'
        if test
        else '<span class="badge">validation</span>'
    )
    warning = (
        "These are test days: whoever chooses a variant by this page has used them up. "
        if test
        else "The test window was not touched. "
    )
    head = (
        f"<h1>Ablation of {escape(result['leaf'])}{badge}</h1><p class=soft>{escape(result['target'])} over"
        f" {result['horizon']} bars, {result['days']:,} days, {escape(result['first'][:10])} to"
        f" {escape(result['last'][:10])}, {len(result['seeds'])} seeds. {warning}</p>"
    )
    header, rows = table_rows(result, number)
    shown = table(
        header,
        [[escape(cell) for cell in row] for row in rows],
        chosen=[0],
        text=[1] if any("failed" in one for one in result["variants"]) else [],
    )
    intro = (
        "± after a figure is its spread over seeds; ± of the difference its standard error, paired by day"
        " (Newey and West), seeds averaged: it does not hold the chance of the seeds themselves."
    )
    parts = [
        ("table", "Table", section("table", "Variants", intro, card(shown))),
        (
            "differences",
            "Differences",
            section(
                "differences",
                "Against the full model",
                "Left of 0 a variant is worse. Bars: two standard errors.",
                _differences(result),
                _seeds(result),
            ),
        ),
        (
            "settings",
            "Settings",
            section("settings", "Settings", "What each variant changes.", card(_settings(result))),
        ),
    ]
    return page(f"Ablation of {result['leaf']}", head, parts)


def _differences(result: Mapping[str, Any]) -> str:
    compared = [one for one in reversed(result["variants"]) if one.get("difference")]
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [one["difference"]["mean"] for one in compared],
            "y": [one["name"] for one in compared],
            "error_x": {
                "type": "data",
                "array": [2 * (one["difference"]["error"] or 0.0) for one in compared],
            },
            "marker": {"size": 10},
        }
    ]
    return plot(
        "Difference in daily RankIC",
        data,
        {
            "xaxis": {"title": "RankIC less that of the full model", "zeroline": True, "zerolinewidth": 2},
            "yaxis": {"type": "category"},
        },
    )


def _seeds(result: Mapping[str, Any]) -> str:
    trained = [one for one in reversed(result["variants"]) if "failed" not in one]
    pairs = [(one["name"], value) for one in trained for value in one["rank_ic"]["by_seed"]]
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [value for _, value in pairs],
            "y": [name for name, _ in pairs],
            "marker": {"size": 9, "opacity": 0.7},
        }
    ]
    return plot(
        "RankIC, one point a seed", data, {"xaxis": {"title": "RankIC"}, "yaxis": {"type": "category"}}
    )


def _settings(result: Mapping[str, Any]) -> str:
    whole = _flat(result["settings"]["full"])
    rows = []
    for name, settings in result["settings"].items():
        changed = {key: value for key, value in _flat(settings).items() if whole.get(key) != value}
        rows.append(
            [
                escape(name),
                ", ".join(f"<code>{escape(key)}: {escape(value)}</code>" for key, value in changed.items())
                or "–",
            ]
        )
    return table(["variant", "settings that differ"], rows, text=[1])


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return flat
