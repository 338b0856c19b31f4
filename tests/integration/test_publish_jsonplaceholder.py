"""Against the real JSONPlaceholder server, from npm."""

import hashlib
import json
import shutil
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
LOCKED = REPOSITORY / "tests" / "servers" / "jsonplaceholder"
"""Its version and the 400 packages that it needs (to change them: `npm install --package-lock-only` there)."""


@pytest.fixture(scope="module")
def jsonplaceholder() -> Iterator[str]:
    lock = (LOCKED / "package-lock.json").read_bytes()
    folder = Path.home() / ".cache" / "headrace" / "npm" / hashlib.sha256(lock).hexdigest()[:12]
    program = folder / "node_modules" / "jsonplaceholder" / "index.js"
    if not program.exists():
        shutil.copytree(LOCKED, folder, dirs_exist_ok=True)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--silent"], cwd=folder, check=True, timeout=300)
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
