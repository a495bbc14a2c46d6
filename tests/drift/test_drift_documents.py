"""The drift report as a document: every key is asked for by name, and reports of 0.4.0 are still read."""

import json
from pathlib import Path

import pytest

from components.contracts import ContractError
from components.contracts.documents.drift import RULES, DriftReport
from components.drift.detect import detect
from components.drift.early import too_early
from components.drift.reference import read_reference

KEPT = Path(__file__).parent / "kept"


@pytest.fixture
def report(made, drift_settings) -> DriftReport:
    return detect(made.folder, made.current, made.labels, drift_settings)


def test_what_was_written_is_what_is_read(report, tmp_path):
    report.write(tmp_path / "drift.json")
    assert DriftReport.read(tmp_path / "drift.json") == report


@pytest.mark.parametrize(
    "place", [("verdict",), ("columns", 0, "usual_ks"), ("rules", 3, "fired"), ("label_shift", "largest")]
)
def test_a_key_that_is_missing_or_renamed_is_named_with_the_file(report, tmp_path, place):
    found = report.model_dump(mode="json")
    part = found
    for key in place[:-1]:
        part = part[key]
    part["renamed"] = part.pop(place[-1])
    (tmp_path / "drift.json").write_text(json.dumps(found))
    with pytest.raises(ContractError) as refused:
        DriftReport.read(tmp_path / "drift.json")
    for where in (place, (*place[:-1], "renamed")):
        assert f"  {'.'.join(map(str, where))}: " in str(refused.value)
    assert str(tmp_path / "drift.json") in str(refused.value)


def test_a_later_format_is_refused(report, tmp_path):
    (tmp_path / "drift.json").write_text(json.dumps(report.model_dump(mode="json") | {"format": 3}))
    with pytest.raises(ContractError, match="format"):
        DriftReport.read(tmp_path / "drift.json")


def test_a_report_of_0_4_0_is_read_with_all_its_numbers():
    path = KEPT / "report_0_4_0.json"
    was, report = json.loads(path.read_text()), DriftReport.read(path)
    assert report.model_dump(mode="json") == was | {"format": 2, "stamp": None}
    assert [rule.rule for rule in report.fired] == ["ks", "psi", "tail", "auc"]
    assert [(column.column, column.what) for column in report.moved] == [("rank_a", "mean")]
    assert report.moved[0].chances == {
        rule: was["columns"][0][f"{rule}_p_adjusted"] for rule in ("ks", "psi", "tail")
    }


def test_reports_of_0_4_0_on_which_nothing_was_decided_are_read(tmp_path):
    few = DriftReport.read(KEPT / "report_0_4_0_few_rows.json")
    assert (few.verdict, few.rules, few.stamp) == ("not_enough_data", (), None)
    early = {
        "format": 1,
        "verdict": "not_enough_data",
        "reason": "there is no champion yet, so nothing is served that could drift",
        "reference": {
            "bundle_sha256": None,
            "version": None,
            "train_window": None,
            "rows": None,
            "bars": None,
        },
        "current": {
            "rows": 0,
            "bars": 0,
            "first": None,
            "last": None,
            "source": "served",
            "sha256": "d" * 64,
        },
        "columns": [],
        "predictions": None,
        "label_shift": None,
        "adversarial": None,
        "information_ratio": None,
        "rules": [],
    }
    (tmp_path / "drift.json").write_text(json.dumps(early))
    now = too_early(None, tmp_path, 0, source="served", sha256="d" * 64)
    assert DriftReport.read(tmp_path / "drift.json") == now


def test_every_rule_is_in_the_report_in_order_and_has_a_name(report):
    assert [rule.rule for rule in report.rules] == list(RULES)
    assert [rule.title for rule in report.rules] == list(RULES.values())
    assert str(report.rules[0]) == f"ks: {report.rules[0].reason}"


def test_what_is_not_finite_is_null(made, drift_settings):
    import polars as pl

    bare = made.current.with_columns(pl.lit(None, dtype=pl.Float32).alias("rank_b"))
    report = detect(made.folder, bare, None, drift_settings.model_copy(update={"auc_windows": 0}))
    found = next(column for column in report.columns if column.column == "rank_b")
    assert (found.ks, found.median, found.rows) == (None, None, 0)


def test_a_reference_whose_numbers_do_not_fit_is_refused(made, tmp_path):
    kept = read_reference(made.folder).about.model_dump(mode="json")
    del kept["columns"]["value"]["by_window"]["20"]["tail_root"]
    (tmp_path / "reference.json").write_text(json.dumps(kept))
    from components.contracts.documents.drift_reference import DriftReference

    with pytest.raises(ContractError, match=r"columns\.value\.by_window\.20\.tail_root"):
        DriftReference.read(tmp_path / "reference.json")
