"""Endpoints of every dataset, made from its declaration: read a page, read one, delete one; and `GET /data`."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel
from sqlalchemy import or_

from api.access import Scope, needs
from api.answers import json_answer, page_model, served_model
from api.cached_records import MAX_KEY_LENGTH, serve_record
from api.clients import OurClients
from api.database import reading
from api.health import require
from api.parameters import Cursor, Limit, OptionalPage, OptionalText, Page, StrictRoute
from api.plain_pages import USUAL_LIMIT, plain_pages
from api.problems import ProblemAnswer
from api.queries.json_pages import json_slice
from api.queries.records import containing, slice_and_count
from api.record_pages import read_page
from schemas.dataset import KEY_SEPARATOR, Dataset
from schemas.expectations import expectation
from schemas.registry import all_datasets, dataset_named
from services.runs.ingest import publish_delete
from stores.tables import dataset_table

RECORDS = dataset_named("records")

router = APIRouter(route_class=StrictRoute)
"""Endpoints that are not made from a declaration."""

DELETE_SECONDS = 10.0
"""A delete waits so long for Postgres, then answers 202."""


class DescribedDataset(BaseModel):
    """A dataset, and where to read it."""

    name: str
    key: list[str]
    fields: list[str]
    search_fields: list[str]
    expects: dict[str, str]
    """By field, what a value has to be like, for people."""
    url: str


class DatasetList(BaseModel):
    """Every dataset."""

    data: list[DescribedDataset]


@router.get(
    "/data",
    response_model=page_model(RECORDS, "DataPage", by_cursor=False),
    summary="Records, by source and by text",
    tags=["records"],
)
@needs(Scope.READ)
async def list_data(
    clients: OurClients, page: Page = 1, page_size: Limit = 10, source: OptionalText = None, search: OptionalText = None
) -> Response:
    """`source` is a kind (api, csv, …) or a source's name; `search` is text anywhere in name or description.

    Case and accents don't matter to the search. The two together: records that satisfy both.
    """
    columns = dataset_table(RECORDS).c
    conditions = [or_(columns.source == source, columns.source_name == source)] if source else []
    conditions += [containing(RECORDS, search)] if search else []
    offset = (page - 1) * page_size
    if not conditions and (found := await json_slice(clients.engine, RECORDS, (), offset, page_size)):
        data: object = found.data
        total, more = found.total, found.more
    else:
        async with reading(clients.engine) as connection:
            part, total = await slice_and_count(connection, RECORDS, offset, page_size, *conditions)
        data, more = part.rows, part.more
    return json_answer({"data": data, "total": total, "page": page, "page_size": page_size, "has_more": more})


@router.get("/datasets", response_model=DatasetList, summary="Which datasets there are", tags=["datasets"])
@needs(Scope.READ)
async def list_datasets() -> Response:
    """Each with its key, and where to read it."""
    described = [
        {
            "name": dataset.name,
            "key": list(dataset.key),
            "fields": [field.name for field in dataset.fields],
            "search_fields": list(dataset.search_fields),
            "expects": {field.name: expectation(field, dataset) for field in dataset.fields},
            "url": f"/datasets/{dataset.name}",
        }
        for dataset in all_datasets()
    ]
    return json_answer({"data": described})


def reads_of(dataset: Dataset, path: str) -> APIRouter:
    """`GET path` (a page) and `GET path/{key}` (one record) of a dataset."""
    router = APIRouter(tags=[dataset.name], route_class=StrictRoute)
    key_form = KEY_SEPARATOR.join(dataset.key)

    @needs(Scope.READ)
    async def list_records(
        clients: OurClients, page: OptionalPage = None, limit: Limit = USUAL_LIMIT, cursor: Cursor = None
    ) -> Response:
        return await read_page(clients, dataset, page, limit, cursor)

    router.add_api_route(
        path,
        list_records,
        methods=["GET"],
        response_model=page_model(dataset),
        summary=f"A page of {dataset.name}, by {', '.join(dataset.key)}",
        route_class_override=plain_pages(dataset),
    )

    # A key may hold slashes.
    @router.get(
        path + "/{key:path}", response_model=served_model(dataset), summary=f"One of {dataset.name}, by {key_form}"
    )
    @needs(Scope.READ)
    async def get_record(
        request: Request, key: Annotated[str, Path(description=f"The record's {key_form}.")]
    ) -> Response:
        return await serve_record(request, dataset, key)

    if dataset.written_by == "api":
        return router  # its own endpoints write it

    @router.delete(
        path + "/{key:path}",
        status_code=HTTPStatus.NO_CONTENT,
        summary=f"Delete one of {dataset.name}",
        responses={202: {"description": "Published; Postgres has not taken it yet"}},
    )
    @needs(Scope.WRITE)
    async def delete_record(
        clients: OurClients,
        key: Annotated[str, Path(description=f"The record's {key_form}.", max_length=MAX_KEY_LENGTH)],
    ) -> Response:
        """Publishes a tombstone and waits until Postgres has taken it. Idempotent: deleting nothing is no error."""
        await require(clients, "postgres", "kafka")
        try:
            key = dataset.normal_key(key)
        except ValueError as error:
            raise ProblemAnswer(HTTPStatus.BAD_REQUEST, "bad-key", str(error)) from None
        outcome = await publish_delete(clients.settings, clients.engine, dataset, key, DELETE_SECONDS)
        if outcome is None:
            return Response(status_code=HTTPStatus.ACCEPTED)
        if outcome.failed:
            raise ProblemAnswer(HTTPStatus.BAD_REQUEST, "bad-key", f"{key[:200]!r} is no key of {dataset.name}")
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return router
