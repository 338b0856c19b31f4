import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from dashboard.api_client import Api, ApiProblem
from runtime.settings import Settings


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


async def test_every_question_carries_the_key_and_a_refusal_names_the_setting() -> None:
    sent: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers.get("authorization"))
        return httpx.Response(403, json={"title": "Forbidden", "detail": "it needs the scope operate"})

    settings = Settings(headrace_api_key=SecretStr("hr_0_secret"))
    api = Api("http://api", httpx.MockTransport(answer), settings.own_api_headers)
    with pytest.raises(ApiProblem, match=r"scope operate\. .*HEADRACE_API_KEY") as refused:
        await api.act("POST", "/api/ingest", "ada")
    with pytest.raises(ApiProblem):
        await api.get("/lag")
    assert sent == ["Bearer hr_0_secret"] * 2
    assert "hr_0_secret" not in str(refused.value) + repr(settings)
    assert Settings().own_api_headers == {}
