"""The leak audit as a task of a real pipeline: a user's leaking factors stop the run, and the text names
factor, time and size.
"""

import json
import re
import textwrap

import pytest
from kfp import dsl, local
from kfp.dsl import Artifact, Dataset, Input, Output

from components.audit.component import audit_leaks
from components.image import IMAGE
from components.labels.component import make_labels
from components.market.component import ingest
from components.market.config import Settings as MarketSettings
from components.progress import EVENTS_VARIABLE

LABEL_SETTINGS = json.dumps({"horizons": [1, 5], "primary_horizon": 5})
BUILDER = '''
"""Factors of a user; the second one of `leaking` looks two bars ahead."""

import polars as pl


def clean(panel):
    return _factors(panel, ahead=0)


def leaking(panel):
    return _factors(panel, ahead=2)


def _factors(panel, ahead):
    close = pl.col("close")
    return panel.select(
        "timestamp",
        "symbol",
        "known_time",
        (close / close.shift(5) - 1).over("symbol").cast(pl.Float32).alias("momentum_5"),
        (close / close.shift(-ahead).rolling_mean(5)).over("symbol").cast(pl.Float32).alias("smoothed_5"),
    )
'''


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def own_factors(
    raw: Input[Dataset],
    builder: str,
    panel: Output[Dataset],
    factors: Output[Dataset],
    catalog: Output[Artifact],
):
    """A panel that needs no validation, and the factors of a user's builder."""
    import polars as pl

    from components.audit.builders import load_builder
    from components.contracts import (
        FACTORS,
        PANEL,
        RAW_PANEL,
        CatalogEntry,
        read_table,
        write_catalog,
        write_table,
    )

    rows = read_table(raw.path, RAW_PANEL)
    bars = rows.with_columns(
        event_time=pl.col("timestamp") - pl.duration(hours=7),
        known_time=pl.col("timestamp"),
        sector=pl.col("sector").fill_null("unknown"),
    ).select(*PANEL.columns)
    stamp = write_table(
        bars.sort("timestamp", "symbol"),
        panel.path,
        PANEL,
        code_version="test",
        config_hash="test",
        inputs={},
    )
    table = load_builder(builder)(read_table(panel.path, PANEL))
    write_table(
        table,
        factors.path,
        FACTORS,
        code_version="test",
        config_hash="test",
        inputs={"panel": stamp.content_sha256},
    )
    about = {"group": "trend", "role": "input", "expression": "", "source": "test"}
    write_catalog(
        [
            CatalogEntry(column=name, factor=name, warm_up_bars=8, normalisation="none", **about)
            for name in ("momentum_5", "smoothed_5")
        ],
        catalog.path,
    )


def run_audit_pipeline(builder: str, folder) -> str:
    """Run ingest, own factors, labels and audit in subprocesses; returns the pipeline's failure text, empty
    where it passed.
    """
    market = MarketSettings(
        planted_ic=0.0,
        simulator={"symbols": 8, "bars": 120, "sectors": 2, "late_share": 0.0, "delisted_share": 0.0},
    ).model_dump_json()

    @dsl.pipeline(name="audit-of-own-factors")
    def audited():
        raw = ingest(settings=market, seed=3, source="", code="test").outputs
        own = own_factors(raw=raw["panel"], builder=builder).outputs
        labels = make_labels(panel=own["panel"], settings=LABEL_SETTINGS, code="test").outputs["labels"]
        audit_leaks(
            panel=own["panel"],
            factors=own["factors"],
            labels=labels,
            catalog=own["catalog"],
            builder=builder,
            builder_settings="",
            label_builder="components.labels.build:build_labels",
            label_settings=LABEL_SETTINGS,
            settings="{}",
            code="test",
            seed=3,
        )

    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "artifacts"),
        raise_on_error=True,
    )
    try:
        audited()
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.fixture
def events(tmp_path, monkeypatch):
    """The events file of the tasks; a user's builder lies on their path."""
    (tmp_path / "own_factor_library.py").write_text(textwrap.dedent(BUILDER))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = tmp_path / "events.jsonl"
    path.write_text("")
    monkeypatch.setenv(EVENTS_VARIABLE, str(path))
    return path


def failures(events) -> list[dict]:
    return [event for event in map(json.loads, events.read_text().splitlines()) if event["event"] == "failed"]


def test_a_leaking_factor_stops_the_pipeline_and_is_named_with_time_and_size(events, tmp_path):
    assert "audit-leaks" in run_audit_pipeline("own_factor_library:leaking", tmp_path)
    [failure] = failures(events)
    assert failure["stage"] == "audit"
    assert failure["mendable"]
    assert "smoothed_5" in failure["message"]
    assert "momentum_5" not in failure["message"]
    assert re.search(r"smoothed_5: .*first row 2021-\d\d-\d\d .*size 0\.\d+", failure["message"])


def test_clean_factors_of_a_user_pass(events, tmp_path):
    assert run_audit_pipeline("own_factor_library:clean", tmp_path) == ""
    assert failures(events) == []
