"""The catalog: which inputs models of a modality and a period see, and files from before periods."""

import json
from dataclasses import asdict

from components.contracts import CatalogEntry, inputs_of, read_catalog, write_catalog

ENTRIES = [
    CatalogEntry("a", "a", "g", "input", "none", 1, "", "", modality, period)
    for modality in ("base", "rich")
    for period in ("", "1d")
] + [CatalogEntry("raw", "raw", "g", "raw", "none", 1, "", "")]


def test_models_see_the_inputs_of_their_modality_and_period():
    found = {
        (modality, period): [(entry.modality, entry.period) for entry in inputs_of(ENTRIES, modality, period)]
        for modality in ("base", "rich")
        for period in ("", "1d", "4h")
    }
    assert found == {
        ("base", ""): [("base", "")],
        ("base", "1d"): [("base", "1d")],
        ("base", "4h"): [],
        ("rich", ""): [("base", ""), ("rich", "")],
        ("rich", "1d"): [("base", "1d"), ("rich", "1d")],
        ("rich", "4h"): [],
    }
    assert inputs_of(ENTRIES, "rich") == inputs_of(ENTRIES, "rich", "")


def test_an_entry_without_a_period_is_of_the_panels_own(tmp_path):
    write_catalog(ENTRIES, tmp_path / "catalog")
    assert read_catalog(tmp_path / "catalog") == ENTRIES
    earlier = [{key: value for key, value in asdict(ENTRIES[0]).items() if key != "period"}]
    (tmp_path / "earlier").write_text(json.dumps(earlier))
    assert read_catalog(tmp_path / "earlier") == ENTRIES[:1]
