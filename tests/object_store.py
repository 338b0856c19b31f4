"""A bucket on a real S3 server, made and read with another client than ours: the AWS SDK within pyarrow."""

from dataclasses import dataclass
from pathlib import Path

from pyarrow.fs import FileSelector, S3FileSystem

from local_stack.servers import RunningServers
from tests.servers.rclone_s3 import RcloneS3


@dataclass(frozen=True)
class TestBucket:
    """A bucket of one test's own."""

    __test__ = False

    name: str
    store: RcloneS3
    server: RunningServers

    @property
    def environment(self) -> dict[str, str]:
        """The variables under which our programs find the store."""
        return self.store.addresses()

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def make(self) -> "TestBucket":
        """Create it."""
        self._client().create_dir(self.name)
        return self

    def objects(self) -> list[str]:
        """The keys in it."""
        found = self._client().get_file_info(FileSelector(self.name, recursive=True))
        return sorted(info.path.removeprefix(f"{self.name}/") for info in found if info.is_file)

    def read(self, key: str) -> bytes:
        """An object's content."""
        with self._client().open_input_stream(f"{self.name}/{key}") as stream:
            content: bytes = stream.read()
            return content

    def unfinished_uploads(self) -> list[Path]:
        """Of multipart uploads that were neither completed nor aborted."""
        return self.store.unfinished_uploads(self.name)

    def _client(self) -> S3FileSystem:
        addresses = self.store.addresses()
        return S3FileSystem(
            access_key=addresses["AWS_ACCESS_KEY_ID"],
            secret_key=addresses["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=addresses["AWS_ENDPOINT_URL"],
            region=addresses["AWS_REGION"],
            allow_bucket_creation=True,
        )
