"""The Elasticsearch query for a search, and the records in its answer. Pure."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from api.queries.records import cut_text, unlimited_fields
from api.queries.text_search import Match, key_parts
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.text import fold
from stores.search_index import alias_name

WINDOW = 10_000
"""Elasticsearch's index.max_result_window: pages end there."""


def search_body(datasets: Sequence[Dataset], query: str, offset: int, limit: int) -> dict[str, Any]:
    """Every word of the query, with typing errors forgiven and the last one taken as a beginning; or an exact key.

    An exact key comes first, then all words as they are, then beginnings, then what has typing errors.
    """
    folded = fold(query)
    key_fields = sorted({exact_field(dataset, name) for dataset in datasets for name in dataset.key})
    keys = {(exact_field(dataset, name), key) for dataset in datasets for name, key in key_parts(dataset, query)}
    return {
        "from": offset,
        "size": limit,
        "track_total_hits": True,
        "_source": {"excludes": ["search_text"]},
        "query": {
            "bool": {
                "minimum_should_match": 1,
                "should": [
                    *(
                        {"term": {name: {"value": key, "case_insensitive": True, "boost": 20}}}
                        for name, key in sorted(keys)
                    ),
                    {"match": {"search_text": {"query": folded, "operator": "and", "boost": 4}}},
                    {"match_bool_prefix": {"search_text": {"query": folded, "operator": "and", "boost": 2}}},
                    {"match": {"search_text": {"query": folded, "operator": "and", "fuzziness": "AUTO"}}},
                ],
            }
        },
        # Hits of one score keep their order from page to page.
        "sort": ["_score", {key_fields[0]: {"order": "asc", "unmapped_type": "keyword"}}],
        "track_scores": True,
    }


def dataset_of(settings: Settings, index: str, datasets: Sequence[Dataset]) -> Dataset:
    """The dataset whose index a hit is from. Behind an alias are indices named `<alias>-…`."""
    for dataset in datasets:
        if index == alias_name(dataset, settings) or index.startswith(f"{alias_name(dataset, settings)}-"):
            return dataset
    raise LookupError(f"index {index!r} belongs to none of {', '.join(alias_name(d, settings) for d in datasets)}")


def exact_field(dataset: Dataset, name: str) -> str:
    """The keyword field that holds this field's value as it is."""
    field = next(field for field in dataset.fields if field.name == name)
    return f"{name}.exact" if field.type.search else name


def match_of(dataset: Dataset, source: Mapping[str, Any]) -> Match:
    """The record of a hit, with the dataset's fields in their order, decimals as numbers and long texts cut."""
    names = [*(["id"] if "id" in source else []), *(field.name for field in dataset.fields)]
    numbers = {field.name for field in dataset.fields if field.type.json_type == "number"}
    row = {name: _decimal(source.get(name)) if name in numbers else source.get(name) for name in names}
    row |= {name: cut_text(source.get(name)) for name in unlimited_fields(dataset)}
    for name in ("created_at", "updated_at"):
        if name in source:
            row[name] = source[name]
    return Match(dataset, row)


def _decimal(value: Any) -> Any:
    if value is None:
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return value
