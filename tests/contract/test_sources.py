"""More sources: every example of sources.toml and docs/sources.md, as it stands there, on the real stack."""

import gzip
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from runtime.settings import Settings
from tests.contract.api_process import api_process
from tests.e2e.command_line import CommandLine
from tests.integration.publish_servers import Answer, Request, http_server
from tests.processes import PROJECT
from tests.waiting import eventually

PARTNER_TOPIC = "partner.articles"
SECRET = "d41d8cd98f00b204e9800998ecf8427e"
FEED = (
    '<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>'
    "<item><guid>n2</guid><title>Kettle recalled</title>"
    "<description>&lt;p&gt;It &lt;b&gt;leaks&lt;/b&gt;.&lt;/p&gt;</description></item>"
    "<item><guid>n1</guid><title>Zürich opens</title><description>Today</description></item></channel></rss>"
)
EXPORTS = [
    {"id": "e1", "article": {"title": "Spoon"}, "price": "$1,234.50", "description": "Silver"},
    {"id": "e2", "article": {"title": "Fork"}, "description": "No price"},
    {"id": "e3", "article": {"title": "Knife"}, "price": 3, "description": ""},
]


@dataclass(frozen=True)
class Sources:
    """The commented examples as a file of their own, with all that they read."""

    headrace: CommandLine
    file: Path
    feed_requests: list[Request]

    def publish(self, *names: str, expect: int = 0) -> dict[str, dict[str, Any]]:
        words = ("publish", *names, "--sources", str(self.file), "--wait", "--json")
        runs = json.loads(self.headrace(*words, expect=expect).stdout)["runs"]
        return {run["source"]: run for run in runs}


@pytest.fixture(scope="module")
def partner(settings: Settings) -> Iterator[Producer]:
    """A producer of other people's, and their topic."""
    servers: dict[str, str | int | float | bool] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "log_level": 2,
    }
    admin = AdminClient(servers)
    for made in admin.create_topics([NewTopic(PARTNER_TOPIC, 2, 1)]).values():
        made.result()
    eventually(lambda: PARTNER_TOPIC in admin.list_topics().topics, what="the partner's topic exists")
    yield Producer(servers)
    for deleted in admin.delete_topics([PARTNER_TOPIC]).values():
        deleted.result()


@pytest.fixture(scope="module")
def sources(
    headrace: CommandLine, settings: Settings, partner: Producer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sources]:
    folder = tmp_path_factory.mktemp("sources")
    shipped = (PROJECT / "sources.toml").read_text()
    commented = shipped.partition("# <examples>")[2].partition("# </examples>")[0]
    (folder / "sources.toml").write_text(re.sub(r"^#(?=\S)", "", commented, flags=re.MULTILINE))
    (folder / "exports.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, EXPORTS)).encode()))
    (folder / "prices.csv").write_bytes("Nr;Artikel;Preis\np1;Käse;1.234,56\np2;Brot;2.50\n".encode("cp1252"))
    for number in range(3):
        partner.produce(PARTNER_TOPIC, json.dumps({"id": f"k{number}", "title": f"Article {number}"}), f"k{number}")
    assert partner.flush(30) == 0
    asked: list[Request] = []

    def feed(request: Request) -> Answer:
        asked.append(request)
        return Answer(200, FEED.encode(), {"Content-Type": "application/rss+xml"})

    with http_server(feed) as url:
        variables = {"FEED_URL": url, "PARTNER_KAFKA": settings.kafka_bootstrap_servers, "SHOP_SECRET": SECRET}
        command = replace(headrace, variables={**headrace.variables, **variables})
        yield Sources(command, folder / "sources.toml", asked)


@pytest.fixture(scope="module")
def published(sources: Sources) -> dict[str, dict[str, Any]]:
    """Every example that can be run, in one command. Webhooks are left out of --all."""
    return sources.publish("--all")


def rows(api: httpx.Client, source: str) -> dict[str, dict[str, Any]]:
    answer = api.get("/data", params={"source": source, "page_size": 100})
    assert answer.status_code == 200
    return {row["source_id"]: row for row in answer.json()["data"]}


def test_all_examples_are_published_and_taken(published: dict[str, dict[str, Any]]) -> None:
    counts = {name: (run["published"], run["stored"], run["failed"]) for name, run in published.items()}
    assert counts == {"news": (2, 2, 0), "exports": (3, 2, 1), "prices": (2, 1, 1), "partner": (3, 3, 0)}


def test_a_feed_is_served_as_records_of_kind_rss(api: httpx.Client, published: object) -> None:
    found = rows(api, "rss")
    assert {key: (row["name"], row["description"]) for key, row in found.items()} == {
        "n1": ("Zürich opens", "Today"),
        "n2": ("Kettle recalled", "It leaks."),
    }
    assert {row["source"] for row in found.values()} == {"rss"}


def test_a_file_of_json_lines_has_nested_members_numbers_and_a_default(api: httpx.Client, published: object) -> None:
    found = rows(api, "jsonl")
    assert {key: (row["name"], float(row["value"])) for key, row in found.items()} == {
        "e1": ("Spoon", 1234.5),
        "e2": ("Fork", 0.0),
    }


def test_a_record_without_what_its_source_requires_is_a_failure_with_a_reason(
    api: httpx.Client, published: object
) -> None:
    [failure] = api.get("/failures/items", params={"source": "exports"}).json()["data"]
    assert failure["reason"] == "required"
    assert "description" in failure["message"]


def test_a_further_csv_with_decimal_commas_is_read_right_and_never_guessed(
    api: httpx.Client, published: object
) -> None:
    found = rows(api, "prices")
    assert {key: (row["name"], float(row["value"])) for key, row in found.items()} == {"p1": ("Käse", 1234.56)}
    [failure] = api.get("/failures/items", params={"source": "prices"}).json()["data"]
    assert failure["reason"] == "number_form"


def test_a_foreign_topic_is_read_once_and_its_deletes_delete(
    api: httpx.Client, sources: Sources, partner: Producer, published: object
) -> None:
    assert set(rows(api, "kafka")) == {"k0", "k1", "k2"}
    partner.produce(PARTNER_TOPIC, None, "k1")
    partner.produce(PARTNER_TOPIC, json.dumps({"id": "k3", "title": "Article 3"}), "k3")
    assert partner.flush(30) == 0
    assert sources.publish("partner")["partner"]["published"] == 2
    assert set(rows(api, "kafka")) == {"k0", "k2", "k3"}


def test_publishing_a_webhook_says_where_to_post(sources: Sources, settings: Settings) -> None:
    run = sources.publish("shop", expect=1)["shop"]
    assert run["error"] == f"a webhook cannot be fetched: its sender posts to {settings.api_url}/webhooks/shop"


def test_the_documented_command_posts_to_the_webhook(api: httpx.Client, sources: Sources, tmp_path: Path) -> None:
    document = (PROJECT / "docs/sources.md").read_text()
    [command] = re.findall(r"```sh\n(.*?)```", document, re.DOTALL)
    variables = {"SOURCES_FILE": str(sources.file), "LOG_LEVEL": "INFO", **sources.headrace.variables}
    with api_process(sources.headrace, tmp_path, variables) as served:
        environment = os.environ | {"API_URL": str(served.base_url).rstrip("/"), "SHOP_SECRET": SECRET}
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=60)
        assert json.loads(done.stdout) == {"accepted": 1, "source": "shop", "dataset": "records"}
        refused = subprocess.run(
            ["sh", "-c", command],
            env=environment | {"SHOP_SECRET": "wrong"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert json.loads(refused.stdout)["status"] == 401
        assert served.post("/webhooks/nobody", content=b"{}").status_code == 404
    found = eventually(lambda: rows(api, "webhook"), what="the webhook's record is served")
    assert {key: (row["name"], float(row["value"])) for key, row in found.items()} == {"1": ("Kettle", 24.9)}
