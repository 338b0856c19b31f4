"""What the Postgres sink has decoded of the messages of one poll."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from msgspec import structs

from schemas.dataset import Dataset
from schemas.events import FailedRecord, Origin
from sinks.postgres.arrivals import Arrival


@dataclass
class Batch:
    """What was decoded: arrivals by dataset, failures read, and failures of decoding, which nobody knows of yet."""

    arrivals: dict[Dataset, list[Arrival]] = field(default_factory=dict)
    reported: list[FailedRecord] = field(default_factory=list)
    undecodable: list[FailedRecord] = field(default_factory=list)

    def origins(self) -> list[Origin]:
        """Coordinates of every raw record in it."""
        return [
            *(arrival.origin for arrivals in self.arrivals.values() for arrival in arrivals),
            *(failed.origin for failed in (*self.reported, *self.undecodable)),
        ]

    def sources(self) -> set[str]:
        """Whose records are in it, as far as they say."""
        named = (
            *(arrival.source for arrivals in self.arrivals.values() for arrival in arrivals),
            *(failed.source for failed in self.reported),
        )
        return {source for source in named if source}

    def rebase(self, rebased: Callable[[Origin], Origin]) -> None:
        """Give every record the coordinates to book it under."""
        for arrivals in self.arrivals.values():
            for arrival in arrivals:
                arrival.origin = rebased(arrival.origin)
        self.reported = [structs.replace(failed, origin=rebased(failed.origin)) for failed in self.reported]

    def parts(self, records: int) -> Iterator["Batch"]:
        """The same in batches of so many arrivals at most, in order; the failures come last."""
        for dataset, arrivals in self.arrivals.items():
            for start in range(0, len(arrivals), records):
                yield Batch({dataset: arrivals[start : start + records]})
        yield Batch({}, self.reported, self.undecodable)
