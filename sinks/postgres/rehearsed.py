"""Arrivals that a rehearsal makes invalid: Postgres refuses them, as far as anybody can tell."""

from runtime.rehearsal_watch import RehearsalWatch
from runtime.rehearsals import REASON
from sinks.postgres.arrivals import Arrival
from sinks.postgres.merge import Refused


def struck_by(watch: RehearsalWatch, arrivals: list[Arrival]) -> tuple[list[Arrival], list[Refused]]:
    """Split into those that are spared and those that are not."""
    spared, refused = [], []
    for arrival in arrivals:
        origin = arrival.origin
        if rehearsal := watch.strikes_record(arrival.source, origin.partition, origin.offset):
            refused.append(Refused(arrival, REASON, f"rehearsal {rehearsal}"))
        else:
            spared.append(arrival)
    return spared, refused
