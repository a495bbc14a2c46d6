"""The suites let Great Expectations decide: what stops a run, what the page and the files say, and what other
tables must satisfy.
"""

import json
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import (
    FACTORS,
    LABELS,
    PANEL,
    PREDICTIONS,
    RAW_PANEL,
    TIME,
    AlphaloopError,
    read_table,
    write_table,
)
from components.page import render
from components.validation.config import Settings
from components.validation.judge import Judgements
from components.validation.page import page_values
from components.validation.quarantine import QUARANTINE
from components.validation.run import Outputs, ValidationFailed, publish, run_draw_validation
from components.validation.terminal import terminal_table
from components.validation.validate import check, validate_panel

START = datetime(2020, 1, 6, 21, tzinfo=UTC)
SYMBOLS, BARS = 6, 80
LOADED = re.compile(
    r"<script|<link(?! rel=\"icon\" href=\"data:,\">)|<img|<iframe|@import|url\(|src="
    r"|href=[\"']https?:|http-equiv",
    re.IGNORECASE,
)


def market(seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.01, (SYMBOLS, BARS))
    close = 50 * np.exp(np.cumsum(steps, axis=1))
    opened = close / np.exp(steps * 0.7)
    rows = SYMBOLS * BARS
    days = pl.Series([START + timedelta(days=day) for day in range(BARS)] * SYMBOLS)
    frame = pl.DataFrame(
        {
            "timestamp": days,
            "symbol": np.repeat([f"S{number}" for number in range(SYMBOLS)], BARS),
            "period": ["1d"] * rows,
            "event_time": days - timedelta(hours=7),
            "known_time": days,
            "open": opened.ravel(),
            "high": np.maximum(opened, close).ravel() * 1.005,
            "low": np.minimum(opened, close).ravel() * 0.995,
            "close": close.ravel(),
            "volume": np.round(1e6 * np.exp(rng.normal(0, 0.2, rows))),
            "sector": ["all"] * rows,
        }
    )
    return frame.cast(dict(RAW_PANEL.columns)).select(list(RAW_PANEL.columns)).sort("timestamp", "symbol")


def failed_checks(found) -> set[tuple[str, str]]:
    return {(failure["check"], failure["column"]) for failure in found.health["failures"]}


def publish_to(folder, found, settings=None):
    outputs = Outputs(folder / "clean", folder / "quarantine", folder / "health", folder / "judgements")
    publish(found, outputs, code="c", settings=settings or Settings())


def page_of(found, title="A table") -> str:
    return render("validation/page.html", **page_values(title, found.health, found.judgements))


def test_a_clean_panel_passes_whole(tmp_path):
    found = validate_panel(market(), Settings())
    assert found.failures == ()
    assert found.panel.equals(market())
    assert found.quarantine.is_empty()
    assert found.health["verdict"] == "passed"
    assert found.health["expectations"]["failed"] == 0
    assert found.health["rows_in"] == found.health["rows_out"] == SYMBOLS * BARS
    publish_to(tmp_path, found)
    assert json.loads((tmp_path / "health").read_text()) == found.health
    assert read_table(tmp_path / "quarantine", QUARANTINE).is_empty()


def test_quarantined_rows_carry_their_reason_and_the_rest_is_a_panel(tmp_path):
    raw = (
        market()
        .with_row_index("row")
        .with_columns(close=pl.when(pl.col("row") == 100).then(-1.0).otherwise("close"))
        .drop("row")
    )
    raw = raw.with_columns(vwap=pl.lit(float("nan")))
    found = validate_panel(raw, Settings())
    assert found.failures == ()
    assert found.quarantine.select("row", "reason", "all_reasons", "severity").rows() == [
        (100, "not_positive", "not_positive, ohlc_order", "quarantine")
    ]
    assert found.quarantine["detected_at"][0] == raw["timestamp"][100]
    assert found.panel["vwap"].null_count() == len(raw) - 1
    reasons = {entry["reason"]: entry for entry in found.health["reasons"]}
    assert reasons["not_positive"]["rows"] == 1
    assert reasons["not_positive"]["examples"][0]["close"] == -1.0
    write_table(found.panel, tmp_path / "panel", PANEL, code_version="c", config_hash="h")
    publish_to(tmp_path, found)
    assert len(read_table(tmp_path / "quarantine", QUARANTINE)) == 1


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda raw: raw.drop("close"), {("column_exists", "close")}),
        (lambda raw: raw.cast({"volume": pl.String}), {("column_type", "volume")}),
        (
            lambda raw: raw.with_columns(timestamp=pl.col("timestamp").dt.replace_time_zone(None)),
            {("column_type", "timestamp")},
        ),
        (lambda raw: raw.clear(), {("not_empty", "(all)")}),
        (
            lambda raw: raw.with_columns(
                period=pl.when(pl.col("symbol") == "S0").then(pl.lit("1h")).otherwise("period")
            ),
            {("one_period", "period")},
        ),
    ],
)
def test_a_wrong_schema_stops_with_one_clear_failure(tmp_path, spoil, expected):
    found = validate_panel(spoil(market()), Settings())
    assert failed_checks(found) == expected
    ((_, column),) = expected
    with pytest.raises(ValidationFailed, match=re.escape(column)) as caught:
        publish_to(tmp_path, found)
    assert str(tmp_path / "data_docs" / "index.html") in str(caught.value)
    assert "Read " in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [("volume", float("nan")), ("open", float("nan")), ("close", None), ("close", float("nan"))],
)
def test_an_all_missing_column_stops_and_is_named(tmp_path, column, value):
    found = validate_panel(market().with_columns(pl.lit(value, dtype=pl.Float64).alias(column)), Settings())
    assert ("mostly_there", column) in failed_checks(found)
    assert found.panel.is_empty()
    with pytest.raises(ValidationFailed, match=column):
        publish_to(tmp_path, found)
    assert len(read_table(tmp_path / "quarantine", QUARANTINE)) == SYMBOLS * BARS


@pytest.mark.parametrize("absent", [["open"], ["volume"], ["high", "low"], ["open", "high", "low", "volume"]])
def test_columns_that_the_panel_does_not_have_are_not_judged_and_told(absent):
    raw = market().with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in absent)
    found = validate_panel(raw, Settings())
    assert found.failures == ()
    assert found.health["absent_columns"] == absent
    assert found.panel.equals(raw), "absent columns stay null"
    assert found.quarantine.is_empty()
    results = found.health["expectations"]["results"]
    assert [result["column"] for result in results if result["check"] == "not_there"] == absent
    assert not [
        result
        for result in results
        if result["column"] in absent and result["check"] in ("mostly_there", "positive", "high_over_low")
    ]
    assert f"Not in the source:</b> {', '.join(absent)}" in page_of(found)
    assert f"the source has no {absent[0]}" in page_of(found)
    spoiled = raw.with_columns(close=pl.when(pl.int_range(pl.len()) == 100).then(None).otherwise("close"))
    assert validate_panel(spoiled, Settings()).quarantine.select("row", "reason").rows() == [
        (100, "not_finite")
    ]


def test_each_reason_says_when_it_can_be_known_and_counts_both_kinds():
    raw = market()
    late = raw.filter(
        (pl.col("symbol") == "S1") & (pl.col("timestamp") == START + timedelta(days=30))
    ).with_columns(close=pl.col("close") * 1.001, known_time=pl.col("timestamp") + timedelta(days=2))
    spoiled = pl.concat(
        [raw.with_columns(volume=pl.when(pl.int_range(pl.len()) == 100).then(-1.0).otherwise("volume")), late]
    )
    found = validate_panel(spoiled, Settings())
    entries = {entry["reason"]: entry for entry in found.health["reasons"]}
    assert (entries["negative_volume"]["known"], entries["negative_volume"]["hindsight_rows"]) == (
        "at the bar",
        0,
    )
    assert (entries["revision"]["known"], entries["revision"]["hindsight_rows"]) == ("on arrival", 1)
    assert found.health["hindsight_quarantined"] == 1
    page = page_of(found)
    assert "can be known" in page
    assert "on arrival" in page


def test_bars_that_the_source_lacks_are_told_from_those_that_were_set_aside():
    raw = market()
    lacking = raw.filter(
        (pl.col("symbol") != "S2")
        | ~pl.col("timestamp").is_between(START + timedelta(days=20), START + timedelta(days=22))
    )
    spoiled = lacking.with_columns(
        volume=pl.when((pl.col("symbol") == "S3") & (pl.col("timestamp") == START + timedelta(days=40)))
        .then(-1.0)
        .otherwise("volume")
    )
    gaps = validate_panel(spoiled, Settings()).health["gaps"]
    assert (gaps["count"], gaps["missing_bars"], gaps["missing_in_source"]) == (2, 4, 3)
    assert "3 of them missing in the source" in terminal_table(validate_panel(spoiled, Settings()).health)


def test_duplicate_rows_above_the_limit_stop_with_rows_on_the_page(tmp_path):
    raw = pl.concat([market(), market().head(200)])
    found = validate_panel(raw, Settings())
    assert failed_checks(found) == {("little_quarantine", "(all)")}
    failure = found.health["failures"][0]
    assert failure["count"] == 200
    assert len(failure["rows"]) == 5
    with pytest.raises(ValidationFailed, match=r"200 of 680 rows \(duplicate_identical 200\)"):
        publish_to(tmp_path, found)
    page = (tmp_path / "data_docs" / "index.html").read_text()
    first = failure["rows"][0]
    for expected in (
        "little_quarantine",
        "200 of 680 rows",
        str(first["row"]),
        first["symbol"],
        first["timestamp"],
        f"{first['close']:.6g}",
        "What to do",
        "duplicate_identical",
    ):
        assert expected in page
    assert validate_panel(raw, Settings(max_quarantine_share=0.5)).failures == ()


def test_swapped_columns_stop(tmp_path):
    found = validate_panel(
        market().rename({"high": "low", "low": "high"}).select(list(RAW_PANEL.columns)), Settings()
    )
    assert ("high_over_low", "high") in failed_checks(found)


def test_strict_refuses_missing_bars_and_says_how_many():
    raw = market().filter((pl.col("symbol") != "S2") | (pl.col("timestamp") != START + timedelta(days=20)))
    assert validate_panel(raw, Settings()).failures == ()
    found = validate_panel(raw, Settings(strict=True))
    assert failed_checks(found) == {("complete", "timestamp")}
    assert found.health["failures"][0]["found"] == "1"
    assert validate_panel(market(), Settings(strict=True)).failures == ()


def test_what_fell_out_as_a_whole_is_named():
    raw = market().filter(
        (pl.col("symbol") != "S4") | ((pl.col("timestamp") - START).dt.total_days() % 3 == 0)
    )
    found = validate_panel(raw, Settings())
    assert found.health["fell_out"]["symbols"] == ["S4"]
    assert found.health["coverage"][0]["symbol"] == "S4"
    assert found.health["gaps"]["count"] == 26


@pytest.mark.parametrize("spoiled", [False, True])
def test_the_page_loads_nothing_and_shows_every_check_in_our_style(tmp_path, spoiled):
    raw = market().with_columns(volume=pl.lit(None, dtype=pl.Float64)) if spoiled else market()
    found = validate_panel(raw, Settings())
    publish_to(tmp_path, found)
    run_draw_validation(tmp_path / "health", tmp_path / "judgements", tmp_path / "docs")
    page = (tmp_path / "docs").read_text()
    assert not LOADED.search(page)
    assert "prefers-color-scheme: dark" in page
    for judgement in found.judgements:
        assert f" of {len(judgement.outcomes)} expectations met" in page
    for outcome in (outcome for judgement in found.judgements for outcome in judgement.outcomes):
        assert outcome.check in page


@pytest.mark.parametrize("spoiled", [False, True])
def test_the_page_drawn_from_the_files_is_the_page_of_what_was_found(tmp_path, spoiled):
    raw = pl.concat([market(), market().head(2)]).with_columns(vwap=pl.lit(float("nan")))
    found = validate_panel(raw, Settings(max_quarantine_share=0.0 if spoiled else 0.05))
    assert bool(found.failures) == spoiled
    if spoiled:
        with pytest.raises(ValidationFailed):
            publish_to(tmp_path, found)
    else:
        publish_to(tmp_path, found)
    assert Judgements.read(tmp_path / "judgements").suites == found.judgements
    run_draw_validation(tmp_path / "health", tmp_path / "judgements", tmp_path / "docs")
    drawn = (tmp_path / "docs").read_text()
    assert drawn == page_of(found, "Validation of the raw panel")
    if spoiled:
        assert (tmp_path / "data_docs" / "index.html").read_text() == drawn


def test_text_from_the_data_is_escaped_on_the_page():
    raw = market().with_columns(
        symbol=pl.when(pl.col("symbol") == "S0").then(pl.lit("<script>alert(1)</script>")).otherwise("symbol")
    )
    raw = raw.with_columns(close=pl.when(pl.col("symbol").str.starts_with("<")).then(-1.0).otherwise("close"))
    assert "<script" not in page_of(validate_panel(raw, Settings()))


def times(rows: int) -> pl.Series:
    return pl.Series([START + timedelta(days=row) for row in range(rows)], dtype=TIME)


def factors() -> pl.DataFrame:
    values = np.random.default_rng(0).normal(size=(50, 2))
    frame = pl.DataFrame(
        {
            "timestamp": times(50),
            "symbol": ["A"] * 50,
            "known_time": times(50),
            "momentum": values[:, 0],
            "value": values[:, 1],
        }
    )
    return frame.cast({"momentum": pl.Float32, "value": pl.Float32})


def labels() -> pl.DataFrame:
    returns = np.random.default_rng(0).normal(0, 0.02, 50)
    frame = pl.DataFrame(
        {
            "timestamp": times(50),
            "symbol": ["A"] * 50,
            "horizon": [5] * 50,
            "label_end": times(50) + timedelta(days=6),
            "log_return": returns,
            "direction": np.sign(returns),
            "sector_neutral_return": returns,
        }
    )
    return frame.cast(dict(LABELS.columns))


def far_off(frame: pl.DataFrame) -> pl.DataFrame:
    """One label of the fifty is 40 deviations large, less than a label may be in a market that moves more."""
    return frame.with_columns(
        log_return=pl.when(pl.int_range(pl.len()) == 30).then(0.8).otherwise("log_return")
    )


def predictions() -> pl.DataFrame:
    score = np.random.default_rng(0).normal(0, 0.01, 50)
    frame = pl.DataFrame({"timestamp": times(50), "symbol": ["A"] * 50}).with_columns(
        pl.lit("1d").alias("period"),
        pl.lit(5).alias("horizon"),
        pl.lit("sector_neutral_return").alias("target"),
        pl.lit("median").alias("expert"),
        pl.lit("fold_00").alias("fold"),
        pl.lit("w").alias("train_window"),
        pl.Series("score", score),
        pl.lit(0.02).alias("uncertainty"),
        pl.Series("p10", score - 0.02),
        pl.Series("p50", score),
        pl.Series("p90", score + 0.02),
        pl.lit(1.0).alias("head_scale"),
        pl.lit(0.0).alias("head_bias"),
    )
    return frame.cast(dict(PREDICTIONS.columns))


MAKERS = {"panel": market, "factors": factors, "labels": labels, "predictions": predictions}


@pytest.mark.parametrize("kind", list(MAKERS))
def test_a_sound_table_of_each_kind_passes(kind):
    found = check(kind, MAKERS[kind](), Settings())
    assert found.failures == ()
    assert found.health["expectations"]["failed"] == 0
    assert not LOADED.search(page_of(found))


@pytest.mark.parametrize(
    ("kind", "spoil", "expected"),
    [
        ("panel", lambda frame: pl.concat([frame, frame.tail(1)]), "no_repeated_key"),
        ("panel", lambda frame: frame.with_columns(high=pl.col("low") * 0.9), "no_ohlc"),
        ("factors", lambda frame: frame.reverse(), "no_unsorted"),
        (
            "factors",
            lambda frame: frame.with_columns(known_time=pl.col("timestamp") - timedelta(days=1)),
            "no_known_before_end",
        ),
        (
            "factors",
            lambda frame: frame.with_columns(momentum=pl.lit(float("inf"), dtype=pl.Float32)),
            "finite",
        ),
        (
            "factors",
            lambda frame: frame.with_columns(momentum=pl.lit(float("nan"), dtype=pl.Float32)),
            "no_nan",
        ),
        ("factors", lambda frame: frame.with_columns(symbol=pl.lit(None, dtype=pl.String)), "no_null_key"),
        ("factors", lambda frame: frame.drop("known_time"), "column_exists"),
        ("labels", lambda frame: frame.with_columns(label_end=pl.col("timestamp")), "no_label_end_not_after"),
        (
            "labels",
            lambda frame: frame.with_columns(direction=pl.lit(3, dtype=pl.Int8)),
            "no_direction_unknown",
        ),
        (
            "labels",
            lambda frame: frame.with_columns(label_end=pl.lit(None, dtype=TIME)),
            "no_label_without_end",
        ),
        ("labels", lambda frame: frame.with_columns(log_return=pl.lit(float("inf"))), "no_label_not_finite"),
        (
            "labels",
            lambda frame: frame.with_columns(horizon=pl.lit(0, dtype=pl.Int32)),
            "no_horizon_not_positive",
        ),
        (
            "predictions",
            lambda frame: frame.with_columns(score=pl.lit(None, dtype=pl.Float64)),
            "no_score_not_finite",
        ),
        ("predictions", lambda frame: frame.with_columns(p10=pl.col("p90") + 1), "no_band_crossed"),
        (
            "predictions",
            lambda frame: frame.with_columns(uncertainty=pl.lit(-1.0)),
            "no_uncertainty_negative",
        ),
        (
            "predictions",
            lambda frame: frame.with_columns(
                pl.when(pl.int_range(pl.len()) > 3)
                .then(pl.lit("log_return"))
                .otherwise("target")
                .alias("target")
            ),
            "no_mixed_target",
        ),
    ],
)
def test_a_faulty_table_of_each_kind_is_caught(kind, spoil, expected):
    found = check(kind, spoil(MAKERS[kind]()), Settings())
    assert expected in {failure["check"] for failure in found.health["failures"]}


@pytest.mark.parametrize(
    ("kind", "spoil", "expected"),
    [
        ("factors", lambda frame: frame.with_columns(momentum=pl.lit(1.0, dtype=pl.Float32)), "varies"),
        ("factors", lambda frame: frame.with_columns(value=pl.lit(None, dtype=pl.Float32)), "enough_values"),
        ("labels", far_off, "no_label_too_large"),
    ],
)
def test_lesser_faults_are_reported_without_stopping(kind, spoil, expected):
    found = check(kind, spoil(MAKERS[kind]()), Settings())
    assert found.failures == ()
    assert expected in {
        result["check"] for result in found.health["expectations"]["results"] if not result["passed"]
    }


def test_a_kind_without_a_suite_is_refused():
    with pytest.raises(AlphaloopError, match="Known kinds"):
        check("prices", factors(), Settings())


class Place:
    """Stands for a KFP artifact: the door only uses its path."""

    def __init__(self, path):
        self.path = str(path)


def run_door(folder, raw):
    from components.validation.component import draw_validation, validate

    write_table(raw, folder / "raw", RAW_PANEL, code_version="c", config_hash="h")
    places = {name: Place(folder / name) for name in ("clean", "quarantine", "health", "judgements")}
    validate.python_func(
        panel=Place(folder / "raw"),
        settings=Settings().model_dump_json(),
        origin="made up",
        code="c",
        **places,
    )
    found = {name: places[name] for name in ("health", "judgements")}
    draw_validation.python_func(**found, code="c", data_docs=Place(folder / "page"))


def test_the_doors_write_all_their_outputs(tmp_path):
    run_door(tmp_path, pl.concat([market(), market().head(2)]))
    assert read_table(tmp_path / "clean", PANEL).equals(market())
    assert len(read_table(tmp_path / "quarantine", QUARANTINE)) == 2
    assert json.loads((tmp_path / "health").read_text())["verdict"] == "passed"
    assert "duplicate_identical" in (tmp_path / "page").read_text()
    assert not (tmp_path / "data_docs").exists(), "only a task that stops draws the page itself"


def test_the_door_leaves_page_and_quarantine_but_no_panel_when_it_stops(tmp_path):
    with pytest.raises(ValidationFailed, match="data_docs"):
        run_door(tmp_path, market().with_columns(close=pl.lit(None, dtype=pl.Float64)))
    assert not (tmp_path / "clean").exists()
    assert len(read_table(tmp_path / "quarantine", QUARANTINE)) == SYMBOLS * BARS
    assert "mostly_there" in (tmp_path / "data_docs" / "index.html").read_text()


def test_on_a_cluster_the_page_of_a_task_that_stops_lies_beside_its_note(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("ALPHALOOP_RUN", "run-1")
    page = tmp_path / "notes" / "run-1" / "data_docs.html"
    with pytest.raises(ValidationFailed, match=f"Read {re.escape(str(page))}"):
        run_door(tmp_path, market().with_columns(close=pl.lit(None, dtype=pl.Float64)))
    assert "mostly_there" in page.read_text()


def test_the_factors_contract_is_the_suite():
    assert set(FACTORS.columns) <= {
        result["column"]
        for result in check("factors", factors(), Settings()).health["expectations"]["results"]
    }
