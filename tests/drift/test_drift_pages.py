"""The pages: whole, self-contained, escaped, saying what a reviewer needs, and drawn by a real browser."""

import re
import shutil
import subprocess

import polars as pl
import pytest

from components.contracts.documents.drift import DriftReport
from components.drift.detect import detect
from components.drift.report import write_reports
from tests.retraining.entries import champion


@pytest.fixture(scope="module")
def pages(made, drift_settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    current = made.current.with_columns(
        (pl.col("rank_a") + 0.3).alias("rank_a"),
        pl.lit(0.5, dtype=pl.Float32).alias("value"),
        pl.lit(None, dtype=pl.Float32).alias("sparse"),
        pl.col("score") + 0.004,
    )
    result = detect(
        made.folder,
        current,
        made.labels,
        drift_settings,
        source="<script>alert(1)</script>",
        sha256="ab" * 32,
        champion=champion(version=3, bundle_sha256="cd" * 32),
    )
    write_reports(folder, result, made.folder, current, drift_settings)
    return folder, result


def test_drift_json_is_what_was_found(pages):
    folder, result = pages
    assert DriftReport.read(folder / "drift.json") == result


def test_the_summary_says_what_a_reviewer_needs(pages, made):
    page = (pages[0] / "index.html").read_text(encoding="utf-8")
    since = made.current["timestamp"].min().date().isoformat()
    for words in (
        "champion version 3",
        "rank_a (mean since " + since,
        "value (constant",
        "sparse (missing",
        "evidently.html",
        "Nothing was decided on this report",
        "effective rows now",
        "Benjamini",
        "corrected for",
        "training windows",
    ):
        assert words in page, words


def test_text_from_outside_is_escaped(pages):
    page = (pages[0] / "index.html").read_text(encoding="utf-8")
    assert "<script>alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_pages_load_nothing_from_elsewhere(pages):
    for name in ("index.html", "evidently.html"):
        page = (pages[0] / name).read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"'](?:https?:)?//", page), name


def test_evidently_draws_a_sample_and_says_so(pages, drift_settings):
    page = (pages[0] / "evidently.html").read_text(encoding="utf-8")
    assert "Pictures show a sample" in page
    assert "PSI, 10 quantile bins" in page
    assert "rank_a" in page
    assert "K-S p-value, effective rows, corrected" in page


def test_too_little_data_still_gives_a_page(made, drift_settings, tmp_path):
    few = made.current.head(40)
    result = detect(made.folder, few, None, drift_settings)
    write_reports(tmp_path, result, made.folder, few, drift_settings)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "not enough data" in page
    assert "drift.min_rows=100" in page
    assert not (tmp_path / "evidently.html").exists()


def test_a_table_without_timestamps_gives_a_page(made, drift_settings, tmp_path):
    bare = made.current.drop("timestamp", "symbol", "score")
    write_reports(
        tmp_path, detect(made.folder, bare, None, drift_settings), made.folder, bare, drift_settings
    )
    assert "without timestamps rows count as independent" in (tmp_path / "index.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_draws_every_plot(pages, tmp_path):
    page = pages[0] / "index.html"
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=15000",
        "--dump-dom",
        page.as_uri(),
    ]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    wanted = page.read_text(encoding="utf-8").count('<div class="plot')
    assert wanted >= 6
    assert drawn.count("js-plotly-plot") >= wanted
