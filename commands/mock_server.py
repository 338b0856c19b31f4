"""`headrace mock-server`: the customer API to ingest from."""

from typing import Annotated

import typer

from commands.output import fail
from mock_server.app import create_app
from mock_server.records import DataFileError
from runtime.http_server import CannotListen, serve
from runtime.logging import configure_logging
from runtime.settings import load_settings


def mock_server(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on instead of MOCK_PORT.", show_default=False)
    ] = None,
    bind: Annotated[
        str | None, typer.Option(help="Address to listen on instead of MOCK_BIND.", show_default=False)
    ] = None,
) -> None:
    """Serve 10,000 customers and 100 posts over HTTP until stopped.

    Changes to customers (PATCH /api/customers/ID) live in memory and end with the process.

    Examples:

      headrace mock-server

      headrace mock-server --port 5050
    """
    options = {"mock_port": port, "mock_bind": bind}
    settings = load_settings(**{name: value for name, value in options.items() if value is not None})
    configure_logging(settings, "mock-server")
    try:
        app = create_app(settings)
        serve(app, settings.mock_bind, settings.mock_port, name="mock server", variable="MOCK_PORT")
    except (DataFileError, CannotListen) as error:
        fail(str(error))
