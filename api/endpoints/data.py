"""`GET /data`: the records that came from APIs, CSV files and feeds, in one shape."""

from fastapi import APIRouter, Response

from api.database import reading
from api.endpoints.services import OurClients
from api.parameters import Limit, OptionalText, Page
from api.queries.data import containing, from_source
from api.queries.records import slice_and_count
from api.served_json import json_answer
from api.served_model import data_page_model
from schemas.registry import dataset_named

RECORDS = dataset_named("records")

router = APIRouter(tags=["records"])


@router.get("/data", response_model=data_page_model(RECORDS), summary="Records, by source and by text")
async def list_data(
    clients: OurClients, page: Page = 1, page_size: Limit = 10, source: OptionalText = None, search: OptionalText = None
) -> Response:
    """`source` is a kind (api, csv, …) or a source's name; `search` is text anywhere in name or description.

    Case and accents don't matter to the search. The two together: records that satisfy both.
    """
    conditions = [from_source(RECORDS, source)] if source else []
    conditions += [containing(RECORDS, search)] if search else []
    async with reading(clients.engine) as connection:
        part, total = await slice_and_count(connection, RECORDS, (page - 1) * page_size, page_size, *conditions)
    return json_answer({"data": part.rows, "total": total, "page": page, "page_size": page_size, "has_more": part.more})
