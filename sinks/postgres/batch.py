"""What the Postgres sink has decoded of the messages of one poll."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain

from msgspec import structs

from schemas.dataset import Dataset
from schemas.events import FailedRecord, Origin
from sinks.postgres.arrivals import Arrival


@dataclass
class Batch:
    """What was decoded: arrivals by dataset, failures read, and failures of decoding, which nobody knows of yet.

    `reprocessed` are arrivals that were normalized anew. `undecodable` are those of our raw records; `foreign` came
    from none.
    """

    arrivals: dict[Dataset, list[Arrival]] = field(default_factory=dict)
    reprocessed: dict[Dataset, list[Arrival]] = field(default_factory=dict)
    reported: list[FailedRecord] = field(default_factory=list)
    undecodable: list[FailedRecord] = field(default_factory=list)
    foreign: list[FailedRecord] = field(default_factory=list)

    def origins(self) -> list[Origin]:
        """Coordinates of every raw record of ours in it."""
        return [
            *(arrival.origin for arrival in self._all_arrivals()),
            *(failed.origin for failed in (*self.reported, *self.undecodable)),
        ]

    def sources(self) -> set[str]:
        """Whose records are in it, as far as they say."""
        named = (
            *(arrival.source for arrival in self._all_arrivals()),
            *(failed.source for failed in self.reported),
        )
        return {source for source in named if source}

    def rebase(self, rebased: Callable[[Origin], Origin]) -> None:
        """Give every record the coordinates that it counts under."""
        for arrival in self._all_arrivals():
            arrival.origin = rebased(arrival.origin)
        for failures in (self.reported, self.undecodable):
            failures[:] = [structs.replace(failed, origin=rebased(failed.origin)) for failed in failures]

    def leave_out(self, names: Collection[str]) -> None:
        """Take out what came on the clean topics of these datasets."""
        self.arrivals, self.reprocessed = (
            {dataset: found for dataset, found in every.items() if dataset.name not in names}
            for every in (self.arrivals, self.reprocessed)
        )
        self.undecodable = [failed for failed in self.undecodable if failed.dataset not in names]
        self.foreign = [failed for failed in self.foreign if failed.dataset not in names]

    def parts(self, records: int) -> Iterator["Batch"]:
        """The same in batches of so many arrivals at most, in order; the failures come last."""
        for dataset, arrivals in self.arrivals.items():
            for start in range(0, len(arrivals), records):
                yield Batch({dataset: arrivals[start : start + records]})
        for dataset, arrivals in self.reprocessed.items():
            for start in range(0, len(arrivals), records):
                yield Batch(reprocessed={dataset: arrivals[start : start + records]})
        yield Batch(reported=self.reported, undecodable=self.undecodable, foreign=self.foreign)

    def _all_arrivals(self) -> Iterator[Arrival]:
        return chain.from_iterable(chain(self.arrivals.values(), self.reprocessed.values()))
