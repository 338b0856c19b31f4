"""`python -m data.etl` on a real S3 server, as a user calls it."""

import csv
import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from data.generate import make_raw_file
from tests.object_store import TestBucket
from tests.processes import PROJECT
from tests.waiting import eventually

LINES = """Initial rows: 5200
Rows after cleaning: 4680
File processed_output.csv successfully uploaded to S3://{0}/processed_output.csv
File processed_output.parquet successfully uploaded to S3://{0}/processed_output.parquet
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "raw.csv"
    make_raw_file(path)
    return path


def etl(*arguments: str, environment: dict[str, str], expect: int = 0) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-m", "data.etl", *arguments],
        cwd=PROJECT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def test_a_file_is_cleaned_and_uploaded(raw: Path, bucket: TestBucket) -> None:
    done = etl(str(raw), "--bucket", bucket.name, environment=bucket.environment)
    assert done.stdout == LINES.format(bucket.name)
    assert done.stderr == ""
    assert bucket.objects() == ["processed_output.csv", "processed_output.parquet"]

    table = parquet.read_table(pa.BufferReader(bucket.read("processed_output.parquet")))
    rows = list(csv.DictReader(io.StringIO(bucket.read("processed_output.csv").decode())))
    assert table.num_rows == len(rows) == 4_680
    assert table.schema.field("price").type == pa.decimal128(12, 2)
    assert table.schema.field("order_date").type == pa.date32()
    assert [str(value) for value in table["price"].to_pylist()] == [row["price"] for row in rows]
    ids = table["order_id"].to_pylist()
    assert ids == sorted(set(ids)) == [row["order_id"] for row in rows]
    assert all(Decimal(row["price"]) >= 0 and int(row["quantity"]) >= 1 for row in rows)


def test_the_bucket_may_come_from_the_settings_and_the_answer_as_json(raw: Path, bucket: TestBucket) -> None:
    variables = bucket.environment | {"OBJECT_STORE_BUCKET": bucket.name}
    told = json.loads(etl(str(raw), "--format", "csv", "--json", environment=variables).stdout)
    assert (told["initial_rows"], told["rows_after_cleaning"]) == (5_200, 4_680)
    assert sum(told["failed"].values()) == 260
    assert (told["local"], told["folder"]) == (False, None)
    assert [file["address"] for file in told["files"]] == [f"S3://{bucket.name}/processed_output.csv"]
    assert told["files"][0]["bytes"] == len(bucket.read("processed_output.csv"))


def test_a_missing_file_is_an_error_and_nothing_is_uploaded(bucket: TestBucket) -> None:
    done = etl("nope.csv", "--bucket", bucket.name, environment=bucket.environment, expect=1)
    assert done.stdout == ""
    assert done.stderr == "Error: nope.csv: cannot be read: No such file or directory; nothing was uploaded\n"
    assert bucket.objects() == []


def test_a_missing_bucket_is_named(raw: Path, bucket: TestBucket) -> None:
    done = etl(str(raw), "--bucket", "no-such-bucket", environment=bucket.environment, expect=1)
    assert (done.stdout, done.stderr) == (
        "",
        "Error: there is no bucket 'no-such-bucket': make it, or name another one\n",
    )


def test_a_format_that_does_not_exist_is_named(raw: Path, bucket: TestBucket) -> None:
    done = etl(str(raw), "--bucket", bucket.name, "--format", "csv,xls", environment=bucket.environment, expect=1)
    assert done.stderr == "Error: there is no format 'xls'; known are csv, csv-as-stored, parquet\n"
    assert bucket.objects() == []


def test_wrong_credentials_are_told_without_showing_them(raw: Path, bucket: TestBucket) -> None:
    wrong = bucket.environment | {"AWS_SECRET_ACCESS_KEY": "a-wrong-one"}
    done = etl(str(raw), "--bucket", bucket.name, environment=wrong, expect=1)
    assert f"s3://{bucket.name} refuses these credentials" in done.stderr
    assert "a-wrong-one" not in done.stderr
    assert bucket.objects() == []


def test_a_store_that_is_not_there_is_told(raw: Path, bucket: TestBucket) -> None:
    bucket.server.stop("rclone")
    try:
        done = etl(str(raw), "--bucket", bucket.name, environment=bucket.environment, expect=1)
        assert f"s3://{bucket.name} cannot be reached" in done.stderr
    finally:
        bucket.server.start("rclone")
    assert bucket.objects() == []


def test_without_credentials_a_folder_stands_in_with_the_same_lines(raw: Path, tmp_path: Path) -> None:
    done = etl(str(raw), environment={"OBJECT_STORE_DIR": str(tmp_path)})
    assert done.stdout == LINES.format("test-bucket")
    assert done.stderr == f"No S3 credentials: s3://test-bucket is the folder {tmp_path}/test-bucket\n"
    assert sorted(path.name for path in (tmp_path / "test-bucket").iterdir()) == [
        "processed_output.csv",
        "processed_output.parquet",
    ]
    told = json.loads(etl(str(raw), "--json", environment={"OBJECT_STORE_DIR": str(tmp_path)}).stdout)
    assert (told["local"], told["folder"]) == (True, f"{tmp_path}/test-bucket")


def test_another_bucket_without_credentials_is_an_error_and_nothing_is_written(raw: Path, tmp_path: Path) -> None:
    done = etl(str(raw), "--bucket", "sales", environment={"OBJECT_STORE_DIR": str(tmp_path)}, expect=1)
    assert done.stdout == ""
    assert done.stderr.startswith("Error: there are no credentials for s3://sales: set AWS_ACCESS_KEY_ID and")
    assert list(tmp_path.iterdir()) == []


UPLOAD = """
import sys
from pathlib import Path
from exports.destinations import destination_at
from runtime.settings import Settings
print(destination_at(sys.argv[1], Settings()).deliver(Path(sys.argv[2])))
"""


def upload(url: str, path: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", UPLOAD, url, str(path)]
    return subprocess.Popen(command, cwd=PROJECT, env=os.environ | environment, stdout=subprocess.PIPE, text=True)


def test_an_upload_that_is_killed_midway_leaves_no_object(bucket: TestBucket, tmp_path: Path) -> None:
    large = tmp_path / "large.parquet"
    with large.open("wb") as file:
        file.truncate(300_000_000)
    process = upload(bucket.url, large, bucket.environment)
    try:
        eventually(bucket.unfinished_uploads, what="some parts have arrived", every=0.01)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode != 0, "it was killed before it had finished"
    assert bucket.objects() == []


def test_a_large_file_arrives_in_parts_and_whole(bucket: TestBucket, tmp_path: Path) -> None:
    large = tmp_path / "large.parquet"
    large.write_bytes(os.urandom(20_000_000))
    process = upload(f"{bucket.url}/daily", large, bucket.environment)
    told, _ = process.communicate(timeout=60)
    assert (process.returncode, told) == (0, f"S3://{bucket.name}/daily/large.parquet\n")
    assert bucket.read("daily/large.parquet") == large.read_bytes()
    assert bucket.unfinished_uploads() == []
