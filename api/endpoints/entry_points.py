"""`GET /`: where to begin."""

from fastapi import APIRouter

router = APIRouter(tags=["entry points"])

ENTRY_POINTS = {
    "/docs": "this API, to read and to try",
    "/openapi.json": "this API, for machines",
    "/health": "the database, the latest ETL run, and every component",
    "/stats": "what the ETL runs come to, in all and per source",
    "/runs?page=1&page_size=10": "ETL runs, newest first; also source=titanic, status=failed",
    "/api/health": "how Postgres, Redis, Elasticsearch and Kafka are",
    "/api/ingest": "POST: take all customers from their source",
    "/api/customers?page=1&limit=10": "customers, page by page; also limit=100&cursor=",
    "/api/customers/CUST001": "one customer",
    "/data?page=1&page_size=10": "records; also source=titanic, search=text",
    "/orders?page=1&limit=10": "orders; also product=, customer_id=, from=, to=, min_price=, max_price=",
    "/orders/totals?by=month": "what was sold, by month or by=product, with the same filters",
    "/webhooks/{source}": "POST: push signed records to a webhook source",
    "/search?q=text": "full-text search; also dataset=customers",
    "/users/": "POST: create a user",
    "/users?q=text": "users, page by page or by a search",
    "/status": "whether the API runs",
    "/datasets": "every dataset and where to read it",
    "/audit": "is every record accounted for",
    "/schema-drift": "fields that sources have gained, lost or retyped",
    "/lag": "how far each consumer group is behind",
}


@router.get("/")
async def entry_points() -> dict[str, str | dict[str, str]]:
    """Where to begin."""
    return {"name": "headrace", "entry_points": ENTRY_POINTS}
