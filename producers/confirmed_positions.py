"""The position of a run behind which every record is confirmed. Pure."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from producers.api.sent_records import without
from producers.source import SourceBatch
from stores.checkpoints import Page, Position


@dataclass
class SentBatch:
    """A batch that is being sent: `left` of its records have no confirmation yet."""

    left: int
    position: Position | None

    def confirmed(self) -> None:
        """Count one confirmation."""
        self.left -= 1


@dataclass
class ConfirmedPositions:
    """Batches in their order, and what is to be saved of those at the front that are confirmed."""

    _sent: deque[SentBatch] = field(default_factory=deque)
    _ready: Position | None = None

    def sending(self, batch: SourceBatch) -> SentBatch:
        """A batch whose records are about to be sent."""
        sent = SentBatch(len(batch.records), batch.position)
        self._sent.append(sent)
        return sent

    def take(self) -> Position | None:
        """The step that has become safe to save since the last time; None if none has."""
        while self._sent and not self._sent[0].left:
            position = self._sent.popleft().position
            if position is not None:
                self._ready = position if self._ready is None else merged(self._ready, position)
        ready, self._ready = self._ready, None
        return ready

    def put_back(self, position: Position) -> None:
        """To be called with what was taken and could not be saved."""
        self._ready = position if self._ready is None else merged(position, self._ready)

    def revoke(self, pages: Iterable[Page]) -> None:
        """To be called once these pages are saved: nothing that waits may contradict those without a number later."""
        for revoked in pages:
            if revoked.number is None:
                for sent in self._sent:
                    sent.position = _without(sent.position, revoked)
                self._ready = _without(self._ready, revoked)


def merged(earlier: Position, later: Position) -> Position:
    """One position that, saved, leaves what saving the two in order leaves."""
    pages = {page.number: page for page in earlier.pages if later.end is None or (page.number or 0) < later.end}
    for page in later.pages:
        pages.pop(page.number, None)  # at the end again: their order tells which came last
        pages[page.number] = page
    at = earlier.at if later.at is None else later.at
    return Position(at, tuple(pages.values()), earlier.end if later.end is None else later.end)


def _without(position: Position | None, revoked: Page) -> Position | None:
    if position is None or not position.pages:
        return position
    return replace(position, pages=tuple(without(page, revoked) for page in position.pages))
