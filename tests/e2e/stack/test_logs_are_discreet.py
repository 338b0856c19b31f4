"""No log of a whole run, of our processes and of the servers, holds personal data or a secret."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.e2e.command_line import CommandLine
from tests.e2e.stores import value
from tests.waiting import eventually

CUSTOMERS = Path(__file__).parents[3] / "mock_server/data/customers.json"

PUSHED = {"customer_id": "LOG-1", "first_name": "Lo", "last_name": "G", "email": "log.private@example.org"}
USER = "user.private@example.org"


def personal_values() -> Iterator[str]:
    """E-mail addresses and telephone numbers of the mock server's customers, and those that this test brings."""
    for customer in json.loads(CUSTOMERS.read_text()):
        for name in ("email", "phone"):
            if text := customer.get(name):
                yield text
    yield from (PUSHED["email"], "no-address-of-anybody", USER)


def test_no_log_of_a_first_ingestion_holds_an_address_a_telephone_number_or_a_secret(headrace: CommandLine) -> None:
    settings = headrace.settings()
    headrace("publish", "--all", "--wait")
    file = headrace.home.parent / "pushed.jsonl"
    # One that is stored, one that wants its address (Postgres refuses it), an invalid one, and one that is no JSON.
    records = (PUSHED, PUSHED | {"customer_id": "LOG-2"}, PUSHED | {"email": "no-address-of-anybody"})
    file.write_text("\n".join([*map(json.dumps, records), f"LOG-3;{PUSHED['email']}"]))
    headrace("push", "customers", str(file), "--wait")
    with httpx.Client(base_url=settings.api_url, trust_env=False, timeout=60) as api:
        assert api.post("/users/", json={"name": "U", "email": USER, "role": "admin"}).status_code == 201
        for path in (f"/users/{USER}", f"/users/{USER.replace('@', '%40')}", f"/datasets/users/{USER}"):
            assert api.get(path).status_code == 200
        api.get("/search", params={"q": PUSHED["email"]})
        api.get("/failures", params={"key": PUSHED["email"]})
    waiting = "SELECT count(*) FROM ingest_failures WHERE key LIKE 'LOG-%' OR payload LIKE 'LOG-3%'"
    eventually(lambda: value(settings, waiting) == 3, what="all three have failed")

    logs = {file: file.read_text(errors="replace") for file in headrace.home.rglob("*.log")}
    logs |= {file: file.read_text(errors="replace") for file in (headrace.home / "logs").glob("*") if file.is_file()}
    assert {"api", "normalizer", "sink-postgres", "postgres", "kafka"} <= {file.stem for file in logs}
    everything = "\n".join(logs.values())
    assert '"event": "request"' in everything, "there is something to look through"
    text = everything.lower()
    assert [one for one in set(map(str.lower, personal_values())) if one in text] == []
    secrets = json.loads((headrace.home / "stack.json").read_text())
    for secret in (*secrets["passwords"].values(), secrets["forget_secret"]):
        assert secret
        assert secret not in everything
