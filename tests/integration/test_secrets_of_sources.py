"""Passwords and tokens in sources' addresses are in no answer, no table, no topic and no log, however a run ends."""

import asyncio
import os
import subprocess
import sys
from urllib.parse import urlsplit

from runtime.settings import Settings
from schemas.topics import all_topics
from tests.e2e.stores import rows
from tests.integration.api_client import api_client
from tests.integration.publish_servers import Answer, Request, consume_all, http_server
from tests.processes import PROJECT, environment_of

SECRETS = ("pass-word", "tok3n")
CUSTOMER = b'{"customer_id": "C1", "first_name": "Ada", "last_name": "Byron", "email": "ada@example.org"}'
ENDINGS = {
    "stored": Answer(200, b"[" + CUSTOMER + b"]"),
    "unreadable": Answer(200, b"<html>"),
    "odd": Answer(200, b'{"rows": []}'),
    "refused": Answer(401, b"who are you"),
    "moved": Answer(302, b"", {"Location": "http://169.254.169.254/?token=tok3n"}),
    "to_itself": Answer(302, b"", {"Location": "?token=tok3n"}),
    "down": Answer(503, b""),
}
KINDS = {"api": 'url = "{}"\npagination = {{ style = "none" }}', "csv": 'path = "{}"', "rss": 'url = "{}"'}


def sources(server: str) -> str:
    """A source of each kind for each ending, and one that nobody answers; ours among them."""
    place = urlsplit(server).netloc
    blocks = []
    for kind, address in KINDS.items():
        for ending in (*ENDINGS, "nobody"):
            host = "127.0.0.1:9" if ending == "nobody" else place
            url = f"http://me:pass-word@{host}/{ending}?token=tok3n"
            name = "customers_api" if (kind, ending) == ("api", "stored") else f"{kind}_{ending}"
            blocks.append(
                f'[sources.{name}]\nkind = "{kind}"\ndataset = "customers"\nretries = 0\n' + address.format(url)
            )
    return "\n".join(blocks)


async def answers(settings: Settings) -> dict[str, str]:
    """By path, what the API tells of it."""
    async with api_client(settings) as api:
        told = {"/api/ingest": (await api.post("/api/ingest")).text}
        for path in ("/runs", "/stats", "/overview", "/failures", "/failures/items", "/schema-drift", "/metrics"):
            told[path] = (await api.get(path)).text
    return told


def test_they_are_published_nowhere(pipeline_settings: Settings) -> None:
    def answer(request: Request) -> Answer:
        assert request.query["token"] == "tok3n"
        assert request.headers["authorization"].startswith("Basic ")
        return ENDINGS[request.path.strip("/")]

    file = pipeline_settings.home / "secret.toml"
    settings = pipeline_settings.model_copy(update={"sources_file": file, "ingest_timeout_seconds": 0.5})
    with http_server(answer) as server:
        file.write_text(sources(server))
        done = subprocess.run(
            [sys.executable, "-m", "cli", "publish", "--all", "--json"],
            cwd=PROJECT,
            env=os.environ | environment_of(settings) | {"SOURCES_FILE": str(file)},
            capture_output=True,
            text=True,
            check=False,
        )
        told = {"the command": done.stdout + done.stderr} | asyncio.run(answers(settings))
    assert all(name in told["the command"] for name in ("csv_refused", "rss_nobody", "api_odd"))
    for table in rows(settings, "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"):
        found = rows(settings, f'SELECT t::text AS row FROM "{table["name"]}" t')  # noqa: S608
        told[f"the table {table['name']}"] = "\n".join(str(row["row"]) for row in found)
    for topic in all_topics():
        told[f"the topic {topic.name}"] = str(consume_all(settings, topic.name))
    assert "ada@example.org" in told["the topic customers.raw"]
    assert "api_refused" in told["the table etl_runs"] + told["the command"]
    assert not {place: secret for place, text in told.items() for secret in SECRETS if secret in text}
