"""`GET /search`: full-text search over all datasets or one."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from api.endpoints.services import OurClients
from api.parameters import Limit, OptionalText, Page, SearchText
from api.problems import bad_parameter
from api.search.elasticsearch_query import WINDOW
from api.search.service import search
from schemas.registry import UnknownDataset, all_datasets, dataset_named

router = APIRouter(tags=["search"])


class Hit(BaseModel):
    """A record that was found. `highlights` has the matching fields as HTML, matches in `<em>`."""

    dataset: str
    key: str
    record: dict[str, Any]
    highlights: dict[str, str]


class SearchPage(BaseModel):
    """A page of hits. `degraded`: Elasticsearch did not answer, so Postgres did, without forgiving typing errors.

    `left_out`: datasets that it could not search, since their tables are not as they are declared; absent if none.
    """

    data: list[Hit]
    total: int
    page: int
    page_size: int
    has_more: bool
    backend: str
    degraded: bool
    left_out: list[str] | None = None


@router.get(
    "/search", response_model=SearchPage, summary="Find records by words, beginnings of words, or misspelt ones"
)
async def search_records(
    clients: OurClients,
    q: Annotated[SearchText, Query(description="Words; the last one may be a beginning.")],
    dataset: OptionalText = None,
    page: Page = 1,
    page_size: Limit = 10,
) -> Response:
    """Best matches first. Without `dataset`: in all of them."""
    if page * page_size > WINDOW:
        raise bad_parameter("page", page, f"a search shows its first {WINDOW:,} matches only; narrow it down")
    try:
        datasets = [dataset_named(dataset)] if dataset else list(all_datasets())
    except UnknownDataset as error:
        raise bad_parameter("dataset", dataset, str(error)) from None
    return Response(await search(clients, datasets, q, page, page_size), media_type="application/json")
