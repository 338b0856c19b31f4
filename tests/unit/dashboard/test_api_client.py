import httpx
import pytest
from structlog.testing import capture_logs

from dashboard.api_client import Api, ApiProblem


def answering(status: int = 200, content: bytes = b"{}", error: Exception | None = None) -> Api:
    def answer(_: httpx.Request) -> httpx.Response:
        if error:
            raise error
        return httpx.Response(status, content=content)

    return Api("http://api", httpx.MockTransport(answer))


@pytest.mark.parametrize("content", [b"<html>log in first", b"[" * 200_000])
async def test_an_answer_that_is_no_json_is_a_problem_with_a_way_out(content: bytes) -> None:
    with pytest.raises(ApiProblem, match="API_URL") as raised:
        await answering(content=content).get("/lag")
    assert not raised.value.silent
    assert await answering(204, b"").get("/lag") is None


async def test_the_log_tells_dry_runs_refusals_and_silence_apart() -> None:
    with capture_logs() as logs:
        await answering().act("POST", "/failures/retry", "ada", {"dry_run": True})
        await answering().act("POST", "/failures/retry", "ada", {"keys": ["A"]})
        for failing in (answering(409), answering(error=httpx.ReadTimeout("slow"))):
            with pytest.raises(ApiProblem):
                await failing.act("POST", "/api/ingest", "ada")
    assert [(one["event"], one.get("dry_run")) for one in logs] == [
        ("action", True), ("action", None), ("action_refused", None), ("action_unanswered", None),
    ]  # fmt: skip
    assert all(one["request_id"].startswith("dashboard:ada:") for one in logs)


async def test_an_action_that_waits_for_its_outcome_is_waited_for() -> None:
    given: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        given.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json={})

    api = Api("http://api", httpx.MockTransport(answer))
    await api.get("/lag")
    await api.act("POST", "/api/ingest", "ada")
    assert given[0] < 60 < given[1]
