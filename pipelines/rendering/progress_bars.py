"""Show progress: bars on a terminal, plain lines elsewhere."""

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBars
from rich.text import Text

from ..common.printable import printable
from ..common.progress import Progress

_PLAIN_SECONDS = 5.0  # between progress lines when not on a terminal


class RateColumn(ProgressColumn):
    """Show how many units a second are finished."""

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing before the first unit."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed else "")


class BarProgress(Progress):
    """Draw bars on a terminal."""

    shows_downloads = True

    def __init__(self, console: Console) -> None:
        self.console = console

    def note(self, message: str) -> None:
        """Print one line above the bars."""
        self.console.print(printable(message), markup=False, emoji=False, highlight=False)

    def start(self, label: str, total: int, *, unit: str, done: int = 0) -> None:
        """Show a bar."""
        self.bars = RichBars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self.console,
            # lines that stay would stand between the results
            transient=True,
        )
        self.bars.add_task(
            printable(label), total=total, completed=done, unit=printable(unit), detail=""
        )
        self.bars.start()

    def advance(self, count: int) -> None:
        """Move the bar."""
        self.bars.advance(self.bars.task_ids[0], count)

    def detail(self, message: str) -> None:
        """Show what limits the work behind the bar."""
        self.bars.update(self.bars.task_ids[0], detail=printable(message))

    def finish(self) -> None:
        """Take the bar away."""
        self.bars.stop()


class LineProgress(Progress):
    """Write plain lines where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def note(self, message: str) -> None:
        """Write one line."""
        self.console.print(
            printable(message), markup=False, emoji=False, highlight=False, soft_wrap=True
        )

    def start(self, label: str, total: int, *, unit: str, done: int = 0) -> None:
        """Begin to count; nothing is written before some seconds have passed."""
        self.label, self.total, self.unit = label, total, unit
        self.first = self.done = done
        self.began = self.written = time.perf_counter()
        self.limits = ""

    def advance(self, count: int) -> None:
        """Write a line every few seconds."""
        self.done += count
        now = time.perf_counter()
        # seldom, as each line stays in the log that standard error goes to
        if now - self.written >= _PLAIN_SECONDS:
            self.written = now
            rate = (self.done - self.first) / (now - self.began)
            left = (self.total - self.done) / rate if rate else 0.0
            self.note(
                f"{self.label}: {self.done}/{self.total} {self.unit}, "
                f"{rate:.1f}/s, {left:.0f} s left{self.limits}"
            )

    def detail(self, message: str) -> None:
        """Add what limits the work to the next line."""
        self.limits = f" ({message})"

    def finish(self) -> None:
        """Stop counting."""
