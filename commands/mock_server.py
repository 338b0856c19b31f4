"""`headrace mock-server`: the customer API to ingest from."""

from typing import Annotated

import typer

from commands.output import fail
from mock_server.data_files import DataFileError
from mock_server.main import CannotListen, run
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
    To run one beside the stack's own: headrace mock-server --port 5050
    """
    options = {"mock_port": port, "mock_bind": bind}
    try:
        settings = load_settings(**{name: value for name, value in options.items() if value is not None})
        configure_logging(settings, "mock-server")
        run(settings)
    except (DataFileError, CannotListen) as error:
        fail(str(error))
