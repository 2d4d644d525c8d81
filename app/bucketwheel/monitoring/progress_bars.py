"""Show the progress of a run as bars: on a terminal by rich, in a notebook as HTML, elsewhere as a line per stage."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO

from bucketwheel.contracts import Progress
from bucketwheel.formatting import counted, size_text
from bucketwheel.safe_text import one_line

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

# A terminal with fewer columns has room for the numbers only.
_WITH_BARS = 72
_WIDE = 100
_REDRAW_SECONDS = 0.2


class ProgressBars:
    """Shows events as bars; call it with each event, and close it after the last one.

    The end of a run closes it too, and so do the functions of `api` that get it. The next event opens it again.
    """

    def __init__(self, stream: TextIO | None = None, color: bool | None = None) -> None:
        self._stream = stream
        self._color = color
        self._view: _Lines | _RichBars | _NotebookBars | None = None

    def __call__(self, event: Progress) -> None:
        """Show an event; control characters in its texts are escaped."""
        dataset, stage, message = map(one_line, (event.dataset, event.stage, event.message))
        event = replace(event, dataset=dataset, stage=stage, message=message)
        if self._view is None:
            self._view = self._open()
        self._view.show(event)
        if not event.stage and event.state in ("finished", "skipped"):
            self.close()

    def __enter__(self) -> ProgressBars:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the bars."""
        self.close()

    def close(self) -> None:
        """Leave the bars as they are and release the terminal."""
        view, self._view = self._view, None
        if view is not None:
            view.close()

    def _open(self) -> _Lines | _RichBars | _NotebookBars:
        display = notebook_display()
        if self._stream is None and display is not None:
            return _NotebookBars(display)
        stream = self._stream or sys.stderr
        if stream.isatty() and has_rich():
            return _RichBars(stream, self._color)
        return _Lines(stream)


def has_rich() -> bool:
    """Return whether rich, which the extra `cli` installs, can be imported."""
    try:
        import rich.progress  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return False
    return True


def notebook_display() -> Callable[..., Any] | None:
    """Return the function that displays HTML in the notebook that runs this code; None outside a notebook."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    # Only shells of notebooks and similar front ends have a kernel.
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython import display as ipython

    display: Callable[..., object] = ipython.display
    return display


class _Lines:
    """One line per finished stage and per warning."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, event: Progress) -> None:
        if event.state == "finished" and event.stage:
            print(f"{event.dataset}: {event.stage} {event.message}", file=self._stream, flush=True)
        elif event.state == "warning":
            print(f"{event.dataset}: warning: {event.message}", file=self._stream, flush=True)

    def close(self) -> None:
        """Do nothing: lines need no end."""


class _RichBars:
    """Bars of rich, one per stage."""

    def __init__(self, stream: TextIO, color: bool | None) -> None:
        # Imported late: slow to load, and needed on a terminal only.
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
        from rich.text import Text

        class TimeLeft(TimeRemainingColumn):
            """The remaining time of a stage that has not finished."""

            def render(self, task: Task) -> Text:
                return Text() if task.finished else super().render(task).append(" left")

        console = Console(file=stream, no_color=None if color is None else not color)
        bar = () if console.width < _WITH_BARS else (BarColumn(bar_width=8 if console.width < _WIDE else 28),)
        columns: tuple[ProgressColumn, ...] = (
            TextColumn("{task.description}", markup=False),
            *bar,
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[done]}", markup=False),
            TimeLeft(compact=True),
        )
        self._bars: Bars = Bars(*columns, console=console)
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._counts: dict[tuple[str, str], _Counts] = {}
        self._dataset = ""
        self._bars.start()

    def show(self, event: Progress) -> None:
        from rich.text import Text

        bars, key = self._bars, (event.dataset, event.stage)
        if event.state == "warning":
            text = Text.assemble(f"{event.dataset}: ", ("warning:", "yellow"), f" {event.message}")
            bars.console.print(text)
            return
        if event.state == "skipped":
            for task in self._tasks.values():
                bars.remove_task(task)
            self._tasks.clear()
        if not event.stage or event.state in ("done", "skipped"):
            return
        if key not in self._tasks:
            if event.dataset != self._dataset:
                bars.console.print(event.dataset, markup=False, highlight=False)
                self._dataset = event.dataset
            total = event.total_rows or None
            self._tasks[key] = bars.add_task(event.stage, total=total, done="")
            self._counts[key] = _Counts()
        counted_rows = self._counts[key]
        if event.state == "finished":
            done = ", ".join(text for text in (counted_rows.text(), event.message) if text)
            bars.update(self._tasks[key], total=1, completed=1, done=done)
        else:
            counted_rows.add(event)
            read_and_written = counted_rows.read + counted_rows.written
            bars.update(self._tasks[key], completed=read_and_written, done=counted_rows.text())

    def close(self) -> None:
        self._bars.stop()


class _NotebookBars:
    """A table in the output of a notebook cell, with a line per stage."""

    def __init__(self, display: Callable[..., Any], now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._stages: dict[tuple[str, str], _Stage] = {}
        self._warnings: list[str] = []
        self._drawn = now()
        self._handle = display(_Html(""), display_id=True)

    def show(self, event: Progress) -> None:
        if event.state == "warning":
            self._warnings.append(f"{event.dataset}: {event.message}")
        elif event.state == "skipped":
            self._stages.clear()
            self._warnings.append(f"{event.dataset}: {event.message}")
        elif event.stage and event.state != "done":
            stage = self._stages.setdefault((event.dataset, event.stage), _Stage(_Counts()))
            stage.total = stage.total or event.total_rows
            if event.state == "finished":
                stage.finished = event.message
            else:
                stage.counts.add(event)
        if event.state != "advanced" or self._now() - self._drawn >= _REDRAW_SECONDS:
            self._draw()

    def close(self) -> None:
        self._draw()

    def _draw(self) -> None:
        self._drawn = self._now()
        rows = "".join(
            f"<tr><td>{html.escape(dataset)}</td><td>{html.escape(name)}</td>"
            f'<td><progress max="1" value="{stage.share:.3f}"></progress></td>'
            f"<td>{html.escape(stage.text)}</td></tr>"
            for (dataset, name), stage in self._stages.items()
        )
        notes = "".join(f"<div>{html.escape(text)}</div>" for text in self._warnings)
        self._handle.update(_Html(f"<table>{rows}</table>{notes}"))


@dataclass
class _Stage:
    """The progress of a stage."""

    counts: _Counts
    total: int = 0
    finished: str | None = None

    @property
    def share(self) -> float:
        if self.finished is not None:
            return 1.0
        return min((self.counts.read + self.counts.written) / self.total, 1.0) if self.total else 0.0

    @property
    def text(self) -> str:
        return ", ".join(text for text in (self.counts.text(), self.finished or "") if text)


@dataclass(frozen=True)
class _Html:
    """HTML for a notebook, and text for a front end without HTML."""

    text: str

    def _repr_html_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return "progress of a run"


@dataclass
class _Counts:
    """Rows read so far, rows written or read back so far, and the bytes of the latter."""

    read: int = 0
    written: int = 0
    bytes: int = 0

    def add(self, event: Progress) -> None:
        if event.bytes:
            self.written += event.rows
            self.bytes += event.bytes
        else:
            self.read += event.rows

    def text(self) -> str:
        if self.bytes:
            return f"{_rows(self.written)}, {size_text(self.bytes)}"
        return f"{_rows(self.read)} read" if self.read else ""


def _rows(count: int) -> str:
    return counted(count, "row") if count < 10**7 else f"{count / 1e6:,.1f} M rows"
