"""The report of a finished run: data health, factors, experts side by side, calibration, money, where it
works, gates, lineage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from components.page import card, escape, number, page, plot, section, table, tile
from components.report.factor_ic import FactorIc
from components.report.summary import ordered_models

MOST_POINTS = 1500
SIGNIFICANT = 0.05
HEAT = [[0, "#b3261e"], [0.5, "rgba(128,128,128,0.08)"], [1, "#2456c9"]]
DEPTH = [[0, "rgba(36,86,201,0.05)"], [1, "rgba(36,86,201,0.85)"]]
EVERY_LABEL = {"tickmode": "linear", "dtick": 1}
PAGES = {
    "audit": "leak audit",
    "fusion": "fusion of slow tables",
    "selection_tree_base": "selection for trees",
    "selection_tree_rich": "selection for trees, rich",
    "selection_linear_base": "selection for linear models",
    "selection_linear_rich": "selection for linear models, rich",
}
NAMES = {
    "stack": "Stack (chosen)",
    "equal_weights": "Equal weights",
    "performance_weights": "Performance weights",
    "best_single": "Best single",
    "z_elasticnet": "Z ElasticNet",
    "z_lightgbm": "Z LightGBM",
    "median": "Median",
    "elasticnet": "ElasticNet",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "patchtst": "PatchTST",
}


@dataclass(frozen=True)
class RunResult:
    """Everything that the page shows, as the stages wrote it."""

    summary: Mapping[str, Any]
    panel: pl.DataFrame
    quarantine: pl.DataFrame
    health: Mapping[str, Any]
    factor_ic: FactorIc
    label_shift: pl.DataFrame
    audit: Mapping[str, Any]
    oof_audit: Mapping[str, Any]
    comparison: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    returns: pl.DataFrame
    experts: Sequence[Mapping[str, Any]]
    explanations: Mapping[str, Mapping[str, Any]]
    lineage: Sequence[Mapping[str, Any]]
    pages: Mapping[str, str]


def render(run: RunResult) -> str:
    """The whole page as HTML."""
    parts = [
        ("data", "Data", _data(run)),
        ("factors", "Factors", _factors(run)),
        ("experts", "Experts", _experts(run)),
        ("calibration", "Calibration", _calibration(run)),
        ("money", "Money", _money(run)),
        ("where", "Where it works", _where(run)),
        ("gates", "Gates", _gates(run)),
        ("lineage", "Lineage", _lineage(run)),
    ]
    return page(f"{run.summary['name']}: run report", _head(run), parts)


def _head(run: RunResult) -> str:
    summary, registration = run.summary, run.summary["registration"]
    stack = next(row for row in summary["models"] if row["name"] == "stack")
    word, tone = ("approved", "good") if summary["approved"] else ("rejected", "bad")
    passed = sum(gate["passed"] for gate in summary["gates"])
    low, high = stack["sharpe_net_interval"]
    version = (
        f"version {registration['version']} {'/'.join(registration['aliases'])}"
        if registration["version"]
        else "not registered"
    )
    tiles = [
        tile(number(stack["ic"], 4), "IC of the stack, test window"),
        tile(number(stack["rank_ic"], 4), f"RankIC, t = {number(stack['t'], 1)} (Newey-West)"),
        tile(
            number(stack["sharpe_net"]),
            f"Sharpe net of {summary['cost_bps']:g} bps a side [{number(low, 1)}, {number(high, 1)}]",
        ),
        tile(number(stack["max_drawdown"], 1, percent=True), "largest drawdown, net"),
        tile(f"{passed} / {len(summary['gates'])}", "gates passed"),
    ]
    if summary["truth"]:
        tiles.append(
            tile(
                number(summary["truth"]["recovered_share"], 0, percent=True),
                f"of the attainable IC {number(summary['truth']['attainable_ic'], 3)} (planted)",
            )
        )
    return (
        f'<h1>{escape(summary["name"])}<span class="badge {tone}">{word}</span></h1>'
        f'<p class="soft">Test window {escape(summary["test_window"])}, label {escape(summary["target"])}'
        f" over {summary['horizon']} bars, seed {summary['seed']}, "
        f"{escape(version)}, trial {registration['trials']} on this window. {escape(summary['reason'])}</p>"
        f"{_links(run.pages)}"
        f'<div class="tiles">{"".join(tiles)}</div>'
    )


def _links(pages: Mapping[str, str]) -> str:
    links = [
        '<a href="data_docs/index.html">data checks</a>',
        *(f'<a href="{escape(place)}">{escape(PAGES[name])}</a>' for name, place in pages.items()),
    ]
    return f'<p class="soft">Evidence: {", ".join(links)}.</p>'


def _data(run: RunResult) -> str:
    daily = _thin(run.panel.group_by("timestamp").agg(pl.len().alias("symbols")).sort("timestamp"))
    breadth = plot(
        "Symbols with a bar",
        [_line(daily, "symbols", "symbols", fill="tozeroy")],
        {"yaxis": {"rangemode": "tozero"}},
    )
    reasons = (
        run.quarantine.group_by("reason").len().sort("len")
        if "reason" in run.quarantine.columns and len(run.quarantine)
        else pl.DataFrame({"reason": [], "len": []})
    )
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [escape(r) for r in reasons["reason"]],
            "x": reasons["len"].to_list(),
        }
    ]
    quarantined = (
        plot("Quarantined rows by reason", bars, {"xaxis": {"title": "rows"}})
        if len(reasons)
        else card("<p>No row was quarantined.</p>", title="Quarantined rows", wide=False)
    )
    span = f"{run.panel['timestamp'].min():%Y-%m-%d} to {run.panel['timestamp'].max():%Y-%m-%d}"
    hindsight = run.health["hindsight_quarantined"]
    checked = run.audit.get("checked", {})
    facts = (
        f"{len(run.panel):,} rows of {run.panel['symbol'].n_unique():,} symbols, {span};"
        f" {len(run.quarantine):,} rows quarantined, {hindsight:,} of them by what later bars showed."
    )
    leaks = (
        f"Leak audit: {len(run.audit['leaks'])} leaks in {checked.get('factors', 0)} factor columns and the"
        f" labels, {checked.get('factor_values_compared', 0):,} values compared at"
        f" {len(checked.get('cuts', []))} cuts."
    )
    return section(
        "data",
        "Data health",
        f"{facts} {leaks} Every check is in the Data Docs beside this report.",
        breadth,
        quarantined,
    )


def _factors(run: RunResult) -> str:
    ic = run.factor_ic
    top = ic.table.head(25)
    order = top["column"].to_list()[::-1]
    ranked = {row["column"]: row for row in top.to_dicts()}
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": "before the test window",
            "y": order,
            "x": [ranked[c]["rank_ic"] for c in order],
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "test window",
            "y": order,
            "x": [ranked[c]["rank_ic_test"] for c in order],
            "marker": {"symbol": "diamond", "size": 8},
        },
    ]
    years = sorted(ic.by_year["year"].unique())
    values = {(r["column"], r["year"]): r["rank_ic"] for r in ic.by_year.to_dicts()}
    heat = [[values.get((c, y)) for y in years] for c in order]
    limit = max((abs(v) for row in heat for v in row if v is not None), default=0.1)
    heat_plot = [
        {
            "type": "heatmap",
            "x": [str(y) for y in years],
            "y": order,
            "z": heat,
            "zmin": -limit,
            "zmax": limit,
            "colorscale": HEAT,
            "colorbar": {"thickness": 10},
            "xgap": 1,
            "ygap": 1,
        }
    ]
    decay = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": part["lag"].to_list(),
            "y": part["rank_ic"].to_list(),
        }
        for (name,), part in ic.decay.partition_by("column", as_dict=True, maintain_order=True).items()
    ]
    groups = (
        ic.table.group_by("group")
        .agg(pl.col("rank_ic").abs().mean().alias("size"))
        .sort("size", descending=True, nulls_last=True)
    )
    group_bars = [{"type": "bar", "x": groups["group"].to_list(), "y": groups["size"].to_list()}]
    rows = [
        [
            escape(r["column"]),
            escape(r["group"]),
            number(r["rank_ic"], 4),
            number(r["t"], 1),
            number(r["icir"], 2),
            number(r["rank_ic_test"], 4),
        ]
        for r in top.head(12).to_dicts()
    ]
    return section(
        "factors",
        "Factors",
        "RankIC of each model input alone with the label. Order and curves use only bars before the test"
        " window; diamonds show what came after.",
        plot(
            "The 25 strongest factors",
            bars,
            {"xaxis": {"title": "mean RankIC"}, "yaxis": EVERY_LABEL},
            tall=True,
        ),
        plot("The same by year", heat_plot, {"xaxis": {"type": "category"}, "yaxis": EVERY_LABEL}, tall=True),
        plot(
            "Decay over lags",
            decay,
            {"xaxis": {"title": "bars after the signal"}, "yaxis": {"title": "RankIC"}},
        ),
        plot("Mean size of RankIC by group", group_bars),
        card(
            table(["factor", "group", "RankIC", "t", "ICIR", "RankIC test"], rows, text=[0, 1]),
            title="Strongest factors before the test window",
        ),
    )


def _experts(run: RunResult) -> str:
    names = ordered_models(run.evaluation)
    blocks = {name: run.evaluation["experts"][name]["test"] for name in names}
    means = [blocks[n]["rank_ic"]["mean"] for n in names]
    errors = [_error(blocks[n]["rank_ic"]) for n in names]
    bars = [
        {
            "type": "bar",
            "x": [_name(n) for n in names],
            "y": means,
            "error_y": {"type": "data", "array": errors, "thickness": 1.2},
        }
    ]
    lines = []
    for name in names:
        daily = blocks[name]["daily"]
        values = np.array([v if v is not None else 0.0 for v in daily["rank_ic"]])
        frame = _thin(pl.DataFrame({"timestamp": daily["timestamp"], "total": np.cumsum(values)}))
        lines.append(
            _line(
                frame,
                "total",
                _name(name),
                visible=True if name in ("stack", "equal_weights", "lightgbm", "patchtst") else "legendonly",
            )
        )
    decay = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": _name(n),
            "x": [d["lag"] for d in blocks[n]["decay"]],
            "y": [d["rank_ic"] for d in blocks[n]["decay"]],
        }
        for n in names
        if n not in ("median",)
    ]
    rows = [_model_row(n, blocks[n], run) for n in names]
    header = [
        "model",
        "IC",
        "RankIC",
        "ICIR",
        "t",
        "IC of log return",
        "Sharpe gross",
        "Sharpe net",
        "drawdown",
        "turnover a year",
        "fit s",
    ]
    weights = sorted(run.comparison.get("weights", {}).items(), key=lambda item: -abs(item[1]))[:16]
    validation = run.comparison["validation_rank_ic"]
    extra = [
        plot(
            "What the stack chose on validation",
            [{"type": "bar", "x": [_name(k) for k in validation], "y": list(validation.values())}],
            {"yaxis": {"title": "validation RankIC"}},
            note=run.comparison["reason"],
        ),
    ]
    if weights:
        extra.append(
            plot(
                "Weights of the chosen combiner",
                [{"type": "bar", "x": [escape(k) for k, _ in weights], "y": [v for _, v in weights]}],
                note="share of gain for trees; coefficient for linear and fixed weights",
            )
        )
    failed = run.oof_audit.get("failed_experts", {})
    loud = (
        card(
            "".join(
                f'<p class="bad"><b>{escape(k)}</b> was left out: {escape(v)}</p>' for k, v in failed.items()
            ),
            title="Failed experts",
        )
        if failed
        else ""
    )
    return section(
        "experts",
        "Experts side by side",
        "Out of sample on the test window. Whiskers are 1.96 Newey-West standard errors: a bar whose whisker"
        " crosses zero may be luck.",
        loud,
        plot("RankIC", bars, {"yaxis": {"title": "mean RankIC"}}),
        plot(
            "RankIC added up over time",
            lines,
            {"yaxis": {"title": "sum of RankIC"}},
            note="click a name to show or hide it",
        ),
        plot(
            "How long a signal lives",
            decay,
            {"xaxis": {"title": "bars after the signal"}, "yaxis": {"title": "RankIC"}},
        ),
        *extra,
        *_gates_of_networks(run),
        card(table(header, rows, chosen=[names.index("stack")]), title="Figures"),
    )


def _gates_of_networks(run: RunResult) -> list[str]:
    """For networks: how open each feature gate is, which inputs are selected, and which factor group counts
    in which regime.
    """
    cards = []
    for name, explanation in run.explanations.items():
        weights = explanation.get("weights", {})
        for evidence, title, axis in (
            ("feature_gate", "most closed and most open feature gates", "mean opening"),
            ("variable_selection", "inputs least and most selected", "mean weight"),
        ):
            if evidence not in weights:
                continue
            found = sorted(zip(weights[evidence]["mean"], weights[evidence]["columns"], strict=True))
            shown = [*found[:10], *found[-10:]] if len(found) > 20 else found
            bars = [
                {
                    "type": "bar",
                    "orientation": "h",
                    "y": [column for _, column in shown],
                    "x": [value for value, _ in shown],
                }
            ]
            limits = {"range": [0, 1]} if evidence == "feature_gate" else {"rangemode": "tozero"}
            cards.append(
                plot(
                    f"{_name(name)}: {title}",
                    bars,
                    {"xaxis": {**limits, "title": axis}, "yaxis": EVERY_LABEL},
                    tall=True,
                )
            )
        if "regime_gate" in weights:
            gate = weights["regime_gate"]
            heat = [
                {
                    "type": "heatmap",
                    "x": gate["columns"],
                    "y": list(gate["by_regime"]),
                    "z": list(gate["by_regime"].values()),
                }
            ]
            heat[0] |= {"colorscale": DEPTH, "colorbar": {"thickness": 10}, "texttemplate": "%{z:.2f}"}
            cards.append(plot(f"{_name(name)}: weight of each factor group by regime", heat, tall=True))
    return cards


def _calibration(run: RunResult) -> str:
    names = [
        n
        for n in ordered_models(run.evaluation)
        if n not in ("performance_weights", "z_elasticnet", "z_lightgbm")
    ]
    blocks = {n: run.evaluation["experts"][n]["test"]["calibration"] for n in names}
    wanted = (("below_p10", 0.1), ("below_p50", 0.5), ("below_p90", 0.9))
    dots = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": key.removeprefix("below_"),
            "x": [_name(n) for n in names],
            "y": [blocks[n][key] for n in names],
            "marker": {"size": 10},
        }
        for key, _ in wanted
    ]
    lines = [
        {
            "type": "line",
            "x0": 0,
            "x1": 1,
            "xref": "paper",
            "y0": v,
            "y1": v,
            "line": {"dash": "dot", "width": 1, "color": "#888"},
        }
        for _, v in wanted
    ]
    curves = []
    for name in ("stack", "lightgbm", "patchtst", "tft", "adaptive_tft"):
        if name in blocks:
            rows = blocks[name]["reliability"]
            curves.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": _name(name),
                    "x": [1e4 * r["predicted"] for r in rows],
                    "y": [1e4 * r["realised"] for r in rows],
                }
            )
    points = [x for curve in curves for x in curve["x"]] or [0.0]
    curves.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "ideal",
            "x": [min(points), max(points)],
            "y": [min(points), max(points)],
            "line": {"dash": "dot", "color": "#888"},
        }
    )
    return section(
        "calibration",
        "Calibration",
        "Do the bands hold what they promise, and is a predicted basis point a realised one?",
        plot(
            "Share of labels below p10, p50 and p90",
            dots,
            {"yaxis": {"range": [0, 1]}, "shapes": lines},
            note="dotted: what a calibrated model reaches",
        ),
        plot(
            "Predicted against realised, by decile of the score",
            curves,
            {"xaxis": {"title": "predicted, bps"}, "yaxis": {"title": "realised, bps"}},
        ),
    )


def _money(run: RunResult) -> str:
    window = run.returns.filter(pl.col("window") == "backtest").sort("timestamp")
    curves, drawdowns = [], []
    for name in ("stack", "equal_weights", "best_single"):
        part = window.filter((pl.col("expert") == name) & (pl.col("strategy") == "long_short"))
        if part.is_empty():
            continue
        both = part.select(
            "timestamp",
            net=(1 + pl.col("net_return")).cum_prod(),
            gross=(1 + pl.col("gross_return")).cum_prod(),
        )
        falls = _thin(both.select("timestamp", fall=pl.col("net") / pl.col("net").cum_max() - 1))
        both = _thin(both)
        curves.append(_line(both, "net", f"{_name(name)} net"))
        if name == "stack":
            curves.append(_line(both, "gross", "Stack gross", dash="dot"))
        drawdowns.append(_line(falls, "fall", _name(name), fill="tozeroy" if name == "stack" else None))
    long_only = window.filter((pl.col("expert") == "stack") & (pl.col("strategy") == "long_only"))
    held = _thin(
        long_only.select(
            "timestamp",
            net=(1 + pl.col("net_return")).cum_prod(),
            market=(1 + pl.col("benchmark_return")).cum_prod(),
        )
    )
    versus = [
        _line(held, "net", "Stack, long only, net"),
        _line(held, "market", "Every name alike", dash="dot"),
    ]
    turnover = _thin(
        window.filter((pl.col("expert") == "stack") & (pl.col("strategy") == "long_short")).select(
            "timestamp", turnover=pl.col("turnover").rolling_mean(20)
        )
    )
    cost = run.evaluation["cost_bps_per_side"]
    return section(
        "money",
        "Money",
        f"Signals trade at the first price after they were known; {cost:g} bps a side on every traded weight;"
        " stops and sizing as configured.",
        plot("Long-short quantiles: growth of 1", curves, wide=True),
        plot("Drawdown, net", drawdowns, {"yaxis": {"tickformat": ".0%"}}),
        plot("Long only against every name alike", versus),
        plot(
            "Turnover a bar, mean of 20 bars",
            [_line(turnover, "turnover", "stack")],
            {"yaxis": {"rangemode": "tozero"}},
            wide=True,
        ),
    )


def _where(run: RunResult) -> str:
    names = [
        n
        for n in ordered_models(run.evaluation)
        if n not in ("median", "performance_weights", "z_elasticnet", "z_lightgbm")
    ]
    cards = []
    for key, title in (("by_regime", "By regime"), ("by_year", "By year"), ("by_sector", "By sector")):
        groups = [
            str(row[key.removeprefix("by_")]) for row in run.evaluation["experts"]["stack"]["test"][key]
        ]
        z = []
        for name in names:
            found = {
                str(r[key.removeprefix("by_")]): r["rank_ic"]
                for r in run.evaluation["experts"][name]["test"][key]
            }
            z.append([found.get(g) for g in groups])
        limit = max((abs(v) for row in z for v in row if v is not None), default=0.1)
        heat = [
            {
                "type": "heatmap",
                "x": groups,
                "y": [_name(n) for n in names],
                "z": z,
                "zmin": -limit,
                "zmax": limit,
                "colorscale": HEAT,
                "colorbar": {"thickness": 10},
                "xgap": 1,
                "ygap": 1,
            }
        ]
        heat[0] |= {"texttemplate": "%{z:.3f}"} if len(groups) <= 8 else {}
        cards.append(plot(title, heat, {"xaxis": {"type": "category"}}, wide=key == "by_sector"))
    cards.append(
        card(
            _label_shift(run.label_shift),
            title=(
                "Labels by regime, against the other regimes and against the same regime before the test"
                " window"
            ),
        )
    )
    return section(
        "where", "Where it works", "RankIC on the test window in parts. Small parts are noisy.", *cards
    )


def _label_shift(shift: pl.DataFrame) -> str:
    """The table of `components.metrics.regime_shift`; rows that stand out moved by more than chance, all rows
    counted.
    """
    rows = shift.to_dicts()
    cells = [
        [
            escape(r["regime"].replace("_", " ")),
            escape(r["against"].replace("_", " ")),
            f"{r['bars']:,}",
            *(
                number(r[name], 4)
                for name in ("mean", "mean_against", "deviation", "deviation_against", "ks", "ks_by_chance")
            ),
            number(r["effective_rows"], 0),
            number(r["adjusted_p_value"], 3),
        ]
        for r in rows
    ]
    header = [
        "regime",
        "against",
        "bars",
        "mean",
        "there",
        "deviation",
        "there",
        "KS",
        "KS by chance",
        "effective rows",
        "p, adjusted",
    ]
    moved = [
        k
        for k, r in enumerate(rows)
        if r["adjusted_p_value"] is not None and r["adjusted_p_value"] < SIGNIFICANT
    ]
    return table(header, cells, text=[0, 1], chosen=moved)


def _gates(run: RunResult) -> str:
    rows = []
    for gate in run.summary["gates"]:
        mark = '<span class="good">pass</span>' if gate["passed"] else '<span class="bad">fail</span>'
        rows.append(
            [
                escape(gate["name"].replace("_", " ")),
                _short(gate["value"]),
                f"{escape(gate['comparison'])} {_short(gate['threshold'])}",
                mark,
                escape(gate["level"]),
                escape(gate["reason"].split(":")[0]),
            ]
        )
    history = run.summary["registration"].get("history", [])
    past = [[escape(h["version"]), escape(h["when"]), escape(h["who"]), escape(h["why"])] for h in history]
    cards = [card(table(["gate", "value", "threshold", "", "for", "what it asks"], rows, text=[0, 3, 4, 5]))]
    if past:
        cards.append(
            card(
                table(["version", "champion since (UTC)", "by", "why"], past, text=[0, 1, 2, 3]),
                title="Champions so far",
            )
        )
    return section(
        "gates",
        "Gates",
        "Every threshold must be met for the registry, the champion must be beaten for promotion.",
        *cards,
    )


def _lineage(run: RunResult) -> str:
    rows = [
        [
            escape(r["table"]),
            f"<code>{escape(r['content_sha256'][:16])}</code>",
            f"<code>{escape(r['code_version'])}</code>",
            f"<code>{escape(r['config_hash'][:16])}</code>",
            escape(", ".join(r["inputs"])),
        ]
        for r in run.lineage
    ]
    windows = ", ".join(
        f"{name} {w['start'][:10]} to {w['end'][:10]}" for name, w in run.evaluation["windows"].items()
    )
    trained = [
        [escape(e["expert"]), escape(e.get("status", "")), escape(e.get("train_window", ""))]
        for e in run.experts
    ]
    return section(
        "lineage",
        "Lineage",
        f"What went in, by content. Windows: {windows}.",
        card(table(["table", "content SHA-256", "code", "config", "made from"], rows, text=[0, 1, 2, 3, 4])),
        card(table(["expert", "status", "served model trained on"], trained, text=[0, 1, 2])),
    )


def _short(value: Any) -> str:
    """A gate's number in at most four digits."""
    return "–" if value is None else f"{value:.4g}"


def _model_row(name: str, block: Mapping[str, Any], run: RunResult) -> list[str]:
    portfolio = block["portfolio"]["long_short"]
    seconds = {e["expert"]: e.get("seconds") for e in run.experts}
    return [
        escape(_name(name)),
        number(block["ic"]["mean"], 4),
        number(block["rank_ic"]["mean"], 4),
        number(block["ic"]["icir"]),
        number(block["rank_ic"]["t_hac"], 1),
        number(block["ic_log_return"]["mean"], 4),
        number(portfolio["sharpe_gross"]),
        number(portfolio["sharpe_net"]),
        number(portfolio["max_drawdown"], 1, percent=True),
        number(portfolio["annual_turnover"], 1),
        number(seconds.get(name), 0),
    ]


def _error(summary: Mapping[str, Any]) -> float | None:
    """1.96 standard errors of a mean with t-statistic `t_hac`."""
    mean, t = summary["mean"], summary["t_hac"]
    return 1.96 * abs(mean / t) if mean and t else None


def _line(
    frame: pl.DataFrame,
    column: str,
    name: str,
    *,
    dash: str | None = None,
    fill: str | None = None,
    visible: Any = True,
) -> dict:
    moments = frame["timestamp"]
    times = (
        moments.dt.strftime("%Y-%m-%d %H:%M").to_list() if moments.dtype != pl.String else moments.to_list()
    )
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": times,
        "y": frame[column].to_list(),
        "visible": visible,
        "line": {"width": 1.6, **({"dash": dash} if dash else {})},
    }
    return line | ({"fill": fill} if fill else {})


def _thin(frame: pl.DataFrame) -> pl.DataFrame:
    """Every k-th row and the last one, so that a curve has at most MOST_POINTS points."""
    step = -(-len(frame) // MOST_POINTS)
    if step <= 1:
        return frame
    return pl.concat([frame.gather_every(step), frame.tail(1)]).unique(maintain_order=True)


def _name(name: str) -> str:
    return NAMES.get(name, escape(name))
