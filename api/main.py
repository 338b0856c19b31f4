"""The entry point of the API; `uvicorn api.main:app` finds the application here too."""

import logging
import sys
from functools import cache

from fastapi import FastAPI

from api.app import create_app
from api.exposure import StartRefused, check_exposure
from runtime.errors import SettingsError
from runtime.logging import configure_logging
from runtime.settings import load_settings
from runtime.tracing import start_tracing


@cache
def _app() -> FastAPI:
    """The application with the settings of the environment. Wrong ones end the process with a line each."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.exit(str(error))
    configure_logging(settings, "api")
    try:
        check_exposure(settings)
    except StartRefused as error:
        sys.exit(str(error))
    start_tracing(settings, "api")
    # uvicorn would write a line of its own beside ours for every request.
    logging.getLogger("uvicorn.access").disabled = True
    return create_app(settings)


def __getattr__(name: str) -> FastAPI:
    # Made when it is asked for, so that importing this module reads no settings.
    if name == "app":
        return _app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
