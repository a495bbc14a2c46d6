"""What a person sees of a run where output is no terminal: one plain line for each stage that ended."""

import io

from rich.console import Console

from pipelines.runners.terminal import Terminal


def shown(*events: dict, width: int = 200, **console) -> str:
    """The text that a terminal prints for `events`."""
    output = io.StringIO()
    with Terminal(Console(file=output, width=width, highlight=False, **console)) as terminal:
        for event in events:
            terminal.show({"time": 0.0, **event})
    return output.getvalue()


def test_a_stage_is_one_line_with_its_seconds_and_what_came_out():
    text = shown(
        {"event": "started", "stage": "features"},
        {"event": "advanced", "stage": "features", "done": 1, "total": 2, "what": "trend"},
        {"event": "said", "stage": "features", "message": "94 factors"},
        {"event": "said", "stage": "features", "message": "4,845 rows"},
        {"event": "finished", "stage": "features", "seconds": 12.34},
    )
    assert text.split() == ["✓", "features", "12.3", "s", "94", "factors;", "4,845", "rows"]


def test_a_cached_stage_says_so():
    assert shown({"event": "cached", "stage": "ingest"}).split() == ["=", "ingest", "cached"]


def test_a_failure_is_marked_and_its_notes_are_not_carried_on():
    text = shown(
        {"event": "started", "stage": "validation"},
        {"event": "failed", "stage": "validation", "message": "no rows", "mendable": True, "seconds": 0.5},
        {"event": "finished", "stage": "close", "seconds": 0.0},
    )
    assert text.splitlines()[0].split() == ["✗", "validation", "0.5", "s", "failed"]
    assert text.splitlines()[1].split() == ["✓", "close", "0.0", "s"]


def test_a_warning_stands_out_at_once():
    text = shown({"event": "warned", "stage": "train glass", "message": "glass FAILED and is left out"})
    assert text.split(maxsplit=1)[0] == "!"
    assert "train glass" in text
    assert "glass FAILED and is left out" in text


def test_two_stages_at_once_keep_their_notes_apart():
    text = shown(
        {"event": "started", "stage": "train median"},
        {"event": "started", "stage": "train lightgbm"},
        {"event": "said", "stage": "train lightgbm", "message": "40 trees"},
        {"event": "said", "stage": "train median", "message": "one number"},
        {"event": "finished", "stage": "train median", "seconds": 1.0},
        {"event": "finished", "stage": "train lightgbm", "seconds": 2.0},
    )
    first, second = text.splitlines()
    assert "one number" in first
    assert "40 trees" not in first
    assert "40 trees" in second


def test_brackets_in_messages_are_text():
    text = shown(
        {"event": "said", "stage": "labels", "message": "horizons [1, 5, 10] and [red]paint[/red]"},
        {"event": "finished", "stage": "labels", "seconds": 0.0},
        {"event": "warned", "stage": "labels", "message": "[/] is kept"},
    )
    assert "horizons [1, 5, 10] and [red]paint[/red]" in text
    assert "[/] is kept" in text


def test_progress_is_drawn_on_a_terminal_only():
    events = (
        {"event": "started", "stage": "train patchtst"},
        {
            "event": "advanced",
            "stage": "train patchtst",
            "done": 1.5,
            "total": 4,
            "what": "fold_01: epoch 1, loss 0.98",
        },
        {"event": "finished", "stage": "train patchtst", "seconds": 3.0},
    )
    assert "fold_01" not in shown(*events)
    drawn = io.StringIO()
    terminal = Terminal(Console(file=drawn, width=200, force_terminal=True))
    with terminal:
        for event in events[:2]:
            terminal.show(event)
    assert "fold_01: epoch 1, loss 0.98" in drawn.getvalue()


def test_progress_of_a_stage_that_was_never_started_is_let_pass():
    assert shown({"event": "advanced", "stage": "ghost", "done": 1, "total": 2, "what": ""}) == ""


def test_a_warning_is_said_once_however_many_tasks_and_rebuilds_repeat_it():
    once = {"event": "warned", "stage": "labels", "message": "no open prices"}
    others = [
        {"event": "warned", "stage": "labels", "message": "no volume"},
        {"event": "warned", "stage": "audit", "message": "no open prices"},
    ]
    lines = shown(once, *others, *[once] * 20).splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == ["no open prices", "no volume"]
