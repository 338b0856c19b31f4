"""Is a request signed by somebody who knows the secret, and is it new? HMAC-SHA256, as most senders do it. Pure."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


class SignatureRefused(Exception):
    """The request is not signed, wrongly signed, or too old. The message says which, and never the right signature."""


@dataclass(frozen=True)
class SignatureRule:
    """How a source signs. `signed` is what is signed, with {timestamp} and {body} in it.

    Any of the `secrets` is good: one may be replaced while the other is still in use.
    """

    secrets: Sequence[bytes]
    header: str
    prefix: str
    encoding: Literal["hex", "base64"]
    timestamp_header: str | None
    signed: str
    tolerance_seconds: float

    def check(self, body: bytes, headers: Mapping[str, str], now: float) -> None:
        """Raise SignatureRefused unless a signature of these bytes is in the header. `now` in s since the epoch.

        The comparison takes the same time whatever signature is given. Header names are to be looked up without regard
        to case.
        """
        given = headers.get(self.header)
        if not given:
            raise SignatureRefused(f"the header {self.header} is missing: sign the body with HMAC-SHA256")
        timestamp = self._timestamp(headers, now)
        digest = self._decoded(given)
        before, _, after = self.signed.partition("{body}")
        content = b"".join(
            [before.replace("{timestamp}", timestamp).encode(), body, after.replace("{timestamp}", timestamp).encode()]
        )
        if not any(hmac.compare_digest(digest, hmac.digest(s, content, hashlib.sha256)) for s in self.secrets):
            raise SignatureRefused(f"the signature in {self.header} is not that of this body under the agreed secret")

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
        text = given.strip()
        malformed = SignatureRefused(
            f"the header {self.header} must be {self.prefix or 'the'}{'' if self.prefix else ' '}"
            f"<{self.encoding} of the HMAC-SHA256>"
        )
        if not text.startswith(self.prefix):
            raise malformed
        try:
            text = text.removeprefix(self.prefix)
            return bytes.fromhex(text) if self.encoding == "hex" else base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            raise malformed from None
