"""Search: asks Elasticsearch; where it is not or does not answer, Postgres, and says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from elastic_transport import TransportError
from elasticsearch import ApiError, AsyncElasticsearch, UnsupportedProductError

from api.clients import Clients
from api.database import reading
from api.queries.text_search import Match, search_text, unreadable
from api.search.elasticsearch_query import dataset_of, match_of, search_body
from api.search.highlight import Highlighter
from api.served_json import encode
from api.timing import measured
from runtime.settings import Settings
from schemas.dataset import Dataset
from stores.search_index import alias_name


@dataclass(frozen=True)
class Found:
    """A page of matches, how many there are in all, and whether Postgres had to stand in for Elasticsearch."""

    matches: list[Match]
    total: int
    degraded: bool
    left_out: tuple[str, ...] = ()
    """Datasets that could not be searched, since their tables are not as they are declared."""

    @property
    def backend(self) -> str:
        """Who answered."""
        return "postgres" if self.degraded else "elasticsearch"


async def search(clients: Clients, datasets: Sequence[Dataset], query: str, page: int, page_size: int) -> bytes:
    """A page of matches as JSON. Raises Unavailable if neither store answers."""
    found = await find(clients, datasets, query, page, page_size)
    highlighter = Highlighter(query)
    seen = (page - 1) * page_size + len(found.matches)
    return encode(
        {
            "data": [_hit(match, highlighter) for match in found.matches],
            "total": found.total,
            "page": page,
            "page_size": page_size,
            "has_more": seen < found.total and bool(found.matches),
            "backend": found.backend,
            "degraded": found.degraded,
            **({"left_out": found.left_out} if found.left_out else {}),
        }
    )


async def find(clients: Clients, datasets: Sequence[Dataset], query: str, page: int, page_size: int) -> Found:
    """A page of matches. Raises Unavailable if neither store answers."""
    offset = (page - 1) * page_size
    answer = await _in_elasticsearch(clients, datasets, query, offset, page_size)
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
            answer = await _ask(clients.elasticsearch, clients.settings, datasets, query, offset, limit)
    except (TransportError, UnsupportedProductError, OSError) as error:
        breaker.failed(error)
        return None
    except ApiError as error:
        # A 4xx other than "too many requests" means that our query is wrong: no reason to hide it.
        if error.status_code < 500 and error.status_code != 429:
            raise
        breaker.failed(error)
        return None
    if answer["timed_out"] or answer["_shards"]["failed"]:
        breaker.failed(RuntimeError(f"{answer['_shards']['failed']} shards failed; timed out: {answer['timed_out']}"))
        return None
    breaker.succeeded()
    hits = answer["hits"]
    matches = [match_of(dataset_of(clients.settings, hit["_index"], datasets), hit["_source"]) for hit in hits["hits"]]
    return matches, hits["total"]["value"]


async def _ask(
    client: AsyncElasticsearch, settings: Settings, datasets: Sequence[Dataset], query: str, offset: int, limit: int
) -> Any:
    # An index that does not exist yet holds no records; that is no error.
    return await client.search(
        index=[alias_name(dataset, settings) for dataset in datasets],
        body=search_body(datasets, query, offset, limit),
        ignore_unavailable=True,
        allow_no_indices=True,
    )


def _hit(match: Match, highlighter: Highlighter) -> dict[str, Any]:
    marked = {
        name: text
        for name in match.dataset.search_fields
        if match.row[name] is not None and (text := highlighter.mark(str(match.row[name])))
    }
    return {
        "dataset": match.dataset.name,
        "key": match.dataset.key_text(match.row),
        "record": match.row,
        "highlights": marked,
    }
