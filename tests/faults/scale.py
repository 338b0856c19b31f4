"""Size of the fault tests: `FAULTS=long` as in `make test-faults`, or short, as in the gate."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes of the fault tests."""

    records: int
    kills: int
    kill_every_seconds: float
    outage_seconds: float
    """Postgres, Redis and the broker are away so long; Elasticsearch twice as long."""
    cache_updates: int
    brokers: int
    """So many of the three nodes are killed, in turn."""


LONG = Scale(records=500_000, kills=40, kill_every_seconds=4.0, outage_seconds=60.0, cache_updates=10_000, brokers=3)
SHORT = Scale(records=40_000, kills=10, kill_every_seconds=2.5, outage_seconds=8.0, cache_updates=2_000, brokers=1)

SCALES = {"long": LONG, "short": SHORT}


def scale_name() -> str:
    """The scale that `FAULTS` names; short if it is not set. Raises ValueError for another word."""
    wanted = os.environ.get("FAULTS", "short")
    if wanted not in SCALES:
        raise ValueError(f"FAULTS={wanted}: expected {' or '.join(SCALES)}")
    return wanted


def scale() -> Scale:
    """The sizes of that form."""
    return SCALES[scale_name()]
