"""Search: asks Elasticsearch, and Postgres where there is none or it does not answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from elastic_transport import TransportError
from elasticsearch import ApiError, UnsupportedProductError

from api.clients import Clients
from api.current_request import measured
from api.database import reading
from api.queries.text_search import Match, search_text, unreadable
from api.search.elasticsearch_query import dataset_of, match_of, search_body
from schemas.dataset import Dataset
from stores.search_index import alias_name


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


async def search(clients: Clients, datasets: Sequence[Dataset], query: str, page: int, page_size: int) -> Found:
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
            # An index that does not exist yet holds no records; that is no error.
            answer = await clients.elasticsearch.search(
                index=[alias_name(dataset, clients.settings) for dataset in datasets],
                body=search_body(datasets, query, offset, limit),
                ignore_unavailable=True,
                allow_no_indices=True,
            )
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
