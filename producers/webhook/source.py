"""The kind `webhook`: records that somebody posts to `/webhooks/{source}` of the API, signed."""

import base64
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from producers.block import SourceBlock
from producers.raw_records import LARGEST_VALUE_BYTES
from producers.source import SourceBatch, SourceDescription, SourceFailed
from runtime.settings import Settings

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
Secret = Annotated[SecretStr, Field(min_length=16)]

SHORTEST_KEY_BYTES = 16

_PLACEHOLDER = re.compile(r"\{\w*\}")


class SignatureRefused(Exception):
    """The request is not signed, wrongly signed, or too old. The message says which, and never the right signature."""


def _decoded(text: str, encoding: Literal["hex", "base64"]) -> bytes:
    """Raises ValueError."""
    if encoding == "base64":
        return base64.b64decode(text, validate=True)
    if text and not text.isalnum():
        raise ValueError(text)  # fromhex would read past blanks
    return bytes.fromhex(text)


def _from_base64(secret: SecretStr) -> bytes:
    """The key that a secret encodes. Raises ValueError, without the secret."""
    try:
        key = base64.b64decode(secret.get_secret_value().rpartition("_")[2], validate=True)
    except ValueError:
        key = b""
    if len(key) < SHORTEST_KEY_BYTES:
        raise ValueError(
            f"secret: expected Base64 of {SHORTEST_KEY_BYTES} bytes or more, as secret_is_base64 says, alone or behind "
            "`whsec_`"
        )
    return key


def _filled(form: str, values: Mapping[str, str]) -> bytes:
    for placeholder, value in values.items():
        form = form.replace(placeholder, value)
    return form.encode()


class WebhookBlock(SourceBlock):
    """A block of kind `webhook`. Without more than a secret it takes what GitHub sends."""

    pushed: ClassVar[bool] = True

    kind: Literal["webhook"]
    secret: Secret | tuple[Secret, ...]
    """The sender's secret, 16 characters at least. Of several any is good: one may be replaced by another in use."""
    secret_is_base64: bool = False
    """The key is what the secret encodes, behind its last underscore (`whsec_…`) if it has one."""
    signature_header: HeaderName = "X-Hub-Signature-256"
    signature_prefix: str = "sha256="
    signature_encoding: Literal["hex", "base64"] = "hex"
    signature_separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Between several members of the header: any signature among them may be the right one."""
    timestamp_header: HeaderName | None = None
    """Header with the time of sending in seconds; it is signed too, so an old request cannot be sent again."""
    timestamp_prefix: Annotated[str, Field(min_length=1)] | None = None
    """Or the beginning of the member of the signature's header that has this time."""
    tolerance_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    signed: str | None = None
    """The text that is signed; by default `{body}`, and with a timestamp `{timestamp}.{body}`. `{id}` is the value of
    `idempotency_header`."""
    max_bytes: Annotated[int, Field(ge=1, le=LARGEST_VALUE_BYTES)] = 1_048_576
    """Longest body."""
    max_records: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Longest array."""
    timeout_seconds: Annotated[float, Field(gt=0, le=120)] = 8.0
    """Time that Kafka may take to confirm before the sender is told to try again; most senders wait 10 s."""
    idempotency_header: HeaderName | None = None
    """Header that names a delivery, the same each time that it is sent: it is published once."""
    idempotency_seconds: Annotated[float, Field(ge=1, le=366 * 86_400)] = 7 * 86_400.0
    """Time that a delivery is remembered."""

    @field_validator("secret", mode="before")
    @classmethod
    def _is_a_secret(cls, value: object) -> object:
        secrets = [value] if isinstance(value, str) else value
        if (
            not isinstance(secrets, list)
            or not secrets
            or not all(isinstance(s, str) and len(s) >= 16 for s in secrets)
        ):
            raise ValueError("expected a text of at least 16 characters, or an array of such")
        return value

    @model_validator(mode="after")
    def _is_signed(self) -> "WebhookBlock":
        if self.interval_seconds is not None:
            raise ValueError("interval_seconds: a webhook is not fetched; leave it out")
        if unknown := sorted({*_PLACEHOLDER.findall(self.signed_form)} - {"{body}", "{timestamp}", "{id}"}):
            raise ValueError(f"signed: {unknown[0]} is not known; known are {{body}}, {{timestamp}} and {{id}}")
        if self.signed_form.count("{body}") != 1:
            raise ValueError("signed: expected {body} in it, once")
        if self.timestamp_header and self.timestamp_prefix:
            raise ValueError("timestamp_header, timestamp_prefix: expected one of them")
        if self.timestamp_prefix and not self.signature_separator:
            raise ValueError("timestamp_prefix: give signature_separator too, which divides the header")
        if ("{timestamp}" in self.signed_form) != self._is_timed:
            raise ValueError("signed: {timestamp} in it and timestamp_header or timestamp_prefix belong together")
        if "{id}" in self.signed_form and self.idempotency_header is None:
            raise ValueError("signed: {id} in it needs idempotency_header, which says what header that is")
        if self.secret_is_base64:
            for secret in self._secrets:
                _from_base64(secret)
        return self

    @property
    def _is_timed(self) -> bool:
        return bool(self.timestamp_header or self.timestamp_prefix)

    @property
    def _secrets(self) -> Sequence[SecretStr]:
        return self.secret if isinstance(self.secret, tuple) else (self.secret,)

    @property
    def _keys(self) -> list[bytes]:
        if self.secret_is_base64:
            return [_from_base64(secret) for secret in self._secrets]
        return [secret.get_secret_value().encode() for secret in self._secrets]

    @property
    def signed_form(self) -> str:
        """The text that is signed, with its placeholders."""
        return self.signed or ("{timestamp}.{body}" if self._is_timed else "{body}")

    def check_signature(self, body: bytes, headers: Mapping[str, str], now: float) -> None:
        """Raise SignatureRefused unless a signature of these bytes is in the header. `now` in s since the epoch.

        The comparison takes the same time whatever signature is given. Header names are to be looked up without regard
        to case.
        """
        given = headers.get(self.signature_header)
        if not given:
            raise SignatureRefused(f"the header {self.signature_header} is missing: sign the body with HMAC-SHA256")
        separator = self.signature_separator
        members = [member.strip() for member in (given.split(separator) if separator else [given])]
        digests = self._digests(members)
        values = {"{timestamp}": self._timestamp(headers, members, now), "{id}": self._id(headers)}
        before, _, after = self.signed_form.partition("{body}")
        content = b"".join([_filled(before, values), body, _filled(after, values)])
        right = [hmac.digest(key, content, hashlib.sha256) for key in self._keys]
        if not any(hmac.compare_digest(digest, one) for digest in digests for one in right):
            raise SignatureRefused(
                f"the signature in {self.signature_header} is not that of this body under the agreed secret"
            )

    def _timestamp(self, headers: Mapping[str, str], members: Sequence[str], now: float) -> str:
        if self.timestamp_header:
            name, text = f"the header {self.timestamp_header}", (headers.get(self.timestamp_header) or "").strip()
        elif prefix := self.timestamp_prefix:
            name = f"{prefix} in {self.signature_header}"
            text = next((member.removeprefix(prefix) for member in members if member.startswith(prefix)), "")
        else:
            return ""
        if not (text.isascii() and text.isdecimal() and len(text) <= 15):
            raise SignatureRefused(f"{name} must be the time in seconds since 1970")
        if abs(now - int(text)) > self.tolerance_seconds:
            raise SignatureRefused(
                f"{name} is {abs(now - int(text)):.0f} s away from this server's time, at most "
                f"{self.tolerance_seconds:g} s are tolerated"
            )
        return text

    def _id(self, headers: Mapping[str, str]) -> str:
        if "{id}" not in self.signed_form or self.idempotency_header is None:
            return ""
        if not (value := headers.get(self.idempotency_header)):
            raise SignatureRefused(f"the header {self.idempotency_header} is missing, which is signed with the body")
        return value

    def _digests(self, members: Iterable[str]) -> list[bytes]:
        """Signatures among the members of the header; one that is none makes the header wrong."""
        prefix, encoding = self.signature_prefix, self.signature_encoding
        try:
            digests = [_decoded(one.removeprefix(prefix), encoding) for one in members if one.startswith(prefix)]
        except ValueError:
            digests = []
        if not digests:
            form = f"{prefix or 'the '}<{encoding} of the HMAC-SHA256>"
            rule = f"must have, between '{self.signature_separator}'," if self.signature_separator else "must be"
            raise SignatureRefused(f"the header {self.signature_header} {rule} {form}")
        return digests

    def build(self, name: str, settings: Settings, folder: Path) -> "WebhookSource":  # noqa: ARG002 (a kind with files needs it)
        return WebhookSource(self.describe(name), self, settings.api_url)


@dataclass(frozen=True)
class WebhookSource:
    """A source that nobody can read: its records are posted. Implements Source."""

    description: SourceDescription
    block: WebhookBlock
    api_url: str

    def batches(self) -> AsyncIterator[SourceBatch]:
        """Raises SourceFailed, which says where to post."""
        name = self.description.name
        raise SourceFailed(name, f"a webhook cannot be fetched: its sender posts to {self.api_url}/webhooks/{name}")
