"""`headrace dashboard`: pages to see and to act on what the API says."""

from typing import Annotated

import typer

from commands.output import fail
from dashboard.app import LOOPBACK, create_app
from runtime.http_server import CannotListen, serve
from runtime.logging import configure_logging
from runtime.settings import load_settings


def dashboard(
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port to listen on instead of DASHBOARD_PORT.", show_default=False),
    ] = None,
    bind: Annotated[
        str | None, typer.Option(help="Address to listen on instead of DASHBOARD_BIND.", show_default=False)
    ] = None,
) -> None:
    """Serve the dashboard until stopped: flow, lag, dead letters, runs, data, traces and topics, live.

    It asks the API at API_URL and nothing else, with the key HEADRACE_API_KEY, and shows when that does not answer.
    Whoever reaches it may do what it can do, so it listens on loopback only, unless DASHBOARD_HOSTS names by what other
    names browsers reach it.

    Examples:

      headrace dashboard

      API_URL=http://127.0.0.1:8001 headrace dashboard --port 8091

      DASHBOARD_HOSTS=pipeline.example.org headrace dashboard --bind 0.0.0.0
    """
    options = {"dashboard_port": port, "dashboard_bind": bind}
    settings = load_settings(**{name: value for name, value in options.items() if value is not None})
    configure_logging(settings, "dashboard")
    if settings.dashboard_bind not in LOOPBACK and not settings.dashboard_hosts:
        fail(
            f"DASHBOARD_BIND={settings.dashboard_bind} is not loopback, and the dashboard asks nobody who they are: "
            "anybody who reaches it could edit and replay records. If something in front of it asks, name the hosts by "
            "which browsers reach it: DASHBOARD_HOSTS=pipeline.example.org"
        )
    try:
        serve(
            create_app(settings),
            settings.dashboard_bind,
            settings.dashboard_port,
            name="dashboard",
            variable="DASHBOARD_PORT",
        )
    except CannotListen as error:
        fail(str(error))
