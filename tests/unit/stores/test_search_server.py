"""What the search server says when it refuses."""

import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig

from commands.trouble import in_a_line
from stores.search_server import SearchRefused


def refused(status: int, body: object) -> SearchRefused:
    meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.0, NodeConfig("http", "localhost", 9200))
    return SearchRefused(meta, body)


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (
            {"error": {"type": "index_not_found_exception", "reason": "no such index [users]"}, "status": 404},
            "index_not_found_exception",
            "[404] index_not_found_exception: no such index [users]",
        ),
        (
            {"error": {"type": "mapper_exception", "reason": "failed", "caused_by": {"reason": "no date"}}},
            "mapper_exception",
            "[404] mapper_exception: failed; no date",
        ),
        ({"error": "no handler found for uri [/x]"}, "", "[404] no handler found for uri [/x]"),
        ({"timed_out": True}, "", "[404] {'timed_out': True}"),
        ("<html>Not Found</html>", "", "[404] <html>Not Found</html>"),
        (None, "", "[404] None"),
    ],
)
def test_an_error_is_told_by_its_kind_and_the_servers_words(body: object, kind: str, words: str) -> None:
    error = refused(404, body)
    assert (error.status, error.kind, str(error)) == (404, kind, words)


def test_a_command_that_the_server_refuses_ends_in_a_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", "http://127.0.0.1:9200")
    told = in_a_line(refused(401, {"error": {"type": "security_exception", "reason": "missing authentication"}}))
    assert told is not None
    assert told.startswith("Elasticsearch at http://127.0.0.1:9200 ")
    assert "security_exception: missing authentication" in told
