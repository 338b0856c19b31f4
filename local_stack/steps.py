"""Shows a person what is being waited for: live on a terminal, a line per finished step elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Steps:
    """The steps of one command. Use as a context manager; steps may run side by side."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._start_live()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_live()

    def begin(self, step: str, what: str) -> None:
        """A step begins: `what` is being done for it."""
        self._begun[step] = time.monotonic()
        if self._live:
            self._tasks[step] = self._live.add_task(f"{step:<19} [dim]{what}", total=1)

    def done(self, step: str, outcome: str) -> None:
        """A step has ended well."""
        seconds = time.monotonic() - self._begun.pop(step)
        if self._live:
            self._live.update(self._tasks[step], description=f"{step:<19} {outcome}", completed=1)
        else:
            self._console.print(f"{step:<19} {outcome} ({seconds:.1f} s)", markup=False, highlight=False)

    @contextmanager
    def step(self, step: str, what: str, outcome: str) -> Iterator[None]:
        """A step that is one block of code."""
        self.begin(step, what)
        yield
        self.done(step, outcome)

    def note(self, text: str) -> None:
        """Something worth knowing that is no step."""
        console = self._live.console if self._live else self._console
        console.print(text, markup=False, highlight=False)

    @contextmanager
    def handed_over(self) -> Iterator[None]:
        """Leave the terminal to another program meanwhile."""
        self._stop_live()
        try:
            yield
        finally:
            # A new one: the old one would draw over what the other program has printed.
            self._start_live()

    def _start_live(self) -> None:
        if self._console.is_terminal:
            columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), TimeElapsedColumn())
            self._live = Progress(*columns, console=self._console)
            self._live.start()

    def _stop_live(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None
