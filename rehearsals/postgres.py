"""A Postgres sink with arrivals that a rehearsal makes invalid: Postgres refuses them, as far as anybody can tell."""

from rehearsals.file import REASON
from rehearsals.watch import RehearsalWatch
from runtime.settings import Settings
from sinks.postgres.arrivals import Arrival
from sinks.postgres.merge import DatasetMerge, Merged, Refused
from sinks.postgres.sink import PostgresSink


class RehearsedPostgresSink(PostgresSink):
    """Refuses the arrivals that a rehearsal strikes, and merges all others."""

    def __init__(self, settings: Settings, watch: RehearsalWatch) -> None:
        super().__init__(settings)
        self._watch = watch

    async def merge(self, merge: DatasetMerge, arrivals: list[Arrival]) -> Merged:
        spared, refused = [], []
        for arrival in arrivals:
            origin = arrival.origin
            if rehearsal := self._watch.strikes_record(arrival.source, origin.partition, origin.offset):
                refused.append(Refused(arrival, REASON, f"rehearsal {rehearsal}"))
            else:
                spared.append(arrival)
        merged = await super().merge(merge, spared)
        merged.refused.extend(refused)
        return merged
