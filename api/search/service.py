"""Search: asks Elasticsearch, and Postgres where there is none or it does not answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache, partial
from types import NoneType
from typing import Any

from api.clients import Clients
from api.current_request import measured
from api.database import reading
from api.problems import bad_parameter
from api.queries.records import cut_text, unlimited_fields
from api.queries.text_search import Match, key_parts, search_text, unreadable
from runtime.instruments import from_zero
from runtime.metrics import SEARCHES
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.text import fold
from stores.search_index import alias_name
from stores.search_server import SearchRefused, TransportError

WINDOW = 10_000
"""Elasticsearch's index.max_result_window: pages end there."""

ELASTICSEARCH, STAND_IN, POSTGRES_ONLY = BACKENDS = ("elasticsearch", "postgres", "postgres_only")
"""Searches are counted by these: Postgres stands in for an Elasticsearch that is away, or there is none."""


@dataclass(frozen=True)
class Found:
    """A page of matches and the number of all; `degraded` if Postgres stood in for Elasticsearch."""

    matches: list[Match]
    total: int
    degraded: bool
    left_out: tuple[str, ...] = ()
    """Datasets that could not be searched, since their tables are not as they are declared."""

    @property
    def backend(self) -> str:
        return "postgres" if self.degraded else "elasticsearch"


class NotAnswered(Exception):
    """Elasticsearch has answered, with something that is no answer to our search."""


def count_from_zero() -> None:
    """Show that nothing has been searched for yet. To be called when the process starts."""
    from_zero(SEARCHES, BACKENDS)


async def search(clients: Clients, datasets: Sequence[Dataset], query: str, page: int, page_size: int) -> Found:
    """A page of matches. Raises Unavailable if neither store answers, ProblemAnswer for a page beyond WINDOW."""
    if page * page_size > WINDOW:
        raise bad_parameter("page", page, f"a search shows its first {WINDOW:,} matches only; narrow it down")
    offset = (page - 1) * page_size
    answer = await _in_elasticsearch(clients, datasets, query, offset, page_size)
    without = POSTGRES_ONLY if clients.elasticsearch is None else STAND_IN
    SEARCHES.inc((without if answer is None else ELASTICSEARCH,))
    if answer is not None:
        return Found(*answer, degraded=False)
    async with reading(clients.engine) as connection:
        unfit = await unreadable(connection, datasets)
        fit = [dataset for dataset in datasets if dataset not in unfit]
        answer = await search_text(connection, fit, query, offset, page_size)
        return Found(*answer, degraded=True, left_out=tuple(dataset.name for dataset in unfit))


async def _in_elasticsearch(
    clients: Clients, datasets: Sequence[Dataset], query: str, offset: int, limit: int
) -> tuple[list[Match], int] | None:
    """Matches and their number, or None if it does not answer."""
    breaker = clients.elasticsearch_breaker
    if clients.elasticsearch is None or not breaker.closed:
        return None
    try:
        with measured("elasticsearch"):
            target, body = search_target(clients.settings, datasets), search_body(datasets, query, offset, limit)
            answer: dict[str, Any] = await clients.elasticsearch.ask("POST", target, body)
        found = _found(clients.settings, datasets, answer)
    # Whoever has altered an index, or written into it: Postgres has the records.
    except (TransportError, OSError, SearchRefused, NotAnswered, LookupError, TypeError) as error:
        breaker.failed(error)
        return None
    breaker.succeeded()
    return found


def _found(settings: Settings, datasets: Sequence[Dataset], answer: Mapping[str, Any]) -> tuple[list[Match], int]:
    """The matches of an answer and their number. Raises NotAnswered, LookupError or TypeError."""
    if answer["timed_out"] or answer["_shards"]["failed"]:
        raise NotAnswered(f"{answer['_shards']['failed']} shards failed; timed out: {answer['timed_out']}")
    hits = answer["hits"]
    of = partial(dataset_of, settings, datasets)
    return [match_of(of(hit["_index"]), hit["_source"]) for hit in hits["hits"]], hits["total"]["value"]


def search_target(settings: Settings, datasets: Sequence[Dataset]) -> str:
    """Path and query of a search in these datasets. Pure. An index that is not there yet holds no records."""
    indices = ",".join([alias_name(dataset, settings) for dataset in datasets])
    return f"/{indices}/_search?ignore_unavailable=true&allow_no_indices=true"


def search_body(datasets: Sequence[Dataset], query: str, offset: int, limit: int) -> dict[str, Any]:
    """Every word of the query, with typing errors forgiven and the last one taken as a beginning; or an exact key.

    An exact key comes first, then all words as they are, then beginnings, then what has typing errors.
    """
    folded = fold(query)
    first_key = min(exact_field(dataset, name) for dataset in datasets for name in dataset.key)
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
        "sort": ["_score", {first_key: {"order": "asc", "unmapped_type": "keyword"}}],
        "track_scores": True,
    }


def dataset_of(settings: Settings, datasets: Sequence[Dataset], index: str) -> Dataset:
    """The dataset whose index a hit is from. Behind an alias are indices named `<alias>-…`. Raises NotAnswered."""
    for dataset in datasets:
        if index == alias_name(dataset, settings) or index.startswith(f"{alias_name(dataset, settings)}-"):
            return dataset
    raise NotAnswered(f"index {index!r} belongs to none of {', '.join(alias_name(d, settings) for d in datasets)}")


@cache
def exact_field(dataset: Dataset, name: str) -> str:
    """The keyword field that holds this field's value as it is."""
    field = next(field for field in dataset.fields if field.name == name)
    return f"{name}.exact" if field.type.search else name


def match_of(dataset: Dataset, source: Mapping[str, Any]) -> Match:
    """The record of a hit, with the dataset's fields in their order, decimals as numbers and long texts cut.

    Raises NotAnswered for a document that is no record of the dataset as it is declared.
    """
    get, row = source.get, {"id": source["id"]} if "id" in source else {}
    for name, kinds, served in _served_fields(dataset):
        value = get(name)
        if type(value) not in kinds:
            raise NotAnswered(f"a document in the index of {dataset.name} has {type(value).__name__} as {name}")
        row[name] = value if served is None else served(value)
    for name in ("created_at", "updated_at"):
        if name in source:
            row[name] = source[name]
    return Match(dataset, row)


_KINDS: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float, str)}
"""The types of a field's values in a document."""


@cache
def _served_fields(dataset: Dataset) -> list[tuple[str, tuple[type, ...], Callable[[Any], Any] | None]]:
    """The dataset's fields, with the types of their values, and for those that are not served as they are in the index
    the function that makes it so.
    """
    numbers = {field.name: _decimal for field in dataset.fields if field.type.json_type == "number"}
    served: dict[str, Callable[[Any], Any]] = {**numbers, **dict.fromkeys(unlimited_fields(dataset), cut_text)}
    absent = {field.name: () if field.name in dataset.key else (NoneType,) for field in dataset.fields}
    kinds = {field.name: (*_KINDS[field.type.json_type], *absent[field.name]) for field in dataset.fields}
    return [(field.name, kinds[field.name], served.get(field.name)) for field in dataset.fields]


def _decimal(value: Any) -> Any:
    if value is None:
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise NotAnswered(f"a document has {str(value)[:80]!r} as a number") from None
