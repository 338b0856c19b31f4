"""The one door to the pipeline: the API, over HTTP. What the pages say is what it says."""

import json
import os
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import httpx
import structlog

log = structlog.get_logger()

TIMEOUT_SECONDS = 20.0
"""The dearest question is the audit of a large pipeline."""

CONNECT_SECONDS = 2.0

ACT_SECONDS = 75.0
"""An action may wait for its outcome: POST /api/ingest does, for INGEST_TIMEOUT_SECONDS, 60 by default."""


NOT_ALLOWED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


class ApiProblem(Exception):
    """The API does not answer, or refuses. `status` is its HTTP status, 0 where there was no answer."""

    def __init__(self, title: str, detail: str, status: int = 0, body: dict[str, Any] | None = None) -> None:
        super().__init__(f"{title}: {detail}")
        self.title = title
        self.detail = detail
        self.status = status
        self.body = body or {}

    @property
    def silent(self) -> bool:
        """No answer came: the API is down or cannot be reached."""
        return self.status == 0


class Api:
    """Asks the API. One connection pool per process; safe for any number of pages at once."""

    def __init__(
        self, url: str, transport: httpx.AsyncBaseTransport | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """`headers` go with every question: the dashboard's key."""
        self.url = url
        timeout = httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS)
        # No proxy of the environment: the API is where API_URL says.
        self._client = httpx.AsyncClient(
            base_url=url, timeout=timeout, trust_env=False, transport=transport, headers=headers
        )

    async def get(self, path: str, **parameters: Any) -> Any:
        """The answer as JSON; decimals keep their digits. Parameters that are None or empty are left out.

        Raises ApiProblem.
        """
        given = {name: value for name, value in parameters.items() if value not in (None, "")}
        return await self._ask("GET", path, params=given or None)

    async def act(self, method: str, path: str, who: str, body: Any = None) -> Any:
        """Let the API do something in somebody's name, and note it in the log, dry runs as such. Raises ApiProblem.

        The request's id begins with `dashboard:` and who it was: the API keeps it with what was done.
        """
        headers = {"X-Request-ID": f"dashboard:{who}:{os.urandom(4).hex()}"}
        about: dict[str, Any] = {"who": who, "method": method, "path": path, "request_id": headers["X-Request-ID"]}
        if isinstance(body, dict) and body.get("dry_run"):
            about["dry_run"] = True
        try:
            timeout = httpx.Timeout(ACT_SECONDS, connect=CONNECT_SECONDS)
            answer = await self._ask(method, path, json=body, headers=headers, timeout=timeout)
        except ApiProblem as problem:
            # Without an answer it may be done all the same.
            log.warning("action_unanswered" if problem.silent else "action_refused", **about, status=problem.status)
            raise
        log.info("action", **about)
        return answer

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        try:
            answer = await self._client.request(method, path, **request)
        except httpx.TimeoutException as error:
            raise ApiProblem("The API takes too long", f"{self.url}{path}: {type(error).__name__}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ApiProblem("The API does not answer", f"{self.url}: {error or type(error).__name__}") from error
        body = _decoded(answer)
        if answer.is_success and answer.content and body is None:
            detail = f"{self.url}{path} answers, but not in JSON: is API_URL the address of the API?"
            raise ApiProblem("No answer of the API", detail, answer.status_code)
        if answer.is_success:
            return body
        told = body if isinstance(body, dict) else {}
        title = str(told.get("title") or f"The API answers {answer.status_code}")
        detail = str(told.get("detail") or f"{method} {path}: {answer.reason_phrase}")
        if answer.status_code in NOT_ALLOWED:
            detail += ". The dashboard sends the key of its setting HEADRACE_API_KEY"
        raise ApiProblem(title, detail, answer.status_code, told)


def _decoded(answer: httpx.Response) -> Any:
    try:
        return json.loads(answer.content, parse_float=Decimal) if answer.content else None
    except (ValueError, RecursionError):
        return None
