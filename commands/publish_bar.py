"""The progress bar of a run: first what Kafka has confirmed, then what Postgres has taken."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from commands.output import stderr
from producers.delivery import Progress


class PublishBar:
    """A bar whose length is estimated from the share of the source that has been read."""

    def __init__(self, bar: Bar, name: str) -> None:
        self._bar = bar
        self._name = name
        self._task = bar.add_task(f"{name}: confirmed by Kafka", total=None)

    def show(self, progress: Progress) -> None:
        """The first half: how many records are confirmed."""
        total = None if not progress.done else max(progress.sent, round(progress.sent / progress.done))
        self._bar.update(self._task, completed=progress.confirmed, total=total)

    def show_stored(self, stored: int, total: int) -> None:
        """The second half: how many of the published records Postgres has."""
        self._bar.update(self._task, description=f"{self._name}: taken by Postgres", completed=stored, total=total)


@contextmanager
def publish_bar(name: str) -> Iterator[PublishBar]:
    """The bar of the source `name` on the terminal, gone when the body ends."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        MofNCompleteColumn(separator=" of "),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=stderr, transient=True) as bar:
        yield PublishBar(bar, name)
