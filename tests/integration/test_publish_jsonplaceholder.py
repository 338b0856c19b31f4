"""Against the real JSONPlaceholder server, from npm."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from producers.publish import publish
from producers.sources import load_sources
from runtime.settings import Settings
from tests.integration.publish_servers import consume_all
from tests.waiting import eventually

REPOSITORY = Path(__file__).parents[2]
PACKAGE = "jsonplaceholder@0.3.3"


@pytest.fixture(scope="module")
def jsonplaceholder() -> Iterator[str]:
    folder = Path.home() / ".cache" / "headrace" / "npm" / PACKAGE
    program = folder / "node_modules" / "jsonplaceholder" / "index.js"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), PACKAGE]
        subprocess.run(install, check=True, timeout=300)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ["node", str(program)], env={"PORT": str(port), "PATH": "/usr/local/bin:/usr/bin:/bin"}, cwd=program.parent,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: httpx.get(f"{url}/posts/1").is_success, what="jsonplaceholder answers", within=30)
        yield url
    finally:
        server.terminate()
        server.wait(10)


async def test_the_posts_source_reads_the_real_jsonplaceholder(
    pipeline_settings: Settings, jsonplaceholder: str
) -> None:
    settings = pipeline_settings.model_copy(update={"api_host": jsonplaceholder})
    report = await publish(load_sources(REPOSITORY / "sources.toml", settings)["posts"], settings)
    async with httpx.AsyncClient() as client:
        posts = (await client.get(f"{jsonplaceholder}/posts")).json()
    records = consume_all(settings, "records.raw")
    assert report.published == len(posts) == 100
    assert sorted((json.loads(record.value) for record in records), key=lambda post: int(post["id"])) == posts
    assert {record.key for record in records} == {f"posts:{post['id']}" for post in posts}
