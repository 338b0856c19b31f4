"""An authorization server on loopback: tokens for client credentials, and the keys by which a broker checks them."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote_plus

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

AUDIENCE = "kafka"


@dataclass
class TokenEndpoint:
    """The only client that it knows is `client` with `secret`; its tokens are for that user."""

    client: str
    secret: str
    lifetime: float = 3600.0
    url: str = ""
    forms: list[dict[str, str]] = field(default_factory=list)
    answer: tuple[int, bytes] | None = None
    """Answered instead of a token."""
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def jwks_url(self) -> str:
        """The address of its public keys."""
        return f"{self.url}/jwks"

    def keys(self) -> bytes:
        """Those keys."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": _number(numbers.n), "e": _number(numbers.e)}
        return json.dumps({"keys": [key]}).encode()

    def token(self) -> str:
        """A new token."""
        now = int(time.time())
        claims = {"sub": self.client, "aud": AUDIENCE, "iss": self.url, "iat": now, "exp": int(now + self.lifetime)}
        signed = b".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, claims))
        return (signed + b"." + _base64(self._key.sign(signed, PKCS1v15(), SHA256()))).decode()

    def post(self, path: str, authorization: str, body: str) -> tuple[int, bytes]:
        """The answer to a request for a token."""
        self.forms.append({name: values[0] for name, values in parse_qs(body).items()})
        if self.answer:
            return self.answer
        if path != "/token" or authorization != f"Basic {_basic(self.client, self.secret)}":
            return 401, b'{"error": "invalid_client"}'
        said: dict[str, Any] = {"access_token": self.token(), "token_type": "Bearer", "expires_in": self.lifetime}
        return 200, json.dumps(said).encode()


@contextmanager
def serving(endpoint: TokenEndpoint) -> Iterator[TokenEndpoint]:
    """Serve it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(200, endpoint.keys())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            self._say(*endpoint.post(self.path, self.headers.get("authorization", ""), body))

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _basic(client: str, secret: str) -> str:
    return base64.b64encode(f"{quote_plus(client)}:{quote_plus(secret)}".encode()).decode()


def _number(value: int) -> str:
    return _base64(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode()


def _base64(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
