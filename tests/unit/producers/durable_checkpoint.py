"""A checkpoint and a topic in memory."""

from dataclasses import dataclass, field
from typing import Any

from producers.source import SourceRecord
from stores.checkpoints import Page, Position


@dataclass
class Durable:
    """What survives: a checkpoint as `CheckpointStore` keeps it, and what was sent, in order."""

    at: dict[str, Any] = field(default_factory=dict)
    pages: list[Page] = field(default_factory=list)
    sent: list[SourceRecord] = field(default_factory=list)

    def save(self, position: Position) -> None:
        if position.at is not None:
            self.at = dict(position.at)
        for page in position.pages:
            if page.number is not None:
                self.pages = [other for other in self.pages if other.number != page.number]
            self.pages.append(page)
        if position.end is not None:
            self.pages = [p for p in self.pages if p.number is not None and p.number < position.end]

    def position(self) -> Position | None:
        return Position(self.at, tuple(self.pages)) if self.at or self.pages else None

    @property
    def state(self) -> dict[str | None, bytes | None]:
        return {record.key: record.value for record in self.sent}
