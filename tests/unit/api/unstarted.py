"""The API without its lifespan: for requests that must be answered before any store is asked."""

from fastapi import FastAPI

from api.app import create_app
from api.clients import Breaker
from api.request_counts import Kind, RequestCounts
from producers.webhook.webhooks import Webhooks
from runtime.settings import Settings


def unstarted_api() -> FastAPI:
    """Everybody may ask for everything, as often as they like."""
    settings = Settings(api_access="open")
    app = create_app(settings)
    app.state.webhooks = Webhooks(settings)
    app.state.request_counts = RequestCounts(dict.fromkeys(Kind, 0), None, Breaker("redis"))
    return app
