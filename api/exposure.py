"""Refuses to start the API where anybody on a network could ask it for anything, or nobody for something."""

import asyncio
import ipaddress
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import structlog

from runtime.errors import Explained
from runtime.pem_files import check_pair
from runtime.settings import Settings
from stores.api_keys import read_keys
from stores.outages import is_misfit, meaning
from stores.postgres_connection import SOON_SECONDS
from stores.postgres_engine import postgres_engine

log = structlog.get_logger()

TOKENS_NEED = ("jwt", "cryptography")
"""Packages of the extra `oidc`."""

MAKE_ONE = "`headrace keys create NAME --scope read` makes one"


class StartRefused(Explained):
    """The API is not started like this; the message says why, and what to set."""


def check_exposure(settings: Settings) -> None:
    """Raises StartRefused for an API that others reach and that asks nobody who they are, or that nobody could use.

    Blocking; may be called where an event loop runs. Without an answer of Postgres it starts: then no key is known, and
    whatever needs one is refused.
    """
    if settings.api_tls_certificate_file:
        certificate, key = settings.api_tls_certificate_file, settings.api_tls_key_file
        try:
            check_pair(certificate, key)  # here, since processes that have the same settings may not read the key
        except ValueError as error:
            named = f", API_TLS_KEY_FILE={key}" if key else " (and API_TLS_KEY_FILE, unless the key is in it too)"
            raise StartRefused(f"API_TLS_CERTIFICATE_FILE={certificate}{named}: {error}") from None
    where = settings.api_published_on or settings.api_bind
    beyond = not is_loopback(where)
    name = "API_PUBLISHED_ON" if settings.api_published_on else "API_BIND"
    if settings.api_access == "open":
        if beyond:
            raise StartRefused(
                f"{name}={where} is not loopback, and API_ACCESS=open asks nobody who they are: anybody who reaches it "
                "could read and change everything. Set API_ACCESS=keys. Where API_BIND is an address within a "
                "container, and its port is published on loopback, say so by API_PUBLISHED_ON=127.0.0.1"
            )
        return
    if settings.oidc_issuer:
        if missing := [package for package in TOKENS_NEED if find_spec(package) is None]:
            raise StartRefused(f"OIDC_ISSUER needs {' and '.join(missing)}: pip install 'headrace[oidc]'")
        return
    with ThreadPoolExecutor(1) as thread:  # uvicorn imports the application within its event loop
        there = thread.submit(lambda: asyncio.run(_is_any_key_valid(settings))).result()
    if there is not False:
        return
    if beyond:
        raise StartRefused(
            f"{name}={where} is not loopback, and there is no API key, so nobody could use it: {MAKE_ONE}"
        )
    log.warning("no_api_keys", remedy=f"nobody can use the API; {MAKE_ONE}")


def is_loopback(address: str) -> bool:
    """True for an address that only this machine reaches. Pure."""
    try:
        return address == "localhost" or ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


async def _is_any_key_valid(settings: Settings) -> bool | None:
    """None if Postgres does not say."""
    engine = postgres_engine(settings, connect_args={"timeout": SOON_SECONDS, "command_timeout": SOON_SECONDS})
    try:
        async with engine.connect() as connection:
            return any(key.state == "valid" for key in await read_keys(connection))
    except Exception as error:
        if is_misfit(error):
            return False  # nobody has set the database up yet
        if meaning(error) is None and not isinstance(error, OSError):
            raise
        return None
    finally:
        await engine.dispose()
