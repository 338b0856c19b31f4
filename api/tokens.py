"""Bearer tokens of an OpenID Connect issuer (JWT): checked with the issuer's public keys, and mapped to scopes."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import httpx
import jwt
import msgspec
import structlog
from jwt.types import Options

from api.access import Caller, Scope, unauthorized
from api.single_flight import Shared
from producers.http.body import ACCEPTED, UnusableBody, body_pieces
from runtime.scopes import scopes_by_word
from runtime.settings import Settings
from stores.outages import Unavailable

log = structlog.get_logger()

ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
"""Signatures by the type of a public key. None by a shared secret, for which a public key could be passed off."""

LONGEST_TOKEN = 16_384
LONGEST_KEYS = 262_144
"""Bytes of a token, and of the issuer's keys."""

FETCH_SECONDS = 5.0

FRESH_SECONDS = 300.0
"""Keys that are older are fetched again, and used until that has succeeded."""

AGAIN_SECONDS = 10.0
"""Between two fetches, whatever key a token names and whatever came of the last: tokens are strangers' words."""

LEEWAY_SECONDS = 30.0
"""By so much the issuer's clock may differ from ours."""

_REQUIRED: Options = {"require": ["exp", "iss", "aud", "sub"]}


class _Key(NamedTuple):
    """A public key, and the algorithms that it may have signed with."""

    key: Any
    algorithms: list[str]


class Tokens:
    """Knows callers by the tokens of one issuer. Connects when the first token comes; to be closed.

    `clock` counts seconds.
    """

    def __init__(
        self,
        settings: Settings,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer, self._audience = settings.oidc_issuer, settings.oidc_audience
        self._url = settings.oidc_jwks_url or ""
        self._claim, self._scopes = settings.oidc_scopes_claim.split("."), scopes_by_word(settings.oidc_scopes)
        self._clock = clock
        self._client = httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, transport=transport)
        self._keys: dict[str | None, _Key] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._trouble = ""
        self._fetching = Shared(self._fetch, AGAIN_SECONDS, clock)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def caller(self, token: str) -> Caller:
        """The caller whom a token is about. Raises ProblemAnswer (401), or Unavailable if the issuer's keys are not
        known and cannot be fetched.
        """
        if len(token) > LONGEST_TOKEN:
            raise unauthorized("invalid-token", f"The token is longer than {LONGEST_TOKEN:,} bytes")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            detail = "This is neither an API key, hr_<id>_<secret>, nor a token (JWT)"
            raise unauthorized("invalid-token", detail) from None
        key = await self._key(header.get("kid"))
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=key.algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options=_REQUIRED,
            )
        except jwt.PyJWTError as error:  # a key that does not fit the token's algorithm is no InvalidTokenError
            raise unauthorized("invalid-token", f"The token is refused: {error}") from None
        return Caller(f"token:{_printable(str(claims['sub']))}", self._granted(claims))

    def _granted(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        value: Any = claims
        for name in self._claim:
            value = value.get(name) if isinstance(value, Mapping) else None
        words = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
        return frozenset(scope for word in words if isinstance(word, str) for scope in self._scopes.get(word, ()))

    async def _key(self, kid: object) -> _Key:
        """The issuer's key of that id; its only one for a token that names none.

        Whoever names one that is not known waits for the fetch that is under way; known ones are used meanwhile.
        """
        now = self._clock()
        is_due = now >= self._fetched_at + FRESH_SECONDS and now >= self._tried_at + AGAIN_SECONDS
        if is_due or kid not in self._keys:
            await self._fetching.get()
        if not self._keys:
            raise Unavailable("the issuer of tokens", self._trouble or "it has no keys for signatures")
        only = len(self._keys) == 1 and kid is None
        key = next(iter(self._keys.values())) if only else self._keys.get(kid if isinstance(kid, str) else None)
        if key is None:
            raise unauthorized("invalid-token", "The token is signed with a key that its issuer does not publish")
        return key

    async def _fetch(self) -> None:
        """Fetch the keys. Those that are known stay where that fails."""
        self._tried_at = self._clock()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                self._keys = _readable(await self._published())
        except (httpx.HTTPError, httpx.InvalidURL, UnusableBody, TimeoutError, ValueError, RecursionError) as error:
            self._trouble = f"its keys at {self._url} cannot be read: {error or type(error).__name__}"
            log.warning("issuer_keys_unreadable", url=self._url, reason=str(error) or type(error).__name__)
        else:
            self._fetched_at, self._trouble = self._tried_at, ""

    async def _published(self) -> list[Any]:
        async with self._client.stream("GET", self._url, headers={"Accept-Encoding": ACCEPTED}) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise ValueError(f"it answers {answer.status_code}")
            body = b"".join([piece async for piece in body_pieces(answer, LONGEST_KEYS)])
        document = msgspec.json.decode(body)
        keys = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(keys, list):
            raise ValueError("it is no JSON Web Key Set")  # noqa: TRY004 (it is about a value from outside)
        return keys


def _readable(published: Iterable[Any]) -> dict[str | None, _Key]:
    """The keys for signatures that we understand, by their ids. Pure."""
    keys: dict[str | None, _Key] = {}
    for one in published:
        fit = ALGORITHMS.get(str(one.get("kty")), ()) if isinstance(one, dict) else ()
        if not fit or one.get("use", "sig") != "sig" or one.get("alg", fit[0]) not in fit:
            continue
        try:
            key = jwt.PyJWK.from_dict(one)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue  # others may do
        keys[key.key_id] = _Key(key.key, [one["alg"]] if "alg" in one else list(fit))
    return keys


def _printable(subject: str) -> str:
    return "".join(c for c in subject[:100] if c.isprintable())
