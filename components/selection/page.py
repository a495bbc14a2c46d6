"""The evidence page: which factors were chosen and why, how they did by era, lags and half-lives, and what
the choice was worth going forward.
"""

from collections.abc import Sequence

import polars as pl

from components.page import card, escape, number, page, plot, section, table, tile
from components.selection.choose import CHOSEN
from components.selection.eras import METHODS
from components.selection.select import Overview, Selection

METHOD_NAMES = {
    "rolling_ic": "rolling IC",
    "mutual_information": "mutual information",
    "importance": "importance",
    "shap": "SHAP",
    "linear_path": "linear path",
    "permutation": "permutation",
    "boruta": "Boruta",
    "elimination": "elimination",
    "genetic": "genetic search",
    "gate_weight": "gate weight",
}
STYLE = """
.tools { display: flex; flex-wrap: wrap; gap: .6rem; margin: 0 0 .6rem; } .tools input, .tools select { font: inherit; color: var(--ink); background: var(--page); border: 1px solid var(--line); border-radius: 6px; padding: .25rem .5rem; }
table.sorts th { cursor: pointer; } table.sorts th[data-order]::after { content: " \\25be"; } table.sorts th[data-order="up"]::after { content: " \\25b4"; }
.window { display: block; font-weight: 400; font-size: .8em; } td.reason { white-space: normal; min-width: 15rem; text-align: left; } td { white-space: nowrap; } th { white-space: normal; }
.core { color: var(--good); font-weight: 600; } .plus { color: var(--accent); font-weight: 600; }
"""
SCRIPT = """
for (const area of document.querySelectorAll(".sortable")) {
  const table = area.querySelector("table"), head = table.rows[0];
  table.classList.add("sorts");
  const body = () => [...table.rows].slice(1);
  const value = (row, k) => { const text = row.cells[k].textContent.trim(), figure = parseFloat(text.replace(/[,%]/g, "")); return isNaN(figure) ? text : figure; };
  [...head.cells].forEach((cell, k) => cell.addEventListener("click", () => {
    const up = cell.dataset.order === "down";
    for (const other of head.cells) delete other.dataset.order;
    cell.dataset.order = up ? "up" : "down";
    const rows = body().sort((one, two) => { const a = value(one, k), b = value(two, k);
      if ((typeof a === "number") !== (typeof b === "number")) return typeof a === "number" ? -1 : 1;
      return (typeof a === "number" ? b - a : String(a).localeCompare(b)) * (up ? -1 : 1); });
    rows.forEach((row) => row.parentNode.appendChild(row));
  }));
  const text = area.querySelector("input"), choices = [...area.querySelectorAll("select")];
  const show = () => body().forEach((row) => { row.hidden = !(row.textContent.toLowerCase().includes(text.value.toLowerCase())
    && choices.every((choice) => !choice.value || row.cells[+choice.dataset.column].textContent.trim() === choice.value)); });
  for (const control of [text, ...choices]) control.addEventListener("input", show);
  show();
}
"""


def render(selection: Selection) -> str:
    """The whole page as HTML."""
    overview, evidence = selection.overview, selection.evidence
    parts = [
        ("lists", "Core and plus", _lists(overview, evidence)),
        ("eras", "IC by era", _eras(overview, evidence)),
        ("forward", "Going forward", _forward(overview)),
        ("folds", "Folds", _folds(overview, evidence)),
        ("lags", "Lags and half-lives", _lags(overview, evidence)),
        ("adversarial", "Adversarial validation", _adversarial(overview)),
        ("evidence", "All evidence", _evidence(overview, evidence)),
        ("method", "How it was done", _method(overview)),
    ]
    return page("Factor selection", _head(overview, evidence), parts, style=STYLE, script=SCRIPT)


def _head(overview: Overview, evidence: pl.DataFrame) -> str:
    served = evidence.filter((pl.col("fold") == "final") & pl.col("decision").is_in(CHOSEN))
    whole = overview.forward[-1] if overview.forward else None
    last = overview.adversarial[-1] if overview.adversarial else None
    tiles = [
        tile(f"{len(served)} of {evidence['factor'].n_unique()}", "inputs for the served model"),
        tile(str(len(overview.core)), "core factors over all folds"),
        tile(str(len(overview.plus)), "plus factors over all folds"),
        tile(number(whole.difference, 4) if whole else "–", "RankIC, subset less full set, validation"),
        tile(
            number(last.auc if last else None, 3),
            f"AUC of the newest bars against older ones{', flagged' if last and last.flagged else ''}",
        ),
    ]
    return (
        f'<h1>Factor selection<span class="badge">{escape(overview.mode)},'
        f' {escape(overview.family)}</span></h1><p class="soft">{overview.rows:,} rows, {overview.symbols}'
        f" symbols; target {escape(overview.target)} over {overview.horizon} bars. Every fold was decided on"
        " its own training bars; the lists over all folds are for people and went back into none.</p><div"
        f' class="tiles">{"".join(tiles)}</div>'
    )


def _lists(overview: Overview, evidence: pl.DataFrame) -> str:
    methods = [name for name in (*METHODS, "gate_weight") if evidence[f"votes_{name}"].is_not_null().any()]
    newest = {row["factor"]: row for row in evidence.filter(pl.col("fold") == "final").iter_rows(named=True)}
    rows, votes, chosen = [], [], []
    for kind, entries in (("core", overview.core), ("plus", overview.plus)):
        for factor, core, taken in entries:
            row = newest[factor]
            chosen += [len(rows)] if kind == "core" else []
            rows.append(
                [
                    escape(factor),
                    f'<span class="{kind}">{kind}</span>',
                    escape(row["group"]),
                    number(core, 0, percent=True),
                    number(taken, 0, percent=True),
                    number(row["appearance"], 0, percent=True),
                    number(row["appearance_q"], 3),
                    _signed(row["ic"]),
                    number(row["ic_t"], 1),
                    number(row["steady_share"], 0, percent=True),
                    (
                        f"{_signed(row['permutation_loss'])} <span"
                        f" class=soft>[{_signed(row['permutation_low'])},"
                        f" {_signed(row['permutation_high'])}]</span>"
                    ),
                ]
            )
            votes.append(
                [
                    escape(factor),
                    f'<span class="{kind}">{kind}</span>',
                    number(row["vote_share"], 0, percent=True),
                    *(number(row[f"votes_{name}"], 0, percent=True) for name in methods),
                ]
            )
    header = [
        "factor",
        "list",
        "group",
        "folds core",
        "folds core or plus",
        "eras",
        "q",
        "IC",
        "t",
        "same sign",
        "permutation loss, 95 %",
    ]
    found = card(
        table(header, rows, text=[0, 1, 2])
        if rows
        else "<p>No factor is core or plus in any fold: nothing stands out from chance.</p>"
    )
    return section(
        "lists",
        "Core and plus lists",
        "Share of folds in which a factor was core, and core or plus; the other figures are those of the"
        " served model's training bars. Votes are shares of eras; a useless input gets one in"
        f" {overview.chance:.0%} of them.",
        found,
        (
            card(
                table(
                    ["factor", "list", "mean", *(METHOD_NAMES[name] for name in methods)], votes, text=[0, 1]
                ),
                title="Votes by method",
            )
            if votes
            else ""
        ),
        _votes_plot(overview, newest, methods),
    )


def _votes_plot(overview: Overview, newest: dict, methods: Sequence[str]) -> str:
    names = [factor for factor, *_ in (*overview.core, *overview.plus)][:25][::-1]
    if not names:
        return ""
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": METHOD_NAMES[name],
            "y": names,
            "x": [(newest[factor][f"votes_{name}"] or 0) / len(methods) for factor in names],
        }
        for name in methods
    ]
    line = {
        "type": "line",
        "x0": overview.chance,
        "x1": overview.chance,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"dash": "dot", "width": 1.5, "color": "#888"},
    }
    layout = {
        "barmode": "stack",
        "shapes": [line],
        "xaxis": {"title": "mean share of votes", "tickformat": ".0%"},
        "yaxis": {"tickmode": "linear", "dtick": 1},
        "margin": {"l": 190, "r": 12, "t": 8, "b": 70},
    }
    return plot(
        "Who votes for them",
        bars,
        layout,
        note="Mean over eras and methods, served model's training bars; dotted: chance.",
        tall=len(names) > 8,
        wide=True,
    )


def _eras(overview: Overview, evidence: pl.DataFrame) -> str:
    first = {
        row["factor"]: row
        for row in evidence.filter(pl.col("fold") == overview.folds[0][0]).iter_rows(named=True)
    }
    header = [
        "factor",
        "group",
        f"decision in {overview.folds[0][0]}",
        "first fold's training",
        *(era.name for era in overview.eras),
    ]
    rows = [
        [
            escape(name),
            escape(first[name]["group"]),
            _decision(first[name]["decision"]),
            _with_t(first[name]["ic"], first[name]["ic_t"]),
            *(_with_t(era.ic[name], era.t[name]) for era in overview.eras),
        ]
        for name in overview.best
    ]
    lies = [
        [
            escape(era.name),
            f"{era.first} to {era.last}",
            ", ".join(f"{share:.0%} {window}" for window, share in era.windows.items() if share > 0.001)
            or "outside all windows",
            _use(era.windows),
        ]
        for era in overview.eras
    ]
    return section(
        "eras",
        f"RankIC of the {len(overview.best)} best factors by era",
        "Mean RankIC, in brackets its t-statistic (Newey and West). Ranked by the t-statistic in the training"
        " bars of the first fold alone; what stands in later eras was not known when they were ranked. Near"
        " copies are left out.",
        card(table(["era", "bars", "lies in", "use"], lies, text=[0, 1, 2, 3]), title="Where the eras lie"),
        card(table(header, rows, text=[0, 1, 2])),
    )


def _use(windows) -> str:
    if windows.get("test", 0) > 0.001:
        return (
            '<span class="warn">holds test bars: reported only, and known to no fold that predicts'
            " validation</span>"
        )
    if windows.get("validation", 0) > 0.001:
        return "validation: the first fold never saw it, later folds learned from it once it was past"
    return "training of every fold"


def _forward(overview: Overview) -> str:
    if not overview.forward:
        return section("forward", "Going forward", "No fold predicts validation bars.")
    rows = [
        [
            escape(one.fold),
            str(one.inputs),
            str(one.all_inputs),
            _signed(one.subset),
            _signed(one.full),
            _signed(one.difference),
            f"[{_signed(one.low)}, {_signed(one.high)}]",
            "better" if one.low > 0 else "worse" if one.high < 0 else "no difference shown",
            f"{one.bars}",
        ]
        for one in overview.forward
    ]
    return section(
        "forward",
        "Subset against full set, going forward",
        "One model of the family on each, fitted on the fold's training bars, ranked on the validation bars"
        " that the fold predicts. The interval is a block bootstrap over bars. Nothing was chosen by it.",
        card(
            table(
                ["fold", "inputs", "of", "RankIC subset", "RankIC full", "difference", "95 %", "", "bars"],
                rows,
                text=[0, 7],
                chosen=[len(rows) - 1],
            )
        ),
    )


def _folds(overview: Overview, evidence: pl.DataFrame) -> str:
    counts = {
        (row["fold"], row["decision"]): row["len"]
        for row in evidence.group_by("fold", "decision").len().iter_rows(named=True)
    }
    eras = dict(evidence.group_by("fold").agg(pl.col("eras").max()).iter_rows())
    kinds = ("core", "plus", "filled", "left out", "duplicate", "collinear", "no data")
    rows = [
        [
            escape(name),
            f"{first} to {last}",
            escape(span),
            escape(window),
            str(eras[name]),
            str(inputs),
            *(str(counts.get((name, kind), 0)) for kind in kinds),
        ]
        for name, first, last, span, inputs, window in overview.folds
    ]
    context = (
        f" Context columns {', '.join(overview.context)} reach the experts whatever is chosen."
        if overview.context
        else ""
    )
    return section(
        "folds",
        "Folds",
        f"Each fold counts the pairs of eras ({overview.era_bars} bars each) that lie in its own training"
        f" bars.{context}",
        card(
            table(
                ["fold", "training bars", "predicts", "window", "eras", "inputs", *kinds],
                rows,
                text=[0, 1, 2, 3],
            )
        ),
    )


def _lags(overview: Overview, evidence: pl.DataFrame) -> str:
    served = evidence.filter(
        (pl.col("fold") == "final")
        & pl.col("ic").is_not_null()
        & ~pl.col("decision").is_in(["duplicate", "no data"])
    )
    shown = served.sort(pl.col("rolling_ic_t").abs(), descending=True, nulls_last=True).head(20)
    rows = [
        [
            escape(row["factor"]),
            _signed(row["ic"]),
            "equal weights" if not row["half_life_bars"] else f"{row['half_life_bars']} bars",
            _signed(row["rolling_ic"]),
            number(row["rolling_ic_t"], 1),
            str(row["rolling_list_place"] or "–"),
            str(row["proposed_lag_bars"]),
            _signed(row["lag_ic"]),
            number(row["lag_q"], 2),
        ]
        for row in shown.iter_rows(named=True)
    ]
    later = served.filter(pl.col("proposed_lag_bars") > 0)
    said = (
        f"{len(later)} of {len(served)} inputs are better at a later lag beyond chance"
        if len(later)
        else f"None of {len(served)} inputs is better at a later lag beyond chance"
    )
    return section(
        "lags",
        "Lags and half-lives",
        f"{said} (proposed, not applied). The half-life is the one whose weighted IC foretold the coming bars"
        " best; served model's training bars, strongest rolling IC first.",
        card(
            table(
                [
                    "factor",
                    "IC",
                    "half-life",
                    "weighted IC",
                    "its t",
                    "place on the list",
                    "lag, bars",
                    "IC at that lag",
                    "q of the lag",
                ],
                rows,
                text=[0],
            )
        ),
    )


def _adversarial(overview: Overview) -> str:
    rows = [
        [
            escape(one.fold),
            f'<b class="bad">{number(one.auc, 3)}</b>' if one.flagged else number(one.auc, 3),
            f"{number(max(one.usual), 3)} of {len(one.usual)}" if one.usual else "–",
            "flagged" if one.flagged else escape(one.reason) or "quiet",
            escape(", ".join(f"{name} {share:.0%}" for name, share in one.factors[:6])),
        ]
        for one in overview.adversarial
    ]
    left = overview.adversarial[-1].left_out if overview.adversarial else ()
    note = (
        f'<p class="soft">Left out because all symbols of a bar share them: {escape(", ".join(left))}.</p>'
        if left
        else ""
    )
    return section(
        "adversarial",
        "Can the newest bars be told from older ones?",
        "Area under the curve of a classifier on blocks of bars and on symbols that it did not learn from;"
        " 0.5 is a coin. An older window that is told apart as well is no news.",
        card(
            table(
                ["fold", "AUC", "highest of older windows", "", "factors behind it (share of gain)"],
                rows,
                text=[0, 3, 4],
            )
            + note
        ),
    )


def _evidence(overview: Overview, evidence: pl.DataFrame) -> str:
    columns = {
        "coverage": ("coverage", lambda v: number(v, 0, percent=True)),
        "cluster": ("cluster", escape),
        "vif": ("VIF", lambda v: number(v, 1)),
        "ic": ("IC", lambda v: number(v, 4)),
        "ic_t": ("t", lambda v: number(v, 1)),
        "rolling_ic_t": ("rolling t", lambda v: number(v, 1)),
        "mutual_information": ("MI, 1e-3", lambda v: number(None if v is None else 1000 * v, 2)),
        "importance_share": ("importance", lambda v: number(v, 1, percent=True)),
        "shap_share": ("SHAP", lambda v: number(v, 1, percent=True)),
        "path_order": ("path order", lambda v: number(v, 1)),
        "permutation_loss": ("permutation", lambda v: number(v, 4)),
        "elimination_rank": ("elimination", lambda v: number(v, 1)),
        "gene_frequency": ("genes", lambda v: number(v, 0, percent=True)),
        "gate_weight": ("gate weight", lambda v: number(v, 3)),
        "vote_share": ("votes", lambda v: number(v, 0, percent=True)),
        "appearance": ("eras", lambda v: number(v, 0, percent=True)),
    }
    columns = {name: about for name, about in columns.items() if evidence[name].is_not_null().any()}
    ordered = evidence.sort(
        ["fold", "appearance", "vote_share", "factor"], descending=[False, True, True, False], nulls_last=True
    )
    rows = [
        [
            escape(row["fold"]),
            escape(row["factor"]),
            escape(row["group"]),
            _decision(row["decision"]),
            *(show(row[name]) for name, (_, show) in columns.items()),
            escape(row["reason"]),
        ]
        for row in ordered.iter_rows(named=True)
    ]

    def choice(name: str, column: int, first: str) -> str:
        options = "".join(
            f"<option{' selected' if value == first else ''}>{escape(value)}</option>"
            for value in sorted(evidence[name].unique())
        )
        return f'<select data-column="{column}"><option value="">every {name}</option>{options}</select>'

    tools = (
        '<div class="tools"><input placeholder="find"'
        f' aria-label="find">{choice("fold", 0, "final")}{choice("group", 2, "")}{choice("decision", 3, "")}</div>'
    )
    header = ["fold", "factor", "group", "decision", *(title for title, _ in columns.values()), "reason"]
    filled = table(header, rows, text=[0, 1, 2, 3, 4 + list(columns).index("cluster"), len(header) - 1])
    return section(
        "evidence",
        "All evidence",
        "One row a fold and factor; click a heading to sort. The table is also a Parquet file.",
        f'<div class="card wide sortable">{tools}{filled}</div>',
    )


def _method(overview: Overview) -> str:
    text = (
        "<p>The training bars of a fold are cut into eras on one grid. In each pair of neighbouring eras"
        " every method learns from the first and is judged on the second, with purge and embargo between"
        " them. A method votes for an input that beats its own value under redrawn labels, whose direction"
        " is turned by blocks of bars: persistence and common moves of the symbols stay as they are, so that"
        f" a useless input gets a vote in {overview.chance:.0%} of the eras. An input appears in an era where"
        " the majority of methods vote for it.</p><p>Core: it appears in enough eras, in more than chance"
        " explains (binomial, adjusted over all inputs), and its IC keeps its sign. Plus: it appears often,"
        " or is on the list of the rolling IC. Early-stopping bars took no part, because bands and stopping"
        " are judged on them; test bars took part in no choice for a fold before them.</p>"
    )
    return section("method", "How it was done", "", card(text))


def _decision(decision: str) -> str:
    return f'<span class="{decision}">{decision}</span>' if decision in ("core", "plus") else escape(decision)


def _with_t(value: float | None, t: float | None) -> str:
    return f"{_signed(value)} <span class=soft>({number(t, 1)})</span>"


def _signed(value: float | None) -> str:
    text = number(value, 4)
    return f"+{text}" if value is not None and value == value and value > 0 else text
