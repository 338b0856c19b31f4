"""A field type of one's own is one class: raw record, table, index, API and Parquet follow from it."""

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from confluent_kafka.admin import AdminClient

from runtime.settings import Settings
from tests.e2e.stores import documents, rows, value
from tests.processes import PROJECT, Process, environment_of
from tests.waiting import eventually

DECLARATION = '''
import datetime
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel

from schemas.dataset import Dataset
from schemas.errors import InvalidField
from schemas.fields import FieldType, Text


@dataclass(frozen=True)
class TimeOfDay(FieldType):
    """A time of day, to the minute."""

    python_types = (datetime.time,)
    json_type = "string"

    def normalize(self, value):
        if value is None:
            return None
        try:
            return datetime.time.fromisoformat(str(value).zfill(5)).isoformat("seconds")
        except ValueError:
            raise InvalidField("time_form", f"{value!r} is no time of day") from None

    def sql_type(self):
        from sqlalchemy import TIME

        return TIME()

    def arrow_type(self):
        import pyarrow

        return pyarrow.time32("s")

    def mapping(self):
        return {"type": "date", "format": "HH:mm:ss"}


class Shift(BaseModel):
    """When somebody works."""

    worker: Annotated[str, Text(50, search=True)]
    begins: Annotated[datetime.time, TimeOfDay()]
    ends: Annotated[datetime.time | None, TimeOfDay()] = None


DATASET = Dataset(name="shifts", model=Shift, key=("worker",), table="shifts", indexed=("ends",))
'''
ROLES = ("normalizer", "sink postgres", "sink elasticsearch", "api")


@pytest.fixture
def declared(tmp_path: Path) -> str:
    """Python that makes a process know the dataset."""
    folder = tmp_path / "datasets"
    folder.mkdir()
    (folder / "shifts.py").write_text(DECLARATION)
    return f"from schemas import datasets; datasets.__path__.append({str(folder)!r})"


@pytest.fixture
def headrace(pipeline_settings: Settings, declared: str) -> Iterator[Callable[..., None]]:
    def run(*arguments: str, stdin: str = "") -> None:
        done = subprocess.run(
            [sys.executable, "-c", f"{declared}\nfrom cli import main\nmain()", *arguments],
            cwd=PROJECT,
            env=os.environ | environment_of(pipeline_settings),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("setup")
    yield run
    topics = [pipeline_settings.named(f"shifts.{stage}") for stage in ("raw", "clean", "changed")]
    admin = AdminClient({"bootstrap.servers": pipeline_settings.kafka_bootstrap_servers})
    for deletion in admin.delete_topics(topics).values():
        deletion.result()


def test_a_field_type_of_ones_own_reaches_table_index_api_and_parquet(
    pipeline_settings: Settings, declared: str, headrace: Callable[..., None], tmp_path: Path
) -> None:
    settings = pipeline_settings
    with ExitStack() as stack:
        processes = {
            role: Process(role, settings, tmp_path / f"{role.replace(' ', '-')}.log", patch=declared) for role in ROLES
        }
        for process in processes.values():
            stack.callback(process.stop)
            process.start()
        for process in processes.values():
            process.wait_until_healthy()

        early, late = {"begins": "6:00", "worker": "Ada", "ends": "14:30"}, {"begins": "22:00", "worker": "Bo"}
        wrong = {"begins": "noon", "worker": "Cy"}
        headrace("push", "shifts", "-", "--wait", stdin="\n".join(map(json.dumps, (early, late, wrong, early))))

        assert rows(settings, "SELECT begins, ends FROM shifts ORDER BY begins") == [
            {"begins": datetime.time(6), "ends": datetime.time(14, 30)},
            {"begins": datetime.time(22), "ends": None},
        ]
        failed = value(settings, "SELECT problems::text FROM ingest_failures WHERE dataset = 'shifts'")
        assert json.loads(failed)[0]["code"] == "time_form"

        eventually(lambda: documents(settings, "shifts") == 2, what="both are indexed")
        index = f"{settings.elasticsearch_url}/{settings.named('shifts')}"
        at_six = {"query": {"range": {"ends": {"gte": "14:00:00", "lte": "15:00:00"}}}}
        found = httpx.post(f"{index}/_search", json=at_six, trust_env=False).raise_for_status().json()
        assert [hit["_source"]["ends"] for hit in found["hits"]["hits"]] == ["14:30:00"]

        with httpx.Client(base_url=processes["api"].url, trust_env=False) as api:
            served = api.get("/datasets/shifts").raise_for_status().json()["data"]
            assert [row["begins"] for row in served] == ["06:00:00", "22:00:00"]
            assert api.get("/datasets/shifts/Ada").raise_for_status().json()["ends"] == "14:30:00"
            shape = api.get("/openapi.json").json()["components"]["schemas"]["ServedShift"]["properties"]["begins"]
            assert (shape["type"], shape["format"]) == ("string", "time")
            [match] = api.get("/search", params={"q": "ada"}).raise_for_status().json()["data"]
            assert match["record"]["ends"] == "14:30:00"

    headrace("audit", "--wait", "60")
    headrace("export", "shifts", "--to", str(tmp_path), "--format", "csv,parquet", "--name", "shifts")
    table = parquet.read_table(tmp_path / "shifts.parquet")
    assert table.schema.field("begins").type == pa.time32("ms") or table.schema.field("begins").type == pa.time32("s")
    assert table["begins"].to_pylist() == [datetime.time(6), datetime.time(22)]
    assert table["ends"].to_pylist() == [datetime.time(14, 30), None]
