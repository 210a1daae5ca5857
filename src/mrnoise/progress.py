"""Progress of long work: a bar in the terminal or in a notebook."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Protocol

# Shorter work shows nothing.
QUIET_SECONDS = 2.0
# Pause between two changes in a notebook, which are messages.
NOTEBOOK_SECONDS = 0.2


class MapProgress(Protocol):
    """Told of images and, within each, of samples."""

    def __call__(self, image: int, n_images: int, done: int, total: int, error: float) -> None:
        """Report."""
        ...


@contextmanager
def progress_bar(label: str = "noise map") -> Iterator[MapProgress]:
    """A bar over all samples of all images of a noise map, with the error of σ so far and the time left.

    Parameters
    ----------
    label
        Stands before it.

    Yields
    ------
    MapProgress
        For ``progress=`` of `mrnoise.noise_map`. In a terminal the bar goes to standard error, in a notebook below the
        cell. It appears after two seconds, and goes at the end.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> with progress_bar() as progress:
    ...     nm = noise_map(Sense(), simulate((16, 12), 4), n_samples=16, progress=progress)
    """
    with bar("probes") as update:

        def report(image: int, n_images: int, done: int, total: int, error: float) -> None:
            where = f"{label}, slice {image + 1} of {n_images}" if n_images > 1 else label
            known = "?" if math.isnan(error) else f"{100 * error:.1f} %"
            update(where, image * total + done, n_images * total, f"σ ± {known}")

        yield report


@contextmanager
def bar(unit: str) -> Iterator[Callable[..., None]]:
    """A bar that appears after a while; call it with a description, what is done, the total and a text behind it."""
    shown = (_NotebookBar if in_notebook() else _TerminalBar)(unit)
    started = time.perf_counter()

    def update(description: str, done: float, total: float, text: str = "") -> None:
        if time.perf_counter() - started > QUIET_SECONDS:
            shown.update(description, done, total, text)

    try:
        yield update
    finally:
        shown.stop()


def in_notebook() -> bool:
    """Whether what is displayed goes to a notebook."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


class _TerminalBar:
    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.bar: Any = None

    def update(self, description: str, done: float, total: float, text: str) -> None:
        if self.bar is None:
            self.bar = self._made()
            self.task = self.bar.add_task("", total=1, text="")
            self.bar.start()
        self.bar.update(self.task, description=description, completed=done, total=total, text=text)

    def _made(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} " + self.unit),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True, markup=False, emoji=False),
            transient=True,
        )

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()


class _NotebookBar:
    """Plain HTML that is replaced: no widgets are needed."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.handle: Any = None
        self.started = self.changed = time.perf_counter()

    def update(self, description: str, done: float, total: float, text: str) -> None:
        from IPython.display import HTML, display

        now = time.perf_counter()
        if self.handle is not None and now - self.changed < NOTEBOOK_SECONDS:
            return
        self.changed = now
        shown = HTML(self._page(description, done, total, text, now - self.started))
        if self.handle is None:
            self.handle = display(shown, display_id=True)
        else:
            self.handle.update(shown)

    def _page(self, description: str, done: float, total: float, text: str, seconds: float) -> str:
        left = f"{_time(seconds * (total - done) / done)} left" if done > 0 else ""
        words = " · ".join(filter(None, (f"{done:.0f}/{total:.0f} {self.unit}", text, _time(seconds), left)))
        return (
            f'<div style="display:flex;gap:12px;align-items:center;font:13px system-ui,sans-serif">'
            f'<span>{escape(description)}</span><progress value="{done:g}" max="{total:g}"></progress>'
            f'<span style="font-variant-numeric:tabular-nums;opacity:0.8">{escape(words)}</span></div>'
        )

    def stop(self) -> None:
        if self.handle is not None:
            from IPython.display import HTML

            self.handle.update(HTML(""))


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
