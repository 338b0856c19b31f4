"""HTTP to addresses that others may have a say in: of sources, and of alarms' webhooks.

The address that is checked is the one that is connected to: a name is resolved once, here, so it cannot resolve to
another one in between. TLS and the Host header go by the name, as everywhere.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import httpcore
import httpx
from pydantic import SecretStr

from runtime.errors import Explained, SettingsError
from runtime.private_hosts import NOTHING_PRIVATE, Place, PrivateHosts, is_address, private_hosts
from runtime.settings import Settings

LAST_PORT = 65_535


class AddressRefused(Explained):
    """The host is at a private address that PRIVATE_HOSTS does not allow; nothing was sent there."""


@dataclass(frozen=True)
class Egress:
    """The ways out of this process. With a proxy, the proxy judges the addresses."""

    allowed: PrivateHosts = NOTHING_PRIVATE
    proxy: SecretStr | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Egress":
        """As the settings say."""
        return cls(private_hosts(settings.private_hosts), settings.egress_proxy)

    def client(self, declared: str, **options: Any) -> httpx.AsyncClient:
        """A client for what is declared at this address, and for where that redirects to; close it.

        Its requests raise AddressRefused, and httpx' own errors. Proxies that the environment names are not used.
        The options are those of AsyncClient. Raises SettingsError for an SSL_CERT_FILE that cannot be used.
        """
        if self.proxy is not None:
            url, context = self.proxy.get_secret_value(), _trusted()
            proxy = httpx.Proxy(url, ssl_context=context if url.lower().startswith("https:") else None)
            return httpx.AsyncClient(proxy=proxy, verify=context, trust_env=False, **options)
        return httpx.AsyncClient(transport=_Checked(self.allowed, origin(httpx.URL(declared))[1:]), **options)


def checked_address(value: str) -> str:
    """The value itself. Raises ValueError, which does not repeat it, for what is no http(s) address."""
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL as error:
        trouble, _, _ = str(error).partition(": ")  # what follows may be a password with a slash in it
        raise ValueError(f"expected an address like https://host/path: {trouble}") from None
    if url.scheme not in {"http", "https"} or not url.host or (url.port or 0) > LAST_PORT:
        raise ValueError("expected an address like https://host/path")
    return value


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: whoever is there may be told what the same place has been told."""
    return url.scheme, url.raw_host.decode("ascii").lower(), url.port or {"http": 80, "https": 443}.get(url.scheme)


def _trusted() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()  # which knows SSL_CERT_FILE
    except OSError as error:
        raise SettingsError(
            f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE')!r} holds no certificates that can be read "
            f"({error.strerror or error}); unset it, or name a file of trusted ones (PEM)"
        ) from error


class _Checked(httpx.AsyncHTTPTransport):
    """HTTP over connections that have been checked; httpx has no option for how they are made."""

    def __init__(self, allowed: PrivateHosts, declared: Place) -> None:
        context = _trusted()
        super().__init__(verify=context)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=_CheckedConnections(allowed, declared),
        )


class _CheckedConnections(httpcore.AsyncNetworkBackend):
    def __init__(self, allowed: PrivateHosts, declared: Place) -> None:
        self._allowed, self._declared = allowed, declared
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        if port > LAST_PORT:
            raise httpcore.ConnectError(f"there is no port {port}")
        found = await _resolved(host, port, timeout)
        refusals = {one: self._allowed.refusal(host, port, ip_address(one), self._declared) for one in found}
        permitted = [one for one, refusal in refusals.items() if refusal is None]
        if not permitted:
            raise AddressRefused(next(refusal for refusal in refusals.values() if refusal))
        for address in permitted[:-1]:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue  # the host has another address
        return await self._backend.connect_tcp(permitted[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


async def _resolved(host: str, port: int, seconds: float | None) -> list[str]:
    """The host's addresses, at least one, in the resolver's order."""
    if is_address(host):
        return [host]  # without the thread that a resolver takes
    try:
        async with asyncio.timeout(seconds):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise httpcore.ConnectTimeout(f"{host} is not resolved") from error
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(address[4][0]) for address in found))
