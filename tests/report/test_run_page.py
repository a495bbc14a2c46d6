"""The run's page: every section is there, unknown figures are a dash or a gap, what people and data say is
escaped, and nothing is loaded from elsewhere.
"""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest
from made_evaluation import (
    evaluation_of,
    made_health,
    made_oof_audit,
    measurement,
    portfolio,
    registration,
    verdict,
)

from components.contracts import Stamp
from components.contracts.documents.champion import Reign
from components.contracts.documents.comparison import Candidate, Comparison
from components.contracts.documents.cross_validated import (
    CrossValidated,
    Distribution,
    GroupSpan,
    ModelPaths,
    PathFigures,
)
from components.contracts.documents.evaluation import Evaluation, FurtherModel, FurtherTask, Ranking
from components.contracts.documents.leak_audit import Checked, LeakAudit
from components.report.factor_ic import BY_YEAR, DECAY, TABLE, FactorIc
from components.report.page import write_run_page
from components.report.result import Lineage, RunResult
from components.report.sections.further import further_section
from components.report.summary import models_in_test, summarise
from tests.experts.statuses import status_of

MOMENT = datetime(2024, 1, 11, tzinfo=UTC)
SHIFT = {
    "regime": ["high_volatility", "bull"],
    "against": ["other_regimes", "earlier_era"],
    "bars": [10, 10],
    **{name: [0.1, None] for name in ("mean", "mean_against", "deviation", "deviation_against")},
    **{name: [0.1, None] for name in ("ks", "ks_by_chance", "effective_rows")},
    "adjusted_p_value": [0.01, None],
}
RETURNS = {
    "timestamp": [MOMENT],
    "expert": ["stack"],
    "window": ["backtest"],
    **{name: [0.01] for name in ("net_return", "gross_return", "benchmark_return", "turnover")},
}


def candidate(name: str) -> Candidate:
    return Candidate(
        name=name, rank_ic=0.1, difference=0.01, t=1.0, p=0.2, bars=90, folds=5, folds_better=3, rmse=0.02
    )


def run(ic: float | None = 0.1) -> RunResult:
    evaluation = evaluation_of(ic, names=("stack", "median", "a<b"))
    reign = Reign(version=1, previous=None, when=MOMENT, who="ada <a>", why="better")
    summary = summarise(
        evaluation, verdict(), registration(reign), {"name": "demo <i>", "seed": 1}, truth=None
    )
    rows = pl.DataFrame(RETURNS)
    stamp = Stamp(
        table="panel",
        schema_version=1,
        content_sha256="0123456789abcdef0123",
        code_version="code",
        config_hash="h",
        train_window="",
        inputs={"raw": "89abcdef0123"},
    )
    return RunResult(
        summary=summary,
        panel=pl.DataFrame({"timestamp": [MOMENT], "symbol": ["A"]}),
        quarantine=pl.DataFrame({"reason": ["bad <print>"]}),
        health=made_health(),
        factor_ic=FactorIc(
            pl.DataFrame(schema=TABLE), pl.DataFrame(schema=BY_YEAR), pl.DataFrame(schema=DECAY)
        ),
        label_shift=pl.DataFrame(SHIFT),
        audit=LeakAudit(passed=True, leaks=[], unstable=[], warm_up=[], placebo=[], checked=Checked()),
        oof_audit=made_oof_audit({"glass": "the glass <is> empty"}),
        comparison=Comparison(
            chosen="equal_weights",
            reason="nothing beats it",
            level=0.05,
            candidates=[candidate("equal_weights"), candidate("shrunk")],
            left_out={"mlp": "it <fell>"},
            validation_start="2020",
            validation_end="2021",
            experts=["median"],
            weights={},
        ),
        evaluation=evaluation,
        returns=pl.concat(rows.with_columns(strategy=pl.lit(name)) for name in ("long_short", "long_only")),
        experts=[status_of("median"), status_of("glass", "failed")],
        explanations={},
        lineage=[Lineage("panel", stamp)],
        pages=["fusion.html", "audit.html", "unheard-of.html"],
    )


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> str:
    return write_run_page(tmp_path_factory.mktemp("page") / "report.html", run()).read_text()


@pytest.fixture(scope="module")
def markup(html) -> str:
    return re.sub(r"<(script|style)[^>]*>.*?</\1>", "", html, flags=re.DOTALL)


def test_every_section_of_the_navigation_is_there_and_nothing_is_loaded(markup):
    links = re.findall(r"<nav>(.*?)</nav>", markup)[0]
    sections = re.findall(r'href="#(\w+)"', links)
    own = ["data", "factors", "experts", "calibration", "money", "where", "parts", "gates", "lineage"]
    assert sections == own
    assert re.findall(r'<h2 id="(\w+)"', markup) == sections
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//|@import|url\(", markup)


def test_a_cross_validation_is_drawn_and_says_that_nobody_could_have_earned_it(tmp_path):
    span = GroupSpan(start="2020-01-01T00:00:00Z", end="2020-12-31T00:00:00Z", bars=252)
    figures = {"rank_ic_t": 2.0, "annual_return_net": 0.1, "max_drawdown": None}
    spread = Distribution(p10=-0.4, p50=0.8, p90=1.9, share_below_0=0.2)
    unknown = Distribution(p10=None, p50=None, p90=None, share_below_0=None)
    models = {
        "median": ModelPaths(paths=[], rank_ic=unknown, sharpe_net=unknown),
        "equal_weights": ModelPaths(
            paths=[PathFigures(path=0, rank_ic=0.02, sharpe_net=0.8, **figures)],
            rank_ic=spread,
            sharpe_net=spread,
        ),
    }
    found = CrossValidated(
        scheme="combinatorial", groups=[span] * 6, test_groups=2, splits=15, paths=5, models=models
    )
    one = run()
    crossed = replace(one, evaluation=one.evaluation.model_copy(update={"cross_validated": found}))
    page = write_run_page(tmp_path / "report.html", crossed).read_text()
    part = page[page.index('<h2 id="crossed"') : page.index('<h2 id="where"')]
    assert 'href="#crossed"' in page
    for words in (
        "6 groups, 2 groups left out at a time: 15 fits",
        "5 paths",
        "nobody could have",
        "no gate",
    ):
        assert words in " ".join(part.split())
    assert re.findall(r"<td[^>]*>(.*?)</td>", part)[:4] == ["Equal weights", "0.80", "-0.40 to 1.90", "20%"]


def with_further(t: float | None, sharpe: float | None, lowest: float = -0.3) -> Evaluation:
    """A task over 20 bars with this t value of its stack's RankIC, and this net Sharpe ratio; and one that is
    no order by what names earn.
    """
    block = measurement(0.02)
    traded = portfolio().model_copy(
        update={"sharpe_net": sharpe, "sharpe_net_interval": (lowest, 2.5), "annual_return_net": 0.07}
    )
    stack = FurtherModel(
        model="stack",
        rows=400,
        labelled_rows=380,
        ic=block.ic,
        rank_ic=Ranking(mean=0.0312, std=0.1, icir=0.3, t_hac=t, hit_share=0.6, bars=95),
        rank_ic_interval=(0.01, 0.05),
        calibration=block.calibration,
        classes=None,
        long_short=traded,
    )
    tried = stack.model_copy(update={"model": "z_shrunk"})
    expert = stack.model_copy(update={"model": "a<b"})
    silent = stack.model_copy(update={"rank_ic": block.rank_ic, "long_short": None})
    tasks = [
        FurtherTask(target="log_return", horizon=20, models=[stack, expert, tried]),
        FurtherTask(target="realised_volatility", horizon=1, models=[silent]),
    ]
    return run().evaluation.model_copy(update={"further_tasks": tasks})


def test_further_tasks_are_told_in_words_and_their_figures_shown(tmp_path):
    """Which is forecast best, what is left after costs, and that no gate has looked."""
    one = replace(run(), evaluation=with_further(3.1, 1.2))
    page = write_run_page(tmp_path / "report.html", one).read_text()
    part = " ".join(page[page.index('<h2 id="further"') : page.index('<h2 id="where"')].split())
    assert 'href="#further"' in page
    for words in (
        "log_return over 20 bars is forecast best (RankIC 0.0312, t = 3.1, 95 bars).",
        "After 10 bps a side most is earned by log_return over 20 bars, a net Sharpe ratio of 1.20 [-0.3,",
        "by these bars it may as well be nothing",
        "No gate looks at these",
        "has tried 3 times",
    ):
        assert words in part
    cells = re.findall(r"<td[^>]*>(.*?)</td>", part)
    rows = [cells[start : start + 15] for start in range(0, len(cells), 15)]
    assert [row[:2] for row in rows] == [
        ["sector_neutral_return over 5 bars (judged)", "Stack (chosen)"],
        ["log_return over 20 bars", "Stack (chosen)"],
        ["log_return over 20 bars", "a&lt;b"],
        ["realised_volatility over 1 bar", "Stack (chosen)"],
    ]
    assert rows[1][2:6] == ["0.0312", "[0.0100, 0.0500]", "3.1", "95"]
    assert rows[1][9:13] == ["–", "1.20", "[-0.30, 2.50]", "7.0%"]
    assert rows[3][9:] == ["–"] * 6


@pytest.mark.parametrize(
    ("t", "sharpe", "lowest", "skill", "money"),
    [
        (None, None, -0.3, "too few to tell", "nothing was traded"),
        (1.1, -0.4, -1.0, "None is forecast by more than luck", "none earns anything"),
        (2.4, 1.4, 0.2, "is forecast best", "most is earned by log_return over 20 bars"),
    ],
)
def test_the_words_on_further_tasks_claim_no_more_than_the_figures(t, sharpe, lowest, skill, money):
    found = further_section(with_further(t, sharpe, lowest))
    assert skill in found.skill
    assert money in found.money
    assert ("may as well be nothing" in found.money) == (sharpe is not None and sharpe > 0 and lowest <= 0)


def test_equal_weights_are_a_row_of_their_own_only_where_the_stack_is_something_else():
    evaluation = with_further(3.1, 1.2)
    task = evaluation.further_tasks[0]
    same = task.models[0].model_copy(update={"model": "equal_weights"})
    other = same.model_copy(update={"rows": 399})
    named = []
    for equal in (same, other):
        models = [task.models[0], equal, *task.models[1:]]
        tasks = [task.model_copy(update={"models": models})]
        found = further_section(evaluation.model_copy(update={"further_tasks": tasks}))
        named.append([row[1] for row in found.rows[1:]])
    assert named == [["Stack (chosen)", "a<b"], ["Stack (chosen)", "Equal weights", "a<b"]]


def test_what_data_and_people_say_is_escaped(markup, html):
    assert "<h1>demo &lt;i&gt;" in markup
    for words in ("the glass &lt;is&gt; empty", "a&lt;b", "PSI &lt;x&gt;", "ada &lt;a&gt;"):
        assert words in markup
    assert not re.search(r"<(?:is|i|x|a|print|tech)>", html)


def test_words_and_figures_are_those_of_the_run(markup):
    for words in (
        'class="badge bad">rejected',
        "0.1000",
        "not registered, 2 judged on this window so far",
        "1 of 1 gates failed: drift",
        "0 / 1",
        "0123456789abcdef",
        "raw 89abcdef",
        "high volatility",
        "2024-01-11T00:00:00+00:00",
    ):
        assert words in markup
    assert re.findall(r'<a href="(evidence/[^"]+)">', markup) == [
        "evidence/audit.html",
        "evidence/fusion.html",
    ]


def test_rows_that_stand_out(markup):
    chosen = re.findall(r"<tr class=chosen><td[^>]*>([^<]*)", markup)
    assert chosen == ["Stack (chosen)", "high volatility", "every name", "all", "all", "all"]


def test_unknown_figures_are_dashes_and_gaps(tmp_path):
    unknown = replace(run(None), quarantine=pl.DataFrame())
    html = write_run_page(tmp_path / "report.html", unknown).read_text()
    assert "No row was quarantined." in html
    assert ">–</b>" in html
    figures = re.findall(r'<script type="application/json">(.*?)</script>', html)
    assert all("NaN" not in json.dumps(json.loads(figure)) for figure in figures)


def test_models_stand_in_a_fixed_order():
    names = ("zebra", "best_single", "ant", "stack")
    assert list(models_in_test(evaluation_of(0.1, names=names), without=("ant",))) == [
        "stack",
        "best_single",
        "zebra",
    ]
