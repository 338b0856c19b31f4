"""`GET /search`: full-text search over all datasets or one."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from api.access import Scope, needs
from api.answers import json_answer
from api.clients import OurClients
from api.parameters import Limit, OptionalText, Page, SearchText, StrictRoute
from api.problems import bad_parameter
from api.queries.text_search import Match
from api.search.highlight import Highlighter
from api.search.service import search
from schemas.registry import UnknownDataset, all_datasets, dataset_named

router = APIRouter(tags=["search"], route_class=StrictRoute)


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
@needs(Scope.READ)
async def search_records(
    clients: OurClients,
    q: Annotated[SearchText, Query(description="Words; the last one may be a beginning.")],
    dataset: Annotated[OptionalText, Query(json_schema_extra={"enum": [one.name for one in all_datasets()]})] = None,
    page: Page = 1,
    page_size: Limit = 10,
) -> Response:
    """Best matches first. Without `dataset`: in all of them."""
    try:
        datasets = [dataset_named(dataset)] if dataset else list(all_datasets())
    except UnknownDataset as error:
        raise bad_parameter("dataset", dataset, str(error)) from None
    found = await search(clients, datasets, q, page, page_size)
    highlighter = Highlighter(q)
    return json_answer(
        {
            "data": [_hit(match, highlighter) for match in found.matches],
            "total": found.total,
            "page": page,
            "page_size": page_size,
            "has_more": bool(found.matches) and (page - 1) * page_size + len(found.matches) < found.total,
            "backend": found.backend,
            "degraded": found.degraded,
            **({"left_out": found.left_out} if found.left_out else {}),
        }
    )


def _hit(match: Match, highlighter: Highlighter) -> dict[str, Any]:
    texts = {name: match.row[name] for name in match.dataset.search_fields if match.row[name] is not None}
    marked = {name: highlighter.mark(str(text)) for name, text in texts.items()}
    return {
        "dataset": match.dataset.name,
        "key": match.dataset.key_text(match.row),
        "record": match.row,
        "highlights": {name: text for name, text in marked.items() if text},
    }
