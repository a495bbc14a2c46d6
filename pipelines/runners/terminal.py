"""Shows a run on the terminal: which stage, how far, how long, what came out.

Plain lines where there is no terminal.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

# How many files that were lost with pods are named; the events hold all.
MOST_LOST = 20


class Terminal:
    """Takes the events of `components.progress` and draws a bar for the stage at work and, with `lines`, a
    line for each one done.
    """

    def __init__(self, console: Console | None = None, *, lines: bool = True) -> None:
        self.lines = lines
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[what]}", style="dim"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._notes: dict[str, list[str]] = {}
        self._warnings: set[str] = set()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: dict[str, Any]) -> None:
        """Draw one event."""
        getattr(self, f"_{event['event']}")(event["stage"], event)

    def _started(self, stage: str, _: dict) -> None:
        self._tasks[stage] = self._progress.add_task(stage, total=None, what="")

    def _advanced(self, stage: str, event: dict) -> None:
        if stage in self._tasks:
            self._progress.update(
                self._tasks[stage], completed=event["done"], total=event["total"], what=escape(event["what"])
            )

    def _said(self, stage: str, event: dict) -> None:
        self._notes.setdefault(stage, []).append(event["message"])

    def _warned(self, stage: str, event: dict) -> None:
        """A warning is said once, whatever task or rebuild says it again."""
        if event["message"] in self._warnings:
            return
        self._warnings.add(event["message"])
        self.console.print(f"[yellow]![/] {stage:<22} [yellow]{escape(event['message'])}[/]")

    def _cached(self, stage: str, _: dict) -> None:
        self._line(f"[dim]= {stage:<22}   cached[/]")

    def _finished(self, stage: str, event: dict) -> None:
        self._end(stage)
        self._line(
            f"[green]✓[/] {stage:<22} {event['seconds']:6.1f} s "
            f" {escape('; '.join(self._notes.pop(stage, [])))}"
        )

    def _failed(self, stage: str, event: dict) -> None:
        self._end(stage)
        self._line(f"[red]✗ {stage:<22} {event['seconds']:6.1f} s  failed[/]")

    def _lost(self, stage: str, event: dict) -> None:
        """Told once for all tasks, when the run is over."""

    def tell_lost(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Say which files ended with the pods of a run."""
        lost = [
            (event["stage"], one["path"], one["bytes"])
            for event in events
            if event["event"] == "lost"
            for one in event["files"]
        ]
        if not lost:
            self.console.print("Nothing was lost with the pods.")
            return
        total = sum(size for *_, size in lost)
        self.console.print(f"Lost with the pods: {len(lost)} files, {total:,} bytes (all in events.jsonl)")
        for stage, path, size in sorted(lost, key=lambda one: -one[2])[:MOST_LOST]:
            self.console.print(f"  {stage:<22} {size:>13,} bytes  {escape(path)}")

    def _line(self, text: str) -> None:
        if self.lines:
            self.console.print(text)

    def _end(self, stage: str) -> None:
        if stage in self._tasks:
            self._progress.remove_task(self._tasks.pop(stage))
