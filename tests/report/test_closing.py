"""The page of a run that failed: a stage that was killed says nothing, and is named all the same."""

import json
from pathlib import Path

from components.report.closing import FAILURE, close_run, killed


def event(kind: str, stage: str, **more) -> dict:
    return {"event": kind, "stage": stage, "seconds": 1.0, **more}


RUN = [
    event("started", "features"),
    event("finished", "features"),
    event("started", "train lightgbm"),
    event("advanced", "train lightgbm"),
]


def close(folder: Path, events: list[dict]) -> str:
    (folder / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    close_run(folder, failed=True, message="exit code 1", events=folder / "events.jsonl")
    return (folder / FAILURE).read_text()


def test_a_stage_that_was_killed_is_named_with_what_to_do(tmp_path):
    page = close(tmp_path, [*RUN, event("started", "close")])
    assert "train lightgbm was killed" in page
    assert "out of memory" in page


def test_a_stage_that_failed_with_words_is_not_called_killed(tmp_path):
    failed = event("failed", "train lightgbm", message="The table has no rows.")
    page = close(tmp_path, [*RUN, failed])
    assert "The table has no rows." in page
    assert "was killed" not in page
    assert killed([*RUN, failed]) == []
    assert killed([*RUN, event("finished", "train lightgbm")]) == []
