"""Personal data in failures, topics, traces and drifts: masked for callers and commands that may not see it."""

from pathlib import Path

import pytest

from runtime.settings import Settings
from schemas.events import HEADER_MAPPING
from schemas.masking import MASK
from tests.e2e.headrace import headrace_of
from tests.integration.api_client import api_client
from tests.integration.postgres_sink_driver import customer, driver, failed
from tests.integration.sink_events import publish

EMAIL, NAME = "ada.private@example.org", "Privatissima"
RAW = f'{{"customer_id": "C1", "first_name": "{NAME}", "email": "{EMAIL}", "phone": "+44 20 7946 0018"}}'.encode()
PRIVATE = (EMAIL, NAME, "7946 0018")

PATHS = (
    "/failures/items",
    "/failures/1",
    "/trace/customers/C1",
    "/topics/customers.raw/messages",
    "/topics/failures/messages",
    "/schema-drift",
)


@pytest.fixture
async def settings(pipeline_settings: Settings) -> Settings:
    """With one row, one failure, one drift, and messages of them."""
    publish(pipeline_settings, "customers.raw", ("C1", RAW))
    topic = pipeline_settings.named("customers.raw")
    async with driver(pipeline_settings) as postgres:
        problem = f"'{EMAIL}' is not an e-mail address"
        await postgres.write(failed("C1", 1, RAW, message=f"email: {problem}"), customer("C1", 0, email=EMAIL))
        await postgres.connection.execute("UPDATE customers SET first_name = $1, raw_partition = 0", NAME)
        await postgres.connection.execute("UPDATE ingest_failures SET id = 1, topic = $1", topic)
        await postgres.connection.execute(
            "INSERT INTO schema_drift (source_name, dataset, field, what, since, last_seen, records, topic, partition,"
            " \"offset\", example) VALUES ('s', 'customers', 'f', 'lost', now(), now(), 1, 't', 0, 0, $1)",
            RAW.decode(),
        )
    publish(pipeline_settings, "failures", ("C1", RAW))
    return pipeline_settings


async def answers(settings: Settings) -> dict[str, str]:
    """What the API says to somebody without a key."""
    async with api_client(settings) as client:
        found = {path: await client.get(path) for path in PATHS}
        assert {answer.status_code for answer in found.values()} == {200}
        assert NAME in (await client.get("/api/customers/C1")).text, "the data itself is served as it is"
        return {path: answer.text for path, answer in found.items()}


def shows(text: str) -> bool:
    return any(value in text for value in PRIVATE)


async def test_callers_without_a_key_see_personal_data_by_the_setting(settings: Settings) -> None:
    shown = await answers(settings)
    assert {path for path, text in shown.items() if not shows(text)} == set()
    masked = await answers(settings.model_copy(update={"personal_data": "masked"}))
    assert {path for path, text in masked.items() if shows(text)} == set()
    assert {path for path, text in masked.items() if MASK not in text} == set()


async def test_a_payload_that_was_masked_is_not_taken_as_an_edit(settings: Settings, tmp_path: Path) -> None:
    masked = tmp_path / "masked.json"
    masked.write_text(f'{{"customer_id": "C1", "first_name": "{MASK}", "last_name": "B", "email": "c@example.org"}}')
    done = headrace_of(settings)("failures", "edit", "1", "--file", str(masked))
    assert done.returncode != 0
    assert "masked; set single fields" in done.stderr


async def test_an_edit_shows_a_payload_by_its_records_mapping(pipeline_settings: Settings) -> None:
    payload = f'{{"id": "1", "value": "about {NAME}"}}'.encode()
    mapping = {HEADER_MAPPING: b'{"source_id":"id","description":"value"}'}
    publish(pipeline_settings, "records.raw", ("s:1", payload), headers=mapping)
    async with driver(pipeline_settings) as postgres:
        await postgres.write(failed("s:1", 0, payload, dataset="records"))
        topic = pipeline_settings.named("records.raw")
        now = "UPDATE ingest_failures SET id = 1, failed_at = now(), topic = $1"
        await postgres.connection.execute(now, topic)
    async with api_client(pipeline_settings.model_copy(update={"personal_data": "masked"})) as client:
        answer = await client.post("/failures/1/edit", json={"set": {"id": "2"}, "force": True})
        assert answer.status_code == 200, answer.text
        assert NAME not in answer.text
        assert answer.json()["after"]["content"] == f'{{"id":"2","value":"{MASK}"}}'
        assert NAME not in (await client.get("/failures/1")).text, "it is kept with its mapping from then on"


COMMANDS = (
    ("failures", "show", "1"),
    ("failures", "list", "--flat", "--json"),
    ("trace", "C1", "--dataset", "customers"),
    ("trace", "C1", "--dataset", "customers", "--json"),
    ("topics", "peek", "customers.raw"),
    ("topics", "peek", "failures", "--json"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
async def test_commands_see_it_by_the_setting(settings: Settings, words: tuple[str, ...]) -> None:
    told = {value: headrace_of(settings)(*words, PERSONAL_DATA=value).stdout for value in ("shown", "masked")}
    assert shows(told["shown"]), told
    assert not shows(told["masked"])
    assert MASK in told["masked"]


async def test_an_export_is_masked_by_choice(settings: Settings, tmp_path: Path) -> None:
    for options, expected in (((), True), (("--masked",), False)):
        done = headrace_of(settings)("export", "customers", "--to", str(tmp_path), "--format", "csv,parquet", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        text = (tmp_path / "processed_output.csv").read_text()
        assert shows(text) == expected
        assert ("1815-12-10" in text) == expected, "dates and numbers are empty"
        assert "C1" in text
