"""The one page in front of a drift report: what moved, how far, since when, what it does to the predictions,
what was decided, on which data.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from components.drift.config import Settings
from components.drift.evidently_report import ordered
from components.drift.reference import Reference
from components.drift.tables import SCORE
from components.page import card, escape, number, page, plot, section, table, tile

VERDICTS = {
    "drift": ("drift", "bad"),
    "no_drift": ("no drift", "good"),
    "not_enough_data": ("not enough data", "warn"),
}
RULES = {
    "ks": "Distribution of a factor (KS)",
    "psi": "Distribution of a factor (PSI)",
    "tail": "Tail of a factor",
    "missing": "Missing values",
    "constant": "Constant factor",
    "predictions": "Predictions",
    "auc": "Classifier (AUC)",
    "label_shift": "Labels by regime",
    "information_ratio": "Information ratio",
}
WHAT = {
    "mean": "mean",
    "scale": "scale",
    "tail": "tail",
    "constant": "constant",
    "missing": "missing values",
    "shape": "shape",
}
PICTURES = 4
EVERY_LABEL = {"tickmode": "linear", "dtick": 1}


def render(
    result: Mapping[str, Any],
    kept: Reference,
    current: pl.DataFrame,
    settings: Settings,
    decision: Mapping[str, Any] | None,
    drawn: list[str],
) -> str:
    """The whole page as HTML; `drawn` are the columns on Evidently's page, `current` the rows that were
    judged.
    """
    if result["verdict"] == "not_enough_data":
        return page(
            "Drift",
            _head(result, drawn),
            [("decision", "Decision", _decision(decision)), ("data", "Data", _data(result, settings))],
            plots=False,
        )
    parts = [
        ("rules", "Rules", _rules(result, decision)),
        ("factors", "What moved", _factors(result, kept, current)),
        ("predictions", "Predictions", _predictions(result, kept, current)),
        ("outcomes", "Labels and worth", _outcomes(result)),
        ("classifier", "Classifier", _classifier(result, settings)),
        ("data", "Data", _data(result, settings)),
        ("columns", "All columns", _all_columns(result)),
    ]
    return page("Drift", _head(result, drawn), parts)


def _head(result: Mapping[str, Any], drawn: list[str]) -> str:
    word, tone = VERDICTS[result["verdict"]]
    now, fired = result["current"], [rule for rule in result["rules"] if rule["fired"]]
    version = result["reference"]["version"]
    moved = sum(entry["drifted"] for entry in result["columns"])
    found, shift, ratio = result["adversarial"], result["label_shift"], result["information_ratio"]
    span = (
        f"{now['first'][:16].replace('T', ' ')} to {now['last'][:16].replace('T', ' ')} UTC"
        if now["first"]
        else "without timestamps"
    )
    said = "; ".join(_sentence(rule, result) for rule in fired) or result["reason"]
    tiles = [
        tile(f"{moved} / {len(result['columns'])}", "factors moved"),
        tile(
            number(found and found["auc"]),
            f"AUC; training windows reach {number(found and found['usual_auc'])}",
        ),
        tile(number(shift and shift["largest"], 0, percent=True), "of labels changed class, worst regime"),
        tile(
            number(ratio and ratio["current"]),
            f"information ratio; out of sample {number(ratio and ratio['reference'])}",
        ),
    ]
    link = (
        ' <a href="evidently.html">Evidently\'s pictures of the '
        + f"{len(drawn)} columns that moved most</a>."
        if drawn
        else ""
    )
    return (
        f'<h1>Drift of {"champion version " + escape(version) if version else "the model"}<span class="badge'
        f' {tone}">{word}</span></h1><p class="soft">{now["rows"]:,} rows, {span}, against'
        f" {result['reference']['rows']:,} rows that the model learned"
        f" from.{link}</p><p>{escape(_capital(said))}.</p>"
        + (f'<div class="tiles">{"".join(tiles)}</div>' if result["columns"] else "")
    )


def _sentence(rule: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """A fired rule in a few words, with since when."""
    if not rule["factors"] or rule["rule"] == "auc":
        return f"{RULES[rule['rule']].lower()}: {rule['reason']}"
    entries = {entry["column"]: entry for entry in result["columns"]}
    shown = []
    for name in rule["factors"][:3]:
        entry = entries[name]
        since = f" since {entry['since'][:10]}" if entry["since"] else ""
        shown.append(f"{name} ({WHAT[entry['what']]}{since})")
    more = f" and {len(rule['factors']) - 3} more" if len(rule["factors"]) > 3 else ""
    return f"{RULES[rule['rule']].lower()}: {', '.join(shown)}{more}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")


def _rules(result: Mapping[str, Any], decision: Mapping[str, Any] | None) -> str:
    rows = [
        [
            escape(RULES[rule["rule"]]),
            _short(rule["value"]),
            _short(rule["threshold"]),
            '<b class="bad">fired</b>' if rule["fired"] else '<span class="soft">quiet</span>',
            escape(_capital(rule["reason"])),
        ]
        for rule in result["rules"]
    ]
    return section(
        "rules",
        "Rules",
        "A rule fires when its threshold is passed, when what training windows show is passed, and when"
        " chance is ruled out: all three.",
        card(table(["rule", "value", "threshold", "", "why"], rows, text=[0, 3, 4])),
        _decision(decision),
    )


def _decision(decision: Mapping[str, Any] | None) -> str:
    if decision is None:
        # The retraining stage writes the decision that follows between the two marks.
        return card(
            "<!--decision--><p>Nothing was decided on this report: it was asked for by hand, or the decision"
            " came later.</p><!--/decision-->",
            title="Decision",
        )
    outcome = decision.get("outcome")
    lines = [
        f"<p><b>{escape(str(decision['action']).replace('_', ' '))}</b> by {escape(decision['by'])},"
        f" {escape(decision['when'])}: {escape(decision['reason'])}</p>"
    ]
    if outcome:
        lines.append(
            f'<p class="soft">Outcome {escape(outcome.get("when", ""))}: {escape(outcome.get("status", ""))}.'
            f" {escape(outcome.get('reason', ''))}</p>"
        )
    return card("".join(lines), title="Decision")


def _factors(result: Mapping[str, Any], kept: Reference, current: pl.DataFrame) -> str:
    entries = [entry for entry in ordered(result) if entry["kind"] != "score"]
    moved = [entry for entry in entries if entry["drifted"]]
    shown = entries[: max(20, min(len(moved), 30))][::-1]
    names = [entry["column"] for entry in shown]
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": "now",
            "y": names,
            "x": [entry["ks"] for entry in shown],
            "marker": {"opacity": [1.0 if e["drifted"] else 0.35 for e in shown]},
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "most in training windows",
            "y": names,
            "x": [e["usual_ks"] for e in shown],
            "marker": {"symbol": "diamond", "size": 8},
        },
    ]
    if moved:
        rows = [
            [
                escape(e["column"]),
                escape(e["group"]),
                escape(WHAT[e["what"]]),
                escape((e["since"] or "–")[:10]),
                f"{number(e['ks'], 3)} <span class=soft>({number(e['usual_ks'], 3)})</span>",
                _p(e["ks_p_adjusted"]),
                f"{number(e['psi'])} <span class=soft>({number(e['usual_psi'])})</span>",
                (
                    f"{number(e['tail_share'], 1, percent=True)} <span"
                    f" class=soft>({number(e['usual_tail'], 1, percent=True)})</span>"
                ),
                (
                    f"{number(e['missing_share'], 0, percent=True)} <span"
                    f" class=soft>({number(e['usual_missing'], 0, percent=True)})</span>"
                ),
                f"{number(e['reference_median'], 3)} → {number(e['median'], 3)}",
                f"{number(e['reference_spread'], 3)} → {number(e['spread'], 3)}",
                escape(", ".join(e["rules"])),
            ]
            for e in moved
        ]
        header = [
            "factor",
            "group",
            "what moved",
            "since",
            "KS (usual)",
            "p corrected",
            "PSI (usual)",
            "tail (usual)",
            "missing (usual)",
            "median",
            "spread",
            "rules",
        ]
        first = card(table(header, rows, text=[0, 1, 2, 3, 11]), title=f"{len(moved)} factors moved")
    else:
        first = card(
            "<p>No factor moved beyond its threshold, beyond what training windows show, and beyond"
            " chance.</p>",
            title="Factors that moved",
        )
    pictures = [
        _picture(e["column"], kept, current, f"{WHAT[e['what']]}, rules {', '.join(e['rules'])}")
        for e in moved[:PICTURES]
        if e["rows"]
    ]
    return section(
        "factors",
        "What moved, how far, since when",
        "In brackets the most that windows of the training period differ from the rest of it: a market that"
        " training has seen is not called drift. Since: the bar from which the column stays outside; the"
        " first bar of the window means then or earlier.",
        first,
        *pictures,
        plot(
            "Kolmogorov-Smirnov distance, furthest beyond the usual first",
            bars,
            {"yaxis": EVERY_LABEL, "xaxis": {"title": "KS"}, "margin": {"l": 190, "r": 12, "t": 8, "b": 40}},
            tall=True,
            wide=True,
        ),
    )


def _picture(name: str, kept: Reference, current: pl.DataFrame, note: str, title: str = "") -> str:
    """Densities of reference (from its sketch) and now, in common bins that hold the middle of both."""
    sketch = kept.sketch[name].to_numpy()
    sample = current[name].drop_nulls().to_numpy()
    low, high = (
        min(f(sketch, q), f(sample, q)) if q < 0.5 else max(f(sketch, q), f(sample, q))
        for f, q in ((np.quantile, 0.002), (np.quantile, 0.998))
    )
    if not low < high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 36)
    centres = (edges[1:] + edges[:-1]) / 2
    lines = []
    for label, values in (("training", sketch), ("now", sample)):
        share = np.histogram(values, edges)[0] / len(values)
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": label,
                "x": centres.tolist(),
                "y": share.tolist(),
                "line": {"shape": "hvh", "width": 1.6},
                "fill": "tozeroy",
            }
        )
    return plot(title or name, lines, {"yaxis": {"title": "share of rows", "rangemode": "tozero"}}, note=note)


def _predictions(result: Mapping[str, Any], kept: Reference, current: pl.DataFrame) -> str:
    score = result["predictions"]
    if score is None:
        return section(
            "predictions",
            "What it does to the predictions",
            "The table holds no scores.",
            card("<p>Give a column <code>score</code> to see this.</p>"),
        )
    words = (
        f"KS {number(score['ks'], 3)}, training windows up to {number(score['usual_ks'], 3)}; PSI"
        f" {number(score['psi'])}, up to {number(score['usual_psi'])}"
    )
    usual = score["usual_dispersion"] or [None, None]
    rows = [
        ["median of the score", number(score["reference_median"], 5), number(score["median"], 5), "–"],
        ["spread of the score", number(score["reference_spread"], 5), number(score["spread"], 5), "–"],
        [
            "spread within a bar",
            number(score["reference_dispersion"], 5),
            number(score["dispersion"], 5),
            f"{number(usual[0], 5)} to {number(usual[1], 5)}",
        ],
    ]
    cards = [
        _picture(SCORE, kept, current, words, "Score"),
        card(
            table(["", "out of sample", "now", "training windows"], rows, text=[0]),
            title="Score in numbers",
            wide=False,
        ),
    ]
    if score["goes_along"]:
        pairs = [
            [escape(row["column"]), number(row["reference"], 3), number(row["current"], 3), _change(row)]
            for row in score["goes_along"]
        ]
        note = (
            '<p class="soft">Rank correlation of score and factor. A factor that moved and goes along with'
            " the score carries its move into the predictions; one near 0 does not.</p>"
        )
        cards.append(
            card(
                note + table(["factor that moved", "out of sample", "now", "change"], pairs, text=[0]),
                title="How much of the score goes along with what moved",
            )
        )
    return section(
        "predictions",
        "What it does to the predictions",
        "The scores now against the model's own out-of-sample scores.",
        *cards,
    )


def _change(row: Mapping[str, Any]) -> str:
    return (
        number(row["current"] - row["reference"], 3)
        if row["current"] is not None and row["reference"] is not None
        else "–"
    )


def _outcomes(result: Mapping[str, Any]) -> str:
    cards = []
    shift, ratio = result["label_shift"], result["information_ratio"]
    if shift:
        rows = [
            [
                escape(r["regime"].replace("_", " ")),
                escape(r["move"]),
                number(r["share"], 1, percent=True),
                number(r["usual"], 1, percent=True),
                _p(r["p_adjusted"]),
                " / ".join(number(s, 0, percent=True) for s in r["reference_shares"]),
                " / ".join(number(s, 0, percent=True) for s in r["shares"]),
                f"{r['rows']:,}",
                f"{r['bars']}",
            ]
            for r in shift["by_regime"]
        ]
        header = [
            "regime",
            "move",
            "changed class",
            "training windows",
            "p corrected",
            "low / middle / high, training",
            "now",
            "rows",
            "bars",
        ]
        cards.append(card(table(header, rows, text=[0, 1]), title="Label shift by regime"))
    if ratio:
        months = ratio["monthly"]
        bars = [
            {
                "type": "bar",
                "x": [m["month"] for m in months],
                "y": [m["information_ratio"] for m in months],
                "text": [f"{m['bars']} bars" for m in months],
            }
        ]
        line = [
            {
                "type": "line",
                "x0": 0,
                "x1": 1,
                "xref": "paper",
                "y0": ratio["reference"],
                "y1": ratio["reference"],
                "line": {"dash": "dot", "width": 1.5, "color": "#888"},
            }
        ]
        note = (
            "mean over spread of the daily RankIC; dotted: out of sample at training. Over all"
            f" {ratio['bars']} bars {number(ratio['current'])} against {number(ratio['reference'])}, chance"
            f" of so low a mean RankIC p = {number(ratio['p'], 3)}"
        )
        cards.append(
            plot(
                "Monthly information ratio of the scores",
                bars,
                {"shapes": line, "xaxis": {"type": "category"}},
                note=note,
                wide=True,
            )
        )
    if not cards:
        cards.append(
            card(
                "<p>No label of these rows is known yet, or the table has no timestamps or symbols to find"
                " them by.</p>"
            )
        )
    return section(
        "outcomes",
        "Labels, and what the scores were worth",
        "Known only once the label's horizon has passed.",
        *cards,
    )


def _classifier(result: Mapping[str, Any], settings: Settings) -> str:
    found = result["adversarial"]
    if not found:
        return section(
            "classifier",
            "Classifier",
            "Not measured: too few bars or symbols, no timestamps, or switched off.",
        )
    factors = found["factors"][::-1]
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [f["column"] for f in factors],
            "x": [f["importance"] for f in factors],
        }
    ]
    lines = [
        ["now", number(found["auc"])],
        [f"highest of {found['windows']} training windows", number(found["usual_auc"])],
        [
            f"what a further window passes with a chance of {settings.ks_p / 10:g}",
            number(found["usual_limit"]),
        ],
        ["threshold", number(settings.auc)],
    ]
    return section(
        "classifier",
        "Can a classifier tell now from training?",
        "Gradient boosting, judged on blocks of bars and on symbols that it did not learn from; 0.5 is a"
        " coin. Calendar, market-wide columns and levels that rise and fall together are left out.",
        plot(
            "What it looks at",
            bars,
            {"yaxis": EVERY_LABEL, "xaxis": {"title": "share of gain", "tickformat": ".0%"}},
        ),
        card(
            table(["area under the curve", ""], [[escape(a), b] for a, b in lines], text=[0]),
            title="AUC",
            wide=False,
        ),
    )


def _data(result: Mapping[str, Any], settings: Settings) -> str:
    reference, now = result["reference"], result["current"]
    effective = [entry["effective_rows"] for entry in result["columns"]]
    lines = [
        [
            "reference",
            (
                f"{reference['rows']:,} rows of {reference['bars']:,} bars,"
                f" {escape(reference['train_window'].replace('/', ' to '))}"
            ),
        ],
        [
            "model",
            (
                f"version {escape(reference['version'] or '–')}, bundle"
                f" <code>{escape((reference['bundle_sha256'] or '–')[:16])}</code>"
            ),
        ],
        [
            "current",
            (
                f"{now['rows']:,} rows of {now['bars'] if now['bars'] is not None else 'unknown'} bars,"
                f" {escape(now['first'] or '')} to {escape(now['last'] or '')}"
            ),
        ],
        ["from", f"{escape(now['source'])}, content <code>{escape((now['sha256'] or '–')[:16])}</code>"],
        [
            "symbols now",
            (
                f"{escape(now['symbols'] if now['symbols'] is not None else 'unknown')}; a bar of the"
                f" reference holds {number(now['rows_per_bar_in_reference'], 1)} rows"
            ),
        ],
    ]
    if effective:
        lines += [
            [
                "effective rows now",
                f"{min(effective):,.0f} to {max(effective):,.0f} by column, median"
                f" {float(np.median(effective)):,.0f}"
                + ("" if now["first"] else "; without timestamps rows count as independent"),
            ],
            [
                "corrected for",
                (
                    f"{len(effective)} columns{' and the score' if result['predictions'] else ''} at once"
                    f" (Benjamini and Hochberg), level {settings.ks_p:g}, for each kind of test"
                ),
            ],
            [
                "usual in training",
                (
                    f"windows of {reference['window_bars']} bars; the same tests call at most"
                    f" {reference['usual_flagged']['most']} columns of one of them moved,"
                    f" {number(reference['usual_flagged']['mean'], 1)} on average"
                ),
            ],
        ]
    return section(
        "data",
        "On which data",
        "What a reviewer needs to trust or overrule this page.",
        card(table(["", ""], [[escape(a), b] for a, b in lines], text=[0, 1])),
    )


def _all_columns(result: Mapping[str, Any]) -> str:
    entries = ordered(result)
    rows = [
        [
            escape(e["column"]),
            escape(e["group"]),
            number(e["ks"], 3),
            number(e["usual_ks"], 3),
            _p(e["ks_p_adjusted"]),
            number(e["psi"]),
            number(e["usual_psi"]),
            number(e["missing_share"], 1, percent=True),
            number(e["tail_share"], 2, percent=True),
            number(e["effective_rows"], 0),
            escape(", ".join(e["rules"])),
        ]
        for e in entries
    ]
    header = [
        "column",
        "group",
        "KS",
        "usual",
        "p corrected",
        "PSI",
        "usual",
        "missing",
        "tail",
        "effective rows",
        "fired",
    ]
    chosen = [k for k, e in enumerate(entries) if e["drifted"]]
    return section(
        "columns",
        "All columns",
        "Furthest beyond the usual first.",
        card(table(header, rows, text=[0, 1, 10], chosen=chosen)),
    )


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


def _short(value: Any) -> str:
    return "–" if value is None else f"{value:.3g}"
