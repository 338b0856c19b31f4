"""The commands as people run them: in a process of their own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from runtime.settings import Settings
from tests.integration.publish_servers import consume_all
from tests.waiting import eventually

REPOSITORY = Path(__file__).parents[2]


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "HEADRACE_HOME": str(settings.home),
        "HEADRACE_NAMESPACE": settings.namespace,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "DATABASE_URL": settings.plain_database_url,
        "SOURCES_FILE": str(REPOSITORY / "sources.toml"),
        "MOCK_URL": "http://127.0.0.1:9",  # the discard port: nothing answers
        "PYTHONPATH": str(REPOSITORY),
    }


def run(settings: Settings, words: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "cli", *words]
    return subprocess.run(
        command,
        env=environment(settings),
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
        cwd=settings.home,
    )


@pytest.fixture
def quick_sources(tmp_path: Path) -> Path:
    file = tmp_path / "quick.toml"
    file.write_text(
        '[sources.gone]\nkind = "api"\nurl = "${MOCK_URL}/x"\ndataset = "records"\nretries = 0\n'
        f'[sources.titanic]\nkind = "csv"\npath = "{REPOSITORY}/data/titanic.csv"\ndataset = "records"\n'
        'map = { source_id = "PassengerId", name = "Name" }\n'
    )
    return file


def test_publish_ends_with_a_line_of_counts(pipeline_settings: Settings) -> None:
    done = run(pipeline_settings, ["publish", "titanic"])
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"titanic: 1,309 records published to records in ")


def test_a_source_that_is_not_there_stops_no_other_and_fails_the_command(
    pipeline_settings: Settings, quick_sources: Path
) -> None:
    done = run(pipeline_settings, ["publish", "--all", "--sources", str(quick_sources), "--json"])
    answer = json.loads(done.stdout)
    gone, titanic = answer["runs"]
    assert (done.returncode, answer["ok"]) == (1, False)
    assert "http://127.0.0.1:9/x cannot be reached" in gone["error"]
    assert (titanic["published"], titanic["error"]) == (1309, None)


def test_a_csv_file_is_published_without_a_block(pipeline_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_bytes("No;Product\n1;Käse\n2\n".encode("cp1252"))
    words = ["publish", "csv", "sales.csv", "--map", "source_id=No", "--map", "name=Product"]
    done = run(pipeline_settings, words)
    assert done.returncode == 0, done.stderr
    assert b"sales: 2 records published to records" in done.stdout
    assert b"1 of them unreadable" in done.stdout
    records = {record.key: record for record in consume_all(pipeline_settings, "records.raw")}
    assert json.loads(records["sales:1"].value) == {"No": "1", "Product": "Käse"}
    assert records[None].value == b"2\n"
    assert records[None].headers["headrace-problem"] == "ragged_row;line 3: 1 columns, expected 2"


def test_a_csv_file_without_a_block_has_all_settings_of_one(pipeline_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("Sales of May\n# from the shop\nNo;Product;Price\n1;Tea;1,234\n;;\n2;\\N;-\n")
    rules = ["--key", "No", "--map", "name=Product", "--map", "value=Price", "--decimal", ",", "--dates", "day_first"]
    rules += [
        "--default",
        "description=none",
        "--required",
        "value",
        "--null",
        "-",
        "--null",
        "NA",
        "--text-null",
        "\\N",
    ]
    words = ["publish", "csv", "sales.csv", *rules, "--skip-lines", "1", "--comment", "#"]
    done = run(pipeline_settings, [*words, "--json"])
    [ended] = json.loads(done.stdout)["runs"]
    assert (ended["published"], ended["blank_rows"], ended["error"]) == (2, 1, None)
    first, second = sorted(consume_all(pipeline_settings, "records.raw"), key=lambda record: record.key or "")
    assert json.loads(first.headers["headrace-mapping"]) == {
        "source_id": {"from": "No", "nulls": ["\\N"]},
        "name": {"from": "Product", "nulls": ["\\N"]},
        "value": {"from": "Price", "required": True, "decimal": ",", "nulls": ["-", "NA"]},
        "description": {"default": "none", "nulls": ["\\N"]},
    }
    assert json.loads(second.value) == {"No": "2", "Product": "\\N", "Price": "-"}


def test_what_a_csv_file_shows_of_its_numbers_travels_with_the_records(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "sales.csv").write_text("id;name;value\n1;Tea;1,234\n2;Oil;12,5\n")
    assert run(pipeline_settings, ["publish", "csv", "sales.csv", "--key", "id"]).returncode == 0
    for record in consume_all(pipeline_settings, "records.raw"):
        assert json.loads(record.headers["headrace-mapping"]) == {"source_id": "id", "value": {"decimal": ","}}


def test_a_guessed_encoding_is_named_with_how_sure_it_is(pipeline_settings: Settings, tmp_path: Path) -> None:
    rows = "".join(f"{number},customer{number}@example.org,2024-03-0{number},שלום וברכה\n" for number in range(1, 6))
    (tmp_path / "shalom.csv").write_bytes(("id,email,day,note\n" + rows).encode("cp1255"))
    words = ["publish", "csv", "shalom.csv", "--map", "source_id=id", "--map", "name=note"]
    assert b", read as cp1255 (a guess, 9" in run(pipeline_settings, words).stdout
    (told,) = json.loads(run(pipeline_settings, [*words, "--json"]).stdout)["runs"]
    assert (told["encoding"]["name"], told["encoding"]["by"]) == ("cp1255", "guess")
    assert 0.9 < told["encoding"]["sure"] < 1
    records = consume_all(pipeline_settings, "records.raw")
    assert {json.loads(record.value)["note"] for record in records} == {"שלום וברכה"}


def test_push_passes_lines_through_from_standard_input(pipeline_settings: Settings) -> None:
    lines = b'\xef\xbb\xbf{"customer_id": "A1" , "first_name":"x"}\n\nnot json\n'
    done = run(pipeline_settings, ["push", "customers", "-", "--source", "crm", "--json"], lines)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["published"] == 2
    records = {record.value: record for record in consume_all(pipeline_settings, "customers.raw")}
    good = records[b'{"customer_id": "A1" , "first_name":"x"}']
    assert (good.key, good.headers["headrace-source"], good.headers["headrace-kind"]) == ("A1", "crm", "push")
    assert records[b"not json"].key is None
    array = run(pipeline_settings, ["push", "customers", "-", "--json"], b'[{"customer_id": "A1"}]')
    assert array.returncode == 1
    assert "jq -c '.[]' FILE" in json.loads(array.stdout)["runs"][0]["error"]


def test_a_value_too_large_for_kafka_is_cut_and_marked(pipeline_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "big.jsonl").write_bytes(b'{"customer_id":"A1","x":"' + b"y" * 6_000_000 + b'"}\n')
    done = run(pipeline_settings, ["push", "customers", "big.jsonl", "--json"])
    assert json.loads(done.stdout)["runs"][0]["rejected_rows"] == 1
    (record,) = consume_all(pipeline_settings, "customers.raw")
    assert record.headers["headrace-problem"].startswith(
        "record_too_large;6,000,027 bytes, at most 5,242,880 are taken"
    )
    assert (record.key, len(record.value)) == ("A1", 65_536)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["publish"], b"name the sources to publish, or say --all"),
        (["publish", "nobody"], b"declares no source 'nobody'; it declares: customers_api, titanic, posts, orders"),
        (["publish", "titanic", "--map", "a=b"], b"belong to `headrace publish csv PATH`"),
        (["publish", "titanic", "--null", "x", "--skip-lines", "1"], b"--null, --skip-lines belong to"),
        (["publish", "csv", "x.csv", "--decimal", ";"], b"decimal = ';'"),
        (["publish", "csv", "x.csv", "--default", "value"], b"--default 'value': expected FIELD=VALUE"),
        (["publish", "csv"], b"name one file"),
        (["publish", "csv", "x.csv", "--map", "name"], b"expected FIELD=COLUMN"),
        (["publish", "csv", "x.csv", "--dataset", "nope"], b"there is no dataset 'nope'"),
        (["publish", "csv", "x.csv", "--source", "a:b"], b"source name 'a:b'"),
        (["push", "nope", "-"], b"there is no dataset 'nope'"),
    ],
)
def test_wrong_usage_says_what_is_right(pipeline_settings: Settings, words: list[str], message: bytes) -> None:
    done = run(pipeline_settings, words)
    assert done.returncode == 2
    assert message in done.stderr


def test_waiting_in_vain_names_what_is_pending_and_what_to_look_at(pipeline_settings: Settings) -> None:
    done = run(pipeline_settings, ["publish", "titanic", "--wait", "--timeout", "0.2"])
    assert done.returncode == 1
    assert b"1,309 of 1,309 published records have not reached Postgres within 0.2 s" in done.stderr
    assert b"`headrace status` shows what is down" in done.stderr


async def test_waiting_ends_with_the_counts_of_stored_and_failed(pipeline_settings: Settings) -> None:
    # The books as the Postgres sink would leave them: every partition covered well ahead, the first offset failed.
    topic = pipeline_settings.named("records.raw")
    connection = await asyncpg.connect(pipeline_settings.plain_database_url)
    await connection.execute(
        "INSERT INTO coverage (topic, partition, ranges) SELECT $1, p, '{[0,100000)}' FROM generate_series(0, 3) p",
        topic,
    )
    await connection.execute(
        'INSERT INTO ingest_failures (dataset, stage, reason, message, problems, topic, partition, "offset", failed_at)'
        " SELECT 'records', 'normalizer', 'required', 'x', '[]', $1, p, 0, now() FROM generate_series(0, 3) p",
        topic,
    )
    await connection.close()
    done = run(pipeline_settings, ["publish", "titanic", "--wait"])
    assert done.returncode == 0, done.stderr
    assert b"in Postgres: 1,305 stored, 4 failed" in done.stdout


def test_a_postgres_that_is_gone_is_said_after_publishing(pipeline_settings: Settings) -> None:
    gone = pipeline_settings.model_copy(update={"database_url": SecretStr("postgresql://x:y@127.0.0.1:9/none")})
    done = run(gone, ["push", "customers", "-", "--wait", "--json"], b'{"customer_id": "A1"}\n')
    (ended,) = json.loads(done.stdout)["runs"]
    assert (done.returncode, ended["published"]) == (1, 1)
    assert "Postgres cannot be asked for them" in ended["error"]


def test_ctrl_c_flushes_what_is_queued_says_the_counts_and_exits_130(pipeline_settings: Settings) -> None:
    command = [sys.executable, "-m", "cli", "push", "customers", "-", "--json"]
    with subprocess.Popen(
        command, env=environment(pipeline_settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as pushing:
        try:
            assert pushing.stdin
            assert pushing.stdout
            pushing.stdin.write(b'{"customer_id": "A1"}\n')
            pushing.stdin.flush()
            # Standard input stays open: the command waits for more.
            eventually(lambda: consume_all(pipeline_settings, "customers.raw"), what="the first line is published")
            pushing.send_signal(signal.SIGINT)
            # Not communicate(), which would close its standard input: an end like any other.
            output = pushing.stdout.read()
            pushing.wait(30)
        finally:
            pushing.kill()
    (ended,) = json.loads(output)["runs"]
    assert pushing.returncode == 130
    assert (ended["published"], ended["unconfirmed"], ended["error"]) == (1, 0, "interrupted")
