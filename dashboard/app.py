"""The dashboard's application: its pages on NiceGUI, its files, and who may reach it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.api_client import Api
from dashboard.export import exports
from dashboard.foreign_pages import ForeignPages
from dashboard.live import Live
from runtime.settings import Settings, listed

STATIC = Path(__file__).parent / "static"

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")

POLICY = "; ".join((
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # NiceGUI's pages are made by scripts in them
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src 'self' data:",
    "connect-src 'self'",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
))  # fmt: skip
"""The browser itself sees to it that nothing is asked of another machine, and that no other page frames this one."""

HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)


class OwnHeaders:
    """Puts HEADERS into every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def create_app(settings: Settings, api: Api | None = None) -> FastAPI:
    """The application over the API at `settings.api_url`. It starts without it too, and says then that it is down.

    Once per process: NiceGUI keeps its pages in the module.
    """
    # Here, since it takes a second and 60 MB: who only imports this module pays neither.
    from nicegui import app as pages
    from nicegui import ui

    from dashboard.pages import ALL

    api = api or Api(settings.api_url, headers=settings.own_api_headers)
    live = Live(api)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await live.close()
            await api.close()

    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts(settings)),
        Middleware(ForeignPages, hosts=named_hosts(settings)),
        Middleware(OwnHeaders),
    ]
    app = FastAPI(lifespan=lifespan, middleware=middleware, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """The process answers. An API that does not is no fault of this one."""
        return {"status": "healthy", "polls": live.polls}

    app.include_router(exports(api))
    for install in ALL:
        install(live)
    pages.add_static_files("/static", STATIC, max_cache_age=0)
    ui.add_head_html(
        '<link rel="stylesheet" href="/static/dashboard.css"><script src="/static/dashboard.js"></script>', shared=True
    )
    ui.run_with(
        app,
        title="Headrace",
        favicon=STATIC / "favicon.svg",
        language="en-US",
        dark=None,
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=10.0,
        show_welcome_message=False,
    )
    return app


def allowed_hosts(settings: Settings) -> list[str]:
    """Names by which browsers may ask for it: another site's name that leads to this machine is refused."""
    return [*LOOPBACK, *named_hosts(settings)]


def named_hosts(settings: Settings) -> list[str]:
    """Names that the settings give it, such as that of a proxy with a login. Pure."""
    return listed(settings.dashboard_hosts)
