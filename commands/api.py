"""`headrace api`: the HTTP API."""

from typing import Annotated

import typer

from api.app import create_app
from api.exposure import StartRefused, check_exposure
from commands.output import fail
from runtime.http_server import CannotListen, Wire, serve
from runtime.logging import configure_logging
from runtime.memory import spare_the_collector
from runtime.settings import listed, load_settings
from runtime.tracing import start_tracing


def api(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on instead of API_PORT.", show_default=False)
    ] = None,
    bind: Annotated[
        str | None, typer.Option(help="Address to listen on instead of API_BIND.", show_default=False)
    ] = None,
) -> None:
    """Serve the API over HTTP until stopped; its documentation is at /docs.

    Callers need a key (`headrace keys`), or a token of OIDC_ISSUER. With API_ACCESS=open, which the local stack sets,
    nobody is asked; that counts on loopback only.

    Examples:

      headrace api

      headrace api --bind 0.0.0.0 --port 8080

      API_ACCESS=open headrace api
    """
    options = {"api_port": port, "api_bind": bind}
    settings = load_settings(**{name: value for name, value in options.items() if value is not None})
    configure_logging(settings, "api", held=True)
    start_tracing(settings, "api")
    try:
        check_exposure(settings)
        wire = Wire(
            settings.api_connections,
            settings.api_idle_seconds,
            tuple(listed(settings.trusted_proxies)),
            settings.api_tls_certificate_file,
            settings.api_tls_key_file,
        )
        app = create_app(settings)
        spare_the_collector()
        serve(app, settings.api_bind, settings.api_port, name="API", variable="API_PORT", wire=wire)
    except (StartRefused, CannotListen) as error:
        fail(str(error))
