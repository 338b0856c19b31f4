"""The kind `webhook`: records that somebody posts to `/webhooks/{source}` of the API, signed."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
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


class SignatureRefused(Exception):
    """The request is not signed, wrongly signed, or too old. The message says which, and never the right signature."""


class WebhookBlock(SourceBlock):
    """A block of kind `webhook`. Without more than a secret it takes what GitHub sends."""

    pushed: ClassVar[bool] = True

    kind: Literal["webhook"]
    secret: Secret | tuple[Secret, ...]
    """The sender's secret, 16 characters at least. Of several any is good: one may be replaced by another in use."""
    signature_header: HeaderName = "X-Hub-Signature-256"
    signature_prefix: str = "sha256="
    signature_encoding: Literal["hex", "base64"] = "hex"
    timestamp_header: HeaderName | None = None
    """Header with the time of sending in seconds; it is signed too, so an old request cannot be sent again."""
    tolerance_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    signed: str | None = None
    """The text that is signed; by default `{body}`, and with a timestamp `{timestamp}.{body}`."""
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
        if self.signed_form.count("{body}") != 1:
            raise ValueError("signed: expected {body} in it, once")
        if ("{timestamp}" in self.signed_form) != (self.timestamp_header is not None):
            raise ValueError("signed: {timestamp} in it and timestamp_header belong together")
        return self

    @property
    def signed_form(self) -> str:
        """The text that is signed, with its placeholders."""
        return self.signed or ("{body}" if self.timestamp_header is None else "{timestamp}.{body}")

    def check_signature(self, body: bytes, headers: Mapping[str, str], now: float) -> None:
        """Raise SignatureRefused unless a signature of these bytes is in the header. `now` in s since the epoch.

        The comparison takes the same time whatever signature is given. Header names are to be looked up without regard
        to case.
        """
        given = headers.get(self.signature_header)
        if not given:
            raise SignatureRefused(f"the header {self.signature_header} is missing: sign the body with HMAC-SHA256")
        timestamp = self._timestamp(headers, now)
        digest = self._decoded(given)
        before, _, after = self.signed_form.partition("{body}")
        content = b"".join(
            [before.replace("{timestamp}", timestamp).encode(), body, after.replace("{timestamp}", timestamp).encode()]
        )
        secrets = self.secret if isinstance(self.secret, tuple) else (self.secret,)
        right = (hmac.digest(secret.get_secret_value().encode(), content, hashlib.sha256) for secret in secrets)
        if not any(hmac.compare_digest(digest, one) for one in right):
            raise SignatureRefused(
                f"the signature in {self.signature_header} is not that of this body under the agreed secret"
            )

    def _timestamp(self, headers: Mapping[str, str], now: float) -> str:
        if self.timestamp_header is None:
            return ""
        text = (headers.get(self.timestamp_header) or "").strip()
        if not (text.isascii() and text.isdecimal() and len(text) <= 15):
            raise SignatureRefused(f"the header {self.timestamp_header} must be the time in seconds since 1970")
        if abs(now - int(text)) > self.tolerance_seconds:
            raise SignatureRefused(
                f"{self.timestamp_header} is {abs(now - int(text)):.0f} s away from this server's time, at most "
                f"{self.tolerance_seconds:g} s are tolerated"
            )
        return text

    def _decoded(self, given: str) -> bytes:
        prefix, encoding = self.signature_prefix, self.signature_encoding
        text = given.strip()
        try:
            if text.startswith(prefix):
                text = text.removeprefix(prefix)
                if encoding == "base64":
                    return base64.b64decode(text, validate=True)
                if not text or text.isalnum():  # fromhex would read past blanks
                    return bytes.fromhex(text)
        except (ValueError, binascii.Error):
            pass
        form = f"{prefix or 'the '}<{encoding} of the HMAC-SHA256>"
        raise SignatureRefused(f"the header {self.signature_header} must be {form}")

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
