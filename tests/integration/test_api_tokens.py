"""Bearer tokens of an issuer whose keys are read from a real endpoint; keys and tokens are made here."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from api import tokens
from api.problems import ProblemAnswer
from api.tokens import Tokens
from runtime.errors import SettingsError
from runtime.scopes import Scope
from runtime.settings import Settings, load_settings
from stores.outages import Unavailable
from tests.integration.api_client import api_client
from tests.integration.publish_servers import app_server
from tests.waiting import eventually_async

ISSUER, AUDIENCE = "https://issuer.example.org/", "headrace"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def jwk(algorithm: str, key: Any, kid: str, **more: str) -> dict[str, Any]:
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, "use": "sig", **more}


class Issuer:
    """What an issuer publishes, and how often it was asked."""

    def __init__(self) -> None:
        self.answer: Response | dict[str, Any] = {
            "keys": [
                {"kty": "unknown", "kid": "newer than us"},
                {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
                jwk("RS256", RSA_KEY, "rsa"),
                jwk("ES256", EC_KEY, "ec", alg="ES256"),
                jwk("ES256", EC_KEY, "ec of no algorithm"),
            ]
        }
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    async def keys(self, _: Request) -> Response:
        self.asked += 1
        await asyncio.to_thread(self.may_answer.wait)
        return self.answer if isinstance(self.answer, Response) else JSONResponse(self.answer)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def url(issuer: Issuer) -> Iterator[str]:
    published = FastAPI()
    published.add_route("/keys", issuer.keys)
    with app_server(published) as server:
        yield f"{server}/keys"


def settings_for(url: str, **more: Any) -> Settings:
    return Settings(oidc_issuer=ISSUER, oidc_audience=AUDIENCE, oidc_jwks_url=url, **more)


def token(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "rsa", **claims: Any) -> str:
    given = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "exp": time.time() + 600,
        "scope": "headrace:read headrace:write other",
        **claims,
    }
    headers = {"kid": kid} if kid else {}
    return jwt.encode({k: v for k, v in given.items() if v is not None}, key, algorithm=algorithm, headers=headers)


async def test_a_token_reads_what_its_scopes_allow(migrated_settings: Settings, url: str, issuer: Issuer) -> None:
    update = {"api_access": "keys", "oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks_url": url}
    async with api_client(migrated_settings.model_copy(update=update)) as client:

        async def ask(method: str, path: str, bearer: str) -> httpx.Response:
            return await client.request(method, path, headers={"Authorization": f"Bearer {bearer}"})

        assert (await ask("GET", "/stats", token())).status_code == 200
        assert (await ask("GET", "/stats", token(EC_KEY, "ES256", "ec"))).status_code == 200
        refused = await ask("POST", "/api/ingest", token())
        assert (refused.status_code, refused.json()["scope"]) == (403, "operate")
        assert "token:ada" in refused.json()["detail"]
        expired = await ask("GET", "/stats", token(exp=time.time() - 3600))
        assert expired.status_code == 401
        assert "expired" in expired.json()["detail"]
        assert expired.headers["www-authenticate"] == 'Bearer realm="headrace", error="invalid_token"'
        assert (await ask("GET", "/stats", "hr_000000000000_x")).status_code == 401, "keys are still keys"
    assert issuer.asked == 1


async def test_a_forged_token_is_refused_by_what_needs_one_and_stops_nothing_else(
    migrated_settings: Settings, url: str
) -> None:
    update = {"api_access": "keys", "oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks_url": url}
    async with api_client(migrated_settings.model_copy(update=update)) as client:
        for kind, forge in FORGED.items():
            headers = {"Authorization": f"Bearer {forge()}"}
            assert (await client.get("/stats", headers=headers)).status_code == 401, kind
            assert (await client.get("/status", headers=headers)).status_code == 200, kind


def unsigned() -> str:
    return jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": time.time() + 600}, "", algorithm="none")


def signed_with_the_public_key() -> str:
    """The classic forgery: the issuer's public key, which everybody has, used as a shared secret."""
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    parts = [{"alg": "HS256", "typ": "JWT", "kid": "rsa"}, {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": 9e9}]
    begun = ".".join(_packed(json.dumps(part).encode()) for part in parts)
    return f"{begun}.{_packed(hmac.new(pem, begun.encode(), hashlib.sha256).digest())}"


def another_curve() -> str:
    """What anybody can write who has seen the issuer's keys."""
    header = {"alg": "ES384", "typ": "JWT", "kid": "ec of no algorithm"}
    return ".".join((_packed(json.dumps(header).encode()), _packed(b"{}"), "AAAA"))


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


FORGED: dict[str, Callable[[], str]] = {
    "without a signature": unsigned,
    "signed with the public key as a secret": signed_with_the_public_key,
    "signed with a shared secret that is published": lambda: token("secret" * 8, "HS256", "shared"),
    "signed by somebody else": lambda: token(OTHER_RSA_KEY),
    "signed with a key that is not published": lambda: token(OTHER_RSA_KEY, kid="other"),
    "of an algorithm for another curve than its key's": lambda: another_curve(),
    "signed otherwise than its key says": lambda: token(RSA_KEY, "RS256", "ec"),
    "changed": lambda: token()[:-8] + "AAAAAAAA",
    "of another issuer": lambda: token(iss="https://evil.example.org/"),
    "for another audience": lambda: token(aud="another"),
    "for nobody": lambda: token(aud=None),
    "without an end": lambda: token(exp=None),
    "over": lambda: token(exp=time.time() - 100),
    "not yet begun": lambda: token(nbf=time.time() + 600),
    "about nobody": lambda: token(sub=None),
    "that names no key of two": lambda: token(kid=None),
    "too long": lambda: token(more="x" * tokens.LONGEST_TOKEN),
    "no token": lambda: "abc.def.ghi",
}


@pytest.mark.parametrize("kind", FORGED)
async def test_a_token_is_refused_that_is(kind: str, url: str) -> None:
    reader = Tokens(settings_for(url))
    try:
        with pytest.raises(ProblemAnswer) as refused:
            await reader.caller(FORGED[kind]())
    finally:
        await reader.close()
    assert refused.value.status == 401
    assert refused.value.code == "invalid-token"


@pytest.mark.parametrize(
    ("more", "claims", "granted"),
    [
        ({}, {"scope": "headrace:read"}, {Scope.READ}),
        ({}, {"scope": "read write admin"}, set()),
        ({}, {"scope": None}, set()),
        ({}, {"scope": 7}, set()),
        ({"oidc_scopes": "viewer=read, boss=read+operate"}, {"scope": ["boss", 1]}, {Scope.READ, Scope.OPERATE}),
        ({"oidc_scopes": "viewer=read"}, {"scope": "headrace:write"}, set()),
        (
            {"oidc_scopes": "viewer=read", "oidc_scopes_claim": "realm_access.roles"},
            {"realm_access": {"roles": ["viewer"]}},
            {Scope.READ},
        ),
        ({"oidc_scopes_claim": "realm_access.roles"}, {"realm_access": "viewer"}, set()),
    ],
)
async def test_a_claim_is_mapped_to_scopes(
    more: dict[str, str], claims: dict[str, Any], granted: set[Scope], url: str
) -> None:
    reader = Tokens(settings_for(url, **more))
    try:
        assert (await reader.caller(token(**claims))).scopes == granted
    finally:
        await reader.close()


async def test_a_key_that_its_issuer_has_just_published_is_fetched_and_strange_ones_are_not_asked_for_each_time(
    url: str, issuer: Issuer
) -> None:
    now = 1000.0
    reader = Tokens(settings_for(url), clock=lambda: now)
    try:
        await reader.caller(token())
        for _ in range(20):
            with pytest.raises(ProblemAnswer):
                await reader.caller(token(OTHER_RSA_KEY, kid="next"))
        assert issuer.asked == 1
        issuer.answer = {"keys": [jwk("RS256", OTHER_RSA_KEY, "next")]}
        now += tokens.AGAIN_SECONDS
        assert (await reader.caller(token(OTHER_RSA_KEY, kid="next"))).name == "token:ada"
        with pytest.raises(ProblemAnswer):
            await reader.caller(token())
        assert issuer.asked == 2
    finally:
        await reader.close()


async def test_whoever_comes_while_the_issuers_keys_are_fetched_waits_for_them(url: str, issuer: Issuer) -> None:
    now = 1000.0
    reader = Tokens(settings_for(url), clock=lambda: now)

    async def both(make: Callable[[], str]) -> list[str]:
        asked = issuer.asked
        issuer.may_answer.clear()
        callers = []
        try:
            callers.append(asyncio.create_task(reader.caller(make())))
            await eventually_async(lambda: _is(issuer.asked == asked + 1), what="the issuer is asked")
            callers.append(asyncio.create_task(reader.caller(make())))
            await asyncio.sleep(0)  # it runs as far as it can
        finally:
            issuer.may_answer.set()
        return [caller.name for caller in await asyncio.gather(*callers)]

    try:
        assert await both(token) == ["token:ada"] * 2
        issuer.answer = {"keys": [jwk("RS256", OTHER_RSA_KEY, "next")]}
        now += tokens.AGAIN_SECONDS
        assert await both(lambda: token(OTHER_RSA_KEY, kid="next")) == ["token:ada"] * 2
    finally:
        await reader.close()
    assert issuer.asked == 2


async def test_known_keys_are_used_while_newer_ones_are_fetched(url: str, issuer: Issuer) -> None:
    now = 1000.0
    reader = Tokens(settings_for(url), clock=lambda: now)
    try:
        await reader.caller(token())
        now += tokens.FRESH_SECONDS
        issuer.may_answer.clear()
        first = asyncio.create_task(reader.caller(token()))
        await eventually_async(lambda: _is(issuer.asked == 2), what="the issuer is asked again")
        assert (await reader.caller(token())).name == "token:ada"
        assert not first.done()
    finally:
        issuer.may_answer.set()
        await reader.close()
    assert (await first).name == "token:ada"


async def _is(true: bool) -> bool:
    return true


@pytest.mark.parametrize(
    "answer",
    [
        Response("no", 500),
        RedirectResponse("http://127.0.0.1:1/elsewhere"),
        Response("[" * 100_000),
        Response('{"keys": 7}'),
        Response("{"),
        Response(b'{"keys": [' + b" " * tokens.LONGEST_KEYS + b"]}"),
    ],
    ids=["500", "a redirect", "deep", "no list", "cut off", "too long"],
)
async def test_without_the_issuers_keys_tokens_are_unanswered_and_known_keys_stay(
    answer: Response, url: str, issuer: Issuer
) -> None:
    now = 1000.0
    good, issuer.answer = issuer.answer, answer
    reader = Tokens(settings_for(url), clock=lambda: now)
    try:
        with pytest.raises(Unavailable):
            await reader.caller(token())
        issuer.answer = good
        now += tokens.AGAIN_SECONDS
        await reader.caller(token())
        issuer.answer = answer
        now += tokens.FRESH_SECONDS + 1
        assert (await reader.caller(token())).name == "token:ada"
    finally:
        await reader.close()
    assert issuer.asked == 3


def test_settings_of_an_issuer_are_complete_and_its_keys_are_fetched_encrypted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for wrong, told in (
        ({"OIDC_ISSUER": ISSUER}, "OIDC_AUDIENCE, OIDC_JWKS_URL"),
        ({"OIDC_JWKS_URL": "http://issuer.example.org/keys"}, "https"),
        ({"OIDC_SCOPES": "viewer=everything"}, "WORD=SCOPE"),
    ):
        with monkeypatch.context() as environment:
            for name, value in wrong.items():
                environment.setenv(name, value)
            with pytest.raises(SettingsError, match=told):
                load_settings(headrace_home=tmp_path)
