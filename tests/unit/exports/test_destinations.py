"""Where files go: whole or not at all, in a folder, or in the folder that stands in for a bucket."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from exports.destinations import AMBIENT_CREDENTIALS, Bucket, ExportError, Folder, destination_at
from exports.files import arrow_schema, export_files
from runtime.settings import Settings
from schemas.registry import dataset_named

SCHEMA = arrow_schema(dataset_named("orders"))


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*AMBIENT_CREDENTIALS, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_file_is_seen_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with export_files(folder, "orders", ["csv", "parquet"], SCHEMA) as files:
        assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
        delivered = list(files.deliver())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["orders.csv", "orders.parquet"]
    assert delivered[0].line == f"File orders.csv successfully written to {tmp_path}/orders.csv"


def test_a_file_is_not_for_everybody_on_the_machine(tmp_path: Path) -> None:
    with export_files(Folder(tmp_path), "orders", ["csv"], SCHEMA) as files:
        list(files.deliver())
    assert (tmp_path / "orders.csv").stat().st_mode & 0o777 == 0o640


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("of yesterday")

    def interrupted() -> None:
        with export_files(Folder(tmp_path), "orders", ["csv"], SCHEMA):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["orders.csv"]
    assert (tmp_path / "orders.csv").read_text() == "of yesterday"


def test_without_credentials_a_folder_stands_in_for_the_bucket_and_says_so(tmp_path: Path) -> None:
    destination = destination_at("s3://test-bucket/daily", Settings(object_store_dir=tmp_path))
    assert destination.remark == f"No S3 credentials: s3://test-bucket/daily is the folder {tmp_path}/test-bucket/daily"
    assert list(tmp_path.iterdir()) == []
    destination.check()
    with export_files(destination, "orders", ["csv"], SCHEMA) as files:
        (delivered,) = files.deliver()
    assert delivered.line == "File orders.csv successfully uploaded to S3://test-bucket/daily/orders.csv"
    assert (tmp_path / "test-bucket/daily/orders.csv").read_text().startswith("order_id,")


def test_any_other_bucket_without_credentials_is_an_error_that_names_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"no credentials for s3://sales/daily: set AWS_ACCESS_KEY_ID .*=remote .*=local"
    ):
        destination_at("s3://sales/daily", Settings(object_store_dir=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_stands_in_for_any_bucket_if_it_is_asked_for(tmp_path: Path) -> None:
    destination = destination_at("s3://sales/daily", Settings(object_store="local", object_store_dir=tmp_path))
    assert destination.folder == tmp_path / "sales" / "daily"


@pytest.mark.parametrize(
    "to", ["s3://../x", "s3://.", "s3://test-bucket/../../x", "s3://test-bucket/a/../b", "s3://a..b"]
)
@pytest.mark.parametrize("store", ["auto", "local", "remote"])
def test_no_url_leads_out_of_the_folder_that_stands_in(to: str, store: Literal["auto", "local", "remote"]) -> None:
    with pytest.raises(ExportError, match=r"expected e\.g\. s3://bucket/prefix"):
        destination_at(to, Settings(object_store=store))


@pytest.mark.parametrize(
    "settings",
    [
        Settings(aws_access_key_id="key", aws_secret_access_key=SecretStr("secret")),
        Settings(object_store="remote"),
    ],
)
def test_a_real_bucket_is_used_with_credentials_or_if_the_settings_say_so(settings: Settings) -> None:
    destination = destination_at("s3://test-bucket", settings)
    assert isinstance(destination, Bucket)
    assert (destination.remark, destination.folder) == (None, None)


def test_a_platforms_credentials_are_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AMBIENT_CREDENTIALS[0], "/var/run/token")
    assert destination_at("s3://test-bucket", Settings()).remark is None


@pytest.mark.parametrize("to", ["gs://bucket/prefix", "az://container/prefix"])
def test_other_clouds_are_reached_by_url(to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert isinstance(destination_at(to, Settings()), Bucket)


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("ftp://host/x", "expected a folder, or a URL that begins with s3://, gs://, az://"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://[x", "Invalid IPv6 URL; expected e.g. s3://bucket/prefix"),
    ],
)
def test_an_invalid_url_is_refused(to: str, told: str) -> None:
    with pytest.raises(ExportError, match=told):
        destination_at(to, Settings())


def test_half_of_the_credentials_is_a_mistake() -> None:
    with pytest.raises(ExportError, match="AWS_SECRET_ACCESS_KEY is not set"):
        destination_at("s3://test-bucket", Settings(aws_access_key_id="key"))


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "orders.csv" / "in the way").mkdir(parents=True)
    with (
        export_files(Folder(tmp_path), "orders", ["csv"], SCHEMA) as files,
        pytest.raises(ExportError, match=r"orders\.csv cannot be written"),
    ):
        list(files.deliver())


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="is no folder to export to"):
        Folder(tmp_path / "file").check()
