"""The store mirror: what is current at the address comes to the run folder, what was served goes there, and a
store that is gone costs nothing but time.
"""

import json
from dataclasses import replace

import pytest

from components.lasting.folder import LastingFolder, opened
from serving.processes.plan import ServingPlan, read_plan, write_plan
from serving.processes.store_mirror import StoreMirror
from tests.serving.made_answers import QUICK, FeatureStoreSettings


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "run").mkdir()
    store = f"file://{tmp_path}/store"
    return ServingPlan(tmp_path / "run", "demo", QUICK, FeatureStoreSettings(), store=store)


def put(address, **files):
    with opened(address, []) as folder:
        for name, text in files.items():
            path = folder / name.replace("__", "/").replace("_json", ".json").replace("_db", ".db")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def publish(plan, name):
    """Make a publication current at the address."""
    place = f"{plan.store}/feature_store"
    put(place, **{f"data__{name}__registry_db": f"registry of {name}"})
    put(place, current_json=json.dumps({"publication": name}))


def serve(plan, name, text="rows"):
    part = plan.served_folder / name
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(text)
    return part


def at_the_address(plan):
    return {name for name in LastingFolder.at(plan.store).names() if name.startswith("served/")}


def test_the_current_publication_comes_and_is_replaced_as_a_whole(plan):
    mirror = StoreMirror(plan)
    mirror.look()
    assert "There is no feature store in" in mirror.problem
    for name in ("one", "two"):
        publish(plan, name)
        mirror.look()
        assert mirror.problem is None
        assert (plan.store_folder / "registry.db").read_text() == f"registry of {name}"
        assert json.loads((plan.store_folder / "current.json").read_text())["publication"] == name


def test_answers_go_there_once_merged_ones_are_removed_and_others_stay(plan):
    publish(plan, "one")
    put(plan.store, **{"served__hour=1__of another.parquet": "rows"})
    first = serve(plan, "hour=1/first.parquet")
    mirror = StoreMirror(plan)
    assert set(mirror.waiting()) == {"hour=1/first.parquet"}
    mirror.look()
    assert mirror.waiting() == {}
    first.unlink()
    serve(plan, "hour=1/merged-1.parquet")
    # A mirror that was started again knows what the one before it has put.
    again = StoreMirror(plan)
    again.look()
    assert at_the_address(plan) == {"served/hour=1/merged-1.parquet", "served/hour=1/of another.parquet"}
    assert again.waiting() == {}


def test_another_address_gets_all_answers_anew(plan):
    serve(plan, "hour=1/part.parquet")
    StoreMirror(plan).look()
    moved = replace(plan, store=f"{plan.store}_moved")
    StoreMirror(moved).look()
    assert at_the_address(moved) == at_the_address(plan) == {"served/hour=1/part.parquet"}


def test_a_store_that_is_gone_is_told_and_everything_waits(plan, monkeypatch):
    publish(plan, "one")
    mirror = StoreMirror(plan)
    mirror.look()
    serve(plan, "hour=1/part.parquet")
    gone = plan.folder.parent / "store"
    gone.rename(gone.with_name("aside"))
    gone.write_text("no folder any more")
    mirror.look()
    mirror.report()
    assert mirror.problem
    assert set(mirror.waiting()) == {"hour=1/part.parquet"}
    assert json.loads((plan.store_folder / "current.json").read_text()) == {"publication": "one"}
    gone.unlink()
    gone.with_name("aside").rename(gone)
    mirror.look()
    assert mirror.problem is None
    assert at_the_address(plan) == {"served/hour=1/part.parquet"}


def test_review_pages_come_and_go(plan, monkeypatch):
    monkeypatch.setattr("serving.processes.store_mirror._PAGES_S", 0.0)
    publish(plan, "one")
    put(plan.store, review__page_json="old", review__other_json="1")
    mirror = StoreMirror(plan)
    mirror.look()
    assert (plan.review_folder / "page.json").read_text() == "old"
    put(plan.store, review__page_json="newer")
    LastingFolder.at(plan.store).remove("review/other.json")
    mirror.look()
    assert [path.name for path in plan.review_folder.iterdir()] == ["page.json"]
    assert (plan.review_folder / "page.json").read_text() == "newer"


def test_a_plan_says_where_things_lie(plan, tmp_path):
    assert read_plan(write_plan(plan)) == plan
    assert plan.mirrored
    assert plan.served_folder == plan.folder / "served"
    other = ServingPlan(plan.folder, "demo", QUICK, FeatureStoreSettings(), store=str(tmp_path / "kept"))
    assert not other.mirrored
    assert other.served_folder == tmp_path / "kept" / "served"
    assert other.store_folder == tmp_path / "kept" / "feature_store"
