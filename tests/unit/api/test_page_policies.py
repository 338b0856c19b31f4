"""Answers say what may be loaded by whoever shows them."""

import base64
import hashlib

import httpx
import pytest

from api.app import create_app
from api.page_policies import PAGES, policy_of
from runtime.settings import Settings


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = create_app(Settings(api_access="open"))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here")


@pytest.mark.parametrize("compressed", [True, False])
async def test_pages_of_documentation_name_the_scripts_that_they_hold(
    client: httpx.AsyncClient, compressed: bool
) -> None:
    for path in PAGES:
        answer = await client.get(path, headers={"Accept-Encoding": "gzip" if compressed else "identity"})
        assert answer.status_code == 200
        assert answer.headers.get_list("content-security-policy") == [policy_of(answer.content).decode()]


async def test_no_other_answer_may_load_anything(client: httpx.AsyncClient) -> None:
    for path in ("/", "/openapi.json", "/nothing", "/livez", "/docs/nothing"):
        [policy] = (await client.get(path)).headers.get_list("content-security-policy")
        assert policy.startswith("default-src 'none'; ")
        assert "script-src" not in policy


def test_a_policy_allows_the_scripts_of_the_page_and_no_others() -> None:
    policy = policy_of(
        b"<script src='/a.js'></script>\n<script>\nb()\n</script><script type='module'>c()</script>"
    ).decode()
    hashes = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in (b"\nb()\n", b"c()")]
    assert f"script-src 'self' 'sha256-{hashes[0]}' 'sha256-{hashes[1]}';" in policy
    assert "unsafe" not in policy.replace("style-src 'self' 'unsafe-inline'", "")
