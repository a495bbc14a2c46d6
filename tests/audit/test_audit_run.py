"""The audit as a stage: table checks, its JSON, page and error, and the door on stamped files."""

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from components.audit.component import audit_leaks
from components.audit.config import Settings
from components.audit.page import page_html
from components.audit.result import AuditResult, Leak, LeakFound
from components.audit.run import Outputs, write_audit
from components.audit.table_checks import check_factor_table, check_label_table
from components.audit.whole_run import Tables, audit_run
from components.contracts import (
    FACTORS,
    FUSED,
    LABELS,
    PANEL,
    CatalogEntry,
    ContractError,
    read_stamp,
    write_catalog,
    write_table,
)
from components.labels.build import build_labels
from components.labels.config import Settings as LabelSettings

CLOSE = pl.col("close")
LABEL_SETTINGS = LabelSettings(horizons=(1, 5), primary_horizon=5)


def entry(column: str, warm_up_bars: int = 20) -> CatalogEntry:
    return CatalogEntry(
        column=column,
        factor=column,
        group="trend",
        role="input",
        normalisation="none",
        warm_up_bars=warm_up_bars,
        expression="",
        source="",
    )


def honest_factors(panel: pl.DataFrame) -> pl.DataFrame:
    """A builder that the door finds by this module's name in the tests below."""
    return panel.select(
        "timestamp",
        "symbol",
        "known_time",
        (CLOSE / CLOSE.shift(10)).over("symbol").cast(pl.Float32).alias("momentum"),
    )


def leaking_factors(panel: pl.DataFrame) -> pl.DataFrame:
    return honest_factors(panel).with_columns(
        (CLOSE - CLOSE.mean()).cast(pl.Float32).alias("scaled") for CLOSE in [panel["close"]]
    )


def test_a_clean_table_has_no_findings(market):
    panel = market(0)
    factors = honest_factors(panel)
    assert check_factor_table(factors, panel, [entry("momentum")]) == []
    assert check_factor_table(factors.filter(pl.col("momentum").is_not_null()), panel) == [], (
        "a warm-up that is left out is no gap"
    )
    assert check_label_table(build_labels(panel, LABEL_SETTINGS), panel) == []


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda t: pl.concat([t.head(500), t.slice(499)]), "duplicates"),
        (lambda t: pl.concat([t.slice(500), t.head(500)]), "time_reversal"),
        (lambda t: pl.concat([t.head(500), t.slice(501)]), "gap"),
        (lambda t: t.head(len(t) - 1), "gap"),
        (
            lambda t: t.with_columns(
                pl.when(pl.col("symbol") == "S01").then(pl.lit("S99")).otherwise("symbol").alias("symbol")
            ),
            "extra_rows",
        ),
        (lambda t: t.with_columns(pl.col("timestamp") + pl.duration(hours=1)), "extra_rows"),
        (lambda t: t.with_columns(pl.col("known_time") - pl.duration(hours=1)), "known_time"),
        (lambda t: t.drop("momentum"), "catalog"),
    ],
)
def test_a_spoilt_table_is_found(spoil, check, market):
    panel = market(0)
    findings = check_factor_table(spoil(honest_factors(panel)), panel, [entry("momentum")])
    found = next(leak for leak in findings if leak.check == check)
    assert found.sentence()
    assert check == "catalog" or found.rows > 0


def test_spoilt_labels_are_found(market):
    panel = market(0)
    labels = build_labels(panel, LABEL_SETTINGS)
    assert [leak.check for leak in check_label_table(pl.concat([labels, labels.tail(1)]), panel)] == [
        "duplicates"
    ]
    assert {leak.check for leak in check_label_table(labels.reverse(), panel)} == {"time_reversal"}
    assert {leak.check for leak in check_label_table(labels, panel.filter(pl.col("symbol") != "S02"))} == {
        "extra_rows"
    }


def audited(market, build, seed: int = 0) -> AuditResult:
    panel = market(seed)
    of_labels = partial(build_labels, settings=LABEL_SETTINGS)
    tables = Tables(panel, build(panel), of_labels(panel), [entry("momentum")])
    return audit_run(tables, build, of_labels, settings=Settings(), seed=seed)


def test_the_audit_of_a_run_holds_what_its_labels_show(market):
    panel, of_labels = market(0), partial(build_labels, settings=LABEL_SETTINGS)
    labels = of_labels(panel).with_columns(pl.col("log_return") + 0.01)
    tables = Tables(panel, leaking_factors(panel), labels, [entry("momentum")])
    result = audit_run(tables, leaking_factors, of_labels, settings=Settings(), seed=0)
    assert "log_return" in {leak.factor for leak in result.leaks}


def test_the_json_holds_leaks_and_counts(market, tmp_path):
    result = audited(market, leaking_factors)
    write_audit(result, Outputs(tmp_path / "audit.json", tmp_path / "audit.html"))
    written = json.loads((tmp_path / "audit.json").read_text())
    assert written["passed"] is False
    assert {leak["factor"] for leak in written["leaks"]} == {"scaled"}
    first = written["leaks"][0]
    assert first["check"] == "future_mutation"
    assert first["timestamp"].endswith("+00:00")
    assert first["bars_ahead"] >= 1
    assert first["absolute"] > 0
    assert written["checked"]["factors"] == 2
    assert written["checked"]["cuts"][0]["rows"] > 0
    assert written["checked"]["label_rows"] == 2 * written["checked"]["panel_rows"]


def test_the_error_names_column_check_time_size_and_remedy_on_one_screen(market):
    result = audited(market, leaking_factors)
    with pytest.raises(LeakFound) as caught:
        result.raise_if_leaking("audit.html")
    message = str(caught.value)
    for words in (
        "scaled: future_mutation",
        "first row 2020-",
        "bars ahead",
        "size ",
        "Mend or remove",
        "audit.html",
    ):
        assert words in message
    assert "momentum" not in message
    assert len(message.splitlines()) < 20
    many = AuditResult([Leak("truncation", f"factor_{i}") for i in range(100)])
    with pytest.raises(LeakFound, match="and 92 more columns"):
        many.raise_if_leaking()


def test_a_clean_run_passes(market):
    result = audited(market, honest_factors)
    result.raise_if_leaking()
    assert json.loads(result.to_json())["passed"] is True
    assert "no leak found" in page_html(result)


def test_the_page_is_self_contained_and_escapes_names(market):
    page = page_html(
        AuditResult(
            [*audited(market, leaking_factors).leaks, Leak("gap", "<script>alert(1)</script>")],
            {"notes": ["a < b"]},
        )
    )
    assert "scaled" in page
    assert "<script>alert" not in page
    assert "a &lt; b" in page
    assert "http" not in page.split("<script>")[0]
    assert "<script src" not in page
    assert "prefers-color-scheme" in page


@pytest.fixture
def files(market, tmp_path, monkeypatch):
    """Stamped files of a small run, and a module `planted.build` that the door can import."""
    package = tmp_path / "code" / "planted_stage"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "config.py").write_text(
        "from components.settings import Section\n\n\nclass Settings(Section):\n    ahead_bars: int = 0\n"
    )
    (package / "build.py").write_text(
        "import polars as pl\n\n\ndef build(panel, settings):\n    value ="
        " (pl.col('close').shift(-settings.ahead_bars) /"
        " pl.col('open')).over('symbol').cast(pl.Float32).alias('ratio')\n    return"
        " panel.select('timestamp', 'symbol', 'known_time', value), 'a second result'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    panel = market(0)

    def write(ahead_bars: int, *, labels_from: str = "") -> dict:
        value = (CLOSE.shift(-ahead_bars) / pl.col("open")).over("symbol").cast(pl.Float32).alias("ratio")
        paths = {
            name: SimpleNamespace(path=str(tmp_path / name), metadata={})
            for name in ("panel", "factors", "labels", "catalog", "audit", "page")
        }
        origin = {
            "panel": (
                write_table(
                    panel, paths["panel"].path, PANEL, code_version="c", config_hash="h"
                ).content_sha256
            )
        }
        write_table(
            panel.select("timestamp", "symbol", "known_time", value),
            paths["factors"].path,
            FACTORS,
            code_version="c",
            config_hash="h",
            inputs=origin,
        )
        labels = build_labels(panel, LABEL_SETTINGS)
        write_table(
            labels,
            paths["labels"].path,
            LABELS,
            code_version="c",
            config_hash="h",
            inputs={"panel": labels_from} if labels_from else origin,
        )
        write_catalog([entry("ratio", 1)], paths["catalog"].path)
        builders = {
            "builder": "planted_stage.build:build",
            "builder_settings": json.dumps({"ahead_bars": ahead_bars}),
        }
        of_labels = {
            "label_builder": "components.labels.build:build_labels",
            "label_settings": LABEL_SETTINGS.model_dump_json(),
        }
        return {
            **paths,
            **builders,
            **of_labels,
            "settings": Settings().model_dump_json(),
            "code": "c",
            "seed": 0,
        }

    return write


def test_the_door_passes_clean_factors(files, capsys):
    call = files(0)
    audit_leaks.python_func(**call)
    assert json.loads(Path(call["audit"].path).read_text())["passed"] is True
    assert call["audit"].metadata["passed"] is True
    assert "no leak in 1 factor columns" in capsys.readouterr().err


def test_the_door_stops_on_a_leak_after_writing_both_files(files):
    call = files(1)
    with pytest.raises(LeakFound, match="ratio: future_mutation"):
        audit_leaks.python_func(**call)
    assert json.loads(Path(call["audit"].path).read_text())["passed"] is False
    assert "ratio" in Path(call["page"].path).read_text()


def test_the_door_refuses_tables_of_different_origin(files):
    with pytest.raises(ContractError, match="must not be mixed"):
        audit_leaks.python_func(**files(0, labels_from="another panel"))


def test_the_door_joins_the_slow_columns_to_the_panel(files, market, tmp_path, monkeypatch):
    call = files(0)
    Path(tmp_path / "code" / "planted_stage" / "build.py").write_text(
        "import polars as pl\n\n\ndef build(panel, settings):\n    value ="
        " pl.col('earnings').shift(-settings.ahead_bars).over('symbol').cast(pl.Float32).alias('ratio')\n   "
        " return panel.select('timestamp', 'symbol', 'known_time', value)\n"
    )
    panel = market(0)
    fused = panel.select("timestamp", "symbol", (CLOSE / 10).alias("earnings"))
    call["fused"] = SimpleNamespace(path=str(tmp_path / "fused"), metadata={})
    write_table(fused, call["fused"].path, FUSED, code_version="c", config_hash="h")
    origin = read_stamp(call["factors"].path).inputs
    for ahead in (0, 1):
        value = fused.select(
            pl.col("earnings").shift(-ahead).over("symbol").cast(pl.Float32).alias("ratio")
        ).to_series()
        write_table(
            panel.select("timestamp", "symbol", "known_time", value),
            call["factors"].path,
            FACTORS,
            code_version="c",
            config_hash="h",
            inputs=origin,
        )
        call["builder_settings"] = json.dumps({"ahead_bars": ahead})
        for module in ("planted_stage", "planted_stage.build", "planted_stage.config"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        if not ahead:
            audit_leaks.python_func(**call)
            continue
        with pytest.raises(LeakFound, match="ratio: future_mutation"):
            audit_leaks.python_func(**call)
