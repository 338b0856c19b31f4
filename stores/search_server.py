"""The search server: Elasticsearch, or OpenSearch, which speaks the same REST API as far as we use it.

It is asked by the transport of elasticsearch-py. The client above that refuses OpenSearch, takes as long to look
through a call's parameters as all else takes, and costs a process 16 MB. The transport in turn is imported without the
packages that it takes only for other ways to connect and to serialize.
"""

from typing import Any

import msgspec

from runtime.lean_import import without
from runtime.settings import Settings

with without("numpy", "pyarrow", "requests", "httpx", "orjson"):
    from elastic_transport import ApiError, ApiResponseMeta, AsyncTransport, JsonSerializer, TransportError
    from elastic_transport.client_utils import url_to_node_config

__all__ = ["SearchRefused", "SearchServer", "TransportError"]

JSON = "application/json"
LINES = "application/x-ndjson"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class SearchRefused(ApiError):
    """The server has answered that it won't: `status`, the `kind` of the error, such as
    `index_not_found_exception`, and with the server's words in `str`.
    """

    def __init__(self, meta: ApiResponseMeta, body: Any) -> None:
        error = body.get("error") if isinstance(body, dict) else None
        self.status = meta.status
        self.kind, said = _kind_and_words(error) if error else ("", str(body))
        super().__init__(f"{self.kind}: {said}" if self.kind else said, meta, body)

    @property
    def is_denied(self) -> bool:
        """True where our user or key lacks a right, or the index is closed to readers: somebody has to give it."""
        return self.status in (401, 403)


class SearchServer:
    """A client of the server at ELASTICSEARCH_URL; connects on first use. An async context manager.

    A user and password may stand in the address. Raises ValueError where the pipeline has no search server.
    """

    def __init__(self, settings: Settings, seconds: float, tries: int = 1) -> None:
        if settings.elasticsearch_url is None:
            raise ValueError("ELASTICSEARCH_URL is none: there is no index")
        node = url_to_node_config(settings.elasticsearch_url, use_default_ports_for_scheme=True)
        if settings.elasticsearch_ca_file:
            node = node.replace(ca_certs=str(settings.elasticsearch_ca_file))
        key = settings.elasticsearch_api_key
        self._headers = {"accept": JSON} | ({"authorization": f"ApiKey {key.get_secret_value()}"} if key else {})
        self._seconds = seconds
        self._transport = AsyncTransport(
            [node], node_class="aiohttp", max_retries=tries - 1, serializers={JSON: _Json(), LINES: _Json()}
        )

    async def ask(self, method: str, target: str, body: Any = None, seconds: float | None = None) -> Any:
        """Send a request and return its answer from JSON, after at most so many seconds, by default the client's.

        `target` is path and query. A body is bytes that are sent as lines (NDJSON), or what becomes JSON. Raises
        SearchRefused, and TransportError where nobody answers or what answers is no such server.
        """
        kind = LINES if isinstance(body, bytes) else JSON
        headers = self._headers if body is None else self._headers | {"content-type": kind}
        wait = seconds or self._seconds
        meta, answer = await self._transport.perform_request(
            method, target, body=body, headers=headers, request_timeout=wait
        )
        if not 200 <= meta.status < 300:
            raise SearchRefused(meta, answer)
        return answer

    async def close(self) -> None:
        """Close its connections. Idempotent."""
        await self._transport.close()

    async def __aenter__(self) -> "SearchServer":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Json(JsonSerializer):
    """Bytes are passed through; the rest is msgspec's, in a third of the time."""

    def json_dumps(self, data: Any) -> bytes:
        return _encode(data)

    def json_loads(self, data: bytes) -> Any:
        return _decode(data)


def _kind_and_words(error: Any) -> tuple[str, str]:
    """The type of an error, and its reasons from the outermost to the cause. Pure."""
    if not isinstance(error, dict):
        return "", str(error)
    cause = error.get("caused_by") or {}
    reasons = [error.get("reason"), cause.get("reason")]
    return error.get("type", ""), "; ".join(str(reason) for reason in reasons if reason)
