"""Callers, and what they may do: each endpoint says what it needs, in one place, and is refused to others here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import starlette.types
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.types import Receive, Send

from api.problems import MEDIA_TYPE, Problem, ProblemAnswer
from runtime.scopes import SCOPES
from runtime.scopes import Scope as Scope  # others take it from here

CALLER = "headrace.caller"
"""In a request's scope: its Caller."""

DOUBT = "headrace.caller.doubt"
"""In a request's scope: the exception to raise instead of a plain 401 or 403, where a key or token was no good."""

AGAIN = "headrace.caller.again"
"""In a request's scope where its key or token was looked at: the function of the scope that looks at it again."""

CREDENTIALS = ("Authorization", "X-API-Key")
"""Headers by which a caller says who it is. The first counts more."""

CHALLENGE = 'Bearer realm="headrace"'

_NEEDED = "needed_scope"
"""The attribute of an endpoint's function."""

_SAME = "same_for_everybody"

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sends a request: a key's name, or a token's subject, and its scopes."""

    name: str
    scopes: frozenset[Scope]

    @property
    def is_known(self) -> bool:
        """True for who has shown a key or a token, whatever its name: NOBODY and EVERYBODY are no names."""
        return self is not NOBODY and self is not EVERYBODY


NOBODY = Caller("nobody", frozenset())

EVERYBODY = Caller("everybody", SCOPES)
"""The caller where nobody is asked who they are: API_ACCESS=open."""


def caller_of(request: HTTPConnection | Mapping[str, Any]) -> Caller:
    """The caller of a request, or of its ASGI scope; NOBODY, without any right, where none has been found out."""
    scope = request.scope if isinstance(request, HTTPConnection) else request
    caller: Caller = scope.get(CALLER, NOBODY)
    return caller


async def still_may(scope: Mapping[str, Any], needed: Scope) -> bool:
    """True if the caller still has a scope that it had: its key may have been revoked since, or have ended."""
    again = scope.get(AGAIN)
    return again is None or needed in (await again(scope))[0].scopes


def needs(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Declare the scope that an endpoint needs. The innermost decorator, below the one with its path."""

    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _NEEDED, scope)
        return endpoint

    return declare


def for_everybody(endpoint: Endpoint) -> Endpoint:
    """Declare that an endpoint answers everybody the same: it says nothing of the data, or asks for a signature of its
    own. A key is not looked at, since that may take a reading of Postgres.
    """
    setattr(endpoint, _SAME, True)
    return more_for_callers(endpoint)


def more_for_callers(endpoint: Endpoint) -> Endpoint:
    """Declare that an endpoint needs no key, and says more to who has one."""
    setattr(endpoint, _NEEDED, None)
    return endpoint


def anonymous_paths(app: Any) -> frozenset[str]:
    """Paths of an application whose answers are the same for everybody; FastAPI's own pages are among them. Pure."""
    found = set[str]()
    for route in app.routes:
        if (inner := getattr(route, "original_router", None)) is not None:
            found |= anonymous_paths(inner)
        elif not isinstance(route, GuardedRoute) or getattr(route.endpoint, _SAME, False):
            found.add(route.path)
    return frozenset(found)


class UndeclaredNeed(TypeError):
    """An endpoint does not say what it needs."""


class GuardedRoute(APIRoute):
    """Lets only those in who have the scope that the endpoint declares; one that declares none cannot be served.

    Raises UndeclaredNeed when it is made. Not a dependency: solving one takes longer than the check.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **given: Any) -> None:
        if not hasattr(endpoint, _NEEDED):
            raise UndeclaredNeed(f"{path}: say what it needs, by @needs(Scope.…) or @for_everybody")
        self.needed: Scope | None = getattr(endpoint, _NEEDED)
        super().__init__(path, endpoint, **(_documented(self.needed, given) if self.needed else given))

    async def handle(self, scope: starlette.types.Scope, receive: Receive, send: Send) -> None:
        needed = self.needed
        if needed and needed not in caller_of(scope).scopes and scope["method"] in (self.methods or ()):
            raise _refusal(scope, needed)  # another method than the route's is answered by 405
        await super().handle(scope, receive, send)


SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`headrace keys create`), or a token of the issuer that OIDC_ISSUER names.",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same API key, by itself."},
}
"""Ways to say who asks, as OpenAPI has them."""

_REFUSED = {
    HTTPStatus.UNAUTHORIZED.value: "No key, or one that is unknown, expired or revoked",
    HTTPStatus.FORBIDDEN.value: "The key has not the scope that this needs; the answer names it",
}


def _documented(needed: Scope, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a route, and in its documentation what it needs and how it refuses."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    refused = {status: {"description": told, "content": content} for status, told in _REFUSED.items()}
    security = {"security": [{scheme: [needed.value]} for scheme in SECURITY_SCHEMES]}
    return given | {
        "responses": refused | (given.get("responses") or {}),
        "openapi_extra": security | (given.get("openapi_extra") or {}),
    }


def unauthorized(code: str, detail: str) -> ProblemAnswer:
    """A 401 for a key or token that was given and is no good."""
    headers = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
    return ProblemAnswer(HTTPStatus.UNAUTHORIZED, code, detail, headers)


def _refusal(scope: starlette.types.Scope, needed: Scope) -> Exception:
    doubt: Exception | None = scope.get(DOUBT)
    if doubt is not None:
        return doubt
    caller, asked = caller_of(scope), f"{scope['method']} {scope['path'][:300]}"
    if caller is NOBODY:
        detail = f"{asked} needs a key with the scope {needed}, sent as `Authorization: Bearer …` or as `X-API-Key`"
        headers = {"WWW-Authenticate": CHALLENGE}
        return ProblemAnswer(HTTPStatus.UNAUTHORIZED, "key-needed", detail, headers, scope=needed)
    has = ", ".join(sorted(caller.scopes)) or "none"
    detail = f"{asked} needs the scope {needed}; {caller.name!r} has {has}"
    headers = {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{needed}"'}
    return ProblemAnswer(HTTPStatus.FORBIDDEN, "scope-missing", detail, headers, scope=needed)
