"""Settings of every kind of source that is read over HTTP: address, key, pace, and when to try again."""

from typing import Annotated, Any, Literal, get_args

import httpx
from pydantic import AfterValidator, Field, field_validator, model_validator

from producers.source import SourceBlock

Trouble = Literal["timeout", "connection"]
"""No answer in time; no connection, or one that broke."""

RETRIED: tuple[int | Trouble, ...] = (408, 425, 429, 500, 502, 503, 504, "timeout", "connection")
"""Troubles that may pass by themselves; any other status is an answer."""


def _may_pass(reason: object) -> object:
    if reason in get_args(Trouble) or (isinstance(reason, int) and 400 <= reason <= 599):
        return reason
    raise ValueError('expected a status from 400 to 599, "timeout" or "connection"')


class FetchBlock(SourceBlock):
    """Settings for fetching an answer: pace, tries and bounds."""

    rate_limit: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Requests a second, tries again included; None: as fast as it answers."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 15.0
    """Time that one try waits for a connection, and then for each part of the answer."""
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    """Tries after the first one."""
    retry_on: tuple[Annotated[Any, AfterValidator(_may_pass)], ...] = RETRIED
    """Statuses that are tried again, and `timeout` and `connection`."""
    backoff_seconds: Annotated[float, Field(gt=0, le=600)] = 0.5
    """The longest random wait before the second try; each further one may be twice as long."""
    longest_backoff_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    longest_wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = 120.0
    """A server that asks for a longer wait (Retry-After) is not waited for: the run fails and says so."""
    max_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 64 * 1_048_576
    """The longest answer, unpacked: a longer one fails the run before it fills memory or disk."""
    max_seconds: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Time that one answer may take from the request to its last byte, redirects included."""

    @model_validator(mode="after")
    def _backs_off(self) -> "FetchBlock":
        if self.backoff_seconds > self.longest_backoff_seconds:
            raise ValueError("backoff_seconds is more than longest_backoff_seconds")
        return self


class HttpBlock(FetchBlock):
    """The part of a block that every source at an address of its own has."""

    url: str
    api_key: bool = False
    """Send `API_KEY` as the header X-API-Key."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        try:
            url = httpx.URL(value)
        except httpx.InvalidURL as error:
            raise ValueError(str(error)) from None
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("expected an address like https://host/path")
        return value
