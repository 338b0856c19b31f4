"""`POST /webhooks/{source}` with the real producer on a real broker."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from asgi_lifespan import LifespanManager
from pydantic import SecretStr
from sqlalchemy import text

from api.app import create_app
from producers.sources import SourcesError, load_sources
from runtime.settings import Settings
from stores.postgres_engine import postgres_engine
from tests.integration.api_client import closed_port
from tests.integration.publish_servers import consume_all
from tests.servers.contract import Servers
from tests.waiting import eventually

SECRET = "a secret that only we know"
BLOCK = f'[sources.shop]\nkind = "webhook"\ndataset = "records"\nsecret = "{SECRET}"\nmap = {{ source_id = "id" }}\n'


@asynccontextmanager
async def webhooks(settings: Settings, block: str = BLOCK) -> AsyncIterator[httpx.AsyncClient]:
    """The API as it is deployed, with this file of sources."""
    file = settings.home / "sources.toml"
    file.write_text(block)
    app = create_app(settings.model_copy(update={"sources_file": file}))
    async with LifespanManager(app, startup_timeout=20, shutdown_timeout=30):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=60) as client:
            yield client


def signature(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Hub-Signature-256": f"sha256={hmac.digest(secret.encode(), body, hashlib.sha256).hex()}"}


async def post(client: httpx.AsyncClient, body: bytes, source: str = "shop") -> httpx.Response:
    return await client.post(f"/webhooks/{source}", content=body, headers=signature(body))


async def test_a_signed_object_is_published_as_it_is_before_the_answer(pipeline_settings: Settings) -> None:
    async with webhooks(pipeline_settings) as client:
        answer = await post(client, b'{"id":  7, "name": "x"}')
        assert answer.status_code == 202
        assert answer.json() == {"accepted": 1, "source": "shop", "dataset": "records"}
        [record] = consume_all(pipeline_settings, "records.raw")
    assert (record.key, record.value) == ("shop:7", b'{"id":  7, "name": "x"}')
    assert record.headers["headrace-kind"] == "webhook"
    assert record.headers["headrace-source"] == record.headers["ce_source"] == "shop"
    assert record.headers["ce_id"] == f"{record.headers['headrace-run']}-0"
    assert json.loads(record.headers["headrace-mapping"]) == {"source_id": "id"}


async def test_each_element_of_an_array_is_a_record(pipeline_settings: Settings) -> None:
    async with webhooks(pipeline_settings) as client:
        answer = await post(client, rb'[{"id": 1}, {"id": "\ud83d"}, {"id": 2}, 3]')
        assert (answer.status_code, answer.json()["accepted"]) == (202, 4)
        assert (await post(client, b"[]")).json()["accepted"] == 0
    records = consume_all(pipeline_settings, "records.raw")
    assert {record.value: record.key for record in records} == {
        b'{"id": 1}': "shop:1",
        rb'{"id": "\ud83d"}': None,
        b'{"id": 2}': "shop:2",
        b"3": None,
    }


async def test_many_senders_at_once_all_get_their_own_answer(pipeline_settings: Settings) -> None:
    async with webhooks(pipeline_settings) as client:
        bodies = [json.dumps([{"id": f"{n}-{m}"} for m in range(n % 5)]).encode() for n in range(100)]
        answers = await asyncio.gather(*(post(client, body) for body in bodies))
    assert [answer.json()["accepted"] for answer in answers] == [n % 5 for n in range(100)]
    records = consume_all(pipeline_settings, "records.raw")
    assert {record.key for record in records} == {f"shop:{n}-{m}" for n in range(100) for m in range(n % 5)}
    assert len({record.headers["ce_id"] for record in records}) == len(records) == 200
    assert len({record.headers["headrace-run"] for record in records}) == 1


async def test_a_wrongly_signed_body_is_refused_and_not_published(pipeline_settings: Settings) -> None:
    body = b'{"id": 1}'
    async with webhooks(pipeline_settings) as client:
        for headers in ({}, signature(b"another body"), signature(body, "another secret, as long")):
            answer = await client.post("/webhooks/shop", content=body, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"
            assert "WWW-Authenticate" in answer.headers
            assert answer.json()["type"] == "urn:headrace:problem:invalid-signature"
            assert "X-Hub-Signature-256" in answer.json()["detail"]
            assert SECRET not in answer.text
    assert consume_all(pipeline_settings, "records.raw") == []


async def test_an_old_request_cannot_be_sent_again(pipeline_settings: Settings) -> None:
    block = BLOCK + 'timestamp_header = "X-Sent-At"\ntolerance_seconds = 60\n'
    async with webhooks(pipeline_settings, block) as client:
        for age, status in ((0, 202), (61, 401)):
            sent = str(int(time.time()) - age)
            headers = {"X-Sent-At": sent, **signature(f"{sent}.".encode() + b'{"id": 1}')}
            answer = await client.post("/webhooks/shop", content=b'{"id": 1}', headers=headers)
            assert answer.status_code == status, answer.text


async def test_a_name_that_is_no_webhook_is_not_found(pipeline_settings: Settings) -> None:
    block = BLOCK + '[sources.file]\nkind = "csv"\npath = "a.csv"\ndataset = "records"\n'
    async with webhooks(pipeline_settings, block) as client:
        for source in ("nobody", "file", "%2e%2e"):
            answer = await post(client, b"{}", source)
            assert (answer.status_code, answer.json()["status"]) == (404, 404)


async def test_a_body_that_is_too_long_is_refused_without_being_held(pipeline_settings: Settings) -> None:
    pieces = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pieces
        while pieces < 1000:
            pieces += 1
            yield b"x" * 1000

    async with webhooks(pipeline_settings, BLOCK + "max_bytes = 10000\nmax_records = 3\n") as client:
        answer = await post(client, b'{"id": "' + b"x" * 10_000 + b'"}')
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:headrace:problem:body-too-large")
        assert (await client.post("/webhooks/shop", content=endless())).status_code == 413
        assert (await post(client, b"[1,2,3,4]")).status_code == 413
        assert (await post(client, b"[1,2,3]")).status_code == 202
    assert pieces < 20


@pytest.mark.parametrize("body", [b"", b"7", b"{", b"a=1", b"\xff"])
async def test_a_body_that_is_neither_object_nor_array_is_refused(pipeline_settings: Settings, body: bytes) -> None:
    async with webhooks(pipeline_settings) as client:
        answer = await post(client, body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:headrace:problem:invalid-body")


ONCE = BLOCK + 'idempotency_header = "X-Delivery"\ntimeout_seconds = 60\n'


async def deliver(client: httpx.AsyncClient, key: str | None, body: bytes) -> httpx.Response:
    headers = signature(body) | ({} if key is None else {"X-Delivery": key})
    return await client.post("/webhooks/shop", content=body, headers=headers)


async def test_a_delivery_that_comes_again_after_a_newer_one_does_not_turn_the_value_back(
    pipeline_settings: Settings,
) -> None:
    ten, ninety_nine = b'{"id": 1, "value": 10}', b'{"id": 1, "value": 99}'
    async with webhooks(pipeline_settings, ONCE) as client:
        answers = [await deliver(client, key, body) for key, body in (("a", ten), ("b", ninety_nine), ("a", ten))]
    async with webhooks(pipeline_settings, ONCE) as client:  # another process knows it too
        answers.append(await deliver(client, "a", ten))
    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.text for answer in answers}) == 1
    assert [record.value for record in consume_all(pipeline_settings, "records.raw")] == [ten, ninety_nine]


async def test_a_delivery_sent_many_times_at_once_is_published_once(pipeline_settings: Settings) -> None:
    async with webhooks(pipeline_settings, ONCE) as client:
        answers = await asyncio.gather(*(deliver(client, "a", b'{"id": 1}') for _ in range(20)))
        assert {answer.status_code for answer in answers} <= {202, 409}
        assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 409)
        assert (await deliver(client, "a", b'{"id": 1}')).status_code == 202
    assert len(consume_all(pipeline_settings, "records.raw")) == 1


async def test_a_key_must_be_there_and_belongs_to_one_body_of_one_source(pipeline_settings: Settings) -> None:
    async with webhooks(pipeline_settings, ONCE + ONCE.replace("shop", "late")) as client:
        for key in (None, "", " ", "x" * 256):
            answer = await deliver(client, key, b'{"id": 1}')
            assert (answer.status_code, answer.json()["type"]) == (400, "urn:headrace:problem:invalid-idempotency-key")
        assert (await deliver(client, "a", b'{"id": 1}')).status_code == 202
        answer = await deliver(client, "a", b'{"id": 2}')
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:headrace:problem:idempotency-key-reused")
        other = await client.post("/webhooks/late", content=b"{}", headers=signature(b"{}") | {"X-Delivery": "a"})
        assert other.status_code == 202


async def test_a_process_that_dies_before_the_key_is_remembered_loses_nothing(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender has no answer and sends again: once the claim of the dead has run out it is published again."""
    monkeypatch.setattr("producers.webhook.webhooks.CLAIM_MARGIN_SECONDS", 0.0)

    async def die(*_: object) -> None:
        raise asyncio.CancelledError

    async with webhooks(pipeline_settings, ONCE.replace("= 60", "= 15")) as client:
        with monkeypatch.context() as patch:
            patch.setattr("producers.webhook.deliveries.Deliveries.remember", die)
            with pytest.raises(asyncio.CancelledError):
                await deliver(client, "a", b'{"id": 1}')
        assert (await deliver(client, "a", b'{"id": 1}')).status_code == 409
        deadline = time.monotonic() + 60
        while (await deliver(client, "a", b'{"id": 1}')).status_code != 202:
            assert time.monotonic() < deadline, "the claim runs out"
            await asyncio.sleep(0.1)
        assert (await deliver(client, "a", b'{"id": 1}')).status_code == 202
    assert len(consume_all(pipeline_settings, "records.raw")) == 2


async def test_a_forgotten_delivery_is_deleted_and_published_again(pipeline_settings: Settings) -> None:
    async with webhooks(pipeline_settings, ONCE + "idempotency_seconds = 1\n") as client:
        for key in ("a", "b"):
            assert (await deliver(client, key, b'{"id": 1}')).status_code == 202
        engine = postgres_engine(pipeline_settings)
        async with engine.connect() as connection:

            async def keys() -> set[str]:
                return set((await connection.scalars(text("SELECT key FROM webhook_deliveries"))).all())

            deadline = time.monotonic() + 60
            number = 0
            while {"a", "b"} & await keys():
                assert time.monotonic() < deadline, "what is forgotten is deleted"
                number += 1
                assert (await deliver(client, f"c{number}", b'{"id": 1}')).status_code == 202
                await asyncio.sleep(0.1)
        await engine.dispose()
        assert (await deliver(client, "a", b'{"id": 1}')).status_code == 202


async def test_without_postgres_a_source_with_keys_asks_to_try_again(migrated_settings: Settings) -> None:
    url = f"postgresql://u:p@127.0.0.1:{closed_port()}/none"
    down = migrated_settings.model_copy(update={"database_url": SecretStr(url)})
    async with webhooks(down, ONCE) as client:
        answer = await deliver(client, "a", b'{"id": 1}')
    assert (answer.status_code, answer.json()["store"]) == (503, "postgres")
    assert int(answer.headers["Retry-After"]) > 0


async def test_without_kafka_the_sender_is_told_to_try_again_and_can(
    pipeline_settings: Settings, servers: Servers
) -> None:
    async with webhooks(pipeline_settings, BLOCK + "timeout_seconds = 2\n") as client:
        assert (await post(client, b'{"id": 1}')).status_code == 202
        servers.stop("kafka")
        try:
            started = time.monotonic()
            answer = await post(client, b'{"id": 2}')
            assert time.monotonic() - started < 10
        finally:
            servers.start("kafka")
        assert (answer.status_code, answer.json()["store"]) == (503, "kafka")
        assert int(answer.headers["Retry-After"]) > 0

        async def again() -> bool:
            return (await post(client, b'{"id": 2}')).status_code == 202

        deadline = time.monotonic() + 60
        while not await again():
            assert time.monotonic() < deadline, "the webhook takes records again"
    keys = eventually(
        lambda: {record.key for record in consume_all(pipeline_settings, "records.raw")}, what="read back"
    )
    assert keys == {"shop:1", "shop:2"}


async def test_a_kafka_that_was_never_there_is_a_503_too(migrated_settings: Settings) -> None:
    down = migrated_settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{closed_port()}"})
    async with webhooks(down, BLOCK + "timeout_seconds = 1\n") as client:
        answer = await post(client, b'{"id": 1}')
    assert (answer.status_code, answer.json()["store"]) == (503, "kafka")
    assert down.kafka_bootstrap_servers not in answer.text


async def test_a_changed_sources_file_takes_effect_at_once_and_a_broken_one_changes_nothing(
    pipeline_settings: Settings,
) -> None:
    file = pipeline_settings.home / "sources.toml"
    async with webhooks(pipeline_settings) as client:
        assert (await post(client, b"{}", "late")).status_code == 404
        file.write_text(BLOCK + BLOCK.replace("shop", "late"))
        assert (await post(client, b'{"id": 1}', "late")).status_code == 202
        file.write_text("[sources.broken")
        assert (await post(client, b'{"id": 2}')).status_code == 202


async def test_a_webhook_without_its_secret_harms_no_other_one(pipeline_settings: Settings) -> None:
    without = BLOCK.replace("shop", "till").replace(SECRET, "${NO_SUCH_SECRET}")
    async with webhooks(pipeline_settings, without + BLOCK) as client:
        assert (await post(client, b'{"id": 1}')).status_code == 202
        answer = await post(client, b'{"id": 1}', "till")
        assert (answer.status_code, answer.json()["store"]) == (503, "sources")
        file = pipeline_settings.home / "sources.toml"
        file.write_text(without.replace("till", "shop") + without)
        assert (await post(client, b'{"id": 2}')).status_code == 202, "what its block said before goes on to hold"


async def test_a_sources_file_broken_from_the_beginning_is_a_503_that_reveals_nothing(
    pipeline_settings: Settings,
) -> None:
    async with webhooks(pipeline_settings, BLOCK.replace(SECRET, "short")) as client:
        answer = await post(client, b"{}")
    assert answer.status_code == 503
    assert "short" not in answer.text


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(BLOCK.replace(SECRET, "hunter2"))
    with pytest.raises(SourcesError, match=r"secret = \(not shown\): expected a text of at least 16") as refusal:
        load_sources(file, Settings())["shop"]
    assert "hunter2" not in str(refusal.value)
    file.write_text(BLOCK)
    assert SECRET not in repr(load_sources(file, Settings())["shop"])
