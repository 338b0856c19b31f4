"""The search index of each dataset in Elasticsearch, derived from its declaration. Core features only: no plug-ins.

The index is `<dataset>-v1`, readers and writers use its alias `<dataset>`. Beside the fields as they are stored, there
is `search_text`: all searched fields, folded by `schemas.text.fold`, with prefixes indexed. A query folds its words the
same way and looks there (and into the fields themselves for highlights); no analysis plug-in has to fold accents.
"""

from typing import Any

from elasticsearch import AsyncElasticsearch, BadRequestError

from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import all_datasets

INDEX_VERSION = 1
"""Raise it when a mapping changes in a way that Elasticsearch can't apply to an existing index."""

SEARCH_TEXT = "search_text"


def alias_name(dataset: Dataset, settings: Settings) -> str:
    """What readers search and writers write."""
    return settings.named(dataset.name)


def index_name(dataset: Dataset, settings: Settings) -> str:
    """The index behind the alias."""
    return f"{alias_name(dataset, settings)}-v{INDEX_VERSION}"


def index_mapping(dataset: Dataset) -> dict[str, Any]:
    """The mapping: the dataset's fields, when they were stored, and the folded text. Pure."""
    properties = {field.name: field.type.mapping() for field in dataset.fields}
    if dataset.serial_id:
        properties["id"] = {"type": "long"}
    return {
        # A field that a later version adds is stored and not searched until the mapping knows it.
        "dynamic": False,
        "properties": {
            **properties,
            "created_at": {"type": "date"},
            "updated_at": {"type": "date"},
            SEARCH_TEXT: {"type": "text", "index_prefixes": {"min_chars": 1, "max_chars": 10}},
        },
    }


def index_template(dataset: Dataset, settings: Settings) -> dict[str, Any]:
    """The index template. One shard and no replica: a local node; set replicas on the index where there are more."""
    return {
        "index_patterns": [f"{alias_name(dataset, settings)}-v*"],
        # Above the built-in templates, whose patterns are as broad as `metrics-*`.
        "priority": 500,
        "template": {
            "settings": {
                "number_of_shards": 1,
                "number_of_replicas": 0,
                "refresh_interval": "1s",
                # The versions of deleted documents are remembered as long as the tombstones in Postgres. After the
                # default of 60 s a write that was held up longer would bring a deleted document back.
                "index.gc_deletes": f"{settings.tombstone_retention_hours}h",
            },
            "mappings": index_mapping(dataset),
        },
    }


async def ensure_indices(client: AsyncElasticsearch, settings: Settings) -> None:
    """Create template, index and alias of every dataset, and add new fields to existing ones. Idempotent.

    Safe when several processes do it at once. Raises elasticsearch's ApiError or TransportError.
    """
    for dataset in all_datasets():
        alias, index = alias_name(dataset, settings), index_name(dataset, settings)
        template = index_template(dataset, settings)
        await client.indices.put_index_template(name=alias, **template)
        if not await client.indices.exists(index=index):
            try:
                await client.indices.create(index=index)
            except BadRequestError as error:
                if error.error != "resource_already_exists_exception":
                    raise
        else:
            await client.indices.put_mapping(index=index, properties=template["template"]["mappings"]["properties"])
        await client.indices.put_alias(index=index, name=alias, is_write_index=True)
