"""Schema drift, anomalies between runs, and rehearsals: every documented example, on the real stack."""

import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_stack.programs import role_instances
from local_stack.state_folder import StateFolder
from runtime.settings import Settings
from tests.e2e.command_line import CommandLine
from tests.e2e.stores import rows
from tests.processes import PLAIN
from tests.waiting import eventually

RECORDS = 40


class Shop:
    """A CSV file of somebody else's, published under a source of its own."""

    def __init__(self, headrace: CommandLine, folder: Path, source: str) -> None:
        self._headrace = headrace
        self._file = folder / f"{source}.csv"
        self.source = source
        self.published = 0

    def sends(self, header: str, row: str, count: int = RECORDS, *, wait: bool = True) -> dict[str, Any]:
        """Publish rows of that form; `{n}` is a number of its own."""
        lines = [row.format(n=self.published + number) for number in range(count)]
        self.published += count
        self._file.write_text("\n".join([header, *lines]) + "\n")
        words = ["--source", self.source, "--map", "source_id=id", "--map", "value=price", "--json"]
        done = self._headrace("publish", "csv", str(self._file), *words, *(["--wait"] if wait else []), expect=None)
        [run] = json.loads(done.stdout)["runs"]
        result: dict[str, Any] = run
        return result


@pytest.fixture
def shop(headrace: CommandLine, tmp_path: Path) -> Shop:
    return Shop(headrace, tmp_path, f"shop-{uuid.uuid4().hex[:8]}")


def failures(settings: Settings, source: str) -> dict[str, int]:
    """Failures that are neither settled nor discarded, by stage and reason."""
    query = (
        "SELECT stage || ' ' || reason AS what, count(*) AS number FROM ingest_failures"
        " WHERE source_name = $1 AND state = 'open' GROUP BY 1"
    )
    return {row["what"]: row["number"] for row in rows(settings, query, source)}


def stored(settings: Settings, source: str) -> int:
    count: int = rows(settings, "SELECT count(*) AS n FROM normalized_data WHERE source_name = $1", source)[0]["n"]
    return count


def health(headrace: CommandLine, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = asked(headrace, name, "/health").json()
    return answer


def metrics(headrace: CommandLine, name: str) -> str:
    return asked(headrace, name, "/metrics").text


def asked(headrace: CommandLine, name: str, path: str) -> httpx.Response:
    """Answer of a process of the stack, without asking `headrace status` for its port each time."""
    [port] = [one.port for one in role_instances(StateFolder.at(headrace.home).read_record()) if one.name == name]
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5, trust_env=False, verify=PLAIN)


def rehearse(headrace: CommandLine, *words: str) -> dict[str, Any]:
    begun: dict[str, Any] = json.loads(headrace("rehearse", *words, "--json").stdout)
    return begun


def test_a_renamed_column_is_a_breaking_drift_and_a_new_one_flows(
    headrace: CommandLine, settings: Settings, api: httpx.Client, shop: Shop
) -> None:
    shop.sends("id,name,price", "{n},Lamp {n},9.50")
    shop.sends("id,title,price,colour", "{n},Lamp {n},9.50,red")
    assert failures(settings, shop.source) == {"normalizer missing_field": RECORDS}

    def drift() -> dict[str, Any]:
        answer = api.get("/schema-drift", params={"source": shop.source, "ended": "false"}).json()
        return {f"{row['what']} {row['field']}": row for row in answer["data"]}

    eventually(lambda: len(drift()) == 3, what="one lost and two gained columns")
    lost, gained = drift()["lost name"], drift()["gained colour"]
    assert (lost["breaking"], lost["reason"], lost["records"], lost["dataset"]) == (
        True,
        "missing_field",
        RECORDS,
        "records",
    )
    assert json.loads(lost["example"]["text"])["title"].startswith("Lamp ")
    assert (gained["breaking"], gained["records"], gained["to_type"], gained["example"]["text"]) == (
        False, RECORDS, "text", '"red"',
    )  # fmt: skip
    assert lost["run_id"] == gained["run_id"]
    assert lost["since"] <= lost["last_seen"]

    breaking = api.get("/schema-drift?breaking=true&what=lost&limit=100").json()
    assert [row["field"] for row in breaking["data"] if row["source"] == shop.source] == ["name"]
    assert api.get("/schema-drift?what=other").status_code == 400

    log = StateFolder.at(headrace.home).log("sink-landing").read_text()
    told = [json.loads(line) for line in log.splitlines() if '"schema_drift"' in line and shop.source in line]
    assert sorted((line["what"], line["field"], line["level"]) for line in told) == [
        ("gained", "colour", "info"),
        ("gained", "title", "info"),
        ("lost", "name", "warning"),
    ]
    counted = 'headrace_schema_drift_total{breaking="yes",dataset="records",what="lost"} '
    [line] = [line for line in metrics(headrace, "sink-landing").splitlines() if line.startswith(counted)]
    assert float(line.removeprefix(counted)) >= 1

    shop.sends("id,name,price", "{n},Lamp {n},9.50")
    eventually(lambda: "lost name" not in drift(), what="the loss is over when the column is back")


def test_a_run_unlike_the_others_is_flagged_in_stats_and_in_its_record(
    settings: Settings, api: httpx.Client, headrace: CommandLine, shop: Shop
) -> None:
    for number in range(5):
        run = shop.sends("id,name,price", "{n},Lamp {n}," + f"{9 + number / 10}")
        assert api.get(f"/runs/{run['run']}").json()["anomalies"] == []
    run = shop.sends("id,name,price", "{n},Lamp {n},900", count=4 * RECORDS)
    found = api.get(f"/runs/{run['run']}").json()["anomalies"]
    assert {(one["feature"], one["field"]) for one in found} >= {("records", None), ("median", "price")}
    [records] = [one for one in found if one["feature"] == "records"]
    assert (records["value"], records["usual"], records["runs"]) == (4 * RECORDS, RECORDS, 5)
    stats = api.get("/stats").json()
    assert stats["sources"][shop.source]["anomalies"] == found
    assert f"unusual in {shop.source}: " in headrace("stats").stdout


def test_a_rehearsal_is_refused_unless_the_settings_allow_it(headrace: CommandLine) -> None:
    forbidden = CommandLine(headrace.home, {**headrace.variables, "REHEARSALS": "false"})
    refused = forbidden("rehearse", "--stage", "normalizer", "--kind", "invalid", expect=1)
    assert "REHEARSALS=true" in refused.stderr
    nonsense = headrace("rehearse", "--stage", "redis", "--kind", "invalid", expect=2)
    assert "nothing can be invalid there" in nonsense.stderr


@pytest.mark.parametrize("stage", ["producers", "normalizer", "postgres"])
def test_rehearsed_failures_have_their_own_reason_and_a_retry_stores_them_all(
    headrace: CommandLine, settings: Settings, shop: Shop, stage: str
) -> None:
    words = ("--stage", stage, "--kind", "invalid", "--source", shop.source, "--percent", "50", "--for", "60s")
    begun = rehearse(headrace, *words)
    name = {"postgres": "sink-postgres"}.get(stage, stage)
    if stage != "producers":
        eventually(lambda: health(headrace, name)["rehearsals"], what="the process knows")
        assert any(begun["id"] in text for text in headrace.status()[name]["rehearsals"])
    run = shop.sends("id,name,price", "{n},Lamp {n},1")
    struck = run["failed"]
    assert 0 < struck < RECORDS
    where = "postgres" if stage == "postgres" else "normalizer"
    assert failures(settings, shop.source) == {f"{where} rehearsal": struck}
    if stage != "producers":
        assert f'headrace_rehearsal_injected_total{{kind="invalid",stage="{stage}"}}' in metrics(headrace, name)

    assert begun["id"] in headrace("rehearse", "status").stdout
    headrace("rehearse", "stop")
    assert json.loads(headrace("rehearse", "status", "--json").stdout) == []
    if stage != "producers":
        eventually(lambda: not health(headrace, name)["rehearsals"], what="the process knows that it is over")
    headrace("failures", "retry", "--reason", "rehearsal", "--source", shop.source)
    eventually(lambda: stored(settings, shop.source) == RECORDS, what="every record is stored")


def test_an_outage_of_postgres_holds_records_until_it_is_over(
    headrace: CommandLine, settings: Settings, api: httpx.Client, shop: Shop
) -> None:
    begun = rehearse(headrace, "--stage", "postgres", "--kind", "outage", "--for", "5m")
    eventually(lambda: health(headrace, "sink-postgres")["rehearsals"], what="the sink knows")
    shop.sends("id,name,price", "{n},Lamp {n},1", wait=False)
    eventually(lambda: health(headrace, "sink-postgres")["state"] == "waiting_for_store", what="the sink waits")
    assert f"rehearsal {begun['id']}: postgres outage" in headrace("status", expect=None).stdout
    assert any(begun["id"] in text for text in api.get("/health").json()["rehearsals"])
    assert stored(settings, shop.source) == 0
    headrace("rehearse", "stop", begun["id"])
    eventually(lambda: stored(settings, shop.source) == RECORDS, what="every record is stored")
    assert "rehearsals" not in api.get("/health").json()


def test_a_source_whose_outage_is_rehearsed_fails_its_run(headrace: CommandLine, api: httpx.Client, shop: Shop) -> None:
    rehearse(headrace, "--stage", "producers", "--kind", "outage", "--source", shop.source, "--for", "60s")
    run = shop.sends("id,name,price", "{n},Lamp {n},1")
    headrace("rehearse", "stop")
    assert "rehearsal" in run["error"]
    [recorded] = api.get("/runs", params={"source": shop.source}).json()["data"]
    assert recorded["status"] == "failed"
    assert "rehearsal" in recorded["failure_reason"]


@pytest.mark.parametrize("stage", ["normalizer", "postgres", "redis"])
def test_a_stage_that_is_killed_in_a_rehearsal_comes_back_and_nothing_is_lost(
    headrace: CommandLine, settings: Settings, api: httpx.Client, shop: Shop, stage: str
) -> None:
    name = stage if stage == "normalizer" else f"sink-{stage}"
    before = headrace.standings()[name]
    rehearse(headrace, "--stage", stage, "--kind", "crash", "--percent", "100", "--for", "60s")
    eventually(lambda: health(headrace, name)["rehearsals"], what="the process knows")
    shop.sends("id,name,price", "{n},Lamp {n},1", wait=False)
    eventually(lambda: headrace.standings()[name].restarts > before.restarts, what="it has died")
    headrace("rehearse", "stop")
    eventually(lambda: stored(settings, shop.source) == RECORDS, what="every record is stored")
    eventually(lambda: headrace.standings()[name].is_well, what="it is well again")
    eventually(lambda: api.get("/lag").json()["total"] == 0, what="everything is consumed")
    assert api.get("/audit").json()["clean"]


def test_a_document_that_a_rehearsal_keeps_from_the_index_is_searchable_after_a_retry(
    headrace: CommandLine, settings: Settings, api: httpx.Client, shop: Shop
) -> None:
    if settings.elasticsearch_url is None:
        pytest.fail("the contract stack has no Elasticsearch")
    rehearse(headrace, "--stage", "elasticsearch", "--kind", "invalid", "--percent", "100", "--for", "60s")
    eventually(lambda: health(headrace, "sink-elasticsearch")["rehearsals"], what="the sink knows")
    shop.sends("id,name,price", "{n},Quirkylamp {n},1", count=3)
    query = "SELECT id FROM ingest_failures WHERE stage = 'elasticsearch' AND reason = 'rehearsal' AND key LIKE $1"
    eventually(lambda: len(rows(settings, query, f"{shop.source}:%")) == 3, what="three documents are refused")
    headrace("rehearse", "stop")
    eventually(lambda: not health(headrace, "sink-elasticsearch")["rehearsals"], what="it is over")

    def found() -> int:
        total: int = api.get("/search", params={"q": "Quirkylamp", "dataset": "records"}).json()["total"]
        return total

    assert found() == 0
    headrace("failures", "retry", "--reason", "rehearsal")
    eventually(lambda: found() == 3, what="search finds them")
