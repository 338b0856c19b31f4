"""The registry of kinds of sources. Blocks of sources.toml, landing tables and the check of repeated keys follow it."""

from dataclasses import dataclass
from typing import Literal

LandingTable = Literal["raw_api_data", "raw_csv_data"]


@dataclass(frozen=True)
class SourceKind:
    """A way to read records. Its code is loaded where it is used, which is in the producers only."""

    name: str
    """As blocks name it, and the header of its records."""
    code: str
    """MODULE:CLASS of its producers.source.SourceBlock."""
    lands_in: LandingTable = "raw_api_data"
    repeats_keys: bool = False
    """A key may come many times, once for each version of its record."""


SOURCE_KINDS = [
    SourceKind("api", "producers.api.source:ApiBlock"),
    SourceKind("csv", "producers.csv.source:CsvBlock", lands_in="raw_csv_data"),
    SourceKind("jsonl", "producers.jsonl.source:JsonLinesBlock"),
    SourceKind("kafka", "producers.kafka.source:KafkaBlock", repeats_keys=True),
    SourceKind("rss", "producers.rss.source:RssBlock"),
    SourceKind("webhook", "producers.webhook.source:WebhookBlock"),
]

LANDING_TABLES: dict[bytes, LandingTable] = {kind.name.encode(): kind.lands_in for kind in SOURCE_KINDS}
"""By the header of a record. What is of no kind (a push) lands in raw_api_data."""


def repeats_keys(kind: str) -> bool:
    """True for a kind whose keys may repeat; what is of no kind has each key once."""
    return any(known.name == kind and known.repeats_keys for known in SOURCE_KINDS)


def first_kind_in(table: str) -> str:
    """The kind that a record which has landed there is taken for. Headers do not land."""
    return next(kind.name for kind in SOURCE_KINDS if kind.lands_in == table)
