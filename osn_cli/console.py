"""The only writer to the terminal: stage lines, progress bars, tables and JSON.

Results go to stdout, everything else to stderr, so that `--json` output can be piped.
"""

import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.table import Table

from pipelines.json_files import without_nan
from pipelines.progress import Advance


class Verbosity(IntEnum):
    """How much is printed besides results and errors."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


class RateColumn(TextColumn):
    """Steps per second, or seconds per step when slow."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: RichTask) -> Any:
        speed = task.finished_speed or task.speed
        self.text_format = "" if not speed else f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
        return super().render(task)


@dataclass
class Console:
    """Implements `pipelines.progress.Progress` and `pipelines.runner.Observer` on a terminal."""

    verbosity: Verbosity = Verbosity.NORMAL
    json_output: bool = False
    debug: bool = False
    """Whether errors come with their traceback."""
    out: RichConsole = field(default_factory=RichConsole)
    err: RichConsole = field(default_factory=lambda: RichConsole(stderr=True))
    bars: Progress | None = None

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """A progress bar with rate and time left; nothing when quiet or not on a terminal."""
        if self.verbosity == Verbosity.QUIET or not self.err.is_terminal:
            yield lambda steps: None
            return
        outermost = self.bars is None
        if self.bars is None:
            columns = (TextColumn("  {task.description:<24}"), BarColumn(), MofNCompleteColumn(), RateColumn())
            self.bars = Progress(*columns, TimeRemainingColumn(), console=self.err, transient=True)
            self.bars.start()
        bars, task = self.bars, self.bars.add_task(escape(description), total=total)
        try:
            yield lambda steps: bars.advance(task, steps)
        finally:
            bars.remove_task(task)
            if outermost:
                bars.stop()
                self.bars = None

    def note(self, message: str) -> None:
        self._say(f"  [yellow]note[/] {escape(message)}")

    def reused(self, stage: str) -> None:
        self._say(f"[dim]{stage:<9} up to date[/]", Verbosity.VERBOSE)

    def started(self, stage: str, reason: str) -> None:
        self._say(f"[bold]{stage:<9}[/] [dim]{escape(reason)}[/]")

    def finished(self, stage: str, wall_s: float) -> None:
        self._say(f"[bold]{stage:<9}[/] [green]done[/] in {wall_s:.1f} s")

    def say(self, message: str) -> None:
        """A line for people: part of a command's outcome."""
        if not self.json_output and self.verbosity > Verbosity.QUIET:
            self.out.print(escape(message), highlight=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if self.json_output or self.verbosity == Verbosity.QUIET or not rows:
            return
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(escape(format_cell(cell)) for cell in row))
        self.out.print(table)

    def result(self, content: Mapping[str, Any]) -> None:
        """What a script reads with --json."""
        if self.json_output:
            self.out.print_json(json.dumps(without_nan(content), default=str), ensure_ascii=True)

    def error(self, message: str) -> None:
        """One line; with --debug, below the traceback of the exception being handled."""
        if self.debug and sys.exc_info()[0] is not None:
            traceback.print_exc()
        self.err.print(f"[bold red]error[/] {escape(' '.join(message.split()))}", highlight=False, soft_wrap=True)

    def _say(self, markup: str, at: Verbosity = Verbosity.NORMAL) -> None:
        if self.verbosity >= at:
            self.err.print(markup, highlight=False, soft_wrap=True)


def format_cell(cell: Any) -> str:
    """A value as a table shows it."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)
