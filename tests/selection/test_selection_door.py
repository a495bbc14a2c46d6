"""What the door writes: inputs by fold, the evidence table and the page."""

import re
from dataclasses import replace

import polars as pl
import pytest

from components.contracts import (
    LABELS,
    TRAINING_SET,
    ContractError,
    read_chosen,
    read_stamp,
    read_table,
    write_catalog,
    write_table,
)
from components.page import render
from components.selection.component import draw_selection, select_factors
from components.selection.evidence import EVIDENCE
from components.selection.overview import Overview
from components.selection.page import PAGE, page_values
from tests.selection.made_up import HORIZON, SETTINGS, TIMELINE, catalog, choose, market


class Place:
    """A stand-in for a KFP artifact."""

    def __init__(self, path):
        self.path = str(path)


@pytest.fixture
def tables(tmp_path):
    training, labels, entries = market(20, bars=500, symbols=20, strength=0.3)
    about = {"code_version": "c", "config_hash": "h"}
    write_table(training, tmp_path / "training_set", TRAINING_SET, inputs={"panel": "p"}, **about)
    write_table(labels, tmp_path / "labels", LABELS, inputs={"panel": "p"}, **about)
    write_catalog(entries, tmp_path / "catalog")
    return tmp_path


def call(folder, **given):
    names = ("training_set", "labels", "catalog", "selection", "evidence", "overview")
    about = {
        "family": "linear",
        "horizon": HORIZON,
        "target": "log_return",
        "seed": 1,
        "code": "code-1",
        "settings": SETTINGS.model_dump_json(),
        "timeline": TIMELINE.model_dump_json(),
    }
    select_factors.python_func(**{name: Place(folder / name) for name in names}, **{**about, **given})
    found = {name: Place(folder / name) for name in ("overview", "evidence")}
    draw_selection.python_func(**found, code="code-1", page=Place(folder / "page"))


def test_the_doors_write_choice_evidence_and_page(tables):
    call(tables)
    chosen = read_chosen(tables / "selection")
    assert chosen.training_set == read_stamp(tables / "training_set").content_sha256
    evidence = read_table(tables / "evidence", EVIDENCE)
    assert read_stamp(tables / "evidence").inputs["training_set"] == chosen.training_set
    for fold, names in chosen.by_fold.items():
        taken = evidence.filter(
            (pl.col("fold") == fold) & pl.col("decision").is_in(["core", "plus", "filled"])
        )["factor"]
        assert sorted(taken) == sorted(names)
    text = (tables / "page").read_text()
    assert text.startswith("<!doctype html>")
    assert "noise_00" in text
    assert "http://" not in text.split("<script>")[0]


def test_the_page_drawn_from_the_files_is_the_page_of_what_was_found(tmp_path):
    """The market is too short for some figures: what is NaN in memory is null on disk."""
    found = choose(market(21, bars=500, symbols=20, inputs=3))
    gaps = replace(found.overview.adversarial[0], auc=float("nan"), usual=(), reason="too few bars")
    unknown = replace(found.overview.forward[0], low=float("nan"), high=float("nan"))
    told = found.overview.model_copy(update={"adversarial": (gaps,), "forward": (unknown,)})
    told.write(tmp_path / "overview")
    read = Overview.read(tmp_path / "overview")
    assert (read.adversarial[0].auc, read.forward[0].low) == (None, None)
    drawn = render(PAGE, **page_values(read, found.evidence))
    assert drawn == render(PAGE, **page_values(told, found.evidence))
    assert "no difference shown" in drawn
    found.overview.write(tmp_path / "whole")
    assert render(PAGE, **page_values(Overview.read(tmp_path / "whole"), found.evidence)) == render(
        PAGE, **page_values(found.overview, found.evidence)
    )


def test_tables_of_another_panel_are_refused(tables):
    labels = read_table(tables / "labels", LABELS)
    write_table(
        labels, tables / "labels", LABELS, code_version="c", config_hash="h", inputs={"panel": "another"}
    )
    with pytest.raises(ContractError, match="different origin"):
        call(tables)


def test_the_page_escapes_names_marks_eras_and_says_so_where_nothing_stands_out():
    training, labels, _ = market(21, bars=500, symbols=20, inputs=3)
    hostile = "<b>x</b>"
    found = choose(
        (training.rename({"noise_02": hostile}), labels, catalog(["noise_00", "noise_01", hostile]))
    )
    text = render(PAGE, **page_values(found.overview, found.evidence))
    tables = re.findall(r"<table>(.*?)</table>", text, re.DOTALL)
    assert len(tables) >= 6
    for table in tables:
        assert (
            len({len(re.findall("<t[hd][ >]", row)) for row in re.findall("<tr.*?</tr>", table, re.DOTALL)})
            == 1
        ), "every row has as many cells as the heading"
    assert hostile not in text
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert "holds test bars: reported only" in text
    if not found.overview.core and not found.overview.plus:
        assert "nothing stands out from chance" in text
