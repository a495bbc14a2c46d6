"""The review page in a real browser: every report is a click away, nothing planted runs, broken files are
named, hundreds of decisions stay usable.
"""

import functools
import http.server
import json
import shutil
import threading
from datetime import timedelta

import pytest

from components.retraining.page import write_review_page
from components.retraining.reports import write_champions
from components.retraining.review_folder import read_review
from components.retraining.trail import append_decision, append_word
from tests.retraining.entries import decided, reign
from tests.retraining.headless import CHROMIUM, browser
from tests.retraining.review_example import START, decision, drift_report, example, iso, name_of, write

PLANTED = '<script>window.planted = 1</script><img src=x onerror="window.planted = 2">'
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser (Debian package chromium)")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def clean_tab(tab):
    """The tab, and after the test the certainty that no page complained."""
    tab.errors.clear()
    tab.requests.clear()
    yield tab
    tab.wait("true")
    assert tab.errors == []


@pytest.fixture(scope="module")
def months(tmp_path_factory):
    """The page of half a year, with its decisions; read only."""
    folder = tmp_path_factory.mktemp("months") / "demo" / "review"
    made = example(folder)
    return write_review_page(folder), made


@pytest.fixture(scope="module")
def served(months):
    """The same page over HTTP."""
    handler = functools.partial(_Silent, directory=str(months[0].parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
        server.shutdown()


class _Silent(http.server.SimpleHTTPRequestHandler):
    """As strict about what a page may do as a service would be."""

    def end_headers(self):
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:;"
            " base-uri 'none'; form-action 'none'",
        )
        super().end_headers()

    def log_message(self, *_):
        pass


def visible(tab, place: str = "[data-list=decisions]") -> int:
    return tab.run(f"[...document.querySelectorAll('{place} .entry')].filter((e) => e.offsetParent).length")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("way", ["file", "http"])
def test_a_reader_opens_a_report_and_comes_back(clean_tab, months, served, scheme, way):
    address = months[0].as_uri() if way == "file" else served
    tab, newest = clean_tab, months[1][-1]
    tab.scheme(scheme)
    tab.open(address)
    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(246, 247, 249)", "dark": "rgb(17, 21, 28)"}[scheme]
    tab.click("[data-list=decisions] .entry .links a")
    tab.wait(f"document.title === 'Drift {newest['id']}'")
    tab.back()
    tab.wait("document.querySelector('[data-list=decisions] .entry')")
    tab.click("[data-list=drift] .entry .links a")
    tab.wait(f"document.title === 'Drift {newest['id']}'")
    assert all(url.startswith(address.rsplit("/", 1)[0]) or url == "data:," for url in tab.requests)


@needs_browser
def test_hundreds_of_decisions_are_filtered_and_shown_in_portions(clean_tab, months):
    tab, made = clean_tab, months[1]
    tab.scheme("light")
    tab.open(months[0].as_uri())
    assert visible(tab) == 25
    tab.click("[data-list=decisions] .more")
    assert visible(tab) == 50
    tab.click(".chip input[value=held]")
    assert visible(tab) == sum(one["action"] == "held" for one in made) == 15
    tab.click(".chip input[value='']")
    tab.write("input[type=search]", "PROMOTED passed")
    assert (
        visible(tab)
        == sum(bool(one["outcome"]) and one["outcome"]["status"] == "promoted" for one in made)
        == 2
    )
    assert tab.run("document.querySelector('.found').textContent") == f"2 of {len(made)}"
    tab.write("input[type=search]", "no such words")
    assert visible(tab) == 0
    tab.write("input[type=search]", "")
    assert visible(tab) == 25


@needs_browser
def test_a_mark_of_the_timeline_leads_to_its_decision_even_when_that_was_hidden(clean_tab, months):
    tab, first = clean_tab, next(one for one in months[1] if one["action"] == "retrain")
    tab.open(months[0].as_uri())
    tab.click(".chip input[value=held]")
    assert tab.run(f"document.getElementById('decision-{first['id']}').hidden")
    assert tab.run("document.querySelectorAll('.timeline circle').length") == len(months[1])
    tab.click(f".timeline a[href='#decision-{first['id']}']")
    tab.wait(f"document.getElementById('decision-{first['id']}').offsetParent && location.hash")
    tab.wait(
        f"(() => {{ const r = document.getElementById('decision-{first['id']}').getBoundingClientRect();"
        " return r.top >= 0 && r.bottom <= innerHeight; })()"
    )
    tab.open(months[0].as_uri() + f"#decision-{first['id']}")
    tab.wait(f"document.getElementById('decision-{first['id']}').offsetParent")


@needs_browser
def test_the_page_is_whole_on_a_narrow_screen_and_without_scripts(clean_tab, months, tmp_path):
    tab = clean_tab
    tab.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    tab.open(months[0].as_uri())
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    tab.call("Emulation.clearDeviceMetricsOverride")
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(months[0].as_uri())
    assert visible(tab) == len(months[1])
    tab.call("Emulation.setScriptExecutionDisabled", value=False)


@needs_browser
def test_what_people_typed_never_runs(clean_tab, tmp_path):
    folder = tmp_path / "demo" / "review"
    when = START
    drift_report(folder, when, moved=None, seed=1)
    report = json.loads((folder / "drift" / name_of(when) / "drift.json").read_text())
    report["columns"][0].update(column=PLANTED, ks=0.9, what="mean", drifted=True, group=PLANTED)
    rule = report["rules"][0] | {"fired": True, "reason": PLANTED, "factors": [PLANTED]}
    write(
        folder / "drift" / name_of(when) / "drift.json",
        {**report, "reason": PLANTED, "verdict": "drift", "rules": [rule]},
    )
    write(
        folder / "decisions" / "a.json",
        decision(when, PLANTED, PLANTED, by=PLANTED, who=PLANTED, rules=[PLANTED], id=f'"><b>{PLANTED}'),
    )
    write(
        folder / "decisions" / "b.json",
        decision(when, "retrain", "x", id="b", drift_report="javascript:window.planted=3"),
    )
    write(
        folder / "words" / "a.json",
        {"format": 1, "id": PLANTED, "when": iso(when), "who": PLANTED, "word": PLANTED, "reason": PLANTED},
    )
    write(
        folder / "champions.json",
        [{"version": 1, "previous": None, "when": iso(when), "who": PLANTED, "why": PLANTED}],
    )
    (folder / "words" / "<img src=x onerror=window.planted=4>.json").write_text("{")
    page = write_review_page(folder)
    clean_tab.open(page.as_uri())
    clean_tab.click(".timeline circle")
    assert clean_tab.run("window.planted") is None
    assert clean_tab.run("document.querySelectorAll('main img, main script, main b b').length") == 0
    assert clean_tab.run(
        "[...document.querySelectorAll('a')].every((a) => /^(#|\\.\\/drift\\/)/.test(a.getAttribute('href')))"
    )
    assert clean_tab.run("document.body.textContent").count("window.planted = 1") >= 12


@needs_browser
def test_a_fault_of_the_page_would_be_seen(tab, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<!doctype html><script>console.error('planted'); nothing.here</script>")
    tab.errors.clear()
    tab.open(page.as_uri())
    assert any("planted" in error for error in tab.errors)
    assert any("nothing is not defined" in error for error in tab.errors)


def test_an_empty_folder_says_what_to_do(tmp_path):
    html = write_review_page(tmp_path / "run" / "review").read_text()
    for words in (
        "No decision yet",
        "alphaloop run",
        "alphaloop watch",
        "alphaloop review hold",
        "alphaloop review force",
        "alphaloop review approve",
        "no champion",
        "run: review",
    ):
        assert words in html or words == "no champion"
    assert "can't be read" not in html


BROKEN = {
    "half": '{"format": 1, "id": "half", "wh',
    "empty": "",
    "list": "[1, 2]",
    "null": "null",
    "wrong_type": json.dumps(decision(START, "retrain", "r", rules="ks")),
    "no_time": json.dumps({**decision(START, "retrain", "r"), "when": "yesterday"}),
    "time_of_no_calendar": json.dumps(
        {**decision(START, "retrain", "r"), "when": "0001-01-01T00:00:00+14:00"}
    ),
    "other_format": json.dumps(decision(START, "retrain", "r", format=2)),
    "deep": "[" * 100_000,
    "not_text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize(
    "place", ["decisions/{}.json", "words/{}.json", "drift/{}/drift.json", "champions.json"]
)
def test_broken_files_are_named_and_the_rest_is_shown(tmp_path, place):
    folder = tmp_path / "demo" / "review"
    good = example(folder, days=6)
    for name, content in BROKEN.items():
        path = folder / place.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if place == "champions.json":
            html = write_review_page(folder).read_text()
            assert "<code>champions.json</code>" in html
    html = write_review_page(folder).read_text()
    names = ["champions"] if place == "champions.json" else BROKEN
    assert all(f"<code>{place.format(name)}</code>" in html for name in names)
    assert all(f'id="decision-{one["id"]}"' in html for one in good)


def test_what_is_being_written_is_not_read_yet(tmp_path):
    folder = tmp_path / "demo" / "review"
    example(folder, days=3)
    before = read_review(folder)
    write(folder / "drift" / ".20260101.abc" / "drift.json", {"format": 1})
    (folder / "decisions" / ".x.json.abc").mkdir()
    (folder / "decisions" / ".x.json.abc" / "x.json").write_text("{")
    assert read_review(folder) == before


def test_a_missing_report_folder_leaves_no_dead_link(tmp_path):
    folder = tmp_path / "demo" / "review"
    reported = [one for one in example(folder, days=14) if one["drift_report"]]
    assert len(reported) == 4
    shutil.rmtree(folder / "drift" / reported[0]["id"])
    (folder / "drift" / reported[1]["id"] / "index.html").unlink()
    html = write_review_page(folder).read_text()
    assert html.count("drift report missing") == 2
    assert html.count("report page missing") == 1
    assert html.count(f'href="./{reported[2]["drift_report"]}"') == 2
    shutil.rmtree(folder / "drift")
    assert write_review_page(folder).read_text().count("drift report missing") == 4


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../secret.html", "drift/../../../x.html", "javascript:alert(1)", "\0", "x" * 5000],
)
def test_a_report_outside_the_folder_gets_no_link(tmp_path, path):
    folder = tmp_path / "demo" / "review"
    (tmp_path / "secret.html").write_text("x")
    write(folder / "decisions" / "a.json", decision(START, "none", "r", id="a", drift_report=path))
    html = write_review_page(folder).read_text()
    assert "drift report missing" in html
    assert "<a href" not in html.split('data-list="decisions"')[1]


def test_text_that_utf_8_does_not_know_is_shown_without_harm(tmp_path):
    folder = tmp_path / "demo" / "review"
    (folder / "words").mkdir(parents=True)
    (folder / "words" / "a.json").write_text(
        '{"format": 1, "id": "a", "when": "2026-01-01T00:00:00Z", "who": "\\ud800", "word": "hold", "reason":'
        ' "why"}'
    )
    assert "why" in write_review_page(folder).read_text()


def word(folder, minutes: int, kind: str) -> None:
    when = START + timedelta(minutes=minutes)
    write(
        folder / "words" / f"{name_of(when)}.json",
        {
            "format": 1,
            "id": name_of(when),
            "when": iso(when),
            "who": "maria",
            "word": kind,
            "reason": "because",
        },
    )


@pytest.mark.parametrize(
    ("words", "held"),
    [
        ([], False),
        (["hold"], True),
        (["hold", "force"], False),
        (["hold", "approve"], False),
        (["force", "hold"], True),
        (["hold", "hold"], True),
    ],
)
def test_a_hold_is_in_force_until_a_later_word(tmp_path, words, held):
    for k, kind in enumerate(words):
        word(tmp_path, k, kind)
    assert (read_review(tmp_path).hold() is not None) is held
    html = write_review_page(tmp_path).read_text()
    assert ("<b>in force</b>" in html) is held


ENDED = {
    "when": iso(START),
    "status": "promoted",
    "version": 2,
    "champion_before": 1,
    "champion_after": 2,
    "reason": "better",
}


@pytest.mark.parametrize(
    ("actions", "opened"),
    [
        (["none"], None),
        (["retrain"], 0),
        (["retrain:ended"], None),
        (["retrain", "resume"], 0),
        (["retrain", "held"], 0),
        (["waiting_for_approval"], 0),
        (["waiting_for_approval", "held"], 0),
        (["waiting_for_approval", "none"], None),
        (["waiting_for_approval", "retrain:ended"], None),
    ],
)
def test_what_waits_is_named(tmp_path, actions, opened):
    for k, action in enumerate(actions):
        name, _, ended = action.partition(":")
        when = START + timedelta(hours=k)
        write(
            tmp_path / "decisions" / f"{k}.json",
            decision(when, name, "r", id=str(k), outcome=ENDED if ended else None),
        )
    found = read_review(tmp_path).open_decision()
    assert (found.id if found else None) == (None if opened is None else str(opened))


def test_a_decision_tells_why_on_which_data_by_whom_and_what_came_of_it(tmp_path):
    folder = tmp_path / "demo" / "review"
    made = decision(
        START,
        "retrain",
        "psi: PSI of rsi_14 is 0.61",
        id="a",
        by="reviewer",
        who="maria",
        rules=["ks", "psi"],
        outcome=ENDED,
        drift_report=None,
    )
    write(folder / "decisions" / "a.json", made)
    entry = write_review_page(folder).read_text().split('id="decision-a"')[1].split("</article>")[0]
    for words in (
        "2026-03-02 21:30",
        "psi: PSI of rsi_14 is 0.61",
        "by reviewer maria (rules ks, psi)",
        "bars 2025-12-08 to 2026-03-02",
        "30,000 rows",
        "data cccccccc",
        "champion v1 → v2",
        "promoted: better",
    ):
        assert words in entry


def test_what_the_audit_trail_and_the_registry_write_is_shown(tmp_path):
    review = tmp_path / "demo" / "review"
    said = append_word(review, who="maria", word="hold", reason="index rebalancing")
    made = append_decision(review, lambda _, place: decided(place, action="held", reason="maria said hold"))
    write_champions([reign(when=START)], review)
    html = write_review_page(review).read_text()
    found = read_review(review)
    assert found.problems == []
    assert (found.hold().id, found.decisions[0].id, found.champions[0].version) == (said.id, made.id, 1)
    assert f'id="word-{said.id}"' in html
