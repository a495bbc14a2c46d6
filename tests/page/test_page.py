"""Pages: what people typed is escaped, nothing is loaded from elsewhere, a failure leaves a page and a
success removes it.
"""

import json
import re
import shutil

import jinja2
import pytest

import components.page
from components.page import figure, number, render
from components.report.closing import close_run
from tests.retraining.headless import CHROMIUM, browser


def events(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """A template, written as its body, filled with values: on the base page with its blocks."""
    templates = components.page.COMPONENTS
    shutil.copytree(templates / "page", tmp_path / "page")
    monkeypatch.setattr(components.page, "COMPONENTS", tmp_path)
    components.page._environment.cache_clear()

    def fill(body: str, **values) -> str:
        (tmp_path / "made.html").write_text(
            '{% extends "page/page.html" %}{% import "page/blocks.html" as blocks %}'
            "{% block body %}" + body + "{% endblock %}"
        )
        return render("made.html", title="t", sections=[("a", "A")], **values)

    yield fill
    components.page._environment.cache_clear()


def test_a_page_loads_nothing_and_draws_in_both_schemes(filled):
    html = filled(
        '{% call blocks.section("a", "A", "intro") %}{{ blocks.plot("p", drawn) }}{% endcall %}',
        drawn=figure([{"type": "bar", "x": [1], "y": [2]}]),
    )
    markup = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="?(?:https?:)?//|@import|url\(', markup)
    assert not re.findall(r"<script[^>]+src", html)
    assert "prefers-color-scheme: dark" in html
    assert "Plotly.react" in html


@pytest.mark.skipif(CHROMIUM is None, reason="no browser (Debian package chromium)")
def test_no_two_of_many_curves_look_alike(filled, tmp_path):
    curves = [
        {"type": "scatter", "mode": "lines", "name": str(n), "x": [0, 1], "y": [n, n], "line": {"width": 1.6}}
        for n in range(14)
    ]
    (tmp_path / "page.html").write_text(filled('{{ blocks.plot("p", drawn) }}', drawn=figure(curves)))
    drawn = 'document.querySelector(".plot")._fullData'
    (tmp_path / "browser").mkdir()
    with browser(tmp_path / "browser") as tab:
        tab.open((tmp_path / "page.html").as_uri())
        tab.wait(f"{drawn} && {drawn}.length == 14")
        looks = tab.run(f"{drawn}.map((curve) => curve.line.color + curve.line.dash + curve.line.width)")
    assert len(set(looks)) == 14


def body_of(html: str) -> str:
    return html.split("<main>")[1].split("</main>")[0]


def test_text_and_figures_cannot_break_out_of_the_page(filled):
    names = [{"name": "</script><script>alert(1)</script>"}, {"name": "<!--<script>"}]
    shown = body_of(filled("{{ blocks.plot('<b>x</b>', drawn) }}", drawn=figure(names)))
    assert "</script><script>" not in shown
    assert "<!--" not in shown
    assert "<b>x</b>" not in shown
    assert "<i>" not in body_of(filled("{{ blocks.table(['<i>'], [['<i>']]) }}"))
    assert "&lt;i&gt;" in body_of(filled("{% call blocks.card('<i>') %}{% endcall %}"))


def test_a_value_that_a_template_lacks_is_no_empty_place(filled):
    with pytest.raises(jinja2.UndefinedError, match="'lost' is undefined"):
        filled("{{ lost }}")


def test_numbers_that_json_does_not_know_become_gaps(filled):
    drawn = figure([{"y": [1.0, float("nan"), float("inf")]}])
    shown = filled("{{ blocks.plot('p', drawn) }}", drawn=drawn)
    found = json.loads(re.search(r'<script type="application/json">(.*?)</script>', shown).group(1))
    assert found["data"] == [{"y": [1.0, None, None]}]
    assert [number(None), number(float("nan")), number(0.1234, 1, percent=True), number(1234.5, 1)] == [
        "–",
        "–",
        "12.3%",
        "1,234.5",
    ]


def test_a_failed_run_leaves_a_page_with_stage_reason_and_what_was_done(tmp_path):
    log = events(
        tmp_path / "events.jsonl",
        {"event": "finished", "stage": "ingest", "seconds": 1.25},
        {"event": "warned", "stage": "train x", "message": "x was left out"},
        {"event": "failed", "stage": "audit", "message": "rsi_14 leaks: <3 bars ahead>"},
        {"event": "failed", "stage": "later", "message": "because of it"},
    )
    page_path = close_run(tmp_path, failed=True, message="", events=log)
    html = page_path.read_text()
    for words in ("audit", "rsi_14 leaks: &lt;3 bars ahead&gt;", "ingest", "1.2", "x was left out"):
        assert words in html
    assert "because of it" not in html
    assert close_run(tmp_path, failed=False, message="", events=log) is None
    assert not page_path.exists()


@pytest.mark.parametrize("log", [None, "missing.jsonl"])
def test_without_events_the_orchestrators_words_are_shown(tmp_path, log):
    page_path = close_run(
        tmp_path, failed=True, message="pod was evicted", events=tmp_path / log if log else None
    )
    assert "pod was evicted" in page_path.read_text()
