"""Tokens for Kafka (SASL OAUTHBEARER): by OAuth's client credentials (RFC 6749, 4.4), or signed by AWS for its MSK.

librdkafka asks for the next one before the last is over; aiokafka asks whenever it connects.
"""

import functools
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote_plus

import structlog
from pydantic import SecretStr

from runtime.errors import Explained

if TYPE_CHECKING:
    from aiokafka.abc import AbstractTokenProvider

log = structlog.get_logger()

ANSWER_SECONDS = 10.0
USED_SHARE = 0.8
"""Of a token's life; the rest is left to whoever is about to send it."""

USUAL_SECONDS = 300.0
"""Life of a token of which the server does not say it; RFC 6749 only recommends that it does."""


class NoToken(Explained):
    """No token can be had; the message has no secret in it."""


class Token(NamedTuple):
    """The bearer's token, and when it is over, in Unix time."""

    text: str
    over: float


class Tokens:
    """Tokens of one way to get them; one is used until most of its life is over. For any thread; blocking."""

    def __init__(self, fetch: Callable[[], Token]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._token, self._used_until = Token("", 0.0), 0.0

    def token(self) -> Token:
        """A token that is not over soon. Raises NoToken."""
        with self._lock:
            if time.time() >= self._used_until:
                self._token = self._fetch()
                now = time.time()
                self._used_until = now + USED_SHARE * (self._token.over - now)
            return self._token

    def for_librdkafka(self, _config: str) -> tuple[str, float]:
        """Its `oauth_cb`. It says of an error only that there is no token, so the reason is logged here."""
        try:
            return self.token()
        except NoToken as error:
            log.error("kafka_token", reason=str(error))  # noqa: TRY400 (the message is all there is to tell)
            raise

    def for_aiokafka(self) -> "AbstractTokenProvider":
        """Its `sasl_oauth_token_provider`."""
        import asyncio

        from aiokafka.abc import AbstractTokenProvider  # here, since most processes never need one

        class Provider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
            async def token(_self) -> str:  # noqa: N805
                return (await asyncio.to_thread(self.token)).text

        return Provider()


@functools.cache
def client_credentials(url: str, client: str, secret: SecretStr, scope: str | None, ca_file: Path | None) -> Tokens:
    """Tokens of this token endpoint; the same object for the same arguments. Asks for none yet.

    Certificates are trusted that the system trusts, and those of `ca_file`.
    """

    def fetch() -> Token:
        import ssl

        import httpx  # here, since clients without tokens need neither

        trusted = ssl.create_default_context()
        if ca_file:
            trusted.load_verify_locations(ca_file)
        # Encoded twice: RFC 6749, 2.3.1 has a form's encoding within that of the header.
        who = (quote_plus(client), quote_plus(secret.get_secret_value()))
        form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        try:
            answer = httpx.post(url, data=form, auth=who, timeout=ANSWER_SECONDS, verify=trusted)
        except httpx.HTTPError as error:
            raise NoToken(f"{url} gives no token for Kafka: {error or type(error).__name__}") from None
        return _token_in(url, answer)

    return Tokens(fetch)


def _token_in(url: str, answer: Any) -> Token:
    try:
        said = answer.json()
    except ValueError:
        said = None
    found: Mapping[str, object] = said if isinstance(said, dict) else {}
    token, seconds = found.get("access_token"), found.get("expires_in", USUAL_SECONDS)
    if answer.is_success and isinstance(token, str) and token.isascii():
        try:
            return Token(token, time.time() + float(seconds))  # type: ignore[arg-type]  # or a TypeError
        except (TypeError, ValueError):
            raise NoToken(f"{url} gives a token for Kafka without saying how long: {str(seconds)[:40]!r}") from None
    problem = str(found.get("error", "no access_token in its answer"))[:80]
    raise NoToken(
        f"{url} gives no token for Kafka: {answer.status_code}, {problem!r}; check the user (client id), the password "
        "(client secret), token_url and scope"
    )


@functools.cache
def msk_iam(region: str) -> Tokens:
    """Tokens that AWS's credentials sign (role, environment, ~/.aws). Raises NoToken where the package is missing."""
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise NoToken("AWS_MSK_IAM needs a package that is not installed: pip install 'headrace[msk]'") from None

    def fetch() -> Token:
        try:
            text, over_ms = MSKAuthTokenProvider.generate_auth_token(region)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise NoToken(f"AWS's credentials sign no token for Kafka: {error}") from None
        return Token(text, over_ms / 1000)

    return Tokens(fetch)
