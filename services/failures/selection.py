"""Filters of failures, which lists, replays and jobs share."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import ColumnElement

from schemas.registry import all_datasets
from stores.failure_states import STATES
from stores.tables import ingest_failures


class InvalidSelection(ValueError):
    """A value of the filter is wrong; the message names it."""


@dataclass(frozen=True)
class Selection:
    """All conditions hold together; an empty one holds for every failure. Times bound `failed_at`: [since, until)."""

    ids: tuple[int, ...] = ()
    datasets: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        for state in self.states:
            if state not in STATES:
                raise InvalidSelection(f"there is no state {state!r}; known are: {', '.join(STATES)}")

    @property
    def is_empty(self) -> bool:
        """True if it holds for every failure."""
        return self == Selection()

    def conditions(self) -> list[ColumnElement[bool]]:
        """Conditions for a WHERE clause."""
        columns = ingest_failures.c
        lists = (
            (columns.id, self.ids),
            (columns.dataset, self.datasets),
            (columns.source_name, self.sources),
            (columns.reason, self.reasons),
            (columns.key, self._stored_keys()),
            (columns.state, self.states),
        )
        found: list[ColumnElement[bool]] = [column.in_(values) for column, values in lists if values]
        if self.since is not None:
            found.append(columns.failed_at >= self.since)
        if self.until is not None:
            found.append(columns.failed_at < self.until)
        return found

    def _stored_keys(self) -> tuple[str, ...]:
        """The keys as given, for records of which no key could be made, and as each dataset normalizes them."""
        keys = dict.fromkeys(self.keys)
        for dataset in all_datasets() if self.keys else ():
            if not self.datasets or dataset.name in self.datasets:
                for key in self.keys:
                    with suppress(ValueError):
                        keys[dataset.normal_key(key)] = None
        return tuple(keys)

    def as_json(self) -> dict[str, object]:
        """The conditions that were given, as a job keeps them."""
        given = {name: value for name, value in vars(self).items() if value}
        kept: dict[str, object] = msgspec.json.decode(msgspec.json.encode(given))
        return kept
