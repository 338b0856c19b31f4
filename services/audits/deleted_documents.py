"""Versions of deleted documents, which Elasticsearch remembers and does not show."""

import re
from collections.abc import Sequence

import msgspec
from elasticsearch import AsyncElasticsearch

from runtime.settings import Settings
from schemas.dataset import Dataset
from sinks.sink import StoreTrouble
from stores.search_index import alias_name

_CURRENT = re.compile(r"current version \[(\d+)\]")
"""In the reason of a version conflict, the only place where it is told."""

_encode = msgspec.json.Encoder().encode


async def highest_deleted_version(
    client: AsyncElasticsearch, settings: Settings, dataset: Dataset, keys: Sequence[str]
) -> int:
    """The highest version under which one of these documents, all missing, was deleted; 0 if none was.

    Asks for their deletion as version 0. Whatever was deleted before, or has come since, is newer: a conflict, which
    names its version. Of what never was, nothing but this version 0 is remembered, and every row is newer than that.
    """
    if not keys:
        return 0
    index = alias_name(dataset, settings)
    lines = [{"delete": {"_index": index, "_id": key, "version": 0, "version_type": "external"}} for key in keys]
    answer = await client.perform_request(
        "POST",
        "/_bulk?require_alias=true",
        headers={"content-type": "application/x-ndjson", "accept": "application/json"},
        body=b"".join(_encode(line) + b"\n" for line in lines),
    )
    highest = 0
    for item in answer.body["items"]:
        if item["delete"]["status"] == 409:
            said = item["delete"]["error"]["reason"]
            found = _CURRENT.search(said)
            if found is None:
                raise StoreTrouble(f"names no version in its conflict: {said}")
            highest = max(highest, int(found[1]))
    return highest
